"""The bench's generator against a peer that misbehaves in known ways: each tally moves by exactly what was done."""

from __future__ import annotations

import time
from typing import Literal

import attrs
import pytest
from bench_peer import FRAME, FRAMES, NEEDS_COMPILER, ONE, SETTLED, SILENCE, calling, damaged, dialled, faults, rtp

pytestmark = NEEDS_COMPILER


@pytest.mark.parametrize("tls", [True, False])
def test_a_peer_that_passes_everything_on_is_exact(tls: bool) -> None:
    with calling(attrs.evolve(ONE, tls=tls)) as [peer]:
        peer.append(*peer.hear(FRAMES))
        peer.say(*peer.answer())
        report = peer.report()
    assert report.exact, report.first_violation
    assert faults(report) == {}
    assert (report.calls, report.appends, report.deltas, report.responses) == (1, FRAMES, 1, 1)
    assert report.received_rtp == 10
    assert report.up.count == FRAMES
    assert report.down.count == 1
    assert report.pacing.count == 9
    assert report.sessions_open == report.sessions_opened == 1
    assert 0 < report.cpu_ms < 1000 * report.seconds


@pytest.mark.parametrize("place", [0, 5, 100], ids=["mark", "head", "body"])
def test_a_changed_octet_towards_the_model_is_one_wrong_frame(place: int) -> None:
    with calling() as [peer]:
        first, second, *others = peer.hear(FRAMES)
        peer.append(first, damaged(second, place), *others)
        assert faults(peer.report()) == {"wrong_up": 1}


@pytest.mark.parametrize("place", [0, 5, 100], ids=["mark", "head", "body"])
def test_a_changed_octet_towards_the_caller_is_one_wrong_frame(place: int) -> None:
    with calling() as [peer]:
        first, second, *others = peer.answer()
        peer.say(first, damaged(second, place), *others)
        assert faults(peer.report()) == {"wrong_down": 1}


def test_frames_sent_just_before_the_end_of_a_call_may_stay_away() -> None:
    with calling() as [peer]:
        first, _, _, *others = peer.hear(5)
        peer.append(first, *others)
        peer.generator.hush(0)
        time.sleep(SETTLED)
        assert faults(peer.report()) == {}


def test_frames_that_never_reach_the_model_are_lost() -> None:
    with calling() as [peer]:
        first, _, _, *others = peer.hear(FRAMES)
        peer.append(first, *others)
        deadline = time.monotonic() + SETTLED
        while time.monotonic() < deadline:
            peer.append(*peer.hear(1))
        assert faults(peer.report()) == {"lost_up": 2}


def test_frames_that_never_reach_the_caller_are_lost() -> None:
    with calling() as [peer]:
        first, _, *others = peer.answer()
        peer.say(first, *others[:-1])
        deadline = time.monotonic() + ONE.speech_ms / 1000 + SETTLED
        while time.monotonic() < deadline:
            peer.append(*peer.hear(1))
        assert faults(peer.report()) == {"lost_down": 2}


def test_frames_that_come_twice_or_late_are_told_apart() -> None:
    with calling() as [peer]:
        first, second, third, *others = peer.hear(FRAMES)
        peer.append(first, first, third, second, *others)
        assert faults(peer.report()) == {"duplicated_up": 1, "reordered_up": 1}
        first, second, third, *others = peer.answer()
        peer.say(first, first, third, second, *others)
        assert faults(peer.report()) == {
            "duplicated_up": 1,
            "reordered_up": 1,
            "duplicated_down": 1,
            "reordered_down": 1,
        }


def test_appends_may_hold_several_frames_and_silence_that_nobody_sent() -> None:
    with calling() as [peer]:
        frames = peer.hear(FRAMES)
        peer.append(SILENCE[:100] + b"".join(frames[:5]) + SILENCE, b"".join(frames[5:]))
        report = peer.report()
    assert faults(report) == {"made_up_octets": 260}
    assert report.exact


def test_octets_that_are_no_frame_are_wrong() -> None:
    with calling() as [peer]:
        frames = peer.hear(FRAMES)
        peer.append(*frames, b"\x12" * 70)
        peer.say(b"\x12" * FRAME)
        assert faults(peer.report()) == {"wrong_up": 1, "wrong_down": 1}


def test_silence_inside_an_answer_is_an_underrun_and_elsewhere_none() -> None:
    with calling() as [peer]:
        peer.append(*peer.hear(FRAMES))
        first, *others = peer.answer()
        peer.say(SILENCE, first, SILENCE, SILENCE, *others, SILENCE)
        report = peer.report()
    assert faults(report) == {"silent_rtp": 4, "underruns": 2}
    assert report.exact


def test_audio_of_another_call_is_crosstalk_both_ways() -> None:
    with calling(attrs.evolve(ONE, calls=2), 2) as [one, two]:
        mine, others = one.hear(FRAMES), two.hear(FRAMES)
        one.append(*mine, others[0])
        two.append(*others)
        mine, others = one.answer(), two.answer()
        one.say(*mine, others[0])
        two.say(*others)
        two.report()
        report = one.report()
    assert faults(report) == {"crosstalk": 2}
    assert not report.exact


