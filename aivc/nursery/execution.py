"""Runs the model's tool calls: each in a task of its own with a deadline, each answered exactly once."""

from __future__ import annotations

import enum
import inspect
import json
import logging
from collections.abc import Callable
from functools import cached_property
from typing import Final, Literal

import attrs
import trio

from aivc import logs
from aivc.config.settings import OpenAISettings
from aivc.nursery.ending import CallOver
from aivc.nursery.filler import Filler
from aivc.nursery.leaving import GOES_ON, Leaving
from aivc.nursery.performer import Performer
from aivc.nursery.record import ToolFinished, ToolRun, ToolStarted
from aivc.realtime.effects import ToolCall
from aivc.realtime.toolcontext import ToolContext
from aivc.realtime.toolerrors import ToolArgumentsError, ToolError, UnknownToolError
from aivc.realtime.tools import ToolRegistry

log = logging.getLogger("aivc.tools")

SIDE_BY_SIDE: Final = 8  # tools of one call at a time; more wait
MOST_WAITING: Final = 16  # tool calls; the model is told "busy" beyond
LONGEST_OUTPUT: Final = 32_000  # characters; more would crowd the model's context and the WebSocket

Outcome = Literal["ok", "error", "timeout", "bad_arguments", "unknown", "cancelled"]


@attrs.frozen
class Result:
    """What a tool call came to."""

    output: str  # for the model
    outcome: Outcome = "ok"


@attrs.frozen(eq=False)
class Workshop:
    """What the tool calls of one phone call share.

    Args:
      nursery: where they run.
      context: of the call; each tool call gets one of its own made of it.
      settings: of the agent: deadlines and fillers.
      leaving: knows which tool calls end the call: the model is not answered, it has nothing more to say.
      lasting: where tools with `finish=True` run, which are done by their deadline even if the call is over and its
        nursery cancelled. None: in their own task, where they hold up the end of the call.
    """

    nursery: trio.Nursery
    tools: ToolRegistry
    context: ToolContext
    settings: OpenAISettings
    performer: Performer
    leaving: Leaving
    lasting: trio.Nursery | None = None

    @cached_property
    def filler(self) -> Filler:
        return Filler(self.settings, self.context.control, self.performer)

    @cached_property
    def places(self) -> trio.Semaphore:
        return trio.Semaphore(SIDE_BY_SIDE)

    @cached_property
    def threads(self) -> trio.CapacityLimiter:
        return trio.CapacityLimiter(SIDE_BY_SIDE)

    async def begin(self, call: ToolCall) -> None:
        """Start a tool call when there is a place for it."""
        await self.places.acquire()
        self.nursery.start_soon(self._run, call)

    async def _run(self, call: ToolCall) -> None:
        try:
            async with self.filler.while_running():
                output = await run_one(self, call)
            if not self.leaving.keeps(call.call_id, output):
                self.performer.tool_finished(call.call_id, output)
        finally:
            self.places.release()


async def run_one(shop: Workshop, call: ToolCall) -> str:
    """Run one tool call and return its output. Cancellation ends its say in the call, and the tool if it may."""
    context = shop.context.of_tool_call(call.call_id)
    definition = shop.tools.get(call.name)
    try:
        if definition is None or not definition.finish:
            output = await run_recorded(shop, call, context)
        else:
            output = await run_to_the_end(shop, call, context)
    finally:
        context.lifetime.end()
    return GOES_ON if context.lifetime.hung_up else output  # if the model is ever told, the call has gone on


async def run_to_the_end(shop: Workshop, call: ToolCall, context: ToolContext) -> str:
    """Run a tool that neither a hang-up nor the end of the call cancels, only its deadline."""
    outputs, output = trio.open_memory_channel[str | CallOver](1)

    async def run() -> None:
        with trio.CancelScope(shield=True):
            try:
                outputs.send_nowait(await run_recorded(shop, call, context))
            except CallOver as over:  # for the task that waits: this one is not the call's
                outputs.send_nowait(over)

    if shop.lasting is None:
        await run()
    else:
        shop.lasting.start_soon(run)
    result = await output.receive()
    if isinstance(result, CallOver):
        raise result
    return result


