"""One incoming call: the INVITE server's user (RFC 3261 sections 9.2, 13.3, 14.2 and 15) behind the `Leg` interface.

Every method that does not await is one step: the user agent calls them as messages come and timers fire.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Mapping, MutableMapping
from math import inf
from typing import Any, Final

import attrs
import trio

from aivc import logs
from aivc.config.settings import Address, SipSettings
from aivc.sip import info, negotiation
from aivc.sip.address import format_host_port
from aivc.sip.dialog import Acknowledgement, AwaitedAck, Dialog, DialogId, contact_uri
from aivc.sip.dialog_client import DialogClient
from aivc.sip.info import InfoError
from aivc.sip.inspection import (
    ACCEPT_HEADER,
    ALLOW_HEADER,
    SDP_TYPE,
    SERVER_HEADER,
    SUPPORTED_HEADER,
    Refusal,
    dialled_number,
    not_acceptable,
    reason_header,
    retry_after_header,
    warning_header,
)
from aivc.sip.leg import (
    AckMissing,
    AudioAgreement,
    Cancelled,
    HungUp,
    LegEvent,
    MediaChanged,
    ReferOutcome,
    Rejection,
)
from aivc.sip.message import Request, Response, answer_to
from aivc.sip.negotiation import Accepted, Origin, Refused
from aivc.sip.offeranswer import OfferAnswer
from aivc.sip.referral import NO_ANSWER, NO_CALL, refer_fields
from aivc.sip.scanner import AddressError
from aivc.sip.sdp import SdpError
from aivc.sip.transaction_layer import ClientTransaction, ServerTransaction, TransactionLayer
from aivc.sip.transfers import Transfers

log = logging.getLogger("aivc.sip")

EVENTS: Final = 8  # more unread ones mean that nobody serves the call; the last place is kept for its end
MAX_RETRY_SECONDS: Final = 10  # RFC 3261 section 14.2: a random Retry-After from 0 to 10


class Phase(enum.Enum):
    PROCEEDING = enum.auto()  # no final response yet
    ANSWERED = enum.auto()  # 2xx sent
    LEAVING = enum.auto()  # our BYE is on its way
    OVER = enum.auto()


@attrs.define(eq=False)
class AwaitedAnswer:
    """A 2xx of ours without its ACK."""

    transaction: ServerTransaction
    response: Response
    timer: AwaitedAck
    offered: bool  # our SDP in it was an offer: the ACK brings the answer
    acknowledged: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(eq=False, repr=False)
class IncomingLeg:
    """Implements `aivc.sip.leg.Leg`.

    Args:
      transaction: of the INVITE.
      offer: what the INVITE offered; None when it had no SDP: then the 2xx offers and the ACK answers.
      registry: the live legs by dialog; the leg takes itself out when it is over.
    """

    transaction: ServerTransaction
    dialog: Dialog
    offer: Accepted | None
    layer: TransactionLayer
    settings: SipSettings
    registry: MutableMapping[DialogId, IncomingLeg]
    events: trio.MemoryReceiveChannel[LegEvent] = attrs.field(init=False)
    _sender: trio.MemorySendChannel[LegEvent] = attrs.field(init=False)
    _phase: Phase = attrs.field(default=Phase.PROCEEDING, init=False)
    _awaited: AwaitedAnswer | None = attrs.field(default=None, init=False)
    _client: DialogClient = attrs.field(init=False)
    _media: OfferAnswer = attrs.field(init=False)
    _transfers: Transfers = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._client = DialogClient(self.dialog, self.transaction, self.layer)
        agreement = negotiation.tentative_agreement() if self.offer is None else self.offer.agreement
        origin = Origin(int(self.layer.new_token(), 16) >> 2)  # fits a signed 64-bit integer everywhere
        self._media = OfferAnswer(agreement, self._client.address, origin)
        self._transfers = Transfers(self._client.send)
        self._sender, self.events = trio.open_memory_channel[LegEvent](EVENTS)
        self.registry[self.dialog.id] = self

    # What the service sees: aivc.sip.leg.Leg

    @property
    def call_id(self) -> str:
        return self.dialog.call_id

    @property
    def caller(self) -> str:
        return str(self.transaction.request.sender.uri)

    @property
    def dialled(self) -> str:
        return dialled_number(self.transaction.request)

    @property
    def agreement(self) -> AudioAgreement:
        return self._media.agreement

    @property
    def headers(self) -> Mapping[str, str]:
        return self.transaction.request.headers.joined()

    @property
    def source(self) -> Address:
        return self.transaction.arrival.source

    async def ring(self) -> None:
        if self._phase is Phase.PROCEEDING:
            self._respond(self.transaction, 180, (self._client.contact_field, *self._record_routes(self.transaction)))
        await trio.lowlevel.checkpoint()

    async def answer(self, local: Address) -> None:
        if self._phase is Phase.PROCEEDING:
            self._phase, self._media.local = Phase.ANSWERED, local
            if self.offer is None:
                self._succeed(self.transaction, self._media.offer(), offered=True)
            else:
                self._succeed(self.transaction, self._media.answer(self.offer), offered=False)
            self._log("sip.answered", codec=self.agreement.codec, media=format_host_port(*local))
        await trio.lowlevel.checkpoint()

    async def reject(self, rejection: Rejection) -> None:
        if self._phase is Phase.PROCEEDING:
            headers = [
                warning_header(negotiation.WARN_OTHER, self._client.host, rejection.cause),
                reason_header(rejection.cause, rejection.status),
            ]
            if rejection.retry_after_seconds is not None:
                headers.append(retry_after_header(rejection.retry_after_seconds))
            self._refuse(self.transaction, Refusal(rejection.status, rejection.cause, tuple(headers)))
            self._finish(None)
        await trio.lowlevel.checkpoint()

    async def refer(self, refer_to: str, referred_by: str, seconds: float) -> ReferOutcome:
        """Before the ACK has come it is waited for first, in the same `seconds`."""
        fields = (self._client.contact_field, *refer_fields(refer_to, referred_by))
        deadline = trio.current_time() + seconds
        await trio.lowlevel.checkpoint()
        with trio.move_on_at(deadline):
            while self._awaited is not None:
                await self._awaited.acknowledged.wait()
        if self._phase is not Phase.ANSWERED or self._awaited is not None:
            return ReferOutcome(None, NO_CALL if self._awaited is None else NO_ANSWER)
        outcome = await self._transfers.refer(fields, deadline - trio.current_time())
        self._log("sip.referred", status=outcome.status, outcome=outcome.text, accepted=outcome.accepted)
        return outcome

    async def hang_up(self, reason: str) -> None:
        """Before the ACK has come it is waited for first, as long again (RFC 3261 section 15)."""
        if self._phase is not Phase.ANSWERED:
            return
        self._phase = Phase.LEAVING
        bye = None
        try:
            if self._awaited is not None:
                with trio.move_on_after(self.settings.hang_up_seconds):
                    await self._awaited.acknowledged.wait()
            if not self.is_over:
                bye = self._send_bye(reason)
                with trio.move_on_after(self.settings.hang_up_seconds):
                    await bye.done.wait()
        finally:
            if bye is None and not self.is_over:  # cancelled while waiting: the peer must learn it all the same
                self._send_bye(reason)
            self._finish(None)

    # What the user agent tells us

    @property
    def is_over(self) -> bool:
        return self._phase is Phase.OVER

    @property
    def deadline(self) -> float:
        return inf if self._awaited is None else self._awaited.timer.deadline

    def expire(self, now: float) -> None:
        """Resend the 2xx, or give up (section 13.3.1.4)."""
        awaited = self._awaited
        outcome = None if awaited is None else awaited.timer.expire(now)
        if awaited is None or outcome is None:
            return
        if outcome is Acknowledgement.RESEND:
            awaited.transaction.respond(awaited.response)
            return
        self._log("sip.ack_missing", contact=self._client.contact)
        self._send_bye("no ACK received")
        self._finish(AckMissing(self._client.contact))

    def cancel(self) -> None:
        """The peer cancelled the INVITE; no effect once it is answered (section 9.2)."""
        if self._phase is Phase.PROCEEDING:
            self._refuse(self.transaction, Refusal(487, "cancelled by the peer"))
            self._finish(Cancelled())

    def acknowledge(self, ack: Request) -> bool:
        """Take the ACK of a 2xx; False when none is awaited, or another."""
        awaited = self._awaited
        if awaited is None or ack.cseq.number != awaited.transaction.request.cseq.number:
            return False
        self._awaited = None
        awaited.acknowledged.set()
        if awaited.offered:
            self._take_answer(ack.body)
        return True

    def serve(self, transaction: ServerTransaction) -> None:
        """Answer a request in the dialog that has passed inspection."""
        request = transaction.request
        if not self.dialog.takes_in_order(request):
            self._refuse(transaction, Refusal(500, "CSeq out of order"))
        elif request.method == "BYE":
            self._hung_up(transaction)
        elif request.method == "OPTIONS":
            self._respond(transaction, 200, (ALLOW_HEADER, ACCEPT_HEADER, SUPPORTED_HEADER))
        elif request.method == "INFO":
            self._answer(transaction, self._informed(request))
        elif request.method == "NOTIFY":
            self._answer(transaction, self._transfers.take_notify(request))
        else:
            self._reinvited(transaction)

    def close(self) -> None:
        """The user agent ends: nothing is sent, whoever waits for events is woken."""
        self._finish(None)

    # Steps

    def _hung_up(self, transaction: ServerTransaction) -> None:
        self._respond(transaction, 200)
        if self._phase is Phase.PROCEEDING:  # a BYE may end an early dialog too (section 15)
            self.cancel()
        else:
            self._log("sip.bye_received")
            self._finish(HungUp())

    def _informed(self, request: Request) -> Refusal | None:
        """A key, or nothing at all: some peers keep a dialog alive so."""
        try:
            digit = info.parse_untrusted(request.body) if request.body else None
        except InfoError as error:
            return Refusal(400, str(error))
        if digit is not None and self._phase is Phase.ANSWERED:
            if not self._has_room:
                return Refusal(500, "too many events", (retry_after_header(1),))
            self._emit(digit)
        return None

    def _reinvited(self, transaction: ServerTransaction) -> None:
        if self._phase is Phase.LEAVING:
            self._refuse(transaction, Refusal(481, "the call is being hung up"))
            return
        if self._phase is Phase.PROCEEDING or self._awaited is not None or not self._has_room:
            seconds = int(self.layer.new_token(), 16) % (MAX_RETRY_SECONDS + 1)
            self._refuse(transaction, Refusal(500, "an INVITE is still open", (retry_after_header(seconds),)))
            return
        try:
            target = contact_uri(transaction.request)
            offer = self._media.read(transaction.request.body) if transaction.request.body else None
        except (AddressError, SdpError) as error:
            self._refuse(transaction, Refusal(400, str(error)))
            return
        if isinstance(offer, Refused):
            self._refuse(transaction, not_acceptable(offer, self._client.host))
            return
        self.dialog.remote_target = target
        if offer is None:
            self._succeed(transaction, self._media.offer(), offered=True)
        else:
            self._succeed(transaction, self._media.answer(offer), offered=False)
            self._change(offer.agreement)

    def _take_answer(self, body: bytes) -> None:
        """The ACK answered our offer. Without a usable answer an old session goes on, and a new one cannot."""
        try:
            outcome = self._media.read(body)
        except SdpError as error:
            outcome = Refused(str(error))
        if isinstance(outcome, Accepted):
            self._change(outcome.agreement)
            return
        self._log("sip.unusable_answer", cause=outcome.cause)
        if self.agreement == negotiation.tentative_agreement() and self._phase is Phase.ANSWERED:
            self._send_bye(outcome.cause, status=488)
            self._finish(HungUp())

    def _change(self, agreement: AudioAgreement) -> None:
        if agreement != self.agreement:
            self._media.agreement = agreement
            self._emit(MediaChanged(agreement))

    def _succeed(self, transaction: ServerTransaction, description: bytes, *, offered: bool) -> None:
        headers = [
            self._client.contact_field,
            ALLOW_HEADER,
            SUPPORTED_HEADER,
            SERVER_HEADER,
            *self._record_routes(transaction),
        ]
        headers.append(("Content-Type", SDP_TYPE))
        response = self._respond(transaction, 200, tuple(headers), description)
        self._awaited = AwaitedAnswer(transaction, response, AwaitedAck(trio.current_time()), offered)
        self.layer.timers.watch(self)

    def _refuse(self, transaction: ServerTransaction, refusal: Refusal) -> None:
        self._log("sip.refused", method=transaction.request.method, status=refusal.status, cause=refusal.cause)
        transaction.respond(refusal.answer(transaction.request.headers, transaction.tag))

    def _answer(self, transaction: ServerTransaction, refusal: Refusal | None) -> None:
        if refusal is None:
            self._respond(transaction, 200)
        else:
            self._refuse(transaction, refusal)

    def _respond(
        self, transaction: ServerTransaction, status: int, extra: tuple[tuple[str, str], ...] = (), body: bytes = b""
    ) -> Response:
        headers = transaction.request.headers
        response = answer_to(headers, status, tag=transaction.tag, extra=extra, body=body)
        transaction.respond(response)
        return response

    def _send_bye(self, text: str, status: int = 200) -> ClientTransaction:
        self._stop_awaiting()
        self._log("sip.bye_sent", reason=text)
        return self._client.send("BYE", (reason_header(text, status),))

    def _finish(self, event: LegEvent | None) -> None:
        """The leg is over: tell so once, and forget it."""
        if self.is_over:
            return
        self._phase = Phase.OVER
        self._stop_awaiting()
        self._transfers.close("the caller hung up" if isinstance(event, HungUp) else "the call is over")
        if event is not None:
            self._emit(event)
        self._sender.close()
        self.registry.pop(self.dialog.id, None)

    def _stop_awaiting(self) -> None:
        if self._awaited is not None:
            self._awaited.acknowledged.set()
            self._awaited = None

    @property
    def _has_room(self) -> bool:
        return self._sender.statistics().current_buffer_used < EVENTS - 1

    def _emit(self, event: LegEvent) -> None:
        try:
            self._sender.send_nowait(event)
        except (trio.WouldBlock, trio.BrokenResourceError):
            self._log("sip.event_dropped", event_type=type(event).__name__)

    def _record_routes(self, transaction: ServerTransaction) -> list[tuple[str, str]]:
        """Copied in order into what makes a dialog (section 12.1.1)."""
        return [("Record-Route", value) for value in transaction.request.headers.lines("Record-Route")]

    def _log(self, name: str, **fields: Any) -> None:
        logs.event(log, name, call_id=self.dialog.call_id, **fields)
