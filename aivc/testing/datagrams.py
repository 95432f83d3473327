"""UDP in a virtual network: a socket whose datagrams wait in its heap until their time has come."""

from __future__ import annotations

import builtins
import errno
import heapq
import os
import socket as stdlib
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, overload

import attrs
import trio
from trio.socket import SocketType

from aivc.config.settings import Address
from aivc.testing.addresses import as_address, as_name, checked_family

if TYPE_CHECKING:
    from typing_extensions import Buffer

RECEIVE_QUEUE_DATAGRAMS: Final = 4096  # per socket; what does not fit is lost, as in a kernel
MAX_DATAGRAM_OCTETS: Final = 65_507  # over IPv4; IPv6's 20 more do not matter here


@attrs.frozen(order=True)
class InFlight:
    """One datagram on its way."""

    due: float  # seconds on trio's clock
    serial: int  # ties arrive in sending order
    data: bytes = attrs.field(order=False)
    source: Address = attrs.field(order=False)


class Wires(Protocol):
    """What a socket asks of its network."""

    def bind(self, sock: VirtualSocket, address: Address) -> Address: ...
    def unbind(self, address: Address) -> None: ...
    def carry(self, source: Address, to: Address, data: bytes) -> None: ...
    def host_for(self, host: str) -> str: ...


class VirtualSocket(SocketType):
    """One UDP socket of a `VirtualNetwork`: bind, sendto, recvfrom; and connect, after which send and recv.

    As in Linux: a connected one gets nothing from others, and learns once, when it next sends or receives, that nobody
    listens at the other end.
    """

    def __init__(self, network: Wires, family: int = stdlib.AF_INET) -> None:
        super().__init__()
        self._network = network
        self._family = stdlib.AddressFamily(family)
        self._address: Address | None = None
        self._name: Address | None = None  # what a connected socket calls itself
        self._peer: Address | None = None  # of a connected one
        self._refused_at = inf  # when it learns that nobody listens there
        self._arrivals: list[InFlight] = []
        self._waiting = trio.CancelScope()  # of the one task that waits for a datagram
        self._closed = False

    async def bind(self, address: tuple[object, ...] | str | Buffer) -> None:
        self._check_open()
        self._address = self._network.bind(self, checked_family(as_address(address), self._family))
        await trio.lowlevel.checkpoint()

    async def connect(self, address: tuple[object, ...] | str | Buffer) -> None:
        self._check_open()
        peer = checked_family(as_address(address), self._family)
        host, port = self._bind_anywhere()
        self._name = (self._network.host_for(host), port)
        self._peer = (self._network.host_for(peer[0]), peer[1])
        self._refused_at = inf
        await trio.lowlevel.checkpoint()

    def getsockname(self) -> tuple[Any, ...]:
        """(host, port), or (host, port, 0, 0) of an IPv6 socket."""
        self._check_open()
        return as_name(self._name or self._address, self._family)

    @property
    def family(self) -> stdlib.AddressFamily:
        return self._family

    @property
    def type(self) -> stdlib.SocketKind:
        return stdlib.SOCK_DGRAM

    @property
    def proto(self) -> int:
        return 0

    def __repr__(self) -> str:
        return f"<virtual UDP socket {self._address} {'closed' if self._closed else 'open'}>"

    def fileno(self) -> int:
        """-1: there is no descriptor that a poll could wait for."""
        return -1

    @overload
    async def sendto(self, data: Buffer, address: tuple[object, ...] | str | Buffer, /) -> int: ...
    @overload
    async def sendto(self, data: Buffer, flags: int, address: tuple[object, ...] | str | Buffer, /) -> int: ...
    async def sendto(self, *args: object) -> int:
        self._check_open()
        data, address = args[0], args[-1]
        assert isinstance(data, (bytes, bytearray, memoryview))
        return await self._send(bytes(data), checked_family(as_address(address), self._family))

    async def send(self, data: Buffer, flags: int = 0, /) -> int:
        self._check_open()
        if self._peer is None:
            raise OSError(errno.EDESTADDRREQ, os.strerror(errno.EDESTADDRREQ))
        return await self._send(bytes(data), self._peer)

    async def _send(self, data: bytes, to: Address) -> int:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        self._check_refused()
        if len(data) > MAX_DATAGRAM_OCTETS:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        host, port = self._bind_anywhere()
        self._network.carry((self._network.host_for(host), port), to, data)
        await trio.lowlevel.cancel_shielded_checkpoint()  # after it is sent, as trio's own sockets do
        return len(data)

    def _bind_anywhere(self) -> Address:
        if self._address is None:
            wildcard = "::" if self._family == stdlib.AF_INET6 else "0.0.0.0"
            self._address = self._network.bind(self, (self._network.host_for(wildcard), 0))
        return self._address

    async def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, tuple[Any, ...]]:
        await trio.lowlevel.checkpoint_if_cancelled()
        if (packet := self._take()) is not None:
            await trio.lowlevel.cancel_shielded_checkpoint()  # as in trio's own sockets: not after having waited
        while packet is None:
            due = self._arrivals[0].due if self._arrivals else inf
            with trio.CancelScope(deadline=min(due, self._refused_at)) as self._waiting:
                await trio.sleep_forever()
            packet = self._take()
        return packet.data[:bufsize], as_name(packet.source, self._family)

    def _take(self) -> InFlight | None:
        """The next datagram, if it has arrived."""
        self._check_open()
        self._check_refused()
        if self._arrivals and self._arrivals[0].due <= trio.current_time():
            return heapq.heappop(self._arrivals)
        return None

    async def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        return (await self.recvfrom(bufsize, flags))[0]

    def refuse(self, by: Address, due: float) -> None:
        """Tell of what was sent that nobody listens there."""
        if by == self._peer:
            self._refused_at = min(self._refused_at, due)
            self._waiting.deadline = min(self._waiting.deadline, due)

    def arrive(self, packet: InFlight) -> None:
        if self._peer is not None and packet.source != self._peer:
            return
        if len(self._arrivals) < RECEIVE_QUEUE_DATAGRAMS:
            heapq.heappush(self._arrivals, packet)
            self._waiting.deadline = min(self._waiting.deadline, packet.due)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._address is not None:
                self._network.unbind(self._address)
            self._waiting.deadline = -inf

    def setsockopt(self, *args: object) -> None:
        """Accepted and ignored: socket options mean nothing here."""

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this socket was already closed")

    def _check_refused(self) -> None:
        if self._refused_at != inf and self._refused_at <= trio.current_time():
            self._refused_at = inf
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: builtins.type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
