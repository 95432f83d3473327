"""Calls that the test phone gets: it rings, and then answers or refuses."""

from __future__ import annotations

import attrs
import trio

from aivc.config.settings import Address, Codec
from aivc.sip.address import NameAddr
from aivc.sip.message import Request
from aivc.testing.dialog import PhoneDialog
from aivc.testing.side import GIVE_UP, T1, DialogOptions
from aivc.testing.wording import PAYLOAD_TYPES, Rtcp, answer_to, read_description, status_line


class AnsweringOptions(DialogOptions, total=False):
    """What `Phone.answering` hands on to `ReceivedCall`, and how its handset gets reports."""

    reliable: bool
    rtcp: Rtcp


@attrs.frozen(kw_only=True)
class Answering:
    """How a phone answers: see `Phone.answering`."""

    ring_seconds: float
    status: int
    codec: Codec | None
    ptime_ms: int
    options: AnsweringOptions
    calls: trio.MemorySendChannel[ReceivedCall] | None


@attrs.define(eq=False, kw_only=True, repr=False)
class ReceivedCall(PhoneDialog):
    """One incoming call; see `PhoneDialog`.

    Args:
      invite: the request that began it.
      source: where that came from.
      reliable: the 180 asks for PRACK, if the caller supports that (RFC 3262).

    Attributes:
      is_cancelled: the caller gave up.
      pracks: the PRACK requests.
      answered_at: when the 2xx left.
    """

    invite: Request
    source: Address
    reliable: bool = False
    is_cancelled: bool = attrs.field(default=False, init=False)

    @property
    def pracks(self) -> list[Request]:
        return [request for request in self.requests if request.method == "PRACK"]

    async def respond(self, ring_seconds: float, status: int) -> None:
        """Ring for a while, then give the final response; returns when it is on its way, or the call was cancelled."""
        if ring_seconds > 0:
            await self._ring()
            with trio.move_on_after(ring_seconds):
                await self.wait_over()
        if self._ended:
            return
        offered = read_description(self.invite.body.decode()) if self.invite.body else None
        if status < 300 and offered is not None and "SAVP" in offered.profile and self.crypto is None:
            status = 488
        if status >= 300:
            await self._refuse(status)
            return
        self.answered_at, self._may_ask = trio.current_time(), True
        await self.accept(self.invite, self.source, self.headers)
        self.phone.nursery.start_soon(self.repeat_until_acknowledged, self.invite.cseq.number, self.source)
        if self.session_timer is not None:
            self.phone.nursery.start_soon(self.refresh)
        self.notify()

    async def _refuse(self, status: int) -> None:
        self._ended = True
        self.notify()
        await self.reply(self.invite, status_line(status), self.source, self.headers)
        if self.phone.transport == "UDP":
            self.phone.nursery.start_soon(self.repeat_until_acknowledged, self.invite.cseq.number, self.source)

    async def _ring(self) -> None:
        fields = [("Contact", self.contact)]
        if self.reliable and "100rel" in self._understood():
            fields += [("Require", "100rel"), ("RSeq", "1")]
            self.phone.nursery.start_soon(self._repeat_ringing)
        await self.reply(self.invite, status_line(180), self.source, fields)

    def _understood(self) -> list[str]:
        return [*self.invite.headers.items("Supported"), *self.invite.headers.items("Require")]

    async def _repeat_ringing(self) -> None:
        """Task: send the reliable 180 again until its PRACK or the end comes (RFC 3262 section 3)."""
        interval = T1
        with trio.move_on_after(GIVE_UP):
            while True:
                with trio.move_on_after(interval):
                    while not self.pracks and not self._ended and self.answered_at is None:
                        await self._changed.wait()
                    return
                await self.phone.send(self._replies[self.invite.cseq.number], self.source)
                interval *= 2

    async def take_request(self, request: Request, source: Address) -> None:
        if request.method == "CANCEL":
            await self._take_cancel(request, source)
        elif request.method == "INVITE" and request.to.tag is None:  # a copy of the first
            if (reply := self._replies.get(request.cseq.number)) is not None:
                await self.phone.send(reply, source)
        else:
            await super().take_request(request, source)

    async def take_other(self, request: Request, source: Address) -> None:
        if request.method == "PRACK":
            await self.reply(request, "200 OK", source)
        else:
            await super().take_other(request, source)

    async def _take_cancel(self, request: Request, source: Address) -> None:
        await self.phone.send(answer_to(request, "200 OK", tag=self.local_tag), source)
        if self.answered_at is None and not self._ended:
            self.is_cancelled = True
            await self._refuse(487)

    async def give_up(self) -> None:
        """Refuse with 480 what rings, and hang up what is answered."""
        if self.answered_at is None and not self._ended:
            await self._refuse(480)
        await super().give_up()

    async def wait_answered(self) -> None:
        """Return when the 2xx is acknowledged. Raises trio.TooSlowError when that takes 32 s after it, or never can."""
        number = self.invite.cseq.number
        while not any(ack.cseq.number == number for ack in self.acknowledgements):
            if self._ended:
                raise trio.TooSlowError("the call was over before the ACK")
            await self._changed.wait()


def party(address: NameAddr) -> str:
    """From or To without its tag."""
    kept = tuple(parameter for parameter in address.parameters if parameter[0].lower() != "tag")
    return str(attrs.evolve(address, parameters=kept))


def codec_for(invite: Request) -> Codec:
    """The first codec of the offer that a handset has; PCMU without any."""
    offered = read_description(invite.body.decode()).payload_types if invite.body else ()
    names: dict[int, Codec] = {number: name for name, number in PAYLOAD_TYPES.items()}
    return next((names[kind] for kind in offered if kind in names), "PCMU")
