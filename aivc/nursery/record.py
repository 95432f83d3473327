"""What is known of a call when it is over, and what an observer may hear of it while it lasts."""

from __future__ import annotations

from typing import Final

import attrs
import trio

from aivc.media.stream import RtpCounters
from aivc.nursery.ending import Ending
from aivc.realtime.effects import Notice


@attrs.frozen
class TurnLatency:
    """One answer's way from the caller's last audible packet to the model's first RTP packet.

    The four parts add up to `total_ms`: the silence that the caller hears, less the network on either side of us.
    """

    item_id: str  # of the answer
    began_at: float  # when the caller stopped speaking, seconds on trio's clock
    endpointing_ms: float  # until speech_stopped was read: our uplink, the network and the VAD's silence setting
    response_ms: float  # until response.created was read
    first_audio_ms: float  # until the first audio delta was read
    playout_ms: float  # until its first packet left

    @property
    def total_ms(self) -> float:
        return self.endpointing_ms + self.response_ms + self.first_audio_ms + self.playout_ms


@attrs.frozen
class ToolRun:
    """One tool call."""

    call_id: str
    name: str
    arguments: str
    output: str
    started_at: float  # seconds on trio's clock
    ended_at: float


@attrs.frozen
class Cut:
    """One item that the caller interrupted."""

    item_id: str
    at: float  # seconds on trio's clock
    heard_ms: int
    received_ms: int


@attrs.frozen
class CallRecord:
    """A call, after its end. Times are seconds on trio's clock (`trio.current_time()`), None = never happened."""

    call_id: str
    caller: str
    dialled: str
    codec: str
    ending: Ending
    detail: str
    started_at: float
    answered_at: float | None
    ended_at: float
    rtp: RtpCounters
    latencies: tuple[TurnLatency, ...]
    cuts: tuple[Cut, ...]
    tools: tuple[ToolRun, ...]
    realtime_errors: dict[str, int]  # by code
    protocol_violations: int  # events from the model that could not be read
    refused_octets: int = 0  # of the model's audio, beyond the two minutes that may wait
    late_deltas: int = 0  # audio of responses that had been cut already
    refused_requests: int = 0  # responses of ours that the model would not begin, given up
    forgotten_tools: int = 0  # responses with open tool calls beyond those that are remembered
    observer_missed: int = 0  # events that did not fit into the observer's channel

    @property
    def duration_seconds(self) -> float:
        """From the answer to the end; 0 if it was never answered."""
        return 0.0 if self.answered_at is None else self.ended_at - self.answered_at


@attrs.frozen
class Answered:
    """The 200 is on its way: the caller and the model are joined."""


@attrs.frozen
class ToolStarted:
    call_id: str
    name: str
    arguments: str


@attrs.frozen
class ToolFinished:
    run: ToolRun


@attrs.frozen
class ModelAudible:
    """The first packet of an item has left."""

    item_id: str
    at: float


@attrs.frozen
class Ended:
    record: CallRecord


@attrs.frozen
class CallEvent:
    """Something that an observer of calls may want to show or store."""

    call_id: str
    at: float  # seconds on trio's clock
    what: Notice | Answered | ToolStarted | ToolFinished | ModelAudible | Ended


OBSERVER_EVENTS: Final = 1000  # a good capacity for an observer's channel: minutes of a busy call
Observer = trio.MemorySendChannel[CallEvent]
