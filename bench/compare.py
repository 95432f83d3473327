"""aivc beside programs that do the same media work: what each spends for one call and one second, and the ratios.

All run in turn, and again in another order, so that a machine whose speed changes changes all of them. A ratio is the
median of those within each round, not the ratio of medians.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Final, TextIO

import attrs
import click

from bench.compiling import CompileError
from bench.conditions import IMAGES, TARGETS, Conditions, by_name, heading, measures, name, notes, target_of, warnings
from bench.pictures import Bar, bars
from bench.results import Case, Trial, as_json, machine
from bench.tables import figure, table

AT_MOST: Final[Mapping[str, float]] = {  # of each one's CPU, what aivc aims at
    "floor-heartbeat": 2.2,
    "floor-events": 1.3,
    "uvloop": 0.75,
    "plain-trio": 0.35,
}
NEEDS: Final[Mapping[str, Sequence[str]]] = {"uvloop": ("uvloop", "websockets")}
INWARDS_MS: Final = 10.0
OUTWARDS_MS: Final = 25.0  # a frame, and 5 ms
KIB_PER_CALL: Final = 120.0
PACING_MS: Final = 1.0

Round = Mapping[Case, Trial]  # one run of each that could be measured
HEADINGS = (
    "",
    "calls",
    "CPU ms / call-s",
    "lowest",
    "highest",
    "pacing p99",
    "in p99",
    "out p99",
    "KiB / call",
    "whole",
)


@attrs.frozen
class Aim:
    """One target: what was wanted and what came out."""

    what: str
    at_most: float
    found: float

    @property
    def cells(self) -> Sequence[str]:
        return self.what, figure(self.at_most), figure(self.found), "yes" if self.found <= self.at_most else "no"


def missing(yardstick: str) -> str:
    """Why it cannot run here; empty if it can."""
    absent = [module for module in NEEDS.get(yardstick, ()) if find_spec(module) is None]
    if absent:
        return f"{' and '.join(absent)} not installed (pip install 'aivc[bench]')"
    try:
        target_of(Case(yardstick, 1))
    except CompileError as error:
        return str(error)
    return ""


def cases_of(conditions: Conditions, calls: int, plain_calls: int, yardsticks: Sequence[str]) -> Sequence[Case]:
    """aivc at each number of calls that a yardstick has, then the yardsticks."""
    found = [conditions.case(plain_calls if each == "plain-trio" else calls, target=each) for each in yardsticks]
    counts = dict.fromkeys([calls, *(case.calls for case in found)])
    return [*(conditions.case(count) for count in counts), *found]


def rounds_of(conditions: Conditions, cases: Sequence[Case], repeat: int) -> Iterator[Round]:
    """Each time the next one begins."""
    for number in range(repeat):
        first = number % len(cases)
        done = {}
        for case in [*cases[first:], *cases[:first]]:
            if trial := conditions.told(case):
                done[case] = trial
                cpu = figure(trial.result.cpu_ms)
                click.echo(f"round {number + 1} of {repeat}: {name(case)}: {cpu} ms per call-second", err=True)
        yield done


def runs_of(case: Case, rounds: Sequence[Round]) -> Sequence[Trial]:
    return [each[case] for each in rounds if case in each]


def line(trials: Sequence[Trial]) -> Sequence[str]:
    """Of HEADINGS: medians of the runs of one case."""
    spent = [each.result.cpu_ms for each in trials]
    figures = (
        median(spent),
        min(spent),
        max(spent),
        median(each.result.report.pacing.p99 for each in trials),
        median(each.result.report.up.p99 for each in trials),
        median(each.result.report.down.p99 for each in trials),
        median(each.result.rss_kib_per_call for each in trials),
    )
    faults = dict.fromkeys(each.faults for each in trials if not each.whole)
    case = trials[0].case
    return case.target, str(case.calls), *map(figure, figures), "; ".join(faults) or "yes"


def ratios(rounds: Sequence[Round]) -> Iterator[Aim]:
    """CPU of aivc by that of each yardstick, at the yardstick's number of calls."""
    for case in dict.fromkeys(case for each in rounds for case in each if case.target != "aivc"):
        ours = attrs.evolve(case, target="aivc")
        both = [each for each in rounds if case in each and ours in each]
        if both:
            found = median(each[ours].result.cpu_ms / each[case].result.cpu_ms for each in both)
            yield Aim(f"CPU by that of {case.target}, {case.calls} calls", AT_MOST[case.target], found)


