"""Puts packets back into the order in which they were sent; adds no delay while nothing is missing.

A gap holds the packets behind it until the missing one comes, `DEPTH` packets are waiting, or `PATIENCE` is over.
Sequence arithmetic and the restart rule are those of RFC 3550 appendix A.1.
"""

from __future__ import annotations

from typing import Final

import attrs

from aivc.media.rtp import Packet

DEPTH: Final = 2  # packets held behind a gap: 40 ms at the usual 20 ms
PATIENCE: Final = 0.040  # seconds; a gap before a silence must not swallow the last words
MAX_DROPOUT: Final = 3000  # a jump ahead of fewer packets is loss, RFC 3550 appendix A.1
MAX_MISORDER: Final = 100  # a step back of fewer packets is reordering or a duplicate


@attrs.define
class ReorderBuffer:
    """One source's packets, made contiguous again."""

    lost: int = 0  # packets given up
    late: int = 0  # packets that came after they were given up, or twice
    reordered: int = 0  # packets put back in their place
    restarts: int = 0  # new SSRC, or a sequence that jumped and went on from there
    _ssrc: int = -1
    _expected: int = -1  # sequence number that comes next, -1 before the first packet
    _restart_at: int = -1  # sequence number that would confirm a jump
    _held: dict[int, tuple[Packet, float]] = attrs.field(factory=dict)  # by sequence number, with the time of release

    def push(self, packet: Packet, now: float) -> tuple[Packet, ...]:
        """Take one packet; return those whose turn it is, in order."""
        if packet.sequence == self._expected and not self._held and packet.ssrc == self._ssrc:
            self._expected = (packet.sequence + 1) & 0xFFFF
            return (packet,)
        if packet.ssrc != self._ssrc:
            return self._start_over(packet)
        ahead = (packet.sequence - self._expected) & 0xFFFF
        if ahead < MAX_DROPOUT:
            return self._hold(packet, ahead, now)
        if ahead >= 0x10000 - MAX_MISORDER:
            self.late += 1
            return ()
        if packet.sequence == self._restart_at:
            return self._start_over(packet)
        self._restart_at = (packet.sequence + 1) & 0xFFFF
        self.late += 1
        return ()

    def release(self, now: float) -> tuple[Packet, ...]:
        """Give up on gaps that are older than the patience; return what waited behind them."""
        ready: tuple[Packet, ...] = ()
        while self._held and now >= self._held[self._first_held()][1]:
            ready += self._skip_gap()
        return ready

    @property
    def holding(self) -> bool:
        return bool(self._held)

    def _hold(self, packet: Packet, ahead: int, now: float) -> tuple[Packet, ...]:
        if packet.sequence in self._held:
            self.late += 1
            return ()
        self.reordered += bool(self._held) and ahead < (self._first_held() - self._expected) & 0xFFFF
        self._held[packet.sequence] = (packet, now + PATIENCE)
        ready = self._contiguous()
        while len(self._held) > DEPTH:
            ready += self._skip_gap()
        return ready

    def _contiguous(self) -> tuple[Packet, ...]:
        ready: list[Packet] = []
        while self._expected in self._held:
            ready.append(self._held.pop(self._expected)[0])
            self._expected = (self._expected + 1) & 0xFFFF
        return tuple(ready)

    def _skip_gap(self) -> tuple[Packet, ...]:
        first = self._first_held()
        self.lost += (first - self._expected) & 0xFFFF
        self._expected = first
        return self._contiguous()

    def _first_held(self) -> int:
        return min(self._held, key=lambda sequence: (sequence - self._expected) & 0xFFFF)

    def _start_over(self, packet: Packet) -> tuple[Packet, ...]:
        waiting: tuple[Packet, ...] = ()
        while self._held:
            waiting += self._skip_gap()
        self.restarts += self._expected >= 0
        self._ssrc, self._expected, self._restart_at = packet.ssrc, (packet.sequence + 1) & 0xFFFF, -1
        return (*waiting, packet)
