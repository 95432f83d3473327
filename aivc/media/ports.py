"""RTP ports: even ones from the configured range, each with a rest between two calls.

A freed port is kept in quarantine so that a phone that has not noticed the end cannot speak into the next call.
"""

from __future__ import annotations

import errno
import itertools
import random
import socket as stdlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from aivc.config.settings import Address, RtpSettings

ATTEMPTS: Final = 200  # ports of others met for one call before it is refused


class NoPortFree(Exception):
    """Every RTP port tried is in use or in quarantine, or the system gives no socket."""


@attrs.define
class PortPool:
    """The RTP ports of one process.

    Args:
      settings: range, bind address and quarantine.
      random: where in the range to begin, so that a restarted process does not meet its old peers.
    """

    settings: RtpSettings
    random: random.Random = attrs.field(factory=random.SystemRandom)
    _in_use: set[int] = attrs.field(init=False, factory=set)
    _free_at: dict[int, float] = attrs.field(init=False, factory=dict)  # port -> end of quarantine, oldest first
    _next: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._next = self.random.randrange(max(1, len(self._even_ports)))

    @asynccontextmanager
    async def open_socket(self) -> AsyncIterator[trio.socket.SocketType]:
        """A bound UDP socket, closed at the end of the block and its port put in quarantine.

        Raises NoPortFree.
        """
        sock, port = await self._bind()
        self._in_use.add(port)
        try:
            yield sock
        finally:
            sock.close()
            self._in_use.discard(port)
            self._free_at[port] = trio.current_time() + self.settings.quarantine_seconds

    @property
    def in_use(self) -> int:
        return len(self._in_use)

    @property
    def _even_ports(self) -> range:
        # RFC 3550 section 11: RTP on the even port, which leaves the odd one above to RTCP
        return range(self.settings.min_port + self.settings.min_port % 2, self.settings.max_port + 1, 2)

    async def _bind(self) -> tuple[trio.socket.SocketType, int]:
        for port in itertools.islice(self._candidates(), ATTEMPTS):
            sock = open_udp_socket()
            try:
                await sock.bind((self.settings.bind_ip, port))
            except BaseException as error:  # also when cancelled: nobody else knows of this socket
                sock.close()
                if not isinstance(error, OSError) or error.errno != errno.EADDRINUSE:
                    raise
            else:
                return sock, port
        raise NoPortFree(
            f"no RTP port is free between {self.settings.min_port} and {self.settings.max_port}: {self.in_use} in use, "
            f"{len(self._free_at)} in quarantine; widen rtp.min_port and rtp.max_port"
        )

    def _candidates(self) -> Iterator[int]:
        ports, now = self._even_ports, trio.current_time()
        while self._free_at and next(iter(self._free_at.values())) <= now:
            del self._free_at[next(iter(self._free_at))]
        # Our own are passed over before the attempts are counted.
        for _ in range(len(ports)):
            port = ports[self._next]
            self._next = (self._next + 1) % len(ports)
            if port not in self._in_use and port not in self._free_at:
                yield port


def open_udp_socket() -> trio.socket.SocketType:
    """Raises NoPortFree when the process has no descriptor left."""
    try:
        return trio.socket.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM)
    except OSError as error:
        raise NoPortFree(f"no socket for RTP: {error.strerror}; raise the limit of open files (ulimit -n)") from error


async def local_ip_towards(remote: Address) -> str:
    """The IPv4 address of ours from which datagrams to `remote` leave; nothing is sent.

    Raises OSError when there is no way to it, NoPortFree when the process has no descriptor left.
    """
    with open_udp_socket() as sock:
        await sock.connect((remote[0], remote[1] or 9))
        return str(sock.getsockname()[0])
