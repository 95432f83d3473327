"""Runs the model's tool calls: each in a task of its own with a deadline, each answered exactly once."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable
from typing import Final

import trio

from aivc import logs
from aivc.nursery.performer import Performer
from aivc.nursery.record import ToolFinished, ToolRun, ToolStarted
from aivc.realtime.effects import ToolCall
from aivc.realtime.tools import ToolArgumentsError, ToolContext, ToolRegistry

log = logging.getLogger("aivc.tools")

SIDE_BY_SIDE: Final = 8  # tools of one call at a time; more wait, and beyond `jobs` the model is told "busy"
LONGEST_OUTPUT: Final = 32_000  # characters; more would crowd the model's context and the WebSocket


async def run_tools(
    jobs: trio.MemoryReceiveChannel[ToolCall],
    tools: ToolRegistry,
    context: ToolContext,
    seconds: float,
    performer: Performer,
    farewell: trio.Event,
) -> None:
    """Take tool calls as they come and run them side by side.

    A tool that ends the call is not answered: the model has nothing more to say.
    """

    places, threads = trio.CapacityLimiter(SIDE_BY_SIDE), trio.CapacityLimiter(SIDE_BY_SIDE)

    async def run_one(call: ToolCall) -> None:
        logs.event(log, "tool.started", name=call.name)
        performer.announcer.tell(ToolStarted(call.call_id, call.name, call.arguments_json))
        started_at = trio.current_time()
        output = await output_of(tools, context, call, seconds, threads)
        run = ToolRun(call.call_id, call.name, call.arguments_json, output, started_at, trio.current_time())
        performer.turns.tool_ran(run)
        performer.announcer.tell(ToolFinished(run))
        logs.event(log, "tool.finished", name=call.name, ms=round(1000 * (run.ended_at - started_at)))
        if not farewell.is_set():
            performer.tool_finished(call.call_id, output)

    async def run_one_in(place: object, call: ToolCall) -> None:
        try:
            await run_one(call)
        finally:
            places.release_on_behalf_of(place)

    async with trio.open_nursery() as nursery:
        async for call in jobs:
            place = object()
            await places.acquire_on_behalf_of(place)
            nursery.start_soon(run_one_in, place, call)


async def output_of(
    tools: ToolRegistry, context: ToolContext, call: ToolCall, seconds: float, threads: trio.CapacityLimiter
) -> str:
    """What the model is told: the tool's result, or an error that it can act on."""
    try:
        function = tools.prepare(call.name, call.arguments_json, context)
        with trio.fail_after(seconds):
            return as_output(await invoke(function, threads))
    except ToolArgumentsError as error:
        return as_error(str(error))
    except trio.TooSlowError:
        logs.event(log, "tool.timeout", level=logging.WARNING, name=call.name, seconds=seconds)
        return as_error(f"{call.name} did not finish within {seconds:g} seconds")
    except (Exception, SystemExit) as error:  # sys.exit() in a tool may not end the service
        logs.event(log, "tool.failed", level=logging.ERROR, name=call.name, exc_info=error)
        return as_error(logs.redacted(f"{call.name} failed: {type(error).__name__}: {error}"))


async def invoke(function: Callable[[], object], threads: trio.CapacityLimiter) -> object:
    """Call a tool: an async one in this task, a plain one in a thread, so that it may block.

    The threads are the call's own: a tool that never returns must not use up those that look up host names.
    """
    if inspect.iscoroutinefunction(function):
        return await function()
    return await trio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=threads)


def set_from_any_thread(event: trio.Event) -> None:
    """Set an event from a tool, which may run in trio's thread or in a worker's."""
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        trio.from_thread.run_sync(event.set)
    else:
        event.set()


def as_output(result: object) -> str:
    """A text as it is, nothing as "ok", anything else as JSON."""
    if result is None:
        return "ok"
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str)
    return text[:LONGEST_OUTPUT]


def as_error(message: str) -> str:
    return json.dumps({"error": message[:LONGEST_OUTPUT]}, ensure_ascii=False)
