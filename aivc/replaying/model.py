"""The model as it was: connections that open, break and say what they did when the call was recorded.

connect() --opening--> waits for the recording --open--> WebSocket in memory <--events, at their times-- the replay
                                              --refused--> RealtimeRefused
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from aivc.config.settings import OpenAISettings
from aivc.flight.entries import RealtimeLine
from aivc.realtime.connection import RealtimeRefused, RealtimeSocket, wrap_realtime
from aivc.testing.websocket import MemoryStream, memory_stream_pair

HOST: Final = "replayed.invalid"
QUEUED_MESSAGES: Final = 64
LARGEST_MESSAGE_OCTETS: Final = 24 * 1024 * 1024
RECEIVE_OCTETS: Final = 65536
NO_STATUS: Final = 1005  # RFC 6455 section 7.4.1: a close frame without a code


@attrs.define(eq=False)
class PlayedSession:
    """One connection; the replay fulfils it step by step."""

    outcome: trio.Event = attrs.field(factory=trio.Event)  # "open" or "refused" has been reached
    refusal: RealtimeRefused | None = None
    is_closing: bool = False  # by us
    websocket: WebSocketConnection | None = None
    stream: MemoryStream | None = None  # the server's end
    ready: trio.Event = attrs.field(factory=trio.Event)  # the upgrade is done


@attrs.define(eq=False)
class PlayedModel:
    """All connections of a call.

    Args:
      nursery: of the servers' ends.
      opened: told of each connection that the call asks for, by its number from 1 on.
      heard: told of each message of ours, with the number of the connection.
    """

    nursery: trio.Nursery
    opened: Callable[[int], None]
    heard: Callable[[int, str], None]
    _sessions: dict[int, PlayedSession] = attrs.field(factory=dict)
    _asked: int = 0

    async def connect(self, nursery: trio.Nursery, settings: OpenAISettings) -> RealtimeSocket:
        """In place of `open_realtime`. Raises RealtimeRefused when, and as, it was raised then."""
        self._asked += 1
        number = self._asked
        self.opened(number)
        session = self._session(number)
        deadline = trio.current_time() + settings.connect_seconds
        with trio.move_on_at(deadline):
            await session.outcome.wait()
        if session.refusal is not None:
            raise session.refusal
        if not session.outcome.is_set():
            raise RealtimeRefused("timeout", "the recording has no such connection", retryable=True)
        client, session.stream = memory_stream_pair()
        self.nursery.start_soon(self._serve, number, session, session.stream)
        return await wrap_realtime(nursery, client, HOST, "/", (), connect_deadline=deadline)

    async def say(self, number: int, text: str) -> None:
        """The model's next message."""
        session = self._session(number)
        if session.websocket is not None:
            with suppress(ConnectionClosed):
                await session.websocket.send_message(text)

    def became(self, line: RealtimeLine) -> None:
        """What was recorded of a connection has come about."""
        session = self._session(line.session)
        match line.what:
            case "open":
                session.outcome.set()
            case "refused" if not session.outcome.is_set():
                session.refusal = refusal_of(line.detail)
                session.outcome.set()
            case "closing":
                session.is_closing = True
            case "closed" if not session.is_closing and session.websocket is not None:
                code, reason = close_of(line.detail)
                self.nursery.start_soon(close, session.websocket, code, reason)
            case "lost" if session.stream is not None:
                session.stream.drop()
            case _:
                pass

    def _session(self, number: int) -> PlayedSession:
        return self._sessions.setdefault(number, PlayedSession())

    async def _serve(self, number: int, session: PlayedSession, stream: MemoryStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with trio.open_nursery() as reading:
                upgrade = await wrap_server_stream(
                    reading, stream, QUEUED_MESSAGES, LARGEST_MESSAGE_OCTETS, RECEIVE_OCTETS
                )
                session.websocket = await upgrade.accept()
                session.ready.set()
                with suppress(ConnectionClosed):
                    while True:
                        message = await session.websocket.get_message()
                        if isinstance(message, str):
                            self.heard(number, message)
                reading.cancel_scope.cancel()
        await trio.aclose_forcefully(stream)


async def close(websocket: WebSocketConnection, code: int, reason: str) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError, ConnectionClosed):
        await websocket.aclose(code, reason or None) if code != NO_STATUS else await websocket.aclose()


def refusal_of(detail: str) -> RealtimeRefused:
    """What was raised: `CODE retryable: MESSAGE`, or `CODE final: MESSAGE`."""
    head, _, message = detail.partition(": ")
    code, _, kind = head.partition(" ")
    return RealtimeRefused(code or "unreachable", message, retryable=kind == "retryable")


def close_of(detail: str) -> tuple[int, str]:
    """Code and reason of a close: `1001 going away`."""
    code, _, reason = detail.partition(" ")
    return (int(code), reason) if code.isdigit() else (NO_STATUS, "")
