"""What comes to the test phone in a call, and what it does then."""

from __future__ import annotations

import attrs
import trio

from aivc.config.settings import Address
from aivc.sip.message import Request, Response
from aivc.testing.asking import Asking
from aivc.testing.refreshing import read_timer
from aivc.testing.side import FINAL, GIVE_UP, T1, T2
from aivc.testing.transfers import Referral, follow
from aivc.testing.wording import SDP, Fields, answer_to, status_line


@attrs.define(eq=False, kw_only=True, repr=False)
class PhoneDialog(Asking):
    """One call of a phone, whoever made it; see `Side` for what it knows and `Asking` for what it can do.

    Attributes:
      replaced_by: the call that took this one's place by Replaces.
    """

    replaced_by: PhoneDialog | None = attrs.field(default=None, init=False)
    _replies: dict[int, bytes] = attrs.field(factory=dict, init=False)  # to the other side's requests, by CSeq
    _offers: set[int] = attrs.field(factory=set, init=False)  # CSeqs of INVITEs without offer, which our 2xx made

    async def take_response(self, response: Response) -> None:
        """Called by the phone for each response of this call."""
        method, number = response.cseq.method, response.cseq.number
        if method == "INVITE":
            await self.take_invite_response(response)
            self.responses.append(response)  # after the ACK, so that nothing that waited for it can overtake it
        elif method != "CANCEL" and response.status >= FINAL:
            self._answers[number] = response
        self.notify()

    async def take_invite_response(self, response: Response) -> None:
        """Acknowledge what is final."""
        number = response.cseq.number
        if 200 <= response.status < 300:
            if self.acknowledge:
                branch = self.phone.token("z9hG4bK")  # a 2xx is acknowledged by the dialog, section 13.2.2.4
                await self.send(self.request("ACK", number, branch, self.late_answer(response)))
        elif response.status >= 300:
            await self.send(self.failure_ack(response))

    def failure_ack(self, response: Response) -> bytes:
        """It belongs to the INVITE's transaction, section 17.1.1.3."""
        branch = response.via.branch or ""
        return self.request_to(self.target, response.to.tag, "ACK", response.cseq.number, branch)

    def late_answer(self, response: Response) -> str:
        """What the ACK says of the audio: nothing, when the INVITE did."""
        return ""

    async def take_request(self, request: Request, source: Address) -> None:
        """Called by the phone for each request of the other side."""
        if request.method == "ACK":
            self.acknowledgements.append(request)
            if request.cseq.number in self._offers:
                self.take_media(request.body)
            self.notify()
            return
        repeated = any(request.cseq == earlier.cseq for earlier in self.requests)
        self.requests.append(request)
        if repeated:
            if (reply := self._replies.get(request.cseq.number)) is not None:
                await self.phone.send(reply, source)
        elif self.guard is not None and not self.guard.accepts(request):
            await self.reply(request, status_line(407), source, (self.guard.challenge,))
        elif request.method == "REFER" and self.transfers is not None:
            self.referrals.append(Referral(trio.current_time(), request))
            self.phone.nursery.start_soon(follow, self, self.referrals[-1], self.transfers, source)
        elif request.method == "INVITE" or (request.method == "UPDATE" and "UPDATE" in self.allow):
            await self.take_offer(request, source)
        else:
            await self.take_other(request, source)
        self.notify()

    async def take_other(self, request: Request, source: Address) -> None:
        """BYE, OPTIONS and NOTIFY are accepted."""
        if request.method == "BYE" and self.hung_up_at is None:
            self.hung_up_at, self._ended = trio.current_time(), True
        if request.method in ("BYE", "OPTIONS", "NOTIFY"):
            await self.reply(request, "200 OK", source)
        else:
            await self.reply(request, "405 Method Not Allowed", source, (("Allow", self.allow),))

    async def take_offer(self, request: Request, source: Address) -> None:
        """An INVITE or UPDATE of the other side in the call."""
        status = 491 if self._inviting else self.reoffer_status
        if status >= 300:
            await self.reply(request, status_line(status), source)
            return
        await self.accept(request, source)
        if request.method == "INVITE":
            self.phone.nursery.start_soon(self.repeat_until_acknowledged, request.cseq.number, source)

    async def accept(self, request: Request, source: Address, fields: Fields = ()) -> None:
        """Send the 2xx to an INVITE or UPDATE, with an answer or an offer, and with its session timer."""
        everything = [("Contact", self.contact), *self.capabilities(), *self.timer_fields(request), *fields]
        if request.body:
            body = self.answer_sdp(request.body)
        elif request.method == "INVITE":
            self._offers.add(request.cseq.number)
            body = self.sdp if self.sdp is not None else self.describe()
        else:
            body = ""
        everything += [("Content-Type", SDP)] if body else []
        await self.reply(request, status_line(200), source, everything, body)

    def timer_fields(self, request: Request) -> list[tuple[str, str]]:
        """Session-Expires of the 2xx, when the other side asks for a timer: it refreshes, unless told otherwise."""
        asked = request.headers.get("Session-Expires")
        if asked is None:
            return []
        refresher = "" if "refresher=" in asked else f";refresher={self.default_refresher}"
        self.timed = read_timer(asked + refresher, "uas", trio.current_time())
        return [("Session-Expires", asked + refresher), ("Require", "timer")]

    @property
    def default_refresher(self) -> str:
        return (self.session_timer.refresher if self.session_timer is not None else None) or "uac"

    async def reply(self, request: Request, status: str, to: Address, fields: Fields = (), body: str = "") -> None:
        """Send a response, and again for every copy of the request."""
        fields = [*fields, *(("Record-Route", route) for route in request.headers.lines("Record-Route"))]
        self._replies[request.cseq.number] = answer_to(request, status, fields, body, self.local_tag)
        await self.phone.send(self._replies[request.cseq.number], to)

    async def repeat_until_acknowledged(self, number: int, source: Address) -> None:
        """Task: send a final response to INVITE again until its ACK comes (RFC 3261 section 13.3.1.4), for 32 s."""
        interval = T1
        with trio.move_on_after(GIVE_UP):
            while not self.is_acknowledged(number):
                with trio.move_on_after(interval):
                    while not self.is_acknowledged(number):
                        await self._changed.wait()
                    return
                await self.phone.send(self._replies[number], source)
                interval = min(2 * interval, T2)

    def is_acknowledged(self, number: int) -> bool:
        """Whether the final response to that INVITE need not be sent any more."""
        is_moot = self._ended and self._may_ask  # somebody has hung up
        return is_moot or any(ack.cseq.number == number for ack in self.acknowledgements)
