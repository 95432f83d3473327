"""A small HTTP server on loopback that answers what a test wants, well or badly."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio


@attrs.frozen
class Answer:
    """What every request gets.

    Args:
      body: as it is, or something to be sent as JSON.
      raw: the whole answer instead, after which the connection is closed.
      stalls: never finishes; `dribbles` makes it send an octet now and then.
    """

    body: object = b""
    status: str = "200 OK"
    headers: tuple[str, ...] = ()
    chunked: bool = False
    raw: bytes | None = None
    stalls: bool = False
    dribbles: bool = False

    @property
    def octets(self) -> bytes:
        if self.raw is not None:
            return self.raw
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        length = "Transfer-Encoding: chunked" if self.chunked else f"Content-Length: {len(body)}"
        head = "\r\n".join([f"HTTP/1.1 {self.status}", length, *self.headers, "", ""]).encode()
        return head + (b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if self.chunked else body)


@attrs.frozen
class Asked:
    """A request."""

    head: str
    body: bytes

    @property
    def line(self) -> str:
        return self.head.splitlines()[0]


@attrs.define(eq=False)
class SettingsServer:
    answer: Answer
    port: int = 0
    connections: int = 0
    requests: list[Asked] = attrs.field(factory=list)
    asked: trio.Event = attrs.field(factory=trio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/bots"

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        buffer = b""
        try:
            while block := await stream.receive_some(65_536):
                buffer += block
                head, end, body = buffer.partition(b"\r\n\r\n")
                if end and len(body) >= length_in(head):
                    buffer = b""
                    self.requests.append(Asked(head.decode(), body))
                    self.asked.set()
                    if not await self.reply(stream):
                        return
        except trio.BrokenResourceError:
            return  # the client has had enough

    async def reply(self, stream: trio.SocketStream) -> bool:
        """Return whether the connection goes on."""
        if self.answer.stalls:
            while self.answer.dribbles:
                await stream.send_all(b"H")
                await trio.sleep(0.05)
            await trio.sleep_forever()
        await stream.send_all(self.answer.octets)
        return self.answer.raw is None


def length_in(head: bytes) -> int:
    """Content-Length of a request."""
    fields = [line.partition(b":") for line in head.lower().splitlines()]
    return next((int(value) for name, _, value in fields if name == b"content-length"), 0)


@asynccontextmanager
async def open_settings_server(answer: Answer) -> AsyncIterator[SettingsServer]:
    server = SettingsServer(answer)
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        server.port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, server.serve, [listener])
        yield server
        nursery.cancel_scope.cancel()
