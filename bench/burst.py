"""What new calls do to those that are running: many at once, and many a second that come and go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import attrs
import click

from bench.conditions import Conditions, load_of, target_of
from bench.measuring import Result, running
from bench.results import Trial
from bench.tables import figure

CHURN_PER_SECOND: Final = 100.0
HOLD_SECONDS: Final = 0.5  # of a call that comes and goes
SPARE: Final = 100  # callers for those: as many as there are at a time, and again for setup and goodbye
RUN_IN_SECONDS: Final = 3.0
AFTER_SECONDS: Final = 1.0  # of a window that the burst is at the start of
RUNNING_PER_SECOND: Final = 50.0
HEADINGS = ("", "calls answered", "per second", "set-up p50", "p99", "pacing p99", "max", "CPU %", "not exact")


@attrs.frozen
class Moment:
    """A window, and what went on in it."""

    name: str
    trial: Trial

    @property
    def cells(self) -> Sequence[str]:
        """Under HEADINGS; times in milliseconds."""
        result = self.trial.result
        setup, pacing = result.setup, result.report.pacing
        ringing = (setup.p50, setup.p99) if setup else (None, None)
        figures = (*ringing, pacing.p99, pacing.max, 100 * result.cpu_share)
        count = setup.count if setup else 0
        return self.name, str(count), figure(count / result.seconds), *map(figure, figures), self.trial.faults


def moments(conditions: Conditions, steady: int, new: int) -> Iterator[Moment]:
    """`steady` calls alone, then with `new` ones at once, then with calls that come and go.

    The pacing is that of all calls, the new ones included, which is the harder test.
    """
    case = conditions.case(steady + max(new, SPARE))
    others = range(steady, case.calls)

    def moment(name: str, result: Result) -> Moment:
        # Calls that were over before the window's end, or began late, need not have had audio both ways in it.
        return Moment(name, Trial(attrs.evolve(case, calls=result.report.calls), result))

    with running(target_of(case), load_of(case), conditions.cores) as calls:
        calls.begin(range(steady), per_second=RUNNING_PER_SECOND)
        calls.serve(RUN_IN_SECONDS)
        yield moment(f"{steady} calls running", calls.window(conditions.seconds))

        calls.open_window()
        calls.begin(others[:new])
        calls.serve(AFTER_SECONDS)
        yield moment(f"{new} new ones at once", calls.close_window())

        calls.end(others[:new])
        calls.serve(AFTER_SECONDS)
        calls.open_window()
        calls.churn(others, per_second=CHURN_PER_SECOND, hold=HOLD_SECONDS, seconds=conditions.seconds)
        yield moment(f"{CHURN_PER_SECOND:g} a second that come and go", calls.close_window())


def told(moment: Moment) -> Moment:
    click.echo(f"{moment.name}: pacing p99 {figure(moment.trial.result.report.pacing.p99)} ms", err=True)
    return moment
