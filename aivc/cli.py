"""The command line: `aivc serve`, `demo`, `simulator`, `check`, `status`, `show`, `replay`, `migrate`.

Commands import what they run only when they run it, so that `aivc check` and `--help` stay quick.
Exit status: 0 fine, 1 failed while running, 2 wrong usage or configuration, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import click
import trio

from aivc import __version__, logs
from aivc.config.effective import effective_table
from aivc.config.loading import ConfigError, Loaded, load
from aivc.config.rules import parse_host_port
from aivc.config.settings import LogSettings
from aivc.replaying import commands

FAILED = 1
UNUSABLE = 2  # exit status, the same that click uses for wrong usage
INTERRUPTED = 130  # 128 + SIGINT, what shells expect

T = TypeVar("T")
log = logging.getLogger("aivc.cli")


def host_port(_context: click.Context, _parameter: click.Parameter, text: str) -> tuple[str, int]:
    """`HOST:PORT`, an IPv6 address in brackets."""
    try:
        return parse_host_port(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


config_option = click.option(
    "--config",
    "config",
    metavar="FILE",
    help="TOML file with settings. Without it the one that the variable CONFIG_FILE names; without both, none.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="aivc", message="%(prog)s %(version)s")
def main() -> None:
    """AI voice connector: answers telephone calls, by SIP or from an OpenSIPS, and joins the caller's audio to a
    Realtime voice model.

    Settings come from a TOML file and from environment variables, see `aivc check`.
    """


@main.command()
@config_option
@click.option("--simulator", is_flag=True, help="Talk to a local stand-in for OpenAI: no key, no network.")
def serve(config: str | None, simulator: bool) -> None:
    """Answer calls until told to stop.

    They come by SIP (sip.enabled, as by default), from an OpenSIPS (opensips.enabled), or both.

    SIGTERM and Ctrl-C let running calls end first, for at most service.drain_seconds seconds (30 by default).
    """
    loaded = loaded_or_exit(config, simulator=simulator)
    logs.configure(loaded.settings.log, sys.stderr)
    for warning in loaded.warnings:
        logs.event(log, "config.warning", level=logging.WARNING, text=warning)
    if simulator:  # the test kit behind it takes 0.1 s and 3 MiB
        from aivc.demo.simulator import run_service_with_simulator as serving
    else:
        from aivc.nursery.service import run_service as serving

    run(partial(serving, loaded.settings))


@main.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("aivc-demo"),
    show_default=True,
    help="Folder for the sound file, the timeline picture and the latency table.",
)
@click.option("--listen", is_flag=True, help="Keep the service up for your own softphone, until Ctrl-C.")
@click.option("--sip-port", type=click.IntRange(1, 65535), help="UDP port for --listen, 5060 by default.")
@click.option("--verbose", "-v", is_flag=True, help="Show the log, too.")
def demo(out: Path, listen: bool, sip_port: int | None, verbose: bool) -> None:
    """Make one whole call on this machine: a caller, the service and a simulated model.

    Needs no key, no network and no telephone.
    """
    logs.configure(LogSettings(level="info" if verbose else "warning"), sys.stderr)
    from aivc.demo.run import run_demo

    sys.exit(run(partial(run_demo, out=out, listen=listen, sip_port=sip_port)))


@main.command()
@click.option(
    "--listen",
    metavar="HOST:PORT",
    callback=host_port,
    default="127.0.0.1:8765",
    show_default=True,
    help="Address to listen on; port 0 is any free one.",
)
def simulator(listen: tuple[str, int]) -> None:
    """Run the simulated Realtime server by itself, until Ctrl-C.

    Point a service at it with OPENAI_URL=ws://HOST:PORT/v1/realtime; it asks for no key.
    """
    logs.configure(LogSettings(), sys.stderr)
    from aivc.demo.simulator import run_simulator

    host, port = listen
    run(partial(run_simulator, host, port))


@main.command()
@config_option
@click.option("--simulator", is_flag=True, help="Check for `serve --simulator`, which needs no key.")
def check(config: str | None, simulator: bool) -> None:
    """Show every setting, its value and where that comes from; then what looks wrong. Imports the tool files and
    reads the sounds.

    The source is `default`, `file`, or `environment` and the variable. Secrets are masked. With errors they are all
    printed, one a line, and the exit status is 2.
    """
    loaded = loaded_or_exit(config, simulator=simulator)
    from aivc.nursery.service import equip

    try:
        equip(loaded.settings)
    except ConfigError as error:
        print_errors(error)
        sys.exit(UNUSABLE)
    click.echo(logs.redacted(effective_table(loaded)))


@main.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="All of it, as the service tells it.")
def status(config: str | None, as_json: bool) -> None:
    """Show what the running service is doing: its calls, its counts, and why it takes no calls if it does not.

    It is asked at admin.listen of the same configuration. Callers are shown by the end of their number.
    """
    listen = loaded_or_exit(config, simulator=True).settings.admin.listen  # what needs a key is not asked
    from aivc.nursery.asking import NoStatus, fetch_status
    from aivc.nursery.statustable import table

    if listen is None:
        click.echo("admin.listen: not set, so that nobody can ask the service", err=True)
        sys.exit(UNUSABLE)
    try:
        found = run(partial(fetch_status, listen))
    except NoStatus as error:
        click.echo(f"aivc: {logs.redacted(str(error))}", err=True)
        sys.exit(FAILED)
    click.echo(json.dumps(found, indent=2) if as_json else table(found), nl=as_json)


main.add_command(commands.show)
main.add_command(commands.replay)


@main.command(hidden=True)
def worker() -> None:
    """One of the processes of `serve` with service.workers > 1, which starts it and gives it what it needs."""
    from aivc.nursery.worker import NoStart, read_start
    from aivc.nursery.worker import main as work

    try:
        start = read_start(sys.stdin.buffer)
    except NoStart:
        raise click.UsageError("`aivc serve` starts this, when service.workers is more than 1") from None
    logs.configure(start.settings.log, sys.stderr, worker=start.number)
    work(start)


@main.command()
@click.argument("file", metavar="FILE")
def migrate(file: str) -> None:
    """Turn a configuration of the OpenSIPS AI Voice Connector CE into one of aivc, on standard output.

    FILE is its INI file, or - for standard input. What has another meaning now, and what is left out, is said on
    standard error, one line each.
    """
    from aivc.config.migration import migrated
    from aivc.config.migration_ini import LARGEST, IniError

    try:
        with click.open_file(file, "rb") as stream:
            data = stream.read(LARGEST + 1)
        migration = migrated(data, "standard input" if file == "-" else file, os.environ)
    except (OSError, IniError) as error:
        text = f"{file}: cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
        click.echo(logs.redacted(text), err=True)
        sys.exit(UNUSABLE)
    for note in migration.notes:
        click.echo(logs.redacted(note), err=True)
    click.echo(migration.toml.encode(), nl=False)  # TOML is UTF-8, whatever the terminal is


def loaded_or_exit(config: str | None, *, simulator: bool) -> Loaded:
    """The settings, or all that is wrong with them on standard error and exit status 2."""
    try:
        return load(config, os.environ, simulator=simulator)
    except ConfigError as error:
        print_errors(error)
        sys.exit(UNUSABLE)


def print_errors(error: ConfigError) -> None:
    for line in error.errors:
        click.echo(logs.redacted(line), err=True)


def run(task: Callable[[], Awaitable[T]]) -> T:
    """Run the task to its end. Ctrl-C is exit status 130; what the system refuses (a port in use) is one line and 1."""
    status = FAILED
    try:
        return trio.run(task)
    except* ConfigError as refused:  # what only starting can tell: a file of tools that fails to import
        status = UNUSABLE
        click.echo(logs.redacted(str(first_leaf(refused))), err=True)
    except* KeyboardInterrupt:
        status = INTERRUPTED  # SystemExit raised in here would be wrapped in a group
    except* OSError as refused:
        logs.event(log, "traceback", level=logging.DEBUG, exc_info=refused)
        leaf = first_leaf(refused)
        text = leaf.strerror if isinstance(leaf, OSError) and leaf.strerror and not leaf.filename else str(leaf)
        click.echo(f"aivc: {logs.redacted(text)}", err=True)
    sys.exit(status)


def first_leaf(error: BaseException) -> BaseException:
    """The first exception in a group of groups that is none itself."""
    return first_leaf(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
