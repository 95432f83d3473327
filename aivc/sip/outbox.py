"""What waits to be sent on one socket."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import attrs
import trio

Item = TypeVar("Item")


@attrs.define(eq=False, repr=False)
class Outbox(Generic[Item]):
    """A bounded queue of which one can wait for the end.

    Args:
      capacity: items; what does not fit is refused.
    """

    capacity: int
    is_open: bool = attrs.field(default=True, init=False)
    _items: deque[Item] = attrs.field(factory=deque, init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)

    def put_nowait(self, item: Item) -> bool:
        """Queue it; False when the queue is full or sealed."""
        if not self.is_open or len(self._items) >= self.capacity:
            return False
        self._items.append(item)
        self._note_change()
        return True

    async def deliver(self, send: Callable[[Item], Awaitable[None]]) -> None:
        """Send one item after the other until cancelled, or sealed and empty. What `send` raises passes."""
        while True:
            while self._items:
                await send(self._items[0])
                if self._items:
                    self._items.popleft()
            self._note_change()
            if not self.is_open:
                return
            await self._changed.wait()

    async def wait_empty(self) -> None:
        """Return when everything has been sent, or nothing will be."""
        while self._items:
            await self._changed.wait()

    def seal(self) -> None:
        """Take nothing any more; what waits is still sent."""
        self.is_open = False
        self._note_change()

    def close(self) -> int:
        """Take nothing any more and forget what waits; return how much that was."""
        lost = len(self._items)
        self._items.clear()
        self.seal()
        return lost

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
