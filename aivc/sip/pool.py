"""All TCP and TLS connections: taken in, made in the background, found again, and limited in number."""

from __future__ import annotations

import logging
import socket as stdlib
import ssl
from collections import Counter
from contextlib import suppress
from math import inf
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.config.settings import Address, SipSettings
from aivc.sip.address import format_host_port
from aivc.sip.connections import Connection, Patience
from aivc.sip.datagrams import ERROR_PAUSE, Intake, bind
from aivc.sip.flow import Transport
from aivc.sip.ip import site_of
from aivc.sip.routes import WILDCARDS, Routes, family_of
from aivc.sip.tls import Certificates

log = logging.getLogger("aivc.sip")

BACKLOG: Final = 1024  # connections that the system keeps for us until we take them
CONNECT_SECONDS: Final = 10.0  # three SYNs by RFC 6298; our INVITE waits for the answer 32 s at most
FAIR_SHARE: Final = 4  # one address may hold a quarter of all connections,
FEWEST_TO_SHARE: Final = 8  # unless there are so few that a single peer needs them
KNOWN_FAILURES: Final = 256  # addresses to which no connection could be made,
AVOID_SECONDS: Final = 60.0  # and for how long another one of the same name is tried first
SELDOM: Final = 10.0  # seconds between two log lines about what strangers can repeat at will


@attrs.frozen(eq=False)
class Door:
    """One listening socket for connections."""

    transport: Transport
    socket: trio.socket.SocketType
    address: Address  # bound to


@attrs.define(eq=False)
class Seldom:
    """Logs something that may happen very often once in a while, with how often it has happened."""

    _next: dict[str, float] = attrs.field(factory=dict, init=False)
    _count: Counter[str] = attrs.field(factory=Counter, init=False)

    def note(self, name: str, **fields: str | int) -> None:
        self._count[name] += 1
        if trio.current_time() >= self._next.get(name, -inf):
            logs.event(log, name, level=logging.WARNING, exc_info=None, times=self._count.pop(name), **fields)
            self._next[name] = trio.current_time() + SELDOM


