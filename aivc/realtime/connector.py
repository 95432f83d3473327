"""Opens the connections of a whole process: one TLS context, TLS sessions resumed, some connections opened ahead.

Making a context takes 20 ms, too much for every call. Resuming a session (RFC 8446 section 2.2) spares both sides the
certificates; opening ahead spares a call the round trips of TCP and TLS, two of the four before it can be answered.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.config.settings import OpenAISettings
from aivc.realtime.connection import RealtimeRefused, RealtimeSocket, open_realtime
from aivc.realtime.dialling import client_context, dial
from aivc.realtime.spares import Spares
from aivc.realtime.stream import ByteStream, SocketByteStream, SocketWatch
from aivc.realtime.target import Target, target

Connect = Callable[[Target], Awaitable[SocketByteStream]]

log = logging.getLogger("aivc.realtime")

MOST_SESSIONS: Final = 64  # TLS sessions, each of another endpoint: agents and `engine.api_url` may name many


@attrs.define(eq=False)
class Connector:
    """What all calls of a process connect with."""

    context: ssl.SSLContext
    spares: Spares | None = None
    watch: SocketWatch | None = None  # reads them all, once they are in use
    _sessions: dict[Target, ssl.SSLSession] = attrs.field(factory=dict, init=False, repr=False)

    async def open(self, nursery: trio.Nursery, settings: OpenAISettings) -> RealtimeSocket:
        """As `open_realtime`, over a connection that was opened ahead if there is one. Raises RealtimeRefused."""
        spares, endpoint = self.spares, endpoint_of(settings)
        if spares is not None and endpoint is not None and (spare := spares.take(endpoint)) is not None:
            try:
                return await self._open(nursery, settings, partial(given, spare))
            except RealtimeRefused as error:
                if error.code != "connection_lost":
                    raise
                spares.counters.lost += 1  # the server was just giving it up: no reason to refuse a call
        return await self._open(nursery, settings, self.dial)

    async def dial(self, place: Target) -> SocketByteStream:
        """Connect, resuming the newest session with that endpoint. Raises as `dialling.dial`."""
        return await dial(place, self.context, self._sessions.get(place.endpoint), self.watch)

    async def _open(self, nursery: trio.Nursery, settings: OpenAISettings, connect: Connect) -> RealtimeSocket:
        socket = await open_realtime(nursery, settings, connect=connect)
        self._remember(target(settings).endpoint, socket.stream)
        return socket

    def _remember(self, endpoint: Target, stream: ByteStream) -> None:
        """Keep the session for other connections; in TLS 1.3 it comes with the first octets that are read.

        One that is resumed stays until the server takes it no more: each session that a connection brings has 7 KiB.
        """
        sock = stream.sock if isinstance(stream, SocketByteStream) else None
        if not isinstance(sock, ssl.SSLSocket) or sock.session_reused:
            return
        session = sock.session
        if session is not None and session.has_ticket:
            self._sessions.pop(endpoint, None)
            self._sessions[endpoint] = session
            if len(self._sessions) > MOST_SESSIONS:
                del self._sessions[next(iter(self._sessions))]


def endpoint_of(settings: OpenAISettings) -> Target | None:
    """None for settings that no connection can be made with; `open_realtime` tells why."""
    try:
        return target(settings).endpoint
    except ValueError:
        return None


async def given(stream: SocketByteStream, _: Target) -> SocketByteStream:
    """A connection that is there already."""
    return stream


@asynccontextmanager
async def open_connector(
    settings: OpenAISettings,
    prewarm: int = 0,
    *,
    context: ssl.SSLContext | None = None,
    watch: SocketWatch | None = None,
) -> AsyncIterator[Connector]:
    """Connect for calls while the block runs.

    Args:
        settings: whose endpoint connections are opened ahead to from the beginning; others follow when they are used.
        prewarm: how many to each endpoint, `realtime.prewarm`.
        context: for TLS; None: a `client_context`.
        watch: reads them all, once a conversation is on; None: a task of each does.
    """
    connector = Connector(context or client_context(), watch=watch)
    if not prewarm:
        yield connector
        return
    async with trio.open_nursery() as nursery:
        spares = connector.spares = Spares(nursery, connector.dial, prewarm)
        if (endpoint := endpoint_of(settings)) is not None:
            spares.want(endpoint)
        try:
            yield connector
        finally:
            nursery.cancel_scope.cancel()
            logs.event(log, "realtime.prewarmed", **attrs.asdict(spares.counters))
