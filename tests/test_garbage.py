"""What Python's collector of cycles has to do: little, as it stops every call of the process meanwhile."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import trio
from scenarios.world import RTP_PORT, changed, open_world
from trio.testing import MockClock

from aivc.nursery.garbage import spare_startup_objects
from aivc.testing import Say, scripted

CALLS = 3


@pytest.fixture
def collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


async def test_a_call_that_has_ended_leaves_nothing_for_the_collector(
    autojump_clock: MockClock, collector_off: None
) -> None:
    settings = changed(rtp={"max_port": RTP_PORT + 20})
    async with open_world(scripted([[Say("Hello.", seconds=0.2)]]), settings=settings, calls=1 + CALLS) as world:
        for number in range(1 + CALLS):
            async with world.dial() as call:
                await call.handset.wait_speech(0.1)
            await trio.sleep(40.0)  # the transactions are over as well
            if not number:  # what is made once
                gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        assert [type(found) for found in gc.garbage] == []


def test_what_is_there_at_the_start_is_never_looked_at_again() -> None:
    usual = gc.get_threshold()
    try:
        spare_startup_objects()
        assert gc.get_freeze_count() > 10_000
        assert len(gc.get_objects()) < 5_000
    finally:
        gc.unfreeze()
        gc.set_threshold(*usual)
