"""What the model hears when the caller's audio has holes: its time stays the caller's."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paper_stream import EVENTS, SILENCE, VOICE, Paper, datagram, paper_stream

from aivc.config.settings import RtpSettings
from aivc.media.filling import FLOOD, LAG, LEAD, SUPPRESSED, HeardTime

COMFORT_NOISE = 13


def talk(paper: Paper, first: int, packets: int) -> None:
    """Packets of an unbroken stream, each on its time, while frames of ours leave."""
    for sequence in range(first, first + packets):
        paper.run(0.02 * sequence)
        paper.come(datagram(sequence), 0.02 * sequence)


def milliseconds(octets: bytes) -> float:
    return len(octets) / 8


def test_unbroken_audio_passes_as_it_is() -> None:
    paper = paper_stream()
    talk(paper, 0, 100)
    assert paper.heard() == VOICE * 100
    assert paper.stream.statistics().filled == 0


def test_a_suppressed_silence_is_noticed_after_200_ms_and_made_up_for_whole() -> None:
    paper = paper_stream()
    talk(paper, 0, 10)  # the last one came at 0.18
    paper.heard()
    paper.run(0.37)
    assert paper.heard() == b""
    paper.run(0.39)
    assert paper.heard() == SILENCE * 10
    paper.run(1.39)
    assert paper.heard() == SILENCE * 50


def test_audio_that_comes_back_after_a_silence_is_not_preceded_by_the_silence_again() -> None:
    paper = paper_stream()
    talk(paper, 0, 10)
    talk(paper, 60, 10)
    heard = paper.heard()
    assert heard.count(VOICE) == 20
    assert milliseconds(heard) == pytest.approx(70 * 20, abs=20)


def test_a_pause_too_short_to_be_noticed_is_filled_when_audio_comes_back() -> None:
    paper = paper_stream()
    talk(paper, 0, 10)
    talk(paper, 17, 10)
    assert paper.heard() == VOICE * 10 + SILENCE * 7 + VOICE * 10
    assert paper.stream.statistics().filled == 7


@pytest.mark.parametrize("octets", [80, 160, 240])
def test_silence_of_its_length_stands_in_for_a_lost_packet(octets: int) -> None:
    paper, seconds = paper_stream(), octets / 8000
    for n in (0, 1, 4, 5, 6, 7, 8, 9, 10):
        paper.run(seconds * n)
        paper.come(datagram(n, VOICE[:80] * (octets // 80), rtp_timestamp=octets * n), seconds * n)
    paper.run(seconds * 11 + 0.05)
    speech = VOICE[:80] * (octets // 80)
    assert paper.heard() == speech * 2 + b"\xff" * octets * 2 + speech * 7
    counters = paper.stream.statistics()
    assert (counters.lost, counters.filled) == (2, octets * 2 // 160)


def test_a_packet_that_was_only_late_leaves_no_silence() -> None:
    paper = paper_stream()
    for sequence, now in ((0, 0.0), (2, 0.04), (1, 0.05), (3, 0.06)):
        paper.come(datagram(sequence), now)
    assert paper.heard() == VOICE * 4


def test_comfort_noise_says_at_once_that_the_caller_is_silent() -> None:
    paper = paper_stream()
    talk(paper, 0, 10)
    paper.come(datagram(10, b"\x40", payload_type=COMFORT_NOISE), 0.20)
    paper.run(0.30)
    assert paper.heard() == VOICE * 10 + SILENCE * 5
    counters = paper.stream.statistics()
    assert (counters.comfort_noise, counters.other_payload) == (1, 0)


def test_while_a_key_is_pressed_the_model_hears_silence() -> None:
    paper = paper_stream()
    talk(paper, 0, 10)
    for n in range(10, 20):
        paper.run(0.02 * n)
        paper.come(datagram(n, bytes([5, 10, 0, n]), EVENTS, rtp_timestamp=1600), 0.02 * n)
    talk(paper, 20, 10)
    heard = paper.heard()
    assert heard.count(VOICE) == 20
    assert heard[: 160 * 15] == VOICE * 10 + SILENCE * 5
    assert milliseconds(heard) == pytest.approx(30 * 20, abs=20)
    assert paper.pressed == ["5"]


def test_a_caller_who_never_spoke_is_not_made_up() -> None:
    paper = paper_stream()
    paper.come(datagram(1, b"\x40", payload_type=COMFORT_NOISE), 0.0)
    paper.run(2.0)
    assert paper.heard() == b""


def test_audio_that_was_held_up_is_heard_and_the_silence_that_stood_in_for_it_is_made_up_for() -> None:
    paper = paper_stream()
    talk(paper, 0, 10)
    paper.run(0.50)
    for sequence in range(10, 25):  # all at once
        paper.come(datagram(sequence), 0.49)
    talk(paper, 25, 10)
    heard = paper.heard()
    assert heard.count(VOICE) == 35
    assert milliseconds(heard) > 34 * 20 + 100
    paper.run(3.0)
    assert milliseconds(heard + paper.heard()) == pytest.approx(3000, abs=40)


def test_after_a_long_blockage_the_next_silence_is_noticed_400_ms_late_at_most() -> None:
    paper = paper_stream()
    talk(paper, 0, 10)
    paper.run(3.0)
    for sequence in range(10, 150):
        paper.come(datagram(sequence), 2.99)
    paper.heard()
    paper.run(3.38)
    assert paper.heard() == b""
    paper.run(4.0)
    assert milliseconds(paper.heard()) == pytest.approx(600, abs=20)


def test_our_own_stall_is_not_the_callers_silence() -> None:
    paper = paper_stream()
    talk(paper, 0, 10)
    paper.stream.outgoing(1.0)  # long after it was due; what came meanwhile waits in the socket
    for sequence in range(10, 50):
        paper.come(datagram(sequence), 1.0)
    assert paper.heard() == VOICE * 50


def test_a_jump_of_the_timestamp_by_more_than_a_second_is_no_gap() -> None:
    paper = paper_stream()
    talk(paper, 0, 10)
    paper.come(datagram(10, rtp_timestamp=1600 + 8001), 0.20)
    paper.come(datagram(11, rtp_timestamp=5), 0.22)
    assert paper.heard() == VOICE * 12


def test_a_telephone_whose_timestamps_run_too_fast_is_given_little_silence() -> None:
    paper = paper_stream()
    for n in range(500):
        paper.run(0.02 * n)
        paper.come(datagram(n, rtp_timestamp=320 * n), 0.02 * n)
    heard = paper.heard()
    assert heard.count(VOICE) == 500
    assert milliseconds(heard) <= 500 * 20 + 220


def test_a_telephone_whose_timestamps_stand_still_in_silence_is_heard_to_be_silent_each_time() -> None:
    paper = paper_stream()
    for word in range(5):
        for n in range(10):
            now = word * 2.0 + 0.02 * n
            paper.run(now)
            paper.come(datagram(word * 10 + n), now)
        paper.run(word * 2.0 + 2.0)
        assert milliseconds(paper.heard()) == pytest.approx(2000, abs=40)


@pytest.mark.parametrize("ppm", [200, -200])
def test_after_an_hour_with_a_clock_that_is_wrong_a_pause_is_about_as_long_as_it_was(ppm: int) -> None:
    """The telephone has sent 36 packets more, or fewer, than we count: they are no silence of the caller's."""
    time, now = HeardTime(), 0.0
    time.gap(0, 160, now)
    for number in range(180_000):
        now = number * 0.02 / (1 + ppm / 1e6)
        assert not time.is_flooded(now)
        assert time.follows(160 * number, 160, now)
    filled = 0
    for frame in range(1, 51):
        if now + frame * 0.02 >= time.fill_at:
            filled += time.frames_due(now + frame * 0.02)
    assert 50 - (SUPPRESSED + LEAD) / 0.02 <= filled <= 51 + LAG / 0.02


