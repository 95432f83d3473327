"""What all calls of a process connect to the model with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aivc.config.settings import Settings
from aivc.media.clock import Heartbeat, MediaClock
from aivc.nursery.ground import Connect
from aivc.realtime.connector import open_connector


@asynccontextmanager
async def open_connections(settings: Settings, clock: MediaClock | None = None) -> AsyncIterator[Connect]:
    """The `connect` of many calls, for `serve_call`; the calls are to end before the block does.

    They share a TLS context, which takes 20 ms to make, resume TLS sessions, and find `realtime.prewarm` connections
    open already.

    Args:
      settings: `openai` of these is where connections are opened ahead to from the beginning.
      clock: the calls'; one of `open_heartbeat` reads the sockets, too, so that no task is woken for a message.

    What it yields raises `aivc.realtime.connection.RealtimeRefused` when there is no connection to be had.
    """
    watch = clock if isinstance(clock, Heartbeat) else None
    async with open_connector(settings.openai, settings.realtime.prewarm, watch=watch) as connector:
        yield connector.open
