"""RTCP of the test phone's handset, RFC 3550 section 6: written and read without the code under test."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import attrs

from aivc.config.settings import Address

SENDER_REPORT: Final = 200
RECEIVER_REPORT: Final = 201
SOURCE_DESCRIPTION: Final = 202
GOODBYE: Final = 203
CNAME: Final = b"phone@aivc.test"
NTP_EPOCH: Final = 3_900_000_000  # seconds since 1900 at the clock's zero: any will do


@attrs.frozen
class ReportHeard:
    """One compound RTCP packet as it arrived."""

    at: float  # seconds on trio's clock
    data: bytes
    source: Address

    @property
    def kinds(self) -> tuple[int, ...]:
        """The packet types in it, in order: 200 SR, 201 RR, 202 SDES, 203 BYE."""
        return tuple(kind for kind, _, _ in self._packets())

    @property
    def says_goodbye(self) -> bool:
        return GOODBYE in self.kinds

    @property
    def sent(self) -> tuple[int, int] | None:
        """Packets and octets that the sender report counts."""
        for kind, _, body in self._packets():
            if kind == SENDER_REPORT:
                packets, octets = struct.unpack_from("!II", body, 16)
                return packets, octets
        return None

    @property
    def ntp_middle(self) -> int | None:
        """The middle 32 bits of the sender report's NTP timestamp: what the answer to it says as LSR."""
        for kind, _, body in self._packets():
            if kind == SENDER_REPORT:
                return int(struct.unpack_from("!Q", body, 4)[0]) >> 16 & 0xFFFFFFFF
        return None

    @property
    def received(self) -> tuple[int, float, int, int] | None:
        """Of the first report block: SSRC, share lost lately (0..1), lost in all, jitter in RTP time units."""
        for kind, count, body in self._packets():
            if kind in (SENDER_REPORT, RECEIVER_REPORT) and count:
                start = 24 if kind == SENDER_REPORT else 4
                ssrc, lost, _, jitter = struct.unpack_from("!IIII", body, start)
                return ssrc, (lost >> 24) / 256, lost & 0xFFFFFF, jitter
        return None

    def _packets(self) -> Iterator[tuple[int, int, bytes]]:
        """Type, count and body of each packet."""
        at = 0
        while at + 4 <= len(self.data):
            first, kind, words = struct.unpack_from("!BBH", self.data, at)
            yield kind, first & 0x1F, self.data[at + 4 : at + 4 + 4 * words]
            at += 4 + 4 * words


def is_rtcp(data: bytes) -> bool:
    """Whether a packet on a port of both is RTCP, RFC 5761 section 4."""
    return 192 <= data[1] <= 223


def report_of(
    ssrc: int,
    heard: tuple[int, int] | None,
    *,
    sent: tuple[int, int, int] | None,
    now: float,
    loss: tuple[float, int] = (0.0, 0),
    jitter: int = 0,
    echo: tuple[int, int] = (0, 0),
) -> bytes:
    """A compound packet of one report and the CNAME.

    Args:
      heard: the other side's SSRC and highest sequence number; None: no report block.
      sent: packets, octets and the RTP timestamp of now; None: a receiver report.
      loss: the share lost lately, and how many in all.
      jitter: in RTP time units.
      echo: `ntp_middle` of the other side's newest sender report, and how long ago it came, in 1/65536 s.
    """
    blocks = b""
    if heard is not None:
        lost = (min(int(loss[0] * 256), 255) << 24) | (loss[1] & 0xFFFFFF)
        blocks = struct.pack("!IIIIII", heard[0], lost, heard[1], jitter, *echo)
    body, kind = b"", RECEIVER_REPORT
    if sent is not None:
        kind = SENDER_REPORT
        ntp = int((NTP_EPOCH + now) * 2**32)
        body = struct.pack("!QIII", ntp, sent[2] & 0xFFFFFFFF, sent[0], sent[1])
    item = bytes([1, len(CNAME)]) + CNAME
    chunk = struct.pack("!I", ssrc) + item + bytes(4 - len(item) % 4)
    own = struct.pack("!I", ssrc) + body + blocks
    return packet(kind, bool(blocks), own) + packet(SOURCE_DESCRIPTION, True, chunk)


def packet(kind: int, count: int, body: bytes) -> bytes:
    return struct.pack("!BBH", 0x80 | count, kind, len(body) // 4) + body
