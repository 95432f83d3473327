"""Hundreds of calls of all kinds at once, under a few seeds; ten thousand are `python tests/endurance.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from endurance import run
from endurance_calls import KINDS, MODELS, Kind, hang_up_at_once
from trio.testing import MockClock

from aivc import Ending

CALLS = 150
COMMAND = Path(__file__).with_name("endurance.py")


@pytest.mark.parametrize(("seed", "any_schedule"), [(1, 3), (2, 11)], indirect=["any_schedule"])
async def test_calls_of_all_kinds_leave_nothing_behind(autojump_clock: MockClock, any_schedule: int, seed: int) -> None:
    numbers = range(1000 * seed, 1000 * seed + CALLS)  # both runs together meet every kind
    town = await run(seed, numbers, batch=CALLS // 3)
    assert town.faults == []
    assert sum(town.kinds.values()) == CALLS
    assert len(town.kinds) > 0.7 * len(KINDS)
    assert town.most_at_once > 10


async def test_a_call_that_ends_otherwise_is_told_with_how_to_have_it_again(
    autojump_clock: MockClock,
) -> None:
    """The checks see what they look for."""
    wrong = Kind("is said to be transferred", 1, hang_up_at_once, endings=frozenset({Ending.TRANSFERRED}))
    refused = Kind("is said to be answered", 1, hang_up_at_once, "refuser", frozenset({Ending.REALTIME_REFUSED}))
    town = await run(5, range(6), kinds=(wrong, refused))
    told = [fault for fault in town.faults if fault.startswith("call 3 (is said to be")]
    assert "again: --seed 5 --only 3: " in told[0]
    assert town.kinds == {wrong.name: sum("its ending is caller_hung_up" in each for each in town.faults)} | {
        refused.name: sum("refused: 503" in each for each in town.faults)
    }
    assert len(town.faults) == 6


def test_every_model_is_called_by_somebody() -> None:
    assert {kind.model for kind in KINDS} - {"nobody"} == set(MODELS)


def test_one_call_can_be_had_again() -> None:
    command = [sys.executable, str(COMMAND), "--seed", "1", "--only", "17"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("1 calls")
    assert "0 faults" in done.stdout
