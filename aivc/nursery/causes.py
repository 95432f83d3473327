"""From the exceptions of a call's tasks to the one cause that its record tells."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

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
    return first_cause(causes) if causes else None


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
