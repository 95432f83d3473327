"""The subscription to E_UA_SESSION (OpenSIPS's event interface): made, renewed, lost with a restart, made again.

OpenSIPS tells nobody that it has forgotten its subscribers. So its list of them is read before each renewal: we are
missing there after a restart, and others in it serve, or watch, the same sessions.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import trio

from aivc import logs
from aivc.config.settings import OpenSipsSettings
from aivc.sip.mi import MiError, MiRefused
from aivc.sip.session_board import Commands
from aivc.sip.uasession import EventError, list_subscribers, read_subscribers, subscribe

log = logging.getLogger("aivc.opensips")

RETRY_SECONDS: Final = 2.0  # between two tries while OpenSIPS does not answer
RENEWALS: Final = 3  # tries within one subscription, so that two may fail
MAX_NAMED: Final = 8  # other subscribers in one log line


class Standing(enum.Enum):
    """How we stand with OpenSIPS."""

    UNKNOWN = "unknown"  # not asked yet
    SUBSCRIBED = "subscribed"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    DISPLACED = "displaced"  # OpenSIPS has said OK, but took us for another subscriber
    UNSUBSCRIBED = "unsubscribed"  # by us


HINTS: Final = {
    Standing.UNREACHABLE: "is OpenSIPS running, with mi_datagram at opensips.ip and opensips.port, or opensips.socket?",
    Standing.REFUSED: "does OpenSIPS load event_datagram and b2b_entities?",
    Standing.DISPLACED: (
        "OpenSIPS takes addresses for the same when one begins with the other and the ports are equal:"
        " set another engine.event_port"
    ),
}
SHARED_HINT: Final = (
    "every subscriber gets every call: give each connector its opensips.instance; an earlier run of this one that was"
    " killed disappears by itself"
)


def nothing() -> None:
    """What happens when nobody wants to be told."""


@attrs.define(eq=False, repr=False)
class Subscription:
    """Ours.

    Args:
      settings: `subscription_seconds` and `instance` are used.
      own_socket: what OpenSIPS is to send events to, such as udp:192.0.2.7:50060; asked for at each renewal.
      on_subscribed: called when OpenSIPS has us again after it had not, so that events may have been missed.

    Attributes:
      standing: see there.
      is_shared: others get the events, too; until the first answer we assume so.
      lapses: how often OpenSIPS had forgotten us, as it does in a restart.
    """

    commands: Commands
    settings: OpenSipsSettings
    own_socket: Callable[[], Awaitable[str]]
    on_subscribed: Callable[[], None] = nothing
    standing: Standing = attrs.field(default=Standing.UNKNOWN, init=False)
    is_shared: bool = attrs.field(default=True, init=False)
    lapses: int = attrs.field(default=0, init=False)
    _has_warned: bool = attrs.field(default=False, init=False)
    _socket: str | None = attrs.field(default=None, init=False)  # last subscribed
    _keeping: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _doubt: trio.Event = attrs.field(factory=trio.Event, init=False)

    @property
    def is_subscribed(self) -> bool:
        return self.standing is Standing.SUBSCRIBED

    @property
    def is_sole(self) -> bool:
        """Whether all UA sessions that came in are ours, so that one that we do not know is nobody's."""
        return self.is_subscribed and not self.is_shared and self.settings.instance is None

    async def run(self) -> None:
        """Keep it until cancelled, or until `end`."""
        with self._keeping:
            while True:
                await self._renew()
                await trio.sleep(min(RETRY_SECONDS, self._pause()))  # doubts come in swarms
                with trio.move_on_after(self._pause() - RETRY_SECONDS):
                    await self._doubt.wait()
                self._doubt = trio.Event()

    def doubt(self) -> None:
        """Something looks as if OpenSIPS were down, or had been: look now."""
        self._doubt.set()

    async def look_for_others(self) -> None:
        """See whether we are still the sole one, some time after the last renewal. Raises MiError, EventError."""
        if self._socket is not None:
            self._is_among(await self._sockets(), self._socket)

    async def end(self) -> None:
        """Take it back, if OpenSIPS can be told; use a deadline."""
        self._keeping.cancel()
        if self._socket is not None and self.standing in (Standing.SUBSCRIBED, Standing.DISPLACED):
            try:
                await self.commands.perform(subscribe(self._socket, 0))
            except MiError as error:
                logs.event(log, "opensips.unsubscribe_failed", cause=str(error))
        self.standing = Standing.UNSUBSCRIBED

    def _pause(self) -> float:
        """Seconds from one renewal to the next."""
        renewal = self.settings.subscription_seconds / RENEWALS
        return renewal if self.is_subscribed else min(renewal, RETRY_SECONDS)

    async def _renew(self) -> None:
        try:
            sockets = await self._sockets()
            socket = await self.own_socket()
            was_there = self._is_among(sockets, socket)
            await self.commands.perform(subscribe(socket, self.settings.subscription_seconds))
            self._socket = socket
            is_there = was_there or self._is_among(await self._sockets(), socket)
        except (MiRefused, EventError) as error:
            self._stand(Standing.REFUSED, cause=str(error))
        except MiError as error:
            self._stand(Standing.UNREACHABLE, cause=str(error))
        else:
            self._conclude(socket, was_there, is_there)

    def _conclude(self, socket: str, was_there: bool, is_there: bool) -> None:
        if not is_there:
            self._stand(Standing.DISPLACED, events=socket)
            return
        was_missed = self.is_subscribed and not was_there
        if was_missed:
            self.lapses += 1
            cause = "OpenSIPS had forgotten our subscription, as in a restart"
            logs.event(log, "opensips.lapsed", level=logging.WARNING, cause=cause)
        if was_missed or not self.is_subscribed:
            self._stand(Standing.SUBSCRIBED, events=socket)
            self.on_subscribed()

    async def _sockets(self) -> frozenset[str]:
        found = read_subscribers(await self.commands.perform(list_subscribers()))
        return frozenset(subscriber.socket for subscriber in found)

    def _is_among(self, sockets: frozenset[str], own: str) -> bool:
        """Whether we are there; others are noted."""
        others = sockets - {own}
        self.is_shared = bool(others)
        if others and not self._has_warned and self.settings.instance is None:
            named = sorted(others)[:MAX_NAMED]
            logs.event(log, "opensips.shared", level=logging.WARNING, subscribers=named, hint=SHARED_HINT)
        self._has_warned = self.is_shared
        return own in sockets

    def _stand(self, standing: Standing, **told: str) -> None:
        """Log a change, and nothing else."""
        if standing is self.standing:
            return
        self.standing = standing
        name, hint = f"opensips.{standing.value}", HINTS.get(standing)
        if hint is None:
            logs.event(log, name, **dict[str, Any](told))
        else:
            logs.event(log, name, level=logging.WARNING, hint=hint, **dict[str, Any](told))
