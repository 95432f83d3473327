"""What the telephones say and what the model says, as G.711 octets, and WAV files that hold the same."""

from __future__ import annotations

import os
import wave
from array import array
from functools import cache
from pathlib import Path

from aivc.config.settings import Codec
from aivc.testing.phrases import phrase
from aivc.testing.voice import SAMPLES, SAMPLES_PER_SECOND, little_endian, nearest_octet, silence

LEAD_SECONDS = 0.2  # of silence before the caller speaks
SPEECH_SECONDS = 1.6
FRAME_OCTETS = 160  # 20 ms
CALL_SECONDS = 15.0  # then silence: no telephone runs out of sound before its call is over
POSITIVE_ZERO = bytes.maketrans(b"\x7f", b"\xff")  # mu-law has two zeros; a decoder makes one of them


@cache
def caller_speech(codec: Codec) -> bytes:
    """Somebody speaking: the recording of AIVC_TEST_DATA if there is one, else a packaged phrase."""
    folder = os.environ.get("AIVC_TEST_DATA")
    recording = Path(folder, "speech", "speech8k.wav") if folder else None
    if recording is None or not recording.exists():
        return without_negative_zero(phrase("caller_goodbye").encoded(codec), codec)
    with wave.open(str(recording)) as file:
        return encoded(file.readframes(round(SPEECH_SECONDS * SAMPLES_PER_SECOND)), codec)


def model_speech(codec: Codec) -> bytes:
    """The model speaking, 1.6 s."""
    return without_negative_zero(phrase("model_goodbye").encoded(codec), codec)


def caller_audio(codec: Codec) -> bytes:
    """All that a telephone sends from the first to the last packet of a call: silence, speech, silence."""
    spoken = silence(LEAD_SECONDS, codec) + caller_speech(codec)
    return spoken + silence(CALL_SECONDS - len(spoken) / SAMPLES_PER_SECOND, codec)


def without_negative_zero(octets: bytes, codec: Codec) -> bytes:
    """The octets that come out of an encoder for the samples that these stand for."""
    return octets.translate(POSITIVE_ZERO) if codec == "PCMU" else octets


def encoded(samples: bytes, codec: Codec) -> bytes:
    """The octets nearest to 16-bit samples: libre's table, for one, decodes mu-law silence as 2."""
    values = array("h", samples)
    octets = {value: nearest_octet(value, codec) for value in set(values)}
    return bytes(octets[value] for value in values)


def decoded(octets: bytes, codec: Codec) -> bytes:
    """16-bit little-endian samples, 8000 a second."""
    return little_endian(array("h", (SAMPLES[codec][octet] for octet in octets)))


def write_wav(path: Path, octets: bytes, codec: Codec) -> None:
    """A WAV file of samples that G.711 can say exactly: any true encoder makes the same octets of it again."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLES_PER_SECOND, 0, "NONE", ""))
        file.writeframes(decoded(octets, codec))


def read_wav(path: Path) -> bytes:
    """The samples of a mono recording, 16 bits, little-endian, 8000 a second."""
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, SAMPLES_PER_SECOND), path
        samples: bytes = file.readframes(file.getnframes())
        return samples


def frames_of(octets: bytes) -> list[bytes]:
    """The whole frames of 20 ms."""
    return [octets[start : start + FRAME_OCTETS] for start in range(0, len(octets) - FRAME_OCTETS + 1, FRAME_OCTETS)]


def frames_in_order(frames: list[bytes], recorded: bytes) -> int:
    """How many of the frames are in the recording, one behind the other, with nothing or anything between them."""
    found = position = 0
    for frame in frames:
        if (at := recorded.find(frame, position)) >= 0:
            found, position = found + 1, at + FRAME_OCTETS
    return found
