"""The transports of a worker: its sockets are another process's, which passes on what comes.

What goes out by UDP is sent from here, through the same socket; of connections the owner alone knows the octets (one
TLS state, one stream of messages), so for them messages are passed both ways. Everything else, from the choice of the
way to a peer to the answer to a broken message, is done by the same code as without workers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from math import inf
from typing import Final

import attrs
import trio

from aivc.config.settings import Address, SipSettings
from aivc.sip.connections import Connection, Patience
from aivc.sip.counters import Counters
from aivc.sip.datagrams import DatagramSocket, Intake, nobody_uses
from aivc.sip.flow import Arrival, Flow, Transport
from aivc.sip.pool import AVOID_SECONDS, KNOWN_FAILURES
from aivc.sip.relay import Beat, Closed, Datagram, Drain, Frame, Identities, Link, Open, Say, Stop, Streamed
from aivc.sip.routes import Routes
from aivc.sip.switchboard import Identity
from aivc.sip.transport import FLUSH, SocketTransports, shelter

BEAT_SECONDS: Final = 0.25  # between two signs of life


@attrs.frozen(eq=False)
class Sign:
    """Where somebody else listens for connections."""

    transport: Transport
    address: Address


@attrs.define(eq=False, repr=False)
class RelayedConnection(Connection):
    """A connection of the owner's; both know it by its number."""

    number: int = attrs.field(kw_only=True)
    link: Link = attrs.field(kw_only=True)

    def send_nowait(self, data: bytes) -> None:
        self.note_sent(data)
        self.intake.counters.unsent += not (self.is_open and self.link.put_nowait(Say(self.number, data)))


@attrs.define(eq=False, repr=False)
class RelayedConnections:
    """Those connections of the owner's that this worker has heard of; stands for a `ConnectionPool`."""

    link: Link
    intake: Intake
    by_number: dict[int, RelayedConnection] = attrs.field(factory=dict, init=False)
    _by_peer: dict[tuple[Transport, Address], RelayedConnection] = attrs.field(factory=dict, init=False)
    _failed: dict[Address, float] = attrs.field(factory=dict, init=False)  # until when another address is tried first
    _asked: int = attrs.field(default=0, init=False)  # numbers of ours are negative

    @property
    def connections(self) -> Collection[Connection]:
        return self.by_number.values()

    def find(self, transport: Transport, peer: Address, server_name: str | None = None) -> Connection | None:
        """As `ConnectionPool.find`."""
        connection = self._by_peer.get((transport, peer))
        if connection is None or not connection.is_open:
            return None
        return None if transport == "TLS" and server_name not in (None, connection.server_name) else connection

    def has_failed(self, peer: Address) -> bool:
        return self._failed.get(peer, -inf) > trio.current_time()

    def open_nowait(
        self, transport: Transport, peer: Address, local: Address, source: Address, name: str
    ) -> Connection:
        """As `ConnectionPool.open_nowait`; the owner may have one already that we have not heard of."""
        self._asked += 1
        connection = self._keep(-self._asked, transport, peer, local, name)
        if not self.link.put_nowait(Open(connection.number, transport, peer, local, source, name)):
            self.forget(connection.number)
        return connection

    def reload_certificates(self) -> bool:
        """They are the owner's."""
        return False

    async def take(self, message: Streamed) -> None:
        connection = self.by_number.get(message.number)
        if connection is None:
            connection = self._keep(message.number, message.transport, message.peer, message.local)
        await connection.take(message.octets)

    def note_closed(self, closed: Closed) -> None:
        connection = self.forget(closed.number)
        if connection is not None and closed.failed:
            if len(self._failed) >= KNOWN_FAILURES:
                self._failed.clear()
            self._failed[connection.peer] = trio.current_time() + AVOID_SECONDS

    def forget(self, number: int) -> Connection | None:
        connection = self.by_number.pop(number, None)
        if connection is not None:
            connection.close()
            if self._by_peer.get(key := (connection.transport, connection.peer)) is connection:
                del self._by_peer[key]
        return connection

    def used(self) -> tuple[int, ...]:
        """Numbers of those that calls need."""
        return tuple(number for number, connection in self.by_number.items() if self.intake.is_used(connection))

    def _keep(
        self, number: int, transport: Transport, peer: Address, local: Address, name: str | None = None
    ) -> RelayedConnection:
        patience = Patience(message=inf, idle=inf)  # is the owner's
        connection = RelayedConnection(
            transport, peer, local, self.intake, patience, name, number=number, link=self.link
        )
        self.by_number[number] = connection
        self._by_peer[transport, peer] = connection
        return connection


