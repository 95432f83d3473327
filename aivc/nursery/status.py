"""What one process does just now, and has done since its start, as a value that can be sent, added and shown.

A service makes one (`Service.status`), a worker sends its own as JSON, and whoever shows them adds them up (`total`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from itertools import chain
from operator import add
from typing import Any, Final, Literal

import attrs
import cattrs

Json = dict[str, Any]
Counts = Mapping[str, int]

NO_WORKER: Final = "no worker runs"
UNMASKED: Final = 3  # characters at the end of a caller: enough to find one's own call
SHORTEST_MASKED: Final = 6  # characters; of less nothing is shown


@attrs.frozen
class Histogram:
    """How often a value was found at most each of `bounds`.

    Attributes:
      counts: how many were between the bound before and this one; the last of them were above all bounds.
      total: the sum of the values.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float = 0.0

    @classmethod
    def empty(cls, *bounds: float) -> Histogram:
        return cls(bounds, (0,) * (len(bounds) + 1))

    def with_values(self, values: Iterable[float]) -> Histogram:
        """So many values more."""
        counts, total = list(self.counts), self.total
        for value in values:
            counts[bisect_left(self.bounds, value)] += 1
            total += value
        return attrs.evolve(self, counts=tuple(counts), total=total)

    def with_all(self, other: Histogram) -> Histogram:
        """The values of both, which have the same bounds."""
        counts = tuple(map(add, self.counts, other.counts))
        return attrs.evolve(self, counts=counts, total=self.total + other.total)


@attrs.frozen(kw_only=True)
class CallInProgress:
    """One call.

    Attributes:
      call_id: the SIP Call-ID, by which the log tells more.
      caller: but for its last characters hidden: who looks needs no password.
      seconds: since the INVITE, or since the answer.
    """

    call_id: str
    agent: str | None
    caller: str
    state: Literal["ringing", "answered"]
    seconds: float


@attrs.frozen(kw_only=True)
class RegistrationState:
    """How one `[[sip.register]]` stands, as in `aivc.sip.registration.RegistrationStatus`."""

    user: str
    server: str
    state: str
    seconds: float  # since the state was entered
    last_error: str = ""
    advice: str = ""


@attrs.frozen(kw_only=True)
class Status:
    """One process; counts are since its start. What `total` makes of them all has the same fields.

    Attributes:
      worker: its number, which stays when the process is replaced; several statuses must not have the same.
      settings: those that matter when something is odd, by path; values as JSON has them.
      uptime_seconds: of the oldest, in a total.
      why_not: the reason why no new call is taken; "" when new calls are.
      answered, ended: calls; those that ended by `Ending` value. Refused are those that never had a record.
      refusals: requests that were refused, of all kinds, by `aivc.sip.refusals.Cause`.
      pacing_p99_ms: how late the latest hundredth of the packets left in the last seconds; None: no packet did.
      stalls: how often one piece of code kept the process from everything else for too long (`service.stall_ms`).
      rtp: packets of the calls that have ended, by the names of `RtpCounters`.
      dropped: what did not fit into queues, by queue.
      errors: of the model's side, by kind.
      tokens: by the names of `UsageTotals`.
      sip, opensips, mi: by the names of `UserAgentStatistics`, `OpenSipsStatistics`, `MiCounters`; the latter two are
        empty without `opensips.enabled`.
      is_subscribed: whether OpenSIPS sends its calls, as far as we know; None without `opensips.enabled`.
      histograms: by the names of `aivc.nursery.tally.MEASURES`.
      recordings: files of the flight recorder; empty without `recorder.mode`.
      rss_octets, descriptors: None where the system does not tell.
    """

    version: str = ""
    worker: str = "0"
    pid: int = 0
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    uptime_seconds: float = 0.0

    calls: int = 0
    max_calls: int = 0
    accepting: bool = False
    why_not: str = ""
    draining: bool = False
    in_progress: tuple[CallInProgress, ...] = ()

    answered: int = 0
    refused: int = 0
    refusals: Counts = attrs.field(factory=dict)
    ended: Counts = attrs.field(factory=dict)
    histograms: Mapping[str, Histogram] = attrs.field(factory=dict)

    pacing_p99_ms: float | None = None
    stalls: int = 0
    rtp: Counts = attrs.field(factory=dict)
    dropped: Counts = attrs.field(factory=dict)
    errors: Counts = attrs.field(factory=dict)
    tokens: Counts = attrs.field(factory=dict)
    cost_usd: float = 0.0

    sip: Counts = attrs.field(factory=dict)
    opensips: Counts = attrs.field(factory=dict)
    mi: Counts = attrs.field(factory=dict)
    is_subscribed: bool | None = None
    registrations: tuple[RegistrationState, ...] = ()

    records_written: int = 0
    records_lost: int = 0
    recordings: Counts = attrs.field(factory=dict)
    prewarmed: int = 0  # connections to the model that wait for a call
    tasks: int = 0  # of trio
    rss_octets: int | None = None
    descriptors: int | None = None


CONVERTER: Final = cattrs.Converter(detailed_validation=False)


def to_json(status: Status) -> Json:
    """An object of JSON's own types."""
    made: Json = CONVERTER.unstructure(status)
    return made


def from_json(value: object) -> Status:
    """What `to_json` made, after a way through JSON; what another version has more is left out. Raises ValueError."""
    if not isinstance(value, Mapping):
        raise ValueError(f"no status: {value!r:.200}")
    try:
        return CONVERTER.structure(value, Status)
    except Exception as error:  # whatever an operation on an unexpected type raises
        raise ValueError(f"no status: {error!r:.200}") from error


def total(statuses: Sequence[Status]) -> Status:
    """All processes as one; without any, one that takes no call."""
    if not statuses:
        return Status(why_not=NO_WORKER)
    made = reduce(added, statuses)
    return attrs.evolve(made, why_not="") if made.accepting else made


def added(one: Status, other: Status) -> Status:
    """Both as one."""
    names = [field.name for field in attrs.fields(Status)]
    return Status(**{name: ADDED.get(name, plus)(getattr(one, name), getattr(other, name)) for name in names})


def plus(one: Any, other: Any) -> Any:
    """Both together: sums of numbers, histograms and what stands under each key; sequences one after the other."""
    match one, other:
        case None, _:
            return other
        case _, None:
            return one
        case Mapping(), Mapping():
            keys = dict.fromkeys(chain(one, other))
            return {key: plus(one.get(key), other.get(key)) for key in keys}
        case Histogram(), Histogram():
            return one.with_all(other)
        case _:
            return one + other


def first(one: Any, _other: Any) -> Any:
    return one


def either(one: Any, other: Any) -> Any:
    return one or other


def both(one: Any, other: Any) -> Any:
    return one and other


def greatest(one: float | None, other: float | None) -> float | None:
    return max((value for value in (one, other) if value is not None), default=None)


ADDED: Final[Mapping[str, Callable[[Any, Any], Any]]] = {  # all other fields: `plus`
    "version": first,
    "worker": first,
    "pid": first,
    "settings": first,
    "uptime_seconds": greatest,
    "accepting": either,
    "why_not": either,
    "draining": both,
    "is_subscribed": both,
    "pacing_p99_ms": greatest,
}


def masked(caller: str) -> str:
    """The caller's number with all but its end hidden."""
    return f"***{caller[-UNMASKED:]}" if len(caller) > SHORTEST_MASKED else "***"
