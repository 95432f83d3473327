"""A virtual network, so that whole calls run under a fake clock with seeded delay, jitter, loss and reordering.

It stands on trio's public hooks: code under test calls `trio.socket.socket()` and `getaddrinfo()` as always. No task
runs for it: a packet waits in its receiver's heap until the receiver's clock reaches its due time, so nothing can leak.
UDP is in `aivc.testing.datagrams`, TCP in `aivc.testing.streams`, names in `aivc.testing.names`.
"""

from __future__ import annotations

import errno
import os
import random
import socket as stdlib
from collections.abc import Callable, Container
from typing import Final, Protocol, Self

import attrs
import trio
from trio.abc import SocketFactory

from aivc.config.settings import Address
from aivc.testing.addresses import is_wildcard, wildcards_for
from aivc.testing.chaos import Chaos
from aivc.testing.datagrams import InFlight, VirtualSocket
from aivc.testing.names import Names
from aivc.testing.ranges import SECONDS, SHARE
from aivc.testing.streams import VirtualStream

FIRST_EPHEMERAL_PORT = 49152  # RFC 6335 section 6
STREAM_RESEND = 0.2  # seconds, the least that TCP waits before it sends a lost segment again (Linux: TCP_RTO_MIN)
DUPLICATE_SECONDS: Final = 0.010  # by so much at most the second of two comes later
WEATHER: Final = ("seed", "delay", "jitter", "loss", "reordering", "reordering_delay", "duplication")


class Weather(Protocol):
    """What befalls datagrams."""

    @property
    def seed(self) -> int: ...
    @property
    def delay(self) -> float: ...
    @property
    def jitter(self) -> float: ...
    @property
    def loss(self) -> float: ...
    @property
    def reordering(self) -> float: ...
    @property
    def reordering_delay(self) -> float: ...
    @property
    def duplication(self) -> float: ...


@attrs.define
class Flow:
    """The fate of datagrams from one address to another: its own random stream, so that no other flow disturbs it."""

    random: random.Random
    sent: int = 0
    lost: int = 0


