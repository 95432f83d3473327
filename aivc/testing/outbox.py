"""What a session's machine wants done, in order: events to send, and ways to end the connection."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from aivc.testing.faults import Faults
from aivc.testing.generation import Pace
from aivc.testing.rules import Dialect
from aivc.testing.schema import Json, Refusal
from aivc.testing.script import Script
from aivc.testing.wire import rendered

if TYPE_CHECKING:
    import random


@attrs.frozen
class Send:
    event: Json  # complete, in the session's dialect


@attrs.frozen
class Close:
    code: int
    reason: str


@attrs.frozen
class Drop:
    """Cut the connection without a close frame."""


@attrs.frozen
class Stall:
    """Stop reading, sending and answering pings, but keep the connection."""


Effect = Send | Close | Drop | Stall


@attrs.frozen(kw_only=True)
class Setup:
    """What a session is made with."""

    model: str
    dialect: Dialect
    script: Script
    pace: Pace
    faults: Faults
    decorate: bool  # obfuscation on deltas, phase on items, unknown events: what every client must tolerate
    record: bool = True  # keep all that was appended


class Agenda:
    """Actions with a time; those of the same time in the order in which they were entered."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Callable[[float], None]]] = []
        self._entered = 0

    @property
    def next_at(self) -> float:
        return self._entries[0][0] if self._entries else math.inf

    def enter(self, at: float, action: Callable[[float], None]) -> None:
        """Run `action(at)` when it is due."""
        self._entered += 1
        heapq.heappush(self._entries, (at, self._entered, action))

    def run_next(self) -> None:
        at, _, action = heapq.heappop(self._entries)
        action(at)


class Outbox:
    """Collects effects; completes events with ids and decorations, in the session's dialect."""

    def __init__(self, setup: Setup, random: random.Random) -> None:
        self.closed = False  # nothing is emitted after the connection's end
        self.errors: list[Json] = []  # what the client did wrong
        self._setup = setup
        self._random = random
        self._effects: list[Effect] = []
        self._audio_deltas = 0

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{self._random.getrandbits(80):020x}"

    def take(self) -> list[Effect]:
        """The effects since the last call."""
        taken, self._effects = self._effects, []
        return taken

    def emit(self, event: Json) -> None:
        """Send an event, given in GA form without its `event_id`."""
        event = {"type": event["type"], "event_id": self.new_id("event"), **event}
        if self._setup.decorate and "delta" in event:
            event["obfuscation"] = f"{self._random.getrandbits(32):x}"
        if self._setup.faults.no_metadata and "response" in event:
            event["response"] = {name: value for name, value in event["response"].items() if name != "metadata"}
        said = rendered(event, self._setup.dialect)
        if self.closed or said is None:
            return
        self._effects.append(Send(said))
        if event["type"] == "response.output_audio.delta":
            self._audio_deltas += 1
            self._break_connection()

    def _break_connection(self) -> None:
        faults = self._setup.faults
        if self._audio_deltas == faults.close_after_deltas:
            self.end(Close(faults.close_code, ""))
        elif self._audio_deltas == faults.drop_after_deltas:
            self.end(Drop())
        elif self._audio_deltas == faults.stall_after_deltas:
            self.end(Stall())

    def end(self, effect: Close | Drop | Stall) -> None:
        self._effects.append(effect)
        self.closed = True

    def error(
        self, kind: str, code: str | None, message: str, *, param: str | None = None, client_event_id: str | None = None
    ) -> Json:
        """Send an `error` event that is nobody's fault; returns its inner object."""
        error: Json = {"type": kind, "code": code, "message": message, "param": param, "event_id": client_event_id}
        if self._setup.faults.code_null:
            error |= {"type": code or kind, "code": None}
        if self._setup.faults.no_error_event_id:
            error["event_id"] = None
        self.emit({"type": "error", "error": error})
        return error

    def refuse(self, refusal: Refusal, client_event_id: str | None) -> None:
        """Send an `error` event for what the client did, and remember it."""
        error = self.error(
            refusal.type, refusal.code, refusal.message, param=refusal.param, client_event_id=client_event_id
        )
        self.errors.append(error)
