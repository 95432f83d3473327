from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from aivc.media.reorder import PATIENCE, ReorderBuffer
from aivc.media.rtp import Packet


def packet(sequence: int, ssrc: int = 1) -> Packet:
    return Packet(0, False, sequence & 0xFFFF, 0, ssrc, bytes([sequence & 0xFF]))


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
    assert buffer.release(0.02 + PATIENCE / 2) == ()
    assert sequences(buffer.release(0.02 + PATIENCE)) == [3]
    assert buffer.push(packet(2), 0.07) == ()
    assert (buffer.lost, buffer.late) == (1, 1)


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


@given(st.integers(0, 2**32), st.integers(0, 0xFFFF), st.floats(0, 0.4), st.floats(0, 0.4))
def test_output_is_always_in_order_and_every_packet_is_accounted_for(
    seed: int, first: int, loss: float, swap: float
) -> None:
    dice = random.Random(seed)
    sent = [packet(first + n) for n in range(200)]
    survivors = [p for n, p in enumerate(sent) if n == 0 or dice.random() >= loss]
    for n in range(1, len(survivors) - 1):
        if dice.random() < swap:
            survivors[n], survivors[n + 1] = survivors[n + 1], survivors[n]
    buffer = ReorderBuffer()
    heard: list[Packet] = []
    for n, p in enumerate(survivors):
        heard += buffer.push(p, n * 0.02)
    heard += buffer.release(1e9)
    positions = [(p.sequence - first) & 0xFFFF for p in heard]
    assert positions == sorted(set(positions))
    assert len(heard) + buffer.late == len(survivors)
