"""RTP ports: even ones from the configured range with the odd ones above for RTCP, each with a rest between two calls.

A freed port is kept in quarantine so that a phone that has not noticed the end cannot speak into the next call.
"""

from __future__ import annotations

import errno
import itertools
import random
import socket as stdlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from math import gcd
from typing import Final, NamedTuple

import attrs
import trio

from aivc.config.settings import Address, RtpSettings

ATTEMPTS: Final = 200  # ports of others met for one call before it is refused
MORE_FILES: Final = "raise the limit of open files (ulimit -n)"


class NoPortFree(Exception):
    """Every RTP port tried is in use or in quarantine, or the system gives no socket."""


class MediaSockets(NamedTuple):
    """The bound sockets of one call."""

    rtp: trio.socket.SocketType
    rtcp: trio.socket.SocketType | None  # on the port above; None with `rtp.rtcp = false`


@attrs.define
class PortPool:
    """The RTP ports of one process.

    Args:
      settings: range, bind addresses and quarantine.
      random: in which order the range is tried, so that nobody can tell the port of the next call, and a restarted
        process does not meet its old peers.
    """

    settings: RtpSettings
    random: random.Random = attrs.field(factory=random.SystemRandom)
    _in_use: set[int] = attrs.field(init=False, factory=set)
    _free_at: dict[int, float] = attrs.field(init=False, factory=dict)  # port -> end of quarantine, oldest first

    @asynccontextmanager
    async def open_sockets(self, ipv6: bool = False) -> AsyncIterator[MediaSockets]:
        """A bound UDP socket for RTP, and one for RTCP above it; closed at the end and the ports put in quarantine.

        Raises NoPortFree.
        """
        sockets, port = await self._bind(ipv6)
        self._in_use.add(port)
        try:
            yield sockets
        finally:
            close(sockets)
            self._in_use.discard(port)
            self._free_at[port] = trio.current_time() + self.settings.quarantine_seconds

    @asynccontextmanager
    async def open_socket(self, ipv6: bool = False) -> AsyncIterator[trio.socket.SocketType]:
        """As `open_sockets`, for who only wants RTP."""
        async with self.open_sockets(ipv6) as sockets:
            yield sockets.rtp

    @property
    def in_use(self) -> int:
        return len(self._in_use)

    @property
    def _even_ports(self) -> range:
        # RFC 3550 section 11: RTP on the even port, RTCP on the odd one above
        last = self.settings.max_port - self.settings.rtcp
        return range(self.settings.min_port + self.settings.min_port % 2, last + 1, 2)

    async def _bind(self, ipv6: bool) -> tuple[MediaSockets, int]:
        for port in itertools.islice(self._candidates(), ATTEMPTS):
            sockets = await self._bound(ipv6, port)
            if sockets is not None:
                return sockets, port
        raise NoPortFree(
            f"no RTP port is free between {self.settings.min_port} and {self.settings.max_port}: {self.in_use} in use, "
            f"{len(self._free_at)} in quarantine; widen rtp.min_port and rtp.max_port"
        )

    async def _bound(self, ipv6: bool, port: int) -> MediaSockets | None:
        """The sockets of one call, None when somebody else has one of their ports."""
        rtp = await self._bound_socket(ipv6, port)
        if rtp is None:
            return None
        if not self.settings.rtcp:
            return MediaSockets(rtp, None)
        try:
            rtcp = await self._bound_socket(ipv6, port + 1)
        except BaseException:  # also when cancelled: nobody else knows of the first
            rtp.close()
            raise
        if rtcp is None:
            rtp.close()
            return None
        return MediaSockets(rtp, rtcp)

    async def _bound_socket(self, ipv6: bool, port: int) -> trio.socket.SocketType | None:
        name, ip = ("rtp.bind_ipv6", self.settings.bind_ipv6) if ipv6 else ("rtp.bind_ip", self.settings.bind_ip)
        sock = open_udp_socket(ipv6)
        try:
            await sock.bind((ip, port))
        except BaseException as error:  # as above
            sock.close()
            if not isinstance(error, OSError):
                raise
            if error.errno != errno.EADDRINUSE:
                raise NoPortFree(f"no socket for RTP at {name} = {ip}: {error.strerror}") from error
            return None
        return sock

    def _candidates(self) -> Iterator[int]:
        ports, now = self._even_ports, trio.current_time()
        while self._free_at and next(iter(self._free_at.values())) <= now:
            del self._free_at[next(iter(self._free_at))]
        # Our own are passed over before the attempts are counted.
        for n in self._shuffled(len(ports)):
            if ports[n] not in self._in_use and ports[n] not in self._free_at:
                yield ports[n]

    def _shuffled(self, count: int) -> Iterator[int]:
        """Each number below `count` once, in an order of its own: a shuffled list of 15,000 would cost 10 ms a call."""
        if count <= 0:
            return iter(())
        at, step = self.random.randrange(count), self.random.randrange(count) + 1
        while gcd(step, count) > 1:
            step = self.random.randrange(count) + 1
        return ((at + step * n) % count for n in range(count))


def close(sockets: MediaSockets) -> None:
    sockets.rtp.close()
    if sockets.rtcp is not None:
        sockets.rtcp.close()


def open_udp_socket(ipv6: bool = False) -> trio.socket.SocketType:
    """Raises NoPortFree when the process has no descriptor left, or the system no IPv6."""
    try:
        sock = trio.socket.socket(stdlib.AF_INET6 if ipv6 else stdlib.AF_INET, stdlib.SOCK_DGRAM)
    except OSError as error:
        hint = "there is no IPv6 here" if ipv6 and error.errno == errno.EAFNOSUPPORT else MORE_FILES
        raise NoPortFree(f"no socket for RTP: {error.strerror}; {hint}") from error
    if ipv6:  # an IPv4 caller has an IPv4 socket: no source ever looks like ::ffff:192.0.2.1
        sock.setsockopt(stdlib.IPPROTO_IPV6, stdlib.IPV6_V6ONLY, 1)
    return sock


async def local_ip_towards(remote: Address) -> str:
    """The address of ours from which datagrams to `remote` leave, of its family; nothing is sent.

    Raises OSError when there is no way to it, NoPortFree when the process has no descriptor left.
    """
    with open_udp_socket(is_ipv6(remote[0])) as sock:
        await sock.connect((remote[0], remote[1] or 9))
        return str(sock.getsockname()[0])


def is_ipv6(ip: str) -> bool:
    return ":" in ip
