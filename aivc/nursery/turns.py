"""Latencies, interruptions, errors, digits, transfers of one call, gathered from what passes by. It decides nothing."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final, TypeVar

import attrs

from aivc.media.playout import ItemPlayout
from aivc.nursery.gap import Gap, TurnEnd
from aivc.nursery.latency import TurnLatency
from aivc.nursery.record import Cut, DigitEntry, ToolRun, TransferRun
from aivc.realtime.effects import (
    CallerStartedSpeaking,
    Interrupted,
    ModelStartedResponse,
    Notice,
    RealtimeError,
    ResponseFinished,
)

Line = TypeVar("Line")
MOST_LINES: Final = 1000  # of each kind kept for the record: more turns than an hour of talk has
MOST_CODES: Final = 100  # error codes that are told apart: the model's side may invent more of them
LONGEST_CODE: Final = 100  # characters
OTHER_CODES: Final = "others"
# Who spoke, and was not audible so long before the server noticed it, speaks too softly to be measured by its energy.
FAINT: Final = 2.0  # seconds


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
    greeted_at: float | None = None  # when the model's first words left, if that was before the caller's first turn
    _gap: Gap | None = None  # the silence after the caller's last turn, while it lasts
    _spoke_at: float | None = None  # when the server last told that the caller had begun to speak
    _stilled_at: float = -math.inf  # when the caller's last audible packet came, by the last end of a turn
    _has_turns: bool = False

    def notice(self, notice: Notice, now: float) -> None:
        """Take note of something that the conversation reported; `turn_ended` is for the end of a turn."""
        match notice:
            case CallerStartedSpeaking():
                self._gap, self._spoke_at, self._stilled_at = None, now, -math.inf
            case ModelStartedResponse(response_id=response_id) if self._gap is not None:
                self._gap.created(response_id, now)
            case ResponseFinished(response_id=response_id, status=status) if self._gap is not None:
                if self._gap.finished(response_id, status, now):
                    self._gap = None
            case Interrupted(item_id=item_id, heard_ms=heard_ms, received_ms=received_ms):
                keep(self.cuts, Cut(item_id, now, heard_ms, received_ms))
            case RealtimeError(code=code, kind=kind):
                self._count_error(code or "none")
                self.errors_by_kind[kind.value] += 1
            case _:
                pass

    def turn_ended(self, end: TurnEnd, now: float) -> None:
        """The server has noticed that the caller's turn is over; told again, of a caller who has said nothing since, it
        is no other one.
        """
        self._has_turns = True
        if end.came_at <= self._stilled_at:
            return
        self._stilled_at = end.came_at
        unheard = self._spoke_at is not None and end.came_at < self._spoke_at - FAINT
        self._gap = None if unheard else Gap(end, now)

    def not_awaited(self) -> None:
        """Nothing that comes now is an answer to the caller's last turn: a key, a hold, a cough, words of ours."""
        self._gap = None

    def requested(self, wanted_at: float, now: float, *, again: bool) -> None:
        """A response.create of ours leaves; see `Gap.requested`."""
        if self._gap is not None:
            self._gap.requested(wanted_at, now, again=again)

    def audio_came(self, response_id: str, queue: float, now: float) -> None:
        """An audio delta was read, and goes into the playout behind so many seconds of earlier words."""
        if self._gap is not None:
            self._gap.audio_came(response_id, queue, now)

    def audio_cut(self, now: float) -> None:
        """The playout was cut."""
        if self._gap is not None:
            self._gap.cut(now)

    def began(self, item: ItemPlayout) -> None:
        """The first packet of an item has left."""
        if item.began_at is None:
            return
        if self.greeted_at is None and not self._has_turns:
            self.greeted_at = item.began_at
        if self._gap is None:
            return
        latency = self._gap.ended_by(item.item_id, item.response_id, item.began_at)
        if latency is not None:
            keep(self.latencies, latency)
            self._gap = None

    def tool_called(self, call_id: str) -> None:
        """The model has called a tool."""
        if self._gap is not None:
            self._gap.tool_called(call_id)

    def tool_started(self, call_id: str, now: float) -> None:
        """It has begun to run."""
        if self._gap is not None:
            self._gap.tool_started(call_id, now)

    def tool_ran(self, run: ToolRun) -> None:
        """It has ended, well or not."""
        keep(self.tools, run)
        if self._gap is not None:
            self._gap.tool_ended(run.call_id, run.ended_at)

    def entered(self, entry: DigitEntry) -> None:
        keep(self.digits, entry)

    def transferred(self, run: TransferRun) -> None:
        """A transfer has ended, well or not."""
        keep(self.transfers, run)

    def session_began(self) -> None:
        """A Realtime session took over the conversation: the first one, or a replacement."""
        self.sessions += 1

    def lost(self, ending: str, now: float) -> None:
        """A Realtime session broke off; `ending` is how the call would have ended without a replacement."""
        self.errors_by_kind[ending] += 1
        if self._gap is not None:
            self._gap.lost(now)

    def _count_error(self, code: str) -> None:
        code = code[:LONGEST_CODE]
        known = code in self.errors or len(self.errors) < MOST_CODES
        self.errors[code if known else OTHER_CODES] += 1


def keep(lines: list[Line], line: Line) -> None:
    if len(lines) < MOST_LINES:
        lines.append(line)
