"""What is left of a call when it is over, and what an observer may hear of it while it lasts."""

from __future__ import annotations

import hashlib
from typing import Final, Literal, Protocol

import attrs

from aivc.media.reports import Quality
from aivc.media.stream import RtpCounters
from aivc.nursery.ending import Ending
from aivc.nursery.latency import TurnLatency
from aivc.realtime.effects import Notice
from aivc.realtime.history import Utterance
from aivc.realtime.usage import UsageTotals

DIGEST_DIGITS: Final = 16  # 64 bits: enough to see that two calls of a tool were alike


@attrs.frozen
class ToolRun:
    """One tool call."""

    call_id: str
    name: str
    arguments: str
    output: str
    started_at: float  # seconds on trio's clock
    ended_at: float
    outcome: str = "ok"  # or what went wrong, in a word

    @property
    def duration_seconds(self) -> float:
        return self.ended_at - self.started_at

    @property
    def arguments_digest(self) -> str:
        """The beginning of their SHA-256: tells equal calls from others where the arguments may not be kept."""
        return hashlib.sha256(self.arguments.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_DIGITS]


@attrs.frozen
class Cut:
    """One item that the caller interrupted."""

    item_id: str
    at: float  # seconds on trio's clock
    heard_ms: int
    received_ms: int


@attrs.frozen
class DigitEntry:
    """Keys that the caller pressed one after the other, as the model was told them."""

    digits: str
    at: float  # of the first key, seconds on trio's clock
    source: Literal["rtp", "info"]  # RFC 4733 packets, or SIP INFO


@attrs.frozen
class TransferRun:
    """One attempt to transfer the call by REFER, or to reach its target first."""

    target: str  # the URI
    started_at: float  # seconds on trio's clock
    ended_at: float | None = None  # None: its outcome is not known
    status: int | None = None  # as in `ReferOutcome`
    text: str = ""
    succeeded: bool = False
    attended: bool = False  # the target was called first


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
    dropped_keys: int = 0  # that came faster than anybody presses them
    dropped_events: int = 0  # that a tool wanted to send while the call had no session
    agent: str | None = None  # the NAME of `[agents.NAME]`; None: `[openai]` itself
    transcript: tuple[Utterance, ...] = ()  # in the order of the conversation
    digits: tuple[DigitEntry, ...] = ()
    transfers: tuple[TransferRun, ...] = ()
    usage: UsageTotals | None = None  # None: no model was reached
    cost_usd: float | None = None  # by `openai.prices`; None: there are none
    errors_by_kind: dict[str, int] = attrs.field(factory=dict)  # `ErrorKind` values, and endings of lost sessions
    sessions: int = 0  # Realtime sessions that were used; 0: none could be had
    false_interruptions: int = 0  # coughs: the answer went on where it had been paused
    quality: Quality | None = None  # of the audio, by RTCP; None: it is off, or the call was never answered
    greeted_at: float | None = None  # the model's first packet, if the caller had said nothing before
    headers: dict[str, str] = attrs.field(factory=dict)  # of the INVITE, those of `sip.pass_headers`

    @property
    def duration_seconds(self) -> float:
        """From the answer to the end; 0 if it was never answered."""
        return 0.0 if self.answered_at is None else self.ended_at - self.answered_at


@attrs.frozen
class Answered:
    """The 200 is on its way: the caller and the model are joined."""


@attrs.frozen
class ToolStarted:
    """The model called a function."""

    call_id: str
    name: str
    arguments: str


@attrs.frozen
class ToolFinished:
    """A function has ended, well or not."""

    run: ToolRun


@attrs.frozen
class ModelAudible:
    """The first packet of an item has left."""

    item_id: str
    at: float


@attrs.frozen
class DigitsEntered:
    """The caller has pressed keys, and the entry is complete."""

    entry: DigitEntry


@attrs.frozen
class TransferBegan:
    """REFER is about to be sent; the conversation goes on."""

    target: str


@attrs.frozen
class TransferOver:
    """How a transfer went; a success ends the call."""

    run: TransferRun


@attrs.frozen
class SessionLost:
    """The connection to the model broke; another is being opened."""

    detail: str


@attrs.frozen
class SessionReplaced:
    """Another session goes on with the conversation."""

    number: int  # 2 for the first replacement


@attrs.frozen
class Ended:
    """The call is over, and this is its record."""

    record: CallRecord


What = (
    Notice
    | Answered
    | ToolStarted
    | ToolFinished
    | ModelAudible
    | DigitsEntered
    | TransferBegan
    | TransferOver
    | SessionLost
    | SessionReplaced
    | Ended
)


@attrs.frozen
class CallEvent:
    """Something that an observer of calls may want to show or store."""

    call_id: str
    at: float  # seconds on trio's clock
    what: What


OBSERVER_EVENTS: Final = 1000  # a good capacity for an observer's channel: minutes of a busy call


class Observer(Protocol):
    """Who hears of calls: the sending end of a memory channel, or anything like it."""

    def send_nowait(self, value: CallEvent, /) -> None:
        """Take an event at once. Raises trio.WouldBlock when there is no room, and then has missed it."""
