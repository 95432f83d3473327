"""UDP sockets <-> messages: RFC 3261 section 18 with rport (RFC 3581).

Two tasks a socket: one reads, parses and stamps the top Via; one sends what the layers above have queued. Nothing above
awaits a socket, so every decision there is one uninterrupted step.
"""

from __future__ import annotations

import logging
import socket as stdlib
from collections.abc import Callable
from typing import Final, Protocol

import attrs
import trio

from aivc import logs
from aivc.config.settings import Address
from aivc.sip.address import format_host_port
from aivc.sip.amplification import MAX_AMPLIFICATION
from aivc.sip.counters import Counters
from aivc.sip.flow import Arrival, Flow, Transport
from aivc.sip.message import NotSipError, ParseError, Request, Response, parse_untrusted
from aivc.sip.outbox import Outbox
from aivc.sip.routes import Routes, family_of
from aivc.sip.stateless import stamp, stateless_answer
from aivc.sip.watching import MessageWatcher

log = logging.getLogger("aivc.sip")

DATAGRAM_OCTETS: Final = 65_535
OUTBOX: Final = 1024  # datagrams queued for one socket; a lost one is resent like any other lost datagram
ERROR_PAUSE: Final = 0.1  # seconds: a socket that only fails must not spin
SEND_SECONDS: Final = 0.5  # for one datagram to leave


def nobody_uses(flow: Flow) -> bool:
    return False


class Relay(Protocol):
    """Whoever takes the messages for other processes."""

    def take_nowait(self, data: bytes, flow: Flow) -> None:
        """Take one message, of which nothing has been read but its length."""

    def note_closed(self, flow: Flow) -> None:
        """A connection is no more."""


@attrs.define(eq=False)
class Intake:
    """Where what the sockets read goes, and whose messages are read at all.

    Args:
      admits: False of an IP address whose datagrams and connections are dropped unread.
      is_used: whether a call needs a connection, however quiet it is.
      relay: where messages go instead, unread.
    """

    arrivals: trio.MemorySendChannel[Arrival]
    admits: Callable[[str], bool]
    counters: Counters
    is_used: Callable[[Flow], bool] = nobody_uses
    relay: Relay | None = None
    watcher: MessageWatcher | None = attrs.field(default=None, init=False)

    def accepts(self, host: str) -> bool:
        """What `admits` says, and its no counted."""
        admitted = self.admits(host)
        self.counters.unwanted += not admitted
        return admitted

    def note(self, data: bytes, flow: Flow) -> None:
        """Show one message as it came to who watches."""
        if self.watcher is not None:
            self.watcher.note_message("in", data, flow)

    def put_nowait(self, arrival: Arrival) -> bool:
        """Pass one message on; False when we are too slow to take it."""
        try:
            self.arrivals.send_nowait(arrival)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        self.counters.received += 1
        return True

    def read_untrusted(self, data: bytes, source: Address) -> Request | Response | ParseError:
        """One message with its top Via stamped, or what is wrong with it."""
        try:
            message = parse_untrusted(data)
        except ParseError as error:
            self.counters.garbage += isinstance(error, NotSipError)
            return error
        if isinstance(message, Response):
            return message
        return attrs.evolve(message, headers=stamp(message.headers, message.via.stamped(source)))

    def note_malformed(self, error: ParseError, source: Address) -> None:
        # Only for who looks for it: anybody can send broken messages, as many as they like.
        self.counters.malformed += 1
        where = format_host_port(*source)
        logs.event(log, "sip.malformed", level=logging.DEBUG, source=where, status=error.status, cause=error.reason)


