"""`python -m bench compare`: ratios, medians, and yardsticks that cannot run."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from bench_result_parts import trial

from bench.compare import HEADINGS, Aim, cases_of, drawing, line, missing, own_aims, ratios
from bench.conditions import TARGETS, Conditions
from bench.results import Case, Trial


def round_of(*trials: Trial) -> dict[Case, Trial]:
    return {each.case: each for each in trials}


def both(ours: float, theirs: float, calls: int = 200) -> dict[Case, Trial]:
    return round_of(trial(calls, cpu_ms=ours), trial(calls, target="uvloop", cpu_ms=theirs))


def found(aims: Sequence[Aim]) -> list[tuple[str, float]]:
    return [(aim.what, aim.found) for aim in aims]


def test_each_yardstick_is_measured_beside_aivc_with_as_many_calls() -> None:
    cases = cases_of(Conditions(), 200, 100, ["floor-events", "plain-trio"])
    assert [(case.target, case.calls) for case in cases] == [
        ("aivc", 200),
        ("aivc", 100),
        ("floor-events", 200),
        ("plain-trio", 100),
    ]


def test_a_ratio_is_the_median_of_those_within_each_round() -> None:
    rounds = [both(2.0, 4.0), both(4.0, 6.4), both(3.0, 4.0)]  # the machine was slower in the second
    assert found(list(ratios(rounds))) == [("CPU by that of uvloop, 200 calls", 0.625)]


def test_a_round_without_the_yardstick_does_not_count() -> None:
    rounds = [round_of(trial(200, cpu_ms=9.0)), both(2.0, 4.0), round_of(trial(200, target="uvloop"))]
    assert found(list(ratios(rounds))) == [("CPU by that of uvloop, 200 calls", 0.5)]


def test_an_aim_is_met_at_its_limit_and_not_above() -> None:
    assert Aim("CPU", 0.75, 0.75).cells == ("CPU", "0.75", "0.75", "yes")
    assert Aim("CPU", 0.75, 0.76).cells[-1] == "no"


def test_aivc_has_aims_of_its_own() -> None:
    met = {aim.what: aim.cells[-1] for aim in own_aims([trial(200, pacing_ms=ms) for ms in (0.3, 9.0, 2.0)])}
    assert met == {
        "delay inwards, p99 ms, 200 calls": "yes",
        "delay outwards, p99 ms, 200 calls": "yes",
        "KiB per call, 200 calls": "yes",
        "pacing error, p99 ms, 200 calls": "no",
    }


def test_a_line_has_the_median_and_how_far_the_runs_are_apart_and_names_what_was_lost() -> None:
    cells = line([trial(200, cpu_ms=2.0), trial(200, cpu_ms=5.0), trial(200, cpu_ms=3.0, lost_up=2)])
    assert cells[:5] == ("aivc", "200", "3.00", "2.00", "5.00")
    assert cells[-1] == "2 lost"
    assert len(cells) == len(HEADINGS)


def test_the_picture_has_a_bar_for_each() -> None:
    picture = drawing([[trial(200)], [trial(100, target="plain-trio")]], 200, [])
    assert ">aivc<" in picture
    assert ">plain-trio, 100 calls<" in picture


def test_a_yardstick_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(TARGETS) == {"floor-heartbeat", "floor-events", "uvloop", "plain-trio"}
    monkeypatch.setattr("bench.compare.find_spec", lambda module: None)
    assert missing("uvloop") == "uvloop and websockets not installed (pip install 'aivc[bench]')"
    assert missing("plain-trio") == ""
