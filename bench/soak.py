"""Calls for as long as asked, and whether anything grows meanwhile: memory, descriptors, tasks, the pacing error."""

from __future__ import annotations

import itertools
import json
import math
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import Any, Final, TextIO

import attrs
import click

from bench.conditions import Conditions, heading, load_of, measures, target_of
from bench.measuring import Result, Running, running
from bench.results import Trial, as_json, machine
from bench.tables import figure, table

HOST: Final = "127.0.0.1"
STATUS_SECONDS: Final = 2.0
RUN_IN: Final = 0.4  # of the samples, the first: pools fill in four minutes, and malloc has its size after some fifteen
FEWEST: Final = 6  # samples that a slope is made of
SURE: Final = 3.0  # standard errors that a slope must have to be one
GROWN: Final = 0.01  # of the mean, within the time of the test: less is no leak that we could tell from noise
CHURN_SHARE: Final = 0.2  # of the callers come and go
HOLD_SECONDS: Final = 1.0  # the calls of those
SETTLE_SECONDS: Final = 1.0  # at the end of a window: nobody comes or goes
LIFE: Final = 4  # windows that the others' calls last: until its end a call keeps what was said, and its turns
PER_SECOND: Final = 50  # calls made at the beginning, and in place of those


@attrs.frozen
class Sample:
    """One window."""

    hours: float  # since the first
    trial: Trial
    tasks: int | None  # of trio; None without an admin view

    @property
    def line(self) -> str:
        result, report = self.trial.result, self.trial.result.report
        tasks = "" if self.tasks is None else f", {self.tasks} tasks"
        return (
            f"{60 * self.hours:6.1f} min: {result.calls} calls, {figure(result.rss_kib / 1024)} MiB,"
            f" {result.descriptors} descriptors{tasks}, {figure(100 * result.cpu_share)} % CPU,"
            f" pacing p99 {figure(report.pacing.p99)} max {figure(report.pacing.max)} ms,"
            f" not exact: {self.trial.faults}{' (disturbed)' if self.trial.spoilt else ''}"
        )


@attrs.frozen
class Slope:
    """A straight line through samples, by least squares."""

    mean: float
    per_hour: float
    error: float  # the standard error of `per_hour`
    hours: float  # that it was made from

    @property
    def grows(self) -> bool:
        """Upwards beyond doubt, and by more than a trifle."""
        return self.per_hour > SURE * self.error and self.per_hour * self.hours > GROWN * self.mean


def slope(points: Sequence[tuple[float, float]]) -> Slope:
    """Of (hours, value); at least three."""
    middle, mean = fmean(x for x, _ in points), fmean(y for _, y in points)
    spread = sum((x - middle) ** 2 for x, _ in points)
    per_hour = sum((x - middle) * (y - mean) for x, y in points) / spread
    left = sum((y - mean - per_hour * (x - middle)) ** 2 for x, y in points)
    return Slope(mean, per_hour, math.sqrt(left / (len(points) - 2) / spread), points[-1][0] - points[0][0])


MEASURES: Final[Sequence[tuple[str, Callable[[Sample], float | None]]]] = (
    ("RSS, MiB", lambda sample: sample.trial.result.rss_kib / 1024),
    ("descriptors", lambda sample: sample.trial.result.descriptors),
    ("tasks", lambda sample: sample.tasks),
    ("pacing p99, ms", lambda sample: sample.trial.result.report.pacing.p99),
    ("CPU ms / call-s", lambda sample: sample.trial.result.cpu_ms),
)


def slopes(samples: Sequence[Sample]) -> Iterator[tuple[str, Slope]]:
    """Of each measure, after the run-in; nothing from too few samples."""
    settled = samples[math.ceil(RUN_IN * len(samples)) :]
    for name, measure in MEASURES:
        points = [(sample.hours, value) for sample in settled if (value := measure(sample)) is not None]
        if len(points) >= FEWEST:
            yield name, slope(points)


