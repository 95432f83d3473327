"""`python -m bench setup`: what it takes to set calls up, and what that does to the calls that are running."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TextIO

import click

from bench.burst import HEADINGS, moments, told
from bench.conditions import Conditions, heading, measures, warnings
from bench.measuring import Cores
from bench.processes import ended_in_order
from bench.ramp import absent, of_aivc, of_sipp
from bench.results import as_json, machine
from bench.tables import figure, table

PACING_MS = 5.0


@click.command()
@measures
@click.option("--calls", default=100, show_default=True, help="Calls that run meanwhile.")
@click.option("--new", default=50, show_default=True, help="Calls made at once.")
@click.option("--ramp/--no-ramp", default=True, help="Find out how many a second are carried, beside `sipp -sn uas`.")
@click.option("--json", "file", type=click.File("w"), help="Where all figures of the burst go.")
def setup(conditions: Conditions, calls: int, new: int, ramp: bool, file: TextIO | None) -> None:
    """Measure what new calls do to running ones, and how many calls per second one core sets up."""
    on = machine()
    click.echo(heading(on, conditions))
    found = [told(moment) for moment in moments(conditions, calls, new)]
    click.echo(table(HEADINGS, [moment.cells for moment in found]))
    worst = max(moment.trial.result.report.pacing.p99 for moment in found)
    click.echo(f"\naimed at: pacing p99 under {PACING_MS:g} ms throughout; found: {figure(worst)} ms")
    trials = [moment.trial for moment in found]
    click.echo(warnings((moment.name, moment.trial) for moment in found))
    if file:
        file.write(as_json(trials, on, conditions.cores, moments=[moment.name for moment in found]) + "\n")
    if ramp:
        carried(conditions.cores)


def carried(cores: Cores) -> None:
    """The table of calls per second."""
    if missing := absent():
        click.echo(f"left out: calls per second, for want of {missing}")
        return
    with ended_in_order(), tempfile.TemporaryDirectory() as folder:
        servers = [of_aivc(cores, Path(folder)), of_sipp(cores, Path(folder))]
    best = [(each.name, each.best) for each in servers]
    rows = [(name, str(load.rate), figure(load.cpu_ms)) if load else (name, "none", "-") for name, load in best]
    click.echo("\nset up and torn down by SIP, one process, the model by plain ws: whatever is said above\n")
    click.echo(table(("server", "calls per second", "ms CPU per call"), rows))
