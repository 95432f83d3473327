"""What is measured of a stream, and what both sides say of it."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from paper_stream import VOICE, datagram, paper_stream

from aivc.media.reports import Reception, Reports
from aivc.media.rtcp import Description, Goodbye, ReceiverReport, ReportBlock, SenderReport

OURS, THEIRS = 7, 9  # SSRC
NOON = 1_700_000_000.0  # seconds since 1970 at 0 s


def reports(wall_offset: float = NOON) -> Reports:
    return Reports(OURS, "cname", wall_offset)


def reception_of(sequences: list[int]) -> Reception:
    one = Reception()
    come(one, sequences)
    return one


def come(reception: Reception, sequences: Iterable[int], ssrc: int = THEIRS) -> None:
    for sequence in sequences:
        reception.received += 1
        reception.update(sequence & 0xFFFF, ssrc)


def block_of(reception: Reception) -> ReportBlock:
    return reception.block(0, 0)


def test_what_is_missing_in_the_sequence_is_lost() -> None:
    reception = reception_of([1, 2, 3, 6, 7, 8, 9, 10])
    block = block_of(reception)
    assert (block.ssrc, block.lost, block.highest_sequence, block.fraction_lost) == (THEIRS, 2, 10, 256 * 2 // 10)


def test_the_fraction_is_that_since_the_report_before_and_the_number_is_that_of_all() -> None:
    reception = reception_of([1, 3])
    assert block_of(reception).fraction_lost == 256 // 3
    come(reception, range(4, 10))
    block = block_of(reception)
    assert (block.fraction_lost, block.lost) == (0, 1)


def test_a_wrap_is_counted_in_the_upper_half() -> None:
    reception = reception_of(list(range(65530, 65540)))
    assert block_of(reception).highest_sequence == 0x10000 + 3
    assert block_of(reception).lost == 0


def test_packets_out_of_order_and_twice_are_no_loss() -> None:
    reception = reception_of([1, 3, 2, 4, 4])
    block = block_of(reception)
    assert (block.lost, block.highest_sequence, block.fraction_lost) == (-1, 4, 0)


def test_another_source_is_another_count_and_the_call_has_the_sum() -> None:
    reception = reception_of([1, 2, 5])
    come(reception, (100, 102), 77)
    block = block_of(reception)
    assert (block.ssrc, block.lost, block.highest_sequence) == (77, 1, 102)
    assert reports().quality(reception, 0).lost == 3


def test_a_jump_of_the_sequence_is_a_new_beginning_once_it_goes_on_from_there() -> None:
    reception = reception_of([1, 2, 3, 30000, 30001, 30002])
    assert block_of(reception).lost == 0
    reception = reception_of([1, 2, 3, 30000, 4, 5])
    assert block_of(reception).highest_sequence == 5


@pytest.mark.parametrize("late_ms", [0, 10, 40])
def test_jitter_is_the_smoothed_difference_of_transit_times(late_ms: int) -> None:
    """RFC 3550 section 6.4.1: J(i) = J(i-1) + (|D(i-1,i)| - J(i-1))/16, here with every second packet late."""
    paper, expected, transit = paper_stream(), 0.0, 0.0
    for n in range(200):
        late = late_ms / 1000 * (n % 2)
        paper.come(datagram(n + 1), 0.02 * n + late)
        if n:
            expected += (abs(late - transit) * 8000 - expected) / 16
        transit = late
    assert paper.stream.reception.jitter == pytest.approx(expected, abs=0.01)
    assert paper.stream.reception.jitter / 8 == pytest.approx(late_ms, rel=0.01, abs=0.01)


def test_a_jump_of_the_timestamp_and_the_packets_of_a_key_are_no_jitter() -> None:
    paper = paper_stream()
    for n in range(20):
        paper.come(datagram(n, rtp_timestamp=160 * n + (0 if n < 10 else 1_000_000)), 0.02 * n)
    for n in range(20, 30):
        paper.come(datagram(n, b"\x05\x0a\x00\xa0", payload_type=101, rtp_timestamp=5), 0.02 * n)
    assert paper.stream.reception.jitter == pytest.approx(0, abs=0.01)


def test_the_counts_of_the_stream_itself_are_those_of_its_packets() -> None:
    paper, dice = paper_stream(), random.Random(3)
    sequences = [n for n in range(65000, 66000) if n in (65000, 65999) or dice.random() > 0.1]
    for sequence in sequences:
        paper.come(datagram(sequence, VOICE), 0.02 * (sequence - 65000))
    block = paper.stream.reception.block(0, 0)
    assert block.lost == 1000 - len(sequences)
    assert block.highest_sequence == 65999


def test_a_sequence_that_goes_on_elsewhere_after_a_hold_is_no_loss() -> None:
    paper = paper_stream()
    for number in range(50):
        paper.come(datagram(number), number * 0.02)
    paper.stream.expects_audio = False
    paper.stream.expects_audio = True
    for number in range(50):
        paper.come(datagram(20_000 + number), 2.0 + number * 0.02)
    told = paper.stream.quality()
    assert told is not None
    assert (told.lost, told.lost_fraction) == (0, 0.0)
    assert paper.stream.reception.total_expected() == 100


def test_a_report_is_of_a_sender_when_something_was_sent_and_names_us() -> None:
    reception = reception_of([1, 2])
    sr, sdes = reports().compound(reception, (800, 5, 800), 2.5, goodbye=False)
    assert isinstance(sr, SenderReport)
    assert (sr.ssrc, sr.rtp_timestamp, sr.packets, sr.octets) == (OURS, 800, 5, 800)
    assert sr.ntp >> 32 == int(NOON) + 2 + 2_208_988_800
    assert sr.ntp & 0xFFFFFFFF == 1 << 31
    assert sdes == Description(OURS, "cname")
    rr, _, bye = reports().compound(reception, None, 2.5, goodbye=True)
    assert isinstance(rr, ReceiverReport)
    assert bye == Goodbye((OURS,))


def test_nothing_is_reported_of_who_has_sent_nothing() -> None:
    (rr, _) = reports().compound(Reception(), None, 1.0, goodbye=False)
    assert rr == ReceiverReport(OURS)


def test_the_peers_sender_report_is_echoed_with_the_time_since() -> None:
    one, reception = reports(), reception_of([1])
    one.take((SenderReport(THEIRS, 0x1111_2222_3333_4444, 0, 0, 0),), 10.0)
    rr, _ = one.compound(reception, None, 12.5, goodbye=False)
    assert isinstance(rr, ReceiverReport)
    assert rr.blocks[0].last_sr == 0x2222_3333
    assert rr.blocks[0].delay_since_last_sr == 5 * 65536 // 2


def test_the_round_trip_is_what_passed_less_the_peers_delay() -> None:
    one = reports()
    sr, _ = one.compound(Reception(), (0, 1, 160), 10.0, goodbye=False)
    assert isinstance(sr, SenderReport)
    echo = ReportBlock(OURS, 64, 12, 100, 80, sr.ntp >> 16 & 0xFFFFFFFF, 2 * 65536)
    one.take((ReceiverReport(THEIRS, (echo,)),), 12.150)
    quality = one.quality(Reception(), 0)
    assert quality.round_trip_ms == pytest.approx(150, abs=0.05)
    assert (quality.remote_jitter_ms, quality.remote_lost, quality.remote_lost_fraction) == (10.0, 12, 0.25)


@pytest.mark.parametrize(("last_sr", "delay", "known"), [(0, 0, None), (0x12345678, 0, None), (None, 70_000, 0.0)])
def test_a_round_trip_that_cannot_be_is_not_believed(last_sr: int | None, delay: int, known: float | None) -> None:
    """No SR of ours came, one that was never sent, or a delay a little longer than all the time that passed."""
    one = reports()
    last_sr = one.ntp(10.0) >> 16 & 0xFFFFFFFF if last_sr is None else last_sr
    one.take((ReceiverReport(THEIRS, (ReportBlock(OURS, 0, 0, 0, 0, last_sr, delay),)),), 11.0)
    assert one.round_trip == known


def test_what_the_peer_says_of_others_is_not_about_us() -> None:
    one = reports()
    one.take((ReceiverReport(THEIRS, (ReportBlock(555, 64, 12, 100, 80, 0, 0),)), Goodbye((THEIRS,))), 1.0)
    assert one.remote is None
    assert one.peer_left
