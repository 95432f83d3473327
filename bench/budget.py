"""What a call may cost, counted and not timed: the same on every machine, so that CI can hold it.

The service runs with all that belongs to a conversation, calls are in progress, and none comes or goes. What is counted
of a second of a call depends on what the program does, hardly on how fast: a machine that stalls it merges some of its
wake-ups, which makes the counts smaller.
"""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs
import click

from bench import targets
from bench.counts import Counts
from bench.generator import Load
from bench.measuring import SETUP_PER_SECOND, Cores, Running, running
from bench.processes import TargetError
from bench.results import machine
from bench.systemcalls import NotTraceable, SystemCalls, system_calls
from bench.tables import figure, table
from bench.targets import ROOT

# The budgets. The first two are of one second of one call, the others of a packet pair: one of RTP each way, with the
# append, and with a deal of the deltas.
STEPS: Final = 100.0
SYSTEM_CALLS: Final = 240.0
ALLOCATIONS: Final = 150.0
PASSING_OCTETS: Final = 8000.0
KEPT: Final = 0.5  # one block would be a leak; a little is history of the conversation
CYCLES: Final = 0.1  # one would have the collector run, and stop all calls, every few seconds

CALLS: Final = 20  # the budgets are for so many: all of them share the heartbeat
WINDOW_SECONDS: Final = 4.0  # a period of the talk
LONGER: Final = 2  # periods without strace: the more, the less is the memory that comes and goes with each answer
PAIRS_PER_SECOND: Final = 50
STEADY_SECONDS: Final = 2.0  # from the last call's answer to the first window
COUNT_SECONDS: Final = 15.0  # for the program to write what it has counted
TRACES: Final = 2  # attempts to count system calls within their budget: others who disturb make more of them, not less
SHOWN: Final = 12  # rows of a table


@attrs.frozen
class Spent:
    """What was counted, of a second of a call or of a packet pair; the mappings have the largest first.

    Attributes:
      steps: of trio's tasks, by the name of the task's function; a second of a call.
      calls, errors: of the system, and those of them that failed, by name; a second of a call. None: see `why_not`.
      allocations: how often the steps asked Python's allocators for memory, by task; a packet pair.
      passing_octets: what the steps had in use at a time beyond what there was before, by task; a packet pair.
      kept, kept_octets: blocks and octets that came to be in use, by line of code; a packet pair.
      cycles: objects that only the collector could free; a packet pair.
    """

    steps: Mapping[str, float]
    calls: Mapping[str, float] | None
    errors: Mapping[str, float]
    allocations: Mapping[str, float]
    passing_octets: Mapping[str, float]
    kept: Mapping[str, float]
    kept_octets: Mapping[str, float]
    cycles: float
    why_not: str = ""

    def sums(self) -> Iterator[tuple[str, float, float]]:
        """What is held to a budget: its name, how much there was, and the budget."""
        yield "task steps / call-s", sum(self.steps.values()), STEPS
        if self.calls is not None:
            yield "system calls / call-s", sum(self.calls.values()), SYSTEM_CALLS
        yield "allocations / packet pair", sum(self.allocations.values()), ALLOCATIONS
        yield "octets in passing / packet pair", sum(self.passing_octets.values()), PASSING_OCTETS
        yield "blocks kept / packet pair", sum(self.kept.values()), KEPT
        yield "objects in cycles / packet pair", self.cycles, CYCLES

    @property
    def excesses(self) -> Sequence[str]:
        """The budgets that are exceeded, in words."""
        return [f"{counted:.2f} {what}, more than {most:g}" for what, counted, most in self.sums() if counted > most]


def spend(calls: int = CALLS, seconds: float = WINDOW_SECONDS, cores: Cores | None = None) -> Spent:
    """Run the service with so many calls; count system calls for so many seconds, and all else three times as long.

    Raises TargetError, also when the calls do not last; GeneratorError, CompileError.
    """
    with tempfile.TemporaryDirectory(prefix="aivc-bench-") as folder:
        file = Path(folder) / "counts"
        target = attrs.evolve(targets.aivc(), command=(sys.executable, "-m", "bench.counted", str(file)))
        with running(target, Load(calls), cores) as service:
            os.kill(service.program.process.pid, signal.SIGUSR2)  # before anything of the calls is there
            service.begin(range(calls), per_second=SETUP_PER_SECOND)
            service.serve(STEADY_SECONDS)
            begun = counts(service, file)
            system = count_system_calls(service, seconds)
            service.serve(LONGER * seconds)
            counted = counts(service, file).since(begun)
            lasting = len(service.in_progress)
    if lasting != calls:
        raise TargetError(f"only {lasting} of {calls} calls have lasted")
    return spent(calls, counted, system)


