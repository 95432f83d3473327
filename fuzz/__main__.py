"""`python -m fuzz`: feeds the targets with atheris, which is in the extra `fuzz`."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Final, Protocol, cast

import click

SLOWEST: Final = 10  # seconds for one input, before it is a finding; 64 kB take less than 1 s
LEAST: Final = 2  # seconds for one target
LONGEST_WORD: Final = 64  # octets of what libFuzzer puts in at once
LAST_WORDS: Final = 6000  # characters of a log that are shown of a finding
FINDINGS: Final = Path(".fuzz")  # where inputs that fail are written


class Atheris(Protocol):
    """What we use of atheris, which has no types, nor a wheel for every platform."""

    def instrument_imports(self, include: list[str]) -> AbstractContextManager[None]: ...
    def Setup(self, arguments: list[str], check: Callable[[bytes], None]) -> object: ...
    def Fuzz(self) -> None: ...


@click.group()
def main() -> None:
    """Feed the parsers what nobody would write."""


@main.command()
@click.option("--seconds", default=60, show_default=True, help="For all targets together.")
@click.option("--jobs", default=os.cpu_count() or 1, help="Targets at a time; as many as there are processors.")
@click.option("--only", multiple=True, help="A target; may be repeated.  [default: all]")
@click.option("--found", type=click.Path(path_type=Path), help="A folder where inputs that reach new code are kept.")
def run(seconds: int, jobs: int, only: Sequence[str], found: Path | None) -> None:
    """Fuzz all targets in turn; fails when one of them finds something."""
    try:
        importlib.import_module("atheris")
    except ImportError:
        raise click.ClickException("atheris is missing: pip install 'aivc[fuzz]'") from None
    names = [*only] or target_names()
    FINDINGS.mkdir(exist_ok=True)
    (FINDINGS / ".gitignore").write_text("*\n")
    each = max(LEAST, seconds * jobs // len(names))
    failed = [name for start in range(0, len(names), jobs) for name in race(names[start : start + jobs], each, found)]
    if failed:
        raise click.ClickException(f"findings of {', '.join(failed)}; see above for how to repeat them")
    click.echo(f"{len(names)} targets, {each} s each: nothing found")


def race(names: Sequence[str], seconds: int, found: Path | None) -> Iterator[str]:
    """Fuzz some targets at once; yields those that have found something, with what they said printed."""
    with ExitStack() as stack:
        folder = found or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = [start(name, seconds, folder / name) for name in names]
        for name, process in zip(names, running, strict=True):
            status, told = process.wait(), log_of(name).read_text(errors="replace")
            if status:
                click.echo(told[-LAST_WORDS:])
                click.echo(f"{name}: repeat it with: python -m fuzz repeat {name} {FINDINGS / name}-...")
                yield name
            else:
                click.echo(f"{name}: {told.strip().splitlines()[-1] if told.strip() else ''}")


def log_of(name: str) -> Path:
    """Where libFuzzer's words go: a pipe that nobody reads would stop it."""
    return FINDINGS / f"{name}.log"


def start(name: str, seconds: int, folder: Path) -> subprocess.Popen[bytes]:
    """One target in a process of its own, which libFuzzer ends."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "fuzz", "feed", name, str(folder), "--seconds", str(seconds)]
    with log_of(name).open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


@main.command(hidden=True)
@click.argument("name")
@click.argument("folder")
@click.option("--seconds", type=int)
def feed(name: str, folder: str, seconds: int) -> None:
    """Fuzz one target in this process, and end it."""
    atheris = cast(Atheris, importlib.import_module("atheris"))
    with atheris.instrument_imports(include=["aivc.sip", "aivc.media", "aivc.realtime"]):
        catalogue = importlib.import_module("fuzz.catalogue")
    target = catalogue.TARGETS[name]
    options = {
        "max_total_time": seconds,
        "max_len": target.max_octets,
        "timeout": SLOWEST,
        "artifact_prefix": FINDINGS / f"{name}-",
        "dict": write_dictionary(Path(f"{folder}.words"), catalogue.words(name)),
    }
    arguments = [f"-{option}={value}" for option, value in options.items()]
    atheris.Setup(["fuzz", *arguments, folder, str(catalogue.CORPUS / name)], target.check)
    atheris.Fuzz()


def write_dictionary(file: Path, words: Sequence[bytes]) -> Path:
    """As libFuzzer reads it: words in quotes, every octet as its number."""
    escaped = ("".join(f"\\x{octet:02x}" for octet in word[:LONGEST_WORD]) for word in words)
    file.write_text("".join(f'"{word}"\n' for word in escaped))
    return file


@main.command()
@click.argument("name")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def repeat(name: str, files: Sequence[Path]) -> None:
    """Give a target the inputs of files again, without atheris."""
    catalogue = importlib.import_module("fuzz.catalogue")
    for file in files:
        catalogue.TARGETS[name].check(file.read_bytes())


def target_names() -> list[str]:
    return list(importlib.import_module("fuzz.catalogue").TARGETS)


if __name__ == "__main__":
    main()
