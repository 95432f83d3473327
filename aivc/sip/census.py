"""OpenSIPS's list of sessions compared with ours, because events are sent once and get lost (`ua_session_list`).

A session of ours that it does not have is lost; one that nobody serves is an orphan. Either must be seen twice in a
row: the event that explains it may be on its way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.config.settings import OpenSipsSettings
from aivc.sip.errands import Errand, perform_all, refusal
from aivc.sip.inspection import retry_after_header
from aivc.sip.mi import MiError, MiRefused
from aivc.sip.own_sessions import OwnSessions
from aivc.sip.reception import RETRY_AFTER_SECONDS
from aivc.sip.session_board import Commands, Session, Unfreed
from aivc.sip.subscribing import Subscription
from aivc.sip.uasession import NO_SESSION, EventError, ListedSession, end_call, list_sessions, read_sessions, terminate

log = logging.getLogger("aivc.opensips")

LISTABLE: Final = 140  # sessions, some 485 octets each: more do not fit into one answer (65 457 octets)
SECOND_LOOK_SECONDS: Final = 2.0  # after one that found something
NEW, EARLY, TERMINATED = 1, 3, 7  # `b2b_state_t` in b2b_entities/dlg.h


@attrs.frozen
class Look:
    """What one look found amiss.

    Attributes:
      missing: sessions of ours that OpenSIPS does not have, or takes for ended: their keys.
      unknown: sessions that nobody serves, as far as they are ours to end, by key.
      ended: the latter, by a BYE or CANCEL whose event was lost: what is open in them waits to be answered.
    """

    missing: frozenset[str] = frozenset()
    unknown: Mapping[str, ListedSession] = attrs.field(factory=dict)
    ended: frozenset[str] = frozenset()

    @property
    def is_clear(self) -> bool:
        return not self.missing and not self.unknown


@attrs.define(eq=False, repr=False)
class Census:
    """Args:
      settings: `check_seconds`, `end_orphans` and `session_seconds` are used.
      sessions: ours, by key.
      subscription: unless it is the sole one, sessions that came in and that we do not know may be somebody else's.
      wall_clock: seconds since 1970, as OpenSIPS's.
      own: which of those that OpenSIPS was told to make are ours; the others are left alone.
      unfreed: sessions that are over for us, and perhaps not for OpenSIPS, which is told again.

    Attributes:
      lost: sessions of ours that OpenSIPS did not have any more.
      orphans: sessions ended because nobody served them.
    """

    commands: Commands
    settings: OpenSipsSettings
    sessions: Mapping[str, Session]
    subscription: Subscription
    wall_clock: Callable[[], float]
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
        is_endable = session.state in (NEW, EARLY) or not self._has_outlived(session.key)
        return is_endable and self.settings.end_orphans and self.subscription.is_sole

    def _has_outlived(self, key: str) -> bool:
        """Whether OpenSIPS should have ended a session by now. It has tried if that is still there, which frees what
        ua_session_terminate reads then: OpenSIPS 3.6 may crash (ua_terminate_expired in b2b_entities/ua_api.c)."""
        began = began_at(key)
        return began is not None and self.wall_clock() >= began + self.settings.session_seconds

    async def _compare(self) -> None:
        last, self._last = self._last, Look()
        try:
            found = await self._look()
            await self._free()
            for key in last.missing & found.missing:
                await self._lose(key, found)
            await self._end_all([session for key, session in found.unknown.items() if key in last.unknown])
            self._tried &= found.unknown.keys()
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
        """Say what could not be said when OpenSIPS did not answer; of a session that is gone by now that is refused."""
        for key, errand in self.unfreed.oldest_first():
            if not self._has_outlived(key):
                await perform_all(self.commands, errand)
            self.unfreed.discard(key)

    async def _look(self) -> Look:
        known = [key for key, session in self.sessions.items() if not session.is_over]
        listed = await self._list(known)
        if listed is None:
            return Look(await self._missing(known))
        ended = self._ended(known, listed)
        living = frozenset(session.key for session in listed) - ended
        unknown = [session for session in listed if session.key not in self.sessions and self._may_end(session)]
        return Look(
            missing=frozenset(known) - living,
            unknown={session.key: session for session in unknown},
            ended=ended,
        )

    async def _list(self, known: Sequence[str]) -> tuple[ListedSession, ...] | None:
        """What OpenSIPS has; None: more than it can say."""
        if len(known) > LISTABLE:
            return None
        try:
            return read_sessions(await self.commands.perform(list_sessions()))
        except MiRefused:
            return None

    def _ended(self, known: Sequence[str], listed: Sequence[ListedSession]) -> frozenset[str]:
        """Sessions that OpenSIPS takes for ended, and we do not: the event of a BYE or CANCEL was lost."""
        ended = (session.key for session in listed if session.state == TERMINATED and session.key in known)
        found = {key: self.sessions.get(key) for key in ended}  # one may have gone while the list was written
        return frozenset(key for key, session in found.items() if session is not None and not session.is_ending)

    async def _missing(self, known: Sequence[str]) -> frozenset[str]:
        """Those that OpenSIPS does not have. One by one: a single process of it reads the commands of everybody."""
        missing = set()
        for key in known:
            try:
                await self.commands.perform(list_sessions(key))
            except MiRefused as error:
                if error.code == NO_SESSION:
                    missing.add(key)
        return frozenset(missing)

    async def _lose(self, key: str, found: Look) -> None:
        session = self.sessions.get(key)
        if session is None or session.is_over or session.is_ending:
            return
        self.lost += 1
        logs.event(log, "opensips.lost", level=logging.WARNING, key=key)
        session.lose("OpenSIPS does not have the session any more")
        if key in found.ended:
            await perform_all(self.commands, refusal(key, 487, "Request Terminated"))

    async def _end_all(self, orphans: Sequence[ListedSession]) -> None:
        if orphans:  # they are those of a connector that has come meanwhile, perhaps
            await self.subscription.look_for_others()
        for orphan in orphans:
            await self._end(orphan)

    async def _end(self, orphan: ListedSession) -> None:
        if not self._may_end(orphan) or orphan.key in self.sessions:
            return
        if orphan.key not in self._tried:  # one that OpenSIPS does not free is tried again, and told once
            self.orphans += 1
            logs.event(log, "opensips.orphan", level=logging.WARNING, key=orphan.key, state=orphan.state)
        self._tried.add(orphan.key)
        said = ending(orphan)
        await perform_all(self.commands, said[:-1] if self._has_outlived(orphan.key) else said)
        self.own.forget(orphan.key)


def ending(orphan: ListedSession) -> Errand:
    """What ends a session that nobody serves, and at last frees it. Who is still waiting for an answer gets one."""
    if orphan.is_outgoing:
        return (end_call(orphan.key),)
    if orphan.state in (NEW, EARLY):
        return refusal(orphan.key, 503, "Service Unavailable", (retry_after_header(RETRY_AFTER_SECONDS),))
    if orphan.state == TERMINATED:  # cancelled; or refused, and then this is one answer too many, which is none
        return refusal(orphan.key, 487, "Request Terminated")
    return (terminate(orphan.key),)


def began_at(key: str) -> int | None:
    """When OpenSIPS made a session, seconds since 1970: its keys are PREFIX.HASH.NUMBER.SECONDS.RANDOM (b2be_gen_key in
    b2b_entities/dlg.c). None: this one tells nothing, and passes for new."""
    seconds = key.rpartition(".")[0].rpartition(".")[2]
    return int(seconds) if seconds.isascii() and seconds.isdecimal() else None