def own_aims(trials: Sequence[Trial]) -> Iterator[Aim]:
    """What aivc aims at for itself, by its runs at the one number of calls."""
    calls = trials[0].case.calls
    yield Aim(f"delay inwards, p99 ms, {calls} calls", INWARDS_MS, median(t.result.report.up.p99 for t in trials))
    yield Aim(f"delay outwards, p99 ms, {calls} calls", OUTWARDS_MS, median(t.result.report.down.p99 for t in trials))
    yield Aim(f"KiB per call, {calls} calls", KIB_PER_CALL, median(t.result.rss_kib_per_call for t in trials))
    yield Aim(f"pacing error, p99 ms, {calls} calls", PACING_MS, median(t.result.report.pacing.p99 for t in trials))


def drawing(runs: Sequence[Sequence[Trial]], calls: int, foot: Sequence[str]) -> str:
    """A bar for each case."""
    several = []
    for trials in runs:
        case, spent = trials[0].case, [each.result.cpu_ms for each in trials]
        other = f", {case.calls} calls" if case.calls != calls else ""
        colour = 0 if case.target == "aivc" else 5
        several.append(Bar(f"{case.target}{other}", median(spent), min(spent), max(spent), colour))
    return bars(f"CPU for one call and one second, {calls} calls", "ms of CPU per call-second", several, foot)


@click.command()
@measures
@click.option("--calls", default=200, show_default=True)
@click.option("--plain-calls", default=100, show_default=True, help="For plain trio, which carries fewer.")
@click.option("--repeat", default=3, show_default=True, help="Rounds; the median counts.")
@click.option("--json", "file", type=click.File("w"), help="Where all figures go.")
@click.option("--pictures", type=click.Path(path_type=Path), default=IMAGES, help="Folder; docs/images if not said.")
def compare(
    conditions: Conditions, calls: int, plain_calls: int, repeat: int, file: TextIO | None, pictures: Path
) -> None:
    """Measure aivc and the yardsticks in turn; print the ratios beside what is aimed at."""
    on = machine()
    click.echo(heading(on, conditions))
    reasons = {each: missing(each) for each in TARGETS}
    for each in [each for each, reason in reasons.items() if reason]:
        click.echo(f"left out: {each}: {reasons[each]}\n")
    cases = cases_of(conditions, calls, plain_calls, [each for each, reason in reasons.items() if not reason])
    rounds = list(rounds_of(conditions, cases, repeat))
    runs = [found for case in cases if (found := runs_of(case, rounds))]
    if not runs or runs[0][0].case != cases[0]:
        raise click.ClickException(f"{name(cases[0])} could not be measured")
    trials = [trial for each in runs for trial in each]
    aims = [*ratios(rounds), *own_aims(runs[0])]
    click.echo(table(HEADINGS, map(line, runs)))
    click.echo("\n" + table(("aivc", "at most", "found", "met"), [aim.cells for aim in aims]))
    click.echo(warnings(by_name(trials)))
    if file:
        file.write(as_json(trials, on, conditions.cores, aims=[attrs.asdict(aim) for aim in aims]) + "\n")
    pictures.mkdir(parents=True, exist_ok=True)
    (pictures / "compare.svg").write_text(drawing(runs, calls, notes(on, conditions, trials)))
    click.echo(f"drawn: {pictures / 'compare.svg'}", err=True)
