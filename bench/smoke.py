"""Exactness in a few seconds, for CI: no time is judged, so a slow or busy machine changes nothing."""

from __future__ import annotations

import os
from typing import Final

import attrs
import click

from bench.conditions import Conditions, name, trial
from bench.measuring import Cores
from bench.results import SPEAKS_SECONDS, Signalling, Trial, machine

WAYS: Final[tuple[Signalling, ...]] = ("sip", "mi")


def verdict(found: Trial) -> str:
    """One line about one run: what went by, and what was wrong."""
    report = found.result.report
    passed = (
        f"{report.sent_rtp} packets in, {report.received_rtp} out, {report.appends} appends, {report.deltas} deltas"
    )
    reasons = "".join(f" ({words})" for words in (found.result.first_failure, report.first_violation) if words)
    return f"{name(found.case)} by {found.case.signalling}: {passed}; not exact: {found.faults}{reasons}"


@click.command()
@click.option("--calls", default=20, show_default=True)
@click.option("--seconds", default=SPEAKS_SECONDS, show_default=True, help="For each kind of signalling.")
@click.option("--no-tls", is_flag=True, help="The model by plain ws:, not wss:.")
def smoke(calls: int, seconds: float, no_tls: bool) -> None:
    """Check that every octet arrives once, in order and where it belongs, by SIP and by MI; status 1 if one did not."""
    cores = sorted(os.sched_getaffinity(0))
    conditions = Conditions(Cores(cores[0], cores[-1]), seconds, tls=not no_tls)
    click.echo(machine())
    trials = []
    for way in WAYS:
        trials.append(trial(attrs.evolve(conditions, signalling=way).case(calls), conditions))
        click.echo(verdict(trials[-1]))
    if not all(each.whole for each in trials):
        raise SystemExit(1)
