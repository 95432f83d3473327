"""What of a call waits for a moment is woken by one task."""

from __future__ import annotations

from math import inf

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aivc.nursery.alarm import Alarm


@attrs.define(eq=False)
class Egg:
    """Is done once, and notes when."""

    deadline: float
    done: list[float] = attrs.field(factory=list)
    burns: bool = False

    def expire(self) -> None:
        self.done.append(trio.current_time())
        if self.burns:
            raise LookupError("burnt")
        self.deadline = inf


async def test_each_is_woken_at_its_time(autojump_clock: MockClock) -> None:
    alarm, began = Alarm(), trio.current_time()
    soft, hard = Egg(began + 4), Egg(began + 8)
    with trio.move_on_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alarm.ring, trio.Event())
            with alarm.watching(nursery, hard, soft):
                await trio.sleep_forever()
    assert (soft.done, hard.done) == ([began + 4], [began + 8])


async def test_what_is_wanted_sooner_is_done_sooner(autojump_clock: MockClock) -> None:
    alarm, began = Alarm(), trio.current_time()
    egg = Egg(began + 8)
    with trio.move_on_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alarm.ring, trio.Event())
            alarm.watch(egg, nursery)
            await trio.sleep(1)
            egg.deadline = began + 3
            alarm.sooner(egg.deadline)
    assert egg.done == [began + 3]


async def test_what_is_raised_is_raised_where_it_belongs_and_no_more_than_once(autojump_clock: MockClock) -> None:
    alarm, burnt, fine = Alarm(), Egg(trio.current_time() + 1, burns=True), Egg(trio.current_time() + 2)
    with trio.fail_after(20):
        async with trio.open_nursery() as call:
            call.start_soon(alarm.ring, trio.Event())
            alarm.watch(fine, call)
            with pytest.RaisesGroup(LookupError):
                async with trio.open_nursery() as session:
                    with alarm.watching(session, burnt):
                        await trio.sleep_forever()
            await trio.sleep(5)
            call.cancel_scope.cancel()
    assert (len(burnt.done), len(fine.done)) == (1, 1)


async def test_after_its_block_nothing_is_woken(autojump_clock: MockClock) -> None:
    alarm, egg = Alarm(), Egg(trio.current_time() + 4)
    with trio.move_on_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alarm.ring, trio.Event())
            with alarm.watching(nursery, egg):
                await wait_all_tasks_blocked()
            await trio.sleep_forever()
    assert egg.done == []
