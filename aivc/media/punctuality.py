"""How late packets leave: a clock notes it with each of its beats, and the last seconds tell how that sounds."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

RESOLUTION: Final = 10_000  # a second: lateness is kept in steps of 0.1 ms, rounded down
SECONDS: Final = 5  # that are remembered
LEAST: Final = 250  # packets in a second, those of five calls, to tell a late hundredth of them from bad luck
LATE_SECONDS: Final = 3  # of the five: one hiccup of the machine is over before anybody could be sent elsewhere
GOOD_AGAIN: Final = 0.5  # of the limit, for all five seconds: what has just become good stays so with one call more


@attrs.define(eq=False)
class Punctuality:
    """The lateness of all packets of a process during the last five seconds and the current one.

    Where the clock of the tests is not the machine's nothing is ever late.
    """

    _current: dict[int, float] = attrs.field(factory=dict)  # packets by lateness
    _ends: float = 0.0  # the current second, on trio's clock
    _past: deque[Mapping[int, float]] = attrs.field(factory=lambda: deque(maxlen=SECONDS))

    def note(self, late: float, packets: float, now: float) -> None:
        """So many packets left `late` seconds after they were due; called 200 times a second."""
        if now >= self._ends:
            self._turn(now)
        step = int(late * RESOLUTION)
        self._current[step] = self._current.get(step, 0.0) + packets

    def percentile(self, share: float, now: float) -> float | None:
        """What this share of the packets, from 0 to 1, was late at most, in seconds; None: no packet left lately."""
        if now >= self._ends:
            self._turn(now)
        together: dict[int, float] = defaultdict(float)
        for second in (*self._past, self._current):
            for step, packets in second.items():
                together[step] += packets
        return percentile(together, share)

    def seconds(self, now: float) -> Sequence[float | None]:
        """The p99 of each of the last five whole seconds; None: too few packets left to say."""
        if now >= self._ends:
            self._turn(now)
        return [percentile(second, 0.99) if sum(second.values()) >= LEAST else None for second in self._past]

    def forget(self) -> None:
        """As if no packet had left."""
        self._past.clear()
        self._current = {}

    def _turn(self, now: float) -> None:
        passed = int(now - self._ends) + 1
        for _ in range(min(passed, SECONDS + 1)):
            self._past.append(self._current)
            self._current = {}
        self._ends += passed


def percentile(packets: Mapping[int, float], share: float) -> float | None:
    """The least lateness, in seconds, that `share` of the packets kept; None without any."""
    wanted, found = sum(packets.values()) * share, 0.0
    if not wanted:
        return None
    for step in sorted(packets):
        found += packets[step]
        if found >= wanted - 1e-9:
            return step / RESOLUTION
    return None


@attrs.define
class PacingLimit:
    """Whether packets leave in time often enough that one call more may be taken; judged once a second.

    Args:
      limit: for the p99 of a second, in seconds; 0: it is always good enough.
    """

    limit: float
    exceeded: bool = False

    def judge(self, seconds: Sequence[float | None]) -> bool:
        """Decide by `Punctuality.seconds`; True when the decision is another than before."""
        before = self.exceeded
        known = [second for second in seconds if second is not None]
        if not self.limit:
            self.exceeded = False
        elif before:
            self.exceeded = any(second > self.limit * GOOD_AGAIN for second in known)
        else:
            self.exceeded = sum(second > self.limit for second in known) >= LATE_SECONDS
        return self.exceeded is not before
