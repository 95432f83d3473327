"""Tools and the goodbye: some are still at work when the call is to end, and some end it."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from aivc import Ending, ToolContext, tool
from aivc.nursery.leaving import GOES_ON
from aivc.testing import CallTool, Say, scripted
from scenarios.conftest import Dialect
from scenarios.test_saying_goodbye import (
    ALL_AT_ONCE,
    ANSWER,
    BYE_BYE,
    GOODBYE,
    HANG_UP,
    WAIT,
    byes,
    hear_goodbye,
    outputs,
)
from scenarios.world import open_world


@tool
async def weather() -> str:
    """The weather."""
    await trio.sleep(0.2)
    return "21 degrees"


@tool
async def slow_weather() -> str:
    """The weather, after a while."""
    await trio.sleep(1.0)
    return "21 degrees"


async def test_a_tool_that_runs_when_the_model_hangs_up_is_let_go(autojump_clock: MockClock, dialect: Dialect) -> None:
    script = scripted([[CallTool("endless"), *GOODBYE]])

    @tool
    async def endless() -> None:
        """Never return."""
        await trio.sleep_forever()

    async with open_world(script, dialect=dialect, speed=ALL_AT_ONCE, tools=(endless,)) as world:
        await hear_goodbye(world)
    assert [(run.name, run.outcome) for run in world.record.tools] == [
        ("terminate_call", "ok"),
        ("endless", "cancelled"),
    ]


async def test_a_tool_that_returns_during_the_goodbye_begins_no_new_talk(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    """It was called in an earlier response: nothing else would keep its result from being answered."""
    script = scripted([[CallTool("slow_weather")], GOODBYE, [Say("It is warm.", audio=ANSWER)]])
    async with open_world(script, dialect=dialect, speed=ALL_AT_ONCE, tools=(slow_weather,)) as world:
        async with world.dial() as call:
            await world.session.wait_sent("response.done")
            call.handset.say(WAIT)
            await call.wait_hung_up()
        assert call.handset.speech_heard() == BYE_BYE
        assert outputs(world.session) == []
    assert [run.name for run in world.record.tools] == ["terminate_call", "slow_weather"]


async def test_a_result_that_came_during_the_goodbye_is_told_when_the_call_goes_on(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    script = scripted([[CallTool("weather"), *GOODBYE], [Say("It is warm.", audio=ANSWER)]])
    async with (
        open_world(script, dialect=dialect, speed=ALL_AT_ONCE, tools=(weather,)) as world,
        world.dial() as call,
    ):
        await call.handset.wait_speech(0.6)
        call.handset.say(WAIT)
        await trio.sleep(3.0)
        assert outputs(world.session) == ["21 degrees", GOES_ON]
        assert byes(call) == 0


async def test_what_waits_to_be_said_when_the_model_hangs_up_is_not_said(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    """The result of an earlier tool comes while the goodbye is generated: it is sent, and its answer waits."""
    script = scripted([[CallTool("slow_weather")], GOODBYE, [Say("It is warm. Goodbye!", audio=ANSWER)]])
    # The goodbye takes half a second to generate, from 0.6 s on, and the result comes after a second.
    async with open_world(script, dialect=dialect, speed=2.0, tools=(slow_weather,)) as world:
        async with world.dial() as call:
            await world.session.wait_sent("response.done")
            call.handset.say(WAIT)
            await call.wait_hung_up()
        assert call.handset.speech_heard() == BYE_BYE
        assert outputs(world.session) == ["21 degrees"]
        assert [done["response"]["status"] for done in world.session.sent("response.done")[2:]] in ([], ["cancelled"])
    assert [run.name for run in world.record.tools] == ["slow_weather", "terminate_call"]


async def test_a_tool_of_ones_own_may_hang_up(autojump_clock: MockClock, dialect: Dialect) -> None:
    @tool
    async def give_up(context: ToolContext) -> str:
        """End it."""
        context.hang_up()
        await trio.sleep(0.1)
        return "It is over."

    script = scripted([[Say("Goodbye.", audio=BYE_BYE), CallTool("give_up")], [Say("So?", audio=ANSWER)]])
    async with open_world(script, dialect=dialect, speed=ALL_AT_ONCE, tools=(give_up,)) as world:
        await hear_goodbye(world)
        assert outputs(world.session) == []
    assert world.record.ending is Ending.MODEL_HUNG_UP


async def test_a_tool_may_have_the_model_say_goodbye_and_hang_up(autojump_clock: MockClock, dialect: Dialect) -> None:
    @tool
    async def give_up(context: ToolContext) -> None:
        """End it."""
        context.say("Say goodbye.")
        context.hang_up()

    script = scripted([[CallTool("give_up")], [Say("Goodbye.", audio=BYE_BYE)], [Say("So?", audio=ANSWER)]])
    async with open_world(script, dialect=dialect, speed=ALL_AT_ONCE, tools=(give_up,)) as world:
        await hear_goodbye(world)
        assert len(world.session.received("response.create")) == 2
    assert world.record.ending is Ending.MODEL_HUNG_UP


async def test_a_tool_that_hung_up_too_early_is_told_so(autojump_clock: MockClock, dialect: Dialect) -> None:
    """It still works when the caller speaks, and what it returns is no longer true."""

    @tool
    async def give_up(context: ToolContext) -> str:
        """End it."""
        context.hang_up()
        await trio.sleep(3.0)
        return "It is over."

    script = scripted([[Say("Goodbye.", audio=BYE_BYE), CallTool("give_up")]])
    async with (
        open_world(script, dialect=dialect, speed=ALL_AT_ONCE, tools=(give_up,)) as world,
        world.dial() as call,
    ):
        await call.handset.wait_speech(0.4)
        call.handset.say(WAIT)
        await trio.sleep(5.0)
        assert outputs(world.session) == [GOES_ON]
        assert byes(call) == 0


async def test_a_tool_that_hangs_up_while_the_caller_speaks_does_not(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    @tool
    async def give_up(context: ToolContext) -> str:
        """End it."""
        await trio.sleep(0.5)
        context.hang_up()
        return "It is over."

    async with (
        open_world(scripted([[CallTool("give_up")]]), dialect=dialect, tools=(give_up,)) as world,
        world.dial() as call,
    ):
        await world.session.wait_sent("response.done")
        call.handset.say(WAIT * 5)
        await trio.sleep(4.0)
        assert outputs(world.session) == [GOES_ON]
        assert byes(call) == 0


async def test_a_hang_up_in_the_next_response_ends_the_call_once(autojump_clock: MockClock, dialect: Dialect) -> None:
    """The model says goodbye, and hangs up only when a tool has answered."""
    script = scripted([[Say("Goodbye.", audio=BYE_BYE), CallTool("weather")], [HANG_UP], [Say("Bye!", audio=ANSWER)]])
    async with open_world(script, dialect=dialect, speed=ALL_AT_ONCE, tools=(weather,)) as world:
        await hear_goodbye(world)
        assert len(world.session.received("response.create")) == 2
    assert [run.name for run in world.record.tools] == ["weather", "terminate_call"]
