"""What the commands that measure have in common: their options, and one measurement with them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import click

from bench import targets
from bench.generator import Load
from bench.measuring import Cores, measure
from bench.processes import TargetError
from bench.results import Case, Machine, Signalling, Trial, stolen_seconds

TARGETS: Final[Mapping[str, Callable[[], targets.Target]]] = {
    "floor-heartbeat": lambda: targets.floor("heartbeat"),
    "floor-events": lambda: targets.floor("events"),
    "uvloop": targets.uvloop,
    "plain-trio": targets.plain_trio,
}  # beside aivc itself, which has settings
IMAGES: Final = Path(__file__).parents[1] / "docs" / "images"


@attrs.frozen
class Conditions:
    """What is the same in all measurements of one command."""

    cores: Cores = attrs.field(factory=Cores)
    seconds: float = 10.0
    signalling: Signalling = "sip"
    tls: bool = True
    workers: int = 1
    attempts: int = 1

    def case(self, calls: int, *, target: str = "aivc", append_ms: int = 20) -> Case:
        return Case(target, calls, append_ms, self.workers, self.signalling, self.tls)

    def tried(self, case: Case) -> Trial:
        """Measure, once or until a run was not spoilt, at most `attempts` times; the least spoilt counts."""
        trials: list[Trial] = []
        while len(trials) < self.attempts and (not trials or trials[-1].spoilt):
            if trials:
                last = trials[-1]
                click.echo(f"  once more: {'; '.join(last.spoilt)} (not exact: {last.faults})", err=True)
            trials.append(trial(case, self))
        return min(trials, key=lambda each: (len(each.spoilt), each.result.waited_ms))

    def told(self, case: Case) -> Trial | None:
        """The same; None, and a word about it, if the program cannot be measured so."""
        try:
            return self.tried(case)
        except TargetError as error:
            click.echo(f"{name(case)}: {error.message}", err=True)
            return None

    def __str__(self) -> str:
        transport = "TLS" if self.tls else "no TLS"
        own = " ".join(map(str, (self.cores.target, *self.cores.more)))
        awake = " (kept awake)" if self.cores.awake else ""
        several = f", {self.workers} workers" if self.workers > 1 else ""
        return (
            f"target on core {own}{awake}{several}, callers and model on core {self.cores.others},"
            f" {self.signalling}, {transport}, {self.seconds:g} s each"
        )


def trial(case: Case, conditions: Conditions) -> Trial:
    began, stolen = time.monotonic(), stolen_seconds()
    result = measure(target_of(case), load_of(case), seconds=conditions.seconds, cores=conditions.cores)
    return Trial(case, result, 1000 * (stolen_seconds() - stolen) / (time.monotonic() - began))


def target_of(case: Case, **environ: str) -> targets.Target:
    """The program of a case; `environ` are further settings of aivc."""
    if case.target != "aivc":
        return TARGETS[case.target]()
    return targets.aivc(case.signalling, workers=case.workers, AIVC_REALTIME_APPEND_MS=str(case.append_ms), **environ)


def load_of(case: Case) -> Load:
    return Load(case.calls, tls=case.tls)


def numbers(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    """`1,50,100` as an option's value."""
    words = value.split(",")
    if not all(word.isascii() and word.isdigit() for word in words):
        raise click.BadParameter("give whole numbers with commas between them")
    return tuple(map(int, words))


OPTIONS: Final = (
    click.option("--core", "own", default="0", show_default=True, callback=numbers, help="Core of what is measured."),
    click.option("--other", default=1, show_default=True, help="Core of the callers and the model."),
    click.option("--seconds", default=10.0, show_default=True, help="How long one measurement takes."),
    click.option("--signalling", type=click.Choice(["sip", "mi"]), default="sip", show_default=True),
    click.option("--no-tls", is_flag=True, help="The model by plain ws:, not wss:."),
    click.option("--workers", default=1, show_default=True, help="Processes of aivc; then --core 0,1,..."),
    click.option("--awake", is_flag=True, help="Its core never sleeps; else light loads look dear."),
    click.option(
        "--attempts",
        type=click.IntRange(1),
        default=2,
        show_default=True,
        help="Most runs of one case, if others disturb them.",
    ),
)


def measures(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the options of `Conditions`, which it gets as its first argument."""

    @functools.wraps(command)
    def run(
        own: Sequence[int],
        other: int,
        seconds: float,
        signalling: Signalling,
        no_tls: bool,
        workers: int,
        awake: bool,
        attempts: int,
        **more: Any,
    ) -> None:
        cores = Cores(own[0], other, tuple(own[1:]), awake)
        conditions = Conditions(cores, seconds, signalling, not no_tls, workers, attempts)
        command(conditions, **more)

    for option in reversed(OPTIONS):
        run = option(run)
    return run


def heading(on: Machine, conditions: Conditions) -> str:
    """What stands above figures that somebody may copy."""
    return f"{on}\n{conditions}\n"


def notes(on: Machine, conditions: Conditions, trials: Iterable[Trial]) -> Sequence[str]:
    """The same for the foot of a picture."""
    disturbed = any(trial.spoilt for trial in trials)
    first = f"{on.cpu}, Linux {on.kernel.partition('-')[0]}, Python {on.python}"
    return (first, f"{conditions}{'; disturbed by other programs' if disturbed else ''}")


def warnings(trials: Iterable[tuple[str, Trial]]) -> str:
    """Which runs were spoilt, by name, and why; empty if none was."""
    lines = [f"  {name}: {'; '.join(trial.spoilt)}" for name, trial in trials if trial.spoilt]
    return "\n".join(["Do not trust the times of", *lines]) if lines else ""


def by_name(trials: Iterable[Trial]) -> Iterable[tuple[str, Trial]]:
    return ((name(trial.case), trial) for trial in trials)


def name(case: Case) -> str:
    extra = f", appends of {case.append_ms} ms" if case.append_ms != 20 else ""
    return f"{case.target}, {case.calls} calls{extra}"
