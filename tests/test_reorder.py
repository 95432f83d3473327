from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivc.media.reorder import LIMIT, REMEMBERED, STEPS, ReorderBuffer
from aivc.media.rtp import Packet


def packet(sequence: int, ssrc: int = 1, octets: int = 160) -> Packet:
    return Packet(0, False, sequence & 0xFFFF, 0, ssrc, bytes([sequence & 0xFF]) * octets)


def sequences(packets: tuple[Packet, ...]) -> list[int]:
    return [packet.sequence for packet in packets]


def test_packets_in_order_pass_at_once() -> None:
    buffer = ReorderBuffer()
    for sequence in (65534, 65535, 0, 1):
        assert sequences(buffer.push(packet(sequence), 0.0)) == [sequence]
    assert (buffer.lost, buffer.late, buffer.reordered) == (0, 0, 0)


def test_two_swapped_packets_are_put_right() -> None:
    buffer = ReorderBuffer()
    buffer.push(packet(1), 0.00)
    assert buffer.push(packet(3), 0.02) == ()
    assert sequences(buffer.push(packet(2), 0.02)) == [2, 3]
    assert (buffer.lost, buffer.reordered) == (0, 1)


def test_a_lost_packet_holds_the_next_two_only() -> None:
    buffer = ReorderBuffer()
    buffer.push(packet(1), 0.00)
    assert buffer.push(packet(3), 0.04) == ()
    assert buffer.push(packet(4), 0.06) == ()
    assert sequences(buffer.push(packet(5), 0.08)) == [3, 4, 5]
    assert buffer.lost == 1


def test_what_waits_behind_a_gap_is_released_when_nothing_follows() -> None:
    buffer = ReorderBuffer()
    buffer.push(packet(1), 0.00)
    buffer.push(packet(3), 0.02)
    assert buffer.release(0.02 + LIMIT / 2) == ()
    assert sequences(buffer.release(0.02 + LIMIT)) == [3]
    assert buffer.push(packet(2), 0.07) == ()
    assert (buffer.lost, buffer.late) == (1, 1)


@pytest.mark.parametrize(("octets", "most"), [(80, 4), (160, 2), (240, 1), (480, 1)])
def test_packets_of_40_ms_wait_behind_a_gap_however_long_each_is(octets: int, most: int) -> None:
    """In a burst, which takes no time."""
    buffer = ReorderBuffer()
    buffer.push(packet(1, octets=octets), 0.0)
    for sequence in range(3, 3 + most):
        assert buffer.push(packet(sequence, octets=octets), 0.0) == ()
    assert len(buffer.push(packet(3 + most, octets=octets), 0.0)) == most + 1


def test_without_a_limit_nothing_waits_and_what_comes_late_is_dropped() -> None:
    buffer = ReorderBuffer(limit=0.0)
    buffer.push(packet(1), 0.00)
    assert sequences(buffer.push(packet(3), 0.02)) == [3]
    assert buffer.push(packet(2), 0.02) == ()
    assert (buffer.lost, buffer.late, buffer.reordered) == (1, 1, 0)


def lose_every_other(buffer: ReorderBuffer, gaps: int) -> float:
    """`gaps` packets are lost; how long the packet behind the last one waited, in seconds."""
    buffer.push(packet(0), 0.0)
    for n in range(gaps):
        sequence, now = 2 * (n + 1), 0.04 * (n + 1)
        waited = 0.0
        while not (buffer.push(packet(sequence), now) if not waited else buffer.release(now + waited)):
            waited += 0.001
    return waited


