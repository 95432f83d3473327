"""From the exceptions of a call's tasks to the one cause that its record tells."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import NoReturn

import attrs
import trio

from aivc import logs
from aivc.media.ports import NoPortFree
from aivc.nursery.ending import CallOver, Ending, first_cause, leaves
from aivc.realtime.connection import RealtimeClosed, RealtimeRefused

log = logging.getLogger("aivc.call")


async def until_over(talk: Callable[[], Awaitable[None]]) -> CallOver | None:
    """Run `talk` and return the cause that it raised; None if it just returned. Cancellation from outside passes."""
    causes: list[CallOver] = []
    try:
        await talk()
    except* Exception as group:
        causes = [as_cause(error) for error in leaves(group)]
        for error in leaves(group):
            forget_frames(error)
    return first_cause(causes) if causes else None


@attrs.define(eq=False)
class open_tasks:
    """A nursery; but what ends its block is raised by a task of it.

    Raised in the block itself, trio's frames would know the exceptions of all tasks that are cancelled for it, whose
    tracebacks know those frames: a ring with all of the call in it, which only Python's collector could take away.
    """

    _opened: AbstractAsyncContextManager[trio.Nursery] = attrs.field(factory=trio.open_nursery, init=False)
    _nursery: trio.Nursery = attrs.field(init=False)

    async def __aenter__(self) -> trio.Nursery:
        self._nursery = await self._opened.__aenter__()
        return self._nursery

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if isinstance(error, Exception):
            self._nursery.start_soon(raise_once, error)
            kind = error = traceback = None
        return await self._opened.__aexit__(kind, error, traceback)


async def raise_once(error: Exception) -> NoReturn:
    try:
        raise error
    finally:
        del error  # its traceback knows this frame


def forget_frames(error: BaseException) -> None:
    """Make a mere value of an exception: the frames that it came through know the call, and the call will know it."""
    error.__traceback__ = error.__context__ = error.__cause__ = None


def as_cause(error: BaseException) -> CallOver:
    """What an exception in a call's task says about its end."""
    match error:
        case CallOver():
            return error
        case RealtimeRefused():
            return CallOver(Ending.REALTIME_REFUSED, str(error))
        case RealtimeClosed():
            return CallOver(Ending.REALTIME_LOST, str(error))
        case NoPortFree():
            return CallOver(Ending.NO_RTP_PORT, str(error))
        case _:
            logs.event(log, "call.bug", level=logging.ERROR, error=repr(error), exc_info=error)
            return CallOver(Ending.INTERNAL_ERROR, repr(error))
