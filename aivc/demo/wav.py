"""The call as a stereo WAV file: caller left, model right, G.711 as it was on the wire."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from aivc.config.settings import Codec
from aivc.demo.recording import AudioFrame, CallRecording
from aivc.media.g711 import FRAME_OCTETS, FRAME_SECONDS, silence_frame

FORMAT_TAG = {"PCMA": 6, "PCMU": 7}  # WAVE_FORMAT_ALAW, WAVE_FORMAT_MULAW (RFC 2361)
RATE = 8000  # samples a second
EARLY = FRAME_SECONDS / 2  # more than this before its expected time, and a packet is missing after the frame


def write_stereo(path: Path, recording: CallRecording) -> None:
    """Write the call to `path`, replacing what is there.

    Raises:
        OSError: the file cannot be written.
    """
    path.write_bytes(stereo_wav(recording))


def stereo_wav(recording: CallRecording) -> bytes:
    """The call as a RIFF WAVE file: 8000 Hz, 2 channels, 8 bits, with the `fact` chunk that G.711 asks for."""
    caller, model = channels(recording)
    samples = bytearray(2 * len(caller))
    samples[0::2], samples[1::2] = caller, model
    layout = struct.pack("<HHIIHHH", FORMAT_TAG[recording.codec], 2, RATE, 2 * RATE, 2, 8, 0)
    body = chunk(b"fmt ", layout) + chunk(b"fact", struct.pack("<I", len(caller))) + chunk(b"data", samples)
    return chunk(b"RIFF", b"WAVE" + body)


def chunk(name: bytes, content: bytes | bytearray) -> bytes:
    return name + struct.pack("<I", len(content)) + content


def channels(recording: CallRecording) -> tuple[bytes, bytes]:
    """Caller and model as two equally long runs of G.711 octets, one octet a sample."""
    caller, model = placed(recording.caller), placed(recording.model)
    needed = math.ceil(recording.duration / FRAME_SECONDS - 1e-6)  # 24.0 / 0.02 is a little more than 1200
    slots = max([needed, *(slot + 1 for slot, _ in caller + model)])
    return lay_out(caller, slots, recording.codec), lay_out(model, slots, recording.codec)


def lay_out(frames: Iterable[tuple[int, AudioFrame]], slots: int, codec: Codec) -> bytes:
    silence = silence_frame(codec)
    octets = bytearray(silence * slots)
    for slot, frame in frames:
        start = slot * FRAME_OCTETS
        octets[start : start + FRAME_OCTETS] = (frame.octets + silence)[:FRAME_OCTETS]
    return bytes(octets)


def placed(frames: Iterable[AudioFrame]) -> list[tuple[int, AudioFrame]]:
    """The frames in order of time, each with its place on the 20 ms grid."""
    in_order = sorted(frames, key=lambda frame: frame.at)
    return list(zip(frame_slots([frame.at for frame in in_order]), in_order, strict=True))


def frame_slots(times: Sequence[float]) -> list[int]:
    """Places on the 20 ms grid for frames that came at these ascending times; no two share one.

    Delay only ever makes a frame late, so a frame belongs directly before its follower however late it came, and a
    hole is real only when it came early. That is why the first pass runs backwards; the second keeps the beginning
    of a burst from falling before the start.
    """
    slots: list[int] = []
    expected = math.inf
    for at in reversed(times):
        slot = slots[-1] - 1 if slots else round(at / FRAME_SECONDS)
        if at < expected - EARLY:
            expected = at
            slot = min(slot, round(at / FRAME_SECONDS))
        slots.append(slot)
        expected -= FRAME_SECONDS
    slots.reverse()
    free = 0
    for index, slot in enumerate(slots):
        slots[index] = max(slot, free)
        free = slots[index] + 1
    return slots
