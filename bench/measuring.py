"""One measurement: the load, a target, calls between them, and what they cost in a window of time.

The target has its cores; the callers, their signalling and the model share another one.
"""

from __future__ import annotations

import heapq
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final, assert_never

import attrs

from bench.compiling import cache_folder
from bench.generator import Generator, Load, Percentiles, Report, open_generator
from bench.processes import Program, TargetError, Usage, awake, ended_in_order, on_cores
from bench.signalling import Answered, Ended, Exchange, HungUp, Ready, Refused, TargetGone
from bench.starting import opened
from bench.targets import Target

READY_SECONDS: Final = 20.0
ANSWER_SECONDS: Final = 40.0  # for all calls of a `begin` to be answered or refused, after the last was made
END_SECONDS: Final = 5.0
QUIET_SHARE: Final = 0.02  # of a core: a target that uses less has done all it does at its start
QUIET_SECONDS: Final = 0.25
FIRST_CALL_SECONDS: Final = 1.0  # what the first call alone is looked at
SETUP_PER_SECOND: Final = 50.0  # calls made for a measurement of calls in progress


@attrs.frozen
class Cores:
    """Who runs where.

    Attributes:
      more: further cores of the target, for one with several processes.
      awake: keep the target's cores from sleeping, see `bench.processes.awake`; without it light loads look dear.
    """

    target: int = 0
    others: int = 1
    more: tuple[int, ...] = ()
    awake: bool = False

    def placed(self) -> tuple[Cores, str]:
        """As far as this machine has them, and what is wrong with that. Raises TargetError."""
        there = os.sched_getaffinity(0)
        if len(there) == 1:
            only = min(there)
            return Cores(only, only, awake=self.awake), "there is one core: the target shares it with what measures it"
        absent = {self.target, self.others, *self.more} - there
        if absent:
            raise TargetError(f"no core {min(absent)} here, but {', '.join(map(str, sorted(there)))}")
        shared = self.others in (self.target, *self.more)
        return self, "the target shares a core with what measures it" if shared else ""


@attrs.frozen
class Result:
    """What was found out in one window.

    Attributes:
      calls: in progress at its end.
      cpu_ms: user and system time of the target's processes for one call and one second; calls that were there for a
        part of the window count for that part.
      cpu_share: of one core.
      setup: of the calls answered since the window before: from INVITE, NEW or `call` to 200 or `ready`, milliseconds,
        exact (no histogram); None without any.
      rss_kib: resident memory of the target; of several processes the proportional shares (PSS).
      rss_kib_per_call: beyond the first call; NaN when there was one alone.
      waited_ms: a second: how long the target could have run but had no CPU.
      generator_cpu_ms: of the callers and the model in the window; not of their signalling.
      ok: all calls were set up, none was hung up by the target, and the report is exact.
      failed, hung_up: calls since the window before that were not set up, and that the target ended.
      note: what to know about the machine; empty for nothing.
    """

    target: str
    calls: int
    seconds: float
    cpu_ms: float
    cpu_share: float
    setup: Percentiles | None
    rss_kib: int
    rss_kib_per_call: float
    descriptors: int
    waited_ms: float
    report: Report
    generator_cpu_ms: float
    ok: bool
    processes: int = 1
    failed: int = 0
    hung_up: int = 0
    first_failure: str = ""
    note: str = ""


@attrs.define
class Tally:
    """Since the window before."""

    setup_ms: list[float] = attrs.field(factory=list)
    failures: list[str] = attrs.field(factory=list)
    hung_up: int = 0


@attrs.frozen
class Opening:
    """The state at the beginning of a window."""

    at: float
    usage: Usage
    call_seconds: float


