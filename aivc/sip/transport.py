"""UDP sockets <-> messages: RFC 3261 section 18 with rport (RFC 3581).

Two tasks a socket: one reads, parses and stamps the top Via; one sends what the layers above have queued. Nothing above
awaits a socket, so every decision there is one uninterrupted step.
"""

from __future__ import annotations

import logging
import socket as stdlib
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.config.rules import parse_listen
from aivc.config.settings import Address
from aivc.sip.address import Via, format_host_port, parse_via
from aivc.sip.message import Headers, NotSipError, ParseError, Request, Response, answer_to, parse_untrusted
from aivc.sip.scanner import AddressError, split_list

log = logging.getLogger("aivc.sip")

DATAGRAM_OCTETS: Final = 65_535
ARRIVALS: Final = 256  # messages read and not yet served: some 0.1 s of work; beyond it the kernel's queue is as good
OUTBOX: Final = 1024  # datagrams queued for one socket; a lost one is resent like any other lost datagram
MAX_AMPLIFICATION: Final = 2  # a stateless answer is never longer than so many times the request
KNOWN_PEERS: Final = 256  # whose route we remember
ERROR_PAUSE: Final = 0.1  # seconds: a socket that only fails must not spin
FLUSH: Final = 0.5  # seconds for one datagram to leave, and for all that is queued when the user agent ends


@attrs.define
class Counters:
    """What the sockets have seen."""

    received: int = 0  # messages passed on
    sent: int = 0  # datagrams
    keep_alives: int = 0  # RFC 5626 section 4.4.1 and its kin: ignored
    garbage: int = 0  # no SIP: dropped
    malformed: int = 0  # broken requests: answered 400, 505, 513
    unanswerable: int = 0  # broken responses and ACKs, and requests whose answer would amplify: dropped
    overflow: int = 0  # messages dropped because we are too slow
    unsent: int = 0  # datagrams dropped because the socket is too slow, or refused by the system


@attrs.frozen(eq=False)
class Arrival:
    """One message from the network."""

    message: Request | Response
    source: Address
    listener: Listener  # on which to answer
    local_host: str  # our address as the peer sees it, as far as we know


