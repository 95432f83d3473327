"""A phone for tests and the demo: SIP over UDP or TCP, and a handset for its audio.

async with open_phone(host="192.0.2.9") as phone, phone.dial("sip:1000@192.0.2.1:5060") as call:
    call.handset.say(speech(2.0))
    await call.wait_hung_up()
"""

from __future__ import annotations

import errno
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from typing import Final, Literal, Unpack

import attrs
import trio

from aivc.config.settings import Address, Codec
from aivc.sip.address import SipUri, parse_uri
from aivc.sip.message import ParseError, Request, Response, parse_untrusted
from aivc.sip.scanner import AddressError
from aivc.testing.answering import Answering, AnsweringOptions, ReceivedCall, codec_for, party
from aivc.testing.calling import CallOptions, PhoneCall
from aivc.testing.chaos import CALM, Chaos
from aivc.testing.credentials import Credentials
from aivc.testing.crossing import cross
from aivc.testing.dialog import PhoneDialog
from aivc.testing.handset import Handset
from aivc.testing.refusal import CallRefused
from aivc.testing.transports import DatagramLine, StreamLine, family_of, open_line
from aivc.testing.wording import ALLOW, Rtcp, answer_to, in_uri, status_line

__all__ = ["CallRefused", "Phone", "PhoneCall", "PhoneDialog", "ReceivedCall", "open_phone"]

SSRC: Final = 0x0A1C0000
CALLS: Final = 100  # received ones that no test has looked at; more get 486


