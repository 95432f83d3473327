"""Latencies, interruptions, errors, digits, transfers of one call, gathered from what passes by. It decides nothing."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Final, TypeVar

import attrs

from aivc.media.playout import ItemPlayout
from aivc.nursery.record import Cut, DigitEntry, ToolRun, TransferRun, TurnLatency
from aivc.realtime.effects import (
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    Interrupted,
    ModelStartedResponse,
    Notice,
    RealtimeError,
)

Line = TypeVar("Line")
MOST_LINES: Final = 1000  # of each kind kept for the record: more turns than an hour of talk has
MOST_CODES: Final = 100  # error codes that are told apart: the model's side may invent more of them
LONGEST_CODE: Final = 100  # characters
OTHER_CODES: Final = "others"


@attrs.define
class Turns:
    """The history of one call's turns."""

    latencies: list[TurnLatency] = attrs.field(factory=list)
    cuts: list[Cut] = attrs.field(factory=list)
    tools: list[ToolRun] = attrs.field(factory=list)
    digits: list[DigitEntry] = attrs.field(factory=list)
    transfers: list[TransferRun] = attrs.field(factory=list)
    errors: Counter[str] = attrs.field(factory=Counter)  # by code
    errors_by_kind: Counter[str] = attrs.field(factory=Counter)  # `ErrorKind` values, and endings of lost sessions
    violations: int = 0
    dropped_keys: int = 0  # that came faster than anybody presses them
    dropped_events: int = 0  # that a tool wanted to send while the call had no session
    sessions: int = 0  # Realtime sessions that were used
    _silent_since: float | None = None  # the caller's last audible packet before the open turn
    _stopped_at: float = 0.0
    _response_at: float | None = None
    _delta_at: float | None = None

    def notice(self, notice: Notice, last_voiced: float, now: float) -> None:
        """Take note of something that the conversation reported.

        Args:
          last_voiced: when the caller's last audible packet came.
        """
        match notice:
            case CallerStartedSpeaking():
                self._silent_since = self._response_at = self._delta_at = None
            case CallerStoppedSpeaking():
                self._silent_since, self._stopped_at = min(last_voiced, now), now
                self._response_at = self._delta_at = None
            case ModelStartedResponse() if self._response_at is None:
                self._response_at = now
            case Interrupted(item_id=item_id, heard_ms=heard_ms, received_ms=received_ms):
                keep(self.cuts, Cut(item_id, now, heard_ms, received_ms))
            case RealtimeError(code=code, kind=kind):
                self._count_error(code or "none")
                self.errors_by_kind[kind.value] += 1
            case _:
                pass

    def audio_came(self, now: float) -> None:
        """An audio delta was read."""
        if self._response_at is not None and self._delta_at is None:
            self._delta_at = now

    def began(self, item: ItemPlayout) -> None:
        """The first packet of an item has left."""
        if self._silent_since is None or self._response_at is None or self._delta_at is None or item.began_at is None:
            return
        moments = (self._silent_since, self._stopped_at, self._response_at, self._delta_at, item.began_at)
        parts = [1000 * (later - earlier) for earlier, later in pairwise(moments)]
        keep(self.latencies, TurnLatency(item.item_id, self._silent_since, *parts))
        self._silent_since = None

    def tool_ran(self, run: ToolRun) -> None:
        keep(self.tools, run)

    def entered(self, entry: DigitEntry) -> None:
        keep(self.digits, entry)

    def transferred(self, run: TransferRun) -> None:
        """A transfer has ended, well or not."""
        keep(self.transfers, run)

    def session_began(self) -> None:
        """A Realtime session took over the conversation: the first one, or a replacement."""
        self.sessions += 1

    def lost(self, ending: str) -> None:
        """A Realtime session broke off; `ending` is how the call would have ended without a replacement."""
        self.errors_by_kind[ending] += 1

    def _count_error(self, code: str) -> None:
        code = code[:LONGEST_CODE]
        known = code in self.errors or len(self.errors) < MOST_CODES
        self.errors[code if known else OTHER_CODES] += 1


def keep(lines: list[Line], line: Line) -> None:
    if len(lines) < MOST_LINES:
        lines.append(line)