@attrs.define(eq=False, repr=False)
class ConnectionPool:
    """The connections of one user agent.

    Args:
      nursery: for one task a connection; whoever cancels it closes them all.
    """

    settings: SipSettings
    intake: Intake
    certificates: Certificates
    routes: Routes
    nursery: trio.Nursery
    connections: set[Connection] = attrs.field(factory=set, init=False)
    _by_peer: dict[tuple[Transport, Address], Connection] = attrs.field(factory=dict, init=False)  # the newest
    _held: Counter[str] = attrs.field(factory=Counter, init=False)  # connections made to us, by `site_of`
    _failed: dict[Address, float] = attrs.field(factory=dict, init=False)  # until when another address is tried first
    _seldom: Seldom = attrs.field(factory=Seldom, init=False)

    def reload_certificates(self) -> bool:
        """Read their files again for new connections; False when the old ones stay, as the log says."""
        return self.certificates.reload()

    async def admit(self, door: Door) -> None:
        """Take in connections until cancelled."""
        while True:
            try:
                socket, peer = await door.socket.accept()
            except OSError as error:  # want of descriptors, or a peer that has gone already
                self.intake.counters.accept_errors += 1
                self._seldom.note("sip.accept_failed", cause=str(error))
                await trio.sleep(ERROR_PAUSE)
                continue
            address = (str(peer[0]), int(peer[1]))
            if self._has_room_for(address[0]):
                self._welcome(door, socket, address)
            else:
                socket.close()

    def find(self, transport: Transport, peer: Address, server_name: str | None = None) -> Connection | None:
        """An open connection whose other end is `peer`; over TLS one that has been checked for that name, if given."""
        connection = self._by_peer.get((transport, peer))
        if connection is None or not connection.is_open:
            return None
        if transport == "TLS" and server_name not in (None, connection.server_name):
            return None
        return connection

    def has_failed(self, peer: Address) -> bool:
        """Whether no connection could be made to there a short while ago."""
        return self._failed.get(peer, -inf) > trio.current_time()

    def open_nowait(
        self, transport: Transport, peer: Address, local: Address, source: Address, name: str
    ) -> Connection:
        """A new connection, made in the background; what is sent meanwhile waits. A closed one when there is no room.

        Args:
          local: what Via and Contact say.
          source: to bind to; a wildcard with port 0 leaves that to the system.
          name: the host that the certificate must be for, if it is TLS.
        """
        connection = self._new(transport, peer, local, name)
        if self._is_full():
            connection.close()
        else:
            self._keep(connection)
            self.nursery.start_soon(self._attend, connection, None, source)
        return connection

    def _new(self, transport: Transport, peer: Address, local: Address, name: str | None = None) -> Connection:
        patience = Patience(message=self.settings.message_seconds, idle=self.settings.idle_seconds)
        return Connection(transport, peer, local, self.intake, patience, name)

    def _is_full(self) -> bool:
        limit = self.settings.max_connections
        if len(self.connections) < limit:
            return False
        self.intake.counters.full += 1
        self._seldom.note("sip.connections_full", limit=limit, setting="sip.max_connections")
        return True

    def _has_room_for(self, host: str) -> bool:
        """Whether a connection from there is taken in; each no is counted."""
        if not self.intake.accepts(host) or self._is_full():
            return False
        most = self.settings.max_connections
        share = most if most < FEWEST_TO_SHARE else most // FAIR_SHARE
        if self._held[site_of(host)] < share:
            return True
        self.intake.counters.crowded += 1
        self._seldom.note("sip.connections_crowded", limit=share, source=host, setting="sip.max_connections")
        return False

    def _welcome(self, door: Door, socket: trio.socket.SocketType, peer: Address) -> None:
        host = door.address[0]
        if host in WILDCARDS:
            with suppress(OSError):  # reset before we could ask
                host = str(socket.getsockname()[0])
        connection = self._new(door.transport, peer, (self.routes.fixed_host(host, peer[0]) or host, door.address[1]))
        self.intake.counters.accepted += 1
        self._held[site_of(peer[0])] += 1
        self._keep(connection)
        self.nursery.start_soon(self._attend, connection, socket, door.address)

    def _keep(self, connection: Connection) -> None:
        self.connections.add(connection)
        self._by_peer[connection.transport, connection.peer] = connection

    def _forget(self, connection: Connection) -> None:
        connection.close()
        if self.intake.relay is not None:
            self.intake.relay.note_closed(connection)
        self.connections.discard(connection)
        if self._by_peer.get(key := (connection.transport, connection.peer)) is connection:
            del self._by_peer[key]
        if connection.server_name is None:
            origin = site_of(connection.peer[0])
            self._held[origin] -= 1
            if not self._held[origin]:
                del self._held[origin]

    async def _attend(self, connection: Connection, accepted: trio.socket.SocketType | None, source: Address) -> None:
        """One connection from its first to its last moment."""
        socket = accepted
        try:
            socket = await self._connect(connection, source) if accepted is None else accepted
            stream = None if socket is None else await self._stream(connection, socket)
            if stream is not None:
                await connection.serve(stream)
        except Exception as error:  # a bug of ours may cost one connection, never all
            self.intake.counters.broken += 1
            where = format_host_port(*connection.peer)
            logs.event(log, "sip.bug", level=logging.ERROR, peer=where, exc_info=error)
        finally:
            self._forget(connection)
            if socket is not None:
                socket.close()
                self.intake.counters.closed += 1

    async def _connect(self, connection: Connection, source: Address) -> trio.socket.SocketType | None:
        try:
            socket = await connect(connection.peer, source)
        except (OSError, trio.TooSlowError) as error:
            self.intake.counters.unreachable += 1
            if len(self._failed) >= KNOWN_FAILURES:
                self._failed.clear()
            self._failed[connection.peer] = trio.current_time() + AVOID_SECONDS
            self._note_failure("sip.unreachable", connection, error)
            return None
        self.intake.counters.connected += 1
        return socket

    async def _stream(self, connection: Connection, socket: trio.socket.SocketType) -> trio.abc.Stream | None:
        stream = trio.SocketStream(socket)
        if connection.transport != "TLS":
            return stream
        context = self.certificates.server if connection.server_name is None else self.certificates.client
        assert context is not None, "a door for TLS is opened with a certificate"
        failure = "sip.handshake_failed" if connection.server_name is None else "sip.unreachable"
        try:
            return await shake_hands(stream, context, connection.server_name, self.settings.message_seconds)
        except trio.TooSlowError as error:
            self.intake.counters.slow += 1
            self._note_failure(failure, connection, error)
        except (trio.BrokenResourceError, ValueError) as error:
            self.intake.counters.handshakes_failed += 1
            self._note_failure(failure, connection, error.__cause__ or error)
        return None

    def _note_failure(self, event: str, connection: Connection, error: BaseException) -> None:
        where = format_host_port(*connection.peer)
        cause = "no answer in time" if isinstance(error, trio.TooSlowError) else str(error)
        self._seldom.note(event, peer=where, transport=connection.transport, cause=cause)


async def connect(peer: Address, source: Address) -> trio.socket.SocketType:
    """A connected socket. Raises OSError, and TooSlowError after CONNECT_SECONDS."""
    socket = trio.socket.socket(family_of(peer[0]), stdlib.SOCK_STREAM)
    try:
        if source[0] not in WILDCARDS or source[1]:
            await bind(socket, source)
        with trio.fail_after(CONNECT_SECONDS):
            await socket.connect(peer)
    except BaseException:
        socket.close()
        raise
    return socket


async def shake_hands(
    stream: trio.SocketStream, context: ssl.SSLContext, server_name: str | None, seconds: float
) -> trio.SSLStream[trio.SocketStream]:
    """TLS on it, in time; we are the server if there is no name to check.

    Raises:
      TooSlowError, BrokenResourceError: with what OpenSSL says as its cause.
      ValueError: no certificate can be for such a name.
    """
    name = None if server_name is None else server_name.rstrip(".")  # no certificate has the root's dot
    # Without the wait for the peer's close_notify: a message has its own end, so that a cut one is noticed.
    secured = trio.SSLStream(stream, context, server_hostname=name, server_side=name is None, https_compatible=True)
    with trio.fail_after(seconds):
        await secured.do_handshake()
    return secured


async def open_door(transport: Transport, address: Address) -> Door:
    """Listen for connections; port 0 is any free one. Raises OSError."""
    socket = trio.socket.socket(family_of(address[0]), stdlib.SOCK_STREAM)
    try:
        socket.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_REUSEADDR, 1)  # old connections must not forbid a restart
        await bind(socket, address)
        socket.listen(BACKLOG)
        host, port = socket.getsockname()[:2]
    except BaseException:
        socket.close()
        raise
    return Door(transport, socket, (str(host), int(port)))
