"""The UA sessions that OpenSIPS makes because we tell it to, and which of them nobody serves any more. No I/O.

ua_session_client_start answers with the key of the new session, but events of that session may come before the answer,
and the answer may never come: then its key is not known, and somebody's telephone rings.

    begin ---> told: what came before the answer is taken now
       |-----> refused: there is none
       +-----> untold: known from then on by who calls whom, and ended as soon as an event or the list shows it
"""

from __future__ import annotations

from typing import Final, Protocol

import attrs

from aivc.sip.address import parse_name_addr
from aivc.sip.scanner import AddressError
from aivc.sip.uasession import ListedSession, SessionEvent

MAX_KEPT: Final = 64  # sessions of unknown key whose events are kept; others may have some made in the same OpenSIPS
MAX_EVENTS: Final = 16  # of each: it rings a few times, is answered, and goes on for some milliseconds
MAX_KEYS: Final = 1024  # that are recognized in the list
UNTOLD_SECONDS: Final = 600.0  # OpenSIPS lets nobody ring longer than fr_inv_timeout of its module tm, mostly 120 s


class Taker(Protocol):
    def take(self, event: SessionEvent) -> None: ...


@attrs.frozen
class Parties:
    """Who calls whom, as URIs."""

    caller: str
    callee: str


@attrs.define(eq=False, repr=False)
class OwnSessions:
    """Those of one front end, and of nobody else. `now` is on any one clock, in seconds."""

    _keys: dict[str, None] = attrs.field(factory=dict, init=False)  # oldest first
    _starting: int = attrs.field(default=0, init=False)
    _kept: dict[str, list[SessionEvent]] = attrs.field(factory=dict, init=False)  # while a start is not answered
    _untold: dict[Parties, float] = attrs.field(factory=dict, init=False)  # until when they are looked for

    def begin(self) -> None:
        """A start goes out; `settle` must follow."""
        self._starting += 1

    def told(self, key: str, session: Taker) -> None:
        """It has this key; the session takes what came before."""
        self._keys[key] = None
        if len(self._keys) > MAX_KEYS:
            del self._keys[next(iter(self._keys))]
        for event in self._kept.pop(key, ()):
            session.take(event)

    def untold(self, parties: Parties, now: float) -> None:
        """There is no answer to it: the session may exist, or will."""
        self._untold[parties] = now + UNTOLD_SECONDS

    def settle(self, now: float) -> tuple[str, ...]:
        """A start is answered, or will not be. Returns the keys of sessions that are to be ended."""
        self._starting -= 1
        if self._starting:
            return ()
        kept, self._kept = self._kept, {}
        return tuple(key for key, events in kept.items() if self.is_lost(events[0], now))

    def keep(self, event: SessionEvent) -> bool:
        """An event of a session that nobody knows: kept if it may be of one whose start is not answered yet."""
        if not self._starting or event.entity_type != "UAC":
            return False
        if event.key not in self._kept and len(self._kept) >= MAX_KEPT:
            return False
        events = self._kept.setdefault(event.key, [])
        if len(events) < MAX_EVENTS:
            events.append(event)
        return True

    def is_lost(self, event: SessionEvent, now: float) -> bool:
        """Whether an event of a session that nobody knows shows one of ours, which is to be ended."""
        return event.entity_type == "UAC" and self._is_untold(parties_of(event), now)

    def is_ours(self, listed: ListedSession, now: float) -> bool:
        """The same of a session in the list that nobody knows. None as long as a start is not answered."""
        if self._starting or not listed.is_outgoing:
            return False
        return listed.key in self._keys or self._is_untold(Parties(listed.caller, listed.callee), now)

    def forget(self, key: str) -> None:
        """OpenSIPS does not have that session any more, or cannot end it."""
        self._keys.pop(key, None)

    def _is_untold(self, parties: Parties | None, now: float) -> bool:
        self._untold = {each: until for each, until in self._untold.items() if now < until}
        return parties in self._untold


def parties_of(event: SessionEvent) -> Parties | None:
    """Who called whom in the session of an answer to our INVITE; None: it does not say."""
    if event.headers is None:
        return None
    try:
        caller, callee = (parse_name_addr(event.headers.get(name) or "").uri for name in ("From", "To"))
    except AddressError:
        return None
    return Parties(str(caller), str(callee))