class Running:
    """A target with its load; made by `running`. Numbers are callers, from 0 to `load.calls` - 1.

    Between its methods nobody serves the signalling: `serve` does while nothing else is to be done.
    """

    def __init__(self, target: Target, program: Program, generator: Generator, exchange: Exchange, note: str) -> None:
        self.target, self.program, self.generator, self.note = target, program, generator, note
        self.in_progress: set[int] = set()
        self.first_memory_kib: int | None = None
        self._exchange = exchange
        self._ringing: set[int] = set()
        self._ending: set[int] = set()
        self._tally = Tally()
        self._call_seconds, self._counted_until = 0.0, time.monotonic()
        self._opening: Opening | None = None
        self._is_ready = False

    # Calls

    def begin(self, numbers: Iterable[int], *, per_second: float = math.inf) -> None:
        """Make calls at this rate, or all at once, and wait until each is answered or refused.

        Who is in a call already does not make another one.
        """
        began = time.monotonic()
        for made, number in enumerate(numbers):
            self.serve(until=began + made / per_second)
            if number not in self.in_progress | self._ringing:
                self._make(number)
        deadline = time.monotonic() + ANSWER_SECONDS
        while self._ringing and time.monotonic() < deadline:
            self._step(deadline)
        if self._ringing:
            raise self.program.failure(f"left {len(self._ringing)} calls without an answer")

    def end(self, numbers: Iterable[int], *, per_second: float = math.inf) -> None:
        """End those that are in progress or about to be, and wait until they are over at the target, too."""
        those, patience = set(numbers), time.monotonic() + END_SECONDS
        while self._ringing & those and time.monotonic() < patience:
            self._step(patience)
        began = time.monotonic()
        for made, number in enumerate(sorted(self.in_progress & those)):
            self.serve(until=began + made / per_second)
            self._end(number)
        deadline = time.monotonic() + END_SECONDS
        while self._ending and time.monotonic() < deadline:
            self._step(deadline)

    def churn(self, numbers: Sequence[int], *, per_second: float, hold: float, seconds: float) -> None:
        """Make calls at this rate for so long, each ended after `hold` seconds in progress, by the callers in turn.

        A caller whose last call is not over misses a turn: have more than `per_second` x `hold` of them. The calls of
        the last moments are still in progress afterwards.
        """
        began = time.monotonic()
        ends: list[tuple[float, int]] = []
        for made in range(int(seconds * per_second)):
            due, number = began + made / per_second, numbers[made % len(numbers)]
            while True:
                self._hold(numbers, ends, hold)
                if time.monotonic() >= due:
                    break
                self._step(min(due, ends[0][0] if ends else math.inf))
            if number not in self.in_progress | self._ringing | self._ending:
                self._make(number)

    def _hold(self, numbers: Sequence[int], ends: list[tuple[float, int]], hold: float) -> None:
        """End what has been held long enough; `ends` is a heap of when."""
        now, known = time.monotonic(), {number for _, number in ends}
        for number in self.in_progress.intersection(numbers) - known:
            heapq.heappush(ends, (now + hold, number))
        while ends and ends[0][0] <= now:
            self._end(heapq.heappop(ends)[1])

    def _make(self, number: int) -> None:
        self._ringing.add(number)
        self._exchange.begin(number, self.generator.rtp_ports[number])

    def _end(self, number: int) -> None:
        if number in self.in_progress:
            self.generator.hush(number)
            self._exchange.end(number)
            self._leave(number)
            self._ending.add(number)

    # Time

    def serve(self, seconds: float = 0.0, *, until: float | None = None) -> None:
        """Let time go by: the signalling is answered, calls go on. Raises TargetError when the target ends."""
        until = time.monotonic() + seconds if until is None else until
        self._step(until)
        while time.monotonic() < until:
            self._step(until)

    def wait_ready(self) -> None:
        """Until the target can be called, and has done what it does at its start. Raises TargetError."""
        deadline = time.monotonic() + READY_SECONDS
        while not self._is_ready:
            self._step(min(deadline, time.monotonic() + QUIET_SECONDS))
            if time.monotonic() >= deadline:
                raise self.program.failure(f"cannot be called after {READY_SECONDS:g} s")
        share = math.inf
        while share > QUIET_SHARE and time.monotonic() < deadline:
            began, before = time.monotonic(), self.usage().cpu_seconds
            self.serve(QUIET_SECONDS)
            share = (self.usage().cpu_seconds - before) / (time.monotonic() - began)

    def _step(self, until: float) -> None:
        """Until something happens to a call, or that time."""
        self.program.check()
        try:
            outcomes = self._exchange.serve(until)
        except TargetGone as error:
            raise self.program.failure(str(error)) from error
        for outcome in outcomes:
            match outcome:
                case Ready():
                    self._is_ready = True
                case Answered():
                    self._answered(outcome)
                case Refused():
                    self._ringing.discard(outcome.number)
                    self._tally.failures.append(outcome.reason)
                case Ended():
                    self._ending.discard(outcome.number)
                case HungUp():
                    self.generator.hush(outcome.number)
                    self._leave(outcome.number)
                    self._tally.hung_up += 1
                case _:
                    assert_never(outcome)

    def _answered(self, answered: Answered) -> None:
        self._ringing.discard(answered.number)
        self._tally.setup_ms.append(1000 * answered.seconds)
        self.generator.talk(answered.number, answered.remote)
        self._count()
        self.in_progress.add(answered.number)

    def _leave(self, number: int) -> None:
        self._count()
        self.in_progress.discard(number)

    def _count(self) -> None:
        """Of calls in progress, the seconds so far; before their number changes."""
        now = time.monotonic()
        self._call_seconds += len(self.in_progress) * (now - self._counted_until)
        self._counted_until = now

    # Figures

    def usage(self) -> Usage:
        """What the target has used, and holds now."""
        return self.program.usage()

    def window(self, seconds: float) -> Result:
        """Measure for so long, while nothing but the calls goes on."""
        self.open_window()
        self.serve(seconds)
        return self.close_window()

    def open_window(self) -> None:
        """The measurement begins; `begin`, `end` and `churn` may follow."""
        self.generator.begin_window()
        self._count()
        self._opening = Opening(time.monotonic(), self.usage(), self._call_seconds)

    def close_window(self) -> Result:
        """The measurement ends."""
        assert self._opening is not None, "open_window comes first"
        opening, closing = self._opening, self.usage()
        seconds = time.monotonic() - opening.at
        report = self.generator.report()
        self._count()
        cpu_seconds = closing.cpu_seconds - opening.usage.cpu_seconds
        call_seconds = self._call_seconds - opening.call_seconds
        tally, self._tally, self._opening = self._tally, Tally(), None
        return Result(
            target=self.target.name,
            calls=len(self.in_progress),
            seconds=seconds,
            cpu_ms=1000 * cpu_seconds / call_seconds if call_seconds else math.nan,
            cpu_share=cpu_seconds / seconds,
            setup=percentiles(tally.setup_ms) if tally.setup_ms else None,
            rss_kib=closing.memory_kib,
            rss_kib_per_call=self._per_call(closing.memory_kib),
            descriptors=closing.descriptors,
            waited_ms=1000 * (closing.waited_seconds - opening.usage.waited_seconds) / seconds,
            report=report,
            generator_cpu_ms=report.cpu_ms,
            ok=not tally.failures and not tally.hung_up and report.exact,
            processes=closing.processes,
            failed=len(tally.failures),
            hung_up=tally.hung_up,
            first_failure=tally.failures[0] if tally.failures else "",
            note=self.note,
        )

    def _per_call(self, memory_kib: int) -> float:
        others = len(self.in_progress) - 1
        if self.first_memory_kib is None or others < 1:
            return math.nan
        return (memory_kib - self.first_memory_kib) / others


