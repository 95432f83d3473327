"""One WebSocket frame made by hand: audio leaves 50 times a second per call, and a general encoder costs ten times it.

It is a final, masked text frame (RFC 6455 section 5.2) with `{"type":"input_audio_buffer.append","audio":"..."}`, which
both dialects spell alike.
"""

from __future__ import annotations

import binascii

FINAL_TEXT = 0x81  # FIN and opcode 1
MASKED = 0x80  # every client frame is masked, RFC 6455 section 5.3
SHORT_LIMIT = 126  # lengths below stand in the second octet itself
MEDIUM_LIMIT = 1 << 16  # lengths below take two octets, the others eight
APPEND_HEAD = b'{"type":"input_audio_buffer.append","audio":"'
APPEND_TAIL = b'"}'


def append_frame(audio: bytes, mask_key: bytes) -> bytes:
    """Return the whole frame that appends `audio` to the server's input buffer.

    Args:
        audio: in the session's input format; the API takes at most 15 MiB.
        mask_key: 4 octets that the peer cannot predict (RFC 6455 section 5.3).
    """
    payload = b"%b%b%b" % (APPEND_HEAD, binascii.b2a_base64(audio, newline=False), APPEND_TAIL)
    return frame_head(len(payload)) + mask_key + masked(payload, mask_key)


def frame_head(payload_octets: int) -> bytes:
    """Return the octets before the mask key (RFC 6455 section 5.2)."""
    if payload_octets < SHORT_LIMIT:
        return bytes((FINAL_TEXT, MASKED | payload_octets))
    if payload_octets < MEDIUM_LIMIT:
        return bytes((FINAL_TEXT, MASKED | 126)) + payload_octets.to_bytes(2, "big")
    return bytes((FINAL_TEXT, MASKED | 127)) + payload_octets.to_bytes(8, "big")


def masked(payload: bytes, mask_key: bytes) -> bytes:
    """XOR octet i with key octet i mod 4 (RFC 6455 section 5.3), as one XOR of two long integers."""
    octets = len(payload)
    pad = (mask_key * (octets // 4 + 1))[:octets]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(octets, "big")
