"""All sockets of a user agent: which is the way to whom (RFC 3261 section 18, RFC 3581, basics of RFC 5923)."""

from __future__ import annotations

import socket as stdlib
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from typing import Final, Protocol, TypeVar

import attrs
import trio

from aivc.config.rules import parse_listen
from aivc.config.settings import Address, SipSettings
from aivc.sip.address import Via, default_port
from aivc.sip.connections import Connection, sent_by_port
from aivc.sip.counters import Counters
from aivc.sip.datagrams import DatagramFlow, DatagramSocket, Intake, Relay, bind, nobody_uses, open_datagram_socket
from aivc.sip.flow import TRANSPORTS, Arrival, Flow, NoFlow, Transport
from aivc.sip.ip import plain_ip
from aivc.sip.pool import ConnectionPool, Door, open_door
from aivc.sip.routes import WILDCARDS, Routes, family_of, is_ipv6, route_to
from aivc.sip.scanner import is_ip_address
from aivc.sip.tls import Certificates
from aivc.sip.watching import MessageWatcher

ARRIVALS: Final = 256  # messages read and not yet served: some 0.1 s of work; beyond it the kernel's queue is as good
FLUSH: Final = 0.5  # seconds for all that is queued when the user agent ends
LOOKUP_SECONDS: Final = 5.0  # for a name's addresses; resolvers ask a second server after that


class Bound(Protocol):
    """A socket and the address that it is bound to."""

    @property
    def address(self) -> Address: ...


class Entrance(Bound, Protocol):
    """One that listens for connections."""

    @property
    def transport(self) -> Transport: ...


class Connections(Protocol):
    """What is asked of `ConnectionPool`."""

    @property
    def connections(self) -> Collection[Connection]: ...

    def find(self, transport: Transport, peer: Address, server_name: str | None = None) -> Connection | None: ...

    def has_failed(self, peer: Address) -> bool: ...

    def open_nowait(
        self, transport: Transport, peer: Address, local: Address, source: Address, name: str
    ) -> Connection: ...

    def reload_certificates(self) -> bool: ...


BoundSocket = TypeVar("BoundSocket", bound=Bound)


@attrs.frozen(eq=False)
class DeadEnd:
    """A flow to where no socket of ours leads: what is sent is dropped and counted."""

    transport: Transport
    peer: Address
    local: Address
    counters: Counters

    @property
    def is_open(self) -> bool:
        return False

    def send_nowait(self, data: bytes) -> None:
        self.counters.unsent += 1


