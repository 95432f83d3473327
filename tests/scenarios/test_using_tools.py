"""The model calls tools: each is answered exactly once, in its turn, and asks for one new response."""

from __future__ import annotations

import json
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending, ToolContext, tool
from aivc.testing import CallTool, Fail, Faults, PhoneCall, Say, Script, Session, scripted, speech
from aivc.testing.schema import Json
from scenarios.conftest import Dialect
from scenarios.world import World, changed, open_world

ANSWER: Final = speech(0.3, pitch_hz=210.0, seed=9)
SECONDS: Final = 0.2  # that the tool takes


@tool
async def opening_hours(day: str) -> str:
    """When the shop is open."""
    await trio.sleep(SECONDS)
    return f"{day}: nine to six"


@tool
async def weather() -> dict[str, int]:
    """The weather."""
    return {"degrees": 21}


@tool
async def broken() -> str:
    """Fail."""
    raise LookupError("the shelf is empty")


@tool
async def endless() -> str:
    """Never return."""
    await trio.sleep_forever()


@tool
async def who_calls(context: ToolContext) -> str:
    """The caller."""
    return f"{context.caller} dialled {context.dialled}"


TOOLS: Final = (opening_hours, weather, broken, endless, who_calls)


def calling(*calls: CallTool) -> Script:
    """A model that calls these in its first response, and then speaks."""
    return scripted([list(calls), [Say("It is so.", audio=ANSWER)]])


def outputs(session: Session) -> list[Json]:
    items = [event["item"] for event in session.received("conversation.item.create")]
    return [item for item in items if item["type"] == "function_call_output"]


def check_order(session: Session, results: int = 1) -> None:
    """Outputs leave after the response that called, then one `response.create`: earlier ones may be refused."""
    (first_done, *_) = [seen.at for seen in session.events_sent if seen.event["type"] == "response.done"]
    sent = [(seen.at, seen.event["type"]) for seen in session.events_received]
    later = [(at, name) for at, name in sent if name in ("conversation.item.create", "response.create")][1:]
    assert [name for _, name in later] == ["conversation.item.create"] * results + ["response.create"]
    assert all(at >= first_done for at, _ in later)


async def hear_answer(world: World) -> PhoneCall:
    async with world.dial() as call:
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.3)
    assert call.handset.speech_heard() == ANSWER
    return call


async def test_a_tool_is_run_and_the_model_told_its_result(autojump_clock: MockClock, dialect: Dialect) -> None:
    script = calling(CallTool("opening_hours", {"day": "Monday"}))
    async with open_world(script, dialect=dialect, tools=TOOLS) as world:
        await hear_answer(world)
        (output,) = outputs(world.session)
        assert output["output"] == "Monday: nine to six"
        check_order(world.session)
    (run,) = world.record.tools
    assert (run.name, json.loads(run.arguments), run.output) == ("opening_hours", {"day": "Monday"}, output["output"])
    assert run.ended_at - run.started_at == pytest.approx(SECONDS)


