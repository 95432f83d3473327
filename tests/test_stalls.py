"""Code that blocks the loop is named in the log; the clock, the thread and the blocking are real."""

from __future__ import annotations

import gc
import inspect
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from log_lines import lines_of

from aivc.nursery.stalls import PLACES, SILENCE, Frame, Places, StallWatch, watched_stalls

BLOCKED = 0.2  # seconds; far more than the limit, so that a busy machine cannot hide it
LIMIT_MS = 20.0


async def blocked_by(caplog: pytest.LogCaptureFixture, *codes: Callable[[], object]) -> list[dict[str, Any]]:
    """What the log says after these have run, each in a pass of the loop of its own."""
    with trio.fail_after(30), caplog.at_level(logging.WARNING), watched_stalls(LIMIT_MS):
        for code in codes:
            await trio.sleep(0.01)
            code()
        await trio.sleep(0.01)
    return lines_of(caplog, "loop.stalled")


def line_of(function: Callable[[], object], text: str) -> str:
    """`FILE:LINE FUNCTION` of the line with this text."""
    lines, first = inspect.getsourcelines(function)
    number = next(n for n, line in enumerate(lines) if text in line)
    return f"{__file__}:{first + number} {function.__name__}"


def sleeps() -> None:
    time.sleep(BLOCKED)


def calls_a_library() -> None:
    subprocess.run([sys.executable, "-c", f"import time; time.sleep({BLOCKED})"], check=True)


def computes() -> None:
    until = time.perf_counter() + BLOCKED
    while time.perf_counter() < until:
        sum(range(1000))


def keeps_the_interpreter() -> None:
    until = time.perf_counter() + BLOCKED
    while time.perf_counter() < until:
        sum(range(3_000_000))  # some 30 ms in C each, with the GIL


def makes_garbage() -> None:
    for _ in range(300_000):
        ring: list[object] = []
        ring.append(ring)
    gc.collect()


async def test_code_that_blocks_is_named_with_its_line_and_for_how_long(caplog: pytest.LogCaptureFixture) -> None:
    (stall,) = await blocked_by(caplog, sleeps)
    assert stall["place"] == line_of(sleeps, "time.sleep")
    assert stall["stack"].startswith(stall["place"] + " < ")
    assert BLOCKED <= stall["ms"] / 1000 < 10 * BLOCKED
    assert "await" in stall["hint"]


async def test_the_users_own_line_is_named_when_it_waits_deep_in_a_library(caplog: pytest.LogCaptureFixture) -> None:
    (stall,) = await blocked_by(caplog, calls_a_library)
    assert stall["place"] == line_of(calls_a_library, "subprocess.run")
    assert "subprocess.py" in stall["stack"].split(" < ")[0]


@pytest.mark.parametrize("code", [computes, keeps_the_interpreter])
async def test_code_that_computes_is_named_as_well(
    caplog: pytest.LogCaptureFixture, code: Callable[[], object]
) -> None:
    (stall,) = await blocked_by(caplog, code)
    assert stall["place"].endswith(f" {code.__name__}")


async def test_the_loop_and_the_program_around_it_are_not_to_blame(caplog: pytest.LogCaptureFixture) -> None:
    (stall,) = await blocked_by(caplog, sleeps)
    assert "unrolled_run" not in stall["stack"]
    assert "<module>" not in stall["stack"]


async def test_waiting_is_no_stall_and_the_thread_sleeps_meanwhile() -> None:
    with trio.fail_after(10), watched_stalls(1.0) as watch:
        await trio.sleep(0.2)
        before = watch.wakes
        await trio.sleep(0.3)
        assert watch.wakes - before < 10  # of 300 that would come of looking every millisecond
    assert watch.stalls == 0 or watch.worst < 0.2  # a busy machine may stall us, but not for all of that time


async def test_a_place_is_logged_once_a_minute_and_every_stall_counted(caplog: pytest.LogCaptureFixture) -> None:
    limit_ms = 1000 * BLOCKED / 2  # more than a busy machine makes of the waiting in between
    with trio.fail_after(30), caplog.at_level(logging.WARNING), watched_stalls(limit_ms) as watch:
        for code in (sleeps, sleeps, computes, sleeps):
            await trio.sleep(0.01)
            code()
        await trio.sleep(0.01)
    assert [stall["place"].split()[-1] for stall in lines_of(caplog, "loop.stalled")] == ["sleeps", "computes"]
    assert watch.stalls == 4
    assert watch.worst >= BLOCKED


def test_after_a_minute_all_stalls_of_a_function_since_are_to_be_logged_at_once() -> None:
    places, frame, other = Places(), Frame("/etc/aivc/tools.py", 7, "look_up"), Frame("/etc/aivc/tools.py", 9, "store")
    elsewhere = attrs.evolve(frame, line=8)  # in the same function
    assert [places.to_log(frame, now) for now in (1.0, 2.0)] == [1, 0]
    assert [places.to_log(elsewhere, now) for now in (3.0, 1.0 + SILENCE)] == [0, 3]
    assert [places.to_log(other, now) for now in (3.0, 3.0 + SILENCE)] == [1, 1]


def test_the_places_of_a_long_life_do_not_pile_up() -> None:
    places = Places()
    for n in range(10 * PLACES):
        assert places.to_log(Frame(f"/{n}.py", 1, "f"), 0.0) == 1
    assert sum(places.to_log(Frame(f"/{n}.py", 1, "f"), 1.0) == 0 for n in range(10 * PLACES)) <= PLACES


async def test_a_collection_of_garbage_is_told_apart_from_the_code_that_it_came_upon(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gc.disable()
    try:
        (stall,) = await blocked_by(caplog, makes_garbage)
    finally:
        gc.enable()
    assert stall["collecting_ms"] >= 1


async def test_nothing_watches_when_told_so_and_the_thread_ends_with_its_block() -> None:
    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "aivc stalls"]

    with trio.fail_after(10):
        with watched_stalls(0.0) as watch:
            assert threads() == []
            sleeps()
            await trio.sleep(0.01)
        assert (watch.stalls, watch.wakes) == (0, 0)
        with watched_stalls(LIMIT_MS):
            assert threads() == ["aivc stalls"]
        assert threads() == []


@pytest.mark.parametrize(
    ("file", "is_users"),
    [
        ("/etc/aivc/tools.py", True),
        (threading.__file__, False),
        (trio.__file__, False),
        ("/usr/lib/python3/dist-packages/requests/api.py", False),
        (str(Path(inspect.getfile(StallWatch)).parent / "call.py"), False),
        ("<frozen importlib._bootstrap>", False),
    ],
)
def test_the_users_files_are_those_that_nobody_installed(file: str, is_users: bool) -> None:
    assert Frame(file, 1, "f").is_users is is_users