def test_what_comes_after_the_end_of_a_call_is_counted_and_a_new_call_is_another_one() -> None:
    with calling() as [peer]:
        peer.append(*peer.hear(FRAMES))
        peer.say(*peer.answer())
        peer.generator.hush(0)
        time.sleep(0.25)
        peer.say(SILENCE, SILENCE)
        assert faults(peer.report()) == {"after_end": 2}
        peer.hang_up()
        peer.generator.begin_window()
        again = dialled(peer.generator)
        with again.rtp, again.tcp:
            audio = again.answer()
            again.say_packets(rtp(0, audio[0], ssrc=8))  # before `talk` is told: a connector may be as quick
            again.generator.talk(0, again.rtp.getsockname())
            again.append(*again.hear(FRAMES))
            for number, payload in enumerate(audio[1:], 1):
                again.say_packets(rtp(number, payload, ssrc=8))
            report = again.report()
    assert faults(report) == {}
    assert (report.calls, report.sessions_open) == (1, 1)


def test_an_answer_that_the_end_of_a_call_cuts_off_is_no_loss_and_no_underrun_of_the_next_call() -> None:
    with calling() as [peer]:
        peer.append(*peer.hear(FRAMES))
        first, _, third, *_ = peer.answer()
        peer.say(first, third)
        peer.generator.hush(0)
        peer.answer()  # that nobody is there to hear
        time.sleep(SETTLED + 0.3)
        assert faults(peer.report()) == {"lost_down": 1, "cut_down": 17}
        peer.generator.begin_window()
        peer.generator.talk(0, peer.rtp.getsockname())
        peer.say_packets(rtp(0, SILENCE, ssrc=8))
        assert faults(peer.report()) == {"silent_rtp": 1}


def test_a_window_forgets_what_was_before() -> None:
    with calling() as [peer]:
        frames = peer.hear(FRAMES)
        peer.append(damaged(frames[0], 50), *frames, frames[0])
        peer.say(SILENCE)
        assert faults(peer.report()) == {"wrong_up": 1, "duplicated_up": 2, "silent_rtp": 1}
        peer.generator.begin_window()
        peer.append(*peer.hear(FRAMES))
        report = peer.report()
    assert faults(report) == {}
    assert report.appends == FRAMES


def test_a_frame_that_is_under_way_between_two_windows_is_lost_in_the_second_one_only() -> None:
    with calling() as [peer]:
        first, _, *others = peer.hear(FRAMES)
        peer.append(first, *others)
        first, _, *others = peer.answer()
        peer.say(first, *others[:-1])
        assert faults(peer.report()) == {}
        peer.generator.begin_window()
        deadline = time.monotonic() + SETTLED + 0.2
        while time.monotonic() < deadline:
            peer.append(*peer.hear(1))
        assert faults(peer.report()) == {"lost_up": 1, "lost_down": 2}
        peer.generator.begin_window()
        peer.append(*peer.hear(1))
        assert faults(peer.report()) == {}


def test_rtp_time_that_goes_on_further_than_the_audio_is_a_gap_and_not_a_fault() -> None:
    with calling() as [peer]:
        peer.say_packets(rtp(1, SILENCE, timestamp=0))
        peer.say_packets(rtp(2, SILENCE, timestamp=1600))
        report = peer.report()
    assert faults(report) == {"silent_rtp": 2, "timestamp_gaps": 1}
    assert report.pacing.p50 == pytest.approx(200, rel=0.1), "the timestamps ask for 200 ms between them"


def test_a_sender_that_skips_what_a_stall_made_late_is_late_all_the_same() -> None:
    with calling() as [peer]:
        peer.say_packets(rtp(1, SILENCE, timestamp=0))
        time.sleep(0.2)
        peer.say_packets(rtp(2, SILENCE, timestamp=1600))
        assert peer.report().pacing.p50 == pytest.approx(180, rel=0.02), "of the 200 ms the caller heard nothing in 180"


def test_packets_of_40_ms_hold_two_frames() -> None:
    with calling(attrs.evolve(ONE, packet_ms=40)) as [peer]:
        packets = peer.hear(3)
        assert {len(packet) for packet in packets} == {2 * FRAME}
        peer.append(*packets)
        answer = b"".join(peer.answer())
        peer.say(answer[: 2 * FRAME])
        peer.say_packets(rtp(1, answer[2 * FRAME : 4 * FRAME], timestamp=2 * FRAME))
        report = peer.report()
    assert faults(report) == {}
    assert report.up.count == 6


@pytest.mark.parametrize(("law", "silence", "payload_type"), [("PCMU", 0xFF, 0), ("PCMA", 0xD5, 8)])
def test_each_law_has_its_silence_and_payload_type(
    law: Literal["PCMU", "PCMA"], silence: int, payload_type: int
) -> None:
    with calling(attrs.evolve(ONE, law=law)) as [peer]:
        peer.say_packets(rtp(1, bytes([silence]) * FRAME, payload_type=payload_type))
        report = peer.report()
    assert faults(report) == {"silent_rtp": 1}