def spent(calls: int, counted: Counts, system: SystemCalls | str) -> Spent:
    """Of a call-second or a packet pair, from the windows with so many calls; for `system` see `count_system_calls`."""
    call_seconds = calls * counted.seconds
    pairs = call_seconds * PAIRS_PER_SECOND
    traced, why_not = (None, system) if isinstance(system, str) else (system, "")
    return Spent(
        steps=shares(counted.steps, call_seconds),
        calls=None if traced is None else shares(traced.calls, calls * traced.seconds),
        errors={} if traced is None else shares(traced.errors, calls * traced.seconds),
        allocations=shares(counted.allocations, pairs),
        passing_octets=shares(counted.passing_octets, pairs),
        kept=shares(counted.kept, pairs),
        kept_octets=shares(counted.kept_octets, pairs),
        cycles=counted.cycles / pairs,
        why_not=why_not,
    )


def shares(counts: Mapping[str, int], among: float) -> Mapping[str, float]:
    """Each for one of so many."""
    return {name: count / among for name, count in sorted(counts.items(), key=lambda item: -item[1])}


def count_system_calls(service: Running, seconds: float) -> SystemCalls | str:
    """The system calls of a window, the fewest of two if the first exceed the budget; or why they cannot be counted."""
    found: list[SystemCalls] = []
    while len(found) < TRACES:
        try:
            found.append(system_calls(service.program.process.pid, lambda: service.serve(seconds)))
        except NotTraceable as error:
            return str(error)
        if found[-1].per_second <= SYSTEM_CALLS * len(service.in_progress):
            break
    return min(found, key=lambda each: each.per_second)


def counts(service: Running, file: Path) -> Counts:
    """What the program has counted until now. Raises TargetError when it does not say."""
    known = len(lines(file))
    os.kill(service.program.process.pid, signal.SIGUSR1)
    deadline = time.monotonic() + COUNT_SECONDS
    while len(lines(file)) == known:
        if time.monotonic() > deadline:
            raise service.program.failure("does not say what it has counted")
        service.serve(0.02)
    return Counts.of_line(lines(file)[-1])


def lines(file: Path) -> Sequence[str]:
    """Those that are complete."""
    return file.read_text().split("\n")[:-1] if file.exists() else ()


# What is printed


def tables(found: Spent) -> Iterator[str]:
    """The budgets, and where each of them goes."""
    yield table(("budget", "counted", "at most"), ((name, figure(n), figure(most)) for name, n, most in found.sums()))
    yield table(("task", "steps / call-s"), rows(found.steps))
    if found.calls is None:
        yield f"System calls were not counted: {found.why_not}"
    else:
        yield table(("system call", "/ call-s", "failed"), rows(found.calls, found.errors))
    by_task = ("task", "allocations / pair", "octets in passing")
    yield table(by_task, rows(found.allocations, found.passing_octets))
    yield table(("line", "blocks kept / pair", "octets"), rows(found.kept, found.kept_octets))


def rows(shares: Mapping[str, float], *others: Mapping[str, float]) -> Iterator[Sequence[str]]:
    """The largest, what the others have of the same, and the sums."""
    columns = (shares, *others)
    for name in list(shares)[:SHOWN]:
        yield (short(name), *(figure(column.get(name, 0.0)) for column in columns))
    yield ("all", *(figure(sum(column.values())) for column in columns))


def short(name: str) -> str:
    """A file without the folder that packages are in."""
    for folder in (str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("stdlib")):
        name = name.removeprefix(f"{folder}/")
    return name


@click.command()
@click.option("--calls", default=CALLS, show_default=True, help="The budgets are for 20.")
@click.option("--seconds", default=WINDOW_SECONDS, show_default=True, help="Of system calls; all else thrice as long.")
def budget(calls: int, seconds: float) -> None:
    """Count what a call costs: steps, system calls, memory; status 1 if it is more than the budgets allow."""
    cores = sorted(os.sched_getaffinity(0))
    found = spend(calls, seconds, Cores(cores[0], cores[-1]))
    click.echo("\n\n".join((str(machine()), *tables(found))))
    for excess in found.excesses:
        click.echo(excess, err=True)
    if found.excesses:
        raise SystemExit(1)