@attrs.define(eq=False, repr=False)
class Owner:
    """The process that owns the sockets, as a worker knows it.

    Args:
      listening: what is bound, in the order of `sip.listen`.
      sockets: the UDP sockets among them, in that order; closed by whoever opened them.
      look: how it goes; None while there is nothing to say.

    Attributes:
      drain, stop: set when it says so; `gone`, and `stop` as well, when it is no more.
      identities: who we are where, see `Identities`.
    """

    link: Link
    listening: tuple[tuple[Transport, Address], ...]
    sockets: tuple[trio.socket.SocketType, ...]
    look: Callable[[], Beat | None]
    drain: trio.Event = attrs.field(factory=trio.Event, init=False)
    stop: trio.Event = attrs.field(factory=trio.Event, init=False)
    gone: trio.Event = attrs.field(factory=trio.Event, init=False)
    identities: dict[str, Identity] = attrs.field(factory=dict, init=False)
    _taken: int = attrs.field(default=0, init=False)
    _news: trio.Event = attrs.field(factory=trio.Event, init=False)

    def identity_at(self, ip: str) -> Identity | None:
        return self.identities.get(ip)

    def tell_soon(self) -> None:
        """Do not wait for the next beat: something has changed."""
        self._news.set()

    @asynccontextmanager
    async def open_transports(
        self,
        settings: SipSettings,
        counters: Counters,
        admits: Callable[[str], bool],
        arrivals: trio.MemorySendChannel[Arrival],
        is_used: Callable[[Flow], bool] = nobody_uses,
    ) -> AsyncIterator[SocketTransports]:
        """As `aivc.sip.transport.open_transports`; from whom nothing is to be read the owner knows by itself."""
        intake, routes = Intake(arrivals, admits, counters, is_used), Routes(settings.external_ip)
        udp = [address for transport, address in self.listening if transport == "UDP"]
        datagrams = [
            DatagramSocket(socket, address, counters) for socket, address in zip(self.sockets, udp, strict=True)
        ]
        signs = [Sign(transport, address) for transport, address in self.listening if transport != "UDP"]
        pool = RelayedConnections(self.link, intake)
        transports = SocketTransports(self.listening, datagrams, signs, pool, routes, counters, intake)
        async with trio.open_nursery() as outer:
            nursery: trio.Nursery = await outer.start(shelter)
            for socket in datagrams:
                nursery.start_soon(socket.transmit)
            nursery.start_soon(self._transmit)
            nursery.start_soon(self._beat, pool)
            nursery.start_soon(self._obey, pool, datagrams, routes)
            try:
                yield transports
            finally:
                await transports.flush()
                self._tell(pool)  # how many calls are lost with us
                with trio.move_on_after(FLUSH, shield=True):
                    await self.link.wait_empty()
                nursery.cancel_scope.cancel()

    async def _transmit(self) -> None:
        try:
            await self.link.transmit()
        except OSError:
            self._note_gone()

    async def _beat(self, pool: RelayedConnections) -> None:
        while True:
            self._tell(pool)
            self._news = trio.Event()
            with trio.move_on_after(BEAT_SECONDS):
                await self._news.wait()

    def _tell(self, pool: RelayedConnections) -> None:
        beat = self.look()
        if beat is not None:
            self.link.put_nowait(attrs.evolve(beat, used=pool.used(), taken=self._taken))

    async def _obey(self, pool: RelayedConnections, datagrams: list[DatagramSocket], routes: Routes) -> None:
        while (frame := await self.link.receive()) is not None:
            await self._take(frame, pool, datagrams, routes)
        self._note_gone()

    async def _take(
        self, frame: Frame, pool: RelayedConnections, datagrams: list[DatagramSocket], routes: Routes
    ) -> None:
        match frame:
            case Datagram(socket=index, source=source, octets=octets, given=given):
                await datagrams[index].take(octets, source, pool.intake, routes)
                self._taken = given
            case Streamed(given=given):
                await pool.take(frame)
                self._taken = given
            case Closed():
                pool.note_closed(frame)
            case Identities(by_address=found):
                self.identities = {ip: Identity(uri, route) for ip, (uri, route) in found.items()}
            case Drain():
                self.drain.set()
            case Stop():
                self.stop.set()
            case _:
                raise ValueError(f"{type(frame).__name__} is what workers say")

    def _note_gone(self) -> None:
        self.gone.set()
        self.stop.set()
