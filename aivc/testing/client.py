"""A Realtime client without opinions, for testing servers: it sends anything and keeps all that comes back."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from aivc.config.settings import Codec
from aivc.testing.schema import Json

FORMATS: dict[Codec, str] = {"PCMU": "audio/pcmu", "PCMA": "audio/pcma"}
FRAME_OCTETS = 160  # 20 ms of G.711
FRAME_SECONDS = 0.020
LARGEST_MESSAGE_OCTETS = 16 * 1024 * 1024


class ConnectionOver(Exception):
    """The connection ended before what was waited for came."""


@attrs.define(eq=False)
class RawClient:
    """One open connection; made by `raw_client()`."""

    websocket: WebSocketConnection
    events: list[tuple[float, Json]] = attrs.field(factory=list)  # with the time of their arrival
    closed: tuple[int, str] | None = None  # close code and reason
    _news: trio.Event = attrs.field(factory=trio.Event)

    async def send(self, event_type: str, **fields: object) -> None:
        """Send one client event."""
        await self.websocket.send_message(json.dumps({"type": event_type, **fields}))

    async def configure(self, codec: Codec = "PCMU", **session: object) -> Json:
        """Ask for G.711 both ways (GA); returns `session.updated`. `audio.input` fields go into `input`."""
        audio_format = {"type": FORMATS[codec]}
        more = cast("Json", session.pop("input", {}))
        audio = {"input": {"format": audio_format, **more}, "output": {"format": audio_format}}
        before = len(self.received("session.updated"))
        await self.send("session.update", session={"type": "realtime", "audio": audio, **session})
        return await self.wait_for("session.updated", count=before + 1)

    async def append(self, octets: bytes) -> None:
        """Send one `input_audio_buffer.append`."""
        await self.send("input_audio_buffer.append", audio=base64.b64encode(octets).decode())

    async def speak(self, octets: bytes) -> None:
        """Append G.711 in frames of 20 ms, in real time."""
        start = trio.current_time()
        for n, at in enumerate(range(0, len(octets), FRAME_OCTETS), 1):
            await self.append(octets[at : at + FRAME_OCTETS])
            await trio.sleep_until(start + n * FRAME_SECONDS)

    def received(self, event_type: str) -> list[Json]:
        """The events of this type so far."""
        return [event for _, event in self.events if event["type"] == event_type]

    @property
    def types(self) -> list[str]:
        return [event["type"] for _, event in self.events]

    async def wait_for(self, event_type: str, *, count: int = 1) -> Json:
        """The `count`-th event of this type since the connection began.

        Raises:
            ConnectionOver: it never came.
        """
        await trio.lowlevel.checkpoint()
        while len(found := self.received(event_type)) < count:
            if self.closed is not None:
                raise ConnectionOver(f"closed with {self.closed} before {event_type} number {count}")
            await self._news.wait()
        return found[count - 1]

    async def wait_closed(self) -> tuple[int, str]:
        """The close code and reason, once the connection is over."""
        await trio.lowlevel.checkpoint()
        while self.closed is None:
            await self._news.wait()
        return self.closed

    def audio(self, item_id: str | None = None) -> bytes:
        """All octets of audio deltas, of one item or of all."""
        deltas = self.received("response.output_audio.delta") + self.received("response.audio.delta")
        mine = (event for event in deltas if item_id in (None, event["item_id"]))
        return b"".join(base64.b64decode(event["delta"]) for event in mine)

    async def read(self) -> None:
        """Keep what comes until the connection is over; runs in the background."""
        try:
            while True:
                self.events.append((trio.current_time(), json.loads(await self.websocket.get_message())))
                self._announce()
        except ConnectionClosed as error:
            self.closed = (error.reason.code, error.reason.reason or "") if error.reason else (1006, "")
            self._announce()

    def _announce(self) -> None:
        self._news.set()
        self._news = trio.Event()


@asynccontextmanager
async def raw_client(
    stream: trio.abc.Stream,
    *,
    key: str | None = "test-key",
    resource: str = "/v1/realtime?model=gpt-realtime-2.1",
    headers: Sequence[tuple[str, str]] = (),
    subprotocols: Sequence[str] = (),
) -> AsyncIterator[RawClient]:
    """Connect over a stream, such as `FakeModel.open_stream()`, and close it at the end.

    Raises:
        trio_websocket.ConnectionRejected: in an ExceptionGroup, if the server refuses the upgrade.
    """
    sent = [(name.lower().encode(), value.encode()) for name, value in headers]
    if key is not None:
        sent.append((b"authorization", f"Bearer {key}".encode()))
    try:
        async with trio.open_nursery() as nursery:
            websocket = await wrap_client_stream(
                nursery,
                cast("trio.SocketStream", stream),  # typed narrowly, takes any stream
                "realtime.test",
                resource,
                subprotocols=subprotocols,
                extra_headers=sent,
                max_message_size=LARGEST_MESSAGE_OCTETS,
            )
            client = RawClient(websocket)
            nursery.start_soon(client.read)
            yield client
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)  # trio-websocket leaves a connection that broke to its owner
