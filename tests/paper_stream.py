"""A stream without a network or a clock: the test gives the datagrams and the time, and takes what comes out."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, cast

import attrs
import trio

from aivc.config.settings import RtpSettings
from aivc.media.latching import Latch
from aivc.media.pacer import Pacer
from aivc.media.playout import Playout
from aivc.media.reports import Reports
from aivc.media.rtcpline import RtcpLine
from aivc.media.rtp import Packet, parse_untrusted
from aivc.media.stream import RtpStream

PHONE: Final = ("192.0.2.9", 7078)
VOICE: Final = bytes([0x10, 0x90]) * 80
SILENCE: Final = b"\xff" * 160
EVENTS: Final = 101  # payload type
NO_SOCKET: Final = cast("trio.socket.SocketType", None)  # only a clock touches it


def datagram(
    sequence: int,
    payload: bytes = VOICE,
    payload_type: int = 0,
    ssrc: int = 9,
    rtp_timestamp: int | None = None,
    marker: bool = False,
) -> bytes:
    """One RTP packet; without a timestamp that of a 20 ms packet in an unbroken stream."""
    at = 160 * sequence if rtp_timestamp is None else rtp_timestamp
    kind = payload_type | (0x80 if marker else 0)
    return struct.pack("!BBHII", 0x80, kind, sequence & 0xFFFF, at & 0xFFFFFFFF, ssrc) + payload


@attrs.define
class Paper:
    """A stream of PCMU whose first packet is due at 0 s."""

    stream: RtpStream
    receive: trio.MemoryReceiveChannel[bytes]
    pressed: list[str]
    sent: list[Packet] = attrs.field(factory=list)

    def come(self, packet: bytes, now: float) -> None:
        """A datagram of the caller's arrives."""
        self.stream.received(packet, PHONE, now)

    def heard(self) -> bytes:
        """What the model was given since the last look."""
        return b"".join(self.receive.receive_nowait() for _ in range(self.receive.statistics().current_buffer_used))

    def run(self, until: float, each: Callable[[float], None] = lambda now: None) -> None:
        """Let frames leave as they are due, up to `until`; `each` may act before each of them."""
        while self.stream.pacer.due < until - 1e-9:
            now = self.stream.pacer.due
            each(now)
            packet = self.stream.outgoing(now)
            if packet is not None:
                self.sent.append(parse_untrusted(packet))


def paper_stream(rtp: RtpSettings | None = None, ptime_ms: int = 20, **stream: Any) -> Paper:
    settings = rtp or RtpSettings()
    send, receive = trio.open_memory_channel[bytes](100_000)
    pressed: list[str] = []
    latch = Latch(PHONE, PHONE[0], settings.nat, settings.relatch_seconds)
    playout, pacer = Playout(0xFF), Pacer(0, 7, 65530, 0, 0.0, ptime_ms)
    rtcp = RtcpLine(Reports(7, "cname", 0.0)) if settings.rtcp else None
    changes = {"telephone_event": EVENTS, "pressed": pressed.append, "rtcp": rtcp, **stream}
    return Paper(
        RtpStream(NO_SOCKET, "PCMU", 0, latch, playout, pacer, send, settings, 0.0, **changes), receive, pressed
    )