def measure(
    target: Target,
    load: Load,
    *,
    seconds: float = 10,
    warm_up: float = 3,
    cores: Cores | None = None,
    attempts: int = 1,
) -> Result:
    """Set up all calls of the load, let them go on for `warm_up` seconds, and measure; the first result that is ok of
    so many attempts, else the last.

    Raises TargetError when no call was answered or the target died, GeneratorError, CompileError.
    """
    for attempt in range(1, attempts + 1):
        with running(target, load, cores) as calls:
            calls.begin([0])
            calls.serve(FIRST_CALL_SECONDS)
            calls.first_memory_kib = calls.usage().memory_kib
            calls.begin(range(1, load.calls), per_second=SETUP_PER_SECOND)
            calls.serve(warm_up)
            if not calls.in_progress:
                raise calls.program.failure("has no call in progress")
            result = calls.window(seconds)
            calls.end(range(load.calls))
        if result.ok or attempt == attempts:
            return result
    raise ValueError("attempts must be at least 1")


@contextmanager
def running(target: Target, load: Load, cores: Cores | None = None) -> Iterator[Running]:
    """The load and a target that can be called, for the length of the block; both are ended, come what may.

    Raises TargetError, GeneratorError and CompileError.
    """
    placed, note = (cores or Cores()).placed()
    with ExitStack() as stack:
        stack.enter_context(ended_in_order())
        stack.enter_context(on_cores([placed.others]))
        generator = stack.enter_context(open_generator(load, placed.others))
        own = (placed.target, *placed.more)
        if placed.awake:
            stack.enter_context(awake(own, cache_folder() / "logs"))
        program, exchange = stack.enter_context(opened(target, load, generator, own))
        calls = Running(target, program, generator, exchange, note)
        calls.wait_ready()
        yield calls
        if program.process.poll() is None:  # else its end has been told, and whoever went on knows what for
            calls.end(range(load.calls))


def percentiles(values_ms: Sequence[float]) -> Percentiles:
    """Exact, by nearest rank; of at least one value."""
    ordered = sorted(values_ms)

    def at(share: float) -> float:
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    return Percentiles(at(0.5), at(0.9), at(0.99), at(0.999), ordered[-1], len(ordered))
