"""Sockets of all calls that are read on the heartbeat and are not RTP: the connections to the models.

A task that waits for each of them is woken for each message, twelve times a second and call, with system calls and a
round of trio's loop each time. Read once a beat they take a tenth less of all CPU. No answer is later by it: its audio
leaves on a beat, too, and beats read first.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Final

import attrs
import trio

# Times that all are looked at in one beat. What a model says at once, an answer begins with ten messages, is read at
# once; who sends more is read on in the next beat. So are all when it has taken as long as packets may wait for it.
ROUNDS: Final = 16


@attrs.define(eq=False)
class Polled:
    """Looks at them when it is told to; level-triggered, so that what is left is met again.

    Args:
      epoll: for these alone.
    """

    _epoll: select.epoll
    _looks: dict[int, Callable[[], None]] = attrs.field(init=False, factory=dict)  # by descriptor

    def __len__(self) -> int:
        return len(self._looks)

    def watch(self, descriptor: int, look: Callable[[], None]) -> None:
        """From now on call `look`, which raises nothing, each time that there is something to read."""
        self._epoll.register(descriptor, select.EPOLLIN)
        self._looks[descriptor] = look

    def unwatch(self, descriptor: int) -> None:
        """Not any more; to be told before the descriptor is closed."""
        del self._looks[descriptor]
        self._epoll.unregister(descriptor)

    def look(self, until: float) -> None:
        """Read what has come, each once at least, and no more after `until`, seconds on trio's clock."""
        for _ in range(ROUNDS):
            ready = self._epoll.poll(0)
            for descriptor, _ in ready:
                if (look := self._looks.get(descriptor)) is not None:  # one of them may have ended another
                    look()
            if not ready or trio.current_time() >= until:
                return
