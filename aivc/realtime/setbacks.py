"""Errors in a row, and the one response that is asked for again after a pause."""

from __future__ import annotations

import math

import attrs

from aivc.realtime.sequencer import ResponseRequest

RETRY_SECONDS = 1.0  # before a failed response is asked for again: the server is busy, the caller waits
ERROR_STORM = 20  # errors in a row with no audio between them: nobody is talking to the caller


@attrs.define
class Setbacks:
    """What went wrong since it last went well."""

    retry_at: float = attrs.field(default=math.inf, init=False)
    _retry: ResponseRequest | None = attrs.field(default=None, init=False)
    _in_a_row: int = attrs.field(default=0, init=False)
    _failed: bool = attrs.field(default=False, init=False)  # the last response failed

    def is_storm(self) -> bool:
        """Count one more error; say whether they are too many."""
        self._in_a_row += 1
        return self._in_a_row >= ERROR_STORM

    def audio_came(self) -> None:
        self._in_a_row = 0

    def response_ended(self, failed: bool) -> None:
        self._failed = failed

    def retry_once(self, request: ResponseRequest, now: float) -> bool:
        """Plan to ask again, unless this was that: what failed twice fails for longer than a caller waits."""
        again = not self._failed
        if again:
            self._retry, self.retry_at = request, now + RETRY_SECONDS
        self._failed = True
        return again

    def take_due(self, now: float) -> ResponseRequest | None:
        """Return the request whose pause is over, once."""
        return self.take() if now >= self.retry_at else None

    def take(self) -> ResponseRequest | None:
        """Return the planned request, if there is one, and forget it."""
        request, self._retry, self.retry_at = self._retry, None, math.inf
        return request
