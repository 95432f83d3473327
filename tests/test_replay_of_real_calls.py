"""Recordings of calls that real telephones made: replayed as they were by every version to come.

They were made by `aivc serve` with a simulated model, by SIPp (an interruption; a hold) and by baresip (an interruption
of the greeting before it began), on loopback; their audio is in them as digests.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from aivc.replaying.ladder import WIDTH, ladder
from aivc.replaying.replay import load_flight, replay_flight

FLIGHTS = sorted((Path(__file__).parent / "data" / "flights").glob("*.jsonl"))


@pytest.mark.parametrize("file", FLIGHTS, ids=lambda file: file.stem)
def test_a_real_call_is_replayed_as_it_was(file: Path) -> None:
    outcome = replay_flight(load_flight(file))
    assert outcome.difference is None
    assert outcome.compared > 200


@pytest.mark.parametrize("file", FLIGHTS, ids=lambda file: file.stem)
def test_a_real_call_is_shown(file: Path) -> None:
    assert max(map(len, ladder(load_flight(file)).splitlines())) <= WIDTH


def test_there_are_some() -> None:
    assert {file.stem for file in FLIGHTS} >= {"sipp_interruption", "sipp_hold", "baresip"}
