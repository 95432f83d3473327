"""Where each event of OpenSIPS goes: to its session, to a new one, or to nobody. By key, never by a To-tag."""

from __future__ import annotations

import json
import logging
from functools import partial
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.config.percall import INSTANCE
from aivc.config.settings import OpenSipsSettings
from aivc.sip.address import format_host_port
from aivc.sip.errands import Errands
from aivc.sip.inspection import Refusal
from aivc.sip.leg import Leg
from aivc.sip.message import REASONS
from aivc.sip.reception import MAX_LEGS, busy
from aivc.sip.refusals import Cause
from aivc.sip.session_board import Session, SessionBoard
from aivc.sip.session_leg import SessionLeg, receive_session
from aivc.sip.subscribing import Subscription
from aivc.sip.uasession import EventError, SessionEvent, end_call, parse_untrusted, reply, terminate
from aivc.sip.watching import SessionWatcher

log = logging.getLogger("aivc.opensips")

OVER_SECONDS: Final = 5.0  # processes of OpenSIPS overtake each other: a CANCEL may come before its INVITE
MAX_OVER: Final = 4096  # sessions remembered as over
ACK_METHODS: Final = ("ACK", "PRACK")  # that nobody answers


@attrs.frozen
class Over:
    """A session that has ended.

    Attributes:
      was_cancelled: before we have heard of it; the caller waits for 487.
      until: when to forget it, on trio's clock.
    """

    was_cancelled: bool
    until: float


@attrs.define(eq=False, repr=False)
class SessionTable:
    """The sessions that live, and those that have just ended."""

    live: dict[str, Session] = attrs.field(factory=dict)
    _forgotten: trio.Event = attrs.field(factory=trio.Event, init=False)
    _over: dict[str, Over] = attrs.field(factory=dict, init=False)  # oldest first

    def forget(self, key: str) -> None:
        """That session is over."""
        if self.live.pop(key, None) is not None:
            self.note_over(key, was_cancelled=False)
            self._forgotten.set()

    async def wait_freed(self) -> None:
        """Wait until OpenSIPS was told all of the sessions that are over."""
        while any(session.is_over for session in self.live.values()):
            self._forgotten = trio.Event()
            await self._forgotten.wait()

    def note_over(self, key: str, *, was_cancelled: bool) -> None:
        self._over.pop(key, None)
        self._over[key] = Over(was_cancelled, trio.current_time() + OVER_SECONDS)
        if len(self._over) > MAX_OVER:
            del self._over[next(iter(self._over))]

    def over(self, key: str) -> Over | None:
        """How that session ended, if it was lately."""
        found = self._over.get(key)
        return found if found is not None and trio.current_time() < found.until else None


