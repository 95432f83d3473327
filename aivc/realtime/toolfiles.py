"""Python files with functions for the model, in either of two forms.

A file of typed functions decorates them with `@tool`, or lists them in `TOOLS = [function, ...]`. A file that was
written for the OpenSIPS AI Voice Connector CE has a list `FUNCTIONS` of JSON schemas; see `aivc.realtime.legacy`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from aivc.config.settings import OpenAISettings
from aivc.realtime.definition import Tool, tool_of
from aivc.realtime.legacy import is_legacy, legacy_tools
from aivc.realtime.toolerrors import ToolFileError


def file_tools(paths: Iterable[str], settings: OpenAISettings) -> Iterator[tuple[str, Tool]]:
    """The tools of these files, each with its path, in the order in which later ones replace earlier ones.

    Raises:
        ToolFileError: a file that is missing, fails to import or defines no tool.
    """
    modules = [(path, import_file(path)) for path in paths]
    legacy = [module for _, module in modules if is_legacy(module)]
    for path, module in modules:
        try:
            found = [*typed_tools(module), *(legacy_tools(module, legacy, settings) if is_legacy(module) else ())]
        except (TypeError, ValueError) as error:
            raise ToolFileError(f"{path}: {error}") from None
        if not found and not is_legacy(module):  # one of those may hold functions for the schemas of another
            raise ToolFileError(f"{path}: defines no tool; decorate a function with @tool")
        yield from ((path, definition) for definition in found)


def typed_tools(module: ModuleType) -> list[Tool]:
    """What is decorated, then what is listed. Raises TypeError and ValueError."""
    decorated = [value for value in vars(module).values() if isinstance(value, Tool)]
    listed = getattr(module, "TOOLS", [])
    if not isinstance(listed, list | tuple):
        raise TypeError("TOOLS is not a list of functions")
    for each in listed:
        if not callable(each):
            raise TypeError(f"TOOLS has {each!r:.60}, which is not a function")
    return decorated + [each if isinstance(each, Tool) else tool_of(each) for each in listed]


def import_file(path: str) -> ModuleType:
    """Import one Python file by its path, or return it when it has been imported already: once a process, as always.

    Raises:
        ToolFileError: it is missing, or raised something.
    """
    file = Path(path)
    if not file.is_file():
        raise ToolFileError(f"{path}: no such file")
    name = "aivc_tools_" + "".join(c if c.isalnum() else f"_{ord(c):x}_" for c in str(file.resolve().with_suffix("")))
    if name in sys.modules:
        return sys.modules[name]
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
