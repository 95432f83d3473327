"""Where each message goes: to its transaction, its dialog, or to nobody (RFC 3261 sections 8.2, 9.2, 12.2.2 and 17)."""

from __future__ import annotations

import logging
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.sip import takeover
from aivc.sip.address import format_host_port
from aivc.sip.authentication import Authentication
from aivc.sip.call_dialog import Board, CallDialog
from aivc.sip.dialog import dialog_id
from aivc.sip.flow import Arrival
from aivc.sip.incoming import receive_call
from aivc.sip.inspection import (
    ACCEPT_HEADER,
    IN_DIALOG_ONLY,
    SERVER_HEADER,
    Refusal,
    dialled_number,
    inspect,
    inspect_number,
    retry_after_header,
)
from aivc.sip.leg import Leg
from aivc.sip.log_pace import LogPace
from aivc.sip.message import Request, Response, answer_to
from aivc.sip.refusals import Cause
from aivc.sip.replacing import read_replaces
from aivc.sip.sources import Verdict
from aivc.sip.stateless import stateless_tag
from aivc.sip.transaction_layer import ServerTransaction

log = logging.getLogger("aivc.sip")

MAX_LEGS: Final = 10_240  # unanswered and running calls, above all that service.max_calls may allow
WAITING_LEGS: Final = 64  # legs that the service has not taken yet; it takes them at once or is stuck
RETRY_AFTER_SECONDS: Final = 10  # in our own 503s


