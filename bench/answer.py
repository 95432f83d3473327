"""`python -m bench answer`: how long a caller waits for the 200 when the model is far away."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, cast
from urllib.parse import urlsplit

import click

from bench import targets
from bench.compiling import cache_folder
from bench.conditions import Conditions, heading, measures, numbers
from bench.distance import HOST
from bench.generator import Load
from bench.measuring import Result, running
from bench.processes import started
from bench.results import machine
from bench.tables import figure, table

PER_SECOND: Final = 2.0  # slow enough that what was opened ahead is there again
HEADINGS: Final = ("prewarm", "calls", "answered p50 ms", "p90 ms", "max ms")


@click.command()
@measures
@click.option("--distance-ms", default=50.0, show_default=True, help="How far the model is away, one way.")
@click.option("--prewarm", default="0,2", show_default=True, callback=numbers, help="Connections opened ahead.")
@click.option("--calls", default=12, show_default=True, help="One after the other; the first is not counted.")
def answer(conditions: Conditions, distance_ms: float, prewarm: tuple[int, ...], calls: int) -> None:
    """Measure from INVITE to 200 with a model that is far away, by `realtime.prewarm`."""
    click.echo(heading(machine(), conditions))
    rows = []
    for count in prewarm:
        setup = answered(conditions, distance_ms, count, calls).setup
        if setup is None:
            raise click.ClickException("no call was answered")
        rows.append((str(count), str(setup.count), figure(setup.p50), figure(setup.p90), figure(setup.max)))
    click.echo(f"the model is {distance_ms:g} ms away, one way")
    click.echo(table(HEADINGS, rows))


def answered(conditions: Conditions, distance_ms: float, prewarm: int, calls: int) -> Result:
    """`calls` calls but the first: that one tells where connections are to be opened ahead to."""
    with far_away(distance_ms, conditions.cores.others) as (port, lead_to):
        scheme = "wss" if conditions.tls else "ws"
        place = {"OPENAI_URL": f"{scheme}://{HOST}:{port}/v1/realtime", "AIVC_REALTIME_PREWARM": str(prewarm)}
        target = targets.aivc(conditions.signalling, workers=conditions.workers, **place)
        with running(target, Load(calls, tls=conditions.tls), conditions.cores) as running_calls:
            lead_to(urlsplit(running_calls.generator.ws_url).port or 0)
            running_calls.begin([0])
            running_calls.window(1.0)
            running_calls.open_window()
            running_calls.begin(range(1, calls), per_second=PER_SECOND)
            return running_calls.close_window()


@contextmanager
def far_away(distance_ms: float, core: int) -> Iterator[tuple[int, Callable[[int], None]]]:
    """The port of a relay, and what tells it where to lead."""
    command = (sys.executable, "-m", "bench.distance", str(distance_ms))
    log = cache_folder() / "logs" / "distance.log"
    with started("the relay", command, {}, cores=[core], log=log, folder=targets.ROOT, talks=True) as relay:
        reader, writer = relay.process.stdout, relay.process.stdin
        assert reader is not None
        assert writer is not None
        line = reader.readline()
        if not line:
            raise relay.failure("tells no port")
        with io.TextIOWrapper(cast("io.BufferedWriter", writer), write_through=True) as told:
            yield int(line), partial(print, file=told)