@attrs.define(eq=False, repr=False)
class SocketTransports:
    """The real `Transports`, opened by `open_transports`.

    Attributes:
      listening: what is bound, in the order of `sip.listen`, with the real ports.
    """

    listening: tuple[tuple[Transport, Address], ...]
    datagrams: Sequence[DatagramSocket]
    doors: Sequence[Entrance]
    pool: Connections
    _routes: Routes
    _counters: Counters
    _intake: Intake | None = None  # of what comes

    def watch(self, watcher: MessageWatcher) -> None:
        """Show it every message from now on."""
        for socket in self.datagrams:
            socket.watcher = watcher
        if self._intake is not None:
            self._intake.watcher = watcher

    def answering(self, arrival: Arrival, via: Via) -> Flow:
        """See `Transports`. Which transport the Via names does not matter: the request has come over the flow's."""
        flow = arrival.flow
        if isinstance(flow, DatagramFlow):
            return attrs.evolve(flow, peer=via.response_address())
        if flow.is_open:
            return flow
        peer = (flow.peer[0], sent_by_port(via, flow.transport))
        return self.pool.find(flow.transport, peer) or self._connect(flow.transport, peer, flow.local, via.host)

    def onward(self, transport: Transport, peer: Address, near: Flow) -> Flow:
        """See `Transports`. A flow that cannot be is a closed one."""
        leads_there = near.peer == peer or (isinstance(near, Connection) and near.leads_to(peer))
        if leads_there and near.transport == transport and near.is_open:
            return near
        if not is_ip_address(peer[0]):
            return DeadEnd(transport, peer, near.local, self._counters)
        peer = (plain_ip(peer[0]), peer[1])
        if transport == "UDP":
            return self._datagrams_onward(peer, near)
        found = self.pool.find(transport, peer)
        if found is not None:
            return found
        door = nearest([door for door in self.doors if door.transport == transport], peer, near.local[0])
        same_host = isinstance(near, Connection) and near.peer[0] == peer[0]
        name = near.server_name if isinstance(near, Connection) and same_host else None
        local = near.local if door is None else (self._said(door, peer, near), door.address[1])
        return self._connect(transport, peer, local, name or peer[0])

    async def towards(self, transport: Transport, host: str, port: int | None) -> Flow:
        """See `Transports`. Names are looked up for addresses only: neither NAPTR nor SRV records (RFC 3263) are."""
        peers = await addresses_of(host, default_port(transport) if port is None else port)
        for peer in sorted(peers, key=self.pool.has_failed):
            flow = await self._towards(transport, peer, host)
            if flow is not None:
                return flow
        raise NoFlow(f"no route to {host}, or no {transport.lower()} socket of its family in sip.listen")

    def reload_certificates(self) -> bool:
        """Read the files of `sip.tls_*` again for new connections; False when the old ones stay, as the log says."""
        return self.pool.reload_certificates()

    async def flush(self) -> None:
        """Wait until everything queued has been sent, FLUSH seconds at most, cancelled or not."""
        with trio.move_on_after(FLUSH, shield=True):
            for socket in self.datagrams:
                await socket.outbox.wait_empty()
            for connection in list(self.pool.connections):
                await connection.outbox.wait_empty()

    def _datagrams_onward(self, peer: Address, near: Flow) -> Flow:
        socket = near.socket if isinstance(near, DatagramFlow) else None
        if socket is None or is_ipv6(socket.address[0]) != is_ipv6(peer[0]):
            socket = nearest(self.datagrams, peer, near.local[0])
        if socket is None:
            return DeadEnd("UDP", peer, near.local, self._counters)
        return DatagramFlow(socket, peer, (self._said(socket, peer, near), socket.address[1]))

    def _said(self, socket: Bound, peer: Address, near: Flow) -> str:
        """Our host for a peer that we cannot probe the route to, because nothing may wait: as said to the near one."""
        if is_ipv6(near.local[0]) == is_ipv6(peer[0]):
            return near.local[0]
        return self._routes.fixed_host(socket.address[0], peer[0]) or socket.address[0]

    async def _towards(self, transport: Transport, peer: Address, name: str) -> Flow | None:
        found = self.pool.find(transport, peer, name)
        if found is not None:
            return found
        sockets: list[Bound] = [*self.datagrams] if transport == "UDP" else []
        sockets += [door for door in self.doors if door.transport == transport]
        several = len([socket for socket in sockets if is_ipv6(socket.address[0]) == is_ipv6(peer[0])]) > 1
        socket = nearest(sockets, peer, await route_to(peer) if several else None)
        bound = socket.address if socket is not None else ("::" if is_ipv6(peer[0]) else "0.0.0.0", 0)
        host = await self._routes.local_host(bound[0], peer)
        if host is None:
            return None
        if transport == "UDP":
            return DatagramFlow(socket, peer, (host, bound[1])) if isinstance(socket, DatagramSocket) else None
        if socket is not None:
            return self._open(transport, peer, (host, bound[1]), name)
        # We do not listen: requests to us can come over this connection only, and its own port names it.
        port = await free_port(bound)
        return self._open(transport, peer, (host, port), name, port)

    def _open(self, transport: Transport, peer: Address, local: Address, name: str, port: int = 0) -> Flow:
        # Asked again: another task may have been waiting for the same route.
        connection = self.pool.find(transport, peer, name) or self._connect(transport, peer, local, name, port)
        if not connection.is_open:
            raise NoFlow("no room for a connection: sip.max_connections are open")
        return connection

    def _connect(self, transport: Transport, peer: Address, local: Address, name: str, port: int = 0) -> Connection:
        """A new connection from where we listen for that transport, or else from a port of its own."""
        door = nearest([door for door in self.doors if door.transport == transport], peer, local[0])
        wildcard = "::" if is_ipv6(peer[0]) else "0.0.0.0"
        source = (wildcard if door is None else door.address[0], port)
        return self.pool.open_nowait(transport, peer, local, source, name)


def nearest(sockets: Sequence[BoundSocket], peer: Address, host: str | None) -> BoundSocket | None:
    """Of the sockets that can send to the peer, the one bound to that address of ours, else to all, else the first."""
    able = [socket for socket in sockets if is_ipv6(socket.address[0]) == is_ipv6(peer[0])]
    order = [host, *WILDCARDS]
    ranks = [(order.index(socket.address[0]) if socket.address[0] in order else len(order)) for socket in able]
    return able[ranks.index(min(ranks))] if able else None


