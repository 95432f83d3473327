"""Programs under measurement: started on their cores, watched through /proc (proc(5)), and always ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import attrs
import click

LEAVE_SECONDS: Final = 10.0  # from SIGTERM to SIGKILL
LOG_LINES: Final = 20  # shown of a program that failed
KEPT: Final = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV")
# Idle priority counts within a session only, where sessions share the processors (autogroup, sched(7)): so this one's
# whole session is made as unimportant as can be, too.
SPINNER: Final = """
import os
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
try:
    open("/proc/self/autogroup", "w").write("19")
except OSError:
    pass
while True: os.sched_yield()  # even so idle a task gets a time slice of 4 ms once in a while, if it takes it
"""
CPUCLOCK_SCHED: Final = 2  # asm-generic clock ids: of a process, its time on CPUs as the scheduler counts it


class TargetError(click.ClickException):
    """The program did not start, died, or cannot be called; the text has the last lines that it printed."""


@attrs.frozen
class Usage:
    """What a program and its descendants have used since they began, and hold now.

    Attributes:
      cpu_seconds: user and system time together, to the nanosecond and with threads that have ended (the CPU clock of
        each process, clock_getcpuclockid(3)); time under way on another CPU counts from the next tick on.
      waited_seconds: some thread could have run and no CPU was free (/proc/PID/task/TID/schedstat, second figure).
      memory_kib: resident. Of several processes the proportional share (PSS): they share pages of libraries, which
        would else count for each of them.
      descriptors: open files, of all of them.
      processes: how many there are.
    """

    cpu_seconds: float
    waited_seconds: float
    memory_kib: int
    descriptors: int
    processes: int


@attrs.frozen
class Program:
    """A running program, and where its output goes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def usage(self) -> Usage:
        """Now, of its whole tree. Raises TargetError when it has ended."""
        self.check()
        return usage(family(self.process.pid))

    def check(self) -> None:
        """Raises TargetError when it has ended."""
        status = self.process.poll()
        if status is not None:
            raise self.failure(f"ended with status {status}")

    def failure(self, what: str) -> TargetError:
        """To raise: what is wrong, and what it said last."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        said = "".join(f"\n  {line}" for line in lines) or " (it has printed nothing)"
        return TargetError(f"{self.name} {what}; the end of {self.log}:{said}")


@contextmanager
def started(
    name: str,
    command: Sequence[str],
    environ: Mapping[str, str],
    *,
    cores: Iterable[int],
    log: Path,
    folder: Path,
    talks: bool = False,
) -> Iterator[Program]:
    """A program for the length of the block, on these cores; it and all it started are ended, come what may.

    It has a session of its own, so that Ctrl-C at the terminal is for us alone. Of the environment it gets KEPT and
    `environ`, so that settings which lie around change nothing.

    Args:
      talks: its standard input and output are pipes; else both of its outputs go to the log.

    Raises TargetError.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    inherited = {variable: os.environ[variable] for variable in KEPT if variable in os.environ}
    with log.open("wb") as file, on_cores(cores):
        try:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else file,
                stderr=file,
                bufsize=0,
                env={**inherited, **environ},
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            raise TargetError(f"{name} does not start: {error}") from error
    try:
        yield Program(name, process, log)
    except BaseException:
        kill_group(process.pid)  # what is broken off need not take its leave
        raise
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, time to leave, and SIGKILL for whatever of its session is left."""
    process.terminate()
    try:
        process.wait(LEAVE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
    finally:
        kill_group(process.pid)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return  # nobody is left


@contextmanager
def ended_in_order() -> Iterator[None]:
    """SIGTERM for us, or a terminal that is closed, leaves the block as Ctrl-C does: what it started is ended.

    Who ignores the closing of the terminal, as nohup(1) has it, goes on.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    heeded = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, leave) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# Cores


@contextmanager
def on_cores(cores: Iterable[int]) -> Iterator[None]:
    """We run on these for the length of the block, and whatever we start in it for ever."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(cores))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def awake(cores: Iterable[int], folder: Path) -> Iterator[None]:
    """These cores do not sleep for the length of the block: on each something spins that gives way to all else at once.

    A program that wakes a core hundreds of times a second is charged for much of the waking, and caches are cold then:
    one that leaves it idle for most of the time looks up to 1.8 times as dear as it is beside others.
    """
    with ExitStack() as stack:
        for core in cores:
            log = folder / f"spinner-{core}.log"
            command = (sys.executable, "-S", "-c", SPINNER)
            stack.enter_context(started("spinner", command, {}, cores=[core], log=log, folder=folder))
        yield


# What /proc says


def family(pid: int) -> Sequence[int]:
    """A process and its descendants, as far as they are still there."""
    found, waiting = [], [pid]
    while waiting:
        member = waiting.pop()
        found.append(member)
        for thread in listed(f"/proc/{member}/task"):
            waiting += map(int, contents(f"/proc/{member}/task/{thread}/children").split())
    return found


def usage(pids: Sequence[int]) -> Usage:
    """Of these processes together; one that has ended counts for nothing."""
    return Usage(
        cpu_seconds=sum(map(cpu_nanoseconds, pids)) / 1e9,
        waited_seconds=sum(map(waited_nanoseconds, pids)) / 1e9,
        memory_kib=sum(resident_kib(pid, shared=len(pids) > 1) for pid in pids),
        descriptors=sum(len(listed(f"/proc/{pid}/fd")) for pid in pids),
        processes=len(pids),
    )


def cpu_nanoseconds(pid: int) -> int:
    """On CPUs since it began, all of its threads; 0 when it is not there."""
    try:
        return time.clock_gettime_ns((~pid << 3) | CPUCLOCK_SCHED)  # what clock_getcpuclockid(3) makes of a pid
    except OSError:
        return 0


def waited_nanoseconds(pid: int) -> int:
    """Of the threads that it has now; a process of many is more than the one that its own schedstat tells of."""
    lines = (contents(f"/proc/{pid}/task/{thread}/schedstat") for thread in listed(f"/proc/{pid}/task"))
    return sum(int(line.split()[1]) for line in lines if line)


def resident_kib(pid: int, *, shared: bool) -> int:
    """RSS, or with `shared` the proportional share."""
    if shared:
        return labelled(contents(f"/proc/{pid}/smaps_rollup"), "Pss:")
    return labelled(contents(f"/proc/{pid}/status"), "VmRSS:")


def labelled(text: str, label: str) -> int:
    """The number after the label, 0 without it."""
    values = (int(line.split()[1]) for line in text.splitlines() if line.startswith(label))
    return next(values, 0)


def contents(path: str) -> str:
    """Of a file that may be gone, or be somebody else's by now: empty then."""
    try:
        return Path(path).read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""


def listed(path: str) -> Sequence[str]:
    try:
        return os.listdir(path)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ()
