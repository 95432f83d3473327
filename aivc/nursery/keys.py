"""The keys of a caller on their way from the telephone, which may tell of each twice, to whoever collects them."""

from __future__ import annotations

from typing import Final

import attrs
import trio

from aivc.nursery.entries import Source
from aivc.nursery.ground import Progress

KEYS: Final = 64  # at once, as from a telephone's memory; also those that wait for the model
ECHO: Final = 0.5  # seconds by which the RTP packets of a key may follow its INFO, from telephones that send both
KEYS_PER_SECOND: Final = 5.0  # in the long run: each may be an entry, and each entry's answer costs money


@attrs.define(eq=False)
class Keypad:
    """Takes the keys of one call, and drops those that nobody can press so fast. Others wait until there is a model."""

    progress: Progress
    waiting: list[tuple[str, Source]] = attrs.field(factory=list, init=False)
    _allowed: float = float(KEYS)  # keys, at `_since`
    _since: float = 0.0
    _told: str = ""  # the last key that INFO told, at `_told_at`
    _told_at: float = 0.0

    def press(self, digit: str, source: Source) -> None:
        """Note a key."""
        now = trio.current_time()
        if self._is_echo(digit, source, now):
            return
        self._allowed = min(KEYS, self._allowed + (now - self._since) * KEYS_PER_SECOND)
        self._since = now
        if self._allowed < 1 or len(self.waiting) == KEYS:
            self.progress.turns.dropped_keys += 1
            return
        self._allowed -= 1
        self.waiting.append((digit, source))
        self.pass_on()

    def pass_on(self) -> None:
        """Give the model's side what waits for it, once there is one."""
        while self.waiting and self.progress.performer is not None:
            self.progress.performer.press(*self.waiting.pop(0))

    def _is_echo(self, digit: str, source: Source, now: float) -> bool:
        """Whether this is the key that INFO told of a moment ago. The other order is seen by who takes INFO."""
        if source == "info":
            self._told, self._told_at = digit, now
            return False
        echo = digit == self._told and now - self._told_at < ECHO
        self._told = ""
        return echo
