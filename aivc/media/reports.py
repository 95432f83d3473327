"""How well RTP arrives, both ways: what our RTCP reports say, and what the peer's say of our stream.

Loss by RFC 3550 appendix A.3, jitter by A.8, sequence numbers by A.1, round trip by section 6.4.1.
"""

from __future__ import annotations

from typing import Final

import attrs

from aivc.media.g711 import OCTETS_PER_MS
from aivc.media.reorder import MAX_DROPOUT, MAX_MISORDER
from aivc.media.rtcp import Description, Goodbye, ReceiverReport, ReportBlock, Rtcp, SenderReport

CLOCK_HZ: Final = 1000 * OCTETS_PER_MS  # of RTP timestamps
ANOTHER_CLOCK: Final = CLOCK_HZ  # timestamp units: a packet so much early or late is a jump of the clock, no jitter
NTP_EPOCH: Final = 2_208_988_800  # seconds from 1900 to 1970
LONGEST_ROUND_TRIP: Final = 60.0  # seconds; more is a report about another call's SR, or a lie


@attrs.define
class Reception:
    """The packets of a call as they came, of one source at a time.

    The fields up to `jitter` are written by `RtpStream` itself: `received` for each packet, the others for each that is
    in order; what is not goes through `update`.
    """

    received: int = 0  # packets of the call
    ssrc: int = -1  # of the present source; -1: nothing came yet
    highest: int = 0  # sequence number
    cycles: int = 0  # 65536 for each wrap of it
    transit: float = 0.0  # arrival less timestamp of the newest packet, timestamp units
    jitter: float = 0.0  # timestamp units
    _first: int = 0  # sequence number
    _received_before: int = 0  # packets of the call before the first of this source
    _expected_before: int = 0  # of earlier sources
    _restart_at: int = -1
    _expected_prior: int = 0  # when the last report was made
    _received_prior: int = 0

    def update(self, sequence: int, ssrc: int, anew: bool = False) -> None:
        """A packet that does not just follow the one before, and is counted already.

        Args:
          anew: order begins with it, whatever came before, as after a hold: a jump needs no second packet then.
        """
        ahead = (sequence - self.highest) & 0xFFFF
        is_jump = MAX_DROPOUT <= ahead < 0x10000 - MAX_MISORDER
        if ssrc != self.ssrc or sequence == self._restart_at or (anew and is_jump):
            self._begin(sequence, ssrc)
        elif ahead < MAX_DROPOUT:
            self.cycles += 0x10000 if sequence < self.highest else 0
            self.highest, self._restart_at = sequence, -1
        elif is_jump:
            self._restart_at = (sequence + 1) & 0xFFFF

    def _begin(self, sequence: int, ssrc: int) -> None:
        # A restart is confirmed by its second packet: the first was received, but is not expected any more.
        self._expected_before += self.expected
        self.ssrc, self._first, self.highest, self.cycles, self._restart_at = ssrc, sequence, sequence, 0, -1
        self._received_before, self._expected_prior, self._received_prior = self.received - 1, 0, 0
        self.jitter = 0.0

    @property
    def expected(self) -> int:
        """Packets that this source has sent, as far as its sequence numbers tell."""
        return self.cycles + self.highest - self._first + 1 if self.ssrc >= 0 else 0

    def total_expected(self) -> int:
        """Those of all sources of the call."""
        return self._expected_before + self.expected

    def block(self, last_sr: int, delay_since_last_sr: int) -> ReportBlock:
        """What there is to report; the fraction is that since the call before of this method.

        Args:
          last_sr, delay_since_last_sr: as in the block.
        """
        expected, came = self.expected, self.received - self._received_before
        expected_now, came_now = expected - self._expected_prior, came - self._received_prior
        self._expected_prior, self._received_prior = expected, came
        fraction = max(0, (expected_now - came_now) * 256 // expected_now) if expected_now > 0 else 0
        return ReportBlock(
            self.ssrc, fraction, expected - came, self.cycles | self.highest, int(self.jitter), last_sr,
            delay_since_last_sr,
        )  # fmt: skip


@attrs.frozen
class Quality:
    """How a call's RTP fared, both ways, at one moment."""

    jitter_ms: float  # of the caller's packets, interarrival jitter of RFC 3550
    lost: int  # of the caller's packets, never came; cumulative
    lost_fraction: float  # of all that the caller sent, 0 to 1
    round_trip_ms: float | None  # None: the peer's reports never told
    remote_jitter_ms: float | None  # of our packets, as the peer reports; None: it never did
    remote_lost: int | None
    remote_lost_fraction: float | None  # since the peer's report before its last, 0 to 1
    reports_sent: int
    reports_received: int
    reports_ignored: int  # malformed, from strangers, or too many


@attrs.define
class Reports:
    """The RTCP of one call: makes our compounds and reads the peer's.

    Args:
      ssrc: of our stream.
      cname: ours, RFC 7022; the same for the whole call.
      wall_offset: seconds since 1970 at 0 s of the clock that `now` is of.
    """

    ssrc: int
    cname: str
    wall_offset: float
    sent: int = 0
    received: int = 0
    round_trip: float | None = None  # seconds, newest
    remote: ReportBlock | None = None  # the newest of the peer's about our stream
    peer_left: bool = False  # it said BYE; only SIP ends a call
    _last_sr: int = 0  # the middle of the NTP timestamp of the peer's newest SR
    _last_sr_at: float = 0.0  # when it came, seconds

    def compound(
        self, reception: Reception, sender: tuple[int, int, int] | None, now: float, goodbye: bool
    ) -> tuple[Rtcp, ...]:
        """What is to be sent now.

        Args:
          reception: of the caller's stream; a block is made when something came.
          sender: RTP timestamp of this moment, packets and octets of payload sent; None: nothing was sent since the
            report before.
          goodbye: this is our last.
        """
        self.sent += 1
        delay = min(0xFFFFFFFF, max(0, int((now - self._last_sr_at) * 65536))) if self._last_sr else 0
        blocks = (reception.block(self._last_sr, delay),) if reception.ssrc >= 0 else ()
        report = ReceiverReport(self.ssrc, blocks)
        first = report if sender is None else SenderReport(self.ssrc, self.ntp(now), *sender, blocks)
        last = (Goodbye((self.ssrc,)),) if goodbye else ()
        return (first, Description(self.ssrc, self.cname), *last)

    def take(self, packets: tuple[Rtcp, ...], now: float) -> None:
        """Learn from a compound of the peer's."""
        self.received += 1
        for packet in packets:
            match packet:
                case SenderReport():
                    self._last_sr, self._last_sr_at = packet.ntp >> 16 & 0xFFFFFFFF, now
                    self._learn(packet.blocks, now)
                case ReceiverReport():
                    self._learn(packet.blocks, now)
                case Goodbye():
                    self.peer_left = True
                case Description():
                    pass  # who it is was told by SIP

    def ntp(self, now: float) -> int:
        """The NTP timestamp of a moment, 64 bits."""
        return int((self.wall_offset + now + NTP_EPOCH) * 2**32) & 0xFFFFFFFFFFFFFFFF

    def quality(self, reception: Reception, ignored: int) -> Quality:
        """All that is known; `ignored` counts the compounds not read."""
        expected, remote = reception.total_expected(), self.remote
        lost = max(0, expected - reception.received)
        return Quality(
            round(reception.jitter / OCTETS_PER_MS, 2),
            lost,
            round(lost / expected, 4) if expected else 0.0,
            None if self.round_trip is None else round(1000 * self.round_trip, 2),
            None if remote is None else round(remote.jitter / OCTETS_PER_MS, 2),
            None if remote is None else remote.lost,
            None if remote is None else round(remote.fraction_lost / 256, 4),
            self.sent,
            self.received,
            ignored,
        )

    def _learn(self, blocks: tuple[ReportBlock, ...], now: float) -> None:
        for block in blocks:
            if block.ssrc == self.ssrc:
                self.remote = block
                if block.last_sr:
                    self._measure(block, now)

    def _measure(self, block: ReportBlock, now: float) -> None:
        way = ((self.ntp(now) >> 16) - block.last_sr - block.delay_since_last_sr) & 0xFFFFFFFF
        if way >= 0xFFFF0000:  # less than nothing: the peer's delay is rounded up, or its clock a little fast
            way = 0
        if way <= LONGEST_ROUND_TRIP * 65536:
            self.round_trip = way / 65536
