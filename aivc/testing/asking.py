"""What the test phone asks of the other side in a call: BYE, INFO, hold, UPDATE, REFER, refreshes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from math import inf
from typing import Final, Literal

import attrs
import trio

from aivc.sip.message import Request, Response
from aivc.testing.refreshing import read_timer
from aivc.testing.side import FINAL, GIVE_UP, T1, T2, Side
from aivc.testing.transfers import Referral
from aivc.testing.wording import SDP, Fields, in_uri

CHALLENGES: Final = (401, 407)
ATTEMPTS: Final = 3  # the request, the answer to a challenge, and the one to a stale nonce


@attrs.define(eq=False, kw_only=True, repr=False)
class Asking(Side):
    """A call, and the requests that the phone can make in it."""

    _answers: dict[int, Response] = attrs.field(factory=dict, init=False)  # final ones to all but INVITE, by CSeq
    _inviting: bool = attrs.field(default=False, init=False)  # a re-INVITE waits for its final response
    _may_ask: bool = attrs.field(default=False, init=False)  # there is a dialog in which BYE means something

    @property
    def notified(self) -> list[str]:
        """What NOTIFYs said of our REFER: the status lines of their bodies, in order."""
        told = {request.cseq.number: request for request in self.requests if request.method == "NOTIFY"}
        return [request.body.decode().strip().removeprefix("SIP/2.0 ") for request in told.values()]

    async def hang_up(self) -> None:
        """Send BYE and wait for its answer. Does nothing when the call is over already."""
        if self._ended or not self._may_ask:
            return
        self._ended = True
        self.notify()
        with suppress(trio.TooSlowError):
            await self.ask("BYE")

    async def give_up(self) -> None:
        """End the call in the way that its state asks for, and those that it was told to make."""
        for referral in self.referrals:
            await referral.end()
        await self.hang_up()

    async def ask(
        self, method: str, headers: Sequence[tuple[str, str]] = (), content_type: str = "", body: str = ""
    ) -> Response:
        """Send a request in the dialog and repeat it until it is answered (timer E); the final response.

        A challenge is answered, when the phone has credentials. Raises trio.TooSlowError after 32 s without a final
        response (timer F).
        """
        for left in reversed(range(ATTEMPTS)):
            number, branch = self.next_cseq(), self.phone.token("z9hG4bK")
            message = self.request(method, number, branch, body, headers, content_type)
            response = await self._wait_answer(message, number)
            if not left or not self.takes_challenge(response):
                break
        return response

    async def _wait_answer(self, message: bytes, number: int) -> Response:
        """Send what is no INVITE until its final response comes."""
        interval = self.first_interval
        with trio.fail_after(GIVE_UP):
            while number not in self._answers:
                await self.send(message)
                with trio.move_on_after(interval):
                    while number not in self._answers:
                        await self._changed.wait()
                interval = min(2 * interval, T2)
        return self._answers[number]

    @property
    def first_interval(self) -> float:
        """Until a request is repeated: never on TCP."""
        return T1 if self.phone.transport == "UDP" else inf

    def takes_challenge(self, response: Response) -> bool:
        """Whether the request is to be sent again, as the phone has taken this response's challenge."""
        known = self.phone.credentials
        return known is not None and response.status in CHALLENGES and known.accept(response)

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
            return await self.reinvite(self.describe(host=way))
        return await self.reinvite(self.describe(direction=way))

    async def resume(self) -> Response:
        """End the hold."""
        self._sdp_version += 1
        return await self.reinvite(self.describe())

    async def reinvite(self, sdp: str, headers: Fields = ()) -> Response:
        """Offer again within the dialog (RFC 3261 section 14.1); the final response, a 2xx already acknowledged."""
        self._inviting = True
        try:
            for left in reversed(range(ATTEMPTS)):
                number, branch = self.next_cseq(), self.phone.token("z9hG4bK")
                await self.send_invite(self.request("INVITE", number, branch, sdp, headers), number)
                while not (finals := self.finals(number)):
                    await self._changed.wait()
                if not left or not self.takes_challenge(finals[0]):
                    break
        finally:
            self._inviting = False
        if finals[0].status < 300:
            self.take_media(finals[0].body)
            self.note_timer(finals[0])
        return finals[0]

    async def send_invite(self, message: bytes, number: int) -> None:
        """Send an INVITE and repeat it until something comes back (timer A).

        Raises trio.TooSlowError when nothing does within 32 s (timer B).
        """
        interval = self.first_interval
        with trio.fail_after(GIVE_UP):
            while not self.answers_to(number):
                await self.send(message)
                with trio.move_on_after(interval):
                    while not self.answers_to(number):
                        await self._changed.wait()
                interval *= 2

    def answers_to(self, number: int) -> list[Response]:
        """The responses to our INVITE of that CSeq."""
        return [response for response in self.responses if response.cseq.number == number]

    def finals(self, number: int) -> list[Response]:
        """The final ones among them."""
        return [response for response in self.answers_to(number) if response.status >= FINAL]

    async def update(self, sdp: str | None = None, headers: Fields = ()) -> Response:
        """Send UPDATE, with an offer or as a mere refresh (RFC 3311); the final response."""
        response = await self.ask("UPDATE", headers, SDP if sdp else "", sdp or "")
        if response.status < 300:
            self.take_media(response.body)
            self.note_timer(response)
        return response

    async def ask_transfer(self, refer_to: str, *, replaces: str | None = None) -> Response:
        """Ask the other side to call `refer_to` (REFER); what it tells of that is in `notified`.

        Args:
          replaces: the `replaces` of another call of this phone, whose place it is to take (RFC 3891).
        """
        if replaces is not None:
            escaped = replaces.replace("@", "%40").replace(";", "%3B").replace("=", "%3D")
            refer_to += f"?Replaces={escaped}"
        own = f"<sip:{self.phone.user}@{in_uri(self.phone.address[0])}>"
        return await self.ask("REFER", (("Refer-To", f"<{refer_to}>"), ("Referred-By", own)))

    async def refresh(self) -> None:
        """Task: refresh the session each time that half of its timer has passed (RFC 4028 section 10)."""
        plan = self.session_timer
        assert plan is not None
        while self.timed is not None and self.timed.ours and plan.refreshes:
            since = self.timed.since
            await trio.sleep_until(since + self.timed.seconds / 2)
            if self._ended:
                return
            fields = [("Session-Expires", f"{self.timed.seconds};refresher=uac"), ("Supported", "timer")]
            with suppress(trio.TooSlowError):
                if plan.method == "UPDATE":
                    await self.update(None, fields)
                else:
                    await self.reinvite(self.describe(), fields)
            if self.timed.since == since:  # it was refused
                return

    def note_timer(self, response: Response) -> None:
        """Take the session timer of a 2xx to a request of ours."""
        value = response.headers.get("Session-Expires")
        if value is not None:
            self.timed = read_timer(value, "uac", trio.current_time())

    # Waiting

    async def wait_notified(self, count: int = 1) -> list[str]:
        """What so many NOTIFYs, or more, have said."""
        while len(self.notified) < count:
            await self._changed.wait()
        return self.notified

    async def wait_hung_up(self) -> float:
        """Wait for the other side's BYE; when it came."""
        while self.hung_up_at is None:
            await self._changed.wait()
        return self.hung_up_at

    async def wait_over(self) -> None:
        """Wait until either side has ended the call."""
        while not self._ended:
            await self._changed.wait()

    async def wait_request(self, method: str, count: int = 1) -> Request:
        """Wait until the other side has sent so many requests of a method, copies not counted; the latest."""
        while True:
            found = {request.cseq.number: request for request in self.requests if request.method == method}
            if len(found) >= count:
                return list(found.values())[-1]
            await self._changed.wait()

    async def wait_referral(self) -> Referral:
        """The first REFER, waiting for it if need be."""
        while not self.referrals:
            await self._changed.wait()
        return self.referrals[0]
