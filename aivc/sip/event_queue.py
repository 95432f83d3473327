"""What one leg tells of its dialog: few events, never waited for, and its end always told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

import attrs
import trio

from aivc import logs

log = logging.getLogger("aivc.sip")

EVENTS: Final = 8  # more that wait mean that nobody serves the call; the last place is kept for its end

Event = TypeVar("Event")


@attrs.define(eq=False, repr=False)
class EventQueue(Generic[Event]):
    """The events of one leg. They wait here for who is told of each (`told_to`), or asks for one after the other.

    A memory channel, and a task at its other end, would take 4 KiB a call.
    """

    call_id: str
    _waiting: list[Event] = attrs.field(factory=list, init=False)
    _is_closed: bool = attrs.field(default=False, init=False)
    _take: Callable[[Event | None], None] | None = attrs.field(default=None, init=False)
    _asked: trio.Event | None = attrs.field(default=None, init=False)  # set when there is something for who waits

    # Who serves the call

    @contextmanager
    def told_to(self, take: Callable[[Event | None], None]) -> Iterator[None]:
        """While the block runs, `take` is called with each event where it happens, and with those that wait first;
        with None when the leg is over. It must not raise: it is called by the front end of all calls.
        """
        self._take = take
        self._pass_on()
        try:
            yield
        finally:
            self._take = None

    def receive_nowait(self) -> Event:
        """The next event. Raises trio.WouldBlock when there is none yet, and trio.EndOfChannel when the leg is over."""
        if self._waiting:
            return self._waiting.pop(0)
        raise trio.EndOfChannel if self._is_closed else trio.WouldBlock

    async def receive(self) -> Event:
        """The next event, when it comes. Raises trio.EndOfChannel when the leg is over."""
        await trio.lowlevel.checkpoint()
        while not self._waiting and not self._is_closed:
            self._asked = trio.Event()
            await self._asked.wait()
        return self.receive_nowait()

    def __aiter__(self) -> EventQueue[Event]:
        return self

    async def __anext__(self) -> Event:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    # The front end

    @property
    def has_room(self) -> bool:
        """Whether an event that is not the last may be told."""
        return len(self._waiting) < EVENTS - 1

    def tell(self, event: Event) -> None:
        """An event that is not the last; without room it is dropped."""
        if self.has_room and not self._is_closed:
            self._waiting.append(event)
            self._pass_on()
        else:
            self._drop(event)

    def close(self, last: Event | None) -> None:
        """The leg is over, with this event."""
        if last is not None and self._is_closed:
            self._drop(last)
        elif last is not None:
            self._waiting.append(last)
        self._is_closed = True
        self._pass_on()

    def _pass_on(self) -> None:
        """To who is told, or who waits."""
        if self._take is not None:
            while self._waiting:
                self._take(self._waiting.pop(0))
            if self._is_closed:
                self._take(None)
        if self._asked is not None:
            self._asked.set()

    def _drop(self, event: Event) -> None:
        logs.event(log, "sip.event_dropped", call_id=self.call_id, event_type=type(event).__name__)
