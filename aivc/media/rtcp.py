"""RTCP packets to and from octets, RFC 3550 section 6. Every length is checked before it is believed.

RTCP always travels in compounds: one datagram of several packets, of which the first is a report. Packet types other
than reports, SDES and BYE (APP, feedback, extended reports) are passed over.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

import attrs

HEADER: Final = Struct("!BBH")  # V P count | packet type | length in 32-bit words without this one
SENDER: Final = Struct("!QIII")  # NTP timestamp | RTP timestamp | packets | octets
BLOCK: Final = Struct("!IIIIII")  # SSRC | fraction, cumulative | highest sequence | jitter | LSR | DLSR
WORD: Final = Struct("!I")
VERSION_2, PADDED, COUNT = 0x80, 0x20, 0x1F
SR, RR, SDES, BYE = 200, 201, 202, 203
CNAME: Final = 1  # SDES item
MOST_LOST: Final = 0x7FFFFF  # a signed number of 24 bits
LONGEST_TEXT: Final = 255  # octets of an SDES item or a reason


class BadRtcp(ValueError):
    """The datagram is no compound RTCP packet; the text says which rule it breaks."""


@attrs.frozen
class ReportBlock:
    """What a receiver says of one source, RFC 3550 section 6.4.1."""

    ssrc: int  # whose packets it is about
    fraction_lost: int  # since the report before, of 256
    lost: int  # since the beginning; negative when packets came twice
    highest_sequence: int  # with the number of wraps in the upper 16 bits
    jitter: int  # timestamp units
    last_sr: int  # the middle 32 bits of the NTP timestamp of the source's last SR; 0: none came
    delay_since_last_sr: int  # units of 1/65536 s


@attrs.frozen
class SenderReport:
    """SR, section 6.4.1."""

    ssrc: int
    ntp: int  # seconds since 1900 as a number of 64 bits, of which 32 are the fraction
    rtp_timestamp: int  # of the same moment
    packets: int
    octets: int  # of payload
    blocks: tuple[ReportBlock, ...] = ()


@attrs.frozen
class ReceiverReport:
    """RR, section 6.4.2."""

    ssrc: int
    blocks: tuple[ReportBlock, ...] = ()


@attrs.frozen
class Description:
    """SDES of one source, section 6.5: its canonical name and nothing else."""

    ssrc: int
    cname: str | None


@attrs.frozen
class Goodbye:
    """BYE, section 6.6."""

    ssrcs: tuple[int, ...]
    reason: str = ""


Rtcp = SenderReport | ReceiverReport | Description | Goodbye


def parse_untrusted(datagram: bytes) -> tuple[Rtcp, ...]:
    """Read one compound, by the checks of RFC 3550 appendix A.2. Raises BadRtcp."""
    found: list[Rtcp] = []
    at = 0
    while at < len(datagram):
        if len(datagram) - at < HEADER.size:
            raise BadRtcp(f"{len(datagram) - at} octets are no RTCP header")
        flags, kind, words = HEADER.unpack_from(datagram, at)
        end = at + 4 * (words + 1)
        if flags & 0xC0 != VERSION_2:
            raise BadRtcp(f"version {flags >> 6} is not 2")
        if at == 0 and kind not in (SR, RR):
            raise BadRtcp(f"a compound begins with a report, not with packet type {kind}")
        if end > len(datagram):
            raise BadRtcp(f"packet type {kind} claims {end - at} octets of {len(datagram) - at}")
        if flags & PADDED and (at == 0 or end != len(datagram)):
            raise BadRtcp("only the last packet of several may be padded")
        body = unpadded(datagram[at + 4 : end]) if flags & PADDED else datagram[at + 4 : end]
        found += read_body(kind, flags & COUNT, body)
        at = end
    if not found:
        raise BadRtcp("it is empty")
    return tuple(found)


def unpadded(body: bytes) -> bytes:
    """A body without its padding, whose last octet says how long it is. Raises BadRtcp."""
    padding_octets = body[-1] if body else 0
    if not 0 < padding_octets <= len(body) or padding_octets % 4:
        raise BadRtcp(f"{padding_octets} octets of padding in {len(body)}")
    return body[: len(body) - padding_octets]


def read_body(kind: int, count: int, body: bytes) -> list[Rtcp]:
    """What follows a header. Raises BadRtcp."""
    if kind == SR:
        need(body, 4 + SENDER.size + count * BLOCK.size, "a sender report")
        ntp, rtp_timestamp, packets, octets = SENDER.unpack_from(body, 4)
        blocks = blocks_of(body, 4 + SENDER.size, count)
        return [SenderReport(word(body, 0), ntp, rtp_timestamp, packets, octets, blocks)]
    if kind == RR:
        need(body, 4 + count * BLOCK.size, "a receiver report")
        return [ReceiverReport(word(body, 0), blocks_of(body, 4, count))]
    if kind == SDES:
        return list(chunks(body, count))
    if kind == BYE:
        need(body, 4 * count, "a goodbye")
        reason = body[4 * count + 1 :][: body[4 * count]] if len(body) > 4 * count else b""
        return [Goodbye(tuple(word(body, 4 * n) for n in range(count)), reason.decode("utf-8", "replace"))]
    return []


def need(body: bytes, octets: int, what: str) -> None:
    if len(body) < octets:
        raise BadRtcp(f"{what} needs {octets} octets, not {len(body)}")


def word(body: bytes, at: int) -> int:
    value: int = WORD.unpack_from(body, at)[0]
    return value


def blocks_of(body: bytes, at: int, count: int) -> tuple[ReportBlock, ...]:
    """Report blocks; that they are there was checked."""
    found = []
    for n in range(count):
        ssrc, losses, *others = BLOCK.unpack_from(body, at + n * BLOCK.size)
        lost = losses & 0xFFFFFF
        found.append(ReportBlock(ssrc, losses >> 24, lost - 0x1000000 if lost > MOST_LOST else lost, *others))
    return tuple(found)


def chunks(body: bytes, count: int) -> list[Description]:
    """The sources of an SDES packet. Raises BadRtcp."""
    found, at = [], 0
    for _ in range(count):
        need(body, at + 4, "a description")
        ssrc, cname, at = word(body, at), None, at + 4
        while at < len(body) and body[at]:
            need(body, at + 2, "an item of a description")
            text_at, end = at + 2, at + 2 + body[at + 1]
            need(body, end, "an item of a description")
            if body[at] == CNAME:
                cname = body[text_at:end].decode("utf-8", "replace")
            at = end
        need(body, at + 1, "the end of a description")
        found.append(Description(ssrc, cname))
        at += 4 - at % 4  # one to four null octets end a chunk at the next word
    return found


def build(packets: tuple[Rtcp, ...]) -> bytes:
    """The datagram of a compound; the first packet must be a report."""
    return b"".join(map(build_packet, packets))


def build_packet(packet: Rtcp) -> bytes:
    match packet:
        case SenderReport(ssrc, ntp, rtp_timestamp, sent, octets, blocks):
            info = SENDER.pack(ntp, rtp_timestamp, sent & 0xFFFFFFFF, octets & 0xFFFFFFFF)
            return framed(SR, len(blocks), WORD.pack(ssrc) + info + b"".join(map(build_block, blocks)))
        case ReceiverReport(ssrc, blocks):
            return framed(RR, len(blocks), WORD.pack(ssrc) + b"".join(map(build_block, blocks)))
        case Description(ssrc, cname):
            text = (cname or "").encode()[:LONGEST_TEXT]
            return framed(SDES, 1, WORD.pack(ssrc) + bytes([CNAME, len(text)]) + text + b"\0")
        case Goodbye(ssrcs, reason):
            text = reason.encode()[:LONGEST_TEXT]
            said = bytes([len(text)]) + text if text else b""
            return framed(BYE, len(ssrcs), b"".join(map(WORD.pack, ssrcs)) + said)


def framed(kind: int, count: int, body: bytes) -> bytes:
    """A packet: its header, and null octets up to the next word."""
    body += bytes(-len(body) % 4)
    return HEADER.pack(VERSION_2 | count, kind, len(body) // 4) + body


def build_block(block: ReportBlock) -> bytes:
    lost = max(-MOST_LOST - 1, min(MOST_LOST, block.lost)) & 0xFFFFFF
    return BLOCK.pack(
        block.ssrc,
        min(255, block.fraction_lost) << 24 | lost,
        block.highest_sequence & 0xFFFFFFFF,
        min(0xFFFFFFFF, block.jitter),
        block.last_sr,
        min(0xFFFFFFFF, block.delay_since_last_sr),
    )