@attrs.define(eq=False)
class VirtualNetwork(SocketFactory):
    """Carries UDP and TCP between all sockets opened in this trio run after `enable()`.

    Hosts are strings: any IPv4 or IPv6 address will do. `streams` has the open TCP sockets.

    Args:
      seed: makes delay, loss and reordering repeatable, whatever the order in which trio runs the tasks.
      delay: one-way latency, seconds.
      jitter: extra latency drawn evenly from 0..jitter, seconds.
      loss: share of datagrams that vanish, 0..1; on TCP they are 0.2 s late.
      reordering: share of datagrams held back by `reordering_delay`, so that later ones overtake them, 0..1; no TCP.
      reordering_delay: seconds.
      duplication: share of datagrams that come twice, the second up to 10 ms later, 0..1; no TCP.
      chaos: all of these at once.
      hosts: what befalls all that goes to and from some hosts, in place of these; may be changed at any time.
      host: the address that a socket bound to 0.0.0.0 sends from.
      ipv6_host: the one that a socket bound to :: sends from.
      names: host names and their IP addresses, e.g. {"pbx.test": "192.0.2.5"}; may be changed at any time. A name
        without addresses () has a resolver that does not answer, one that is not there does not exist.
      on_packet: called with (source, to, data) for every datagram, lost or not, and every piece of a stream sent.

    Raises ValueError for a share that is none, and for seconds that are negative or no number; also when it is changed.
    """

    seed: int = 0
    delay: float = attrs.field(default=0.0, validator=SECONDS)
    jitter: float = attrs.field(default=0.0, validator=SECONDS)
    loss: float = attrs.field(default=0.0, validator=SHARE)
    reordering: float = attrs.field(default=0.0, validator=SHARE)
    reordering_delay: float = attrs.field(default=0.030, validator=SECONDS)
    duplication: float = attrs.field(default=0.0, validator=SHARE)
    chaos: Chaos | None = None
    hosts: dict[str, Chaos] = attrs.field(factory=dict)
    host: str = "127.0.0.1"
    ipv6_host: str = "::1"
    names: dict[str, str | tuple[str, ...]] = attrs.field(factory=dict)
    on_packet: Callable[[Address, Address, bytes], None] | None = None
    bound: dict[Address, VirtualSocket] = attrs.field(init=False, factory=dict, repr=False)  # UDP
    streams: list[VirtualStream] = attrs.field(init=False, factory=list, repr=False)  # TCP: bound, listening, connected
    flows: dict[tuple[Address, Address], Flow] = attrs.field(init=False, factory=dict, repr=False)
    _segments: dict[tuple[Address, Address], random.Random] = attrs.field(init=False, factory=dict, repr=False)
    _stalled: set[str] = attrs.field(init=False, factory=set)
    _refusing: set[str] = attrs.field(init=False, factory=set)
    _serial: int = attrs.field(init=False, default=0)
    _next_port: int = attrs.field(init=False, default=FIRST_EPHEMERAL_PORT)

    def __attrs_post_init__(self) -> None:
        if self.chaos is not None:
            for name in WEATHER:
                setattr(self, name, getattr(self.chaos, name))

    def enable(self) -> Self:
        """Give every later `trio.socket.socket()` of this trio run a socket of this network, and its names alone."""
        trio.socket.set_custom_socket_factory(self)
        trio.socket.set_custom_hostname_resolver(Names(self.names))
        return self

    def socket(
        self, family: int = stdlib.AF_INET, type: int = stdlib.SOCK_STREAM, proto: int = 0
    ) -> VirtualSocket | VirtualStream:
        if family not in (stdlib.AF_INET, stdlib.AF_INET6):
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        if type == stdlib.SOCK_DGRAM:
            return VirtualSocket(self, family)
        if type == stdlib.SOCK_STREAM:
            return VirtualStream(self, family)
        raise OSError(errno.ESOCKTNOSUPPORT, os.strerror(errno.ESOCKTNOSUPPORT))

    def cut(self, host: str) -> int:
        """Reset every TCP connection of a host, at both ends and at once; how many there were."""
        found = (stream.connection for stream in self.streams if stream.is_at(host))
        cut = list(dict.fromkeys(connection for connection in found if connection is not None))
        for connection in cut:
            connection.cut()
        return len(cut)

    def stall(self, host: str) -> None:
        """Let a host read nothing from TCP connections any more: they open, and take what fits into the buffers."""
        self._stalled.add(host)

    def refuse(self, host: str) -> None:
        """Let a host refuse every new TCP connection."""
        self._refusing.add(host)

    def resume(self, host: str) -> None:
        """End `stall` and `refuse`; what has been sent meanwhile is read now."""
        self._stalled.discard(host)
        self._refusing.discard(host)
        for stream in self.streams:
            stream.wake()

    def is_stalled(self, host: str) -> bool:
        return host in self._stalled

    def listener_at(self, to: Address) -> VirtualStream | None:
        """Who accepts connections to this address."""
        if to[0] in self._refusing:
            return None
        listening = {stream.address: stream for stream in self.streams if stream.is_listening}
        found = (listening.get((host, to[1])) for host in (to[0], *wildcards_for(to[0])))
        return next(filter(None, found), None)

    def bind_stream(self, stream: VirtualStream, address: Address) -> Address:
        """Reserve `address` for TCP (port 0: any free one). Raises OSError(EADDRINUSE)."""
        taken = {other.address for other in self.streams if other.address is not None and not other.was_accepted}
        address = self._free(address, taken)
        self.streams.append(stream)
        return address

    def latency(self, source: Address, to: Address) -> float:
        """How long the next piece of a stream is on its way, in seconds."""
        dice = self._segments.get((source, to))
        if dice is None:
            dice = self._segments[source, to] = random.Random(f"{self._weather(source, to).seed} tcp {source} {to}")
        weather = self._weather(source, to)
        late = dice.uniform(0, weather.jitter)
        return weather.delay + late + (STREAM_RESEND if dice.random() < weather.loss else 0.0)

    def forget(self, host: str) -> None:
        """Keep nothing of a host that is gone; `hosts` and `flows` would grow with every new one."""
        self.hosts.pop(host, None)
        for fates in (self.flows, self._segments):
            for between in [each for each in fates if host in (each[0][0], each[1][0])]:
                del fates[between]

    def note(self, source: Address, to: Address, data: bytes) -> None:
        """Tell `on_packet` of something sent."""
        if self.on_packet is not None:
            self.on_packet(source, to, data)

    def host_for(self, host: str) -> str:
        """The host that a socket bound to `host` sends from."""
        if not is_wildcard(host):
            return host
        return self.ipv6_host if ":" in host else self.host

    def bind(self, sock: VirtualSocket, address: Address) -> Address:
        """Reserve `address` (port 0: any free one). Raises OSError(EADDRINUSE)."""
        address = self._free(address, self.bound)
        self.bound[address] = sock
        return address

    def unbind(self, address: Address) -> None:
        self.bound.pop(address, None)

    def carry(self, source: Address, to: Address, data: bytes) -> None:
        """Send one datagram; where nobody listens it vanishes, and a connected sender is told."""
        self.note(source, to, data)
        flow = self._flow(source, to)
        flow.sent += 1
        weather = self._weather(source, to)
        due = self._due(source, to, flow, weather)
        if due is None:
            flow.lost += 1
            return
        if (receiver := self._bound_at(to)) is not None:
            self._serial += 1
            receiver.arrive(InFlight(due, self._serial, data, source))
            if weather.duplication and source[0] != to[0] and flow.random.random() < weather.duplication:
                self._serial += 1
                due += flow.random.uniform(0, DUPLICATE_SECONDS)
                receiver.arrive(InFlight(due, self._serial, data, source))
        elif (sender := self._bound_at(source)) is not None:
            sender.refuse(to, due + weather.delay)

    def _weather(self, source: Address, to: Address) -> Weather:
        if not self.hosts:
            return self
        return self.hosts.get(source[0]) or self.hosts.get(to[0]) or self

    def _due(self, source: Address, to: Address, flow: Flow, weather: Weather) -> float | None:
        """When a datagram arrives; None: it is lost. A host reaches itself at once, whatever the network does."""
        if source[0] == to[0]:
            return trio.current_time()
        late = flow.random.uniform(0, weather.jitter)
        if flow.random.random() < weather.reordering:
            late += weather.reordering_delay
        return None if flow.random.random() < weather.loss else trio.current_time() + weather.delay + late

    def _bound_at(self, address: Address) -> VirtualSocket | None:
        """Who gets datagrams to this address."""
        wildcards = (self.bound.get((host, address[1])) for host in wildcards_for(address[0]))
        return self.bound.get(address) or next(filter(None, wildcards), None)

    def _free(self, address: Address, taken: Container[Address]) -> Address:
        host, port = address
        while port == 0 or (address[1] == 0 and (host, port) in taken):
            port, self._next_port = self._next_port, self._next_port + 1
        if (host, port) in taken:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        return host, port

    def _flow(self, source: Address, to: Address) -> Flow:
        flow = self.flows.get((source, to))
        if flow is None:
            flow = self.flows[source, to] = Flow(random.Random(f"{self._weather(source, to).seed} {source} {to}"))
        return flow
