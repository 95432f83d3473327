"""What goes out and when: sequence, timestamp, marker and due time of each packet; RFC 3550, RFC 3551 section 4.1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from aivc.media.g711 import FRAME_MS, FRAME_OCTETS, FRAME_SECONDS, OCTETS_PER_MS
from aivc.media.rtp import HEADER, VERSION_2

STALL: Final = 0.060  # seconds late; beyond it missed frames are skipped, a burst would only fill the phone's buffer
PTIMES_MS: Final = range(10, 61, 10)  # lengths of the packets that leave
MARKER: Final = 0x80
pack_header: Final = HEADER.pack


@attrs.define
class Pacer:
    """One outgoing RTP stream on absolute deadlines, so that lateness never accumulates.

    Args:
      payload_type, ssrc: of every packet.
      sequence, rtp_timestamp: of the first packet; random, RFC 3550 section 5.1.
      due: when the first packet is to leave, seconds.
      ptime_ms: length of the packets, 10 to 60, a multiple of 10.
      protect: SRTP of a packet; None: it leaves in the clear.
    """

    payload_type: int
    ssrc: int
    sequence: int
    rtp_timestamp: int
    due: float
    ptime_ms: int = FRAME_MS
    protect: Callable[[bytes], bytes] | None = None
    sent: int = 0
    stalls: int = 0  # times that frames were skipped
    frame_octets: int = attrs.field(init=False, default=FRAME_OCTETS)  # and timestamp units
    frame_seconds: float = attrs.field(init=False, default=FRAME_SECONDS)
    _after_gap: bool = True
    _extra_octets: int = 0  # of payload, beyond those that as many packets of the present length have; may be negative
    _sent_before: int = 0  # under earlier SSRCs
    _octets_before: int = 0

    def __attrs_post_init__(self) -> None:
        self.repace(self.ptime_ms)

    def repace(self, ptime_ms: int) -> None:
        """Make packets of another length from now on. Raises ValueError for one that is not of `PTIMES_MS`."""
        if ptime_ms not in PTIMES_MS:
            raise ValueError(f"packets of {ptime_ms} ms: 10 to 60 ms in steps of 10 can be sent")
        self._extra_octets += self.sent * (self.frame_octets - ptime_ms * OCTETS_PER_MS)
        self.ptime_ms, self.frame_octets, self.frame_seconds = ptime_ms, ptime_ms * OCTETS_PER_MS, ptime_ms / 1000

    def begin_anew(self, ssrc: int, sequence: int) -> None:
        """Go on as another stream, at the same pace."""
        self.ssrc, self.sequence, self._after_gap = ssrc, sequence, True
        self._sent_before, self._octets_before = self.sent, self.sent_octets

    @property
    def sent_octets(self) -> int:
        """Octets of payload; not counted packet by packet, as those of audio all have their length."""
        return self.sent * self.frame_octets + self._extra_octets

    @property
    def sender_counts(self) -> tuple[int, int]:
        """Packets and octets of payload sent with this SSRC, RFC 3550 section 6.4.1."""
        return self.sent - self._sent_before, self.sent_octets - self._octets_before

    def packet(self, payload: bytes, now: float, event: tuple[int, int] | None = None) -> bytes:
        """The datagram that leaves now; moves on to the next due time.

        The marker is set only after a gap in transmission: RFC 3551 section 4.1 forbids it elsewhere to who sends
        silence without suppression, as we do.

        Args:
          payload: a whole frame of audio.
          event: payload type with its marker, and RTP timestamp, of what is no audio: see `event_packet`.
        """
        if now - self.due > STALL:
            self.catch_up(now)
        kind, rtp_timestamp, sequence = self.payload_type, self.rtp_timestamp, self.sequence
        self.sequence = (sequence + 1) & 0xFFFF
        self.sent += 1
        self.rtp_timestamp = (rtp_timestamp + self.frame_octets) & 0xFFFFFFFF
        self.due += self.frame_seconds
        if event is not None:
            kind, rtp_timestamp = event
        elif self._after_gap:
            kind, self._after_gap = kind | MARKER, False
        # the inside of rtp.build, without a Packet made for it: 50 times a second and call
        datagram = pack_header(VERSION_2, kind, sequence, rtp_timestamp, self.ssrc) + payload
        return datagram if self.protect is None else self.protect(datagram)

    def event_packet(self, payload_type: int, marker: bool, rtp_timestamp: int, payload: bytes) -> bytes:
        """The datagram of a telephone event, in the place of audio: RFC 4733 section 2.5.1.2.

        It takes the next sequence number and one frame of RTP time, but bears the time at which its event began;
        `catch_up` first, as that time may be now.
        """
        self._extra_octets += len(payload) - self.frame_octets
        return self.packet(payload, self.due, (payload_type | MARKER if marker else payload_type, rtp_timestamp))

    def catch_up(self, now: float) -> None:
        """Skip the frames that a stall has made too late."""
        if now - self.due > STALL:
            self.stalls += 1
            self._skip(int((now - self.due) / self.frame_seconds))

    def pause(self, now: float) -> None:
        """Let one frame's time pass without a packet."""
        self._skip(max(1, 1 + int((now - self.due) / self.frame_seconds)))

    def timestamp_at(self, now: float) -> int:
        """The RTP timestamp of a moment, for a sender report (RFC 3550 section 6.4.1)."""
        return (self.rtp_timestamp + round((now - self.due) * 1000 * OCTETS_PER_MS)) & 0xFFFFFFFF

    def _skip(self, frames: int) -> None:
        self.rtp_timestamp = (self.rtp_timestamp + frames * self.frame_octets) & 0xFFFFFFFF
        self.due += frames * self.frame_seconds
        self._after_gap = True
