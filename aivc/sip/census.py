"""OpenSIPS's list of sessions compared with ours, because events are sent once and get lost (`ua_session_list`).

A session of ours that it does not have is lost; one that nobody serves is an orphan. Either must be seen twice in a
row: the event that explains it may be on its way.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import attrs
import trio

from aivc import logs
from aivc.config.settings import OpenSipsSettings
from aivc.sip.errands import Errand, perform_all, refusal
from aivc.sip.inspection import retry_after_header
from aivc.sip.mi import MiError, MiRefused
from aivc.sip.own_sessions import OwnSessions
from aivc.sip.reception import RETRY_AFTER_SECONDS
from aivc.sip.session_board import Commands, Unfreed
from aivc.sip.subscribing import Subscription
from aivc.sip.uasession import EventError, ListedSession, list_sessions, read_sessions, terminate

log = logging.getLogger("aivc.opensips")

LISTABLE: Final = 140  # sessions, some 485 octets each: more do not fit into one answer (65 457 octets)
SECOND_LOOK_SECONDS: Final = 2.0  # after one that found something
GONE: Final = 404  # MI code: no such session
NEW, EARLY, TERMINATED = 1, 3, 7  # `b2b_state_t` in b2b_entities/dlg.h


class Counted(Protocol):
    """A session of ours; `SessionLeg` is one."""

    @property
    def is_over(self) -> bool: ...

    @property
    def is_unanswered(self) -> bool: ...

    def lose(self, cause: str) -> None: ...


@attrs.frozen
class Look:
    """What one look found amiss.

    Attributes:
      missing: sessions of ours that OpenSIPS does not have, or takes for cancelled: their keys.
      unknown: sessions that nobody serves, as far as they are ours to end, by key.
      waiting: the cancelled ones, which wait for their 487 and to be freed.
    """

    missing: frozenset[str] = frozenset()
    unknown: Mapping[str, ListedSession] = attrs.field(factory=dict)
    waiting: frozenset[str] = frozenset()

    @property
    def is_clear(self) -> bool:
        return not self.missing and not self.unknown


@attrs.define(eq=False, repr=False)
class Census:
    """Args:
      settings: `check_seconds` and `end_orphans` are used.
      sessions: ours, by key.
      subscription: unless it is the sole one, sessions that came in and that we do not know may be somebody else's.
      unfreed: those that came in, are over for us, and that OpenSIPS did not let us end.
      own: which of those that OpenSIPS was told to make are ours; the others are left alone.

    Attributes:
      lost: sessions of ours that OpenSIPS did not have any more.
      orphans: sessions ended because nobody served them.
    """

    commands: Commands
    settings: OpenSipsSettings
    sessions: Mapping[str, Counted]
    subscription: Subscription
    own: OwnSessions = attrs.field(factory=OwnSessions)
    unfreed: Unfreed = attrs.field(factory=Unfreed)
    lost: int = attrs.field(default=0, init=False)
    orphans: int = attrs.field(default=0, init=False)
    _last: Look = attrs.field(factory=Look, init=False)
    _tried: set[str] = attrs.field(factory=set, init=False)  # orphans of the last look
    _is_doubtful: bool = attrs.field(default=False, init=False)
    _wake: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def run(self) -> None:
        """Look every `check_seconds` until cancelled; never if that is 0."""
        if not self.settings.check_seconds:
            return
        while True:
            with trio.move_on_after(self._pause()):
                await self._wake.wait()
            self._wake = trio.Event()
            await self._compare()

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    def _pause(self) -> float:
        """Seconds to the next look: few after the first that found something."""
        regular = self.settings.check_seconds
        return min(regular, SECOND_LOOK_SECONDS) if self._is_doubtful else regular

    def _may_end(self, session: ListedSession) -> bool:
        """Whether a session that nobody serves is to be ended."""
        if session.is_outgoing:
            return self.own.is_ours(session, trio.current_time())
        return self.settings.end_orphans and self.subscription.is_sole

    async def _compare(self) -> None:
        last, self._last = self._last, Look()
        try:
            found = await self._look()
            await self._free()
            for key in last.missing & found.missing:
                await self._lose(key, found)
            orphans = [session for key, session in found.unknown.items() if key in last.unknown]
            self._tried &= found.unknown.keys()
            for session in orphans:
                await self._end(session)
        except EventError as error:
            logs.event(log, "opensips.bad_list", level=logging.WARNING, cause=str(error))
        except MiError as error:
            logs.event(log, "opensips.no_list", level=logging.DEBUG, cause=str(error))
            self.subscription.doubt()
        except Exception as error:  # a bug of ours may cost one look, never all calls
            logs.event(log, "sip.bug", level=logging.ERROR, exc_info=error)
        else:
            self._last = found
            self._is_doubtful = last.is_clear and not found.is_clear
            if self._is_doubtful:  # after a restart of OpenSIPS we hear of nothing, and should not wait for a renewal
                self.subscription.doubt()

    async def _free(self) -> None:
        """What could not be said when OpenSIPS did not answer; one that is gone by now is refused."""
        for key in list(self.unfreed.keys):
            await perform_all(self.commands, refusal(key, 503, "Service Unavailable"))
            self.unfreed.keys.pop(key, None)

    async def _look(self) -> Look:
        known = [key for key, session in self.sessions.items() if not session.is_over]
        listed = await self._list(known)
        if listed is None:
            return Look(await self._missing(known))
        waiting = self._cancelled(known, listed)
        living = frozenset(session.key for session in listed) - waiting
        unknown = [session for session in listed if session.key not in self.sessions and self._may_end(session)]
        return Look(
            missing=frozenset(known) - living,
            unknown={session.key: session for session in unknown},
            waiting=waiting,
        )

    async def _list(self, known: Sequence[str]) -> tuple[ListedSession, ...] | None:
        """What OpenSIPS has; None: more than it can say."""
        if len(known) > LISTABLE:
            return None
        try:
            return read_sessions(await self.commands.perform(list_sessions()))
        except MiRefused:
            return None

    def _cancelled(self, known: Sequence[str], listed: Sequence[ListedSession]) -> frozenset[str]:
        """Sessions that we have not answered, and OpenSIPS takes for ended: the event of the CANCEL was lost."""
        ended = (session.key for session in listed if session.state == TERMINATED and session.key in known)
        found = {key: self.sessions.get(key) for key in ended}  # one may have gone while the list was written
        return frozenset(key for key, session in found.items() if session is not None and session.is_unanswered)

    async def _missing(self, known: Sequence[str]) -> frozenset[str]:
        """Those that OpenSIPS does not have. One by one: a single process of it reads the commands of everybody."""
        missing = set()
        for key in known:
            try:
                await self.commands.perform(list_sessions(key))
            except MiRefused as error:
                if error.code == GONE:
                    missing.add(key)
        return frozenset(missing)

    async def _lose(self, key: str, found: Look) -> None:
        session = self.sessions.get(key)
        if session is None or session.is_over:
            return
        self.lost += 1
        logs.event(log, "opensips.lost", level=logging.WARNING, key=key)
        session.lose("OpenSIPS does not have the session any more")
        if key in found.waiting:
            await perform_all(self.commands, refusal(key, 487, "Request Terminated"))

    async def _end(self, orphan: ListedSession) -> None:
        if not self._may_end(orphan) or orphan.key in self.sessions:
            return
        if orphan.key not in self._tried:  # one that OpenSIPS does not free is tried again, and told once
            self.orphans += 1
            logs.event(log, "opensips.orphan", level=logging.WARNING, key=orphan.key, state=orphan.state)
        self._tried.add(orphan.key)
        await perform_all(self.commands, ending(orphan))
        self.own.forget(orphan.key)


def ending(orphan: ListedSession) -> Errand:
    """What ends a session that nobody serves. Who is still waiting for an answer gets one."""
    if orphan.is_outgoing:
        return (terminate(orphan.key),)
    if orphan.state in (NEW, EARLY):
        return refusal(orphan.key, 503, "Service Unavailable", (retry_after_header(RETRY_AFTER_SECONDS),))
    if orphan.state == TERMINATED:  # cancelled; or refused, and then this is one answer too many, which is none
        return refusal(orphan.key, 487, "Request Terminated")
    return (terminate(orphan.key),)
