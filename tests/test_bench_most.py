"""`python -m bench max`: the search, and what counts as a verdict."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bench_result_parts import trial

from bench.most import Verdicts, largest
from bench.results import Trial


@pytest.mark.parametrize("edge", [0, 9, 10, 70, 99, 100, 101, 230, 310, 399, 400, 1000, 5000])
def test_the_search_finds_the_largest_number_that_is_carried(edge: int) -> None:
    asked: list[int] = []

    def carries(calls: int) -> bool:
        asked.append(calls)
        return calls <= edge

    assert largest(carries, 100, 10, 1000) == min(edge // 10 * 10, 1000)
    assert len(asked) == len(set(asked)) <= 12
    assert max(asked) <= 1000


def verdicts(*runs: Trial | None) -> tuple[Verdicts, Iterator[Trial | None]]:
    """Verdicts whose measurements are these, and those that were not needed."""
    coming = iter(runs)
    return Verdicts(lambda calls: next(coming)), coming


GOOD = trial(pacing_ms=0.3)
LATE = trial(pacing_ms=7.0)
LOSSY = trial(pacing_ms=0.3, lost_up=1)
SPOILT = trial(pacing_ms=7.0, waited_ms=300.0)


@pytest.mark.parametrize(
    ("runs", "carried"),
    [
        ([GOOD, GOOD], True),
        ([LATE, LATE], False),
        ([LOSSY, LOSSY], False),
        ([GOOD, LATE, GOOD], True),
        ([LATE, GOOD, LOSSY], False),
        ([SPOILT, GOOD, SPOILT, GOOD], True),
        ([SPOILT, SPOILT, SPOILT], False),
        ([None, None], False),
    ],
    ids=str,
)
def test_a_verdict_is_what_two_runs_say_and_the_machine_is_blamed_twice_at_most(
    runs: list[Trial | None], carried: bool
) -> None:
    found, left = verdicts(*runs)
    assert found.carries(100, 5.0) is carried
    assert list(left) == []


def test_a_run_that_was_carried_counts_although_the_machine_was_contended() -> None:
    busy = trial(pacing_ms=0.3, waited_ms=300.0)
    found, _ = verdicts(busy, busy)
    assert found.carries(100, 5.0)


def test_a_sharper_limit_asks_the_same_runs_again() -> None:
    found, _ = verdicts(trial(pacing_ms=3.0), trial(pacing_ms=3.5))
    assert found.carries(100, 5.0)
    assert not found.carries(100, 1.0)


def test_a_number_that_only_spoilt_runs_refused_may_be_more() -> None:
    found, _ = verdicts(SPOILT, SPOILT, SPOILT, LATE, LATE)
    assert not found.carries(100, 5.0)
    assert found.doubtful(90, 5.0)
    assert not found.carries(200, 5.0)
    assert not found.doubtful(100, 5.0)
    assert not found.doubtful(200, 5.0)


def test_all_runs_are_kept_in_the_order_of_calls() -> None:
    found, _ = verdicts(trial(200), trial(200), trial(100), None, trial(100))
    found.carries(200, 5.0)
    found.carries(100, 5.0)
    assert [each.case.calls for each in found.trials] == [100, 100, 200, 200]
