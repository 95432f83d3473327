"""Tool files of the OpenSIPS AI Voice Connector CE, unchanged.

Such a file has a list `FUNCTIONS` of JSON schemas and functions of the same names, `name(engine, arguments)`, where
`arguments` is JSON text. They are asyncio code: a usual one sends an event by
`asyncio.create_task(engine.ws.send(json.dumps(event)))`. So each call runs in a thread with an event loop of its own,
where it may also block; it is over when the function and the tasks that it began are. What it returns is the output.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any, Final, NoReturn, TypeVar

import attrs

from aivc.config.rules import BUILTIN_TOOLS
from aivc.config.settings import OpenAISettings
from aivc.realtime.arguments import parse_untrusted
from aivc.realtime.builtin import send_digits, terminate_call, transfer_call
from aivc.realtime.definition import Tool
from aivc.realtime.toolcontext import ToolContext

Value = TypeVar("Value")

ENGINE: Final = "aivc.legacy.engine"  # its place in the state of a call
NO_PARAMETERS: Final[Mapping[str, object]] = {"type": "object", "properties": {}}


def is_legacy(module: ModuleType) -> bool:
    return hasattr(module, "FUNCTIONS")


def legacy_tools(module: ModuleType, others: Sequence[ModuleType], settings: OpenAISettings) -> list[Tool]:
    """Return the tools of one such file.

    As there, a function may stand in another file than its schema, the last definition of either counts, and a function
    with the name of a built-in one replaces it without a schema of its own.

    Raises:
        ValueError: `FUNCTIONS` is not what it should be; the message says how.
    """
    schemas = module.FUNCTIONS
    if not isinstance(schemas, list | tuple):
        raise ValueError("FUNCTIONS is not a list")
    tools = [legacy_tool(schema, others, settings) for schema in schemas]
    named = {definition.name for definition in tools}
    for builtin in (terminate_call, transfer_call(settings), send_digits):
        if builtin.name not in named and callable(getattr(module, builtin.name, None)):
            function = implementation(builtin.name, others)
            tools.append(LegacyTool(builtin.name, builtin.description, builtin.parameters, function, settings=settings))
    return tools


def legacy_tool(schema: object, modules: Sequence[ModuleType], settings: OpenAISettings) -> Tool:
    if not isinstance(schema, Mapping) or not isinstance(name := schema.get("name"), str):
        raise ValueError(f"FUNCTIONS has {schema!r:.60}, which is not a dictionary with a name")
    parameters, description = schema.get("parameters", NO_PARAMETERS), schema.get("description", "")
    if not isinstance(parameters, Mapping) or not isinstance(description, str):
        raise ValueError(f"FUNCTIONS: {name}: the parameters are not a dictionary, or the description is not a text")
    return LegacyTool(name, description, parameters, implementation(name, modules), settings=settings)


def implementation(name: str, modules: Sequence[ModuleType]) -> Callable[..., object]:
    for module in reversed(modules):
        if callable(function := getattr(module, name, None)) and not isinstance(function, Tool):
            return function  # type: ignore[no-any-return]  # callable() leaves it Any
    builtins = f"; to describe the built-in {name} anew, use openai.tool_descriptions" if name in BUILTIN_TOOLS else ""
    raise ValueError(f"FUNCTIONS names {name}, but there is no function {name}(engine, arguments){builtins}")


@attrs.frozen
class LegacyTool(Tool):
    """A tool that takes its arguments as text, and its call as an `Engine`."""

    settings: OpenAISettings = attrs.field(kw_only=True, repr=False)

    def bind(self, arguments_json: str, context: ToolContext) -> Callable[[], object]:
        parse_untrusted(self.name, arguments_json)
        return partial(run_with_loop, self.function, Engine(context, self.settings), arguments_json.strip() or "{}")


def run_with_loop(function: Callable[..., object], engine: Engine, arguments: str) -> object:
    """Call a function in this thread, with the event loop that it expects to run in."""

    async def call() -> object:
        result = function(engine, arguments)
        if inspect.isawaitable(result):
            result = await result
        this = asyncio.current_task()
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not this))
        return result

    return asyncio.run(call())


class Engine:
    """What functions of such files get as `engine`. What they put on it, the later calls of the same phone call find.

    It is made anew for each tool call, because what a tool does to its call ends with it.
    """

    ws: WebSocket
    call: Call

    def __init__(self, context: ToolContext, settings: OpenAISettings) -> None:
        kept = context.state.setdefault(ENGINE, initial_members(settings))
        vars(self).update(ws=WebSocket(context, settings), call=Call(context), _kept=kept)

    def terminate_call(self) -> None:
        """Hang up once the last words are heard."""
        self.call.terminated = True

    def drain_queue(self) -> None:
        """Stop what the model is saying."""
        self.call.context.interrupt()

    async def run_in_thread(self, function: Callable[..., Value], *args: object) -> Value:
        return await asyncio.to_thread(function, *args)

    def __setattr__(self, name: str, value: object) -> None:
        vars(self)["_kept"][name] = value

    def __getattr__(self, name: str) -> Any:
        kept = vars(self)["_kept"]
        return kept[name] if name in kept else missing("engine", {*kept, *vars(self), *vars(Engine)}, name)


def initial_members(settings: OpenAISettings) -> dict[str, Any]:
    """What such files read of the settings."""
    return {
        "transfer_to": settings.transfer_to,
        "transfer_by": settings.transfer_by,
        "model": settings.model,
        "voice": settings.voice,
        "url": settings.url,
        "instructions": settings.instructions,
        "intro": settings.welcome_message,
        "session": {"voice": settings.voice, "instructions": settings.instructions},
    }


class Call:
    """`engine.call`."""

    def __init__(self, context: ToolContext) -> None:
        self.context, self._terminated = context, False
        self.call_id, self.b2b_key = context.call_id, context.session_key or context.call_id
        self.to, self.caller, self.headers = context.dialled, context.caller, context.headers
        self.flavor = "openai"

    @property
    def terminated(self) -> bool:
        """Setting it hangs up once the last words are heard."""
        return self._terminated

    @terminated.setter
    def terminated(self, wanted: bool) -> None:
        self._terminated = wanted
        if wanted:
            self.context.hang_up()

    def terminate(self) -> None:
        self.terminated = True

    def __getattr__(self, name: str) -> NoReturn:
        missing("engine.call", {*vars(self), *vars(Call)}, name)


class WebSocket:
    """`engine.ws`: the way to the model."""

    def __init__(self, context: ToolContext, settings: OpenAISettings) -> None:
        self._context, self._settings = context, settings

    async def send(self, text: str) -> None:
        """Send one client event, given as JSON."""
        event = json.loads(text)
        if not isinstance(event, dict):
            raise ValueError("engine.ws.send() takes the JSON text of one object")
        response = event.get("response")
        if event.get("type") == "response.create" and isinstance(response, dict) and set(response) == {"instructions"}:
            self._context.say(str(response["instructions"]))  # in its turn: sent as it is, it may meet an active answer
        else:
            self._context.send_event(modern(event) if self._settings.dialect == "ga" else event)

    def __getattr__(self, name: str) -> NoReturn:
        missing("engine.ws", {*vars(WebSocket)}, name)


def modern(event: dict[str, Any]) -> dict[str, Any]:
    """An event of the beta interface, for which such files were written, as today's takes it, where that is simple."""
    kind = {"session.update": "session", "response.create": "response"}.get(str(event.get("type")))
    body = event.get(kind) if kind else None
    if kind is None or not isinstance(body, dict):
        return event
    body = dict(body)
    if kind == "session":
        body.setdefault("type", "realtime")
    if isinstance(modalities := body.pop("modalities", None), list):
        body["output_modalities"] = ["audio"] if "audio" in modalities else modalities  # today's has one at a time
    return {**event, kind: body}


def missing(holder: str, members: Iterable[str], name: str) -> NoReturn:
    """Say what there is instead: the text becomes the tool's error and stands in the log."""
    offered = ", ".join(sorted(each for each in members if not each.startswith("_")))
    raise AttributeError(f"{holder}.{name} is not offered by aivc; {holder} has {offered}")
