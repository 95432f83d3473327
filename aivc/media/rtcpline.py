"""One call's RTCP: whose is read, and where ours goes; reporting.py has the task that does both.

The caution of RTP's latch holds here, too. RTCP is read from the IP address that RTP is locked to, or while it is not,
from where the caller may be. Ours goes to the port that RTCP comes from (RFC 4961), before that to the one of the SDP
(RFC 3605) or the one above RTP's; to RTP's own when both share one (RFC 5761). Behind a NAT the port above may be
anybody's: there ours waits for theirs.
"""

from __future__ import annotations

from typing import Final

import attrs
import trio

from aivc.config.settings import Address
from aivc.media.latching import Latch, bare, canonical, takes_media
from aivc.media.pacer import Pacer
from aivc.media.reports import Quality, Reception, Reports
from aivc.media.rtcp import BadRtcp, build, parse_untrusted

MOST_A_SECOND: Final = 20  # compounds read; a telephone sends one in 5 s
FLOOD: Final = 100  # datagrams from anybody in a second: after so many the port is left alone for a while
SECOND: Final = 1.0


@attrs.define(eq=False)
class RtcpLine:
    """Decides what RTCP is read, and where ours goes.

    Args:
      reports: what is said.
      socket: on the odd port, owned by whoever opened it; None: RTCP only comes on the RTP port, if at all.
      mux: RTCP on the RTP port, both ways.
      described: from `a=rtcp`; None: the port above RTP's.
    """

    reports: Reports
    socket: trio.socket.SocketType | None = None
    mux: bool = False
    described: Address | None = None
    last_received: float = 0.0  # seconds; 0: nothing came yet
    ignored: int = 0  # malformed, from strangers, or too many
    unsent: int = 0  # that the system refused
    _heard_from: Address | None = attrs.field(init=False, default=None)  # where the pinned caller's RTCP comes from
    _counted_until: float = attrs.field(init=False, default=0.0)  # end of the second that `_admitted` is of
    _came: int = attrs.field(init=False, default=0)  # datagrams, from anybody
    _admitted: int = attrs.field(init=False, default=0)
    _sent_before: int = attrs.field(init=False, default=0)  # RTP packets at our last report

    def describe(self, described: Address | None, mux: bool) -> None:
        """A re-INVITE has said where RTCP goes."""
        self.mux, self.described, self._heard_from = mux, described and canonical(described), None

    def admits(self, latch: Latch, source: Address, now: float) -> bool:
        """Whether a datagram from there is to be read; counts it if not."""
        if now >= self._counted_until:
            self._counted_until, self._came, self._admitted = now + SECOND, 0, 0
        self._came += 1
        if self._admitted >= MOST_A_SECOND or not self._is_callers(latch, source):
            self.ignored += 1
            return False
        self._admitted += 1
        return True

    @property
    def is_flooded(self) -> bool:
        """Whether far more has come in this second than telephones send."""
        return self._came >= FLOOD

    def received(self, datagram: bytes, source: Address, now: float) -> None:
        """Read a compound that `admits` let in, deciphered."""
        try:
            packets = parse_untrusted(datagram)
        except BadRtcp:
            self.ignored += 1
            return
        self.last_received, self._heard_from = now, source
        self.reports.take(packets, now)

    def destination(self, latch: Latch, is_trusted: bool) -> Address | None:
        """Where a compound of ours goes now; None: nowhere."""
        to = latch.remote if self.mux else self._told(latch, is_trusted)
        return to if to is not None and takes_media(to) and not latch.nowhere else None

    def _told(self, latch: Latch, is_trusted: bool) -> Address | None:
        """Where the caller's RTCP comes from, or what its SDP says: another host only if it may be trusted.

        None when RTP comes from another port than the SDP says: it is a NAT's, and the next one may be another host's.
        """
        if self._heard_from is not None and latch.pinned is not None and self._heard_from[0] == latch.pinned[0]:
            return self._heard_from
        if self.described is not None and (self.described[0] == latch.remote[0] or is_trusted):
            return self.described
        ip, port = latch.remote
        return (ip, port + 1) if latch.pinned in (None, latch.described) else None

    def _is_callers(self, latch: Latch, source: Address) -> bool:
        if self.mux and latch.pinned is not None:
            return source == latch.pinned
        if latch.pinned is not None:
            return source[0] == latch.pinned[0] or source == self.described
        return latch.may_stand_in(bare(source[0])) or source == self.described

    def compound(self, pacer: Pacer, reception: Reception, now: float, goodbye: bool) -> bytes:
        """The datagram to send."""
        sent, self._sent_before = pacer.sent > self._sent_before, pacer.sent
        sender = (pacer.timestamp_at(now), *pacer.sender_counts) if sent else None
        return build(self.reports.compound(reception, sender, now, goodbye))

    def quality(self, reception: Reception) -> Quality:
        """What both sides have reported."""
        return self.reports.quality(reception, self.ignored)
