"""The connection as trio-websocket sees it: without the server's messages, which take a shorter way.

socket -> sieve -> messages -> inbox ----------> whoever receives, who then turns to
                -> all else -> trio-websocket -> `get_message`, once the sieve has retired
"""

from __future__ import annotations

from typing import Final

import attrs
import trio

from aivc.realtime.inbox import Inbox
from aivc.realtime.sieve import MessageSieve
from aivc.realtime.stream import ByteStream

CLOSE: Final = b"\x88"  # first octet of a close frame, RFC 6455 section 5.2; trio-websocket writes a frame at a time


@attrs.define(eq=False)
class MessageTap(trio.abc.Stream):
    """A stream for trio-websocket; its reader is the one that reads.

    Args:
      stream: the connection.
      messages: takes the server's messages; while it is full nothing is read. It ends when trio-websocket has the rest.
    """

    stream: ByteStream
    messages: Inbox
    _sieve: MessageSieve
    is_closing: bool = attrs.field(init=False, default=False)  # a close frame was written: nothing may follow it
    _late: list[str] = attrs.field(init=False, factory=list)  # messages for which the inbox had no room
    _rest: bytes | None = attrs.field(init=False, default=None)  # for trio-websocket; empty at the end of the stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while self._rest is None:
            if self.messages.is_taken:  # then nobody is woken for a message
                await self.stream.receive_each(self._sift)
            else:
                self._sift(await self.stream.receive_some(max_bytes))
            while self._late:
                await self.messages.put(self._late.pop(0))
            if self._sieve.retired:
                self.messages.end()
        rest, self._rest = self._rest, None
        return rest

    def _sift(self, data: bytes) -> bool:
        """Pass messages on; False when there is something else to do before the next octets."""
        messages, rest = self._sieve.feed_untrusted(data)
        for message in messages:
            if not self.messages.put_nowait(message):
                self._late.append(message)
        if rest or not data:
            self._rest = rest
        return not self._late and self._rest is None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.is_closing = self.is_closing or data[:1] == CLOSE
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self.stream.aclose()
