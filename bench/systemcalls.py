"""The system calls of a running program, counted by strace(1)."""

from __future__ import annotations

import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import attrs

ATTACH_SECONDS: Final = 10.0
DETACH_SECONDS: Final = 10.0


class NotTraceable(Exception):
    """The calls cannot be counted on this machine; the text says why."""


@attrs.frozen
class SystemCalls:
    """Of all threads of a program in a window: how many of each name, and how many of those failed (EAGAIN counts)."""

    seconds: float
    calls: Mapping[str, int]
    errors: Mapping[str, int]

    @property
    def per_second(self) -> float:
        return sum(self.calls.values()) / self.seconds


def system_calls(pid: int, wait: Callable[[], None]) -> SystemCalls:
    """Those of a program, which runs on, while we `wait`.

    Raises NotTraceable: strace is missing, or may not (ptrace(2): containers and Yama can forbid it).
    """
    strace = shutil.which("strace")
    if strace is None:
        raise NotTraceable("install strace (apt install strace)")
    with tempfile.TemporaryDirectory(prefix="aivc-bench-") as folder:
        file = Path(folder) / "calls"
        command = [strace, "-f", "-c", "-U", "calls,errors,name", "-o", str(file), "-p", str(pid)]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as tracer:
            try:
                wait_attached(tracer)
                began = time.monotonic()
                wait()
            finally:
                leave(tracer)
            return summary(file.read_text(), time.monotonic() - began)


def wait_attached(tracer: subprocess.Popen[bytes]) -> None:
    """Raises NotTraceable."""
    assert tracer.stderr is not None
    readable, _, _ = select.select([tracer.stderr], [], [], ATTACH_SECONDS)
    said = tracer.stderr.readline().decode(errors="replace").strip() if readable else "strace says nothing"
    if "attached" not in said:
        raise NotTraceable(said)


def leave(tracer: subprocess.Popen[bytes]) -> None:
    """It lets go of the program and sums up."""
    tracer.send_signal(signal.SIGINT)
    try:
        tracer.wait(DETACH_SECONDS)
    except subprocess.TimeoutExpired:
        tracer.kill()


def summary(text: str, seconds: float) -> SystemCalls:
    """Of what strace prints: lines of calls, errors (blank for none) and name under a heading and a rule."""
    rows = [line.split() for line in text.splitlines()[2:]]
    rows = [row for row in rows if row[0].isdigit() and row[-1] != "total"]
    errors = {row[-1]: int(row[1]) for row in rows if len(row) > 2}
    return SystemCalls(seconds, {row[-1]: int(row[0]) for row in rows}, errors)
