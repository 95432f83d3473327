from __future__ import annotations

import pytest

from aivc.media.pacer import Pacer
from aivc.media.rtp import Packet, parse_untrusted

FRAME = b"\xff" * 160


def pacer(sequence: int = 100, rtp_timestamp: int = 1600) -> Pacer:
    return Pacer(payload_type=8, ssrc=5, sequence=sequence, rtp_timestamp=rtp_timestamp, due=10.0)


def run(one: Pacer, times: list[float]) -> list[Packet]:
    return [parse_untrusted(one.packet(FRAME, now)) for now in times]


def test_sequence_goes_up_by_one_and_time_by_160() -> None:
    packets = run(pacer(), [10.0, 10.02, 10.04])
    assert [p.sequence for p in packets] == [100, 101, 102]
    assert [p.rtp_timestamp for p in packets] == [1600, 1760, 1920]
    assert {(p.ssrc, p.payload_type) for p in packets} == {(5, 8)}


def test_only_the_first_packet_of_an_unbroken_stream_is_marked() -> None:
    assert [p.marker for p in run(pacer(), [10.0, 10.02, 10.04])] == [True, False, False]


def test_due_times_stand_on_a_grid_whatever_the_lateness() -> None:
    one = pacer()
    for late in (0.0, 0.013, 0.004):
        one.packet(FRAME, one.due + late)
    assert one.due == pytest.approx(10.06)


def test_both_counters_wrap() -> None:
    packets = run(pacer(65535, 0xFFFFFFFF - 100), [10.0, 10.02])
    assert [p.sequence for p in packets] == [65535, 0]
    assert packets[1].rtp_timestamp == 59


def test_a_call_outlives_65536_packets() -> None:
    one = pacer()
    for _ in range(70_000):
        datagram = one.packet(FRAME, one.due)
    assert parse_untrusted(datagram).sequence == (100 + 69_999) % 65536


def test_after_a_long_stall_the_missed_frames_are_skipped_not_sent_in_a_burst() -> None:
    one = pacer()
    run(one, [10.0])
    late = parse_untrusted(one.packet(FRAME, 10.02 + 0.5))
    assert late.sequence == 101
    assert late.rtp_timestamp == 1760 + 25 * 160
    assert late.marker
    assert one.due == pytest.approx(10.02 + 0.5 + 0.02)
    assert one.stalls == 1


def test_after_a_short_stall_nothing_is_skipped() -> None:
    one = pacer()
    run(one, [10.0, 10.07])
    assert one.due == pytest.approx(10.04)
    assert one.stalls == 0


def test_a_pause_lets_time_pass_and_the_next_packet_is_marked() -> None:
    one = pacer()
    run(one, [10.0])
    for _ in range(50):
        one.pause(one.due)
    after = parse_untrusted(one.packet(FRAME, one.due))
    assert (after.sequence, after.rtp_timestamp, after.marker) == (101, 1600 + 51 * 160, True)


def test_octets_are_counted_through_other_lengths_events_and_ssrcs() -> None:
    one = pacer()
    run(one, [10.0, 10.02])
    one.event_packet(101, True, one.rtp_timestamp, bytes(4))
    one.repace(40)
    one.packet(FRAME * 2, one.due)
    assert one.sender_counts == (4, 2 * 160 + 4 + 320)
    one.begin_anew(6, 0)
    one.packet(FRAME * 2, one.due)
    one.repace(10)
    one.packet(FRAME[:80], one.due)
    assert one.sender_counts == (2, 320 + 80)
