"""The events of a leg: the last place is for its end."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from aivc.sip.event_queue import EVENTS, EventQueue
from aivc.sip.leg import DigitPressed, HungUp, LegEvent

DIGIT = DigitPressed("1", 100)


async def heard(queue: EventQueue[LegEvent]) -> list[LegEvent]:
    with trio.fail_after(1):
        return [event async for event in queue]


async def test_no_other_event_takes_the_place_of_the_last_one() -> None:
    queue = EventQueue[LegEvent]("a")
    for _ in range(2 * EVENTS):
        queue.tell(DIGIT)
    queue.close(HungUp())
    assert await heard(queue) == [DIGIT] * (EVENTS - 1) + [HungUp()]


async def test_it_ends_without_a_word_when_there_is_none_and_takes_nothing_afterwards() -> None:
    queue = EventQueue[LegEvent]("a")
    queue.close(None)
    queue.tell(DIGIT)
    assert await heard(queue) == []


async def test_who_waits_gets_what_comes() -> None:
    queue = EventQueue[LegEvent]("a")
    with pytest.raises(trio.WouldBlock):
        queue.receive_nowait()
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:

            async def press_and_part() -> None:
                await wait_all_tasks_blocked()
                queue.tell(DIGIT)
                await wait_all_tasks_blocked()
                queue.close(HungUp())

            nursery.start_soon(press_and_part)
            assert [await queue.receive(), await queue.receive()] == [DIGIT, HungUp()]
            with pytest.raises(trio.EndOfChannel):
                await queue.receive()


def test_who_is_told_hears_of_each_event_at_once_and_of_the_end() -> None:
    queue, told = EventQueue[LegEvent]("a"), list[LegEvent | None]()
    queue.tell(DIGIT)
    with queue.told_to(told.append):
        assert told == [DIGIT]
        for _ in range(2 * EVENTS):
            queue.tell(DIGIT)
        queue.close(HungUp())
        assert told == [DIGIT] * (2 * EVENTS + 1) + [HungUp(), None]


def test_what_nobody_is_told_any_more_waits() -> None:
    queue, told = EventQueue[LegEvent]("a"), list[LegEvent | None]()
    with queue.told_to(told.append):
        pass
    queue.tell(DIGIT)
    assert (told, queue.receive_nowait()) == ([], DIGIT)


def test_who_comes_after_the_end_is_told_of_it() -> None:
    queue, told = EventQueue[LegEvent]("a"), list[LegEvent | None]()
    queue.close(None)
    with queue.told_to(told.append):
        assert told == [None]