async def test_a_fast_tool_waits_for_the_end_of_the_response_that_called_it(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    words = Say("One moment.", audio=speech(1.0, seed=5))  # slowly generated, after the call
    script = scripted([[CallTool("weather"), words], [Say("It is so.", audio=ANSWER)]])
    async with open_world(script, dialect=dialect, tools=TOOLS, speed=1.0) as world:
        async with world.dial() as call:
            await world.session.wait_received("response.create", count=2)
            await call.handset.wait_silence(1.0)
        assert call.handset.speech_heard() == words.audio + ANSWER
        assert [json.loads(output["output"]) for output in outputs(world.session)] == [{"degrees": 21}]
        check_order(world.session)
    (run,) = world.record.tools
    created = [seen.at for seen in world.session.events_received if seen.event["type"] == "conversation.item.create"]
    assert created[0] - run.ended_at > 0.9


async def test_two_tools_called_at_once_are_answered_together(autojump_clock: MockClock, dialect: Dialect) -> None:
    script = calling(CallTool("opening_hours", {"day": "Sunday"}), CallTool("weather"))
    async with open_world(script, dialect=dialect, tools=TOOLS) as world:
        await hear_answer(world)
        called = [item.body["call_id"] for item in world.session.items if item.body["type"] == "function_call"]
        assert [output["call_id"] for output in outputs(world.session)] == called
        check_order(world.session, results=2)
    assert [run.name for run in world.record.tools] == ["weather", "opening_hours"]  # in the order of their ends


async def test_a_tool_that_cannot_be_had_is_an_error_for_the_model_and_the_call_goes_on(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    errors = [
        (CallTool("broken"), "broken failed: LookupError: the shelf is empty"),
        (CallTool("endless"), "endless did not finish within 1 seconds"),
        (CallTool("order_pizza"), "there is no tool 'order_pizza'"),
        (CallTool("opening_hours", '{"day": "Mon'), "opening_hours: the arguments are not JSON"),
        (CallTool("opening_hours", {"hour": 9}), "opening_hours: "),
    ]
    script, settings = calling(*(call for call, _ in errors)), changed(openai={"tool_seconds": 1.0})
    async with open_world(script, settings=settings, dialect=dialect, tools=TOOLS) as world:
        await hear_answer(world)
        for output, (_, error) in zip(outputs(world.session), errors, strict=True):
            assert json.loads(output["output"])["error"].startswith(error)
        check_order(world.session, results=5)
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_tool_knows_who_calls(autojump_clock: MockClock) -> None:
    async with open_world(calling(CallTool("who_calls")), tools=TOOLS) as world:
        await hear_answer(world)
        assert [output["output"] for output in outputs(world.session)] == ["sip:alice@192.0.2.9 dialled 1000"]


async def test_a_tool_that_runs_when_the_caller_hangs_up_is_cancelled(autojump_clock: MockClock) -> None:
    cancelled: list[float] = []

    @tool
    async def slow() -> None:
        """Take long."""
        try:
            await trio.sleep_forever()
        finally:
            cancelled.append(trio.current_time())

    async with open_world(calling(CallTool("slow")), tools=(slow,)) as world, world.dial():
        await trio.sleep(1.0)
    assert cancelled == [world.record.ended_at]
    assert [run.outcome for run in world.record.tools] == ["cancelled"]


async def test_a_model_that_never_stops_calling_tools_is_made_to_speak(autojump_clock: MockClock) -> None:
    script = scripted([[CallTool("weather")]] * 20)
    async with open_world(script, tools=TOOLS, think_ms=10.0) as world:
        async with world.dial():
            await trio.sleep(3.0)
        last = world.session.received("response.create")[-1]
        assert last["response"]["tool_choice"] == "none"
        assert len(outputs(world.session)) == 10


@pytest.mark.parametrize("fails", [1, 2], ids=["once", "twice"])
async def test_a_failed_response_is_asked_for_once_more(
    autojump_clock: MockClock, dialect: Dialect, fails: int
) -> None:
    script = scripted([*[[Fail()]] * fails, [Say("It is so.", audio=ANSWER)]])
    async with open_world(script, dialect=dialect) as world:
        async with world.dial() as call:
            await trio.sleep(3.0)
        requests = world.session.received("response.create")
        assert len(requests) == 2
        assert requests[0]["response"]["instructions"] == requests[1]["response"]["instructions"]
        assert call.handset.speech_heard() == (ANSWER if fails == 1 else b"")
    assert world.record.realtime_errors == {"server_error": fails}


async def test_the_end_of_a_response_may_come_twice(autojump_clock: MockClock, dialect: Dialect) -> None:
    script = calling(CallTool("weather"))
    faults = Faults(response_done="doubled")
    async with open_world(script, dialect=dialect, tools=TOOLS, faults=faults) as world:
        await hear_answer(world)
        assert len(outputs(world.session)) == 1
        check_order(world.session)
