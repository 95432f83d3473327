"""RTP packets to and from octets, RFC 3550 section 5.1. Every length is checked before it is believed."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

HEADER: Final = struct.Struct("!BBHII")  # V P X CC | M PT | sequence | timestamp | SSRC
EXTENSION: Final = struct.Struct("!HH")  # profile | length in 32-bit words
VERSION_2: Final = 0x80
# RFC 5761 section 4: on a port shared with RTCP these values of the second octet are RTCP packet types.
FIRST_RTCP, LAST_RTCP = 192, 223
unpack_header: Final = HEADER.unpack_from
new_tuple: Final = tuple.__new__


class BadPacket(ValueError):
    """The datagram is not an RTP packet; the text says which rule it breaks."""


class Packet(NamedTuple):
    """One RTP packet. A NamedTuple and not a frozen attrs class: cheaper to make, 100 times a second and call."""

    payload_type: int
    marker: bool
    sequence: int  # 16 bits
    rtp_timestamp: int  # 32 bits, 8000 Hz
    ssrc: int
    payload: bytes


def parse_untrusted(datagram: bytes) -> Packet:
    """Read one datagram. Raises BadPacket."""
    try:
        flags, kind, sequence, rtp_timestamp, ssrc = unpack_header(datagram)
    except struct.error:
        raise BadPacket(f"{len(datagram)} octets are no RTP header") from None
    payload = datagram[12:] if flags == VERSION_2 else payload_of(datagram, flags)
    if FIRST_RTCP <= kind <= LAST_RTCP:
        raise BadPacket(f"packet type {kind} is RTCP")
    # what Packet(...) does, by way of a function of Python, in half the time
    return new_tuple(Packet, (kind & 0x7F, kind >= 0x80, sequence, rtp_timestamp, ssrc, payload))


def is_rtcp(datagram: bytes) -> bool:
    """Whether a datagram of a port that RTP and RTCP share is RTCP (RFC 5761 section 4)."""
    return len(datagram) >= 2 and FIRST_RTCP <= datagram[1] <= LAST_RTCP


def payload_of(datagram: bytes, flags: int) -> bytes:
    """What is left without CSRC list, header extension and padding, which ordinary phones never send.

    Raises BadPacket, also for another version.
    """
    if flags & 0xC0 != VERSION_2:
        raise BadPacket(f"version {flags >> 6} is not 2")
    start, end = 12 + 4 * (flags & 0x0F), len(datagram)
    if flags & 0x10:
        if start + 4 > end:
            raise BadPacket("the header extension is cut off")
        start += 4 + 4 * EXTENSION.unpack_from(datagram, start)[1]
    if start > end:
        raise BadPacket("the CSRC list or header extension reaches beyond the packet")
    if flags & 0x20:
        padding_octets = datagram[-1] if end > start else 0
        if not 0 < padding_octets <= end - start:
            raise BadPacket(f"{padding_octets} octets of padding in {end - start}")
        end -= padding_octets
    return datagram[start:end]


def build(packet: Packet) -> bytes:
    """The datagram of `packet`: no CSRC list, no extension, no padding."""
    kind = packet.payload_type | (0x80 if packet.marker else 0)
    header = HEADER.pack(VERSION_2, kind, packet.sequence, packet.rtp_timestamp, packet.ssrc)
    return header + packet.payload