def verdict(samples: Sequence[Sample]) -> str:
    """The slopes as a table, and what they come to."""
    found = list(slopes(samples))
    rows = [
        (name, figure(line.mean), figure(line.per_hour), figure(line.error), "grows" if line.grows else "steady")
        for name, line in found
    ]
    growing = [name for name, line in found if line.grows]
    faulty = sum(not sample.trial.whole for sample in samples)
    disturbed = sum(bool(sample.trial.spoilt) for sample in samples)
    lines = [
        table(("", "mean", "per hour", "+-", ""), rows) if rows else f"fewer than {FEWEST} settled samples: no slopes",
        "",
        f"growing: {', '.join(growing) or 'nothing'}",
        f"windows that were not exact: {faulty} of {len(samples)}",
    ]
    if disturbed:
        lines.append(f"windows in which the machine was busy with other things: {disturbed}; mind the pacing error")
    return "\n".join(lines)


def tasks_of(url: str) -> int | None:
    """How many tasks the admin view tells of; None if it does not."""
    try:
        with urllib.request.urlopen(url, timeout=STATUS_SECONDS) as answer:
            status: Any = json.load(answer)
        return int(status["tasks"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def samples_of(conditions: Conditions, count: int, minutes: float, churn: bool) -> Iterator[Sample]:
    """Windows one after the other until the time is over."""
    case = conditions.case(count)
    with socket.create_server((HOST, 0)) as free:
        admin = f"{HOST}:{free.getsockname()[1]}"
    with running(target_of(case, AIVC_ADMIN_LISTEN=admin), load_of(case), conditions.cores) as calls:
        calls.begin(range(count), per_second=PER_SECOND)
        calls.serve(1.0)
        began, turn = time.monotonic(), itertools.count()
        while (hours := (time.monotonic() - began) / 3600) < minutes / 60:
            if churn:
                renew(calls, range(next(turn) % LIFE, count, LIFE))
            result = window(calls, conditions.seconds, count, churn)
            present = attrs.evolve(case, calls=result.report.calls) if churn else case
            yield Sample(hours, Trial(present, result), tasks_of(f"http://{admin}/status"))


def renew(calls: Running, numbers: Sequence[int]) -> None:
    """These hang up, and call again."""
    calls.end(numbers)
    calls.begin(numbers, per_second=PER_SECOND)
    calls.serve(SETTLE_SECONDS)


def window(calls: Running, seconds: float, count: int, churn: bool) -> Result:
    """One window; with `churn`, the last callers hang up and call again for most of it, and all talk at its end."""
    if not churn:
        return calls.window(seconds)
    until = time.monotonic() + seconds
    coming = range(count - max(1, round(CHURN_SHARE * count)), count)
    calls.open_window()
    calls.end(coming)
    often = len(coming) / (2 * HOLD_SECONDS)
    calls.churn(coming, per_second=often, hold=HOLD_SECONDS, seconds=seconds - SETTLE_SECONDS)
    calls.begin(())  # until none rings
    calls.begin(sorted(set(coming) - calls.in_progress))
    calls.serve(until=until)
    return calls.close_window()


@click.command()
@measures
@click.option("--minutes", default=30.0, show_default=True)
@click.option("--calls", default=100, show_default=True)
@click.option("--churn", is_flag=True, help="Callers hang up and call again: a fifth all the time, the others rarely.")
@click.option("--json", "file", type=click.File("w"), help="Where all figures go.")
def soak(conditions: Conditions, minutes: float, calls: int, churn: bool, file: TextIO | None) -> None:
    """Watch memory, descriptors, tasks and pacing, and tell what grows; one line for each --seconds."""
    on = machine()
    click.echo(heading(on, conditions))
    samples: list[Sample] = []
    try:
        for sample in samples_of(conditions, calls, minutes, churn):
            samples.append(sample)
            click.echo(sample.line)
    except KeyboardInterrupt:
        click.echo("enough")
    if samples:
        click.echo("\n" + verdict(samples))
    if file:
        file.write(as_json([sample.trial for sample in samples], on, conditions.cores) + "\n")
