"""What a call may cost, counted while the whole service runs, and how that is counted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import attrs
import pytest
import trio
from click.testing import CliRunner

from bench import budget
from bench.__main__ import main
from bench.budget import Spent, shares, spend, spent, tables
from bench.counted import Counting
from bench.counts import Counts
from bench.measuring import Cores
from bench.systemcalls import NotTraceable, SystemCalls, summary, system_calls

THERE = sorted(os.sched_getaffinity(0))

needs_a_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="the generator needs a C compiler")

THRIFTY = Spent(
    steps={"a.task": 30.0, "another": 2.0},
    calls={"recvfrom": 50.0},
    errors={"recvfrom": 1.0},
    allocations={"a.task": 40.0},
    passing_octets={"a.task": 900.0},
    kept={"/somewhere/file.py:7": 0.1},
    kept_octets={"/somewhere/file.py:7": 12.0},
    cycles=0.0,
)
STRACES = """\
    calls    errors syscall
--------- --------- ----------------
      120           epoll_wait
     4000        12 recvfrom
        1         1 restart_syscall
--------- --------- ----------------
     4121        13 total
"""


# The budgets hold


@pytest.fixture(scope="module")
def found() -> Spent:
    return spend(cores=Cores(THERE[0], THERE[-1]))


@needs_a_compiler
def test_a_second_of_a_call_is_at_most_100_steps_of_tasks(found: Spent) -> None:
    assert 0 < sum(found.steps.values()) <= 100, found.steps


@needs_a_compiler
def test_a_second_of_a_call_is_at_most_240_system_calls(found: Spent) -> None:
    if found.calls is None:
        pytest.skip(found.why_not)
    assert 0 < sum(found.calls.values()) <= 240, found.calls


@needs_a_compiler
def test_a_packet_each_way_takes_few_allocations_and_leaves_none_behind(found: Spent) -> None:
    assert sum(found.allocations.values()) > 0
    assert [each for each in found.excesses if "packet pair" in each] == []


# They bite


def test_what_exceeds_a_budget_is_told() -> None:
    assert THRIFTY.excesses == []
    wasteful = attrs.evolve(
        THRIFTY, steps={"a.task": 100.5}, calls={"read": 250.0}, kept={"file.py:7": 1.0}, cycles=2.0
    )
    assert wasteful.excesses == [
        "100.50 task steps / call-s, more than 100",
        "250.00 system calls / call-s, more than 240",
        "1.00 blocks kept / packet pair, more than 0.5",
        "2.00 objects in cycles / packet pair, more than 0.1",
    ]
    greedy = attrs.evolve(THRIFTY, allocations={"a.task": 1e6}, passing_octets={"a.task": 1e6})
    assert len(greedy.excesses) == 2


def test_the_command_fails_when_a_budget_is_exceeded(monkeypatch: pytest.MonkeyPatch) -> None:
    wasteful = attrs.evolve(THRIFTY, steps={"a.task": 101.0})
    for found, status in ((THRIFTY, 0), (wasteful, 1)):
        monkeypatch.setattr(budget, "spend", lambda calls, seconds, cores, found=found: found)
        assert CliRunner().invoke(main, ["budget"]).exit_code == status


def test_the_tables_tell_where_it_goes_or_why_that_is_not_known() -> None:
    text = "\n".join(tables(THRIFTY))
    assert "| a.task  |           30.0 |" in text
    assert "| recvfrom    |     50.0 |   1.00 |" in text
    untraced = attrs.evolve(THRIFTY, calls=None, why_not="no ptrace here")
    assert "System calls were not counted: no ptrace here" in list(tables(untraced))


# Counting


def test_counts_are_shared_among_the_seconds_of_calls_and_their_packets() -> None:
    counted = Counts(2.0, {"b": 1, "a": 400}, {"a": 6000}, {"a": 20_000}, {"f:1": 20}, {}, 10)
    result = spent(20, counted, SystemCalls(1.0, {"read": 200}, {"read": 20}))
    assert list(result.steps.items()) == [("a", 10.0), ("b", 0.025)]
    assert result.calls == {"read": 10.0}
    assert result.errors == {"read": 1.0}
    assert result.allocations == {"a": 3.0}
    assert result.passing_octets == {"a": 10.0}
    assert result.kept == {"f:1": 0.01}
    assert result.cycles == 0.005
    untraced = spent(20, counted, "no ptrace here")
    assert (untraced.calls, untraced.why_not) == (None, "no ptrace here")
    assert shares({}, 1.0) == {}


def test_a_window_is_what_came_between_two_moments_that_went_through_a_file() -> None:
    early, late = Counts(1.5, {"a": 3, "b": 1}, cycles=2), Counts(4.0, {"a": 3, "b": 5}, kept={"f:1": 7}, cycles=2)
    window = Counts.of_line(late.as_line()).since(Counts.of_line(early.as_line()))
    assert window == Counts(2.5, {"b": 4}, kept={"f:1": 7})
    assert early.since(late).kept == {"f:1": -7}


@pytest.fixture
def no_tracing_afterwards() -> Iterator[None]:
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("no_tracing_afterwards")
def test_steps_and_their_memory_are_counted_by_task() -> None:
    answers = count(step=10)  # an allocator that is asked ten times between two looks
    counting, kept = Counting(lambda: lambda: next(answers)), list[bytes]()

    async def passing() -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            bytes(50_000)

    async def keeping() -> None:
        await trio.lowlevel.checkpoint()
        kept.append(bytes(70_000))

    async def both() -> None:
        counting.count_memory()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(passing)
            nursery.start_soon(keeping)

    trio.run(both, instruments=[counting])
    counts = counting.counts()
    name = f"{__name__}.{test_steps_and_their_memory_are_counted_by_task.__qualname__}.<locals>"
    assert (counts.steps[f"{name}.passing"], counts.steps[f"{name}.keeping"]) == (4, 2)
    assert 145_000 < counts.passing_octets[f"{name}.passing"] < 160_000
    assert 70_000 < counts.passing_octets[f"{name}.keeping"] < 75_000
    assert counts.allocations[f"{name}.passing"] == 0  # ten a step, as in one that does nothing
    assert [octets for line, octets in counts.kept_octets.items() if line.startswith(__file__) and octets > 50_000]


@pytest.mark.usefixtures("no_tracing_afterwards")
def test_what_it_takes_to_count_in_the_middle_of_a_step_is_not_the_steps(tmp_path: Path) -> None:
    file, asked = tmp_path / "counts", [0]
    counting = Counting(lambda: lambda: asked[0])

    async def interrupted() -> None:
        counting.count_memory()
        await trio.lowlevel.checkpoint()
        asked[0] += 1000
        counting.append_to(file)
        asked[0] += 3

    trio.run(interrupted, instruments=[counting])
    (name,) = (name for name in counting.steps if name.endswith("interrupted"))
    assert counting.allocations[name] == 3
    assert counting.passing_octets[name] < 20_000
    assert Counts.of_line(file.read_text()).steps[name] == 2


@needs_a_compiler
def test_every_allocation_is_counted() -> None:
    code = """
