"""The server's end of a connection, over memory or TCP, with the faults that a network has."""

from __future__ import annotations

import socket
import struct

import trio

from aivc.testing.websocket import LARGEST_READ, MemoryStream


class Line(trio.abc.Stream):
    """A stream that gives back what was read ahead, and that can be cut or go half-open.

    Args:
        inner: the connection, owned from now on.
        read_ahead: octets that were taken from it already.
    """

    def __init__(self, inner: trio.abc.Stream, read_ahead: bytes = b"") -> None:
        self._inner = inner
        self._read_ahead = read_ahead
        self._stalled = False

    async def read_until(self, end: bytes, longest: int) -> bytes | None:
        """What comes before `end`, leaving everything to be read again; None if the peer closed or sent more."""
        while end not in self._read_ahead:
            if len(self._read_ahead) > longest:
                return None
            data = await self._inner.receive_some()
            if not data:
                return None
            self._read_ahead += bytes(data)
        return self._read_ahead.partition(end)[0]

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._read_ahead:
            await trio.lowlevel.checkpoint()
            size = max_bytes or LARGEST_READ
            data, self._read_ahead = self._read_ahead[:size], self._read_ahead[size:]
        else:
            data = bytes(await self._inner.receive_some(max_bytes))
        if self._stalled:
            await trio.sleep_forever()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._stalled:
            await trio.sleep_forever()
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._inner.aclose()

    def stall(self) -> None:
        """Read and send nothing any more, and keep the connection open."""
        self._stalled = True
        if isinstance(self._inner, MemoryStream):
            self._inner.stall()

    def drop(self) -> None:
        """Cut the connection: TCP sends a reset, and no WebSocket close frame goes out."""
        if isinstance(self._inner, MemoryStream):
            self._inner.drop()
        elif isinstance(self._inner, trio.SocketStream):
            self._inner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._inner.socket.close()
