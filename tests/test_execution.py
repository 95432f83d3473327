"""Tool calls: each in its own task with a deadline, each answered exactly once."""

from __future__ import annotations

import enum
import json
import threading
from collections.abc import Mapping

import attrs
import pytest
import trio
from call_parts import JOBS, Parts, parts
from paper_control import PaperControl
from trio.testing import MockClock

from aivc.config.settings import OpenAISettings
from aivc.nursery.ending import CallOver, Ending
from aivc.nursery.execution import LONGEST_OUTPUT, SIDE_BY_SIDE, Result, Workshop, as_error, as_output, result_of
from aivc.nursery.leaving import Leaving
from aivc.nursery.performer import TOO_BUSY
from aivc.nursery.record import ToolFinished, ToolStarted
from aivc.realtime.effects import ToolCall
from aivc.realtime.events import CreateResponse, FunctionCall, ResponseCreated, ResponseDone, SendToolOutput
from aivc.realtime.toolcontext import ToolContext, ToolOver
from aivc.realtime.toolerrors import ToolError
from aivc.realtime.tools import Tool, ToolRegistry, tool, transfer_call


class Place(enum.Enum):
    INSIDE = "inside"


@attrs.frozen
class Table:
    seats: int
    place: Place


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
async def picky() -> str:
    """Refuse."""
    raise ToolError("no table is free at 8; there is one at 9")


@tool(seconds=8)
async def patient() -> str:
    """Take 7 s."""
    await trio.sleep(7)
    return "done"


@tool
async def impatient() -> None:
    """Wait for something of its own."""
    with trio.fail_after(1):
        await trio.sleep_forever()


@tool
def thread_name() -> str:
    """Where a plain function runs."""
    return threading.current_thread().name


def registry(*tools: Tool) -> ToolRegistry:
    made = ToolRegistry()
    for definition in tools or (clock, slow, broken, picky, patient, impatient, thread_name):
        made.add(definition)
    return made


def context(control: PaperControl | None = None) -> ToolContext:
    return ToolContext("call-1", "sip:alice@192.0.2.9", "1000", control or PaperControl())


def threads() -> trio.CapacityLimiter:
    return trio.CapacityLimiter(1)


def call(name: str, **arguments: object) -> ToolCall:
    return ToolCall("fc1", name, json.dumps(arguments), "r1")


async def result(name: str, **arguments: object) -> Result:
    """What a tool comes to within 2.5 s."""
    with trio.fail_after(20):
        return await result_of(registry(), context(), call(name, **arguments), 2.5, threads())


async def test_an_async_tool_is_awaited(autojump_clock: MockClock) -> None:
    assert await result("clock") == Result("noon")
    assert await result("slow", seconds=1.0) == Result("done")


async def test_a_plain_function_runs_in_a_thread_of_its_own() -> None:
    assert (await result("thread_name")).output != threading.current_thread().name


async def test_a_tool_that_fails_is_an_error_for_the_model(caplog: pytest.LogCaptureFixture) -> None:
    failed = await result("broken")
    assert json.loads(failed.output) == {"error": "broken failed: LookupError: the shelf is empty"}
    assert failed.outcome == "error"
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_a_tool_may_tell_the_model_in_its_own_words_what_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    assert await result("picky") == Result('{"error": "no table is free at 8; there is one at 9"}', "error")
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_tool_that_takes_too_long_is_an_error_for_the_model(autojump_clock: MockClock) -> None:
    started = trio.current_time()
    assert await result("slow", seconds=9.0) == Result('{"error": "slow did not finish within 2.5 seconds"}', "timeout")
    assert trio.current_time() - started == pytest.approx(2.5)


async def test_a_tool_may_have_a_deadline_of_its_own(autojump_clock: MockClock) -> None:
    started = trio.current_time()
    assert (await result("patient")).output == "done"
    assert trio.current_time() - started == pytest.approx(7.0)


async def test_a_deadline_inside_a_tool_is_not_taken_for_ours(autojump_clock: MockClock) -> None:
    failed = await result("impatient")
    assert failed == Result('{"error": "impatient failed: TooSlowError: "}', "error")


