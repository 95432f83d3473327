"""`aivc show` and `aivc replay`. What they run is imported when they run it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import click

from aivc import logs
from aivc.config.settings import LogSettings

if TYPE_CHECKING:
    from aivc.flight.entries import Flight

DIFFERENT: Final = 1
UNUSABLE: Final = 2  # exit status: this cannot be replayed, or shown

file_argument = click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))


@click.command()
@file_argument
@click.option(
    "--picture",
    metavar="FILE.svg",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the timeline of both voices, too, as `aivc demo` does.",
)
def show(file: Path, picture: Path | None) -> None:
    """Print a recorded call as a ladder: who said what to whom, and when, from the first message to the ending.

    FILE is one that [recorder] has written.
    """
    flight = read_or_exit(file)
    from aivc.replaying.ladder import ladder

    click.echo(ladder(flight), nl=False)
    if picture is not None:
        from aivc.replaying.picture import picture as drawn

        try:
            picture.write_text(drawn(flight), encoding="utf-8")
        except OSError as error:
            fail(f"{picture}: {error.strerror}")


@click.command()
@file_argument
@click.option(
    "--tolerance-ms",
    type=click.FloatRange(0, 10_000),
    default=50.0,
    show_default=True,
    help="By how much our side may be early or late.",
)
@click.option(
    "--as-test",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Replay nothing: write a pytest case and a copy of the recording into this folder.",
)
def replay(file: Path, tolerance_ms: float, as_test: Path | None) -> None:
    """Live through a recorded call again, with this version of aivc, and tell the first difference in what it sends.

    Nothing is sent anywhere, no model is asked, no tool is run, and it takes no longer than the computing does. Exit
    status: 0 as recorded, 1 different, 2 this recording cannot be replayed.
    """
    flight = read_or_exit(file)
    if as_test is not None:
        from aivc.replaying.pytest_case import write_test

        try:
            click.echo(f"wrote {write_test(file, as_test)}")
        except OSError as error:
            fail(f"{as_test}: {error.strerror}")
        return
    logs.configure(LogSettings(level="error"), sys.stderr)
    from aivc.replaying.replay import NotReplayable, replay_flight
    from aivc.replaying.report import report

    try:
        outcome = replay_flight(flight, tolerance=tolerance_ms / 1000)
    except NotReplayable as error:
        fail(f"{file}: {error}")
    click.echo(logs.redacted(report(outcome)), nl=False)
    sys.exit(0 if outcome.difference is None else DIFFERENT)


def read_or_exit(file: Path) -> Flight:
    """The recording; or exit status 2 and why it cannot be read."""
    from aivc.replaying.replay import NotReplayable, load_flight

    try:
        return load_flight(file)
    except NotReplayable as error:
        fail(f"{file}: {error}")
    except OSError as error:
        fail(f"{file}: {error.strerror}")


def fail(text: str) -> NoReturn:
    click.echo(f"aivc: {logs.redacted(text)}", err=True)
    sys.exit(UNUSABLE)
