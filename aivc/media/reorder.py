"""Puts packets back into the order in which they were sent; adds no delay while nothing is missing.

A gap holds the packets behind it until the missing one comes, or until it has waited long enough. How long that is
adapts: it grows at once to twice the displacement that packets really have, and shrinks with every gap that nothing
came to close. Interarrival jitter (RFC 3550 section 6.4.1) alone costs nothing here: what comes in order goes on at
once. Sequence arithmetic and the restart rule are those of RFC 3550 appendix A.1.
"""

from __future__ import annotations

from typing import Final

import attrs

from aivc.media.g711 import OCTETS_PER_MS
from aivc.media.rtp import Packet

LIMIT: Final = 0.040  # seconds; the default of rtp.reorder_ms
STEPS: Final = 8  # gaps in a row that are pure loss take the patience from the limit to nothing
SHORTEST_PACKET_OCTETS: Final = 10 * OCTETS_PER_MS  # events and comfort noise are shorter, and come no more often
REMEMBERED: Final = 16  # packets given up: those of them that come after all tell how long it would have taken
MAX_DROPOUT: Final = 3000  # a jump ahead of fewer packets is loss, RFC 3550 appendix A.1
MAX_MISORDER: Final = 100  # a step back of fewer packets is reordering or a duplicate


@attrs.define
class ReorderBuffer:
    """One source's packets, made contiguous again.

    `RtpStream` takes the case of a packet that just follows the one before out of `push`: `expected` moves on then.

    Args:
      limit: the longest that a packet waits for one before it, seconds; 0: none waits.
    """

    limit: float = LIMIT
    patience: float = attrs.field(init=False)  # how long a packet would wait now, 0 to `limit`, seconds
    lost: int = 0  # packets given up
    late: int = 0  # packets that came after they were given up, or twice
    reordered: int = 0  # packets put back in their place
    restarts: int = 0  # new SSRC, or a sequence that jumped and went on from there
    ssrc: int = -1
    expected: int = -1  # sequence number that comes next, -1 before the first packet
    _restart_at: int = -1  # sequence number that would confirm a jump
    held: dict[int, tuple[Packet, float]] = attrs.field(factory=dict)  # by sequence number, with the time it came
    # Of the packets returned last, those that were held: by sequence number, with the time they came.
    were_held: dict[int, float] = attrs.field(factory=dict)
    _given_up: dict[int, float] = attrs.field(factory=dict)  # sequence number -> when its gap was seen, oldest first

    def __attrs_post_init__(self) -> None:
        self.patience = self.limit  # until there is evidence, the first packets out of order are to be saved

    def push(self, packet: Packet, now: float) -> tuple[Packet, ...]:
        """Take one packet; return those whose turn it is, in order."""
        self.were_held.clear()
        if packet.sequence == self.expected and not self.held and packet.ssrc == self.ssrc:
            self.expected = (packet.sequence + 1) & 0xFFFF
            return (packet,)
        if packet.ssrc != self.ssrc:
            return self._start_over(packet)
        ahead = (packet.sequence - self.expected) & 0xFFFF
        if ahead < MAX_DROPOUT:
            return self._hold(packet, ahead, now)
        if ahead >= 0x10000 - MAX_MISORDER:
            return self._miss(packet, now)
        if packet.sequence == self._restart_at:
            return self._start_over(packet)
        self._restart_at = (packet.sequence + 1) & 0xFFFF
        self.late += 1
        return ()

    def release(self, now: float) -> tuple[Packet, ...]:
        """Give up on gaps that are older than the patience; return what waited behind them."""
        self.were_held.clear()
        return self._release(now)

    def clear(self) -> int:
        """Forget what waits and begin anew with the next packet; the number of packets forgotten."""
        forgotten = len(self.held)
        self.held.clear()
        self._given_up.clear()
        self.ssrc = self.expected = self._restart_at = -1
        return forgotten

    @property
    def holding(self) -> bool:
        return bool(self.held)

    def _release(self, now: float) -> tuple[Packet, ...]:
        ready: tuple[Packet, ...] = ()
        while self.held and now >= self.held[self._first_held()][1] + self.patience:
            ready += self._skip_gap()
        return ready

    def _hold(self, packet: Packet, ahead: int, now: float) -> tuple[Packet, ...]:
        if packet.sequence in self.held:
            self.late += 1
            return ()
        if self.held and ahead < (self._first_held() - self.expected) & 0xFFFF:
            self.reordered += 1
            self._displaced(now - min(at for _, at in self.held.values()))
        self.held[packet.sequence] = (packet, now)
        ready = self._contiguous()
        depth = self._depth(packet)
        while len(self.held) > depth:
            ready += self._skip_gap()
        return (ready + self._release(now)) if self.held else ready

    def _miss(self, packet: Packet, now: float) -> tuple[Packet, ...]:
        """It is too late for this packet; the next like it might be waited for."""
        self.late += 1
        seen_at = self._given_up.pop(packet.sequence, None)
        if seen_at is not None:
            self._displaced(now - seen_at)
        return ()

    def _displaced(self, seconds: float) -> None:
        """A packet came so long after one that was sent later."""
        self.patience = min(self.limit, max(self.patience + self.limit / STEPS, 2 * seconds))

    def _depth(self, packet: Packet) -> int:
        """Packets that may wait: as many as fill the limit, but one, however long it is."""
        octets = round(self.limit * 1000) * OCTETS_PER_MS
        return max(1, octets // max(len(packet.payload), SHORTEST_PACKET_OCTETS)) if octets else 0

    def _contiguous(self) -> tuple[Packet, ...]:
        ready: list[Packet] = []
        while self.expected in self.held:
            packet, self.were_held[self.expected] = self.held.pop(self.expected)
            ready.append(packet)
            self.expected = (self.expected + 1) & 0xFFFF
        return tuple(ready)

    def _skip_gap(self) -> tuple[Packet, ...]:
        first = self._first_held()
        missing, seen_at = (first - self.expected) & 0xFFFF, self.held[first][1]
        self.lost += missing
        self.patience = max(0.0, self.patience - self.limit / STEPS)
        for back in range(min(missing, REMEMBERED), 0, -1):
            self._given_up[(first - back) & 0xFFFF] = seen_at
        while len(self._given_up) > REMEMBERED:
            del self._given_up[next(iter(self._given_up))]
        self.expected = first
        return self._contiguous()

    def _first_held(self) -> int:
        return min(self.held, key=lambda sequence: (sequence - self.expected) & 0xFFFF)

    def _start_over(self, packet: Packet) -> tuple[Packet, ...]:
        waiting: tuple[Packet, ...] = ()
        while self.held:
            waiting += self._skip_gap()
        self.restarts += self.expected >= 0
        self._given_up.clear()
        self.ssrc, self.expected, self._restart_at = packet.ssrc, (packet.sequence + 1) & 0xFFFF, -1
        return (*waiting, packet)