@pytest.mark.parametrize(
    ("name", "arguments", "error", "outcome"),
    [
        ("pizza", "{}", "there is no tool 'pizza'; the tools are clock, slow, ", "unknown"),
        ("slow", '{"seconds": 1', "slow: the arguments are not JSON", "bad_arguments"),
        ("slow", "[]", "slow: the arguments are not a JSON object", "bad_arguments"),
        ("slow", '{"seconds": "long"}', "slow: ", "bad_arguments"),
    ],
)
async def test_a_call_that_cannot_be_made_is_an_error_for_the_model(
    name: str, arguments: str, error: str, outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    with trio.fail_after(5):
        made = await result_of(registry(), context(), ToolCall("fc1", name, arguments, "r1"), 5.0, threads())
    assert json.loads(made.output)["error"].startswith(error)
    assert made.outcome == outcome
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize(
    ("returned", "output"),
    [
        ("text", "text"),
        (None, "ok"),
        ({"a": [1, "ü"]}, '{"a": [1, "ü"]}'),
        (7, "7"),
        ({1}, '"{1}"'),
        ("", ""),
        ([Table(4, Place.INSIDE)], '[{"seats": 4, "place": "inside"}]'),
    ],
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


async def run(
    given: Parts,
    tools: ToolRegistry,
    seconds: float,
    leaving: Leaving | None = None,
    control: PaperControl | None = None,
    lasting: trio.Nursery | None = None,
) -> None:
    """Run the tools that were called, for a while."""
    leaving, settings = leaving or Leaving(), OpenAISettings(tool_seconds=5.0)
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            shop = Workshop(nursery, tools, context(control), settings, given.performer, leaving, lasting)
            with given.jobs.done_by(shop.begin, nursery):
                await trio.sleep_forever()


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
    given, leaving = parts(), Leaving()

    @tool
    async def goodbye() -> str:
        """Hang up."""
        leaving.ask(Ending.MODEL_HUNG_UP)
        return "The call is ending."

    announce(given, ("goodbye", {}))
    await run(given, registry(goodbye), 1.0, leaving)
    assert given.sent == []
    assert [each.output for each in given.performer.turns.tools] == ["The call is ending."]
    assert [call_id for call_id, _ in leaving.withdraw()] == ["fc1"]


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
    assert [each.outcome for each in given.performer.turns.tools] == ["cancelled"]


@tool(finish=True, seconds=4)
async def save(seconds: float) -> str:
    """Write it down."""
    await trio.sleep(seconds)
    return "saved"


@pytest.mark.parametrize(("takes", "lasts", "outcome"), [(2.0, 2.0, "ok"), (9.0, 4.0, "timeout")])
async def test_a_tool_that_must_finish_goes_on_after_the_call_up_to_its_deadline(
    autojump_clock: MockClock, takes: float, lasts: float, outcome: str
) -> None:
    given, began = parts(), trio.current_time()
    announce(given, ("save", {"seconds": takes}))
    with trio.fail_after(20):
        async with trio.open_nursery() as lasting:
            await run(given, registry(save), 1.0, lasting=lasting)
            assert trio.current_time() - began == pytest.approx(1.0)  # the call itself is not held up
            lasting.cancel_scope.cancel()
    assert trio.current_time() - began == pytest.approx(lasts)
    assert [each.outcome for each in given.performer.turns.tools] == [outcome]
    assert given.sent == []


async def test_a_tool_that_must_finish_is_answered_like_any_other_while_the_call_lasts(
    autojump_clock: MockClock,
) -> None:
    given = parts()
    announce(given, ("save", {"seconds": 0.5}))
    async with trio.open_nursery() as lasting:
        await run(given, registry(save), 1.0, lasting=lasting)
    assert [event.output for event in given.sent if isinstance(event, SendToolOutput)] == ["saved"]


async def test_a_tool_that_transferred_the_call_did_not_fail(autojump_clock: MockClock) -> None:
    given, leaving, control = parts(), Leaving(), PaperControl()
    leaving.referring = True
    announce(given, ("transfer_call", {}), ("slow", {"seconds": 4.0}))
    await run(given, registry(transfer_call(OpenAISettings(transfer_to="sip:a@b")), slow), 1.0, leaving, control)
    assert control.done == [("transfer", None)]
    assert sorted((each.name, each.outcome) for each in given.performer.turns.tools) == [
        ("slow", "cancelled"),
        ("transfer_call", "ok"),
    ]


async def test_what_a_tool_call_began_ends_with_it(autojump_clock: MockClock) -> None:
    given, kept = parts(), list[ToolContext]()

    @tool
    async def keep(context: ToolContext) -> None:
        """Keep the context."""
        kept.append(context)

    announce(given, ("keep", {}))
    await run(given, registry(keep), 1.0)
    with pytest.raises(ToolOver):
        kept[0].hang_up()


async def test_an_end_of_the_call_that_a_tool_meets_is_not_its_error(autojump_clock: MockClock) -> None:
    given = parts()

    @tool
    async def say() -> None:
        """Speak to a model that is stuck."""
        raise CallOver(Ending.REALTIME_STUCK)

    announce(given, ("say", {}))
    with pytest.RaisesGroup(pytest.RaisesExc(CallOver), flatten_subgroups=True):
        await run(given, registry(say), 1.0)


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
