"""What may happen inside one INVITE dialog, whoever made it: RFC 3261 sections 12 to 15, RFC 3311, 3515, 4028, 6086.

Every method that does not await is one step: the user agent calls them as messages come and timers fire.
"""

from __future__ import annotations

import enum
import logging
from math import inf
from typing import Any, Final, Protocol

import attrs
import trio

from aivc import logs
from aivc.sip import info
from aivc.sip.awaited_answer import AwaitedAnswer
from aivc.sip.dialog import DialogId
from aivc.sip.dialog_client import Asked, DialogClient
from aivc.sip.fields import overridden, sendable_fields
from aivc.sip.info import InfoError
from aivc.sip.inspection import (
    ACCEPT_HEADER,
    SDP_TYPE,
    SERVER_HEADER,
    Refusal,
    not_acceptable,
    retry_after_header,
    session_body,
)
from aivc.sip.leg import AckMissing, Fields, HungUp, LegEvent, MediaChanged, ReferOutcome, SessionExpired
from aivc.sip.message import Request, Response
from aivc.sip.negotiation import Accepted, Refused
from aivc.sip.offeranswer import OfferAnswer
from aivc.sip.referral import NO_ANSWER, NO_CALL
from aivc.sip.referred import Order, read_refer
from aivc.sip.refreshing import Refresher
from aivc.sip.scanner import AddressError
from aivc.sip.sdp import SdpError
from aivc.sip.session_timer import Terms
from aivc.sip.switchboard import Switchboard
from aivc.sip.transaction_layer import ServerTransaction
from aivc.sip.transfers import Transfers

log = logging.getLogger("aivc.sip")

CONTENT_TYPE_HEADER: Final = ("Content-Type", SDP_TYPE)


class Phase(enum.Enum):
    EARLY = enum.auto()  # a peer's INVITE without its final response
    CONFIRMED = enum.auto()
    LEAVING = enum.auto()  # our BYE is on its way
    OVER = enum.auto()


class Holder(Protocol):
    """Whose dialog it is: `aivc.sip.party.Party`."""

    def has_room(self, dialog: CallDialog) -> bool:
        """Whether an event that is not the last can be told."""

    def tell(self, dialog: CallDialog, event: LegEvent) -> None: ...

    def finish(self, dialog: CallDialog, event: LegEvent | None) -> None:
        """It is over; `event` is the last one."""

    def follow(self, dialog: CallDialog, order: Order) -> Refusal | None:
        """A REFER of the peer is to be followed; None: it will be."""


class Early(Protocol):
    """The call as long as it is not answered: `aivc.sip.incoming.IncomingLeg`."""

    def take_prack(self, request: Request) -> Refusal | None: ...

    def cancel(self) -> None: ...


