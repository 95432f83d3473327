"""The built-in SIP user agent: transport, transactions and dialogs joined; incoming calls come out as legs."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.config.settings import Address, SipSettings
from aivc.sip import negotiation, sdp
from aivc.sip.address import format_host_port
from aivc.sip.dialog import Dialog, DialogId, dialog_id
from aivc.sip.incoming import IncomingLeg
from aivc.sip.inspection import (
    ACCEPT_HEADER,
    ALLOW_HEADER,
    IN_DIALOG_ONLY,
    SERVER_HEADER,
    SUPPORTED_HEADER,
    Refusal,
    dialled_number,
    inspect,
    inspect_number,
    not_acceptable,
    retry_after_header,
)
from aivc.sip.leg import Leg
from aivc.sip.message import Request, Response, answer_to
from aivc.sip.negotiation import Refused
from aivc.sip.scanner import AddressError
from aivc.sip.sdp import SdpError
from aivc.sip.timers import Timers
from aivc.sip.transaction_layer import ServerTransaction, TransactionLayer
from aivc.sip.transport import ARRIVALS, FLUSH, Arrival, Counters, Listener, open_listener

log = logging.getLogger("aivc.sip")

MAX_LEGS: Final = 10_240  # unanswered and running calls, above all that service.max_calls may allow
WAITING_LEGS: Final = 64  # legs that the service has not taken yet; it takes them at once or is stuck
RETRY_AFTER_SECONDS: Final = 10  # in our own 503s
SYSTEM_RANDOMNESS: Final = random.SystemRandom()


@attrs.frozen(kw_only=True)
class UserAgentStatistics:
    """Counts since the start, and what is alive now."""

    received: int  # messages served
    sent: int  # datagrams
    keep_alives: int
    garbage: int  # datagrams that are no SIP
    malformed: int  # broken requests, answered 400, 505 or 513
    unanswerable: int  # broken messages that cannot be answered
    overflow: int  # messages dropped because we are too slow
    unsent: int  # datagrams that could not be sent
    refused: int  # requests refused here (not by the service)
    stray_acks: int
    stray_responses: int
    failures: int  # messages that met a bug of ours
    server_transactions: int  # now
    client_transactions: int  # now
    legs: int  # now


@attrs.define(eq=False, repr=False)
class UserAgent:
    """Built by `open_user_agent`.

    Attributes:
      legs: incoming calls, each already answered 100 and waiting for `answer` or `reject`. Ends with the user agent.
      accepting: False makes OPTIONS answer 503, so that a dispatcher looks elsewhere; calls are refused by who takes
        the legs.
    """

    legs: trio.MemoryReceiveChannel[Leg]
    accepting: bool = attrs.field(default=True, init=False)
    _settings: SipSettings
    _listeners: tuple[Listener, ...]
    _waiting: trio.MemorySendChannel[Leg]
    _layer: TransactionLayer
    _counters: Counters
    _calls: dict[DialogId, IncomingLeg] = attrs.field(factory=dict, init=False)
    _refused: int = attrs.field(default=0, init=False)
    _stray_acks: int = attrs.field(default=0, init=False)
    _failures: int = attrs.field(default=0, init=False)

    @property
    def listening(self) -> tuple[Address, ...]:
        """The bound addresses, with the real ports."""
        return tuple(listener.address for listener in self._listeners)

    def statistics(self) -> UserAgentStatistics:
        return UserAgentStatistics(
            refused=self._refused,
            stray_acks=self._stray_acks,
            failures=self._failures,
            stray_responses=self._layer.stray_responses,
            server_transactions=len(self._layer.servers),
            client_transactions=len(self._layer.clients),
            legs=len(self._calls),
            **attrs.asdict(self._counters),
        )

    async def serve(self, arrivals: trio.MemoryReceiveChannel[Arrival]) -> None:
        """Take messages one by one until cancelled."""
        async for arrival in arrivals:
            try:
                if isinstance(arrival.message, Response):
                    self._layer.receive_response(arrival.message)
                else:
                    self._receive(arrival.message, arrival)
            except Exception as error:  # a bug of ours may cost one message, never all calls
                self._failures += 1
                call_id = arrival.message.call_id
                logs.event(log, "sip.bug", level=logging.ERROR, call_id=call_id, exc_info=error)

    def close(self) -> None:
        """End every leg without a word, and the channel of legs."""
        for leg in list(self._calls.values()):
            leg.close()
        self._waiting.close()

    def _receive(self, request: Request, arrival: Arrival) -> None:
        if self._layer.absorb(request):
            return
        if request.method == "ACK":
            leg = self._calls.get(dialog_id(request))
            if leg is None or not leg.acknowledge(request):
                self._stray_acks += 1
        elif self._layer.is_full(reserved=self._is_of_a_call(request)):
            self._refused += 1
            answer = answer_to(
                request.headers, 503, tag=self._layer.new_token(), extra=[retry_after_header(RETRY_AFTER_SECONDS)]
            )
            arrival.listener.send_nowait(bytes(answer), request.via.response_address())
        else:
            self._begin(self._layer.begin(request, arrival))

    def _is_of_a_call(self, request: Request) -> bool:
        """True when a call of ours hangs on this request; a To tag alone can be invented."""
        return dialog_id(request) in self._calls or (
            request.method == "CANCEL" and self._layer.invited_by(request) is not None
        )

    def _begin(self, transaction: ServerTransaction) -> None:
        """Serve a request that is no retransmission: RFC 3261 sections 8.2, 9.2 and 12.2.2."""
        request = transaction.request
        if request.method == "CANCEL":
            self._cancel(transaction)
            return
        refusal = inspect(request)
        leg = self._calls.get(dialog_id(request)) if request.to.tag is not None else None
        if refusal is not None:
            self._refuse(transaction, refusal)
        elif leg is not None:
            leg.serve(transaction)
        elif request.to.tag is not None or request.method in IN_DIALOG_ONLY:
            self._refuse(transaction, Refusal(481, "no such dialog"))
        elif self._layer.is_merged(transaction):
            self._refuse(transaction, Refusal(482, "the same request came another way"))
        elif request.method == "OPTIONS":
            self._options(transaction)
        else:
            self._invite(transaction)

    def _cancel(self, transaction: ServerTransaction) -> None:
        invited = self._layer.invited_by(transaction.request)
        if invited is None:
            self._refuse(transaction, Refusal(481, "nothing to cancel"))
            return
        transaction.respond(answer_to(transaction.request.headers, 200, tag=invited.tag))
        leg = self._calls.get((invited.request.call_id, invited.tag, invited.request.sender.tag or ""))
        if leg is not None:
            leg.cancel()

    def _options(self, transaction: ServerTransaction) -> None:
        """As an INVITE would fare (section 11.2)."""
        request = transaction.request
        refusal = inspect_number(request, self._settings.numbers) if dialled_number(request) else None
        if not self.accepting:
            refusal = Refusal(503, "not accepting calls", (retry_after_header(RETRY_AFTER_SECONDS),))
        if refusal is not None:
            self._refuse(transaction, refusal)
            return
        extra = (ALLOW_HEADER, ACCEPT_HEADER, SUPPORTED_HEADER, SERVER_HEADER)
        transaction.respond(answer_to(request.headers, 200, tag=transaction.tag, extra=extra))

    def _invite(self, transaction: ServerTransaction) -> None:
        """Make a leg of it and hand it over, or refuse."""
        outcome = self._admit(transaction)
        if isinstance(outcome, Refusal):
            self._refuse(transaction, outcome)
            return
        try:
            self._waiting.send_nowait(outcome)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            outcome.close()
            self._refuse(transaction, Refusal(503, "nobody takes calls", (retry_after_header(RETRY_AFTER_SECONDS),)))
            return
        transaction.respond(answer_to(transaction.request.headers, 100))
        source = format_host_port(*outcome.source)
        logs.event(log, "sip.invited", call_id=outcome.call_id, source=source, dialled=outcome.dialled)

    def _admit(self, transaction: ServerTransaction) -> IncomingLeg | Refusal:
        request, arrival = transaction.request, transaction.arrival
        refusal = inspect_number(request, self._settings.numbers)
        if len(self._calls) >= MAX_LEGS:
            refusal = Refusal(503, "too many calls", (retry_after_header(RETRY_AFTER_SECONDS),))
        if refusal is not None:
            return refusal
        own = (arrival.local_host, arrival.listener.address[1])
        try:
            dialog = Dialog.from_invite(request, transaction.tag)
            description = sdp.parse_untrusted(request.body) if request.body else None
        except (AddressError, SdpError) as error:
            return Refusal(400, str(error))
        offer = None if description is None else negotiation.accept(description, forbidden=(own,))
        if isinstance(offer, Refused):
            return not_acceptable(offer, arrival.local_host)
        return IncomingLeg(transaction, dialog, offer, self._layer, self._settings, self._calls)

    def _refuse(self, transaction: ServerTransaction, refusal: Refusal) -> None:
        self._refused += 1
        request = transaction.request
        source = format_host_port(*transaction.arrival.source)
        logs.event(
            log,
            "sip.refused",
            call_id=request.call_id,
            method=request.method,
            source=source,
            status=refusal.status,
            cause=refusal.cause,
        )
        transaction.respond(refusal.answer(request.headers, transaction.tag))


@asynccontextmanager
async def open_user_agent(
    settings: SipSettings, randomness: random.Random = SYSTEM_RANDOMNESS
) -> AsyncIterator[UserAgent]:
    """Listen for calls until the block ends; then every socket is closed at once, and nothing lingers.

    Errors from the block arrive in an ExceptionGroup, as from any nursery.

    Args:
      settings: `listen`, `external_ip`, `numbers` and `hang_up_seconds` are used.
      randomness: for tags, branches and session ids; tests give a seeded one.

    Raises:
      ValueError: a bad entry in `settings.listen`.
      OSError: a port is taken, or an address is not ours.
    """
    with ExitStack() as sockets:
        counters = Counters()
        listeners: list[Listener] = []
        for entry in settings.listen:
            listeners.append(await open_listener(entry, settings.external_ip, counters))
            sockets.enter_context(listeners[-1].socket)
        timers = Timers()
        layer = TransactionLayer(timers, lambda: f"{randomness.getrandbits(64):016x}")
        waiting, legs = trio.open_memory_channel[Leg](WAITING_LEGS)
        arrived, arrivals = trio.open_memory_channel[Arrival](ARRIVALS)
        agent = UserAgent(legs, settings, tuple(listeners), waiting, layer, counters)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(agent.serve, arrivals)
                nursery.start_soon(timers.run)
                for listener in listeners:
                    nursery.start_soon(listener.receive, arrived)
                    nursery.start_soon(listener.transmit)
                yield agent
                nursery.cancel_scope.cancel()
        finally:
            agent.close()
            with trio.move_on_after(FLUSH, shield=True):
                for listener in listeners:
                    listener.close_outbox()
                    await listener.transmit()
