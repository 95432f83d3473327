"""What may happen inside one INVITE dialog, whoever made it: RFC 3261 sections 12 to 15, RFC 3311, 3515, 4028, 6086.

Every method that does not await is one step: the user agent calls them as messages come and timers fire.
"""

from __future__ import annotations

import logging
import weakref
from math import inf
from typing import Any, Final

import attrs
import trio

from aivc import logs
from aivc.sip.awaited_answer import AwaitedAnswer
from aivc.sip.bye import Bye
from aivc.sip.dialog import DialogId, record_routes
from aivc.sip.dialog_client import DialogClient
from aivc.sip.holder import Early, Holder, Nobody, Phase
from aivc.sip.inspection import (
    ACCEPT_HEADER,
    SDP_TYPE,
    SERVER_HEADER,
    Refusal,
    read_key,
    retry_after_header,
    session_body,
)
from aivc.sip.leg import (
    AckMissing,
    Fields,
    HungUp,
    LegEvent,
    MediaChanged,
    ReferOutcome,
    SessionExpired,
    SignallingFailed,
)
from aivc.sip.message import Request, Response, answer_to
from aivc.sip.modifying import read_change
from aivc.sip.negotiation import Accepted, Refused
from aivc.sip.offeranswer import OfferAnswer
from aivc.sip.reasons import ACK_MISSING, SESSION_EXPIRED, SIGNALLING_FAILED, named
from aivc.sip.referral import NO_ANSWER, NO_CALL
from aivc.sip.referred import Order, read_refer
from aivc.sip.refreshing import Refresher
from aivc.sip.refusals import Cause
from aivc.sip.sdp import SdpError
from aivc.sip.session_timer import Terms, answer_fields
from aivc.sip.sources import Bucket
from aivc.sip.switchboard import Switchboard
from aivc.sip.transaction_layer import ServerTransaction
from aivc.sip.transfers import Transfers

log = logging.getLogger("aivc.sip")

CONTENT_TYPE_HEADER: Final = ("Content-Type", SDP_TYPE)
TOO_LONG: Final = "our 2xx is more than twice as long as an INVITE by UDP from who may be anybody: trust it, or use TCP"
REQUESTS_PER_SECOND, REQUESTS_BURST = 10.0, 50.0  # of one peer in one dialog; keys told by INFO: 5 a second


