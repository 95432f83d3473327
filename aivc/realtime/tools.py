"""Tools that the model may call: the front door to what defines and loads them.

    @tool
    def opening_hours(day: Literal["weekday", "saturday", "sunday"]) -> str:
        '''Tell when the shop is open.'''
        return "9 to 18" if day == "weekday" else "closed"

Running them, with deadlines and threads, is not done here.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from aivc.config.rules import BUILTIN_TOOLS
from aivc.config.settings import HttpTool, OpenAISettings
from aivc.realtime.builtin import builtin_tools, send_digits, terminate_call, transfer_call
from aivc.realtime.definition import MAX_TOOLS, Tool, ToolRegistry, tool
from aivc.realtime.httptools import http_tools
from aivc.realtime.session import TOOL_MODES
from aivc.realtime.toolcontext import CallControl, ToolContext, TransferFailed
from aivc.realtime.toolerrors import ToolArgumentsError, ToolError, ToolFileError
from aivc.realtime.toolfiles import file_tools

__all__ = [
    "MAX_TOOLS",
    "CallControl",
    "Tool",
    "ToolArgumentsError",
    "ToolContext",
    "ToolError",
    "ToolFileError",
    "ToolRegistry",
    "TransferFailed",
    "load_registry",
    "load_tools",
    "send_digits",
    "terminate_call",
    "tool",
    "transfer_call",
]


def load_tools(paths: Iterable[str]) -> ToolRegistry:
    """Return a registry with the built-in tools and those that these Python files define, in that order.

    `load_registry` does it as the settings say.

    Raises:
        ToolFileError: a file that is missing, fails to import or defines no tool.
    """
    return load_registry(OpenAISettings(tools=tuple(paths)))


def load_registry(settings: OpenAISettings, http: Iterable[HttpTool] = ()) -> ToolRegistry:
    """Return the tools of a call: the built-in ones, those from HTTP, and those of the files, in that order.

    The last definition of a name wins. Files are imported once a process; another call of this costs little.

    Args:
        settings: of the agent that answers; those about tools, transfers and the dialect matter here.
        http: `tools.http` of the whole configuration.

    Raises:
        ToolFileError: a file or a setting that cannot be used; the message names it.
    """
    registry = ToolRegistry()
    for definition in builtin_tools(settings):
        registry.add(definition)
    for definition in http_tools(http):
        add(registry, definition, definition.name, "tools.http")
    for path, definition in file_tools(settings.tools, settings):
        add(registry, definition, path, "openai.tools")
    describe(registry, settings)
    if settings.tool_choice not in TOOL_MODES and settings.tool_choice not in registry:
        raise ToolFileError(f"there is no function {settings.tool_choice}", "openai.tool_choice")
    return registry


def add(registry: ToolRegistry, definition: Tool, origin: str, setting: str) -> None:
    try:
        registry.add(definition)
    except ValueError as error:
        raise ToolFileError(f"{origin}: {error}", setting) from None


def describe(registry: ToolRegistry, settings: OpenAISettings) -> None:
    """Replace descriptions. A built-in function may be described and yet not be offered: agents share settings."""
    for name, description in settings.tool_descriptions.items():
        definition = registry.get(name)
        if definition is not None:
            registry.add(attrs.evolve(definition, description=description))
        elif name not in BUILTIN_TOOLS:
            raise ToolFileError(f"there is no function {name}", "openai.tool_descriptions")
