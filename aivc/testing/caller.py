"""A phone for tests and the demo: one SIP dialog over UDP, and a handset for its audio.

async with open_phone(host="192.0.2.9") as phone, phone.dial("sip:1000@192.0.2.1:5060") as call:
    call.handset.say(speech(2.0))
    await call.wait_hung_up()
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, Literal, TypedDict, Unpack

import attrs
import trio

from aivc.config.settings import Address, Codec
from aivc.sip.message import ParseError, Request, Response, parse_untrusted
from aivc.testing.handset import Handset
from aivc.testing.transfers import Referral, Transfers, follow
from aivc.testing.wording import answer_to, media_address, offer_of

T1: Final = 0.5  # seconds, RFC 3261 section 17.1.1.1
T2: Final = 4.0  # seconds
GIVE_UP: Final = 64 * T1
FINAL: Final = 200  # the lowest final status


class CallRefused(Exception):
    """The INVITE was answered with a failure."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"{response.status} {response.reason}")
        self.status = response.status
        self.response = response


class CallOptions(TypedDict, total=False):
    """What `Phone.dial` and `Phone.ring` hand on to `PhoneCall`."""

    acknowledge: bool
    sdp: str | None
    transfers: Transfers | None
    headers: Sequence[tuple[str, str]]


@attrs.define(eq=False)
class PhoneCall:
    """One outgoing call: what the phone knows of it, for the test to look at.

    Args:
      uri: whom the phone calls, `sip:user@host:port`.
      acknowledge: False never sends the ACK of a 2xx.
      sdp: the offer; None offers the handset's codec and its keys.
      transfers: what it does with a REFER; None refuses it with 405.
    """

    phone: Phone
    uri: str
    handset: Handset
    acknowledge: bool = True
    sdp: str | None = None
    transfers: Transfers | None = None
    headers: Sequence[tuple[str, str]] = ()  # more of them for the INVITE
    call_id: str = attrs.field(init=False)
    responses: list[Response] = attrs.field(factory=list)  # to INVITE, in order, retransmissions included
    requests: list[Request] = attrs.field(factory=list)  # of the other side, in order
    referrals: list[Referral] = attrs.field(factory=list)
    answered: Response | None = None
    answered_at: float | None = None
    hung_up_at: float | None = None  # when the other side's BYE came
    remote_media: Address | None = None
    _branch: str = attrs.field(init=False)
    _tag: str = attrs.field(init=False)
    _answers: dict[int, Response] = attrs.field(factory=dict)  # final ones to all but INVITE, by CSeq
    _changed: trio.Event = attrs.field(factory=trio.Event)
    _ended: bool = False
    _cancelled: bool = False
    _replies: dict[int, bytes] = attrs.field(factory=dict)  # to the other side's requests, by CSeq
    _cseq: int = 1  # of the last request but ACK and CANCEL
    _sdp_version: int = 1

    def __attrs_post_init__(self) -> None:
        self.call_id = self.phone.token("call")
        self._branch, self._tag = self.phone.token("z9hG4bK"), self.phone.token("tag")

    @property
    def remote(self) -> Address:
        """Where requests go: the host and port of the URI."""
        host, _, port = self.uri.partition("@")[2].partition(":")
        return host, int(port or 5060)

    @property
    def is_over(self) -> bool:
        """Whether either side has hung up, or the call never came about."""
        return self._ended

    async def invite(self) -> None:
        """Send INVITE and repeat it until something comes back (timer A); returns at the first response.

        Raises trio.TooSlowError when nothing does within 32 s (timer B).
        """
        offer = self.sdp if self.sdp is not None else self._offer()
        message = self._request("INVITE", 1, self._branch, "", offer, self.headers)
        interval = T1
        with trio.fail_after(GIVE_UP):
            while not self.responses:
                await self.phone.send(message, self.remote)
                with trio.move_on_after(interval):
                    await self._changed.wait()
                interval *= 2

    async def wait_answer(self) -> Response:
        """The 2xx. Raises CallRefused for any other final response."""
        while not (finals := [r for r in self.responses if r.status >= FINAL]):
            await self._changed.wait()
        if finals[0].status >= 300:
            raise CallRefused(finals[0])
        return finals[0]

    async def cancel(self) -> None:
        """Give up before the answer, RFC 3261 section 9.1."""
        self._cancelled = True
        await self.phone.send(self._request("CANCEL", 1, self._branch, ""), self.remote)

    async def give_up(self) -> None:
        """End the call in the way that its state asks for: CANCEL, BYE or nothing."""
        if self.answered is None and not self._ended and not self._cancelled:
            await self.cancel()
        await self.hang_up()

    async def hang_up(self) -> None:
        """Send BYE and wait for its answer. Does nothing when the call is over already."""
        if self._ended or self.answered is None:
            return
        self._ended = True
        with suppress(trio.TooSlowError):
            await self.ask("BYE")

    async def ask(
        self, method: str, headers: Sequence[tuple[str, str]] = (), content_type: str = "", body: str = ""
    ) -> Response:
        """Send a request in the dialog and repeat it until it is answered (timer E); the final response.

        Raises trio.TooSlowError after 32 s without one (timer F).
        """
        number, interval = self._next_cseq(), T1
        fields = (*headers, *((("Content-Type", content_type),) if content_type else ()))
        message = self._request(method, number, self.phone.token("z9hG4bK"), self._to_tag(), body, fields)
        with trio.fail_after(GIVE_UP):
            while number not in self._answers:
                await self.phone.send(message, self.remote)
                with trio.move_on_after(interval):
                    while number not in self._answers:
                        await self._changed.wait()
                interval = min(2 * interval, T2)
        return self._answers[number]

    async def info_digit(
        self, digit: str, kind: Literal["relay", "dtmf"] = "relay", duration_ms: int = 160
    ) -> Response:
        """Tell of a key by INFO; the final response."""
        if kind == "dtmf":
            return await self.ask("INFO", (), "application/dtmf", digit)
        body = f"Signal= {digit}\r\nDuration= {duration_ms}\r\n"
        return await self.ask("INFO", (), "application/dtmf-relay", body)

    async def hold(self, way: Literal["sendonly", "inactive", "0.0.0.0"] = "sendonly") -> Response:
        """Put the other side on hold by a re-INVITE, as today (RFC 3264 section 8.4) or as RFC 2543 did."""
        self._sdp_version += 1
        if way == "0.0.0.0":
            return await self.reinvite(self._offer(host=way))
        return await self.reinvite(self._offer(direction=way))

    async def resume(self) -> Response:
        """End the hold."""
        self._sdp_version += 1
        return await self.reinvite(self._offer())

    async def wait_hung_up(self) -> float:
        """Wait for the other side's BYE; when it came."""
        while self.hung_up_at is None:
            await self._changed.wait()
        return self.hung_up_at

    async def take_response(self, response: Response) -> None:
        """Called by the phone for each response of this call."""
        method = response.cseq.method
        if method not in ("INVITE", "CANCEL") and response.status >= FINAL:
            self._answers[response.cseq.number] = response
            self._notify()
        if method != "INVITE":
            return
        if 200 <= response.status < 300:
            self._note_answer(response)
            if self.acknowledge:
                branch = self.phone.token("z9hG4bK")  # a 2xx is acknowledged by the dialog, section 13.2.2.4
                await self.phone.send(self._request("ACK", response.cseq.number, branch, self._to_tag()), self.remote)
        elif response.status >= 300:
            self._ended = self._ended or self.answered is None  # a refused re-INVITE leaves the call as it was
            to_tag = response.header("To").partition(";tag=")[2]
            branch = response.via.branch or self._branch
            await self.phone.send(self._request("ACK", response.cseq.number, branch, to_tag), self.remote)
        self.responses.append(response)  # after the ACK, so that nothing that waited for it can overtake it
        self._notify()

    async def take_request(self, request: Request, source: Address) -> None:
        """Called by the phone for each request of the other side: BYE, OPTIONS and, if told so, REFER are accepted."""
        if request.method == "ACK":
            return
        repeated = any(request.cseq == earlier.cseq for earlier in self.requests)
        self.requests.append(request)
        if (reply := self._replies.get(request.cseq.number)) is not None:
            await self.phone.send(reply, source)
        elif request.method == "REFER" and self.transfers is not None:
            if not repeated:
                self.referrals.append(Referral(trio.current_time(), request))
                self.phone.nursery.start_soon(follow, self, self.referrals[-1], self.transfers, source)
        else:
            if request.method == "BYE" and self.hung_up_at is None:
                self.hung_up_at, self._ended = trio.current_time(), True
            status = "200 OK" if request.method in ("BYE", "OPTIONS") else "405 Method Not Allowed"
            await self.reply(request, status, source)
        self._notify()

    async def reply(self, request: Request, status: str, to: Address) -> None:
        """Send a response without a body, and again for every copy of the request."""
        self._replies[request.cseq.number] = answer_to(request, status)
        await self.phone.send(self._replies[request.cseq.number], to)

    async def wait_referral(self) -> Referral:
        """The first REFER, waiting for it if need be."""
        while not self.referrals:
            await self._changed.wait()
        return self.referrals[0]

    async def reinvite(self, sdp: str) -> Response:
        """Offer again within the dialog (RFC 3261 section 14.1); the final response, a 2xx already acknowledged."""
        number = self._next_cseq()
        await self.phone.send(
            self._request("INVITE", number, self.phone.token("z9hG4bK"), self._to_tag(), sdp), self.remote
        )
        while True:
            for response in self.responses:
                if response.cseq.number == number and response.status >= FINAL:
                    return response
            await self._changed.wait()

    def _next_cseq(self) -> int:
        self._cseq += 1
        return self._cseq

    def _note_answer(self, response: Response) -> None:
        if self.answered is None:
            self.answered, self.answered_at = response, trio.current_time()
            self.remote_media = media_address(response.body.decode())

    def _offer(self, direction: str = "sendrecv", host: str | None = None) -> str:
        handset = self.handset
        own: Address = handset.socket.getsockname()[:2]
        keys, version = handset.telephone_event, self._sdp_version
        return offer_of(own, handset.codec, keys, handset.ptime_ms, version, direction, host)

    def _to_tag(self) -> str:
        assert self.answered is not None
        return self.answered.header("To").partition(";tag=")[2]

    def _request(
        self,
        method: str,
        number: int,
        branch: str,
        to_tag: str,
        body: str = "",
        fields: Sequence[tuple[str, str]] = (),
    ) -> bytes:
        host, port = self.phone.address
        lines = [
            f"{method} {self.uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {host}:{port};branch={branch};rport",
            "Max-Forwards: 70",
            f"From: <sip:{self.phone.user}@{host}>;tag={self._tag}",
            f"To: <{self.uri}>" + (f";tag={to_tag}" if to_tag else ""),
            f"Call-ID: {self.call_id}",
            f"CSeq: {number} {method}",
            f"Contact: <sip:{self.phone.user}@{host}:{port}>",
            *(f"{name}: {value}" for name, value in fields),
            *(["Content-Type: application/sdp"] if body and method == "INVITE" else []),
            f"Content-Length: {len(body.encode())}",
        ]
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


