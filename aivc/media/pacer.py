"""What goes out and when: sequence, timestamp, marker and due time of each packet; RFC 3550, RFC 3551 section 4.1."""

from __future__ import annotations

from typing import Final

import attrs

from aivc.media.g711 import FRAME_OCTETS, FRAME_SECONDS
from aivc.media.rtp import Packet, build

STALL: Final = 0.060  # seconds late; beyond it missed frames are skipped, a burst would only fill the phone's buffer


@attrs.define
class Pacer:
    """One outgoing RTP stream on absolute deadlines, so that lateness never accumulates.

    Args:
      payload_type, ssrc: of every packet.
      sequence, rtp_timestamp: of the first packet; random, RFC 3550 section 5.1.
      due: when the first packet is to leave, seconds.
    """

    payload_type: int
    ssrc: int
    sequence: int
    rtp_timestamp: int
    due: float
    sent: int = 0
    stalls: int = 0  # times that frames were skipped
    _after_gap: bool = True

    def packet(self, payload: bytes, now: float) -> bytes:
        """The datagram that leaves now; moves on to the next due time.

        The marker is set only after a gap in transmission: RFC 3551 section 4.1 forbids it elsewhere to who sends
        silence without suppression, as we do.
        """
        if now - self.due > STALL:
            self.catch_up(now)
        marker, self._after_gap = self._after_gap, False
        return self._build(self.payload_type, marker, self.rtp_timestamp, payload)

    def event_packet(self, payload_type: int, marker: bool, rtp_timestamp: int, payload: bytes) -> bytes:
        """The datagram of a telephone event, in the place of audio: RFC 4733 section 2.5.1.2.

        It takes the next sequence number and 20 ms of RTP time, but bears the time at which its event began; `catch_up`
        first, as that time may be now.
        """
        return self._build(payload_type, marker, rtp_timestamp, payload)

    def catch_up(self, now: float) -> None:
        """Skip the frames that a stall has made too late."""
        if now - self.due > STALL:
            self.stalls += 1
            self._skip(int((now - self.due) / FRAME_SECONDS))

    def pause(self, now: float) -> None:
        """Let one frame's time pass without a packet."""
        self._skip(max(1, 1 + int((now - self.due) / FRAME_SECONDS)))

    def _build(self, payload_type: int, marker: bool, rtp_timestamp: int, payload: bytes) -> bytes:
        packet = Packet(payload_type, marker, self.sequence, rtp_timestamp, self.ssrc, payload)
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.sent += 1
        self._advance(1)
        return build(packet)

    def _skip(self, frames: int) -> None:
        self._advance(frames)
        self._after_gap = True

    def _advance(self, frames: int) -> None:
        self.rtp_timestamp = (self.rtp_timestamp + frames * FRAME_OCTETS) & 0xFFFFFFFF
        self.due += frames * FRAME_SECONDS
