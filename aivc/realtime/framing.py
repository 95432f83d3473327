"""One WebSocket frame made by hand: audio leaves 50 times a second per call, and a general encoder costs ten times it.

It is a final, masked text frame (RFC 6455 section 5.2) with `{"type":"input_audio_buffer.append","audio":"..." }`,
which both dialects spell alike.
"""

from __future__ import annotations

from binascii import b2a_base64
from functools import lru_cache
from typing import Final

FINAL_TEXT = 0x81  # FIN and opcode 1
MASKED = 0x80  # every client frame is masked, RFC 6455 section 5.3
SHORT_LIMIT = 126  # lengths below stand in the second octet itself
MEDIUM_LIMIT = 1 << 16  # lengths below take two octets, the others eight
APPEND_HEAD = b'{"type":"input_audio_buffer.append","audio":"'
APPEND_TAIL = b'" }'  # the blank makes the message, as every base64 text, a multiple of four octets: of whole mask keys
KEY_OCTETS: Final = 4
number = int.from_bytes  # found once, and not 50 times a second and call


def append_frame(audio: bytes, mask_key: int) -> bytes:
    """Return the whole frame that appends `audio` to the server's input buffer.

    Args:
        audio: in the session's input format; the API takes at most 15 MiB.
        mask_key: 32 bits that the peer cannot predict (RFC 6455 section 5.3).
    """
    start, ones, octets = envelope(len(audio))
    frame = start + b2a_base64(audio, newline=False) + APPEND_TAIL
    return (number(frame, "big") ^ mask_key * ones).to_bytes(octets, "big")


@lru_cache(maxsize=16)  # a telephone's packets have one length, or few
def envelope(audio_octets: int) -> tuple[bytes, int, int]:
    """What a frame with so much audio needs: its start unmasked, how to mask it, and its length.

    Octet i is XORed with key octet i mod 4 (RFC 6455 section 5.3), all at once as one XOR of two long integers: the
    frame, and the key times a number with a one for each of its places. The first of these is that of the key itself,
    where the start has zeros, and so the XOR puts it there.
    """
    payload_octets = len(APPEND_HEAD) + (audio_octets + 2) // 3 * 4 + len(APPEND_TAIL)
    start = frame_head(payload_octets) + bytes(KEY_OCTETS) + APPEND_HEAD
    places = 1 + payload_octets // KEY_OCTETS
    return start, number(b"\0\0\0\1" * places, "big"), len(start) - len(APPEND_HEAD) + payload_octets


def frame_head(payload_octets: int) -> bytes:
    """Return the octets before the mask key (RFC 6455 section 5.2)."""
    if payload_octets < SHORT_LIMIT:
        return bytes((FINAL_TEXT, MASKED | payload_octets))
    if payload_octets < MEDIUM_LIMIT:
        return bytes((FINAL_TEXT, MASKED | 126)) + payload_octets.to_bytes(2, "big")
    return bytes((FINAL_TEXT, MASKED | 127)) + payload_octets.to_bytes(8, "big")
