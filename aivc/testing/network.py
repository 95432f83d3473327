"""A virtual UDP network, so that whole calls run under a fake clock with seeded delay, jitter, loss and reordering.

It stands on trio's public socket-factory hook: code under test calls `trio.socket.socket()` as always. No task runs
for it: a packet waits in its receiver's heap until the receiver's clock reaches its due time, so nothing can leak.
"""

from __future__ import annotations

import errno
import heapq
import os
import random
import socket as stdlib
from collections.abc import Callable
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Self, overload

import attrs
import trio
from trio.abc import SocketFactory
from trio.socket import SocketType

from aivc.config.settings import Address

if TYPE_CHECKING:
    from typing_extensions import Buffer

WILDCARDS = ("0.0.0.0", "::", "")
FIRST_EPHEMERAL_PORT = 49152  # RFC 6335 section 6
RECEIVE_QUEUE_DATAGRAMS = 4096  # per socket; what does not fit is lost, as in a kernel


@attrs.frozen(order=True)
class InFlight:
    """One datagram on its way."""

    due: float  # seconds on trio's clock
    serial: int  # ties arrive in sending order
    data: bytes = attrs.field(order=False)
    source: Address = attrs.field(order=False)


@attrs.define
class Flow:
    """The fate of datagrams from one address to another: its own random stream, so that no other flow disturbs it."""

    random: random.Random
    sent: int = 0
    lost: int = 0


@attrs.define(eq=False)
class VirtualNetwork(SocketFactory):
    """Carries UDP between all sockets opened in this trio run after `enable()`.

    Args:
      seed: makes delay, loss and reordering repeatable, whatever the order in which trio runs the tasks.
      delay: one-way latency, seconds.
      jitter: extra latency drawn evenly from 0..jitter, seconds.
      loss: share of datagrams that vanish, 0..1.
      reordering: share of datagrams held back by `reordering_delay`, so that later ones overtake them, 0..1.
      reordering_delay: seconds.
      host: the address that a socket bound to 0.0.0.0 sends from.
      on_packet: called with (source, to, data) for every datagram sent, lost or not.
    """

    seed: int = 0
    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    reordering: float = 0.0
    reordering_delay: float = 0.030
    host: str = "127.0.0.1"
    on_packet: Callable[[Address, Address, bytes], None] | None = None
    bound: dict[Address, VirtualSocket] = attrs.field(init=False, factory=dict, repr=False)
    flows: dict[tuple[Address, Address], Flow] = attrs.field(init=False, factory=dict, repr=False)
    _serial: int = attrs.field(init=False, default=0)
    _next_port: int = attrs.field(init=False, default=FIRST_EPHEMERAL_PORT)

    def enable(self) -> Self:
        """Give every later `trio.socket.socket()` of this trio run a socket of this network."""
        trio.socket.set_custom_socket_factory(self)
        return self

    def socket(self, family: int = stdlib.AF_INET, type: int = stdlib.SOCK_STREAM, proto: int = 0) -> VirtualSocket:
        if type != stdlib.SOCK_DGRAM:
            raise NotImplementedError("the virtual network carries UDP only")
        return VirtualSocket(self)

    def bind(self, sock: VirtualSocket, address: Address) -> Address:
        """Reserve `address` (port 0: any free one). Raises OSError(EADDRINUSE)."""
        host, port = address
        if port == 0:
            port, self._next_port = self._next_port, self._next_port + 1
        if (host, port) in self.bound:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self.bound[host, port] = sock
        return host, port

    def unbind(self, address: Address) -> None:
        self.bound.pop(address, None)

    def carry(self, source: Address, to: Address, data: bytes) -> None:
        """Send one datagram; where nobody listens it vanishes."""
        if self.on_packet is not None:
            self.on_packet(source, to, data)
        flow = self._flow(source, to)
        flow.sent += 1
        late = flow.random.uniform(0, self.jitter)
        if flow.random.random() < self.reordering:
            late += self.reordering_delay
        if flow.random.random() < self.loss:
            flow.lost += 1
            return
        wildcards = (self.bound.get((host, to[1])) for host in WILDCARDS)
        receiver = self.bound.get(to) or next(filter(None, wildcards), None)
        if receiver is not None:
            self._serial += 1
            receiver.arrive(InFlight(trio.current_time() + self.delay + late, self._serial, data, source))

    def _flow(self, source: Address, to: Address) -> Flow:
        flow = self.flows.get((source, to))
        if flow is None:
            flow = self.flows[source, to] = Flow(random.Random(f"{self.seed} {source} {to}"))
        return flow


class VirtualSocket(SocketType):
    """One UDP socket of a `VirtualNetwork`: bind, sendto, recvfrom, and connect to learn one's own address."""

    def __init__(self, network: VirtualNetwork) -> None:
        super().__init__()
        self._network = network
        self._address: Address | None = None
        self._arrivals: list[InFlight] = []
        self._waiting = trio.CancelScope()  # of the one task that waits for a datagram
        self._closed = False

    async def bind(self, address: tuple[object, ...] | str | Buffer) -> None:
        self._check_open()
        self._address = self._network.bind(self, as_address(address))
        await trio.lowlevel.checkpoint()

    async def connect(self, address: tuple[object, ...] | str | Buffer) -> None:
        self._check_open()
        if self._address is None:
            self._address = self._network.bind(self, (self._network.host, 0))
        await trio.lowlevel.checkpoint()

    def getsockname(self) -> Address:
        self._check_open()
        return self._address or ("0.0.0.0", 0)

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
        await trio.lowlevel.checkpoint()
        self._check_open()
        if self._address is None:
            self._address = self._network.bind(self, (self._network.host, 0))
        host, port = self._address
        source = (self._network.host if host in WILDCARDS else host, port)
        self._network.carry(source, as_address(address), bytes(data))
        return len(data)

    async def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Address]:
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            self._check_open()
            if self._arrivals and self._arrivals[0].due <= trio.current_time():
                packet = heapq.heappop(self._arrivals)
                await trio.lowlevel.cancel_shielded_checkpoint()
                return packet.data[:bufsize], packet.source
            with trio.CancelScope(deadline=self._arrivals[0].due if self._arrivals else inf) as self._waiting:
                await trio.sleep_forever()

    def arrive(self, packet: InFlight) -> None:
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


def as_address(address: object) -> Address:
    """The (host, port) of a socket address given in any of the forms that sockets take."""
    if not isinstance(address, tuple) or len(address) < 2:
        raise OSError(errno.EINVAL, f"{address!r} is not (host, port)")
    return str(address[0]), int(str(address[1]))