@attrs.define(eq=False, repr=False)
class CallDialog:
    """One INVITE dialog.

    Args:
      board: where it is listed until it is over.
      owns_call_id: the INVITE was ours.
      early: who answers the peer's INVITE, when that may take time, and then as long as a PRACK may come.

    Attributes:
      is_over: for its holder; our BYE may have to wait all the same.
    """

    client: DialogClient
    media: OfferAnswer
    board: Switchboard[CallDialog]
    holder: Holder[CallDialog]
    owns_call_id: bool = False
    early: Early | None = None
    phase: Phase = attrs.field(init=False)
    refresher: Refresher = attrs.field(init=False)
    _pace: Bucket = attrs.field(factory=lambda: Bucket(REQUESTS_BURST, 0, trio.current_time()), init=False)
    is_over: bool = attrs.field(default=False, init=False)
    _awaited: AwaitedAnswer | None = attrs.field(default=None, init=False)
    _bye: Bye = attrs.field(init=False)
    _agreed: bool = attrs.field(default=False, init=False)
    _transfers: Transfers = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.phase = Phase.CONFIRMED if self.early is None else Phase.EARLY
        self.refresher = Refresher(weakref.proxy(self), self.owns_call_id)  # no ring: see `Nobody`
        self._transfers = Transfers(self.client.send)
        self._bye = Bye(self.client, self.board)
        self.board.dialogs[self.id] = self

    @property
    def id(self) -> DialogId:
        return self.client.dialog.id

    @property
    def is_busy(self) -> bool:
        return self.phase is not Phase.CONFIRMED or self._awaited is not None

    @property
    def is_early(self) -> bool:
        return self.phase is Phase.EARLY

    @property
    def is_unacknowledged(self) -> bool:
        return self._awaited is not None

    @property
    def is_unanswered(self) -> bool:
        return self._awaited is not None and self._awaited.offered

    @property
    def has_room(self) -> bool:
        return self.holder.has_room(self)

    def is_patient(self) -> bool:
        """Whether one more request of the peer is served now."""
        return self._pace.take(REQUESTS_PER_SECOND, REQUESTS_BURST, trio.current_time())

    # Our requests

    async def refer(self, fields: Fields, seconds: float) -> ReferOutcome:
        """Send REFER and follow it. Before the ACK has come it is waited for first, in the same `seconds`."""
        deadline = trio.current_time() + seconds
        await trio.lowlevel.checkpoint()
        with trio.move_on_at(deadline):
            while self._awaited is not None:
                await self._awaited.acknowledged.wait()
        if self.phase is not Phase.CONFIRMED or self._awaited is not None:
            return ReferOutcome(None, NO_CALL if self._awaited is None else NO_ANSWER)
        outcome = await self._transfers.refer((self.client.contact_field, *fields), deadline - trio.current_time())
        self._log("sip.referred", status=outcome.status, outcome=outcome.text, accepted=outcome.accepted)
        return outcome

    async def hang_up(self, reason: str, fields: Fields = (), *, status: int = 200) -> None:
        """Send BYE and wait for its answer, at most `sip.hang_up_seconds`; before that for the ACK, as long again.

        When the ACK does not come so soon, the BYE is sent later: see `_part`.
        """
        if self.phase is not Phase.CONFIRMED:
            return
        awaited, seconds = self._awaited, self.board.settings.hang_up_seconds
        self._part(reason, status, fields)
        try:
            if awaited is not None:
                with trio.move_on_after(seconds):
                    await awaited.acknowledged.wait()
            if self._bye.sent is not None:
                with trio.move_on_after(seconds):
                    await self._bye.sent.done.wait()
        finally:
            self.finish(None)

    def leave(self, reason: str, status: int = 200) -> None:
        """The same without waiting or telling anybody."""
        if self.phase is Phase.CONFIRMED:
            self._part(reason, status)
            self.finish(None)

    def close(self) -> None:
        """The user agent ends: a BYE that waits for an ACK is sent at once, and nothing else."""
        self._send_bye()
        self.finish(None)

    def _part(self, text: str, status: int = 200, fields: Fields = ()) -> None:
        """Send BYE; while a 2xx of ours has no ACK, only when that comes or is given up (RFC 3261 section 15)."""
        self.phase = Phase.LEAVING
        self._bye.owe(text, status, fields)
        if self._awaited is None:
            self._send_bye()

    def _send_bye(self) -> None:
        """Now, if it is owed."""
        if self._bye.is_owed:
            self._stop_awaiting()
            self._bye.send()
            if self.is_over:
                self._forget()

    # What the user agent tells us

    @property
    def deadline(self) -> float:
        return inf if self._awaited is None else self._awaited.deadline

    def expire(self, now: float) -> None:
        """Resend the 2xx, or give up (section 13.3.1.4)."""
        if self._awaited is not None and self._awaited.expire(now):
            self._log("sip.ack_missing", contact=self.client.contact)
            self._stop_awaiting()
            if not self._bye.is_owed:
                self._part(named(ACK_MISSING, "no ACK received"), 408)
            self._send_bye()
            self.finish(AckMissing(self.client.contact))

    def acknowledge(self, ack: Request) -> bool:
        """Take the ACK of a 2xx; False when none is awaited, or another."""
        awaited = self._awaited
        if awaited is None or not awaited.is_for(ack):
            return False
        self._stop_awaiting()
        if awaited.offered and self.phase is Phase.CONFIRMED:
            self.take_answer(session_body(ack))
        self._send_bye()
        return True

    def serve(self, transaction: ServerTransaction) -> None:
        """Answer a request in the dialog that has passed inspection."""
        request = transaction.request
        if not self.client.dialog.takes_in_order(request):
            self._refuse(transaction, Refusal(500, "CSeq out of order", name=Cause.RETRY_LATER.value))
            return
        if not self.client.near.is_open:  # it has connected anew
            self.client.learn(transaction)
        match request.method:
            case "BYE":
                self._hung_up(transaction)
            case "OPTIONS":
                self._respond(transaction, 200, (*self.board.capabilities.fields, ACCEPT_HEADER))
            case "INFO":
                self._answer(transaction, self._informed(request))
            case "NOTIFY":
                self._answer(transaction, self._transfers.take_notify(request))
            case "PRACK":
                stray = Refusal(481, "no reliable response waits for a PRACK")
                self._answer(transaction, stray if self.early is None else self.early.take_prack(request))
            case _ if self.phase is Phase.LEAVING:
                self._refuse(transaction, Refusal(481, "the call is being hung up"))
            case "REFER":
                self._referred(transaction)
            case _:
                self._modified(transaction)

    def take(self, accepted: Accepted) -> bool:
        """The first offer, or the first answer, is in force; True when that changes anything."""
        self._agreed = True
        return self.media.take(accepted)

    def answer_invite(self, transaction: ServerTransaction, offer: Accepted | None, terms: Terms | None) -> bool:
        """Send the 2xx to the INVITE that made the dialog; without an offer in it our 2xx offers. False, and over, when
        it cannot be sent."""
        self.phase = Phase.CONFIRMED
        if self._succeed(transaction, offer, terms):
            return True
        self.finish(SignallingFailed(TOO_LONG))
        return False

    def finish(self, event: LegEvent | None) -> None:
        """The dialog is over: tell so once, and forget it when no BYE is owed any more."""
        if not self.is_over:
            self.is_over = True
            self.refresher.stop()
            self._transfers.close("the caller hung up" if isinstance(event, HungUp) else "the call is over")
            self.holder.finish(self, event)
        if not self._bye.is_owed:
            self._forget()

    def _forget(self) -> None:
        self.phase = Phase.OVER
        self._stop_awaiting()
        self.board.forget(self.id, self)
        self.holder, self.early = Nobody(), None

    # What the refresher tells us

    def take_answer(self, body: bytes) -> None:
        """The peer answered our offer. Without a usable answer an old session goes on, and a new one cannot."""
        try:
            outcome = self.media.read(body)
        except SdpError as error:
            outcome = Refused(str(error) if body else "no SDP came")
        if isinstance(outcome, Accepted):
            self._change(outcome)
            return
        self._log("sip.unusable_answer", cause=outcome.cause)
        if not self._agreed and self.phase is Phase.CONFIRMED:
            self._part(named(SIGNALLING_FAILED, outcome.cause), 488)
            self.finish(SignallingFailed(f"unusable answer: {outcome.cause}"))

    def begin_session(self, response: Response) -> None:
        """The 2xx to our INVITE."""
        self.refresher.begin(response)

    def expire_session(self, cause: str) -> None:
        """RFC 4028 section 10."""
        if self.phase is Phase.CONFIRMED:
            self._log("sip.session_expired", cause=cause)
            self._part(named(SESSION_EXPIRED, cause), 408)
            self.finish(SessionExpired(cause))

    # Steps

    def _hung_up(self, transaction: ServerTransaction) -> None:
        self._respond(transaction, 200)
        if self.phase is Phase.EARLY and self.early is not None:  # a BYE may end an early dialog too (section 15)
            self.early.cancel()
        else:
            self._log("sip.bye_received")
            self._bye.waive()
            self.finish(HungUp())

    def _informed(self, request: Request) -> Refusal | None:
        digit = read_key(request)
        if digit is None or isinstance(digit, Refusal):
            return digit
        if self.phase is Phase.CONFIRMED:
            if not self.has_room:
                return Refusal(500, "too many events", (retry_after_header(1),), Cause.RETRY_LATER.value)
            self.holder.tell(self, digit)
        return None

    def _referred(self, transaction: ServerTransaction) -> None:
        if self.is_busy:
            self._refuse(transaction, self.board.later("an INVITE is still open"))
            return
        order = read_refer(transaction.request, self.board.settings.follow_refer)
        refusal = order if isinstance(order, Refusal) else self.holder.follow(self, order)
        if refusal is not None:
            self._refuse(transaction, refusal)
        elif isinstance(order, Order):
            told = () if order.is_told else (("Refer-Sub", "false"),)  # RFC 4488 section 4
            self._respond(transaction, 202, (self.client.contact_field, *told))

    def _modified(self, transaction: ServerTransaction) -> None:
        """A re-INVITE or UPDATE."""
        request, change = transaction.request, read_change(self, transaction)
        if isinstance(change, Refusal):
            self._refuse(transaction, change)
        elif request.method == "INVITE" or change.offer is not None:
            self._succeed(transaction, change.offer, change.terms)
        else:
            self._respond(transaction, 200, (*self._headers(), *self._agree(request, change.terms)))

    def _succeed(self, transaction: ServerTransaction, offer: Accepted | None, terms: Terms | None) -> bool:
        """Send a 2xx with our answer, or with our offer; False, and refused, when that cannot be sent."""
        request = transaction.request
        description = self.media.offer() if offer is None else self.media.answer(offer)
        headers = (*self._headers(), *answer_fields(terms), *record_routes(request), CONTENT_TYPE_HEADER)
        response = answer_to(request.headers, 200, tag=transaction.tag, extra=headers, body=description)
        if not transaction.fits(response):
            self.media.withdraw()
            self._refuse(transaction, Refusal(513, TOO_LONG))
            return False
        if offer is not None:
            self._change(offer)
        self._agree(request, terms)
        transaction.respond(response)
        if request.method == "INVITE":
            self._awaited = AwaitedAnswer(transaction, response, trio.current_time(), offered=offer is None)
            self.board.layer.timers.watch(self)
        return True

    def _change(self, accepted: Accepted) -> None:
        if self.take(accepted):
            self.holder.tell(self, MediaChanged(self.media.agreement))

    def _agree(self, request: Request, terms: Terms | None) -> Fields:
        """Start the session timer anew; an early dialog has none."""
        return () if self.phase is Phase.EARLY else self.refresher.accept(request, terms)

    def _headers(self) -> Fields:
        return self.client.contact_field, *self.board.capabilities.fields, SERVER_HEADER

    def _answer(self, transaction: ServerTransaction, refusal: Refusal | None) -> None:
        if refusal is None:
            self._respond(transaction, 200)
        else:
            self._refuse(transaction, refusal)

    def _refuse(self, transaction: ServerTransaction, refusal: Refusal) -> None:
        self.board.refuse(transaction, refusal)

    def _respond(self, transaction: ServerTransaction, status: int, extra: Fields = (), body: bytes = b"") -> Response:
        return self.board.respond(transaction, status, extra, body)

    def _stop_awaiting(self) -> None:
        if self._awaited is not None:
            self._awaited.acknowledged.set()
            self._awaited = None

    def _log(self, name: str, **fields: Any) -> None:
        logs.event(log, name, call_id=self.client.dialog.call_id, **fields)


Board = Switchboard[CallDialog]