@attrs.define(eq=False, repr=False)
class DatagramSocket:
    """One bound UDP socket, opened by `open_datagram_socket`; closed by whoever opened it."""

    socket: trio.socket.SocketType
    address: Address  # bound to
    counters: Counters
    outbox: Outbox[tuple[bytes, Address]] = attrs.field(factory=lambda: Outbox[tuple[bytes, Address]](OUTBOX))
    watcher: MessageWatcher | None = attrs.field(default=None, init=False)

    def send_nowait(self, data: bytes, to: Address) -> None:
        """Queue one datagram; drop and count it when the queue is full or closed."""
        self.counters.unsent += not self.outbox.put_nowait((data, to))

    async def transmit(self) -> None:
        """Send what is queued until the outbox is closed, or until cancelled."""
        await self.outbox.deliver(self._send)

    async def _send(self, datagram: tuple[bytes, Address]) -> None:
        data, to = datagram
        try:
            with trio.fail_after(SEND_SECONDS):
                await self.socket.sendto(data, to)
            self.counters.sent += 1
        except trio.TooSlowError:
            self.counters.unsent += 1
        except OSError as error:
            self.counters.unsent += 1
            logs.event(log, "sip.unsent", level=logging.WARNING, to=format_host_port(*to), error=str(error))

    async def receive(self, intake: Intake, routes: Routes) -> None:
        """Read datagrams and pass on the messages in them until cancelled."""
        while True:
            try:
                data, source = await self.socket.recvfrom(DATAGRAM_OCTETS)
            except OSError as error:
                logs.event(log, "sip.receive_failed", level=logging.WARNING, error=str(error))
                await trio.sleep(ERROR_PAUSE)
                continue
            peer = (str(source[0]), int(source[1]))
            if intake.accepts(peer[0]):
                await self.take(data, peer, intake, routes)

    async def take(self, data: bytes, peer: Address, intake: Intake, routes: Routes) -> None:
        """Pass on the message in a datagram, or answer that it is broken."""
        if not data.strip(b"\r\n\0"):
            self.counters.keep_alives += 1
            return
        if intake.relay is not None:
            intake.relay.take_nowait(data, DatagramFlow(self, peer, self.address))
            return
        message = intake.read_untrusted(data, peer)
        if isinstance(message, ParseError):
            self._refuse(message, len(data), peer, intake)
            return
        host = await routes.local_host(self.address[0], peer)
        flow = DatagramFlow(self, peer, (host or self.address[0], self.address[1]))
        intake.note(data, flow)
        self.counters.overflow += not intake.put_nowait(Arrival(message, flow, len(data)))

    def _refuse(self, error: ParseError, length: int, source: Address, intake: Intake) -> None:
        """Answer a broken request without state, when that is possible and harmless."""
        if isinstance(error, NotSipError):
            return
        answer = stateless_answer(error.status, error.reason, error.headers, source)
        if answer is None or len(answer[0]) > MAX_AMPLIFICATION * length:
            self.counters.unanswerable += 1
            return
        intake.note_malformed(error, source)
        self.send_nowait(answer[0], answer[1].response_address())


@attrs.frozen
class DatagramFlow:
    """A peer as one UDP socket of ours reaches it."""

    socket: DatagramSocket
    peer: Address
    local: Address

    @property
    def transport(self) -> Transport:
        return "UDP"

    @property
    def is_open(self) -> bool:
        return True

    def send_nowait(self, data: bytes) -> None:
        if self.socket.watcher is not None:
            self.socket.watcher.note_message("out", data, self)
        self.socket.send_nowait(data, self.peer)


async def open_datagram_socket(address: Address, counters: Counters) -> DatagramSocket:
    """Bind one socket; port 0 is any free one. Raises OSError."""
    socket = trio.socket.socket(family_of(address[0]), stdlib.SOCK_DGRAM)
    try:
        await bind(socket, address)
        host, port = socket.getsockname()[:2]
    except BaseException:
        socket.close()
        raise
    return DatagramSocket(socket, (str(host), int(port)), counters)


async def bind(socket: trio.socket.SocketType, address: Address) -> None:
    """Bind; an IPv6 wildcard does not take IPv4 as well, which has its own sockets and addresses (RFC 3493)."""
    if ":" in address[0]:
        socket.setsockopt(stdlib.IPPROTO_IPV6, stdlib.IPV6_V6ONLY, 1)
    await socket.bind(address)
