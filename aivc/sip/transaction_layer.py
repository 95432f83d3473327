"""The transaction layer, RFC 3261 section 17: matches messages to live transactions and performs their effects."""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf
from typing import Final, TypeVar

import attrs
import trio

from aivc import logs
from aivc.config.settings import Address
from aivc.sip.address import CSeq, Via, format_host_port
from aivc.sip.amplification import MAX_AMPLIFICATION, fitting
from aivc.sip.client_transaction import ClientTransaction, InviteTransaction, Report
from aivc.sip.flow import Arrival, Flow, Transports
from aivc.sip.message import Request, Response
from aivc.sip.timers import Timers
from aivc.sip.transaction import (
    Do,
    Input,
    State,
    Transaction,
    client_transaction,
    merge_key,
    sending,
    server_key,
    server_transaction,
)

log = logging.getLogger("aivc.sip")
Client = TypeVar("Client", bound=ClientTransaction)

MAX_TRANSACTIONS: Final = 8192  # each lives 32 s: 250 requests a second
MAX_STORED_OCTETS: Final = 16 * 1024 * 1024  # of their requests: 2 kB each, as real ones have; answers are as long
IN_DIALOG_RESERVE: Final = 1024  # beyond it for requests of live calls: a flood must not keep those from ending
WARNING_SECONDS: Final = 1.0  # at least, between two of the same


def nobody_is_proven(source: Address) -> bool:
    return False


@attrs.define(eq=False, repr=False)
class ServerTransaction:
    """One request of a peer and our last response to it."""

    request: Request
    arrival: Arrival
    key: tuple[str, ...]
    merge_key: tuple[str, ...] | None
    machine: Transaction
    layer: TransactionLayer
    tag: str  # of To in every response that we send
    octets: int  # of the request, which is kept as long as this
    via: Via  # its top one, stamped
    response: bytes = b""  # none, too, when it would amplify

    @property
    def deadline(self) -> float:
        return self.machine.deadline

    def respond(self, response: Response) -> None:
        """Send a response, or a 2xx once more; one that comes too late is absorbed."""
        event = sending(response.status)
        if self.machine.takes(event):
            self.response = self.layer.fit(response, self.arrival)
            self.handle(event)
            if self.machine.state is State.ACCEPTED:  # its user has what is to be sent again
                self.response = b""

    def fits(self, response: Response) -> bool:
        """Whether it may be sent at all, and is no answer that would amplify."""
        return bool(self.layer.fit(response, self.arrival))

    def handle(self, event: Input) -> list[Do]:
        """Feed the machine and send what it asks for; return its effects."""
        return self._perform(self.machine.handle(event, trio.current_time()))

    def expire(self, now: float) -> None:
        self._perform(self.machine.expire(now))

    def _perform(self, effects: list[Do]) -> list[Do]:
        for effect in effects:
            if effect is Do.SEND and self.response:
                self.layer.transports.answering(self.arrival, self.via).send_nowait(self.response)
            elif effect is Do.REPORT_TIMEOUT:
                logs.event(log, "sip.refusal_unacknowledged", call_id=self.request.call_id)
        self.layer.settle(self)
        return effects