@attrs.define(eq=False, repr=False)
class Listener:
    """One bound UDP socket.

    Args:
      socket: bound; closed by whoever opened it.
      external_host: what we say our address is; None = the local address that reaches the peer.
    """

    socket: trio.socket.SocketType
    external_host: str | None = None
    counters: Counters = attrs.field(factory=Counters)
    _outbox: trio.MemorySendChannel[tuple[bytes, Address]] = attrs.field(init=False)
    _queued: trio.MemoryReceiveChannel[tuple[bytes, Address]] = attrs.field(init=False)
    _routes: dict[str, str] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._outbox, self._queued = trio.open_memory_channel[tuple[bytes, Address]](OUTBOX)

    @property
    def address(self) -> Address:
        host, port = self.socket.getsockname()[:2]
        return str(host), int(port)

    def send_nowait(self, data: bytes, to: Address) -> None:
        """Queue one datagram; drop and count it when the queue is full or closed."""
        try:
            self._outbox.send_nowait((data, to))
        except (trio.WouldBlock, trio.ClosedResourceError, trio.BrokenResourceError):
            self.counters.unsent += 1

    async def transmit(self) -> None:
        """Send what is queued until `close_outbox`. Cancelled between two datagrams only, so that none is lost."""
        async for data, to in self._queued:
            try:
                with trio.move_on_after(FLUSH, shield=True) as waiting:
                    await self.socket.sendto(data, to)
                    self.counters.sent += 1
                self.counters.unsent += waiting.cancelled_caught
            except OSError as error:
                self.counters.unsent += 1
                logs.event(log, "sip.unsent", level=logging.WARNING, to=format_host_port(*to), error=str(error))

    def close_outbox(self) -> None:
        self._outbox.close()

    async def receive(self, arrivals: trio.MemorySendChannel[Arrival]) -> None:
        """Read datagrams and pass on the messages in them until cancelled."""
        while True:
            try:
                data, source = await self.socket.recvfrom(DATAGRAM_OCTETS)
            except OSError as error:
                logs.event(log, "sip.receive_failed", level=logging.WARNING, error=str(error))
                await trio.sleep(ERROR_PAUSE)
                continue
            peer = (str(source[0]), int(source[1]))
            message = self.read_untrusted(data, peer)
            if message is None:
                continue
            try:
                arrivals.send_nowait(Arrival(message, peer, self, await self.local_host(peer)))
                self.counters.received += 1
            except trio.WouldBlock:
                self.counters.overflow += 1

    def read_untrusted(self, data: bytes, source: Address) -> Request | Response | None:
        """One message with its top Via stamped; None when there is nothing to serve, already counted and answered."""
        if not data.strip(b"\r\n\0"):
            self.counters.keep_alives += 1
            return None
        try:
            message = parse_untrusted(data)
        except NotSipError:
            self.counters.garbage += 1
            return None
        except ParseError as error:
            self._refuse(error, len(data), source)
            return None
        if isinstance(message, Response):
            return message
        return attrs.evolve(message, headers=stamp(message.headers, message.via.stamped(source)))

    async def local_host(self, peer: Address) -> str:
        """The address to give to this peer in Contact and Via."""
        own = self.external_host or self.address[0]
        if own not in ("0.0.0.0", "::"):
            return own
        host = self._routes.get(peer[0])
        if host is None:
            if len(self._routes) == KNOWN_PEERS:
                self._routes.clear()
            host = await route_to(peer)
            if host is None:
                return own
            self._routes[peer[0]] = host
        return host

    def _refuse(self, error: ParseError, length: int, source: Address) -> None:
        """Answer a broken request without state, when that is possible and harmless."""
        headers = error.headers
        via = None if headers is None else salvage_via(headers)
        if headers is None or via is None:
            self.counters.unanswerable += 1
            return
        stamped = via.stamped(source)
        try:
            answer = bytes(answer_to(stamp(headers, stamped), error.status, error.reason))
        except ValueError:
            answer = b""
        if not 0 < len(answer) <= MAX_AMPLIFICATION * length:
            self.counters.unanswerable += 1
            return
        self.counters.malformed += 1
        # Only for who looks for it: anybody can send broken messages, as many as they like.
        where = format_host_port(*source)
        logs.event(log, "sip.malformed", level=logging.DEBUG, source=where, status=error.status, cause=error.reason)
        self.send_nowait(answer, stamped.response_address())


async def open_listener(entry: str, external_host: str | None, counters: Counters) -> Listener:
    """Bind the socket of one `sip.listen` entry. The caller closes `listener.socket`.

    Raises:
      ValueError: not "udp:HOST:PORT" with an IP address.
      OSError: the port is taken, or the address is not ours.
    """
    host, port = parse_listen(entry)
    family = stdlib.AF_INET6 if ":" in host else stdlib.AF_INET
    socket = trio.socket.socket(family, stdlib.SOCK_DGRAM)
    try:
        await socket.bind((host, port))
    except OSError as error:
        socket.close()
        raise OSError(error.errno, f"cannot listen on {entry}: {error.strerror}") from error
    return Listener(socket, external_host, counters)


async def route_to(peer: Address) -> str | None:
    """The local address from which the system would reach `peer`: a connected UDP socket knows, and sends nothing.

    None when there is no route, or no descriptor left for the socket.
    """
    family = stdlib.AF_INET6 if ":" in peer[0] else stdlib.AF_INET
    try:
        with trio.socket.socket(family, stdlib.SOCK_DGRAM) as probe:
            await probe.connect(peer)
            return str(probe.getsockname()[0])
    except OSError as error:
        logs.event(log, "sip.no_route", level=logging.WARNING, to=format_host_port(*peer), error=str(error))
        return None


def stamp(headers: Headers, via: Via) -> Headers:
    """Replace the topmost Via value, leave out empty Via lines, and leave all others as they are."""
    fields: list[tuple[str, str]] = []
    done = False
    for name, value in headers:
        if name.lower() == "via" and not value.strip(" ,"):
            continue
        if not done and name.lower() == "via":
            value, done = ", ".join([str(via), *split_list(value)[1:]]), True
        fields.append((name, value))
    return Headers(tuple(fields))


def salvage_via(headers: Headers) -> Via | None:
    """The top Via, or what stands before its first broken parameter: enough to find the way back."""
    for top in headers.items("Via")[:1]:
        for text in (top, top.partition(";")[0]):
            try:
                return parse_via(text)
            except AddressError:
                continue
    return None
