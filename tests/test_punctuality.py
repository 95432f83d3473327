from __future__ import annotations

from collections.abc import Sequence

import pytest

from aivc.media.punctuality import LEAST, SECONDS, PacingLimit, Punctuality


def noted(*seconds: tuple[float, float], packets: int = 1000) -> tuple[Punctuality, float]:
    """A second for each (share of its packets, how late these were; the others were not), and when they are over."""
    punctuality, now = Punctuality(), 100.0
    for share, late in seconds:
        punctuality.note(late, packets * share, now + 0.1)
        punctuality.note(0.0, packets * (1 - share), now + 0.9)
        now += 1.0
    return punctuality, now


def test_before_the_first_packet_nothing_can_be_told() -> None:
    punctuality = Punctuality()
    assert punctuality.percentile(0.99, 5.0) is None
    assert punctuality.percentile(1.0, 5.0) is None
    assert [second for second in punctuality.seconds(5.0) if second is not None] == []


@pytest.mark.parametrize(("share", "p99"), [(0.0, 0.0), (0.009, 0.0), (0.011, 0.0303), (1.0, 0.0303)])
def test_the_latest_hundredth_of_the_packets_is_told(share: float, p99: float) -> None:
    punctuality, now = noted((share, 0.03034))
    assert punctuality.percentile(0.99, now) == pytest.approx(p99)
    assert punctuality.percentile(1.0, now) == pytest.approx(0.0303 if share else 0.0)


def test_packets_of_the_current_second_count_at_once() -> None:
    punctuality = Punctuality()
    punctuality.note(0.007, 1, 10.5)
    assert punctuality.percentile(0.99, 10.5) == pytest.approx(0.007)


def test_each_second_is_told_for_itself_and_forgotten_after_five() -> None:
    punctuality, now = noted(*((1.0, n / 100) for n in range(1, 8)))
    assert [second for second in punctuality.seconds(now) if second] == pytest.approx([0.03, 0.04, 0.05, 0.06, 0.07])
    assert punctuality.percentile(0.99, now + SECONDS + 1) is None


def test_a_pause_leaves_seconds_of_which_nothing_is_known() -> None:
    punctuality, now = noted((1.0, 0.03))
    assert list(punctuality.seconds(now + 3.0))[-4:] == [0.03, None, None, None]


@pytest.mark.parametrize(("packets", "is_known"), [(LEAST - 1, False), (LEAST, True)])
def test_a_second_with_few_packets_is_not_judged_by_its_latest(packets: int, is_known: bool) -> None:
    punctuality, now = noted((1.0, 0.03), packets=packets)
    assert (punctuality.seconds(now)[-1] is not None) is is_known
    assert punctuality.percentile(0.99, now) == pytest.approx(0.03)


def test_packets_that_leave_too_soon_are_in_time() -> None:
    punctuality = Punctuality()
    punctuality.note(-0.00009, 10, 1.0)
    assert punctuality.percentile(0.99, 1.0) == 0.0


def test_a_beat_without_packets_tells_nothing() -> None:
    punctuality = Punctuality()
    punctuality.note(0.03, 0.0, 1.0)
    assert punctuality.percentile(0.99, 1.0) is None


def test_what_is_forgotten_is_not_told_any_more() -> None:
    punctuality, now = noted((1.0, 0.03), (1.0, 0.03))
    punctuality.note(0.03, 1, now)
    punctuality.forget()
    assert punctuality.percentile(0.99, now) is None
    assert list(punctuality.seconds(now)) == []


def judged(limit: PacingLimit, *looks: Sequence[float | None]) -> list[bool]:
    return [limit.judge(look) for look in looks]


def test_the_limit_is_exceeded_when_most_of_the_last_seconds_were_late() -> None:
    limit = PacingLimit(0.020)
    assert judged(limit, [0.021, 0.0, 0.021], [0.021, 0.0, 0.020, 0.021]) == [False, False]
    assert judged(limit, [0.021, 0.0, 0.020, 0.021, 0.021]) == [True]
    assert limit.exceeded


def test_one_hiccup_however_long_is_over_before_it_could_be_heeded() -> None:
    limit = PacingLimit(0.020)
    assert judged(limit, [0.0, 3.0], [0.0, 3.0, 0.0], [0.0, 3.0, 0.0, 3.0]) == [False] * 3


def test_calls_are_taken_again_when_all_of_the_last_seconds_were_far_below_it() -> None:
    limit = PacingLimit(0.020, exceeded=True)
    assert judged(limit, [0.019] * 5, [0.0, 0.0, 0.0, 0.0, 0.011], [0.011, 0.0, 0.0, 0.0, 0.0]) == [False] * 3
    assert limit.exceeded
    assert judged(limit, [0.010] * 5, [0.010] * 5) == [True, False]
    assert not limit.exceeded


def test_without_calls_the_limit_is_kept() -> None:
    for nothing in ([], [None] * 5):
        limit = PacingLimit(0.020, exceeded=True)
        assert judged(limit, nothing) == [True]
        assert not limit.exceeded


def test_a_limit_of_zero_is_always_kept() -> None:
    limit = PacingLimit(0.0)
    assert judged(limit, [5.0] * 5) == [False]
    assert not limit.exceeded
