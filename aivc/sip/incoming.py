"""Answering a call: the user of a peer's INVITE (RFC 3261 sections 9.2 and 13.3, RFC 3262) behind `Leg`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from math import inf
from typing import Any, Final

import attrs
import trio

from aivc import logs
from aivc.config.settings import Address
from aivc.sip.address import format_host_port
from aivc.sip.call_dialog import Board, CallDialog
from aivc.sip.calling import Wanted, call_out
from aivc.sip.dialog import Dialog, record_routes
from aivc.sip.dialog_client import DialogClient
from aivc.sip.event_queue import EventQueue
from aivc.sip.fields import sent_fields
from aivc.sip.holder import Phase
from aivc.sip.inspection import (
    SERVER_HEADER,
    Refusal,
    dialled_number,
    session_body,
)
from aivc.sip.invitation import ASSERTED, asserted_identity, read_expires, rejected
from aivc.sip.leg import (
    AudioAgreement,
    Cancelled,
    Consultation,
    Fields,
    LegEvent,
    ReferOutcome,
    Rejection,
    SignallingFailed,
)
from aivc.sip.message import Request, Response
from aivc.sip.modifying import read_offer
from aivc.sip.negotiation import Accepted
from aivc.sip.offeranswer import OfferAnswer
from aivc.sip.party import Party
from aivc.sip.provisional import (
    RELIABLE,
    ReliableProvisional,
    Unacknowledged,
    first_rseq,
    is_possible,
    is_required,
    read_rack,
)
from aivc.sip.referral import name_addr_of, refer_fields
from aivc.sip.refreshing import judge
from aivc.sip.replacing import replaceable_at, replaces_of
from aivc.sip.scanner import AddressError
from aivc.sip.session_timer import Terms
from aivc.sip.transaction_layer import ServerTransaction

log = logging.getLogger("aivc.sip")

NO_PRACK: Final = "no PRACK came for the 180"


@attrs.define(eq=False, repr=False)
class IncomingLeg:
    """Implements `aivc.sip.leg.Leg`. Built by `receive_call`.

    Args:
      transaction: of the INVITE.
      offer: what the INVITE offered, until that is answered; None when it had no SDP: then the 2xx offers and the ACK
        answers.
      terms: of the session timer.
    """

    transaction: ServerTransaction
    offer: Accepted | None
    terms: Terms | None
    board: Board
    is_trusted: bool
    party: Party = attrs.field(init=False)
    _early: CallDialog = attrs.field(init=False)  # the dialog of the INVITE
    _provisional: ReliableProvisional | None = attrs.field(default=None, init=False)
    _ringing: Response | None = attrs.field(default=None, init=False)
    _expires: float = attrs.field(default=inf, init=False)  # when the caller wants no answer any more

    # What the service sees: aivc.sip.leg.Leg

    @property
    def call_id(self) -> str:
        return self.party.call_id

    @property
    def caller(self) -> str:
        request = self.transaction.request
        asserted = asserted_identity(request) if self.is_trusted else None
        return asserted or str(request.sender.uri)

    @property
    def dialled(self) -> str:
        return dialled_number(self.transaction.request)

    @property
    def agreement(self) -> AudioAgreement:
        return self.party.agreement

    @property
    def headers(self) -> Mapping[str, str]:
        """Without an identity that nobody whom we trust asserts: it must not be used (RFC 3325 section 8)."""
        found = self.transaction.request.headers.joined()
        if not self.is_trusted:
            found.pop(ASSERTED.lower(), None)
        return found

    @property
    def extra_params(self) -> str | None:
        return None

    @property
    def session_key(self) -> str | None:
        return None

    @property
    def source(self) -> Address:
        return self.transaction.arrival.source

    @property
    def events(self) -> EventQueue[LegEvent]:
        return self.party.events

    async def ring(self) -> None:
        """Again and again if wanted; reliably if the peer wants it so. An INVITE without an offer that requires
        reliable responses would have to get our offer with the first of them (RFC 3262 section 5), before there is
        anything to offer: it rings in silence."""
        headers = self.transaction.request.headers
        is_reliable = is_required(headers) or self.board.settings.reliable_provisional == "required"
        if self._early.phase is Phase.EARLY and not (is_reliable and self.offer is None):
            self._ring(is_reliable)
        await trio.lowlevel.checkpoint()

    async def answer(self, local: Address) -> None:
        if self._early.phase is Phase.EARLY:
            self._stop_ringing()
            self._early.media.local = local
            offer, self.offer = self.offer, None
            if self._early.answer_invite(self.transaction, offer, self.terms):
                self._log("sip.answered", codec=self.agreement.codec, media=format_host_port(*local))
            self._drop_early()
        await trio.lowlevel.checkpoint()

    async def reject(self, rejection: Rejection) -> None:
        if self._early.phase is Phase.EARLY:
            self._refuse(rejected(rejection, self._early.client.host), None)
        await trio.lowlevel.checkpoint()

    async def consult(self, uri: str, local: Address, seconds: float) -> Consultation:
        name_addr_of(uri)
        near = self.party.dialog.client
        wanted = Wanted(uri=uri, near=near, local=local, codec=self.agreement.codec)
        reached = await call_out(self.board, wanted, seconds)
        return Party.of(self.board, reached)

    async def refer(
        self,
        refer_to: str,
        referred_by: str,
        seconds: float,
        *,
        fields: Fields = (),
        replaces: Consultation | None = None,
    ) -> ReferOutcome:
        """Before the ACK has come it is waited for first, in the same `seconds`."""
        replaced = None
        if replaces is not None:
            if not isinstance(replaces, Party):
                raise ValueError("replaces is no consultation of this user agent")
            replaced = replaces_of(replaces.dialog.id)
            refer_to = replaceable_at(refer_to, replaces.dialog.client.dialog.remote_target)
        settings, supported = self.board.settings, self.board.capabilities.fields[1:]
        own = refer_fields(refer_to, referred_by, replaced)
        return await self.party.refer(sent_fields(own, supported, settings.refer_headers, fields), seconds)

    async def hang_up(self, reason: str, fields: Fields = (), *, status: int = 200) -> None:
        """Before the ACK has come it is waited for first, as long again (RFC 3261 section 15)."""
        await self.party.hang_up(reason, fields, status=status)

    # What the user agent and the dialog tell us: aivc.sip.call_dialog.Early

    def cancel(self) -> None:
        """The peer cancelled the INVITE; no effect once it is answered (section 9.2)."""
        if self._early.phase is Phase.EARLY:
            self._refuse(Refusal(487, "cancelled by the peer"), Cancelled())

    def take_prack(self, request: Request) -> Refusal | None:
        try:
            rack = read_rack(request)
        except AddressError as error:
            return Refusal(400, str(error))
        provisional = self._provisional
        if provisional is None or not provisional.take(rack):
            return Refusal(481, "no reliable response waits for this PRACK")
        self._drop_early()
        return None

    @property
    def deadline(self) -> float:
        resend = inf if self._provisional is None else self._provisional.deadline
        return min(resend, self._expires) if self._early.phase is Phase.EARLY else resend

    def expire(self, now: float) -> None:
        """Resend the 180, or give up (RFC 3262 section 3); end an INVITE that has expired (RFC 3261 section 13.3.1)."""
        if now >= self._expires and self._early.phase is Phase.EARLY:
            self._refuse(Refusal(487, "the Expires of the INVITE has passed"), Cancelled())
            return
        outcome = None if self._provisional is None else self._provisional.expire(now)
        if outcome is Unacknowledged.RESEND and self._ringing is not None:
            self.transaction.respond(self._ringing)
        elif outcome is Unacknowledged.GIVE_UP and self._early.phase is Phase.EARLY:
            self._refuse(Refusal(504, NO_PRACK), SignallingFailed(NO_PRACK))

    # Steps

    def begin(self, client: DialogClient, media: OfferAnswer) -> None:
        """List the dialog that the INVITE makes. For `receive_call`."""
        self.party = Party(self.board, client.dialog.call_id)
        self._early = CallDialog(client, media, self.board, self.party, early=self)
        self.party.dialog = self._early
        if self.offer is not None:
            self._early.take(self.offer)
        seconds = read_expires(self.transaction.request)
        if seconds is not None:
            self._expires = trio.current_time() + seconds
            self.board.layer.timers.watch(self)

    def close(self) -> None:
        """Nobody takes the call: nothing is sent."""
        self._early.finish(None)

    def _ring(self, is_reliable: bool) -> None:
        if self._provisional is not None:  # one reliable response is enough, and two at a time are forbidden
            return
        request, board = self.transaction.request, self.board
        fields = (self._early.client.contact_field, *board.capabilities.fields, SERVER_HEADER, *record_routes(request))
        if is_reliable:
            rseq, now = first_rseq(board.layer.new_token()), trio.current_time()
            self._provisional = ReliableProvisional(rseq, request.cseq.number, now)
            fields += self._provisional.fields
        self._ringing = board.respond(self.transaction, 180, fields)
        board.layer.timers.watch(self)

    def _drop_early(self) -> None:
        """Answered, and no PRACK to come: the dialog, which may outlive this, needs it no more."""
        if self._early.phase is not Phase.EARLY and (self._provisional is None or self._provisional.acknowledged):
            self._early.early = None

    def _stop_ringing(self) -> None:
        self._ringing = None
        if self._provisional is not None:
            self._provisional.stop()

    def _refuse(self, refusal: Refusal, event: LegEvent | None) -> None:
        self._stop_ringing()
        self.board.refuse(self.transaction, refusal)
        self._early.finish(event)

    def _log(self, name: str, **fields: Any) -> None:
        logs.event(log, name, call_id=self.call_id, **fields)


def receive_call(board: Board, transaction: ServerTransaction, *, is_trusted: bool) -> IncomingLeg | Refusal:
    """Make a leg of an INVITE that has passed inspection, or say why it is refused."""
    request, flow, settings = transaction.request, transaction.arrival.flow, board.settings
    if settings.reliable_provisional == "required" and not is_possible(request.headers):
        return Refusal(421, "without 100rel, which sip.reliable_provisional requires", (("Require", RELIABLE),))
    terms = judge(request.headers, settings.session_expires_seconds, settings.min_se_seconds)
    if isinstance(terms, Refusal):
        return terms
    try:
        dialog = Dialog.from_invite(request, transaction.tag)
    except AddressError as error:
        return Refusal(400, str(error))
    media = board.media_for(flow)
    offer = read_offer(media, session_body(request), flow.local[0])
    if isinstance(offer, Refusal):
        return offer
    leg = IncomingLeg(transaction, offer, terms, board, is_trusted)
    leg.begin(DialogClient.of_invite(dialog, transaction, board.credentials), media)
    return leg
