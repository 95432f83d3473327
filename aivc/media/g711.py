"""G.711 as the media path needs it: octet values, frame sizes, loudness. Nothing here encodes or transcodes.

Source: ITU-T G.711; payload types and the 8000 Hz clock from RFC 3551 sections 4.5.14 and 6.
"""

from __future__ import annotations

from typing import Final

from aivc.config.settings import Codec

OCTETS_PER_MS: Final = 8
FRAME_MS: Final = 20  # RFC 3551 section 4.5: the default packet of the sample-based codecs
FRAME_OCTETS: Final = FRAME_MS * OCTETS_PER_MS
FRAME_SECONDS: Final = FRAME_MS / 1000

SILENCE: Final = {"PCMU": 0xFF, "PCMA": 0xD5}  # the octet that decodes to (nearly) zero
VOICED_PEAK: Final = 1000  # 16-bit units, about -30 dBFS: above line noise, below quiet speech


def silence_frame(codec: Codec) -> bytes:
    """20 ms of silence."""
    return bytes([SILENCE[codec]]) * FRAME_OCTETS


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
VOICED_OCTETS: Final = 8  # loud samples in a frame that make it voiced: fewer are clicks


def is_voiced(frame: bytes, codec: Codec) -> bool:
    """Whether somebody seems to speak: an energy gate, for measuring; it decides nothing in a conversation."""
    return len(frame.translate(None, QUIET[codec])) >= VOICED_OCTETS


def peak_level(frame: bytes, codec: Codec) -> int:
    """The loudest sample of `frame`, 0 to 32767; 0 for an empty one."""
    samples = LINEAR[codec]
    return max((abs(samples[octet]) for octet in set(frame)), default=0)
