"""The raw telephone of the SIP tests, on a TCP connection instead of a socket for datagrams."""

from __future__ import annotations

import trio
from sip_phone import Phone

from aivc.sip.framing import StreamFramer
from aivc.sip.message import Request, Response, parse_untrusted


class Telephone(Phone):
    """The phone of the other tests, on a connection."""

    stream: trio.SocketStream
    framer: StreamFramer
    heard: list[bytes]

    def take(self, stream: trio.SocketStream) -> None:
        """Talk over this connection from now on."""
        self.stream, self.framer, self.heard = stream, StreamFramer(), []

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data.replace(b"SIP/2.0/UDP", b"SIP/2.0/TCP"))

    async def receive(self, seconds: float = 5.0) -> Request | Response:
        with trio.fail_after(seconds):
            while not self.heard:
                data = bytes(await self.stream.receive_some())
                assert data, f"closed by the server after {trio.current_time():.0f} s"
                self.heard += [frame for frame in self.framer.feed(data) if isinstance(frame, bytes)]
        return parse_untrusted(self.heard.pop(0))
