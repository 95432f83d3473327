"""Whether calls sound as they should: none are added while packets leave late, and code that blocks is named."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import attrs
import trio

from aivc import logs
from aivc.config.service import ServiceSettings
from aivc.media.clock import MediaClock
from aivc.media.punctuality import PacingLimit, Punctuality
from aivc.nursery.stalls import StallWatch, watched_stalls

log = logging.getLogger("aivc.service")

LOOK: Final = 1.0  # seconds between two looks at the packets' lateness while there are calls
HINT: Final = (
    "lower service.max_calls, raise service.workers, or give this process a core of its own;"
    " loop.stalled in the log names code that blocks; service.max_pacing_ms = 0 takes calls all the same"
)


@attrs.define(eq=False)
class Pacing:
    """The pacing of one process's calls.

    Args:
      punctuality: what its clock notes.
      max_pacing_ms, stall_ms: as in `service`; 0: never, nothing.
    """

    punctuality: Punctuality = attrs.field(factory=Punctuality)
    max_pacing_ms: float = 0.0
    stall_ms: float = 0.0
    stalls: StallWatch | None = attrs.field(default=None, init=False)  # while `watch` runs
    _limit: PacingLimit = attrs.field(init=False)
    _called: trio.Event = attrs.field(factory=trio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self._limit = PacingLimit(self.max_pacing_ms / 1000)

    @property
    def is_late(self) -> bool:
        """Whether a new call would sound bad, and those in progress worse."""
        return self._limit.exceeded

    @property
    def cause(self) -> str:
        """Why no call is taken while `is_late`."""
        return f"packets leave late: service.max_pacing_ms = {self.max_pacing_ms:g} is exceeded"

    def figures(self) -> dict[str, Any]:
        """By the names of `aivc.nursery.status.Status`."""
        p99 = milliseconds(self.punctuality.percentile(0.99, trio.current_time()))
        return {"pacing_p99_ms": p99, "stalls": 0 if self.stalls is None else self.stalls.stalls}

    def call_began(self) -> None:
        self._called.set()

    async def watch(self, calls: Callable[[], int], changed: Callable[[], None]) -> None:
        """Look once a second while there are calls.

        Args:
          calls: how many are in progress.
          changed: told when `is_late` is another than before.
        """
        with watched_stalls(self.stall_ms) as self.stalls:
            while True:
                await self._called.wait()
                while calls():
                    await trio.sleep(LOOK)
                    self._judge(changed)
                self._called = trio.Event()
                self.punctuality.forget()  # with nobody left nothing is late
                self._judge(changed)

    def _judge(self, changed: Callable[[], None]) -> None:
        now = trio.current_time()
        if self._limit.judge(self.punctuality.seconds(now)):
            self._tell(now)
            changed()

    def _tell(self, now: float) -> None:
        p99, worst = (milliseconds(self.punctuality.percentile(share, now)) for share in (0.99, 1.0))
        if self.is_late:
            tell, level, hint = "pacing.late", logging.WARNING, HINT
        else:
            tell, level, hint = "pacing.good", logging.INFO, None
        logs.event(log, tell, level=level, p99_ms=p99, worst_ms=worst, max_pacing_ms=self.max_pacing_ms, hint=hint)


def pacing_of(settings: ServiceSettings, clock: MediaClock, is_ours: bool) -> Pacing:
    """What a service watches: who brings a clock of their own has time, and the loop, in their own hands."""
    return Pacing(clock.punctuality, settings.max_pacing_ms, settings.stall_ms if is_ours else 0.0)


def milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 1)