from bench.allocations import allocation_counter
so_far = allocation_counter()
first = so_far()
made = [object() for _ in range(200)]
after = so_far()
del made
print(after - first, so_far() - after)
"""
    root = Path(budget.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    allocated, freed = map(int, done.stdout.split())
    assert 200 <= allocated < 240  # the list grows, too
    assert freed <= 2


def test_the_summary_of_strace_is_read() -> None:
    found = summary(STRACES, 2.0)
    assert found.calls == {"epoll_wait": 120, "recvfrom": 4000, "restart_syscall": 1}
    assert found.errors == {"recvfrom": 12, "restart_syscall": 1}
    assert found.per_second == 4121 / 2


def test_the_system_calls_of_a_program_are_counted_and_it_goes_on() -> None:
    code = "import os, sys\nprint(flush=True)\nfor line in sys.stdin: os.getppid(); print(flush=True)"
    command, pipe = [sys.executable, "-c", code], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, bufsize=0) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        talk, listen = program.stdin, program.stdout

        def ask() -> None:
            talk.write(b"go on\n")
            listen.readline()

        listen.readline()
        try:
            found = system_calls(program.pid, ask)
        except NotTraceable as error:
            pytest.skip(str(error))
        finally:
            ask()
            talk.close()
    assert found.calls["getppid"] == 1
    assert program.returncode == 0


def test_why_system_calls_cannot_be_counted_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("strace"):
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        with pytest.raises(NotTraceable, match=str(gone.pid)):
            system_calls(gone.pid, lambda: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotTraceable, match="apt install strace"):
        system_calls(os.getpid(), lambda: None)
