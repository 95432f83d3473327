"""One function of the model's: what it is told about it, and its arguments checked before anything runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import overload

import attrs

from aivc.realtime.arguments import parse_untrusted
from aivc.realtime.events import ToolSchema
from aivc.realtime.schema import Parameter, documented, object_schema, parameters_of, structure_arguments
from aivc.realtime.toolcontext import ToolContext
from aivc.realtime.toolerrors import ToolArgumentsError, UnknownToolError

MAX_TOOLS = 128  # the API's own limit for one session
MAX_NAME = 64  # characters, likewise


@attrs.frozen
class Tool:
    """One function of the model's. Still callable as the Python function that it was."""

    name: str
    description: str
    parameters: Mapping[str, object]  # JSON schema of an object
    function: Callable[..., object] = attrs.field(repr=False)
    typed: tuple[Parameter, ...] | None = None  # None: the arguments are passed on as JSON gave them
    seconds: float | None = attrs.field(default=None, kw_only=True)  # its deadline; None: openai.tool_seconds
    finish: bool = attrs.field(default=False, kw_only=True)  # whether it goes on when the call ends

    def __attrs_post_init__(self) -> None:
        plain = self.name.replace("_", "").replace("-", "")
        if not (plain.isascii() and plain.isalnum() and len(self.name) <= MAX_NAME):
            raise ValueError(f"tool name {self.name!r:.80}: expected up to 64 ASCII letters, digits, _ or -")

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self.function(*args, **kwargs)

    @property
    def schema(self) -> ToolSchema:
        return ToolSchema(self.name, self.description, self.parameters)

    def bind(self, arguments_json: str, context: ToolContext) -> Callable[[], object]:
        """Return the call, ready to be made; `inspect.iscoroutinefunction` tells whether it is to be awaited.

        Raises:
            ToolArgumentsError: not a JSON object, or an argument is missing, unknown or of another type.
        """
        given = parse_untrusted(self.name, arguments_json)
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
def tool(
    *, name: str | None = None, description: str | None = None, seconds: float | None = None, finish: bool = False
) -> Callable[[Callable[..., object]], Tool]: ...
def tool(
    function: Callable[..., object] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    seconds: float | None = None,
    finish: bool = False,
) -> Tool | Callable[[Callable[..., object]], Tool]:
    """Make a tool of a typed function, sync or async.

    The model sees the function's name, the docstring up to its sections, and a JSON schema of the parameters, described
    by an `Args:` section, `:param x:` lines or `Annotated[..., "text"]`.

    Args:
        name: instead of the function's.
        description: instead of the docstring.
        seconds: the deadline of one call, instead of `openai.tool_seconds`.
        finish: whether a tool that is running when the phone call ends goes on, up to its deadline, for what must not
            be left half done; others are cancelled.

    Raises:
        TypeError: a parameter without a type, or with one that has no simple JSON schema.
        ValueError: a name that the API does not take, or a deadline that is none.
    """
    make = partial(tool_of, name=name, description=description, seconds=seconds, finish=finish)
    return make if function is None else make(function)


def tool_of(
    function: Callable[..., object],
    *,
    name: str | None = None,
    description: str | None = None,
    seconds: float | None = None,
    finish: bool = False,
) -> Tool:
    if seconds is not None and not seconds > 0:
        raise ValueError(f"{function.__name__}: seconds must be more than 0, not {seconds}")
    typed = parameters_of(function)
    asked = tuple(parameter for parameter in typed if parameter.type is not ToolContext)
    try:
        schema = object_schema(asked)
    except TypeError as error:
        raise TypeError(f"{function.__name__}: {error}") from None
    said = documented(inspect.getdoc(function) or "")[0] if description is None else description
    return Tool(name or function.__name__, said, schema, function, typed, seconds=seconds, finish=finish)


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
            ToolArgumentsError: no such tool (`UnknownToolError`), not JSON, or arguments that do not fit; the message
                is for the model.
        """
        if (definition := self._tools.get(call_name)) is None:
            raise UnknownToolError(f"there is no tool {call_name!r:.80}; the tools are {', '.join(self._tools)}")
        return definition.bind(arguments_json, context)
