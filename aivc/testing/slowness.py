"""Tools that take longer than they do."""

from __future__ import annotations

import inspect
import random

import attrs
import trio

from aivc.config.rules import BUILTIN_TOOLS
from aivc.realtime.tools import Tool


def slowed(definition: Tool, seconds: tuple[float, float], dice: random.Random) -> Tool:
    """The same tool, but that each call of it waits first, between the shortest and the longest of `seconds`.

    What is built into the service is returned as it is. A plain function is run in a thread, as ever.
    """
    if definition.name in BUILTIN_TOOLS or not seconds[1]:
        return definition
    function = definition.function

    async def later(*args: object, **kwargs: object) -> object:
        await trio.sleep(dice.uniform(*seconds))
        if inspect.iscoroutinefunction(function):
            return await function(*args, **kwargs)
        return await trio.to_thread.run_sync(lambda: function(*args, **kwargs), abandon_on_cancel=True)

    return attrs.evolve(definition, function=later)
