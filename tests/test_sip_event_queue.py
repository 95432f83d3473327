"""The events of a leg: the last place is for its end."""

from __future__ import annotations

import trio

from aivc.sip.event_queue import EVENTS, EventQueue
from aivc.sip.leg import DigitPressed, HungUp, LegEvent

DIGIT = DigitPressed("1", 100)


async def heard(queue: EventQueue) -> list[LegEvent]:
    with trio.fail_after(1):
        return [event async for event in queue.received]


async def test_no_other_event_takes_the_place_of_the_last_one() -> None:
    queue = EventQueue("a")
    for _ in range(2 * EVENTS):
        queue.tell(DIGIT)
    queue.close(HungUp())
    assert await heard(queue) == [DIGIT] * (EVENTS - 1) + [HungUp()]


async def test_it_ends_without_a_word_when_there_is_none_and_takes_nothing_afterwards() -> None:
    queue = EventQueue("a")
    queue.close(None)
    queue.tell(DIGIT)
    assert await heard(queue) == []