def test_another_source_does_not_leave_a_gap() -> None:
    paper = paper_stream()
    talk(paper, 0, 10)
    paper.come(datagram(7000, ssrc=10, rtp_timestamp=123456), 0.20)
    paper.come(datagram(7001, ssrc=10, rtp_timestamp=123616), 0.22)
    assert paper.heard() == VOICE * 12


@given(st.integers(0, 2**32), st.floats(0, 0.3), st.floats(0, 0.1), st.sampled_from([0.0, 0.015, 0.03]), st.booleans())
def test_over_a_minute_of_pauses_loss_and_jitter_the_model_hears_a_minute(
    seed: int, loss: float, pause: float, jitter: float, comfort_noise: bool
) -> None:
    dice, paper = random.Random(seed), paper_stream()
    arrivals, sequence, frame = [], 0, 0
    while frame < 3000:
        if frame and dice.random() < pause:
            if comfort_noise:
                sequence += 1
                arrivals.append((0.02 * frame, datagram(sequence, b"\x40", COMFORT_NOISE, rtp_timestamp=160 * frame)))
            frame += dice.randrange(1, 100)
        sequence += 1
        if frame == 0 or frame >= 2990 or dice.random() >= loss:
            late = jitter * dice.random()
            arrivals.append((0.02 * frame + late, datagram(sequence, rtp_timestamp=160 * frame)))
        frame += 1
    octets = 0
    for at, packet in sorted(arrivals):
        paper.run(at)
        paper.come(packet, at)
        octets += len(paper.heard())
        assert octets / 8000 <= at + 0.25
    assert octets / 8000 == pytest.approx(0.02 * frame, abs=0.06)


