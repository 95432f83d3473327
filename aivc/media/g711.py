"""G.711: octet values, frame sizes, loudness; and encoding, for sound files. No call's audio is ever transcoded.

Source: ITU-T G.711; payload types and the 8000 Hz clock from RFC 3551 sections 4.5.14 and 6.
"""

from __future__ import annotations

import functools
from array import array
from typing import Final

from aivc.config.settings import Codec

OCTETS_PER_MS: Final = 8
FRAME_MS: Final = 20  # RFC 3551 section 4.5: the default packet of the sample-based codecs
FRAME_OCTETS: Final = FRAME_MS * OCTETS_PER_MS
FRAME_SECONDS: Final = FRAME_MS / 1000

SILENCE: Final = {"PCMU": 0xFF, "PCMA": 0xD5}  # the octet that decodes to (nearly) zero
VOICED_PEAK: Final = 1000  # 16-bit units, about -30 dBFS: above line noise, below quiet speech


def silence_frame(codec: Codec, octets: int = FRAME_OCTETS) -> bytes:
    """20 ms of silence, or so many octets."""
    return bytes([SILENCE[codec]]) * octets


def linear_ulaw(octet: int) -> int:
    inverted = ~octet & 0xFF
    magnitude = (((inverted & 0x0F) << 3) + 0x84 << ((inverted & 0x70) >> 4)) - 0x84
    return -magnitude if inverted & 0x80 else magnitude


def linear_alaw(octet: int) -> int:
    toggled = octet ^ 0x55
    exponent, mantissa = (toggled & 0x70) >> 4, (toggled & 0x0F) << 4
    magnitude = mantissa + 8 if exponent == 0 else (mantissa + 0x108) << (exponent - 1)
    return magnitude if toggled & 0x80 else -magnitude


LINEAR: Final = {  # octet -> 16-bit signed sample
    "PCMU": tuple(linear_ulaw(octet) for octet in range(256)),
    "PCMA": tuple(linear_alaw(octet) for octet in range(256)),
}
QUIET: Final = {  # octets below the voiced peak: deleting them leaves what is loud
    codec: bytes(octet for octet in range(256) if abs(samples[octet]) < VOICED_PEAK)
    for codec, samples in LINEAR.items()
}
IS_LOUD: Final = {  # octet -> 1 for those of the voiced peak and above, else 0
    codec: bytes(abs(sample) >= VOICED_PEAK for sample in samples) for codec, samples in LINEAR.items()
}
VOICED_OCTETS: Final = 8  # loud samples in a frame that make it voiced: fewer are clicks


def is_voiced(frame: bytes, codec: Codec) -> bool:
    """Whether somebody seems to speak: an energy gate, for measuring; it decides nothing in a conversation."""
    loud = frame.translate(IS_LOUD[codec])
    # Quiet sounds are told at once. Counted as the bits of a number: of loud ones two to three times as fast as what
    # looks at octet by octet.
    return 1 in loud and int.from_bytes(loud, "big").bit_count() >= VOICED_OCTETS


def peak_level(frame: bytes, codec: Codec) -> int:
    """The loudest sample of `frame`, 0 to 32767; 0 for an empty one."""
    samples = LINEAR[codec]
    return max((abs(samples[octet]) for octet in set(frame)), default=0)


def encode_ulaw(sample: int) -> int:
    """The octet for a 16-bit sample, of which the law knows the upper 14 bits."""
    magnitude = sample >> 2
    inverted = 0x80 if magnitude < 0 else 0
    biased = min(abs(magnitude), 8158) + 33  # from 33 up the segment is the length of the number
    segment = biased.bit_length() - 6
    return ~(inverted | segment << 4 | (biased >> (segment + 1)) & 0x0F) & 0xFF


def encode_alaw(sample: int) -> int:
    """The octet for a 16-bit sample, of which the law knows the upper 13 bits."""
    value = sample >> 3
    magnitude, sign = (value, 0x80) if value >= 0 else (~value, 0)
    segment = max(0, magnitude.bit_length() - 5)
    mantissa = magnitude >> max(1, segment) & 0x0F
    return (sign | segment << 4 | mantissa) ^ 0x55


ENCODE: Final = {"PCMU": encode_ulaw, "PCMA": encode_alaw}


@functools.cache
def encoding(codec: Codec) -> bytes:
    """The octet for each 16-bit sample, by the sample's value modulo 65536."""
    samples = (*range(0x8000), *range(-0x8000, 0))
    return bytes(map(ENCODE[codec], samples))


def encode(samples: array[int], codec: Codec) -> bytes:
    """The octets for 16-bit samples, given as unsigned numbers ("H"): those below zero modulo 65536."""
    return bytes(map(encoding(codec).__getitem__, samples))


def convert(octets: bytes, source: Codec, target: Codec) -> bytes:
    """The octets of one law in another, by way of the samples that they stand for."""
    if source == target:
        return octets
    return octets.translate(bytes(ENCODE[target](sample) for sample in LINEAR[source]))
