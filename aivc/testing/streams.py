"""TCP in a virtual network: sockets good enough for trio's streams and listeners, in order and with bounded buffers.

What is sent waits in its direction's queue until the receiver's clock reaches its due time; nothing runs for it.
A connection takes three steps as TCP's does: SYN after one latency, SYN-ACK after two, the accepting side has it after
three, together with the first octets.
"""

from __future__ import annotations

import builtins
import errno
import os
import socket as stdlib
from collections import deque
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, overload

import attrs
import trio
from trio.socket import SocketType

from aivc.config.settings import Address
from aivc.testing.addresses import as_address, as_name, checked_family

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

BUFFER_OCTETS: Final = 65_536  # in flight and unread in one direction; a sender of more has to wait
BACKLOG: Final = 128  # connections that nobody has accepted, when listen() names no number
SYN_RESEND: Final = 1.0  # seconds until the next try when the backlog is full, RFC 6298 section 2.1


class Wires(Protocol):
    """What the sockets ask of their network."""

    @property
    def streams(self) -> list[VirtualStream]: ...
    def bind_stream(self, stream: VirtualStream, address: Address) -> Address: ...
    def listener_at(self, to: Address) -> VirtualStream | None: ...
    def latency(self, source: Address, to: Address) -> float: ...
    def note(self, source: Address, to: Address, data: bytes) -> None: ...
    def host_for(self, host: str) -> str: ...
    def is_stalled(self, host: str) -> bool: ...


@attrs.define(eq=False)
class Direction:
    """The octets of one direction of a connection, in order."""

    source: Address
    to: Address
    latency: Callable[[Address, Address], float]
    pieces: deque[tuple[float, bytes]] = attrs.field(factory=deque)  # due, octets
    held: int = 0  # octets sent and not read
    ended_at: float = inf  # when the sender's end arrives
    broken_at: float = inf  # when a reset of the sender arrives
    last_due: float = -inf  # nothing overtakes

    def due(self) -> float:
        """When something sent now arrives, at the earliest after what went before."""
        self.last_due = max(self.last_due, trio.current_time() + self.latency(self.source, self.to))
        return self.last_due

    def put(self, data: bytes) -> None:
        self.pieces.append((self.due(), data))
        self.held += len(data)

    def end(self) -> None:
        if self.ended_at == inf:
            self.ended_at = self.due()

    def reset(self) -> None:
        self.broken_at = min(self.broken_at, self.due())

    def take(self, most: int, now: float) -> bytes | None:
        """Up to so many octets that have arrived, b"" at the end of them, None while there is nothing.

        Raises ConnectionResetError.
        """
        taken = bytearray()
        while self.pieces and len(taken) < most and self.pieces[0][0] <= now:
            due, data = self.pieces.popleft()
            room = most - len(taken)
            taken += data[:room]
            if data[room:]:
                self.pieces.appendleft((due, data[room:]))
        self.held -= len(taken)
        if taken:
            return bytes(taken)
        if self.broken_at <= now:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return b"" if self.ended_at <= now and not self.pieces else None

    def next_at(self) -> float:
        """When there is something to take, when there is nothing now."""
        return min(self.pieces[0][0] if self.pieces else inf, self.ended_at, self.broken_at)


@attrs.define(eq=False)
class Connection:
    """One TCP connection: two ends, two directions."""

    client: VirtualStream
    server: VirtualStream
    forth: Direction  # of the client
    back: Direction

    def incoming(self, end: VirtualStream) -> Direction:
        return self.back if end is self.client else self.forth

    def outgoing(self, end: VirtualStream) -> Direction:
        return self.forth if end is self.client else self.back

    def other(self, end: VirtualStream) -> VirtualStream:
        return self.server if end is self.client else self.client

    def cut(self) -> None:
        """Reset both ends at once; what was in flight is lost."""
        for direction in (self.forth, self.back):
            direction.pieces.clear()
            direction.held = 0
            direction.broken_at = -inf
        self.client.wake()
        self.server.wake()


