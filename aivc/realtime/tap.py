"""The connection as trio-websocket sees it: without the server's messages, which take a shorter way.

socket -> sieve -> messages -> channel ------------------> whoever receives
                -> all else -> trio-websocket -> `relay` ---^
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from aivc.realtime.sieve import MessageSieve
from aivc.realtime.stream import ByteStream

Message = str | bytes


@attrs.define(eq=False)
class MessageTap(trio.abc.Stream):
    """A stream for trio-websocket; its reader is the one that reads.

    Args:
      stream: the connection.
      messages: takes the server's messages; while it is full nothing is read.

    Attributes:
      straight: is given each message first; what it returns False for goes to `messages`.
    """

    stream: ByteStream
    messages: trio.MemorySendChannel[Message]
    _sieve: MessageSieve
    straight: Callable[[Message], bool] | None = attrs.field(init=False, default=None)
    _retired: bool = attrs.field(init=False, default=False)  # True: trio-websocket gets everything from now on
    _begin_relay: Callable[[], None] | None = attrs.field(init=False, default=None)

    def upgraded(self, websocket: WebSocketConnection, nursery: trio.Nursery) -> None:
        """Relay in this nursery, once the sieve has retired: a task that waited for that would take 2 KiB a call."""
        begin = partial(nursery.start_soon, self._relay, websocket)
        if self._retired:
            begin()
        else:
            self._begin_relay = begin

    def end(self) -> None:
        """Say that no message comes any more, when nobody reads; and forget the WebSocket, which knows us."""
        self.messages.close()
        self._begin_relay = None

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while (rest := await self._receive(max_bytes)) is None:
            pass
        return rest

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self.stream.aclose()

    async def _receive(self, max_bytes: int | None) -> bytes | None:
        """What came for trio-websocket, empty at the end of the stream; None when there were messages only."""
        try:
            data = await self.stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._retire()
            raise
        messages, rest = self._sieve.feed_untrusted(data)
        for message in messages:
            await self._deliver(message)
        if self._sieve.retired or not data:
            self._retire()
        return rest if rest or not data else None

    def _retire(self) -> None:
        begin, self._begin_relay, self._retired = self._begin_relay, None, True
        if begin is not None:
            begin()

    async def _relay(self, websocket: WebSocketConnection) -> None:
        """Task: pass on what trio-websocket receives, until the connection is over."""
        with self.messages, contextlib.suppress(ConnectionClosed):
            while True:
                await self._deliver(await websocket.get_message())

    async def _deliver(self, message: Message) -> None:
        if self.straight is not None and self.straight(message):
            return
        with contextlib.suppress(trio.BrokenResourceError):  # nobody receives any more: we are closing
            try:
                self.messages.send_nowait(message)
            except trio.WouldBlock:
                await self.messages.send(message)
