"""The REFERs of one leg, and who waits for how they go."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import attrs
import trio

from aivc.sip.dialog_client import Asked
from aivc.sip.inspection import Refusal
from aivc.sip.leg import Fields, ReferOutcome
from aivc.sip.message import Request, Response
from aivc.sip.referral import NO_ANSWER, UNDER_WAY, Referral, Subscriptions

Send = Callable[[str, Fields], Asked]  # method and header fields of a request in the dialog


@attrs.define(eq=False)
class AwaitedReferrals:
    """Who waits for how a REFER goes, whatever brings the news."""

    _changed: trio.Event | None = attrs.field(default=None, init=False)

    async def outcome(self, referral: Referral, seconds: float) -> ReferOutcome:
        """How it went, at most `seconds` from now; then, and when cancelled, it is settled as unanswered."""
        try:
            with trio.move_on_after(seconds):
                while referral.outcome is None:
                    if self._changed is None:
                        self._changed = trio.Event()
                    await self._changed.wait()
        finally:  # also when cancelled: nobody waits for it any more
            referral.settle(None, NO_ANSWER)
        assert referral.outcome is not None
        return referral.outcome

    def notify(self) -> None:
        """There is news."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None


@attrs.define(eq=False)
class Transfers:
    """Sends REFER and follows it; the leg tells of each NOTIFY and of its end."""

    send: Send
    _subscriptions: Subscriptions = attrs.field(factory=Subscriptions, init=False)
    _awaited: AwaitedReferrals = attrs.field(factory=AwaitedReferrals, init=False)

    async def refer(self, fields: Fields, seconds: float) -> ReferOutcome:
        """Send a REFER with these fields and wait for its outcome, at most for `seconds`."""
        if self._subscriptions.under_way:
            return ReferOutcome(None, UNDER_WAY)
        asked = self.send("REFER", fields)
        referral = self._subscriptions.begin(asked.request.cseq.number)
        asked.report = partial(self._take_response, referral)
        asked.repeated = partial(self._renumber, referral)
        return await self._awaited.outcome(referral, seconds)

    def take_notify(self, request: Request) -> Refusal | None:
        """Take a NOTIFY; None: it is to be answered 200."""
        refusal = self._subscriptions.take_notify(request)
        self._awaited.notify()
        return refusal

    def close(self, text: str) -> None:
        """The dialog is over: whoever waits is told so."""
        self._subscriptions.close(text)
        self._awaited.notify()

    def _renumber(self, referral: Referral, request: Request) -> None:
        """It is sent again with credentials: its NOTIFYs name the CSeq of the second one."""
        self._subscriptions.renumber(referral, request.cseq.number)

    def _take_response(self, referral: Referral, response: Response | None) -> None:
        status, phrase = (None, "") if response is None else (response.status, response.reason)
        self._subscriptions.take_response(referral, status, phrase)
        self._awaited.notify()