async def addresses_of(host: str, port: int) -> list[Address]:
    """What a name stands for, in the system's order of preference (RFC 6724); an address is itself.

    Raises NoFlow.
    """
    if is_ip_address(host):
        return [(plain_ip(host), port)]
    if not host:
        raise NoFlow("no host")
    try:
        with trio.fail_after(LOOKUP_SECONDS):
            found = await trio.socket.getaddrinfo(host, port, type=stdlib.SOCK_STREAM)
    except trio.TooSlowError:
        raise NoFlow(f"no answer in time to a look-up of {host}") from None
    except (OSError, UnicodeError) as error:
        raise NoFlow(f"{host} is not known: {error}") from error
    return list(dict.fromkeys((str(address[0]), int(address[1])) for *_, address in found))


async def free_port(address: Address) -> int:
    """A port that nobody has. Raises NoFlow."""
    try:
        with trio.socket.socket(family_of(address[0]), stdlib.SOCK_STREAM) as socket:
            await bind(socket, address)
            return int(socket.getsockname()[1])
    except OSError as error:
        raise NoFlow(f"no socket: {error}") from error


OpenTransports = Callable[  # as `open_transports`
    [SipSettings, Counters, Callable[[str], bool], trio.MemorySendChannel[Arrival], Callable[[Flow], bool]],
    AbstractAsyncContextManager[SocketTransports],
]


@asynccontextmanager
async def open_transports(
    settings: SipSettings,
    counters: Counters,
    admits: Callable[[str], bool],
    arrivals: trio.MemorySendChannel[Arrival],
    is_used: Callable[[Flow], bool] = nobody_uses,
    relay: Relay | None = None,
) -> AsyncIterator[SocketTransports]:
    """Listen until the block ends; then what is queued is sent, FLUSH seconds at most, and everything is closed.

    Errors from the block arrive in an ExceptionGroup, as from any nursery.

    Args:
      settings: `listen`, `external_ip`, `tls_*`, `max_connections`, `idle_seconds` and `message_seconds` are used.
      admits: asked for each datagram and connection; False of an IP address drops what comes from there unread.
      arrivals: where messages go; what does not fit is dropped and counted.
      is_used: whether a call needs a connection, which is not closed then for being quiet.
      relay: where messages go instead, unread.

    Raises:
      ValueError: a bad entry in `settings.listen`.
      OSError: a port is taken, an address is not ours, or a certificate cannot be used.
    """
    intake, routes = Intake(arrivals, admits, counters, is_used, relay), Routes(settings.external_ip)
    certificates = Certificates(settings)
    with ExitStack() as sockets:
        datagrams: list[DatagramSocket] = []
        doors: list[Door] = []
        listening: list[tuple[Transport, Address]] = []
        for entry in settings.listen:
            opened = await open_socket(entry, counters)
            sockets.enter_context(opened.socket)
            if isinstance(opened, DatagramSocket):
                datagrams.append(opened)
            else:
                doors.append(opened)
            listening.append(("UDP" if isinstance(opened, DatagramSocket) else opened.transport, opened.address))
        async with trio.open_nursery() as outer:
            nursery: trio.Nursery = await outer.start(shelter)
            pool = ConnectionPool(settings, intake, certificates, routes, nursery)
            for socket in datagrams:
                nursery.start_soon(socket.receive, intake, routes)
                nursery.start_soon(socket.transmit)
            for door in doors:
                nursery.start_soon(pool.admit, door)
            transports = SocketTransports(tuple(listening), datagrams, doors, pool, routes, counters, intake)
            try:
                yield transports
            finally:
                await transports.flush()
                nursery.cancel_scope.cancel()


async def open_socket(entry: str, counters: Counters) -> DatagramSocket | Door:
    """The socket of one `sip.listen` entry. Raises ValueError and OSError."""
    name, host, port = parse_listen(entry)
    try:
        if name == "udp":
            return await open_datagram_socket((host, port), counters)
        return await open_door(TRANSPORTS[name], (host, port))
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {entry}: {error.strerror}") from error


async def shelter(task_status: trio.TaskStatus[trio.Nursery]) -> None:
    """A nursery whose tasks go on when what is around them is cancelled: `open_transports` ends them, after a flush.

    Otherwise a cancellation would cut a message in two, and the BYEs that it causes would find no socket.
    """
    with trio.CancelScope(shield=True):
        async with trio.open_nursery() as nursery:
            task_status.started(nursery)
            await trio.sleep_forever()
