"""Each request that is refused is counted once, by its cause; a call that was taken is counted by its ending."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from opensips_world import world
from sip_phone import sdp, user_agent
from trio.testing import MockClock

from aivc.nursery.ending import CallOver, Ending
from aivc.sip.leg import Rejection
from aivc.sip.refusals import Cause, turned_away

REFUSED = turned_away(Cause.CONFIG_FAILED, "the settings of this call cannot be used", 7)
BOTH = [Ending.CONFIG_FAILED, Ending.INTERNAL_ERROR]


def risen(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize(
    ("rejection", "counted"),
    [(REFUSED, {"config_failed": 1}), *((CallOver(ending).rejection(7), {}) for ending in BOTH)],
    ids=lambda value: value.cause if isinstance(value, Rejection) else "",
)
async def test_a_call_that_was_taken_is_no_refusal_whatever_its_ending_is_called(
    autojump_clock: MockClock, rejection: Rejection, counted: dict[str, int]
) -> None:
    async with user_agent() as (agent, phone):
        await phone.send(phone.write("INVITE", sdp()))
        leg = await agent.legs.receive()
        await leg.reject(rejection)
        assert (await phone.response()).status == 100
        assert (await phone.response()).status == rejection.status
        assert risen(agent.refusals) == counted


@pytest.mark.parametrize(
    ("rejection", "counted"),
    [(REFUSED, {"config_failed": 1}), *((CallOver(ending).rejection(7), {}) for ending in BOTH)],
    ids=lambda value: value.cause if isinstance(value, Rejection) else "",
)
async def test_behind_opensips_it_is_the_same(
    autojump_clock: MockClock, rejection: Rejection, counted: dict[str, int]
) -> None:
    async with world() as at, at.connector() as front_end:
        await at.invite()
        leg = await front_end.legs.receive()
        await leg.reject(rejection)
        assert await at.hear() == rejection.status
        assert risen(front_end.refusals) == counted
