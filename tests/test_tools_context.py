"""What a tool may do to its call, from wherever it runs, and for how long."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from paper_control import PaperControl
from trio.testing import MockClock

from aivc.realtime.toolcontext import ToolContext, ToolOver, TransferFailed

EVERYTHING = [("say", "Hello."), ("interrupt",), ("hang_up",), ("send_event", {"type": "input_audio_buffer.clear"})]


def context(control: PaperControl) -> ToolContext:
    return ToolContext("call-1", "sip:alice@example.com", "100", control, {"x-shop": "1"})


def do_everything(given: ToolContext) -> None:
    given.say("Hello.")
    given.interrupt()
    given.hang_up()
    given.send_event({"type": "input_audio_buffer.clear"})


async def test_the_call_is_acted_on_from_trio() -> None:
    control = PaperControl()
    do_everything(context(control).of_tool_call("fc1"))
    assert control.done == EVERYTHING


async def test_and_from_a_thread() -> None:
    control = PaperControl()
    with trio.fail_after(5):
        await trio.to_thread.run_sync(do_everything, context(control).of_tool_call("fc1"))
    assert control.done == EVERYTHING


async def test_each_tool_call_knows_its_id_and_shares_the_state_of_the_call() -> None:
    first, second = (context(PaperControl()).of_tool_call(name) for name in ("fc1", "fc2"))
    assert (first.tool_call_id, second.tool_call_id) == ("fc1", "fc2")
    assert first.headers["x-shop"] == "1"
    whole = context(PaperControl())
    whole.of_tool_call("fc1").state["cart"] = ["pen"]
    assert whole.of_tool_call("fc2").state == {"cart": ["pen"]}


async def test_a_thread_may_transfer_and_send_digits() -> None:
    control = PaperControl(TransferFailed("busy"))

    def leave(given: ToolContext) -> str:
        try:
            return trio.from_thread.run(given.transfer, "sales")
        except TransferFailed as error:
            return str(error)

    with trio.fail_after(5):
        assert await trio.to_thread.run_sync(leave, context(control).of_tool_call("fc1")) == "busy"
        control.refuses = None
        digits = partial(trio.from_thread.run, context(control).of_tool_call("fc2").send_digits, "12")
        await trio.to_thread.run_sync(digits)
    assert control.done == [("transfer", "sales"), ("send_digits", "12")]


async def test_what_has_ended_does_nothing_more() -> None:
    control = PaperControl()
    given = context(control).of_tool_call("fc1")
    given.lifetime.end()
    for act in (given.interrupt, given.hang_up, partial(given.say, "x"), partial(given.send_event, {})):
        with pytest.raises(ToolOver):
            act()
        with trio.fail_after(5), pytest.raises(ToolOver):
            await trio.to_thread.run_sync(act)
    for wait in (given.transfer, partial(given.send_digits, "1")):
        with pytest.raises(ToolOver):
            await wait()
    assert control.done == []


async def test_a_transfer_that_a_thread_waits_for_ends_with_the_tool_call(autojump_clock: MockClock) -> None:
    given = context(PaperControl()).of_tool_call("fc1")
    failures: list[str] = []

    async def transfer() -> None:  # as trio runs what a thread that may be abandoned asks for
        try:
            await given.transfer()
        except ToolOver as error:
            failures.append(str(error))

    trio.lowlevel.spawn_system_task(transfer)
    with trio.fail_after(5):
        await trio.sleep(1)
        assert given.lifetime.transferring
        given.lifetime.end()
        await trio.sleep(1)
    assert failures == ["the tool call is over"]


async def test_a_transfer_that_failed_is_not_under_way_any_more() -> None:
    given = context(PaperControl(TransferFailed("busy"))).of_tool_call("fc1")
    with pytest.raises(TransferFailed):
        await given.transfer()
    assert not given.lifetime.transferring