@attrs.define(eq=False)
class Phone:
    """A SIP user agent with one address. Use `open_phone()`."""

    line: DatagramLine | StreamLine
    nursery: trio.Nursery  # the calls' tasks run here, so that what a test raises inside a call stays as it is
    user: str
    random: random.Random
    credentials: Credentials | None = None
    chaos: Chaos = CALM
    calls: dict[str, PhoneDialog] = attrs.field(factory=dict)  # by our tag
    _plan: Answering | None = None

    @property
    def address(self) -> Address:
        return self.line.address

    @property
    def transport(self) -> Literal["UDP", "TCP"]:
        return self.line.name

    def token(self, prefix: str) -> str:
        return f"{prefix}{self.random.getrandbits(64):016x}"

    async def send(self, message: bytes, to: Address, otherwise: Address | None = None) -> None:
        await self.line.send(message, to, otherwise)

    # Calls of ours

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
        async with self._open_handset(codec, ptime_ms, options.get("rtcp", "off")) as handset:
            call = PhoneCall(
                phone=self,
                handset=handset,
                uri=uri,
                target=uri,
                remote=await self._find(uri),
                call_id=self.token("call"),
                local_tag=self.token("tag"),
                local_party=f"<sip:{self.user}@{in_uri(self.address[0])}>",
                remote_party=f"<{uri}>",
                **options,
            )
            self.calls[call.local_tag] = call
            await call.invite()
            yield call
            await call.give_up()

    def dial_referred(
        self, uri: str, codec: Codec, replaces: str | None, referred_by: str
    ) -> AbstractAsyncContextManager[PhoneCall]:
        """The call that a REFER asks for."""
        headers = (("Referred-By", referred_by),) if referred_by else ()
        return self.dial(uri, codec=codec, replaces=replaces, headers=headers)

    # Calls of others

    @asynccontextmanager
    async def answering(
        self,
        *,
        ring_seconds: float = 0.1,
        status: int = 200,
        codec: Codec | None = None,
        ptime_ms: int = 20,
        **options: Unpack[AnsweringOptions],
    ) -> AsyncIterator[trio.MemoryReceiveChannel[ReceivedCall]]:
        """Answer calls for the length of the block; it iterates over them, each as soon as it rings.

        Outside of it calls get 480, but for one that is to replace a call of this phone (RFC 3891): that is taken at
        once in any case, is the old one's `replaced_by`, and the old one gets BYE. Leaving the block ends all of them.

        Args:
          ring_seconds: 0: no 180 is sent.
          status: the final response.
          codec: None: the first of the offer.
          options: see `ReceivedCall`.
        """
        send, receive = trio.open_memory_channel[ReceivedCall](CALLS)
        plan = Answering(
            ring_seconds=ring_seconds, status=status, codec=codec, ptime_ms=ptime_ms, options=options, calls=send
        )
        before, self._plan = self._plan, plan
        with send, receive:
            try:
                yield receive
            finally:
                self._plan = before
            for call in list(self.calls.values()):
                if isinstance(call, ReceivedCall):
                    await call.give_up()

    async def _serve(self, request: Request, source: Address, plan: Answering, replaced: PhoneDialog | None) -> None:
        """Task: one incoming call from its INVITE to its end."""
        codec = plan.codec or codec_for(request)
        async with self._open_handset(codec, plan.ptime_ms, plan.options.get("rtcp", "off")) as handset:
            call = self._received(request, source, handset, plan)
            self.calls[call.local_tag] = call
            if plan.calls is not None:
                plan.calls.send_nowait(call)
            if replaced is not None:
                replaced.replaced_by = call
            await call.respond(0.0 if replaced is not None else plan.ring_seconds, plan.status)
            if call.is_over:
                return
            if replaced is not None:
                self.nursery.start_soon(replaced.hang_up)
            speaking = trio.CancelScope()
            if call.remote_media is None:
                with suppress(trio.TooSlowError):
                    await call.wait_answered()  # a late offer: only now it is known where to
            if call.remote_media is not None:
                self.nursery.start_soon(run_in, speaking, handset.speak, call.remote_media)
            try:
                await call.wait_over()
            finally:
                speaking.cancel()

    def _received(self, request: Request, source: Address, handset: Handset, plan: Answering) -> ReceivedCall:
        call = ReceivedCall(
            phone=self,
            handset=handset,
            invite=request,
            source=source,
            remote=source,
            call_id=request.call_id,
            local_tag=self.token("tag"),
            local_party=party(request.to),
            remote_party=party(request.sender),
            target=str(request.sender.uri),
            **plan.options,
        )
        call.note_dialog(request, "From")
        return call

    @asynccontextmanager
    async def _open_handset(self, codec: Codec, ptime_ms: int, rtcp: Rtcp) -> AsyncIterator[Handset]:
        """A handset that listens."""
        host = self.address[0]
        with ExitStack() as sockets:
            media = sockets.enter_context(trio.socket.socket(family_of(host), trio.socket.SOCK_DGRAM))
            await media.bind((host, 0))
            reports = None
            if rtcp == "port":
                reports = sockets.enter_context(trio.socket.socket(family_of(host), trio.socket.SOCK_DGRAM))
                await reports.bind((host, 0))
            ssrc = SSRC + media.getsockname()[1]  # no two handsets are one source
            handset = Handset(media, codec, ptime_ms, ssrc=ssrc, rtcp_socket=reports, chaos=self.chaos)
            listening = trio.CancelScope()
            self.nursery.start_soon(run_in, listening, handset.listen)
            try:
                yield handset
            finally:
                listening.cancel()
                handset.socket.close()  # it may have moved to another

    # What comes

    async def take(self, data: bytes, source: Address) -> None:
        """Give a message to its call."""
        try:
            message = parse_untrusted(data)
        except ParseError:
            return
        match message:
            case Response():
                call = self.calls.get(message.sender.tag or "")
                if call is not None and call.call_id == message.call_id:
                    await cross(call, message, self.chaos.crossings)
                    await call.take_response(message)
            case Request():
                await self._take_request(message, source)

    async def _take_request(self, request: Request, source: Address) -> None:
        call = self._call_of(request)
        if call is not None:
            await cross(call, request, self.chaos.crossings)
            await call.take_request(request, source)
        elif request.method == "INVITE" and request.to.tag is None:
            await self._take_invite(request, source)
        elif request.method == "OPTIONS" and request.to.tag is None:
            await self.send(answer_to(request, "200 OK", (("Allow", ALLOW),), tag=self.token("tag")), source)
        elif request.method != "ACK":
            await self.send(answer_to(request, status_line(481), tag=self.token("tag")), source)

    def _call_of(self, request: Request) -> PhoneDialog | None:
        tag = request.to.tag
        if tag is not None:
            call = self.calls.get(tag)
            return call if call is not None and call.call_id == request.call_id else None
        for call in self.calls.values():  # a copy of the INVITE, or its CANCEL
            if isinstance(call, ReceivedCall) and call.invite.via.branch == request.via.branch:
                return call
        return None

    async def _take_invite(self, request: Request, source: Address) -> None:
        plan, replaced, refusal = self._plan, None, 480 if self._plan is None else 0
        wanted = request.headers.get("Replaces")
        if wanted is not None:
            replaced, refusal = self._replaced(wanted)
        if plan is None and replaced is not None:
            codec, ptime_ms = replaced.handset.codec, replaced.handset.ptime_ms
            plan = Answering(ring_seconds=0, status=200, codec=codec, ptime_ms=ptime_ms, options={}, calls=None)
        elif plan is not None and plan.calls is not None and plan.calls.statistics().current_buffer_used >= CALLS:
            refusal = 486
        if refusal or plan is None:
            await self.send(answer_to(request, status_line(refusal), tag=self.token("tag")), source)
        else:
            self.nursery.start_soon(self._serve, request, source, plan, replaced)

    def _replaced(self, wanted: str) -> tuple[PhoneDialog | None, int]:
        """The call that Replaces names, or the status to refuse with (RFC 3891 section 3)."""
        call_id, *parameters = (part.strip() for part in wanted.split(";"))
        tags = dict(parameter.partition("=")[::2] for parameter in parameters)
        call = self.calls.get(tags.get("to-tag", ""))
        if call is None or call.call_id != call_id or call.remote_tag != tags.get("from-tag"):
            return None, 481
        if call.is_over:
            return None, 603
        if isinstance(call, ReceivedCall) and call.answered_at is None:
            return None, 481  # it rings here: only calls that we have made may be replaced early
        return (None, 486) if "early-only" in tags and call.answered_at is not None else (call, 0)

    async def _find(self, uri: str) -> Address:
        """The address of a URI's host. Raises ValueError and OSError."""
        try:
            parsed = parse_uri(uri)
        except AddressError as error:
            raise ValueError(f"{uri!r}: {error}") from error
        if not isinstance(parsed, SipUri):
            raise ValueError(f"{uri!r} is no SIP URI")
        if parsed.address is not None:
            return parsed.address
        kind = trio.socket.SOCK_STREAM
        found = await trio.socket.getaddrinfo(parsed.host, parsed.port or 5060, family_of(self.address[0]), kind)
        return str(found[0][4][0]), parsed.port or 5060


