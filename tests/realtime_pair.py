"""A `RealtimeSocket` and trio-websocket's own server, joined by a socket pair."""

from __future__ import annotations

import json
import socket as stdlib_socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio
import trio.testing
from trio_websocket import WebSocketConnection, WebSocketRequest, wrap_server_stream

from aivc.config.settings import OpenAISettings, Secret
from aivc.realtime.connection import (
    RealtimeSocket,
    wrap_realtime,
)
from aivc.realtime.stream import SocketByteStream

KEY = "sk-secret-0123456789"
SETTINGS = OpenAISettings(key=Secret(KEY), voice="marin", model="gpt-realtime-2.1")
HEADERS = (("Authorization", f"Bearer {KEY}"),)
Serve = Callable[[WebSocketRequest], Awaitable[None]]


def byte_streams() -> tuple[SocketByteStream, trio.SocketStream]:
    ours, theirs = stdlib_socket.socketpair()
    ours.setblocking(False)
    return SocketByteStream(ours), trio.SocketStream(trio.socket.from_stdlib_socket(theirs))


async def accept(nursery: trio.Nursery, stream: trio.abc.Stream, serve: Serve) -> None:
    await serve(await wrap_server_stream(nursery, stream))


@attrs.define
class Pair:
    client: RealtimeSocket
    server: WebSocketConnection
    nursery: trio.Nursery
    stream: SocketByteStream


@asynccontextmanager
async def connected() -> AsyncIterator[Pair]:
    """Both ends of an upgraded connection; leaving the block ends both readers."""
    servers: list[WebSocketConnection] = []

    async def serve(request: WebSocketRequest) -> None:
        servers.append(await request.accept())

    ours, theirs = byte_streams()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept, nursery, theirs, serve)
        client = await wrap_realtime(nursery, ours, "realtime.test", "/v1/realtime?model=m", HEADERS)
        await trio.testing.wait_all_tasks_blocked()
        yield Pair(client, servers[0], nursery, ours)
        nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(theirs)


async def say(server: WebSocketConnection, event_type: str, **fields: object) -> None:
    await server.send_message(json.dumps({"type": event_type, "event_id": "event_1", **fields}))


def session(codec: str = "audio/pcmu") -> dict[str, Any]:
    audio = {"format": {"type": codec}}
    return {
        "id": "sess_1",
        "audio": {"input": audio, "output": audio | {"voice": "marin"}},
        "expires_at": 1_800_000_000,
    }


async def answer(server: WebSocketConnection, sent: list[dict[str, Any]], updated: dict[str, Any]) -> None:
    await say(server, "session.created", session=session("audio/pcm"))
    sent.append(json.loads(await server.get_message()))
    await say(server, "rate_limits.updated")
    await say(server, "session.updated", session=updated)
