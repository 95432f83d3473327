"""What one demonstration call left behind. All times are seconds since the call was answered."""

from __future__ import annotations

from typing import Literal

import attrs

from aivc.config.settings import Codec

Speaker = Literal["caller", "model"]


@attrs.frozen
class AudioFrame:
    """One RTP payload: 20 ms of G.711."""

    at: float
    octets: bytes


@attrs.frozen
class Turn:
    """One utterance."""

    speaker: Speaker
    start: float
    end: float
    text: str  # what was said; of a turn that was cut, what was heard or the whole
    cut_at: float | None = None  # when barge-in silenced it


@attrs.frozen
class ToolUse:
    """One function call of the model."""

    name: str
    arguments: str  # JSON
    output: str
    start: float
    end: float


@attrs.frozen
class Gap:
    """The silence before one answer: from the caller's last voiced packet to the model's first RTP packet."""

    start: float  # when the caller stopped
    parts: tuple[tuple[str, float], ...]  # name and milliseconds, in the order in which they passed

    @property
    def total_ms(self) -> float:
        """The whole silence: the sum of the parts."""
        return sum(part_ms for _, part_ms in self.parts)


@attrs.frozen
class Interruption:
    """One barge-in."""

    at: float
    heard_ms: int  # audio of the answer that the caller heard
    received_ms: int  # audio of the answer that the model had sent
    stopped_after_ms: float  # from the caller's first voiced packet to the model's last RTP packet


@attrs.frozen
class Delay:
    """How long something took, over the whole call."""

    name: str
    p50_ms: float
    p99_ms: float
    max_ms: float
    count: int


@attrs.frozen
class CallRecording:
    """Everything that the picture, the sound file and the table are made of."""

    codec: Codec
    duration: float
    caller: tuple[AudioFrame, ...]
    model: tuple[AudioFrame, ...]
    turns: tuple[Turn, ...]
    tools: tuple[ToolUse, ...]
    interruptions: tuple[Interruption, ...]
    gaps: tuple[Gap, ...]
    delays: tuple[Delay, ...]
    ending: str
    packets_sent: int
    packets_received: int
    packets_lost: int
