"""Who hears of calls: subscribers of their own pace, none of whom is waited for."""

from __future__ import annotations

import pytest
import trio

from aivc.nursery.observers import FanOut
from aivc.nursery.record import Answered, CallEvent

FIRST, SECOND, THIRD = (CallEvent(f"call-{number}", float(number), Answered()) for number in range(3))


async def test_every_subscriber_hears_everything_from_when_it_came() -> None:
    heard: dict[str, list[CallEvent]] = {"early": [], "late": []}
    events = FanOut()
    with trio.fail_after(1):
        async with events.subscribe(5) as early:
            events.send_nowait(FIRST)
            async with events.subscribe(5) as late:
                events.send_nowait(SECOND)
                events.end()
                heard["early"] += [event async for event in early]
                heard["late"] += [event async for event in late]
    assert heard == {"early": [FIRST, SECOND], "late": [SECOND]}


async def test_a_slow_subscriber_misses_events_alone() -> None:
    events = FanOut()
    with trio.fail_after(1):
        async with events.subscribe(1) as slow, events.subscribe(5) as quick:
            for event in (FIRST, SECOND, THIRD):
                events.send_nowait(event)
            assert (slow.missed, quick.missed) == (2, 0)
            assert await slow.receive() == FIRST
            events.send_nowait(THIRD)
            assert await slow.receive() == THIRD


async def test_who_has_left_hears_nothing_more() -> None:
    events = FanOut()
    with trio.fail_after(1):
        async with events.subscribe(1) as gone:
            pass
        events.send_nowait(FIRST)
        with pytest.raises(trio.EndOfChannel):
            await gone.receive()
        assert gone.missed == 0


async def test_a_subscription_ends_with_the_service() -> None:
    events = FanOut()
    with trio.fail_after(1):
        async with events.subscribe(5) as before:
            events.send_nowait(FIRST)
            events.end()
            events.send_nowait(SECOND)  # nobody has room any more: no error
            assert [event async for event in before] == [FIRST]
        async with events.subscribe(5) as after:
            assert [event async for event in after] == []


async def test_an_observer_without_room_is_told_of_when_all_others_have_heard() -> None:
    full_send, full = trio.open_memory_channel[CallEvent](0)
    room_send, room = trio.open_memory_channel[CallEvent](1)
    events = FanOut((full_send, room_send))
    with trio.fail_after(1):
        async with events.subscribe(1) as subscriber:
            with pytest.raises(trio.WouldBlock):
                events.send_nowait(FIRST)
            assert await subscriber.receive() == room.receive_nowait() == FIRST
    full.close()
    with pytest.raises(trio.BrokenResourceError):
        events.send_nowait(SECOND)
    assert room.receive_nowait() == SECOND