def test_where_packets_are_lost_but_never_late_the_wait_shrinks_to_nothing() -> None:
    waits = [lose_every_other(ReorderBuffer(), gaps) for gaps in (1, STEPS // 2 + 1, STEPS + 1)]
    assert waits == pytest.approx([LIMIT, LIMIT / 2, 0.0], abs=0.0011)


def test_a_packet_that_came_too_late_makes_the_next_be_waited_for() -> None:
    buffer = ReorderBuffer()
    lose_every_other(buffer, STEPS + 1)
    first = 2 * (STEPS + 1) + 2
    assert sequences(buffer.push(packet(first), 1.000)) == [first]
    assert buffer.push(packet(first - 1), 1.015) == ()
    assert buffer.patience == pytest.approx(0.030)
    assert buffer.push(packet(first + 2), 1.040) == ()
    assert sequences(buffer.push(packet(first + 1), 1.060)) == [first + 1, first + 2]
    assert (buffer.late, buffer.reordered) == (1, 1)


def test_a_packet_that_came_in_time_makes_the_next_be_waited_for_longer() -> None:
    buffer = ReorderBuffer()
    lose_every_other(buffer, STEPS // 2)
    first = 2 * (STEPS // 2) + 2
    buffer.push(packet(first), 1.000)
    assert len(buffer.push(packet(first - 1), 1.018)) == 2
    assert buffer.patience == pytest.approx(0.036)


def test_a_packet_that_comes_twice_teaches_nothing() -> None:
    buffer = ReorderBuffer()
    lose_every_other(buffer, STEPS + 1)
    buffer.push(packet(2 * (STEPS + 1)), 1.0)
    assert (buffer.late, buffer.patience) == (1, 0.0)


def test_the_wait_never_grows_beyond_the_limit() -> None:
    buffer = ReorderBuffer()
    buffer.push(packet(1), 0.0)
    buffer.push(packet(3), 0.0)
    buffer.release(1.0)
    buffer.push(packet(2), 5.0)
    assert buffer.patience == LIMIT


def test_what_waits_can_be_forgotten_and_the_next_packet_is_the_first() -> None:
    buffer = ReorderBuffer()
    buffer.push(packet(1), 0.0)
    buffer.push(packet(3), 0.0)
    assert buffer.clear() == 1
    assert not buffer.holding
    assert sequences(buffer.push(packet(500), 0.0)) == [500]
    assert (buffer.restarts, buffer.lost) == (0, 0)


def test_packets_given_up_are_remembered_in_small_numbers() -> None:
    buffer = ReorderBuffer(limit=0.0)
    for n in range(100):
        buffer.push(packet(20 * n), 0.0)
    assert len(buffer._given_up) <= REMEMBERED


def test_a_duplicate_is_heard_once() -> None:
    buffer = ReorderBuffer()
    buffer.push(packet(1), 0.0)
    buffer.push(packet(2), 0.0)
    assert buffer.push(packet(2), 0.0) == ()
    assert buffer.late == 1


def test_a_new_ssrc_starts_over_and_what_waited_is_not_lost() -> None:
    buffer = ReorderBuffer()
    buffer.push(packet(1), 0.0)
    buffer.push(packet(3), 0.0)
    assert sequences(buffer.push(packet(900, ssrc=2), 0.0)) == [3, 900]
    assert buffer.restarts == 1


def test_a_wild_jump_is_believed_when_the_next_packet_follows_it() -> None:
    buffer = ReorderBuffer()
    buffer.push(packet(1), 0.0)
    assert buffer.push(packet(30000), 0.0) == ()
    assert sequences(buffer.push(packet(30001), 0.0)) == [30001]


def test_a_single_wild_packet_disturbs_nothing() -> None:
    buffer = ReorderBuffer()
    buffer.push(packet(1), 0.0)
    assert buffer.push(packet(30000), 0.0) == ()
    assert sequences(buffer.push(packet(2), 0.0)) == [2]


@given(
    st.integers(0, 2**32),
    st.integers(0, 0xFFFF),
    st.floats(0, 0.4),
    st.floats(0, 0.4),
    st.sampled_from([0.0, 0.04, 0.2]),
)
def test_output_is_always_in_order_and_every_packet_is_accounted_for(
    seed: int, first: int, loss: float, swap: float, limit: float
) -> None:
    dice = random.Random(seed)
    sent = [packet(first + n) for n in range(200)]
    survivors = [p for n, p in enumerate(sent) if n == 0 or dice.random() >= loss]
    for n in range(1, len(survivors) - 1):
        if dice.random() < swap:
            survivors[n], survivors[n + 1] = survivors[n + 1], survivors[n]
    buffer = ReorderBuffer(limit)
    heard: list[Packet] = []
    for n, p in enumerate(survivors):
        heard += buffer.push(p, n * 0.02)
        assert 0 <= buffer.patience <= limit
    heard += buffer.release(1e9)
    positions = [(p.sequence - first) & 0xFFFF for p in heard]
    assert positions == sorted(set(positions))
    assert len(heard) + buffer.late == len(survivors)
