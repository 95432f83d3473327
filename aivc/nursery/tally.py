"""What the calls of a process come to: counts and histograms, taken from the calls' own records when they end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, Literal

import attrs

from aivc.media.counters import RtpCounters
from aivc.nursery.blocks import AtEnd
from aivc.nursery.ending import Ending
from aivc.nursery.latency import PARTS
from aivc.nursery.record import Answered, CallEvent, CallRecord, Ended
from aivc.nursery.status import CallInProgress, Histogram, masked
from aivc.realtime.errors import ErrorKind
from aivc.sip.leg import Leg


@attrs.frozen
class Measure:
    """One histogram over all calls. To have another one, add it to `MEASURES` and docs/admin.md.

    Those of `PART_MEASURES` are one metric, with a label.

    Attributes:
      name: what is measured, and the unit.
      text: what it means, for who reads the metrics.
      bounds: of the histogram, in that unit.
      values: those that one call adds.
    """

    name: str
    text: str
    bounds: tuple[float, ...]
    values: Callable[[CallRecord], Iterable[float]]


def answer_seconds(record: CallRecord) -> Iterator[float]:
    if record.answered_at is not None:
        yield record.answered_at - record.started_at


def call_seconds(record: CallRecord) -> Iterator[float]:
    if record.answered_at is not None:
        yield record.duration_seconds


def response_seconds(record: CallRecord) -> Iterator[float]:
    return (turn.total_ms / 1000 for turn in record.latencies)


def greeting_seconds(record: CallRecord) -> Iterator[float]:
    if record.greeted_at is not None and record.answered_at is not None:
        yield record.greeted_at - record.answered_at


def part_seconds(name: str, record: CallRecord) -> Iterator[float]:
    return (getattr(turn.parts, name) / 1000 for turn in record.latencies)


def model_seconds(record: CallRecord) -> Iterator[float]:
    return ((turn.response_ms + turn.first_audio_ms) / 1000 for turn in record.latencies)


PART_SECONDS: Final = "turn_part_seconds."  # the beginning of their names; then the part's
ANSWER_BOUNDS: Final = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
CALL_BOUNDS: Final = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0)
PART_BOUNDS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0, 5.0)
REPLY_BOUNDS: Final = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)  # callers notice from about 0.7 on

MEASURES: Final = (
    Measure("answer_seconds", "From the INVITE to our 200", ANSWER_BOUNDS, answer_seconds),
    Measure("call_seconds", "From our 200 to the end of the call", CALL_BOUNDS, call_seconds),
    Measure(
        "response_seconds",
        "From the caller's last audible packet to the first packet of the answer",
        REPLY_BOUNDS,
        response_seconds,
    ),
    Measure(
        "model_seconds",
        "The part of response_seconds from the end of the turn to the first audio, network included",
        REPLY_BOUNDS,
        model_seconds,
    ),
    Measure("greeting_seconds", "From our 200 to the first packet of the greeting", REPLY_BOUNDS, greeting_seconds),
)
PART_MEASURES: Final = tuple(
    Measure(f"{PART_SECONDS}{name.removesuffix('_ms')}", owner, PART_BOUNDS, partial(part_seconds, name))
    for name, owner in PARTS.items()
)
DROPPED: Final[Mapping[str, Callable[[CallRecord], int]]] = {  # what one call adds, by queue
    "heard": lambda record: record.rtp.heard_dropped,
    "playout_octets": lambda record: record.refused_octets,
    "late_deltas": lambda record: record.late_deltas,
    "requests": lambda record: record.refused_requests,
    "tools": lambda record: record.forgotten_tools,
    "observer": lambda record: record.observer_missed,
    "keys": lambda record: record.dropped_keys,
    "events": lambda record: record.dropped_events,
    "violations": lambda record: record.protocol_violations,
}
TOKENS: Final[Mapping[str, str]] = {  # by the names of `UsageTotals`; the cached ones are a part of the input
    "input_audio": "input_audio",
    "input_text": "input_text",
    "input_cached": "input_cached",
    "output_audio": "output_audio",
    "output_text": "output_text",
    "transcription": "transcription_tokens",
}
RTP_COUNTS: Final = tuple(field.name for field in attrs.fields(RtpCounters))


@attrs.define
class Ongoing:
    """A call that is not over."""

    agent: str | None
    caller: str
    since: float  # seconds on trio's clock
    state: Literal["ringing", "answered"] = "ringing"


def zeros(names: Iterable[str]) -> Counter[str]:
    """A count that is there before it is needed: who watches for a change must have seen a 0."""
    return Counter(dict.fromkeys(names, 0))


@attrs.define(eq=False)
class Tally:
    """An `Observer` of all calls that never fails. Built at the start of a process."""

    answered: int = 0
    ended: Counter[str] = attrs.field(factory=lambda: zeros(ending.value for ending in Ending))
    rtp: Counter[str] = attrs.field(factory=lambda: zeros(RTP_COUNTS))
    dropped: Counter[str] = attrs.field(factory=lambda: zeros(DROPPED))
    errors: Counter[str] = attrs.field(factory=lambda: zeros(kind.value for kind in ErrorKind))
    tokens: Counter[str] = attrs.field(factory=lambda: zeros(TOKENS))
    cost_usd: float = 0.0
    histograms: dict[str, Histogram] = attrs.field(
        factory=lambda: {measure.name: Histogram.empty(*measure.bounds) for measure in (*MEASURES, *PART_MEASURES)}
    )
    _ongoing: dict[str, Ongoing] = attrs.field(factory=dict, init=False)  # by Call-ID; of two with one, the later

    def call(self, leg: Leg, agent: str | None, now: float) -> AtEnd:
        """A call is in progress during the block."""
        ongoing = self._ongoing[leg.call_id] = Ongoing(agent, leg.caller, now)
        return AtEnd(partial(self._call_over, leg.call_id, ongoing))

    def _call_over(self, call_id: str, ongoing: Ongoing) -> None:
        if self._ongoing.get(call_id) is ongoing:
            del self._ongoing[call_id]

    def send_nowait(self, event: CallEvent, /) -> None:
        """Take note of what has happened to a call."""
        match event.what:
            case Answered():
                self.answered += 1
                if (ongoing := self._ongoing.get(event.call_id)) is not None:
                    ongoing.state, ongoing.since = "answered", event.at
            case Ended(record):
                self.add(record)
            case _:
                return

    def add(self, record: CallRecord) -> None:
        """A call has ended."""
        self.ended[record.ending.value] += 1
        self.rtp.update(attrs.asdict(record.rtp))
        self.dropped.update({name: count(record) for name, count in DROPPED.items()})
        self.errors.update(record.errors_by_kind)
        if record.usage is not None:
            spent = attrs.asdict(record.usage)
            self.tokens.update({kind: spent[field] for kind, field in TOKENS.items()})
        self.cost_usd += record.cost_usd or 0.0
        for measure in (*MEASURES, *PART_MEASURES):
            self.histograms[measure.name] = self.histograms[measure.name].with_values(measure.values(record))

    def in_progress(self, now: float) -> tuple[CallInProgress, ...]:
        """The calls that are not over, the oldest first."""
        return tuple(
            CallInProgress(
                call_id=call_id,
                agent=call.agent,
                caller=masked(call.caller),
                state=call.state,
                seconds=round(now - call.since, 3),
            )
            for call_id, call in self._ongoing.items()
        )

    def counted(self) -> dict[str, Any]:
        """The counts so far, by the names of `Status`."""
        return {
            "answered": self.answered,
            "ended": dict(self.ended),
            "rtp": dict(self.rtp),
            "dropped": dict(self.dropped),
            "errors": dict(self.errors),
            "tokens": dict(self.tokens),
            "cost_usd": self.cost_usd,
            "histograms": dict(self.histograms),
        }