@attrs.define(eq=False, repr=False)
class Reception:
    """Serves every message of one user agent. Each is one step.

    Args:
      waiting: where legs go.

    Attributes:
      accepting: False makes OPTIONS answer 503, so that a dispatcher looks elsewhere.
    """

    board: Board
    authentication: Authentication
    waiting: trio.MemorySendChannel[Leg]
    accepting: bool = attrs.field(default=True, init=False)
    challenged: int = attrs.field(default=0, init=False)
    dropped: int = attrs.field(default=0, init=False)
    slowed: int = attrs.field(default=0, init=False)
    stray_acks: int = attrs.field(default=0, init=False)
    failures: int = attrs.field(default=0, init=False)
    _pace: LogPace = attrs.field(factory=LogPace, init=False)

    async def serve(self, arrivals: trio.MemoryReceiveChannel[Arrival]) -> None:
        """Take messages one by one until cancelled."""
        async for arrival in arrivals:
            try:
                if isinstance(arrival.message, Response):
                    self.board.layer.receive_response(arrival.message)
                else:
                    self._receive(arrival.message, arrival)
            except Exception as error:  # a bug of ours may cost one message, never all calls
                self.failures += 1
                call_id = arrival.message.call_id
                logs.event(log, "sip.bug", level=logging.ERROR, call_id=call_id, exc_info=error)
                self._fail(arrival.message)

    def _fail(self, message: Request | Response) -> None:
        """A request that met a bug is answered all the same: a transaction without a final response never ends."""
        transaction = self.board.layer.serving(message) if isinstance(message, Request) else None
        if transaction is not None and transaction.request is message:  # and no earlier copy of it
            self.board.refuse(transaction, Refusal(500, "a bug"))

    # Before a transaction

    def _receive(self, request: Request, arrival: Arrival) -> None:
        layer = self.board.layer
        if layer.absorb(request, arrival.octets):
            return
        dialog = self.board.dialogs.get(dialog_id(request))
        if dialog is not None and arrival.source == dialog.client.origin:  # it says the tag that we sent there
            self.board.sources.prove(arrival.source)
        if request.method == "ACK":
            self.stray_acks += dialog is None or not dialog.acknowledge(request)
            return
        is_cancel = request.method == "CANCEL" and layer.invited_by(request) is not None
        reserved = dialog is not None or is_cancel
        is_end = reserved and request.method in ("BYE", "CANCEL")  # one for each call at most: there is always room
        if self._is_wanted(request, arrival, reserved=reserved):
            if dialog is not None and not is_end and not dialog.is_patient():
                self._slow_down(request, arrival, busy("too many requests in one call", Cause.TOO_MANY_REQUESTS))
            elif not is_end and layer.is_full(reserved=reserved):
                self._slow_down(request, arrival, busy("too many transactions"))
            else:
                self._begin(layer.begin(request, arrival), dialog)

    def _is_wanted(self, request: Request, arrival: Arrival, *, reserved: bool) -> bool:
        """Whether the request is to be served; others are dealt with."""
        verdict = self.board.sources.judge(request, arrival.source[0], trio.current_time(), reserved)
        match verdict:
            case Verdict.SERVE:
                return True
            case Verdict.DROP:
                self.dropped += 1
            case Verdict.FORBID:
                self._answer_statelessly(request, arrival, Refusal(403, "not of sip.allow, or a scanner"))
            case Verdict.SLOW_DOWN:
                self._slow_down(request, arrival, busy("more than sip.requests_per_second", Cause.TOO_MANY_REQUESTS))
        return False

    def _slow_down(self, request: Request, arrival: Arrival, refusal: Refusal) -> None:
        self.slowed += 1
        self._answer_statelessly(request, arrival, refusal)

    def _answer_statelessly(self, request: Request, arrival: Arrival, refusal: Refusal) -> None:
        source = format_host_port(*arrival.source)
        self.board.note_refusal(request, refusal, level=self._level_of(refusal), source=source)
        response = refusal.answer(request.headers, stateless_tag(request.headers))
        self.board.layer.respond_statelessly(response, arrival)

    def _level_of(self, refusal: Refusal) -> int:
        """At which to log it."""
        return self._pace.level_of(refusal.status, trio.current_time())

    # With a transaction

    def _begin(self, transaction: ServerTransaction, dialog: CallDialog | None) -> None:
        """Serve a request that is no retransmission: RFC 3261 sections 8.2, 9.2 and 12.2.2."""
        request, layer = transaction.request, self.board.layer
        if request.method == "CANCEL":
            self._cancel(transaction)
            return
        refusal = inspect(request, self.board.capabilities)
        if refusal is not None:
            self._refuse(transaction, refusal)
        elif dialog is not None and request.to.tag is not None:
            dialog.serve(transaction)
        elif request.to.tag is not None or request.method in IN_DIALOG_ONLY:
            self._refuse(transaction, Refusal(481, "no such dialog"))
        elif layer.is_merged(transaction):
            self._refuse(transaction, Refusal(482, "the same request came another way"))
        elif request.method == "REFER":
            self._refuse(transaction, Refusal(603, "REFER is followed inside a call only"))
        elif request.method == "OPTIONS":
            self._options(transaction)
        else:
            self._invite(transaction)

    def _cancel(self, transaction: ServerTransaction) -> None:
        invited = self.board.layer.invited_by(transaction.request)
        if invited is None:
            self._refuse(transaction, Refusal(481, "nothing to cancel"))
            return
        transaction.respond(answer_to(transaction.request.headers, 200, tag=invited.tag))
        request = invited.request
        dialog = self.board.dialogs.get((request.call_id, invited.tag, request.sender.tag or ""))
        if dialog is not None and dialog.early is not None:
            dialog.early.cancel()

    def _options(self, transaction: ServerTransaction) -> None:
        """As an INVITE would fare (section 11.2)."""
        request = transaction.request
        refusal = inspect_number(request, self.board.settings.numbers) if dialled_number(request) else None
        if not self.accepting:
            refusal = busy("not accepting calls")
        if refusal is not None:
            self._refuse(transaction, refusal)
        else:
            self.board.respond(transaction, 200, (*self.board.capabilities.fields, ACCEPT_HEADER, SERVER_HEADER))

    def _invite(self, transaction: ServerTransaction) -> None:
        """Make a leg of it and hand it over, let it take the place of another dialog, or refuse."""
        refusal = self._admit(transaction)
        if refusal is not None:
            self._refuse(transaction, refusal)

    def _admit(self, transaction: ServerTransaction) -> Refusal | None:
        request, source = transaction.request, transaction.arrival.source
        wanted = read_replaces(request.headers)
        refusal = self._challenge(transaction)
        if refusal is not None:
            return refusal
        replaced = wanted if wanted is None or isinstance(wanted, Refusal) else takeover.find(self.board, wanted)
        if isinstance(replaced, CallDialog):
            return takeover.take_over(self.board, transaction, replaced)
        refusal = replaced or inspect_number(request, self.board.settings.numbers)
        if refusal is not None:
            return refusal
        if len(self.board.dialogs) >= MAX_LEGS:
            return busy("too many calls")
        is_trusted = self.board.sources.is_trusted(source[0])
        leg = receive_call(self.board, transaction, is_trusted=is_trusted)
        if isinstance(leg, Refusal):
            return leg
        try:
            self.waiting.send_nowait(leg)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            leg.close()
            return busy("nobody takes calls")
        transaction.respond(answer_to(request.headers, 100))
        transport = transaction.arrival.flow.transport
        where = format_host_port(*source)
        logs.event(log, "sip.invited", call_id=leg.call_id, source=where, transport=transport, dialled=leg.dialled)
        return None

    def _challenge(self, transaction: ServerTransaction) -> Refusal | None:
        """Who is neither a trunk nor a server of ours must prove to be a user, if there are any (section 22)."""
        sources, source = self.board.sources, transaction.arrival.source
        if sources.is_trusted(source[0]) or sources.is_expected(source[0]):
            return None
        refusal = self.authentication.challenge(transaction.request, source[0], trio.current_time())
        if refusal is not None:
            self.challenged += refusal.status == 401
        elif self.board.settings.users:
            sources.prove(source)
        return refusal

    def _refuse(self, transaction: ServerTransaction, refusal: Refusal) -> None:
        if refusal.status == 401:  # once and without state, for whoever it is (section 26.3.2.4)
            self.board.layer.forget(transaction)
            self._answer_statelessly(transaction.request, transaction.arrival, refusal)
            return
        source, level = format_host_port(*transaction.arrival.source), self._level_of(refusal)
        self.board.refuse(transaction, refusal, level=level, source=source)


def busy(text: str, cause: Cause = Cause.OVERLOADED) -> Refusal:
    return Refusal(503, text, (retry_after_header(RETRY_AFTER_SECONDS),), cause.value)
