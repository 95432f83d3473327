"""Transactions as OpenSIPS's module tm has them, over UDP: with its timers, which are not those of RFC 3261.

A final response to INVITE is repeated until the ACK comes, but only for `fr_timeout`; then tm gives up without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
import trio

from aivc.config.settings import Address
from aivc.sip.message import Request, Response
from aivc.sip.transaction import T1, T2, ack_of_failure, cancel_of, server_key
from aivc.testing.opensips_port import Port
from aivc.testing.opensips_wording import Received, request_octets, response_octets

LINGER: Final = 5.0  # seconds that an ended transaction absorbs copies: wt_timer
Report = Callable[[Received | None], None]  # a response, without 100; None: there was none


@attrs.define(eq=False, repr=False)
class ServerTransaction:
    """One request that came in.

    Attributes:
      status: of our last response; 0: none yet.
      began_at: trio's clock.
    """

    received: Received
    request: Request
    transactions: Transactions
    status: int = 0
    acknowledged: bool = False
    began_at: float = attrs.field(factory=trio.current_time)
    _response: bytes = b""

    @property
    def method(self) -> str:
        return self.request.method

    def respond(self, status: int, reason: str, tag: str, lines: bytes = b"", body: bytes = b"") -> bool:
        """Send a response; False when a final one has been sent before."""
        if self.status >= 200:
            return False
        self.status = status
        self._response = response_octets(self.request, status, reason, tag, lines, body)
        self.repeat()
        if status >= 200:
            self.transactions.tasks.start_soon(self._complete)
        return True

    def repeat(self) -> None:
        """Send the last response again, if there is one."""
        if self._response:
            self.transactions.port.send_nowait(self._response, self.request.via.response_address())

    async def _complete(self) -> None:
        """Task: repeat a final response to INVITE, linger, forget."""
        if self.method == "INVITE":
            interval = T1
            with trio.move_on_after(self.transactions.fr_timeout):
                while not self.acknowledged:
                    await trio.sleep(interval)
                    interval = min(2 * interval, T2)
                    if not self.acknowledged:
                        self.repeat()
        await trio.sleep(LINGER)
        self.transactions.forget(self)


@attrs.define(eq=False, repr=False)
class ClientTransaction:
    """One request of ours, until its final response or `fr_timeout`; `fr_inv_timeout` once an INVITE rings."""

    request: Request
    to: Address
    transactions: Transactions
    report: Report | None
    ack: bytes = b""  # for the 2xx, sent again when that comes again
    _data: bytes = b""
    _is_cancelled: bool = False
    _ringing: trio.Event = attrs.field(factory=trio.Event)
    _done: trio.Event = attrs.field(factory=trio.Event)

    @property
    def is_done(self) -> bool:
        return self._done.is_set()

    def start(self, data: bytes) -> None:
        self._data = data
        self.transactions.port.send_nowait(data, self.to)
        self.transactions.tasks.start_soon(self._run)

    async def _run(self) -> None:
        """Task: send until there is an answer."""
        interval = T1
        port, is_invite = self.transactions.port, self.request.method == "INVITE"
        with trio.move_on_after(self.transactions.fr_timeout):
            while not (self.is_done or (is_invite and self._ringing.is_set())):
                with trio.move_on_after(interval):
                    await (self._ringing if is_invite else self._done).wait()
                    break
                port.send_nowait(self._data, self.to)
                interval = min(2 * interval, T2)
        if self._ringing.is_set() and is_invite:
            with trio.move_on_after(self.transactions.fr_inv_timeout):
                await self._done.wait()
        if not self.is_done:
            if self._ringing.is_set():
                self.cancel()
            self._done.set()
            self._tell(None)
        await trio.sleep(LINGER)
        self.transactions.clients.pop(client_key(self.request), None)

    def cancel(self) -> None:
        """Send CANCEL for an INVITE as soon as it rings (RFC 3261 section 9.1)."""
        self._is_cancelled = True
        if self._ringing.is_set():
            self._send_cancel()

    def _send_cancel(self) -> None:
        request = cancel_of(self.request)
        self.transactions.ask(request, self.to, request_octets(request), None)

    def receive(self, received: Received) -> None:
        response = received.message
        assert isinstance(response, Response)
        is_invite = self.request.method == "INVITE"
        if response.status >= 300 and is_invite:
            ack = ack_of_failure(self.request, response)
            self.transactions.port.send_nowait(request_octets(ack), self.to)
        if self.is_done:
            if is_invite and response.status < 300 and self.ack:
                self.transactions.port.send_nowait(self.ack, self.to)
            return
        if self._is_cancelled and response.status < 200 and not self._ringing.is_set():
            self._send_cancel()
        self._ringing.set()
        if response.status >= 200:
            self._done.set()
        if response.status > 100:
            self._tell(received)

    def _tell(self, received: Received | None) -> None:
        if self.report is not None:
            self.report(received)


@attrs.define(eq=False, repr=False)
class Transactions:
    """All of them.

    Attributes:
      fr_timeout: seconds for a final response to a request of ours, and for an ACK.
      fr_inv_timeout: seconds for the final response to an INVITE of ours that rings.
    """

    port: Port
    tasks: trio.Nursery
    fr_timeout: float
    fr_inv_timeout: float
    servers: dict[tuple[str, ...], ServerTransaction] = attrs.field(factory=dict)
    clients: dict[tuple[str, str], ClientTransaction] = attrs.field(factory=dict)

    def find(self, request: Request, method: str | None = None) -> ServerTransaction | None:
        """The transaction of a request, or the one of that method with the same branch."""
        return self.servers.get(server_key(request, method))

    def acknowledge(self, ack: Request) -> None:
        """An ACK of no session: it still ends the repetition of the response that it is for."""
        for each in self.servers.values():
            request = each.request
            is_same = request.call_id == ack.call_id and request.cseq.number == ack.cseq.number
            if is_same and each.method == "INVITE" and each.status >= 200:
                each.acknowledged = True

    def begin(self, received: Received) -> ServerTransaction | None:
        """Make the transaction of a request; None for a copy, which gets the last response again."""
        request = received.message
        assert isinstance(request, Request)
        known = self.find(request)
        if known is not None:
            known.repeat()
            return None
        transaction = self.servers[server_key(request)] = ServerTransaction(received, request, self)
        if request.method == "INVITE":
            transaction.respond(100, "Giving it a try", "")
        return transaction

    def ask(self, request: Request, to: Address, data: bytes, report: Report | None) -> ClientTransaction:
        """Send a request and repeat it until it is answered."""
        transaction = ClientTransaction(request, to, self, report)
        self.clients[client_key(request)] = transaction
        transaction.start(data)
        return transaction

    def receive_response(self, received: Received) -> None:
        response = received.message
        assert isinstance(response, Response)
        transaction = self.clients.get((response.via.branch or "", response.cseq.method))
        if transaction is not None:
            transaction.receive(received)

    def forget(self, transaction: ServerTransaction) -> None:
        self.servers.pop(server_key(transaction.request), None)


def client_key(request: Request) -> tuple[str, str]:
    return request.via.branch or "", request.method
