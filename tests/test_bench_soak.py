"""`python -m bench soak`: when something is said to grow."""

from __future__ import annotations

import random
import socket

import attrs
import pytest
from bench_result_parts import trial

from bench.soak import Sample, slope, slopes, tasks_of, verdict

HOUR = [n / 60 for n in range(60)]  # a sample a minute


def noise(seed: int) -> list[float]:
    return [random.Random(seed * 1000 + n).uniform(-1.0, 1.0) for n in range(60)]


def test_a_straight_line_is_found() -> None:
    line = slope([(x, 40 + 6 * x) for x in HOUR])
    assert line.per_hour == pytest.approx(6)
    assert line.mean == pytest.approx(40 + 6 * 59 / 120)
    assert line.error == pytest.approx(0, abs=1e-6)
    assert line.grows


@pytest.mark.parametrize("seed", range(20))
def test_noise_does_not_grow(seed: int) -> None:
    assert not slope(list(zip(HOUR, [100 + each for each in noise(seed)], strict=True))).grows


@pytest.mark.parametrize("seed", range(20))
def test_growth_is_seen_through_noise(seed: int) -> None:
    assert slope([(x, 100 + 4 * x + each) for x, each in zip(HOUR, noise(seed), strict=True)]).grows


def test_what_shrinks_or_grows_by_a_trifle_does_not_grow() -> None:
    assert not slope([(x, 100 - 5 * x) for x in HOUR]).grows
    assert not slope([(x, 100 + 0.5 * x) for x in HOUR]).grows


def samples(count: int, *, per_sample_kib: int = 0, tasks: int | None = 200, lost: int = 0) -> list[Sample]:
    found = []
    for n in range(count):
        each = trial(100, lost_up=lost)
        result = attrs.evolve(each.result, rss_kib=50_000 + n * per_sample_kib)
        found.append(Sample(n / 60, attrs.evolve(each, result=result), tasks))
    return found


def test_a_leak_is_named() -> None:
    text = verdict(samples(60, per_sample_kib=100))
    assert "growing: RSS, MiB\n" in text
    assert "windows that were not exact: 0 of 60" in text
    assert text.count("steady") == 4


def test_a_quiet_hour_has_nothing_growing() -> None:
    assert "growing: nothing\n" in verdict(samples(60))


def test_the_run_in_does_not_count() -> None:
    rising = [attrs.evolve(each, tasks=min(n, 10)) for n, each in enumerate(samples(60))]
    assert not dict(slopes(rising))["tasks"].grows


def test_without_an_admin_view_nothing_is_said_of_tasks() -> None:
    assert "tasks" not in dict(slopes(samples(60, tasks=None)))


def test_an_admin_view_that_does_not_answer_costs_the_tasks_alone() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        assert tasks_of(f"http://127.0.0.1:{nobody.getsockname()[1]}/status") is None


def test_a_few_samples_make_no_slope() -> None:
    assert "fewer than 6 settled samples: no slopes" in verdict(samples(5, lost=1))
    assert "windows that were not exact: 5 of 5" in verdict(samples(5, lost=1))


def test_the_live_line_tells_everything_that_is_watched() -> None:
    (sample,) = samples(1, lost=3)
    assert sample.line == (
        "   0.0 min: 100 calls, 48.8 MiB, 220 descriptors, 200 tasks, 25.0 % CPU, pacing p99 0.24 max 0.90 ms,"
        " not exact: 3 lost"
    )