class VirtualStream(SocketType):
    """One TCP socket of a `VirtualNetwork`."""

    def __init__(self, network: Wires, family: int) -> None:
        super().__init__()
        self.address: Address | None = None  # bound to
        self.connection: Connection | None = None
        self.was_accepted = False
        self.is_listening = False
        self._network = network
        self._family = stdlib.AddressFamily(family)
        self._backlog = 0
        self._arriving: list[tuple[float, VirtualStream]] = []  # connections to accept, and when they are complete
        self._did_shutdown = False
        self._closed = False
        self._changed = trio.lowlevel.ParkingLot()

    # What it is

    @property
    def family(self) -> stdlib.AddressFamily:
        return self._family

    @property
    def type(self) -> stdlib.SocketKind:
        return stdlib.SOCK_STREAM

    @property
    def proto(self) -> int:
        return 0

    @property
    def did_shutdown_SHUT_WR(self) -> bool:
        return self._did_shutdown

    def __repr__(self) -> str:
        return f"<virtual TCP socket {self.address} {'closed' if self._closed else 'open'}>"

    def is_at(self, host: str) -> bool:
        """Whether this end is at that host."""
        return self.address is not None and self._network.host_for(self.address[0]) == host

    def fileno(self) -> int:
        """-1 once it is closed; before, a number that is no descriptor of any process."""
        return -1 if self._closed else 2**30

    def getsockname(self) -> tuple[Any, ...]:
        """(host, port), or (host, port, 0, 0) of an IPv6 socket."""
        self._check_open()
        return as_name(self.address, self._family)

    def getpeername(self) -> tuple[Any, ...]:
        self._check_open()
        if self.connection is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return as_name(self.connection.outgoing(self).to, self._family)

    @overload
    def getsockopt(self, level: int, optname: int) -> int: ...
    @overload
    def getsockopt(self, level: int, optname: int, buflen: int) -> bytes: ...
    def getsockopt(self, level: int, optname: int, buflen: int | None = None) -> int | bytes:
        """SO_ACCEPTCONN, SO_TYPE and 0 for all others."""
        self._check_open()
        if level != stdlib.SOL_SOCKET:
            return 0
        return {stdlib.SO_ACCEPTCONN: int(self.is_listening), stdlib.SO_TYPE: int(stdlib.SOCK_STREAM)}.get(optname, 0)

    def setsockopt(self, *args: object) -> None:
        """Accepted and ignored: socket options mean nothing here."""
        self._check_open()

    # How connections come about

    async def bind(self, address: tuple[object, ...] | str | Buffer) -> None:
        self._check_open()
        if self.address is not None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self.address = self._network.bind_stream(self, checked_family(as_address(address), self._family))
        await trio.lowlevel.checkpoint()

    def listen(self, backlog: int = BACKLOG) -> None:
        self._check_open()
        if self.address is None:
            self.address = self._network.bind_stream(self, ("::" if self._family == stdlib.AF_INET6 else "0.0.0.0", 0))
        self.is_listening, self._backlog = True, max(backlog, 1)

    async def accept(self) -> tuple[VirtualStream, tuple[Any, ...]]:
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            self._check_open()
            if not self.is_listening:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            complete_at, stream = min(self._arriving, default=(inf, self), key=lambda arriving: arriving[0])
            assert self.address is not None
            stalled = any(self._network.is_stalled(host) for host in (self.address[0], *stream.hosts()))
            if complete_at <= trio.current_time() and not stalled:
                self._arriving.remove((complete_at, stream))
                await trio.lowlevel.cancel_shielded_checkpoint()
                return stream, stream.getpeername()
            await self._wait(inf if stalled else complete_at)

    async def connect(self, address: tuple[object, ...] | str | Buffer) -> None:
        """Raises ConnectionRefusedError where nobody listens."""
        self._check_open()
        if self.connection is not None or self.is_listening:
            raise OSError(errno.EISCONN, os.strerror(errno.EISCONN))
        to = checked_family(as_address(address), self._family)
        wanted = self.address or ("::" if self._family == stdlib.AF_INET6 else "0.0.0.0", 0)
        source = (self._network.host_for(wanted[0]), wanted[1])
        if self.address is None:
            source = self._network.bind_stream(self, source)
        self.address = source
        try:
            await trio.sleep(self._network.latency(source, to))
            while (listener := self._network.listener_at(to)) is not None and listener.is_full:  # noqa: ASYNC110 - as TCP does
                await trio.sleep(SYN_RESEND)
            if listener is not None:
                listener.arrive(self, to)
            await trio.sleep(self._network.latency(to, source))
        except trio.Cancelled:
            self.close()
            raise
        self._check_open()
        if listener is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))

    @property
    def is_full(self) -> bool:
        return len(self._arriving) >= self._backlog

    def arrive(self, client: VirtualStream, to: Address) -> None:
        """Called by a connecting socket when its SYN gets here: makes the connection's other end."""
        assert client.address is not None
        network, source = self._network, client.address
        server = VirtualStream(network, self._family)
        server.address, server.was_accepted = to, True
        network.streams.append(server)
        forth, back = Direction(source, to, network.latency), Direction(to, source, network.latency)
        client.connection = server.connection = Connection(client, server, forth, back)
        syn_ack = network.latency(to, source)
        self._arriving.append((trio.current_time() + syn_ack + network.latency(source, to), server))
        self.wake()

    def hosts(self) -> tuple[str, ...]:
        return () if self.address is None else (self.address[0],)

    # What goes over them

    async def send(self, data: Buffer, flags: int = 0, /) -> int:
        """How many octets have found room; waits while there is none."""
        octets = memoryview(data).cast("B")
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            self._check_open()
            connection, incoming, outgoing = self._connected()
            now = trio.current_time()
            if incoming.broken_at <= now:
                raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            if self._did_shutdown:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            if (room := BUFFER_OCTETS - outgoing.held) > 0 or not octets:
                break
            await self._wait(incoming.broken_at)
        part = bytes(octets[:room])
        self._network.note(outgoing.source, outgoing.to, part)
        outgoing.put(part)
        other = connection.other(self)
        if other.is_closed:  # its kernel says so
            reset_at = outgoing.last_due + self._network.latency(outgoing.to, outgoing.source)
            incoming.broken_at = min(incoming.broken_at, reset_at)
        other.wake()
        await trio.lowlevel.cancel_shielded_checkpoint()
        return len(part)

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()
        while True:
            self._check_open()
            _, incoming, outgoing = self._connected()
            if outgoing.held < BUFFER_OCTETS or incoming.broken_at <= trio.current_time():
                return
            await self._wait(incoming.broken_at)

    async def recv(self, buflen: int, flags: int = 0, /) -> bytes:
        """What has arrived, at most `buflen` octets; b"" at the end. Raises ConnectionResetError."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if (data := self._take(buflen)) is not None:
            await trio.lowlevel.cancel_shielded_checkpoint()  # as in trio's own sockets: not after having waited
        while data is None:
            await self._wait(self._next_at())
            data = self._take(buflen)
        return data

    def _take(self, most: int) -> bytes | None:
        """What has arrived, None while there is nothing."""
        self._check_open()
        connection, incoming, _ = self._connected()
        data = None if self._is_stalled(incoming) else incoming.take(most, trio.current_time())
        if data is not None:
            connection.other(self).wake()  # there is room again
        return data

    def _next_at(self) -> float:
        """When there is something new to read."""
        _, incoming, _ = self._connected()
        return incoming.broken_at if self._is_stalled(incoming) else incoming.next_at()

    def _is_stalled(self, incoming: Direction) -> bool:
        return self._network.is_stalled(incoming.to[0]) and incoming.broken_at > trio.current_time()

    def shutdown(self, flag: int) -> None:
        """SHUT_WR and SHUT_RDWR end what we send; what comes may still be read."""
        self._check_open()
        connection, _, outgoing = self._connected()
        if flag in (stdlib.SHUT_WR, stdlib.SHUT_RDWR) and not self._did_shutdown:
            self._did_shutdown = True
            outgoing.end()
            connection.other(self).wake()

    def close(self) -> None:
        """The other end reads what was sent and then the end; a reset, if this end has not read everything."""
        if self._closed:
            return
        self._closed = True
        if self in self._network.streams:
            self._network.streams.remove(self)
        for _, stream in self._arriving:
            stream.close()
        if self.connection is not None:
            incoming, outgoing = self.connection.incoming(self), self.connection.outgoing(self)
            if incoming.held:
                outgoing.reset()
            else:
                outgoing.end()
            self.connection.other(self).wake()
        self.wake()

    @property
    def is_closed(self) -> bool:
        return self._closed

    def wake(self) -> None:
        """Let all who wait on this socket look again."""
        self._changed.unpark_all()

    async def _wait(self, until: float) -> None:
        with trio.move_on_at(until):
            await self._changed.park()

    def _connected(self) -> tuple[Connection, Direction, Direction]:
        if self.connection is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self.connection, self.connection.incoming(self), self.connection.outgoing(self)

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this socket was already closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: builtins.type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
