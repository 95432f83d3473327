"""The keys that a caller presses, collected to entries for the model. Without I/O: its owner keeps the deadline."""

from __future__ import annotations

from math import inf
from typing import Final, Literal

import attrs

from aivc.config.settings import DtmfSettings
from aivc.nursery.record import DigitEntry

LONGEST_ENTRY: Final = 64  # keys; a card number has 19

Source = Literal["rtp", "info"]


@attrs.define(eq=False)
class Entries:
    """An entry ends with a key of `dtmf.finish`, which is not told, with a pause, or by its length.

    Attributes:
      deadline: when `expire` is wanted, on the caller's clock; infinity while no entry is begun.
    """

    dtmf: DtmfSettings = attrs.field(factory=DtmfSettings)
    deadline: float = attrs.field(default=inf, init=False)
    _keys: str = attrs.field(default="", init=False)
    _began_at: float = attrs.field(default=0.0, init=False)
    _source: Source = attrs.field(default="rtp", init=False)

    @property
    def is_begun(self) -> bool:
        return bool(self._keys)

    def press(self, digit: str, source: Source, now: float) -> DigitEntry | None:
        """Take a key; returns the entry that it completes. A finishing key alone is an entry, too."""
        if not self._keys:
            self._began_at, self._source = now, source
        finishes = digit in self.dtmf.finish
        if not finishes or not self._keys:
            self._keys += digit
        if finishes or len(self._keys) == LONGEST_ENTRY:
            return self._complete()
        self.deadline = now + self.dtmf.pause_seconds
        return None

    def expire(self, now: float) -> DigitEntry | None:
        """The entry that a pause has completed."""
        return self._complete() if now >= self.deadline else None

    def _complete(self) -> DigitEntry:
        keys, self._keys, self.deadline = self._keys, "", inf
        return DigitEntry(keys, self._began_at, self._source)
