"""What aivc costs at growing numbers of calls: a table, JSON, and the pictures of the documentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

import attrs
import click

from bench.conditions import IMAGES, Conditions, by_name, heading, measures, name, notes, numbers, warnings
from bench.pictures import Chart, Series, chart
from bench.results import Trial, as_json, machine
from bench.tables import figure, table

HEADINGS = (
    "calls",
    "append ms",
    "CPU ms / call-s",
    "core %",
    "pacing p50",
    "p99",
    "max",
    "in p50",
    "p99",
    "out p50",
    "p99",
    "RSS MiB",
    "KiB / call",
    "waited ms/s",
    "lag p99",
    "not exact",
)


def cells(trial: Trial) -> Sequence[str]:
    """The line of one measurement under HEADINGS; latencies and pacing errors in milliseconds."""
    result, report = trial.result, trial.result.report
    figures = (
        result.cpu_ms,
        100 * result.cpu_share,
        report.pacing.p50,
        report.pacing.p99,
        report.pacing.max,
        report.up.p50,
        report.up.p99,
        report.down.p50,
        report.down.p99,
        result.rss_kib / 1024,
        result.rss_kib_per_call,
        result.waited_ms,
        report.sender_lag.p99,
    )
    calls = f"{trial.case.calls}{' (spoilt)' if trial.spoilt else ''}"
    return (calls, str(trial.case.append_ms), *map(figure, figures), trial.faults)


def per_append(trials: Sequence[Trial], value: Callable[[Trial], float], *, dashed: bool = False) -> Iterator[Series]:
    """A line for each `append_ms`; with one alone, the line needs no such name."""
    appends = sorted({trial.case.append_ms for trial in trials})
    for colour, append_ms in enumerate(appends):
        of_these = sorted((t for t in trials if t.case.append_ms == append_ms), key=lambda trial: trial.case.calls)
        points = [(float(trial.case.calls), value(trial)) for trial in of_these]
        yield Series(f"appends of {append_ms} ms" if len(appends) > 1 else "aivc", points, colour, dashed)


def latencies(trials: Sequence[Trial]) -> Sequence[Series]:
    """Both ways, median and p99, at the smallest `append_ms`."""
    smallest = min(trial.case.append_ms for trial in trials)
    ways: Sequence[tuple[str, Callable[[Trial], float], int, bool]] = (
        ("caller to model, p50", lambda t: t.result.report.up.p50, 0, True),
        ("p99", lambda t: t.result.report.up.p99, 0, False),
        ("model to caller, p50", lambda t: t.result.report.down.p50, 1, True),
        ("p99", lambda t: t.result.report.down.p99, 1, False),
    )
    of_these = [trial for trial in trials if trial.case.append_ms == smallest]
    return [
        attrs.evolve(series, name=words, colour=colour)
        for words, value, colour, dashed in ways
        for series in per_append(of_these, value, dashed=dashed)
    ]


def charts(trials: Sequence[Trial], foot: Sequence[str]) -> Iterator[tuple[str, Chart]]:
    """Each picture and the name of its file, without `.svg`."""
    calls = "calls at a time"
    cpu = list(per_append(trials, lambda trial: trial.result.cpu_ms))
    yield "cpu", Chart("CPU for one call and one second", calls, "ms of CPU per call-second", cpu, (), True, foot)
    pacing = list(per_append(trials, lambda trial: trial.result.report.pacing.p99))
    limits = ((1.0, "1 ms"), (5.0, "5 ms"))
    yield "pacing", Chart("Pacing error of the RTP to the caller", calls, "p99, ms", pacing, limits, True, foot)
    yield "latency", Chart("Delay added by aivc", calls, "ms", latencies(trials), notes=foot)
    memory = list(per_append(trials, lambda trial: trial.result.rss_kib / 1024))
    yield "memory", Chart("Memory of the process", calls, "resident MiB", memory, notes=foot)


def draw(trials: Sequence[Trial], folder: Path, foot: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file, drawn in charts(trials, foot):
        (folder / f"{file}.svg").write_text(chart(drawn))
        click.echo(f"drawn: {folder / file}.svg", err=True)


@click.command()
@measures
@click.option("--calls", default="1,50,100,200,300", show_default=True, callback=numbers)
@click.option("--append-ms", default="20", show_default=True, callback=numbers, help="E.g. 20,40,60,100.")
@click.option("--json", "file", type=click.File("w"), default="-", help="All figures; the terminal if not said.")
@click.option("--pictures", type=click.Path(path_type=Path), default=IMAGES, help="Folder; docs/images if not said.")
def run(conditions: Conditions, calls: Sequence[int], append_ms: Sequence[int], file: TextIO, pictures: Path) -> None:
    """Measure aivc with these numbers of calls."""
    on = machine()
    click.echo(heading(on, conditions))
    trials: list[Trial] = []
    for case in [conditions.case(count, append_ms=each) for each in append_ms for count in calls]:
        click.echo(f"{name(case)} ...", err=True)
        trials += filter(None, [conditions.told(case)])
    if not trials:
        raise SystemExit(1)
    click.echo(table(HEADINGS, map(cells, trials)))
    click.echo(warnings(by_name(trials)))
    file.write(as_json(trials, on, conditions.cores) + "\n")
    draw(trials, pictures, notes(on, conditions, trials))