@asynccontextmanager
async def open_phone(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    user: str = "alice",
    password: str | None = None,
    credentials: Credentials | None = None,
    transport: Literal["udp", "tcp"] = "udp",
    seed: int | None = None,
    chaos: Chaos = CALM,
) -> AsyncIterator[Phone]:
    """A phone on `host`, an IPv4 or IPv6 address; port 0 takes any.

    Args:
      password: it answers challenges with this and `user`.
      credentials: or with these, which may make mistakes.
      seed: the same one gives the same tags, branches and Call-IDs; None: that of `chaos`.
      chaos: its clock, its ports and SSRCs, and the messages of its own that meet others'; the rest is not a phone's.
    """
    if credentials is None and password is not None:
        credentials = Credentials(user, password)
    async with open_line(transport, host, port) as line, trio.open_nursery() as nursery:
        dice = random.Random(chaos.seed if seed is None else seed)
        phone = Phone(line, nursery, user, dice, credentials, chaos)
        nursery.start_soon(line.run, phone.take)
        yield phone
        nursery.cancel_scope.cancel()


async def run_in(scope: trio.CancelScope, task: Callable[..., Awaitable[None]], *args: object) -> None:
    """A task that can be stopped by itself; a socket closed under it ends it too."""
    with scope:
        try:
            await task(*args)
        except* trio.ClosedResourceError:
            pass
        except* OSError as group:  # a real socket says so in its own way
            if any(not isinstance(error, OSError) or error.errno != errno.EBADF for error in group.exceptions):
                raise
