"""A program that runs beside the tests: what it prints, what is typed to it, and that it is gone in the end."""

from __future__ import annotations

import re
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import attrs
import trio

STOP_SECONDS = 5.0  # for a program to obey SIGTERM before it is killed
LAST_WORDS_SECONDS = 1.0  # for what it printed to be read; a child that outlives it may hold its output open

T = TypeVar("T")


class ProgramEnded(Exception):
    """The program ended before it printed what was waited for."""


@attrs.define(eq=False)
class Program:
    """A running program. Made by `open_program()`.

    Attributes:
        output: what it printed so far, standard output and standard error together.
    """

    command: Sequence[str]
    process: trio.Process
    output: str = ""
    _silent: bool = False  # it has closed its outputs
    _changed: trio.Event = attrs.field(factory=trio.Event)

    async def wait_until(self, find: Callable[[str], T | None]) -> T:
        """Wait until `find` finds something in the output so far; what it found.

        Raises ProgramEnded, with all that the program printed.
        """
        while (found := find(self.output)) is None:
            if self._silent:
                raise ProgramEnded(f"{' '.join(self.command)} printed only:\n{self.output}")
            await self._changed.wait()
        return found

    async def wait_output(self, pattern: str) -> re.Match[str]:
        """Wait until something in the output so far matches this regular expression. Raises ProgramEnded."""
        return await self.wait_until(partial(re.search, pattern))

    async def type(self, line: str) -> None:
        """Send a line to the standard input of the program."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(f"{line}\n".encode())

    async def wait_exit(self) -> int:
        """Wait for the end of the program and of its output; its exit status."""
        status = await self.process.wait()
        while not self._silent:
            await self._changed.wait()
        return status

    async def read(self) -> None:
        """Task: take what it prints, to the end."""
        assert self.process.stdout is not None
        async for chunk in self.process.stdout:
            self.output += bytes(chunk).decode(errors="replace")
            self._notify()
        self._silent = True
        self._notify()

    async def stop(self) -> None:
        """End it if it has not ended: SIGTERM, then SIGKILL. Its output is complete then."""
        if self.process.poll() is None:
            self.process.terminate()
            with trio.move_on_after(STOP_SECONDS, shield=True):
                await self.process.wait()
        if self.process.poll() is None:
            self.process.kill()
            with trio.CancelScope(shield=True):
                await self.process.wait()
        with trio.move_on_after(LAST_WORDS_SECONDS, shield=True):
            await self.wait_exit()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


@asynccontextmanager
async def open_program(
    command: Sequence[str | Path], *, folder: Path, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Program]:
    """Run a program in `folder` for the length of the block. Its environment is ours unless one is given."""
    words = [str(word) for word in command]
    process = await trio.lowlevel.open_process(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=None if environ is None else dict(environ),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    program = Program(words, process)
    async with process.stdin, process.stdout, trio.open_nursery() as nursery:
        try:
            nursery.start_soon(program.read)
            yield program
        finally:
            await program.stop()
            nursery.cancel_scope.cancel()
