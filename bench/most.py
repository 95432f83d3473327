"""How many calls one core carries: by doubling, then by halving the gap, each verdict given twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TextIO

import attrs
import click

from bench.conditions import TARGETS, Conditions, by_name, heading, measures, name, warnings
from bench.results import Trial, as_json, machine
from bench.run import HEADINGS, cells
from bench.tables import figure, table

LIMITS_MS: Final = (5.0, 1.0)  # p99 of the pacing error
AGREE: Final = 2  # of the same verdict
BLAMED_MOST: Final = 3  # failures of one number that are blamed on the machine; then they count


def largest(carries: Callable[[int], bool], start: int, step: int, most: int) -> int:
    """The largest multiple of `step` that is carried, 0 if none is; `start` is one, and `most` is never passed."""
    good, bad = 0, min(start, most)
    while carries(bad):
        good, bad = bad, min(2 * bad, most)
        if good == bad:
            return good
    while bad - good > step:
        middle = good + max((bad - good) // 2 // step * step, step)
        good, bad = (middle, bad) if carries(middle) else (good, middle)
    return good


@attrs.define
class Verdicts:
    """What was found out about each number of calls, so that no question is measured again."""

    attempt: Callable[[int], Trial | None]  # None: the program cannot even be measured with so many
    found: dict[int, list[Trial | None]] = attrs.field(factory=dict)

    def carries(self, calls: int, limit_ms: float) -> bool:
        """Whether this many are carried: as soon as two runs say the same, a third one decides between two."""
        while True:
            answers = self.answers(calls, limit_ms)
            for answer in (True, False):
                if answers.count(answer) >= AGREE:
                    return answer
            self.found.setdefault(calls, []).append(self.attempt(calls))

    def answers(self, calls: int, limit_ms: float) -> Sequence[bool]:
        """Of each run. That it was carried is true whatever the machine did; a failure may be the machine's own."""
        runs = self.found.get(calls, [])
        blamed = sum(contended(run) and not good(run, limit_ms) for run in runs)
        return [
            good(run, limit_ms) for run in runs if good(run, limit_ms) or not contended(run) or blamed >= BLAMED_MOST
        ]

    def doubtful(self, carried: int, limit_ms: float) -> bool:
        """Whether the next number was refused by runs that were spoilt, all of them: it may be carried elsewhere."""
        above = [calls for calls in self.found if calls > carried]
        refusals = [run for run in self.found[min(above)] if not good(run, limit_ms)] if above else []
        return bool(refusals) and all(map(contended, refusals))

    @property
    def trials(self) -> Sequence[Trial]:
        """All that was measured, by the number of calls."""
        return [run for calls in sorted(self.found) for run in self.found[calls] if run]


def good(run: Trial | None, limit_ms: float) -> bool:
    return run is not None and run.whole and run.result.report.pacing.p99 < limit_ms


def contended(run: Trial | None) -> bool:
    return run is not None and bool(run.spoilt)


@click.command("max")
@measures
@click.option("--target", type=click.Choice(["aivc", *TARGETS]), default="aivc", show_default=True)
@click.option("--append-ms", default=20, show_default=True, help="20, 40, 60 or 100 (realtime.append_ms).")
@click.option("--start", default=100, show_default=True, help="Number of calls to begin with.")
@click.option("--step", type=click.IntRange(1), default=10, show_default=True, help="How exactly the number is wanted.")
@click.option("--limit", default=2000, show_default=True, help="More calls are never tried.")
@click.option("--json", "file", type=click.File("w"), help="Where all figures go.")
def most(
    conditions: Conditions, target: str, append_ms: int, start: int, step: int, limit: int, file: TextIO | None
) -> None:
    """Find the largest number of calls: nothing lost, p99 of the pacing error under 5 ms, and under 1 ms."""
    on = machine()
    click.echo(heading(on, conditions))

    def attempt(calls: int) -> Trial | None:
        found = conditions.told(conditions.case(calls, target=target, append_ms=append_ms))
        if found:
            pacing = figure(found.result.report.pacing.p99)
            click.echo(f"{name(found.case)}: pacing p99 {pacing} ms; not exact: {found.faults}", err=True)
        return found

    verdicts = Verdicts(attempt)
    lines = []
    for limit_ms in LIMITS_MS:
        limit = largest(partial(verdicts.carries, limit_ms=limit_ms), start, step, limit)
        lines.append(f"largest number of calls with nothing lost and pacing p99 under {limit_ms:g} ms: {limit}")
        if verdicts.doubtful(limit, limit_ms):
            lines[-1] += " (or more: the runs that failed were spoilt)"
        if not limit:
            break
    click.echo(
        "\n".join(["", table(HEADINGS, map(cells, verdicts.trials)), "", *lines, warnings(by_name(verdicts.trials))])
    )
    if file:
        file.write(as_json(verdicts.trials, on, conditions.cores, verdicts=lines) + "\n")
