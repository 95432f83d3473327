"""What the caller says is what the model gets, and what the model says is what the caller hears, octet by octet."""

from __future__ import annotations

from itertools import pairwise

import pytest
from trio.testing import MockClock

from aivc import Ending
from aivc.testing import Handset, Say, decided, scripted, speech
from scenarios.conftest import Dialect
from scenarios.world import open_world


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
async def test_the_octets_are_the_same_both_ways(autojump_clock: MockClock, codec: str, dialect: Dialect) -> None:
    greeting = speech(1.0, "PCMU")
    async with open_world(scripted([[Say("Hello.", seconds=0.5)], [Say("Yes.", seconds=0.5)]]), dialect=dialect) as world:
        async with world.dial("PCMU") as call:
            await call.handset.wait_speech(1.0)
