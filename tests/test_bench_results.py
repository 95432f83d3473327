"""What a measurement of the bench says of itself: whether it was spoilt, what was lost, and where it was made."""

from __future__ import annotations

import json

import attrs
import pytest
from bench_result_parts import PERFECT, trial

from bench.measuring import Cores
from bench.results import Trial, as_json, machine, stolen_seconds


def test_a_quiet_run_is_not_spoilt() -> None:
    assert trial().spoilt == []


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        (trial(waited_ms=200.0), "the target waited 200 ms a second for its core"),
        (trial(lag_ms=12.34), "the callers talked up to 12.3 ms late (p99)"),
        (attrs.evolve(trial(), stolen_ms=90.0), "the hypervisor took 90 ms a second"),
    ],
    ids=["waited", "lag", "stolen"],
)
def test_a_contended_machine_is_named(spoilt: Trial, reason: str) -> None:
    assert spoilt.spoilt == [reason]


def test_a_run_is_whole_if_all_calls_were_there_and_nothing_was_lost() -> None:
    whole = trial(100)
    assert whole.whole
    assert not trial(100, lost_up=1).whole
    assert not attrs.evolve(whole, result=attrs.evolve(whole.result, ok=False)).whole
    assert not attrs.evolve(whole, result=attrs.evolve(whole.result, report=attrs.evolve(PERFECT, calls=99))).whole


def test_faults_are_told_in_words() -> None:
    quiet = trial(100)
    assert quiet.faults == "none"
    report = attrs.evolve(quiet.result.report, lost_up=2, lost_down=1, wrong_down=4, violations=1)
    assert attrs.evolve(quiet, result=attrs.evolve(quiet.result, report=report)).faults == (
        "3 lost, 4 wrong, 1 against the rules"
    )
    fewer = attrs.evolve(quiet.result, report=attrs.evolve(PERFECT, calls=94), failed=2, hung_up=1)
    assert attrs.evolve(quiet, result=fewer).faults == "2 calls failed, 1 calls hung up, 3 calls silent"
    glance = attrs.evolve(fewer, report=attrs.evolve(fewer.report, seconds=2.0))
    assert attrs.evolve(quiet, result=glance).faults == "2 calls failed, 1 calls hung up"


def test_what_was_not_measured_is_null_in_json() -> None:
    alone = trial(1)
    result = attrs.evolve(alone.result, rss_kib_per_call=float("nan"))
    document = json.loads(as_json([attrs.evolve(alone, result=result)], machine(), Cores()))
    assert document["runs"][0]["result"]["rss_kib_per_call"] is None


def test_the_json_holds_every_figure_and_where_it_was_made() -> None:
    document = json.loads(as_json([trial(50), trial(100, lag_ms=9)], machine(), Cores(0, 1), aims=[]))
    assert document["machine"]["kernel"]
    assert document["cores"]["others"] == 1
    assert document["aims"] == []
    quiet, spoilt = document["runs"]
    assert quiet["case"]["calls"] == 50
    assert quiet["result"]["report"]["pacing"]["p99"] == 0.24
    assert quiet["whole"] is quiet["exact"] is True
    assert quiet["spoilt"] == []
    assert spoilt["spoilt"]


def test_the_machine_can_be_asked() -> None:
    here = machine()
    assert here.cores >= 1
    assert here.python in str(here)
    assert stolen_seconds() >= 0
