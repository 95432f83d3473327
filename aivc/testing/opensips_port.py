"""One UDP socket of the test OpenSIPS: what is sent is queued, so that every decision above it is one step."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import attrs
import trio

from aivc.config.settings import Address
from aivc.testing.transports import family_of

QUEUED: Final = 4096  # datagrams that wait to be sent: none, but for an instant
READ_OCTETS: Final = 65_535


@attrs.define(eq=False, repr=False)
class Port:
    """Built by `open_port`; closed by whoever opened it."""

    socket: trio.socket.SocketType
    address: Address
    _sending: trio.MemorySendChannel[tuple[bytes, Address]]
    _queued: trio.MemoryReceiveChannel[tuple[bytes, Address]]

    def send_nowait(self, data: bytes, to: Address) -> None:
        """Send one datagram. Raises trio.WouldBlock when thousands wait."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # it is being closed: lost
            self._sending.send_nowait((data, to))

    async def transmit(self) -> None:
        """Task: send what is queued."""
        async for data, to in self._queued:
            with suppress(OSError):  # nobody there, no route: lost like any datagram
                await self.socket.sendto(data, to)

    async def receive(self, take: Callable[[bytes, Address], Awaitable[None]]) -> None:
        """Task: give every datagram to `take`."""
        while True:
            try:
                data, source = await self.socket.recvfrom(READ_OCTETS)
            except OSError:  # the answer to somebody who has gone (ICMP), which is not ours to care about
                continue
            await take(data, (str(source[0]), int(source[1])))

    def close(self) -> None:
        self.socket.close()
        self._sending.close()


async def open_port(address: Address) -> Port:
    """Bind; port 0 is any free one. Raises OSError."""
    socket = trio.socket.socket(family_of(address[0]), trio.socket.SOCK_DGRAM)
    try:
        await socket.bind(address)
    except BaseException:
        socket.close()
        raise
    host, port = socket.getsockname()[:2]
    sending, queued = trio.open_memory_channel[tuple[bytes, Address]](QUEUED)
    return Port(socket, (str(host), int(port)), sending, queued)
