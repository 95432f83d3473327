"""Programs under measurement: ended whatever happens, seen by /proc, explained when they fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from bench.processes import Program, TargetError, awake, ended_in_order, family, on_cores, started, usage

WITH_A_CHILD = "import os, time; os.fork(); print('up', flush=True); time.sleep(60)"
STUBBORN = (
    "import os, signal, time; signal.signal(15, signal.SIG_IGN); os.fork(); print('up', flush=True); time.sleep(60)"
)
BUSY = "import time\nwhile True: pass"
CORE = min(os.sched_getaffinity(0))


def python(code: str, folder: Path, **environ: str) -> AbstractContextManager[Program]:
    log = folder / "log"
    return started("it", (sys.executable, "-c", code), environ, cores=[CORE], log=log, folder=folder)


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5.0
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_a_program_runs_on_its_core_and_we_where_we_were(tmp_path: Path) -> None:
    ours = os.sched_getaffinity(0)
    with python("import time; time.sleep(60)", tmp_path) as program:
        assert os.sched_getaffinity(program.process.pid) == {CORE}
        assert os.sched_getaffinity(0) == ours


def test_our_own_cores_come_back_after_an_error() -> None:
    ours = os.sched_getaffinity(0)

    def fail() -> None:
        with on_cores([CORE]):
            assert os.sched_getaffinity(0) == {CORE}
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert os.sched_getaffinity(0) == ours


@pytest.mark.parametrize("how", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_a_program_and_its_children_are_ended_however_the_block_ends(tmp_path: Path, how: type[BaseException]) -> None:
    pids: list[int] = []

    def fail() -> None:
        with python(WITH_A_CHILD, tmp_path) as program:
            until(lambda: program.log.read_text().count("up") == 2)
            pids.extend(family(program.process.pid))
            raise how

    with pytest.raises(how):
        fail()
    assert len(pids) == 2
    until(lambda: not any(map(is_there, pids)))


def test_one_that_does_not_leave_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.processes.LEAVE_SECONDS", 0.1)
    with python(STUBBORN, tmp_path) as program:
        until(lambda: program.log.read_text().count("up") == 2)
        pids = family(program.process.pid)
    assert program.process.returncode == -signal.SIGKILL
    until(lambda: not any(map(is_there, pids)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_for_us_ends_what_we_started(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import sys, time; from pathlib import Path; from bench.processes import *\n"
        f"folder = Path({str(tmp_path)!r}); command = (sys.executable, '-c', 'import time; time.sleep(60)')\n"
        f"place = dict(cores=[{CORE}], log=folder / 'log', folder=folder)\n"
        "with ended_in_order(), started('it', command, {}, **place) as it:\n"
        " print(it.process.pid, flush=True)\n"
        " for _ in range(600): time.sleep(0.1)"  # a signal just before a single long sleep would not cut it short
    )
    root = Path(__file__).parents[1]
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=root) as ours:
        assert ours.stdout is not None
        pid = int(ours.stdout.readline())
        ours.send_signal(number)
        assert ours.wait(15) == 128 + number
    until(lambda: not is_there(pid))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_handler_of_a_signal_is_the_one_before_afterwards(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with ended_in_order():
        assert signal.getsignal(number) is not before
    assert signal.getsignal(number) is before


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_in_order():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_program_that_dies_is_told_with_its_last_lines(tmp_path: Path) -> None:
    with python(
        "print('\\n'.join(map(str, range(100))), flush=True); raise SystemExit('bad key')", tmp_path
    ) as program:
        program.process.wait(5)
        with pytest.raises(TargetError, match=r"it ended with status 1; the end of .*log:(\n  \d\d){19}\n  bad key"):
            program.usage()


def test_a_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(TargetError, match="it does not start"),
        started("it", ("/nowhere/it",), {}, cores=[CORE], log=tmp_path / "log", folder=tmp_path),
    ):
        pass


def test_settings_that_lie_around_do_not_reach_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIVC_LOG_LEVEL", "debug")
    with python("import os; print(sorted(os.environ))", tmp_path, OURS="1") as program:
        program.process.wait(5)
    assert "AIVC_LOG_LEVEL" not in program.log.read_text()
    assert "'OURS', 'PATH'" in program.log.read_text()


# Usage


def test_cpu_time_is_that_of_the_whole_tree_and_finer_than_a_tick(tmp_path: Path) -> None:
    with python("import os; os.fork()\n" + BUSY, tmp_path) as program:
        until(lambda: program.usage().processes == 2)
        began, before = time.monotonic(), program.usage()
        time.sleep(0.5)
        after, seconds = program.usage(), time.monotonic() - began
    spent = after.cpu_seconds - before.cpu_seconds
    assert 0 < spent < 1.05 * seconds  # both on one core
    assert after.waited_seconds - before.waited_seconds > 0.1  # one of the two always does
    assert round(spent, 3) != spent


def test_a_process_that_sleeps_uses_next_to_nothing(tmp_path: Path) -> None:
    with python("print('up', flush=True); import time; time.sleep(60)", tmp_path) as program:
        until(lambda: "up" in program.log.read_text())
        before = program.usage()
        time.sleep(0.2)
        assert program.usage().cpu_seconds - before.cpu_seconds < 0.05


def test_the_time_of_threads_that_have_ended_counts(tmp_path: Path) -> None:
    code = """
import threading, time
def work():
    while time.thread_time() < 0.1: pass
thread = threading.Thread(target=work); thread.start(); thread.join()
print("up", flush=True); time.sleep(60)
"""
    with python(code, tmp_path) as program:
        until(lambda: "up" in program.log.read_text())
        assert program.usage().cpu_seconds >= 0.1


def test_memory_is_resident_and_descriptors_are_counted(tmp_path: Path) -> None:
    code = """
import time
x, files = b"x" * 50_000_000, [open("/dev/null") for _ in range(40)]
print("up", flush=True); time.sleep(60)
"""
    with python(code, tmp_path) as program:
        until(lambda: "up" in program.log.read_text())
        found = program.usage()
    assert 48_000 < found.memory_kib < 100_000
    assert 43 <= found.descriptors <= 50


def test_pages_that_processes_share_count_once(tmp_path: Path) -> None:
    code = "import os, time; x = b'x' * 50_000_000; os.fork(); print('up', flush=True); time.sleep(60)"
    with python(code, tmp_path) as program:
        until(lambda: program.log.read_text().count("up") == 2)
        assert 48_000 < program.usage().memory_kib < 90_000


def test_what_is_not_there_has_used_nothing() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    found = usage([gone.pid])
    assert (found.cpu_seconds, found.waited_seconds, found.memory_kib, found.descriptors) == (0, 0, 0, 0)


def test_what_keeps_a_core_awake_leaves_it_to_others(tmp_path: Path) -> None:
    with awake([CORE], tmp_path), python(BUSY, tmp_path) as program:
        until(lambda: program.usage().cpu_seconds > 0.2)
        (spinner,) = [pid for pid in family(os.getpid()) if pid not in (os.getpid(), program.process.pid)]
        assert os.sched_getscheduler(spinner) == os.SCHED_IDLE
        assert os.sched_getaffinity(spinner) == {CORE}
    until(lambda: not is_there(spinner))