@attrs.define(eq=False, repr=False)
class TransactionLayer:
    """All live transactions.

    Args:
      new_token: 16 random hexadecimal digits.
      is_proven: whether a UDP source has shown that it gets what we send to it; others get no long answers.
      mark: what tags and branches begin with, by which what comes back finds this one of several processes.
    """

    timers: Timers
    new_token: Callable[[], str]
    transports: Transports
    is_proven: Callable[[Address], bool] = nobody_is_proven
    mark: str = ""
    servers: dict[tuple[str, ...], ServerTransaction] = attrs.field(factory=dict, init=False)
    clients: dict[tuple[str, str], ClientTransaction] = attrs.field(factory=dict, init=False)
    merges: dict[tuple[str, ...], tuple[str, ...]] = attrs.field(factory=dict, init=False)  # merge key -> server key
    stored_octets: int = attrs.field(default=0, init=False)  # of the requests in `servers`
    stray_responses: int = attrs.field(default=0, init=False)
    amplifying: int = attrs.field(default=0, init=False)  # answers dropped for their length
    _warned: float = attrs.field(default=-inf, init=False)  # when of them

    def new_tag(self) -> str:
        """For tags and, after the magic cookie, branches."""
        return self.mark + self.new_token()

    def absorb(self, request: Request, octets: int) -> bool:
        """True when a live transaction took the request: a retransmission, or the ACK of a refusal.

        A retransmission is the same octets again; but anybody can write a much shorter request with the same branch,
        and would have us send the long answer to whom the first one named.
        """
        transaction = self.servers.get(server_key(request))
        if transaction is None:
            return False
        if request.method == "ACK":
            return Do.PASS not in transaction.handle(Input.ACK)
        arrival = transaction.arrival
        is_long = len(transaction.response) > MAX_AMPLIFICATION * octets and arrival.flow.transport == "UDP"
        if is_long and not self.is_proven(arrival.source):
            self.amplifying += 1
        else:
            transaction.handle(Input.REQUEST)
        return True

    def is_full(self, *, reserved: bool) -> bool:
        """True when no transaction may be made for a request; `reserved` is for those of calls that we have."""
        if reserved:
            most = MAX_TRANSACTIONS + IN_DIALOG_RESERVE
            return len(self.servers) >= most or self.stored_octets >= 2 * MAX_STORED_OCTETS
        return len(self.servers) >= MAX_TRANSACTIONS or self.stored_octets >= MAX_STORED_OCTETS

    def begin(self, request: Request, arrival: Arrival) -> ServerTransaction:
        """Make the transaction of a new request."""
        machine = server_transaction(request.method, reliable=arrival.flow.transport != "UDP")
        key, merge, tag = server_key(request), merge_key(request), self.new_tag()
        transaction = ServerTransaction(
            request, arrival, key, merge, machine, self, tag, octets=arrival.octets, via=request.via
        )
        self.servers[transaction.key] = transaction
        self.stored_octets += transaction.octets
        if transaction.merge_key is not None:
            self.merges.setdefault(transaction.merge_key, transaction.key)
        return transaction

    def is_merged(self, transaction: ServerTransaction) -> bool:
        """True for a second copy of a live request that came another way: answer 482 (section 8.2.2.2)."""
        merge = transaction.merge_key
        return merge is not None and self.merges[merge] != transaction.key

    def serving(self, request: Request) -> ServerTransaction | None:
        """The live transaction of a request."""
        return self.servers.get(server_key(request))

    def invited_by(self, cancel: Request) -> ServerTransaction | None:
        """The INVITE that a CANCEL is for (section 9.2)."""
        return self.servers.get(server_key(cancel, "INVITE"))

    def respond_statelessly(self, response: Response, arrival: Arrival) -> None:
        """Answer a request without a transaction, when there is no room for one (section 8.2.7)."""
        data = self.fit(response, arrival)
        if data:
            self.transports.answering(arrival, arrival.message.via).send_nowait(data)

    def fit(self, response: Response, arrival: Arrival) -> bytes:
        """What may be sent of an answer; empty when it would amplify, and counted then."""
        if arrival.flow.transport != "UDP" or self.is_proven(arrival.source):
            return bytes(response)
        data = fitting(response, arrival.octets)
        if data is None:
            self.amplifying += 1
            now, level = trio.current_time(), logging.DEBUG  # anybody can ask so, as often as they like
            if now - self._warned >= WARNING_SECONDS:
                self._warned, level = now, logging.WARNING
            source = format_host_port(*arrival.source)
            logs.event(log, "sip.answer_too_long", level=level, source=source, status=response.status)
        return data or b""

    def send(self, request: Request, flow: Flow, report: Report | None = None) -> ClientTransaction:
        """Send a request, not an INVITE, and resend it until it is answered."""
        machine = client_transaction(request.method, reliable=flow.transport != "UDP")
        return self._started(ClientTransaction(request, flow, machine, self, report))

    def invite(self, request: Request, flow: Flow, report: Report | None = None) -> InviteTransaction:
        """Send an INVITE; the 2xx are for who reads the reports to acknowledge."""
        machine = client_transaction(request.method, reliable=flow.transport != "UDP")
        return self._started(InviteTransaction(request, flow, machine, self, report))

    def _started(self, transaction: Client) -> Client:
        self.clients[transaction.key] = transaction
        transaction.start()
        return transaction

    def receive_response(self, response: Response) -> None:
        """Give a response to its request (section 17.1.3); strays are dropped and counted."""
        cseq: CSeq = response.cseq
        transaction = self.clients.get((response.via.branch or "", cseq.method))
        if transaction is None:
            self.stray_responses += 1
        else:
            transaction.receive(response)

    def settle(self, transaction: ServerTransaction | ClientTransaction) -> None:
        """After every step: watch the timers of a live transaction, forget a dead one."""
        if transaction.machine.state is not State.TERMINATED:
            self.timers.watch(transaction)
        elif isinstance(transaction, ClientTransaction):
            self.clients.pop(transaction.key, None)
        else:
            self.forget(transaction)

    def forget(self, transaction: ServerTransaction) -> None:
        """It is over, or never was to be: its request is answered without state."""
        if self.servers.pop(transaction.key, None) is not None:
            self.stored_octets -= transaction.octets
            merge = transaction.merge_key
            if merge is not None and self.merges.get(merge) == transaction.key:
                del self.merges[merge]