@attrs.define(eq=False, repr=False)
class CallDialog:
    """One INVITE dialog.

    Args:
      board: where it is listed until it is over.
      owns_call_id: the INVITE was ours.
      early: who answers the peer's INVITE, when that may take time.
    """

    client: DialogClient
    media: OfferAnswer
    board: Switchboard[CallDialog]
    holder: Holder
    owns_call_id: bool = False
    early: Early | None = None
    phase: Phase = attrs.field(init=False)
    refresher: Refresher = attrs.field(init=False)
    _awaited: AwaitedAnswer | None = attrs.field(default=None, init=False)
    _agreed: bool = attrs.field(default=False, init=False)
    _transfers: Transfers = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.phase = Phase.CONFIRMED if self.early is None else Phase.EARLY
        self.refresher = Refresher(self, self.owns_call_id)
        self._transfers = Transfers(self.client.send)
        self.board.dialogs[self.id] = self

    @property
    def id(self) -> DialogId:
        return self.client.dialog.id

    @property
    def is_over(self) -> bool:
        return self.phase is Phase.OVER

    @property
    def is_busy(self) -> bool:
        return self.phase is not Phase.CONFIRMED or self._awaited is not None

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

    async def hang_up(self, reason: str, fields: Fields = ()) -> None:
        """Before the ACK has come it is waited for first, as long again (RFC 3261 section 15)."""
        if self.phase is not Phase.CONFIRMED:
            return
        self.phase = Phase.LEAVING
        bye = None
        try:
            if self._awaited is not None:
                with trio.move_on_after(self.board.settings.hang_up_seconds):
                    await self._awaited.acknowledged.wait()
            if not self.is_over:
                bye = self._send_bye(reason, fields=fields)
                with trio.move_on_after(self.board.settings.hang_up_seconds):
                    await bye.done.wait()
        finally:
            if bye is None and not self.is_over:  # cancelled while waiting: the peer must learn it all the same
                self._send_bye(reason, fields=fields)
            self.finish(None)

    def leave(self, reason: str, status: int = 200) -> None:
        """Send BYE and forget the dialog without waiting or telling anybody."""
        if self.phase in (Phase.CONFIRMED, Phase.LEAVING):
            self._send_bye(reason, status)
        self.finish(None)

    def _send_bye(self, text: str, status: int = 200, fields: Fields = ()) -> Asked:
        self._stop_awaiting()
        self._log("sip.bye_sent", reason=text)
        own = self.board.bye_fields(text, status)
        return self.client.send("BYE", overridden(own, sendable_fields(fields)))

    # What the user agent tells us

    @property
    def deadline(self) -> float:
        return inf if self._awaited is None else self._awaited.deadline

    def expire(self, now: float) -> None:
        """Resend the 2xx, or give up (section 13.3.1.4)."""
        if self._awaited is not None and self._awaited.expire(now):
            self._log("sip.ack_missing", contact=self.client.contact)
            self._send_bye("no ACK received")
            self.finish(AckMissing(self.client.contact))

    def acknowledge(self, ack: Request) -> bool:
        """Take the ACK of a 2xx; False when none is awaited, or another."""
        awaited = self._awaited
        if awaited is None or not awaited.is_for(ack):
            return False
        self._stop_awaiting()
        if awaited.offered:
            self.take_answer(session_body(ack))
        return True

    def serve(self, transaction: ServerTransaction) -> None:
        """Answer a request in the dialog that has passed inspection."""
        request = transaction.request
        if not self.client.dialog.takes_in_order(request):
            self._refuse(transaction, Refusal(500, "CSeq out of order"))
            return
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

    def answer_invite(self, transaction: ServerTransaction, offer: Accepted | None, terms: Terms | None) -> None:
        """Send the 2xx to the INVITE that made the dialog; without an offer in it our 2xx offers."""
        self.phase = Phase.CONFIRMED
        self._succeed(transaction, offer, terms)

    def finish(self, event: LegEvent | None) -> None:
        """The dialog is over: tell so once, and forget it."""
        if self.is_over:
            return
        self.phase = Phase.OVER
        self._stop_awaiting()
        self.refresher.stop()
        self._transfers.close("the caller hung up" if isinstance(event, HungUp) else "the call is over")
        self.board.forget(self.id, self)
        self.holder.finish(self, event)

    # What the refresher tells us

    def take_answer(self, body: bytes) -> None:
        """The peer answered our offer. Without a usable answer an old session goes on, and a new one cannot."""
        try:
            outcome = self.media.read(body)
        except SdpError as error:
            outcome = Refused(str(error))
        if isinstance(outcome, Accepted):
            self._change(outcome)
            return
        self._log("sip.unusable_answer", cause=outcome.cause)
        if not self._agreed and self.phase is Phase.CONFIRMED:
            self._send_bye(outcome.cause, status=488)
            self.finish(HungUp())

    def begin_session(self, response: Response) -> None:
        """The 2xx to our INVITE."""
        self.refresher.begin(response)

    def expire_session(self, cause: str) -> None:
        """RFC 4028 section 10."""
        if self.phase is Phase.CONFIRMED:
            self._log("sip.session_expired", cause=cause)
            self._send_bye(cause, status=408)
            self.finish(SessionExpired(cause))

    # Steps

    def _hung_up(self, transaction: ServerTransaction) -> None:
        self._respond(transaction, 200)
        if self.phase is Phase.EARLY and self.early is not None:  # a BYE may end an early dialog too (section 15)
            self.early.cancel()
        else:
            self._log("sip.bye_received")
            self.finish(HungUp())

    def _informed(self, request: Request) -> Refusal | None:
        """A key, or nothing at all: some peers keep a dialog alive so."""
        try:
            digit = info.parse_untrusted(request.body) if request.body else None
        except InfoError as error:
            return Refusal(400, str(error))
        if digit is not None and self.phase is Phase.CONFIRMED:
            if not self.holder.has_room(self):
                return Refusal(500, "too many events", (retry_after_header(1),))
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
        """A re-INVITE (section 14.2) or UPDATE (RFC 3311 section 5.2): a new target, a new session, or a refresh."""
        request = transaction.request
        body, terms = session_body(request), self.refresher.judge(request)
        refusal = self._cannot_modify(request.method, bool(body)) or (terms if isinstance(terms, Refusal) else None)
        offer = refusal or (self._read(body) if body else None)
        if not isinstance(offer, Refusal):
            offer = self._retargeted(request) or offer
        if isinstance(offer, Refusal):
            self._refuse(transaction, offer)
            return
        assert not isinstance(terms, Refusal)
        if request.method == "INVITE" or offer is not None:
            self._succeed(transaction, offer, terms)
        else:
            self._respond(transaction, 200, (*self._headers(), *self._agree(request, terms)))

    def _cannot_modify(self, method: str, has_offer: bool) -> Refusal | None:
        """The rules of glare: sections 14.1 and 14.2, and RFC 3311 section 5.2."""
        if method == "UPDATE" and not has_offer:
            return None
        if self.refresher.is_inviting or (method == "UPDATE" and self._awaited is not None and self._awaited.offered):
            return Refusal(491, "an offer of ours is not answered yet")
        if self.phase is Phase.EARLY or (method == "INVITE" and self._awaited is not None):
            return self.board.later("an INVITE is still open")
        return None if self.holder.has_room(self) else self.board.later("too many events")

    def _retargeted(self, request: Request) -> Refusal | None:
        try:
            self.client.dialog.refresh_target(request)
        except AddressError as error:
            return Refusal(400, str(error))
        is_missing = request.method == "INVITE" and request.headers.get("Contact") is None
        return Refusal(400, "Missing Contact") if is_missing else None

    def _read(self, body: bytes) -> Accepted | Refusal:
        try:
            offer = self.media.read(body)
        except SdpError as error:
            return Refusal(400, str(error))
        return not_acceptable(offer, self.client.host) if isinstance(offer, Refused) else offer

    def _succeed(self, transaction: ServerTransaction, offer: Accepted | None, terms: Terms | None) -> None:
        """Send a 2xx with our answer, or with our offer."""
        request = transaction.request
        if offer is not None:
            self._change(offer)
        description = self.media.offer() if offer is None else self.media.answer(offer)
        headers = (*self._headers(), *self._agree(request, terms), *record_routes(request), CONTENT_TYPE_HEADER)
        response = self._respond(transaction, 200, headers, description)
        if request.method == "INVITE":
            self._awaited = AwaitedAnswer(transaction, response, trio.current_time(), offered=offer is None)
            self.board.layer.timers.watch(self)

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


def record_routes(request: Request) -> Fields:
    """Copied in order into what makes a dialog (section 12.1.1)."""
    return tuple(("Record-Route", value) for value in request.headers.lines("Record-Route"))
