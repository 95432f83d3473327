"""One session of the fake model, as a test sees it: what came, what was sent, and ways to intervene."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Literal

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from aivc.testing.conversation import Item
from aivc.testing.line import Line
from aivc.testing.machine import SessionMachine
from aivc.testing.outbox import Close, Drop, Effect, Send, Stall
from aivc.testing.schema import Json

OUTBOUND = 16384  # effects; a client that is so far behind reads nothing any more
PING_SECONDS = 20.0  # OpenAI's interval
PONG_SECONDS = 20.0
CLOSE_SECONDS = 5.0  # for the client's part of the closing handshake
OVERRUN = 1008  # noted, not sent: the client stopped reading
ABNORMAL = 1006  # RFC 6455 section 7.4.1: no close frame came

Wanted = str | Callable[[Json], bool]


class SessionEnded(Exception):
    """The session is over and what was waited for never came."""


@attrs.frozen
class Observed:
    """One event with its time."""

    session_id: str
    at: float  # seconds on trio's clock
    direction: Literal["received", "sent"]  # by the model
    event: Json


def matches(wanted: Wanted, event: Json) -> bool:
    return event.get("type") == wanted if isinstance(wanted, str) else wanted(event)


class Session:
    """What one client did and got. Read anything at any time; nothing here waits except the `wait_` methods.

    Attributes:
        events_received: parsed client events in order, malformed messages as `{"type": None, "raw": ...}`.
        events_sent: server events in order, injected ones included.
        closed: WebSocket close code, 1006 without a close frame; None while the session is open.
        headers: of the upgrade request, lower-case names.
        pongs_missed: server pings that were not answered within 20 s.
    """

    def __init__(
        self,
        machine: SessionMachine,
        headers: dict[str, str],
        *,
        record: bool = True,
        watch: trio.MemorySendChannel[Observed] | None = None,
    ) -> None:
        self.headers = headers
        self.events_received: list[Observed] = []
        self.events_sent: list[Observed] = []
        self.closed: int | None = None
        self.pongs_missed = 0
        self.unwatched = 0  # events that did not fit into `watch`
        self._machine = machine
        self._record = record
        self._watch = watch
        self._news = trio.Event()
        self._scope = trio.CancelScope()  # of run()
        self._outbound, self._to_write = trio.open_memory_channel[Effect](OUTBOUND)

    # What a test reads

    @property
    def id(self) -> str:
        return self._machine.id

    @property
    def received_audio(self) -> bytes:
        """All octets that were appended, in order, whatever became of them."""
        return bytes(self._machine.received_audio)

    @property
    def errors(self) -> list[Json]:
        """The errors that the client earned, as in their `error` events. A correct client has none."""
        return self._machine.outbox.errors

    @property
    def items(self) -> list[Item]:
        """The conversation, in order."""
        return list(self._machine.conversation)

    @property
    def history(self) -> list[tuple[str, str]]:
        """Who said what, in order: role and text of messages, type and arguments or output of calls and answers."""
        return self._machine.conversation.history

    @property
    def session(self) -> Json:
        """The effective configuration, in GA form whatever the dialect; empty before the session is created."""
        return self._machine.session

    def received(self, wanted: Wanted) -> list[Json]:
        """Client events of this type, or that satisfy this predicate."""
        return [seen.event for seen in self.events_received if matches(wanted, seen.event)]

    def sent(self, wanted: Wanted) -> list[Json]:
        """Server events of this type, or that satisfy this predicate."""
        return [seen.event for seen in self.events_sent if matches(wanted, seen.event)]

    async def wait_received(self, wanted: Wanted, *, count: int = 1) -> Json:
        """The `count`-th such client event since the session began, waiting for it if need be.

        Raises:
            SessionEnded: the session was over before.
        """
        await self.wait_until(lambda session: len(session.received(wanted)) >= count)
        return self.received(wanted)[count - 1]

    async def wait_sent(self, wanted: Wanted, *, count: int = 1) -> Json:
        """The `count`-th such server event since the session began; raises as `wait_received`."""
        await self.wait_until(lambda session: len(session.sent(wanted)) >= count)
        return self.sent(wanted)[count - 1]

    async def wait_until(self, predicate: Callable[[Session], bool]) -> None:
        """Wait until the predicate holds; it is asked after every event, and when the session ends.

        Raises:
            SessionEnded: it did not hold when the session was over.
        """
        await trio.lowlevel.checkpoint()
        while not predicate(self):
            if self.closed is not None:
                raise SessionEnded(f"closed with {self.closed}; errors: {self.errors}")
            await self._news.wait()

    async def wait_closed(self) -> int:
        """Wait for the end of the session; returns the close code."""
        await self.wait_until(lambda session: session.closed is not None)
        assert self.closed is not None
        return self.closed

    # What a test does

    def send(self, event: Json) -> None:
        """Send any event to the client, right or wrong; an `event_id` is added if it has none."""
        self._perform([Send({"event_id": self._machine.outbox.new_id("event"), **event})])

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close as the server."""
        self._perform([Close(code, reason)])

    def drop(self) -> None:
        """Cut the connection without a close frame."""
        self._perform([Drop()])

    def stall(self) -> None:
        """Go half-open: read, send and answer nothing any more."""
        self._perform([Stall()])

    # Tasks

    async def run(self, websocket: WebSocketConnection, line: Line, effects: list[Effect]) -> None:
        """Serve one accepted connection until it is over.

        Args:
            websocket: accepted; its reader runs in a nursery that outlives this call.
            line: below it, for the faults.
            effects: the machine's first ones.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, websocket, line)
                    nursery.start_soon(self._ping, websocket)
                    self._perform(effects)
                    await self._read(websocket)
                    self._scope.cancel()
        finally:
            self.end(ABNORMAL)

    def end(self, code: int) -> None:
        """Note the close code, unless one is noted already, and wake everybody who waits."""
        if self.closed is None:
            self.closed = code
        self._announce()

    def _announce(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def _read(self, websocket: WebSocketConnection) -> None:
        while not self._machine.outbox.closed:
            self._perform(self._machine.expire(trio.current_time()))
            message: str | bytes | None = None
            try:
                with trio.move_on_at(self._machine.deadline):
                    message = await websocket.get_message()
            except ConnectionClosed as error:
                self.end(error.reason.code if error.reason else ABNORMAL)
                return
            if message is not None:
                self._note_received(message)
                self._perform(self._machine.receive_untrusted(message, trio.current_time()))
        await trio.sleep_forever()  # until the writer has closed the connection, or for as long as it is half-open

    async def _write(self, websocket: WebSocketConnection, line: Line) -> None:
        try:
            async for effect in self._to_write:
                match effect:
                    case Send():
                        await websocket.send_message(json.dumps(effect.event))
                    case Close():
                        self.end(effect.code)
                        with trio.move_on_after(CLOSE_SECONDS):
                            await websocket.aclose(effect.code, effect.reason)
                        break
                    case Drop():
                        self.end(ABNORMAL)
                        line.drop()
                        break
                    case Stall():
                        line.stall()
                        await trio.sleep_forever()
        except ConnectionClosed as error:
            self.end(error.reason.code if error.reason else ABNORMAL)
        self._scope.cancel()

    async def _ping(self, websocket: WebSocketConnection) -> None:
        while True:
            await trio.sleep(PING_SECONDS)
            with trio.move_on_after(PONG_SECONDS) as waiting:
                try:
                    await websocket.ping()
                except ConnectionClosed:
                    return
            self.pongs_missed += waiting.cancelled_caught

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self._observe("sent", effect.event)
            try:
                self._outbound.send_nowait(effect)
            except trio.WouldBlock:
                self.end(OVERRUN)
                self._scope.cancel()

    def _note_received(self, message: str | bytes) -> None:
        if not self._record and self._watch is None:
            return
        try:
            event = json.loads(message) if isinstance(message, str) else None
        except (ValueError, RecursionError):
            event = None
        self._observe("received", event if isinstance(event, dict) else {"type": None, "raw": message})

    def _observe(self, direction: Literal["received", "sent"], event: Json) -> None:
        seen = Observed(self.id, trio.current_time(), direction, event)
        if self._record:
            (self.events_received if direction == "received" else self.events_sent).append(seen)
        if self._watch is not None:
            try:
                self._watch.send_nowait(seen)
            except (trio.WouldBlock, trio.BrokenResourceError):
                self.unwatched += 1
        self._announce()
