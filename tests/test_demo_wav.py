"""The stereo WAV of a demonstration call."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest

from aivc.demo.recording import AudioFrame, CallRecording
from aivc.demo.wav import channels, frame_slots, stereo_wav, write_stereo


def recording(
    caller: tuple[AudioFrame, ...] = (),
    model: tuple[AudioFrame, ...] = (),
    duration: float = 0.1,
    codec: Literal["PCMU", "PCMA"] = "PCMU",
) -> CallRecording:
    return CallRecording(codec, duration, caller, model, (), (), (), (), (), "caller hung up", 0, 0, 0)


def frame(at: float, octet: int) -> AudioFrame:
    return AudioFrame(at, bytes([octet]) * 160)


def steady(first: float, count: int) -> list[float]:
    return [first + 0.02 * index for index in range(count)]


@pytest.mark.parametrize(("codec", "tag"), [("PCMU", 7), ("PCMA", 6)])
def test_the_header_says_g711_stereo_at_8000_hz(codec: Literal["PCMU", "PCMA"], tag: int) -> None:
    wav = stereo_wav(recording(duration=0.1, codec=codec))
    samples = 800

    assert wav[:4] == b"RIFF"
    assert struct.unpack("<I", wav[4:8]) == (len(wav) - 8,)
    assert wav[8:16] == b"WAVEfmt "
    assert struct.unpack("<IHHIIHHH", wav[16:38]) == (18, tag, 2, 8000, 16000, 2, 8, 0)
    assert wav[38:42] == b"fact"
    assert struct.unpack("<II", wav[42:50]) == (4, samples)
    assert wav[50:54] == b"data"
    assert struct.unpack("<I", wav[54:58]) == (2 * samples,)
    assert len(wav) == 58 + 2 * samples


@pytest.mark.parametrize(("codec", "silence"), [("PCMU", 0xFF), ("PCMA", 0xD5)])
def test_caller_is_left_and_model_right_each_where_it_sounded_and_silence_elsewhere(
    codec: Literal["PCMU", "PCMA"], silence: int
) -> None:
    wav = stereo_wav(recording((frame(0.02, 0x11),), (frame(0.06, 0x22),), 0.1, codec))
    left, right = wav[58::2], wav[59::2]

    assert left == bytes([silence]) * 160 + b"\x11" * 160 + bytes([silence]) * 480
    assert right == bytes([silence]) * 480 + b"\x22" * 160 + bytes([silence]) * 160


def test_the_file_holds_the_whole_call_even_when_nobody_spoke(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"

    write_stereo(path, recording(duration=24.0))

    assert path.stat().st_size == 58 + 2 * 24 * 8000


def test_a_frame_after_the_end_makes_the_file_longer() -> None:
    caller, model = channels(recording((frame(0.2, 0x11),), duration=0.1))

    assert len(caller) == len(model) == 11 * 160
    assert caller[-160:] == b"\x11" * 160


def test_a_short_frame_is_filled_with_silence_and_a_long_one_cut() -> None:
    frames = (AudioFrame(0.0, b"\x11" * 80), AudioFrame(0.02, b"\x22" * 320))

    caller, _ = channels(recording(frames, duration=0.06))

    assert caller == b"\x11" * 80 + b"\xff" * 80 + b"\x22" * 160 + b"\xff" * 160


def test_frames_out_of_order_are_placed_by_their_time() -> None:
    caller, _ = channels(recording((frame(0.02, 0x22), frame(0.0, 0x11)), duration=0.04))

    assert caller == b"\x11" * 160 + b"\x22" * 160


def test_jitter_around_the_grid_leaves_no_hole() -> None:
    jitter = [0.004, -0.004, 0.003, 0.0, -0.002, 0.004, -0.004, 0.001]
    for phase in (0.0, 0.005, 0.0099, 0.01, 0.0101, 0.015):
        times = [at + late for at, late in zip(steady(0.1 + phase, 8), jitter, strict=True)]

        slots = frame_slots(times)

        assert slots == list(range(slots[0], slots[0] + 8))
        assert slots[0] in (5, 6)


def test_a_late_frame_and_the_burst_after_it_stay_where_they_were_meant() -> None:
    on_time = steady(0.0, 10)
    stalled = [max(at, 0.1) if at > 0.03 else at for at in on_time]

    assert frame_slots(stalled) == list(range(10))


def test_lost_packets_leave_exactly_their_hole() -> None:
    times = steady(0.003, 10)
    del times[4:6]

    assert frame_slots(times) == [0, 1, 2, 3, 6, 7, 8, 9]


def test_a_burst_at_the_start_does_not_fall_before_it() -> None:
    assert frame_slots([0.0, 0.0, 0.0, 0.04]) == [0, 1, 2, 3]


def test_a_slow_clock_never_lets_two_frames_share_a_place() -> None:
    slots = frame_slots([0.0199 * index for index in range(3000)])

    assert all(later > earlier for earlier, later in pairwise(slots))
    assert abs(slots[0]) <= 15
