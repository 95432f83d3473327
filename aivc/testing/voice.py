"""Octets of speech and silence for tests, and the G.711 tables to tell one from the other.

The tables are this package's own, written from ITU-T G.711, so that a test does not check `aivc.media` with itself.
Sample values are 16-bit: mu-law has 14 bits and A-law 13, both shifted to the top.
"""

from __future__ import annotations

import math
import random
from array import array
from functools import lru_cache

from aivc.config.settings import Codec

SAMPLES_PER_SECOND = 8000
FULL_SCALE = 32768


def mulaw_sample(octet: int) -> int:
    """The 16-bit sample of one mu-law octet (G.711, table 2a/2b)."""
    inverted = ~octet & 0xFF
    magnitude = (((inverted & 0x0F) << 3) + 0x84 << (inverted >> 4 & 7)) - 0x84
    return -magnitude if inverted & 0x80 else magnitude


def alaw_sample(octet: int) -> int:
    """The 16-bit sample of one A-law octet (G.711, table 1a/1b)."""
    toggled = octet ^ 0x55
    exponent = toggled >> 4 & 7
    magnitude = ((toggled & 0x0F) << 4) + 8
    if exponent:
        magnitude = magnitude + 0x100 << exponent - 1
    return magnitude if toggled & 0x80 else -magnitude


SAMPLES: dict[Codec, tuple[int, ...]] = {
    "PCMU": tuple(mulaw_sample(octet) for octet in range(256)),
    "PCMA": tuple(alaw_sample(octet) for octet in range(256)),
}
SILENCE: dict[Codec, int] = {"PCMU": 0xFF, "PCMA": 0xD5}
QUIETEST: dict[Codec, bytes] = {"PCMU": b"\xff\x7f", "PCMA": b"\xd5\x55"}  # the two octets next to zero
SECOND_QUIETEST: dict[Codec, bytes] = {"PCMU": b"\xfe\x7e", "PCMA": b"\xd4\x54"}


def nearest_octet(sample: int, codec: Codec) -> int:
    """The octet for a sample; of two that are as near, the positive one, so that silence stays the usual silence."""
    table = SAMPLES[codec]
    return min(range(256), key=lambda octet: (abs(table[octet] - sample), -table[octet], -octet))


def transcoding(source: Codec, target: Codec) -> bytes:
    """The `bytes.translate` table from one law to the other."""
    return bytes(nearest_octet(sample, target) for sample in SAMPLES[source])


MULAW_TO_ALAW = transcoding("PCMU", "PCMA")
ALAW_TO_MULAW = transcoding("PCMA", "PCMU")


def transcode(octets: bytes, source: Codec, target: Codec) -> bytes:
    """G.711 octets in the other law; unchanged when both are the same."""
    if source == target:
        return octets
    return octets.translate(MULAW_TO_ALAW if source == "PCMU" else ALAW_TO_MULAW)


def to_pcm_24k(octets: bytes, codec: Codec) -> bytes:
    """G.711 as 16-bit little-endian samples at 24000 Hz, by linear interpolation."""
    samples = [SAMPLES[codec][octet] for octet in octets]
    out = array("h")
    for here, following in zip(samples, samples[1:] + samples[-1:], strict=True):
        out.extend((here, (2 * here + following) // 3, (here + 2 * following) // 3))
    return little_endian(out)


def little_endian(samples: array[int]) -> bytes:
    if array("H", [1]).tobytes() == b"\x00\x01":  # a big-endian machine
        samples.byteswap()
    return samples.tobytes()


def silence(seconds: float, codec: Codec = "PCMU") -> bytes:
    """`seconds` of digital silence, 8000 octets a second."""
    return bytes([SILENCE[codec]]) * round(seconds * SAMPLES_PER_SECOND)


def level_dbfs(octets: bytes, codec: Codec) -> float:
    """Root mean square of the decoded signal, in dB of full scale; -inf for no octets or digital zero."""
    power = sum(SAMPLES[codec][octet] ** 2 for octet in octets) / max(1, len(octets))
    return 10 * math.log10(power / FULL_SCALE**2) if power else -math.inf


@lru_cache(maxsize=2)
def encoding(codec: Codec) -> bytes:
    """The octets for 1024 evenly spaced samples, loudest negative first."""
    return bytes(nearest_octet(level, codec) for level in range(-FULL_SCALE, FULL_SCALE, 64))


@lru_cache(maxsize=64)
def speech(seconds: float, codec: Codec = "PCMU", *, pitch_hz: float = 120.0, seed: int = 0) -> bytes:
    """Synthetic speech: syllables of a buzzing voice at -20 dBFS with a little noise, the same for the same arguments.

    No 20 ms frame repeats, no octet is one of the codec's two quietest (so it is never mistaken for silence that was
    filled in), and no pause is longer than 60 ms (so it is one turn for a VAD).

    Args:
        seconds: length; 8000 octets a second.
        codec: the law of the octets.
        pitch_hz: of the voice; 120 is a man's, 210 a woman's.
        seed: another seed, other octets.
    """
    source = random.Random(f"{seed}/{pitch_hz}")
    encode, out = encoding(codec), bytearray()
    for n in range(round(seconds * SAMPLES_PER_SECOND)):
        at = n / SAMPLES_PER_SECOND
        syllable = 0.15 + abs(math.sin(math.pi * 3.7 * at))  # about four syllables a second
        phase = 2 * math.pi * pitch_hz * (1 + 0.05 * math.sin(2 * math.pi * 0.8 * at)) * at
        buzz = math.sin(phase) + 0.6 * math.sin(2 * phase) + 0.4 * math.sin(5 * phase) + 0.2 * source.uniform(-1, 1)
        sample = int(3900 * syllable * buzz)
        out.append(encode[max(-FULL_SCALE, min(FULL_SCALE - 1, sample)) + FULL_SCALE >> 6])
    return bytes(out).translate(bytes.maketrans(QUIETEST[codec], SECOND_QUIETEST[codec]))
