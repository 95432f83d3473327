"""What one leg tells of its dialog: few events, never waited for, and its end always told."""

from __future__ import annotations

import logging
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.sip.leg import LegEvent

log = logging.getLogger("aivc.sip")

EVENTS: Final = 8  # more unread ones mean that nobody serves the call; the last place is kept for its end


@attrs.define(eq=False, repr=False)
class EventQueue:
    """The events of one leg.

    Attributes:
      received: for who serves the call; ends when the leg is over.
    """

    call_id: str
    received: trio.MemoryReceiveChannel[LegEvent] = attrs.field(init=False)
    _sender: trio.MemorySendChannel[LegEvent] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._sender, self.received = trio.open_memory_channel[LegEvent](EVENTS)

    @property
    def has_room(self) -> bool:
        """Whether an event that is not the last may be told."""
        return self._sender.statistics().current_buffer_used < EVENTS - 1

    def tell(self, event: LegEvent) -> None:
        """An event that is not the last; without room it is dropped."""
        self._put(event, self.has_room)

    def close(self, last: LegEvent | None) -> None:
        """The leg is over, with this event."""
        if last is not None:
            self._put(last, True)
        self._sender.close()

    def _put(self, event: LegEvent, has_room: bool) -> None:
        try:
            if has_room:
                self._sender.send_nowait(event)
                return
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        logs.event(log, "sip.event_dropped", call_id=self.call_id, event_type=type(event).__name__)
