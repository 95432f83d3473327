"""Tools that the model may call: what it is told about them, and its arguments checked before anything runs.

    @tool
    def opening_hours(day: Literal["weekday", "saturday", "sunday"]) -> str:
        '''Tell when the shop is open.'''
        return "9 to 18" if day == "weekday" else "closed"

Running them, with deadlines and threads, is not done here.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import overload

import attrs

from aivc.config.loading import ConfigError
from aivc.realtime.events import ToolSchema
from aivc.realtime.schema import Parameter, documented, object_schema, parameters_of, structure_arguments

MAX_TOOLS = 128  # the API's own limit for one session
MAX_NAME = 64  # characters, likewise


class ToolFileError(ConfigError):
    """A file of `openai.tools` cannot be used; the message names the file and the cause."""

    def __init__(self, cause: str) -> None:
        super().__init__((f"openai.tools: {cause}",))


class ToolArgumentsError(Exception):
    """The model's call cannot be made; the message tells the model how to correct it."""


@attrs.frozen
class ToolContext:
    """What a tool may know of its call. A parameter annotated with this class receives it; the model never sees it."""

    call_id: str  # the SIP Call-ID
    caller: str  # the caller's address, as text
    dialled: str  # what the caller dialled
    hang_up: Callable[[], None] = attrs.field(repr=False)  # ends the call once the model's last words are spoken


@attrs.frozen
class Tool:
    """One function of the model's. Still callable as the Python function that it was."""

    name: str
    description: str
    parameters: Mapping[str, object]  # JSON schema of an object
    function: Callable[..., object] = attrs.field(repr=False)
    typed: tuple[Parameter, ...] | None = None  # None: the arguments are passed on as JSON gave them

    def __attrs_post_init__(self) -> None:
        plain = self.name.replace("_", "").replace("-", "")
        if not (plain.isascii() and plain.isalnum() and len(self.name) <= MAX_NAME):
            raise ValueError(f"tool name {self.name!r:.80}: expected up to 64 ASCII letters, digits, _ or -")

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self.function(*args, **kwargs)

    @property
    def schema(self) -> ToolSchema:
        return ToolSchema(self.name, self.description, self.parameters)

    def bind(self, given: Mapping[str, object], context: ToolContext) -> Callable[[], object]:
        """Return the call, ready to be made; `inspect.iscoroutinefunction` tells whether it is to be awaited.

        Raises:
            ToolArgumentsError: an argument is missing, unknown or of another type.
        """
        if self.typed is None:
            return partial(self.function, **given)
        asked = tuple(parameter for parameter in self.typed if parameter.type is not ToolContext)
        try:
            arguments = structure_arguments(asked, given)
        except ValueError as error:
            raise ToolArgumentsError(f"{self.name}: {error}") from None
        injected = {parameter.name: context for parameter in self.typed if parameter.type is ToolContext}
        return partial(self.function, **arguments, **injected)


@overload
def tool(function: Callable[..., object], /) -> Tool: ...
@overload
def tool(*, name: str | None = None, description: str | None = None) -> Callable[[Callable[..., object]], Tool]: ...
def tool(
    function: Callable[..., object] | None = None, /, *, name: str | None = None, description: str | None = None
) -> Tool | Callable[[Callable[..., object]], Tool]:
    """Make a tool of a typed function, sync or async.

    The model sees the function's name, the docstring up to its sections, and a JSON schema of the parameters, described
    by an `Args:` section, `:param x:` lines or `Annotated[..., "text"]`.

    Raises:
        TypeError: a parameter without a type, or with one that has no simple JSON schema.
    """
    if function is None:
        return partial(tool_of, name=name, description=description)
    return tool_of(function, name=name, description=description)


def tool_of(function: Callable[..., object], *, name: str | None, description: str | None) -> Tool:
    typed = parameters_of(function)
    asked = tuple(parameter for parameter in typed if parameter.type is not ToolContext)
    try:
        schema = object_schema(asked)
    except TypeError as error:
        raise TypeError(f"{function.__name__}: {error}") from None
    said = documented(inspect.getdoc(function) or "")[0] if description is None else description
    return Tool(name or function.__name__, said, schema, function, typed)


@tool
async def terminate_call(context: ToolContext) -> str:
    """Hang up the phone, ending this call for good.

    Use it when the conversation is finished: the caller has said goodbye, has asked you to hang up, or has confirmed
    that nothing else is needed. Always say a short goodbye aloud first, in the same turn and before calling this
    function, because nothing can be said afterwards; what you have already said is still played to the end. Do not call
    it because of a silence, a pause or a misunderstanding, and never while the caller is still asking for something.
    """
    context.hang_up()
    return "The call is ending."


@attrs.define
class ToolRegistry:
    """The tools of a session, by name; the last definition of a name wins."""

    _tools: dict[str, Tool] = attrs.field(factory=dict, init=False)

    def add(self, definition: Tool) -> None:
        """Add or replace a tool.

        Raises:
            ValueError: there are 128 already, which is all that the API takes.
        """
        if definition.name not in self._tools and len(self._tools) >= MAX_TOOLS:
            raise ValueError(f"more than {MAX_TOOLS} tools: {definition.name}")
        self._tools[definition.name] = definition

    def __contains__(self, name: str) -> bool:
        return name in self._tools

    def __len__(self) -> int:
        return len(self._tools)

    def get(self, name: str) -> Tool | None:
        return self._tools.get(name)

    @property
    def schemas(self) -> tuple[ToolSchema, ...]:
        """What the model is told, in the order of definition."""
        return tuple(definition.schema for definition in self._tools.values())

    def prepare(self, call_name: str, arguments_json: str, context: ToolContext) -> Callable[[], object]:
        """Return the model's call, checked and ready to be made; a coroutine function when it is to be awaited.

        Raises:
            ToolArgumentsError: no such tool, not JSON, or arguments that do not fit; the message is for the model.
        """
        if (definition := self._tools.get(call_name)) is None:
            raise ToolArgumentsError(f"there is no tool {call_name!r:.80}; the tools are {', '.join(self._tools)}")
        try:
            given = json.loads(arguments_json) if arguments_json.strip() else {}  # some models send nothing for {}
        except (ValueError, RecursionError):
            raise ToolArgumentsError(f"{call_name}: the arguments are not JSON") from None
        if not isinstance(given, dict):
            raise ToolArgumentsError(f"{call_name}: the arguments are not a JSON object")
        return definition.bind(given, context)


def load_tools(paths: Iterable[str]) -> ToolRegistry:
    """Return a registry with the built-in tools and those that these Python files define, in that order.

    Raises:
        ToolFileError: a file that is missing, fails to import or defines no tool.
    """
    registry = ToolRegistry()
    registry.add(terminate_call)
    for path in paths:
        found = [value for value in vars(import_file(path)).values() if isinstance(value, Tool)]
        if not found:
            raise ToolFileError(f"{path}: defines no tool; decorate a function with @tool")
        for definition in found:
            try:
                registry.add(definition)
            except ValueError as error:
                raise ToolFileError(f"{path}: {error}") from None
    return registry


def import_file(path: str) -> ModuleType:
    """Import one Python file by its path.

    Raises:
        ToolFileError: it is missing, or raised something.
    """
    file = Path(path)
    if not file.is_file():
        raise ToolFileError(f"{path}: no such file")
    name = "aivc_tools_" + "".join(c if c.isalnum() else "_" for c in str(file.resolve().with_suffix("")))
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ToolFileError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # attrs and dataclasses look their module up while a class is made
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ToolFileError(f"{path}: {type(error).__name__}: {error}") from error
    return module
