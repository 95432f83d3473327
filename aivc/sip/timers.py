"""Every timer of the user agent in one task: whoever has a `deadline` is told when it has come."""

from __future__ import annotations

import heapq
import logging
from math import inf
from typing import Protocol

import attrs
import trio

from aivc import logs

log = logging.getLogger("aivc.sip")


class Timed(Protocol):
    """Hashable by identity."""

    @property
    def deadline(self) -> float:
        """When `expire` is wanted next, trio's clock; inf = not at all."""

    def expire(self, now: float) -> None: ...


@attrs.define(eq=False)
class Timers:
    """A heap of due times. Call `watch` after anything that may have moved a deadline forward."""

    _heap: list[tuple[float, int]] = attrs.field(factory=list, init=False)  # due time and serial number
    _items: dict[int, Timed] = attrs.field(factory=dict, init=False)  # by the serial numbers that count
    _entries: dict[Timed, tuple[float, int]] = attrs.field(factory=dict, init=False)  # where each is in the heap
    _serial: int = attrs.field(default=0, init=False)  # ties fire in the order of watching
    _earlier: trio.Event = attrs.field(factory=trio.Event, init=False)

    def watch(self, item: Timed) -> None:
        """Make sure that `item` is told in time; a deadline that only moved back needs no call.

        One without a deadline is let go: call it for what is over, and would be kept until its old deadline otherwise.
        """
        due, (before, serial) = item.deadline, self._entries.get(item, (inf, 0))
        if before <= due < inf:
            return
        self._items.pop(serial, None)
        if due == inf:
            self._entries.pop(item, None)
            return
        if not self._heap or due < self._heap[0][0]:
            self._earlier.set()
        self._serial += 1
        self._items[self._serial], self._entries[item] = item, (due, self._serial)
        heapq.heappush(self._heap, (due, self._serial))

    async def run(self) -> None:
        """Fire timers until cancelled."""
        while True:
            with trio.move_on_at(self._heap[0][0] if self._heap else inf):
                await self._earlier.wait()
            self._earlier = trio.Event()
            self.expire(trio.current_time())

    def expire(self, now: float) -> None:
        """Tell everyone whose time has come."""
        while self._heap and self._heap[0][0] <= now:
            item = self._items.pop(heapq.heappop(self._heap)[1], None)
            if item is not None:
                del self._entries[item]
                try:
                    item.expire(now)
                    self.watch(item)
                except Exception as error:  # a bug of ours may cost one transaction or leg, never all timers
                    logs.event(log, "sip.bug", level=logging.ERROR, exc_info=error)
