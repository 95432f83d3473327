"""A caller who is answered late is waited for as long as any other: silence counts from the answer."""

from __future__ import annotations

from typing import Final, Literal

import pytest
from trio.testing import MockClock

from aivc import CallRecord, Ending
from aivc.testing import Faults, Say, scripted, speech
from aivc.testing.schema import Json
from scenarios.conftest import Dialect
from scenarios.world import changed, open_world

GREETING: Final = scripted([[Say("Hello.", audio=speech(0.5, pitch_hz=210.0))]])
PATIENCE: Final = 2.0
SETTINGS: Final = changed(rtp={"timeout_seconds": PATIENCE})
SLOW_SECONDS: Final = 1.5  # of the 3.5 s that a command may take
SLOW: Final = Faults(session_updated_seconds=3.0)


def check(record: CallRecord, late_seconds: float) -> None:
    """The caller, who sends nothing, was answered late, and then waited for."""
    assert record.answered_at is not None
    assert record.answered_at - record.started_at >= late_seconds
    assert record.ending is Ending.MEDIA_TIMEOUT
    assert record.duration_seconds == pytest.approx(PATIENCE, abs=0.1)


async def test_a_model_that_is_slow_to_be_ready_costs_the_caller_no_patience(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(GREETING, settings=SETTINGS, dialect=dialect, faults=SLOW) as world, world.ring() as call:
        call.handset.muted = True
        await call.wait_answer()
        await call.wait_hung_up()
    check(world.record, SLOW.session_updated_seconds)


@pytest.mark.sip_only("100rel: OpenSIPS has none")
async def test_a_prack_that_is_missing_at_the_answer_costs_the_caller_no_patience(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with (
        open_world(GREETING, settings=SETTINGS, dialect=dialect, faults=SLOW) as world,
        world.ring(reliable="required", prack=False) as call,
    ):
        call.handset.muted = True
        await call.wait_answer()
        await call.wait_hung_up()
    check(world.record, SLOW.session_updated_seconds)


@pytest.mark.opensips_only("the answer is a command")
@pytest.mark.parametrize("kind", ["command", "answer"])
async def test_an_opensips_that_is_slow_to_take_the_answer_costs_the_caller_no_patience(
    autojump_clock: MockClock, dialect: Dialect, kind: Literal["command", "answer"]
) -> None:
    def is_answer(command: Json) -> bool:
        return bool(command["params"].get("code") == 200)

    async with open_world(GREETING, settings=SETTINGS, dialect=dialect) as world:
        assert world.opensips is not None
        world.opensips.delay(kind, SLOW_SECONDS, is_answer)
        async with world.ring() as call:
            call.handset.muted = True
            await call.wait_answer()
            await call.wait_hung_up()
    check(world.record, SLOW_SECONDS)
