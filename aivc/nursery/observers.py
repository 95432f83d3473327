"""Who hears of the calls of a service: each on a channel of its own, none of them able to delay a call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from aivc.nursery.record import CallEvent, Observer


@attrs.define(eq=False)
class Subscription:
    """The events from now on, as `async for` gives them; it ends with the service.

    Attributes:
      missed: events that came while the channel was full.
    """

    _send: trio.MemorySendChannel[CallEvent]
    _receive: trio.MemoryReceiveChannel[CallEvent]
    missed: int = 0

    def __aiter__(self) -> AsyncIterator[CallEvent]:
        return self._receive.__aiter__()

    async def receive(self) -> CallEvent:
        """The next event. Raises trio.EndOfChannel when the service has ended and all were taken."""
        return await self._receive.receive()

    def send_nowait(self, event: CallEvent, /) -> None:
        """Put an event into the channel, or count it as missed."""
        try:
            self._send.send_nowait(event)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self.missed += 1

    def end(self) -> None:
        """No more events come; those that wait can still be taken."""
        self._send.close()


@attrs.define(eq=False)
class FanOut:
    """Gives every event to all who want it; an `Observer` itself.

    Args:
      observers: of the whole life of the service.
    """

    observers: tuple[Observer, ...] = ()
    ended: bool = False
    _subscriptions: list[Subscription] = attrs.field(factory=list)

    def send_nowait(self, event: CallEvent, /) -> None:
        """Tell everybody, then raise what the first of `observers` raised that could not take it."""
        failure: Exception | None = None
        for observer in (*self._subscriptions, *self.observers):
            try:
                observer.send_nowait(event)
            except Exception as error:  # the others are told all the same
                failure = failure or error
        if failure is not None:
            raise failure

    @asynccontextmanager
    async def subscribe(self, capacity: int) -> AsyncIterator[Subscription]:
        """Hear of everything while the block runs."""
        subscription = Subscription(*trio.open_memory_channel[CallEvent](capacity))
        if self.ended:
            subscription.end()
        self._subscriptions.append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.remove(subscription)
            subscription.end()

    def end(self) -> None:
        """The service is over: nothing will happen any more."""
        self.ended = True
        for subscription in self._subscriptions:
            subscription.end()
