"""The REFERs of one UA session (RFC 3515): sent as commands, followed by events, whose order is not certain."""

from __future__ import annotations

from math import inf
from typing import Final

import attrs
import trio

from aivc.sip.address import parse_cseq
from aivc.sip.inspection import Refusal
from aivc.sip.leg import Fields, ReferOutcome
from aivc.sip.message import Request
from aivc.sip.mi import MiRefused
from aivc.sip.referral import NO_CALL, UNDER_WAY, Referral, Subscriptions, read_event
from aivc.sip.scanner import AddressError
from aivc.sip.session_board import SessionBoard
from aivc.sip.session_commands import attempt
from aivc.sip.transaction import TIMEOUT
from aivc.sip.transfers import AwaitedReferrals
from aivc.sip.uasession import SessionEvent, update

UNKNOWN: Final = -1  # the CSeq of a REFER that OpenSIPS has not told yet


@attrs.define(eq=False, repr=False)
class SessionTransfer:
    """Sends REFER and follows it; the leg tells of each answer and NOTIFY, and of its end.

    OpenSIPS chooses the CSeq that the subscription is named after: it is learnt from the answer to the REFER, or from
    the first NOTIFY, whichever comes first.
    """

    board: SessionBoard
    key: str
    call_id: str
    _subscriptions: Subscriptions = attrs.field(factory=Subscriptions, init=False)
    _latest: Referral | None = attrs.field(default=None, init=False)
    _highest: int = attrs.field(default=UNKNOWN, init=False)  # CSeq of a REFER so far
    _answered_by: float = attrs.field(default=-inf, init=False)  # the latest REFER, if ever
    _awaited: AwaitedReferrals = attrs.field(factory=AwaitedReferrals, init=False)

    async def refer(self, fields: Fields, seconds: float) -> ReferOutcome:
        """Send a REFER with these fields and wait for its outcome, at most for `seconds`.

        Not while another may still be answered (RFC 3261 section 17.1.2.2), whose answer would be taken for this one's.
        """
        if self._subscriptions.under_way or self._may_be_answered():
            return ReferOutcome(None, UNDER_WAY)
        referral = self._latest = self._subscriptions.begin(UNKNOWN)
        self._answered_by = trio.current_time() + TIMEOUT
        self.board.tasks.start_soon(self._send, referral, fields)
        return await self._awaited.outcome(referral, max(0.0, seconds))

    def _may_be_answered(self) -> bool:
        latest = self._latest
        return latest is not None and latest.cseq == UNKNOWN and trio.current_time() < self._answered_by

    def take_response(self, event: SessionEvent) -> bool:
        """A final answer to a REFER; False when none is waited for."""
        referral, cseq = self._latest, read_cseq(event)
        if referral is None or (referral.cseq != UNKNOWN and referral.cseq != cseq):
            return False
        if cseq is not None:
            self._number(referral, cseq)
        self._latest = None
        self._subscriptions.take_response(referral, event.status, event.reason)
        self._awaited.notify()
        return True

    def take_notify(self, request: Request) -> Refusal | None:
        """Take a NOTIFY; None: it is to be answered 200."""
        referral, number = self._latest, read_event_id(request)
        if referral is not None and number is not None and number > self._highest:
            self._number(referral, number)
        refusal = self._subscriptions.take_notify(request)
        self._awaited.notify()
        return refusal

    def close(self, text: str) -> None:
        """The session is over: whoever waits is told so."""
        self._latest = None
        self._subscriptions.close(text)
        self._awaited.notify()

    async def _send(self, referral: Referral, fields: Fields) -> None:
        """Task: apart from other commands, since it is never repeated, so that a lost answer takes its time."""
        error = await attempt(self.board, update(self.key, "REFER", fields=fields), self.call_id)
        if isinstance(error, MiRefused):  # not sent; without an answer it may have been, and events tell
            referral.settle(None, NO_CALL)
            if self._latest is referral:
                self._latest = None
            self._awaited.notify()

    def _number(self, referral: Referral, cseq: int) -> None:
        if referral.cseq == UNKNOWN:
            self._subscriptions.renumber(referral, cseq)
        self._highest = max(self._highest, cseq)


def read_cseq(event: SessionEvent) -> int | None:
    """The number of the request that an answer is for; None: it is not told, as after a timeout."""
    try:
        return parse_cseq(event.headers.get("CSeq") or "").number if event.headers is not None else None
    except AddressError:
        return None


def read_event_id(request: Request) -> int | None:
    try:
        return read_event(request.headers.get("Event"))
    except AddressError:
        return None