async def run_recorded(shop: Workshop, call: ToolCall, context: ToolContext) -> str:
    """Run a tool; tell the log, the record and the observer of it, however it ends."""
    logs.event(log, "tool.started", name=call.name)
    shop.performer.announcer.tell(ToolStarted(call.call_id, call.name, call.arguments_json))
    started_at, result = trio.current_time(), Result("", "cancelled")
    shop.performer.turns.tool_started(call.call_id, started_at)
    try:
        result = await result_of(shop.tools, context, call, shop.settings.tool_seconds, shop.threads)
    finally:
        if shop.leaving.referring and context.lifetime.transferring:
            if result.outcome == "cancelled":
                result = Result("The call was transferred.")
            else:  # its deadline came first, and nobody follows the transfer any more
                shop.leaving.referring = False
        ended_at = trio.current_time()
        run = ToolRun(
            call.call_id, call.name, call.arguments_json, result.output, started_at, ended_at, outcome=result.outcome
        )
        shop.performer.turns.tool_ran(run)
        shop.performer.announcer.tell(ToolFinished(run))
        logs.event(log, "tool.finished", name=call.name, outcome=run.outcome, ms=round(1000 * (ended_at - started_at)))
    return result.output


async def result_of(
    tools: ToolRegistry, context: ToolContext, call: ToolCall, seconds: float, threads: trio.CapacityLimiter
) -> Result:
    """What the model is told, the tool's result or an error that it can act on. Raises CallOver."""
    try:
        function = tools.prepare(call.name, call.arguments_json, context)
        definition = tools.get(call.name)
        deadline = seconds if definition is None or definition.seconds is None else definition.seconds
        with trio.move_on_after(deadline):
            return Result(as_output(await invoke(function, threads)))
    except CallOver:  # the call ended while the tool acted on it
        raise
    except ToolError as error:
        outcome = outcome_of(error)
        logs.event(log, "tool.failed", level=logging.WARNING, name=call.name, outcome=outcome, error=str(error))
        return Result(as_error(str(error)), outcome)
    except (Exception, SystemExit) as error:  # sys.exit() in a tool may not end the service
        logs.event(log, "tool.failed", level=logging.ERROR, name=call.name, outcome="error", exc_info=error)
        return Result(as_error(logs.redacted(f"{call.name} failed: {type(error).__name__}: {error}")), "error")
    logs.event(log, "tool.timeout", level=logging.WARNING, name=call.name, seconds=deadline)
    return Result(as_error(f"{call.name} did not finish within {deadline:g} seconds"), "timeout")


def outcome_of(error: ToolError) -> Outcome:
    match error:
        case UnknownToolError():
            return "unknown"
        case ToolArgumentsError():
            return "bad_arguments"
        case _:
            return "error"


async def invoke(function: Callable[[], object], threads: trio.CapacityLimiter) -> object:
    """Call a tool: an async one in this task, a plain one in a thread, so that it may block.

    The threads are the call's own: a tool that never returns must not use up those that look up host names.
    """
    if inspect.iscoroutinefunction(function):
        return await function()
    return await trio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=threads)


def as_output(result: object) -> str:
    """A text as it is, nothing as "ok", anything else as JSON."""
    if result is None:
        return "ok"
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=plain)
    return text[:LONGEST_OUTPUT]


def plain(value: object) -> object:
    """What JSON does not know: an attrs object as its members, an enum as its value, the rest as text."""
    if isinstance(value, enum.Enum):
        return value.value
    if attrs.has(type(value)):
        return attrs.asdict(value, recurse=False)  # type: ignore[arg-type]  # has() narrows the type, not the value
    return str(value)


def as_error(message: str) -> str:
    return json.dumps({"error": message[:LONGEST_OUTPUT]}, ensure_ascii=False)
