"""How many calls a second are taken: a bucket that fills evenly and holds one second's worth."""

from __future__ import annotations

import attrs


@attrs.define
class TokenBucket:
    """One token for each call; pure: the caller tells the time.

    Args:
      per_second: how fast it fills; 0: it is never empty.
    """

    per_second: float
    _tokens: float = attrs.field(init=False)
    _at: float | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._tokens = self.most

    @property
    def most(self) -> float:
        """What it holds: a burst of one second, at least one call."""
        return max(1.0, self.per_second)

    def take(self, now: float) -> bool:
        """Take a token; False when there is none."""
        if not self.per_second:
            return True
        passed = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at, self._tokens = now, min(self.most, self._tokens + passed * self.per_second)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
