"""Calls that the test phone makes: from INVITE to the answer."""

from __future__ import annotations

from contextlib import suppress
from typing import Final, Literal

import attrs
import trio

from aivc.sip.message import Response
from aivc.testing.asking import ATTEMPTS
from aivc.testing.dialog import PhoneDialog
from aivc.testing.refusal import CallRefused
from aivc.testing.side import GIVE_UP, DialogOptions
from aivc.testing.wording import Rtcp

INTERVAL_TOO_BRIEF: Final = 422  # RFC 4028 section 6


class CallOptions(DialogOptions, total=False):
    """What `Phone.dial` and `Phone.ring` hand on to `PhoneCall`, and how its handset gets reports."""

    late_offer: bool
    replaces: str | None
    reliable: Literal["off", "supported", "required"]
    prack: bool
    rtcp: Rtcp


@attrs.define(eq=False, kw_only=True, repr=False)
class PhoneCall(PhoneDialog):
    """One outgoing call; see `PhoneDialog`.

    Args:
      uri: whom the phone calls, `sip:user@host:port`.
      late_offer: the INVITE has no offer; the ACK has the answer.
      replaces: the `replaces` of the call whose place this one is to take (RFC 3891).
      reliable: what the INVITE says of 100rel (RFC 3262).
      prack: False never acknowledges a reliable provisional response.
    """

    uri: str
    late_offer: bool = False
    take_place_of: str | None = attrs.field(default=None, alias="replaces")
    reliable: Literal["off", "supported", "required"] = "off"
    prack: bool = True
    _branch: str = attrs.field(default="", init=False)
    _number: int = attrs.field(default=0, init=False)  # CSeq of the INVITE
    _attempts: int = attrs.field(default=0, init=False)
    _pracked: set[int] = attrs.field(factory=set, init=False)  # RSeqs
    _late_answer: str = attrs.field(default="", init=False)
    _cancelled: bool = attrs.field(default=False, init=False)

    async def invite(self) -> None:
        """Send INVITE and repeat it until something comes back (timer A); returns at the first response.

        A challenge is none. Raises trio.TooSlowError when nothing comes within 32 s (timer B).
        """
        self._renew()
        await self._attempt()
        with trio.fail_after(GIVE_UP):
            while not self.answers_to(self._number):
                await self._changed.wait()

    def _renew(self) -> None:
        self._number, self._branch = self.next_cseq(), self.phone.token("z9hG4bK")
        self._attempts += 1

    async def _attempt(self) -> None:
        fields = [*self.capabilities(), *self._asked(), *self.headers]
        sdp = "" if self.late_offer else self.sdp if self.sdp is not None else self.describe()
        message = self.request_to(self.uri, None, "INVITE", self._number, self._branch, sdp, fields)
        await self.send_invite(message, self._number)

    async def _attempt_again(self) -> None:
        with suppress(trio.TooSlowError):
            await self._attempt()

    def _asked(self) -> list[tuple[str, str]]:
        fields = []
        if self.reliable != "off":
            fields.append(("Supported" if self.reliable == "supported" else "Require", "100rel"))
        if self.take_place_of is not None:
            fields.append(("Replaces", self.take_place_of))
        if self.session_timer is not None:
            fields += self.session_timer.fields()
        return fields

    async def wait_answer(self) -> Response:
        """The 2xx. Raises CallRefused for any other final response."""
        while not (finals := self.finals(self._number)):
            await self._changed.wait()
        if finals[0].status >= 300:
            raise CallRefused(finals[0])
        return finals[0]

    async def cancel(self) -> None:
        """Give up before the answer, RFC 3261 section 9.1."""
        self._cancelled = True
        message = self.request_to(self.uri, None, "CANCEL", self._number, self._branch)
        await self.send(message)

    async def give_up(self) -> None:
        """End the call in the way that its state asks for: CANCEL, BYE or nothing."""
        if self.answered is None and not self._ended and not self._cancelled:
            await self.cancel()
        await super().give_up()

    async def take_invite_response(self, response: Response) -> None:
        is_first = response.cseq.number == self._number
        if is_first and response.status < 300 and response.to.tag is not None and self.answered is None:
            self.note_dialog(response, "To")
        if 200 <= response.status < 300:
            self._note_answer(response)
        elif response.status >= 300 and is_first and not self._tries_again(response):
            self._ended = True
        elif response.status > 100 and self.prack and "100rel" in response.headers.items("Require"):
            self.phone.nursery.start_soon(self._acknowledge, response)
        await super().take_invite_response(response)

    def failure_ack(self, response: Response) -> bytes:
        if self.answered is not None:
            return super().failure_ack(response)
        branch = response.via.branch or self._branch
        return self.request_to(self.uri, response.to.tag, "ACK", response.cseq.number, branch)

    def late_answer(self, response: Response) -> str:
        if self.late_offer and response.cseq.number == self._number and not self._late_answer:
            self._late_answer = self.answer_sdp(response.body)
        return self._late_answer if response.cseq.number == self._number else ""

    def _tries_again(self, response: Response) -> bool:
        if self._attempts >= ATTEMPTS or self.finals(self._number) or self._cancelled:
            return False
        if response.status == INTERVAL_TOO_BRIEF and self.session_timer is not None:
            least = int(response.header("Min-SE"))
            self.session_timer = attrs.evolve(self.session_timer, expires=least, min_se=least)
        elif not self.takes_challenge(response):
            return False
        self._renew()
        self.phone.nursery.start_soon(self._attempt_again)
        return True

    async def _acknowledge(self, response: Response) -> None:
        """Task: send PRACK for a provisional response, once (RFC 3262 section 4)."""
        rseq = int(response.header("RSeq"))
        if rseq not in self._pracked:
            self._pracked.add(rseq)
            with suppress(trio.TooSlowError):
                await self.ask("PRACK", (("RAck", f"{rseq} {response.cseq}"),))

    def _note_answer(self, response: Response) -> None:
        if self.answered is not None:
            return
        self.answered, self.answered_at, self._may_ask = response, trio.current_time(), True
        if not self.late_offer:
            self.take_media(response.body)
        self.note_timer(response)
        if self.session_timer is not None:
            self.phone.nursery.start_soon(self.refresh)
