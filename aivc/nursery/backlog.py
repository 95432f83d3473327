"""What is to be done in its order, by a task that is there only while something waits.

A memory channel, and a task that waits at its other end, take 4 KiB: a call with ten of them is a third of its memory.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, TypeVar

import attrs
import trio

from aivc.nursery.blocks import AtEnd

Item = TypeVar("Item")


@attrs.define(eq=False)
class Backlog(Generic[Item]):
    """Takes what is to be done at any time; it is done while a block of `done_by` runs.

    Args:
      most: what may wait.
    """

    most: int
    waiting: list[Item] = attrs.field(factory=list, init=False)
    _begin: Callable[[], None] | None = attrs.field(default=None, init=False)
    _is_busy: bool = attrs.field(default=False, init=False)

    def send_nowait(self, item: Item) -> None:
        """Have it done after the others. Raises trio.WouldBlock when too many wait already."""
        if len(self.waiting) >= self.most:
            raise trio.WouldBlock
        self.waiting.append(item)
        self._go_on()

    def done_by(self, work: Callable[[Item], Awaitable[None]], nursery: trio.Nursery) -> AtEnd:
        """While the block runs, `work` does one after the other, in `nursery`."""
        self._begin = partial(nursery.start_soon, self._do_all, work)
        self._go_on()
        return AtEnd(self._stop)

    def _stop(self) -> None:
        self._begin, self._is_busy = None, False

    def _go_on(self) -> None:
        if self.waiting and self._begin is not None and not self._is_busy:
            self._is_busy = True
            self._begin()

    async def _do_all(self, work: Callable[[Item], Awaitable[None]]) -> None:
        while self.waiting:
            await work(self.waiting.pop(0))
        self._is_busy = False
