"""Connections opened ahead of the calls that will need them, to the endpoints that calls have used.

They are TCP and TLS only, not upgraded: an upgraded one would be a Realtime session, which belongs to one URL and key,
and whose hour has begun. So they serve every agent at the same endpoint, and cost the server a socket.
"""

from __future__ import annotations

import logging
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.realtime.dialling import close_now
from aivc.realtime.stream import SocketByteStream
from aivc.realtime.target import Target

log = logging.getLogger("aivc.realtime")

SPARE_SECONDS: Final = 45.0  # web servers and load balancers give a connection without a request a minute or more
AGAIN: Final = 5.0  # seconds between two attempts where the server does not keep a connection, or gives none
CONNECT_SECONDS: Final = 15.0
MOST_ENDPOINTS: Final = 8  # that were used last


@attrs.define
class SpareCounters:
    """What became of them."""

    used: int = 0
    missed: int = 0  # calls that found none
    lost: int = 0  # used, and found to be given up by the server
    replaced: int = 0  # too old, or closed by the server
    failed: int = 0  # attempts to open one


@attrs.define(eq=False)
class Spare:
    """One connection that waits; cancelling `waiting` ends the watch over it."""

    stream: SocketByteStream
    waiting: trio.CancelScope = attrs.field(factory=trio.CancelScope)


@attrs.define(eq=False)
class Endpoint:
    """Where to connect, and what waits for use, the oldest first."""

    place: Target
    filling: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    spares: deque[Spare] = attrs.field(factory=deque)


@attrs.define(eq=False)
class Spares:
    """So many spare connections to each endpoint.

    Args:
      nursery: of the tasks that keep them.
      dial: connects; raises OSError (ssl.SSLError included) or UnicodeError.
      count: to each endpoint.
    """

    nursery: trio.Nursery
    dial: Callable[[Target], Awaitable[SocketByteStream]]
    count: int
    counters: SpareCounters = attrs.field(factory=SpareCounters)
    _endpoints: dict[Target, Endpoint] = attrs.field(factory=dict, init=False)  # the one that was used last, last

    @property
    def ready(self) -> int:
        """How many wait to be used."""
        return sum(len(endpoint.spares) for endpoint in self._endpoints.values())

    def want(self, place: Target) -> Endpoint:
        """Keep connections to this endpoint from now on; the endpoint that is used least gives way."""
        endpoint = self._endpoints.pop(place, None)
        if endpoint is None:
            endpoint = Endpoint(place)
            self.nursery.start_soon(self._fill, endpoint)
        self._endpoints[place] = endpoint
        if len(self._endpoints) > MOST_ENDPOINTS:
            self._endpoints.pop(next(iter(self._endpoints))).filling.cancel()
        return endpoint

    def take(self, place: Target) -> SocketByteStream | None:
        """The newest connection to this endpoint, which is the caller's from now on; None when none is open."""
        endpoint = self.want(place)
        if not endpoint.spares:
            self.counters.missed += 1
            return None
        spare = endpoint.spares.pop()
        spare.waiting.cancel()
        self.counters.used += 1
        return spare.stream

    async def _fill(self, endpoint: Endpoint) -> None:
        with endpoint.filling:
            async with trio.open_nursery() as nursery:
                for _ in range(self.count):
                    nursery.start_soon(self._keep_one, endpoint)

    async def _keep_one(self, endpoint: Endpoint) -> None:
        """Open one connection after the other: the next when one was taken, is old, or was closed by the server."""
        level = logging.WARNING
        while True:
            try:
                with trio.fail_after(CONNECT_SECONDS):
                    stream = await self.dial(endpoint.place)
            except (OSError, UnicodeError, trio.TooSlowError) as error:
                self.counters.failed += 1
                logs.event(log, "realtime.not_prewarmed", level=level, to=endpoint.place.authority, error=cause(error))
                level = logging.DEBUG  # the calls' own attempts are louder
                await trio.sleep(AGAIN)
            else:
                level = logging.WARNING
                if await self._closed_early(endpoint, Spare(stream)):
                    await trio.sleep(AGAIN)

    async def _closed_early(self, endpoint: Endpoint, spare: Spare) -> bool:
        """Offer a connection until it is taken or old; True when the server closes it before."""
        endpoint.spares.append(spare)
        spare.waiting.deadline = trio.current_time() + SPARE_SECONDS
        closed = False
        try:
            with spare.waiting:
                with suppress(trio.BrokenResourceError):
                    await spare.stream.receive_some()  # which keeps TLS session tickets to itself
                closed = True  # or the server speaks first: what it speaks is no HTTP
        finally:
            if spare in endpoint.spares:
                endpoint.spares.remove(spare)
                self.counters.replaced += 1
                await close_now(spare.stream)
        return closed


def cause(error: Exception) -> str:
    """In words, and without what the peer says of itself."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message)
    return getattr(error, "strerror", None) or type(error).__name__