# hold


def test_a_caller_who_holds_us_is_silence_and_the_music_is_not_heard() -> None:
    paper = paper_stream()
    talk(paper, 0, 10)
    paper.stream.expects_audio = paper.stream.may_send = False
    talk(paper, 10, 90)
    assert paper.heard() == VOICE * 10 + SILENCE * 89
    paper.stream.expects_audio = paper.stream.may_send = True
    talk(paper, 100, 10)
    assert paper.heard() == SILENCE + VOICE * 10
    assert paper.stream.statistics().held == 90


def test_silence_goes_on_after_a_hold_until_the_caller_is_heard() -> None:
    paper = paper_stream()
    talk(paper, 0, 10)
    paper.stream.expects_audio = False
    paper.run(1.0)
    paper.stream.expects_audio = True
    paper.run(2.0)
    assert milliseconds(paper.heard()) == pytest.approx(2000, abs=40)


def test_who_calls_to_hold_us_is_silence_from_the_beginning() -> None:
    paper = paper_stream(expects_audio=False)
    paper.run(1.0)
    assert paper.heard() == SILENCE * 49


def test_what_waited_when_a_hold_began_or_ended_is_not_heard_later() -> None:
    paper = paper_stream()
    stale, fresh = b"\x11" * 160, b"\x22" * 160
    talk(paper, 0, 10)
    paper.come(datagram(11, stale), 0.20)
    paper.stream.expects_audio = False
    paper.come(datagram(12, stale), 0.22)
    paper.come(datagram(14, stale), 0.24)
    paper.stream.expects_audio = True
    paper.come(datagram(15, fresh), 0.26)
    paper.run(0.40)
    heard = paper.heard()
    assert stale not in heard
    assert heard.endswith(fresh)
    assert paper.stream.statistics().held == 3


def test_keys_are_told_while_the_caller_holds_us() -> None:
    paper = paper_stream(RtpSettings(hold="nothing"))
    paper.stream.expects_audio = False
    paper.come(datagram(1, bytes([9, 10, 0, 160]), EVENTS), 0.0)
    assert paper.pressed == ["9"]


def test_audio_much_faster_than_real_time_is_dropped_and_counted() -> None:
    """The model's side would pay for every second of it."""
    paper = paper_stream()
    for sequence in range(2000):  # 40 s
        paper.come(datagram(sequence), 1.0)
    heard = milliseconds(paper.heard())
    assert heard == pytest.approx(1000 * FLOOD, abs=40)
    assert paper.stream.statistics().heard_dropped == 2000 - heard / 20
    paper.come(datagram(2000), 5.0)
    assert paper.heard() == VOICE


def test_an_hour_of_a_clock_that_is_a_little_fast_loses_nothing() -> None:
    paper, packets, heard = paper_stream(), 180_000, 0
    for sequence in range(packets):
        paper.come(datagram(sequence), 0.02 * 0.999 * sequence)
        if sequence % 1000 == 999:
            heard += len(paper.heard())
    assert heard == 160 * packets
    assert paper.stream.statistics().heard_dropped == 0
