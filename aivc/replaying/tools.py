"""The functions that the model had: the built-in ones as they are, all others as they were in the recorded call."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import trio

from aivc.config.settings import Settings
from aivc.flight.entries import Flight, RealtimeEvent, ToolEntry
from aivc.realtime.tools import Tool, ToolFileError, ToolRegistry, load_registry
from aivc.replaying.alike import loaded
from aivc.replaying.settings import NotReplayable


@attrs.define(eq=False)
class PlayedTools:
    """What came of each call of a function, in their order, by name."""

    _returned: dict[str, trio.Event] = attrs.field(factory=lambda: defaultdict(trio.Event))  # by id of the tool call
    _outputs: dict[str, str] = attrs.field(factory=dict)  # likewise
    _calls: dict[str, deque[str]] = attrs.field(factory=lambda: defaultdict(deque))  # ids by name of the function

    @classmethod
    def of(cls, flight: Flight) -> PlayedTools:
        made = cls()
        for entry in flight.entries:
            if isinstance(entry, ToolEntry) and entry.what == "called":
                made._calls[entry.name].append(entry.call_id)
            elif isinstance(entry, ToolEntry) and entry.outcome != "cancelled":
                made._outputs[entry.call_id] = entry.text
        return made

    def returned(self, entry: ToolEntry) -> None:
        """The recording says that a function has returned."""
        self._returned[entry.call_id].set()

    def function(self, name: str) -> Callable[..., object]:
        async def played(**_arguments: object) -> str:
            calls = self._calls[name]
            call_id = calls.popleft() if calls else ""
            if call_id not in self._outputs:  # it was cut off by the end of the call
                await trio.sleep_forever()
            await self._returned[call_id].wait()
            return self._outputs[call_id]

        return played


def played_registry(flight: Flight, settings: Settings, played: PlayedTools) -> ToolRegistry:
    """The functions in the order, and with the schemas, that the model was told. Raises NotReplayable."""
    try:
        own = load_registry(attrs.evolve(settings.openai, tool_descriptions={}, tool_choice="auto"))
    except ToolFileError as error:
        raise NotReplayable(f"its built-in tools cannot be had: {error}") from None
    told = next(offered(flight), None)
    if told is None:
        return own
    registry = ToolRegistry()
    for schema in told:
        name, description = str(schema.get("name")), str(schema.get("description", ""))
        built_in = own.get(name)
        if built_in is not None:
            registry.add(attrs.evolve(built_in, description=description))
        else:
            parameters: Mapping[str, object] = schema.get("parameters", {})
            registry.add(Tool(name, description, parameters, played.function(name)))
    return registry


def offered(flight: Flight) -> Iterator[list[dict[str, Any]]]:
    """The functions in each `session.update` of ours."""
    for entry in flight.entries:
        if isinstance(entry, RealtimeEvent) and entry.way == "out" and "session.update" in entry.text:
            session = loaded(entry.text).get("session")
            if isinstance(session, dict):
                tools = session.get("tools", [])
                yield [tool for tool in tools if isinstance(tool, dict) and tool.get("type") == "function"]