@attrs.define(eq=False)
class Phone:
    """A SIP user agent client with one address. Use `open_phone()`."""

    socket: trio.socket.SocketType
    nursery: trio.Nursery  # the calls' tasks run here, so that what a test raises inside a call stays as it is
    user: str
    random: random.Random
    calls: dict[str, PhoneCall] = attrs.field(factory=dict)  # by Call-ID

    @property
    def address(self) -> Address:
        host, port = self.socket.getsockname()[:2]
        return host, port

    def token(self, prefix: str) -> str:
        return f"{prefix}{self.random.getrandbits(64):016x}"

    async def send(self, message: bytes, to: Address) -> None:
        await self.socket.sendto(message, to)

    @asynccontextmanager
    async def dial(
        self, uri: str, *, codec: Codec = "PCMU", ptime_ms: int = 20, **options: Unpack[CallOptions]
    ) -> AsyncIterator[PhoneCall]:
        """Call `uri`, wait for the answer, talk for the length of the block, hang up; see `PhoneCall`.

        Raises CallRefused.
        """
        async with self.ring(uri, codec=codec, ptime_ms=ptime_ms, **options) as call:
            await call.wait_answer()
            assert call.remote_media is not None
            speaking = trio.CancelScope()
            self.nursery.start_soon(run_in, speaking, call.handset.speak, call.remote_media)
            try:
                yield call
            finally:
                speaking.cancel()

    @asynccontextmanager
    async def ring(
        self, uri: str, *, codec: Codec = "PCMU", ptime_ms: int = 20, **options: Unpack[CallOptions]
    ) -> AsyncIterator[PhoneCall]:
        """Call `uri`; the block runs as soon as something came back, before the answer. The phone listens already.

        Leaving the block hangs up, or cancels a call that was not answered yet. Raises trio.TooSlowError after 32 s
        without any response.
        """
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as media:
            await media.bind((self.address[0], 0))
            call = PhoneCall(self, uri, Handset(media, codec, ptime_ms), **options)
            self.calls[call.call_id] = call
            listening = trio.CancelScope()
            self.nursery.start_soon(run_in, listening, call.handset.listen)
            try:
                await call.invite()
                yield call
                await call.give_up()
            finally:
                listening.cancel()

    async def run(self) -> None:
        """Task: give each message to its call."""
        while True:
            data, source = await self.socket.recvfrom(65535)
            try:
                message = parse_untrusted(data)
            except ParseError:
                continue
            call = self.calls.get(message.call_id)
            if call is None:
                continue
            match message:
                case Request():
                    await call.take_request(message, source[:2])
                case Response():
                    await call.take_response(message)


@asynccontextmanager
async def open_phone(
    host: str = "127.0.0.1", port: int = 0, *, user: str = "alice", seed: int = 0
) -> AsyncIterator[Phone]:
    """A phone on `host`; port 0 takes any. The same seed gives the same tags, branches and Call-IDs."""
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as socket:
        await socket.bind((host, port))
        async with trio.open_nursery() as nursery:
            phone = Phone(socket, nursery, user, random.Random(seed))
            nursery.start_soon(phone.run)
            yield phone
            nursery.cancel_scope.cancel()


async def run_in(scope: trio.CancelScope, task: Callable[..., Awaitable[None]], *args: object) -> None:
    """A task that can be stopped by itself; a socket closed under it ends it too."""
    with scope, suppress(trio.ClosedResourceError):
        await task(*args)
