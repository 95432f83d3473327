"""Tool calls: each in its own task with a deadline, each answered exactly once."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from functools import partial

import pytest
import trio
from call_parts import JOBS, Parts, parts
from trio.testing import MockClock

from aivc.nursery.execution import (
    LONGEST_OUTPUT,
    SIDE_BY_SIDE,
    as_error,
    as_output,
    output_of,
    run_tools,
    set_from_any_thread,
)
from aivc.nursery.performer import TOO_BUSY
from aivc.nursery.record import ToolFinished, ToolStarted
from aivc.realtime.effects import ToolCall
from aivc.realtime.events import CreateResponse, FunctionCall, ResponseCreated, ResponseDone, SendToolOutput
from aivc.realtime.tools import Tool, ToolContext, ToolRegistry, terminate_call, tool


@tool
async def clock() -> str:
    """The time."""
    return "noon"


@tool
async def slow(seconds: float) -> str:
    """Take some time."""
    await trio.sleep(seconds)
    return "done"


@tool
async def broken() -> str:
    """Fail."""
    raise LookupError("the shelf is empty")


@tool
def thread_name() -> str:
    """Where a plain function runs."""
    return threading.current_thread().name


def registry(*tools: Tool) -> ToolRegistry:
    made = ToolRegistry()
    for definition in tools or (clock, slow, broken, thread_name):
        made.add(definition)
    return made


def context(farewell: trio.Event) -> ToolContext:
    return ToolContext("call-1", "sip:alice@192.0.2.9", "1000", farewell.set)


def threads() -> trio.CapacityLimiter:
    return trio.CapacityLimiter(1)


def call(name: str, **arguments: object) -> ToolCall:
    return ToolCall("fc1", name, json.dumps(arguments), "r1")


async def result(name: str) -> str:
    with trio.fail_after(20):
        return await output_of(registry(), context(trio.Event()), call(name), 5.0, threads())


async def slow_result(duration: float) -> str:
    """What the slow tool returns within 2.5 s."""
    with trio.fail_after(20):
        return await output_of(registry(), context(trio.Event()), call("slow", seconds=duration), 2.5, threads())


async def test_an_async_tool_is_awaited(autojump_clock: MockClock) -> None:
    assert await result("clock") == "noon"
    assert await slow_result(1.0) == "done"


async def test_a_plain_function_runs_in_a_thread_of_its_own() -> None:
    assert await result("thread_name") != threading.current_thread().name


async def test_a_tool_that_fails_is_an_error_for_the_model() -> None:
    assert json.loads(await result("broken")) == {"error": "broken failed: LookupError: the shelf is empty"}


async def test_a_tool_that_takes_too_long_is_an_error_for_the_model(autojump_clock: MockClock) -> None:
    started = trio.current_time()
    assert json.loads(await slow_result(9.0)) == {"error": "slow did not finish within 2.5 seconds"}
    assert trio.current_time() - started == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("pizza", "{}", "there is no tool 'pizza'; the tools are clock, slow, broken, thread_name"),
        ("slow", '{"seconds": 1', "slow: the arguments are not JSON"),
        ("slow", "[]", "slow: the arguments are not a JSON object"),
        ("slow", '{"seconds": "long"}', "slow: "),
    ],
)
async def test_a_call_that_cannot_be_made_is_an_error_for_the_model(name: str, arguments: str, error: str) -> None:
    with trio.fail_after(5):
        output = await output_of(
            registry(), context(trio.Event()), ToolCall("fc1", name, arguments, "r1"), 5.0, threads()
        )
    assert json.loads(output)["error"].startswith(error)


@pytest.mark.parametrize(
    ("returned", "output"),
    [("text", "text"), (None, "ok"), ({"a": [1, "ü"]}, '{"a": [1, "ü"]}'), (7, "7"), ({1}, '"{1}"'), ("", "")],
)
def test_a_result_is_text_or_json(returned: object, output: str) -> None:
    assert as_output(returned) == output


def test_a_result_is_never_longer_than_the_model_can_take() -> None:
    assert len(as_output("x" * 2 * LONGEST_OUTPUT)) == LONGEST_OUTPUT
    assert len(as_error("x" * 2 * LONGEST_OUTPUT)) == LONGEST_OUTPUT + len('{"error": ""}')


# run_tools


def announce(given: Parts, *calls: tuple[str, Mapping[str, object]]) -> None:
    """The model calls these in response r1, which is over then."""
    given.performer.handle(ResponseCreated("r1"))
    made = tuple(
        FunctionCall("r1", f"item{number}", f"fc{number}", name, json.dumps(arguments))
        for number, (name, arguments) in enumerate(calls, 1)
    )
    for each in made:
        given.performer.handle(each)
    given.performer.handle(ResponseDone("r1", "completed", function_calls=made))


async def run(given: Parts, tools: ToolRegistry, seconds: float, farewell: trio.Event | None = None) -> None:
    """Run the tools that were called, for a while."""
    farewell = trio.Event() if farewell is None else farewell
    with trio.move_on_after(seconds):
        await run_tools(given.jobs, tools, context(farewell), 5.0, given.performer, farewell)


async def test_tools_run_side_by_side_and_are_answered_together(autojump_clock: MockClock) -> None:
    given = parts()
    announce(given, ("slow", {"seconds": 1.0}), ("clock", {}))
    await run(given, registry(), 2.0)
    assert [(each.name, each.ended_at - each.started_at) for each in given.performer.turns.tools] == [
        ("clock", 0.0),
        ("slow", pytest.approx(1.0)),
    ]
    first, second, request = given.sent
    assert isinstance(first, SendToolOutput)
    assert isinstance(second, SendToolOutput)
    assert [first.call_id, second.call_id] == ["fc1", "fc2"]
    assert isinstance(request, CreateResponse)


async def test_the_observer_is_told_of_each_tools_start_and_end(autojump_clock: MockClock) -> None:
    given = parts()
    announce(given, ("clock", {}))
    await run(given, registry(), 1.0)
    started, finished = [each.what for each in given.told if isinstance(each.what, ToolStarted | ToolFinished)]
    assert started == ToolStarted("fc1", "clock", "{}")
    assert isinstance(finished, ToolFinished)
    assert finished.run.output == "noon"
    output, request = given.sent
    assert isinstance(output, SendToolOutput)
    assert (output.call_id, output.output) == ("fc1", "noon")
    assert isinstance(request, CreateResponse)


async def test_a_tool_that_ends_the_call_is_not_answered(autojump_clock: MockClock) -> None:
    given, farewell = parts(), trio.Event()
    announce(given, ("terminate_call", {}))
    await run(given, registry(terminate_call), 1.0, farewell)
    assert farewell.is_set()
    assert given.sent == []
    assert [each.output for each in given.performer.turns.tools] == ["The call is ending."]


async def test_calls_beyond_what_can_wait_are_told_that_we_are_busy(autojump_clock: MockClock) -> None:
    given = parts()
    announce(given, *[("clock", {})] * (JOBS + 1))
    await run(given, registry(), 1.0)
    outputs = [event.output for event in given.sent if isinstance(event, SendToolOutput)]
    assert outputs == ["noon"] * JOBS + [TOO_BUSY]


async def test_no_more_tools_run_side_by_side_than_a_call_has_places_for(autojump_clock: MockClock) -> None:
    given = parts(jobs=2 * SIDE_BY_SIDE)
    announce(given, *[("slow", {"seconds": 1.0})] * (SIDE_BY_SIDE + 1))
    began = trio.current_time()
    await run(given, registry(), 3.0)
    ends = [round(each.ended_at - began, 6) for each in given.performer.turns.tools]
    assert ends == [1.0] * SIDE_BY_SIDE + [2.0]


async def test_a_plain_tool_may_hang_up_from_its_thread() -> None:
    given, farewell = parts(), trio.Event()

    @tool
    def goodbye(context: ToolContext) -> None:
        """Hang up."""
        context.hang_up()

    announce(given, ("goodbye", {}))
    context = ToolContext("call-1", "sip:alice@192.0.2.9", "1000", partial(set_from_any_thread, farewell))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_tools, given.jobs, registry(goodbye), context, 5.0, given.performer, farewell)
            await farewell.wait()
            nursery.cancel_scope.cancel()


async def test_an_event_is_set_in_trios_own_thread_too() -> None:
    event = trio.Event()
    set_from_any_thread(event)
    assert event.is_set()


async def test_a_cancelled_call_cancels_its_async_tools(autojump_clock: MockClock) -> None:
    given, cancelled = parts(), trio.Event()

    @tool
    async def endless() -> None:
        """Never return."""
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    announce(given, ("endless", {}))
    await run(given, registry(endless), 1.0)
    assert cancelled.is_set()
    assert given.sent == []


async def test_a_thread_that_blocks_does_not_hold_up_a_call_that_is_over() -> None:
    given, release = parts(), threading.Event()

    @tool
    def blocking() -> None:
        """Block."""
        release.wait(10)

    announce(given, ("blocking", {}))
    try:
        with trio.fail_after(5):
            await run(given, registry(blocking), 0.05)
    finally:
        release.set()
    assert given.sent == []