@attrs.define(eq=False, repr=False)
class EventReception:
    """Serves every event. Each is one step: nothing here waits for OpenSIPS.

    Args:
      waiting: where legs go.
      subscription: unless it is the sole one, sessions that we do not know are somebody else's to answer.

    Attributes:
      unreadable: datagrams that are no event.
      ignored: events of sessions that OpenSIPS was told to make by others, and new ones for another instance.
      strays: events of sessions that we do not have.
      refused: calls that were refused before they became legs, or requests of unknown sessions.
      failures: events that met a bug of ours.
    """

    board: SessionBoard
    settings: OpenSipsSettings
    table: SessionTable
    errands: Errands
    waiting: trio.MemorySendChannel[Leg]
    subscription: Subscription
    unreadable: int = attrs.field(default=0, init=False)
    ignored: int = attrs.field(default=0, init=False)
    strays: int = attrs.field(default=0, init=False)
    refused: int = attrs.field(default=0, init=False)
    failures: int = attrs.field(default=0, init=False)
    watcher: SessionWatcher | None = attrs.field(default=None, init=False)

    def take_untrusted(self, data: bytes) -> None:
        """Serve one datagram."""
        try:
            event = parse_untrusted(data)
        except EventError as error:
            self.unreadable += 1
            logs.event(log, "opensips.unreadable", level=logging.DEBUG, cause=str(error))
            return
        if self.watcher is not None:
            self.watcher.note_event(event.key, event.event_type == "NEW", data)
        try:
            self._take(event)
        except Exception as error:  # a bug of ours may cost one event, never all calls
            self.failures += 1
            logs.event(log, "sip.bug", level=logging.ERROR, key=event.key, exc_info=error)
            if event.event_type == "NEW" and event.key not in self.table.live:
                self._refuse(event.key, Refusal(500, "a bug"))

    def _take(self, event: SessionEvent) -> None:
        session = self.table.live.get(event.key)
        if session is not None and event.event_type != "NEW":
            session.take(event)
        elif event.event_type != "NEW":
            self._stray(event)
        elif session is None and self._is_for_us(event):
            self._begin(event)
        else:
            self.ignored += 1

    def _is_for_us(self, event: SessionEvent) -> bool:
        instance = self.settings.instance
        return event.entity_type == "UAS" and (instance is None or instance_of(event.extra_params) == instance)

    def _begin(self, event: SessionEvent) -> None:
        over = self.table.over(event.key)
        if over is None:
            refusal = self._admit(event)
        elif over.was_cancelled:
            refusal = Refusal(487, "cancelled before we heard of it")
        else:
            refusal = None
        if refusal is not None:
            self._refuse(event.key, refusal)

    def _admit(self, event: SessionEvent) -> Refusal | None:
        """Make a leg of it and hand it over, or refuse."""
        if event.headers is None or event.body is None:
            hint = 'give ua_session_server_init the flags "abh": headers and bodies are not told without them'
            level = self.board.pace.level_of("opensips.flags", trio.current_time(), logging.WARNING)
            logs.event(log, "opensips.flags", level=level, key=event.key, hint=hint)
            return Refusal(500, "no headers or no body came with the event", name=Cause.HEADERS_NOT_TOLD.value)
        if len(self.table.live) >= MAX_LEGS:
            return busy("too many calls")
        try:
            leg = receive_session(self.board, event)
        except EventError as error:
            return Refusal(400, str(error))
        if isinstance(leg, Refusal):
            return leg
        if any(isinstance(other, SessionLeg) and other.is_merged_with(leg) for other in self.table.live.values()):
            leg.close()
            return Refusal(482, "the same request came another way")
        try:
            self.waiting.send_nowait(leg)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            leg.close()
            return busy("nobody takes calls")
        self.table.live[event.key] = leg
        call, where = leg.call_id, format_host_port(*leg.source)
        logs.event(
            log, "sip.invited", call_id=call, source=where, transport="OpenSIPS", dialled=leg.dialled, key=leg.key
        )
        return None

    def turn_away(self) -> None:
        """The front end ends: refuse the calls that nobody has answered, and whoever calls from now on."""
        self.waiting.close()
        for key, session in list(self.table.live.items()):
            if session.is_unanswered:
                session.close()
                self._refuse(key, busy("the service has ended"))

    def _refuse(self, key: str, refusal: Refusal) -> None:
        self._note_refusal(key, "INVITE", refusal)
        self.errands.refuse(key, refusal.status, refusal.phrase, refusal.explained.headers)

    def _note_refusal(self, key: str, method: str, refusal: Refusal) -> None:
        """Log and count it."""
        self.refused += 1
        self.board.refusals.add(refusal.name)
        level = self.board.pace.level_of(refusal.status, trio.current_time())
        told = partial(logs.event, log, "sip.refused", level=level, key=key, method=method)
        told(refusal=refusal.name, status=refusal.status, cause=refusal.cause)

    def _stray(self, event: SessionEvent) -> None:
        """An event of a session that we do not have, or not any more (RFC 3261 section 12.2.2)."""
        if self.board.own.keep(event):
            return
        self.strays += 1
        if self.board.own.is_lost(event, trio.current_time()):
            self.errands.put_nowait(end_call(event.key))
            return
        over = self.table.over(event.key)
        if event.event_type == "TERMINATED":
            if over is None:
                self.table.note_over(event.key, was_cancelled=event.method == "CANCEL")
        elif over is not None and is_request(event):  # a BYE has overtaken it, and then OpenSIPS may keep the session
            self.errands.put_nowait(terminate(event.key))
        elif over is None and is_request(event) and self.subscription.is_sole:
            self._note_refusal(event.key, event.method, Refusal(481, "no such session"))
            self.errands.put_nowait(reply(event.key, event.method, 481, REASONS[481]))


def is_request(event: SessionEvent) -> bool:
    """Whether it is a request in a session that came in, which waits for an answer."""
    is_request = event.event_type == "UPDATED" and event.status == 0 and event.method not in ACK_METHODS
    return is_request and event.entity_type == "UAS"


def instance_of(extra_params: str | None) -> str | None:
    """Which connector the script wants: the member "instance" of what is a JSON object."""
    try:
        found = json.loads(extra_params) if extra_params else None
    except (ValueError, RecursionError):
        return None
    name = found.get(INSTANCE) if isinstance(found, dict) else None
    return name if isinstance(name, str) else None
