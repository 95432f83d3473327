"""How loud refusals are logged: whoever floods us must not fill the log."""

from __future__ import annotations

import logging
from typing import Final

import attrs

from aivc.sip.sources import Bucket

LOG_SECONDS: Final = 1.0  # a flood is logged so often; the rest of it only for who looks for it
LOG_BURST: Final = 20.0  # lines of one kind that are logged at once


@attrs.define
class LogPace:
    """The lines that are left, by kind; there must be few kinds."""

    _left: dict[int | str, Bucket] = attrs.field(factory=dict, init=False)

    def level_of(self, kind: int | str, now: float, level: int = logging.INFO) -> int:
        """At which to log one more: `level` or DEBUG.

        Args:
          kind: the status of a refusal, or what the line is named.
        """
        bucket = self._left.setdefault(kind, Bucket(LOG_BURST, 0, now))
        return level if bucket.take(1 / LOG_SECONDS, LOG_BURST, now) else logging.DEBUG
