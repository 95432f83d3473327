"""The UA sessions that OpenSIPS makes because we tell it to, and which of them nobody serves any more.

ua_session_client_start answers with the key of the new session, but events of that session may come before the answer,
and the answer may never come: then its key is not known, and somebody's telephone rings.

    begin ---> told: what came before the answer is taken now
       |-----> refused: there is none
       +-----> untold: known from then on by its mark, and ended as soon as an event or the list shows it

The mark is a parameter of the URI in To, which comes back in answers and in the list. Who calls whom would not do:
other connectors may have the same target called for the same number. A display name would not, either: OpenSIPS 3.6
leaves the line end after it out of its CANCEL.
"""

from __future__ import annotations

from typing import Final, Protocol

import attrs
import trio

from aivc.sip.address import parse_name_addr, parse_uri
from aivc.sip.scanner import AddressError
from aivc.sip.uasession import ListedSession, SessionEvent

MAX_KEPT: Final = 64  # sessions of unknown key whose events are kept; others may have some made in the same OpenSIPS
MAX_EVENTS: Final = 16  # of each: it rings a few times, is answered, and goes on for some milliseconds
MAX_KEYS: Final = 1024  # that are recognized in the list
UNTOLD_SECONDS: Final = 600.0  # OpenSIPS lets nobody ring longer than fr_inv_timeout of its module tm, mostly 120 s


class Taker(Protocol):
    def take(self, event: SessionEvent) -> None: ...


@attrs.define(eq=False, repr=False)
class OwnSessions:
    """Those of one front end, and of nobody else. `now` is on any one clock, in seconds."""

    _keys: dict[str, None] = attrs.field(factory=dict, init=False)  # oldest first
    _starting: int = attrs.field(default=0, init=False)
    _kept: dict[str, list[SessionEvent]] = attrs.field(factory=dict, init=False)  # while a start is not answered
    _ending: set[str] = attrs.field(factory=set, init=False)
    _settled: trio.Event = attrs.field(factory=trio.Event, init=False)
    _untold: dict[str, float] = attrs.field(factory=dict, init=False)  # until when they are looked for

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

    def untold(self, mark: str, now: float) -> None:
        """There is no answer to it: the session may exist, or will."""
        self._untold[mark] = now + UNTOLD_SECONDS

    def settle(self, now: float) -> tuple[str, ...]:
        """A start is answered, or will not be. Returns the keys of sessions that are to be ended."""
        self._starting -= 1
        self._settled.set()
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
        return event.entity_type == "UAC" and self._is_untold(mark_of(event), now)

    def is_ours(self, listed: ListedSession, now: float) -> bool:
        """The same of a session in the list that nobody knows. None as long as a start is not answered."""
        if self._starting or not listed.is_outgoing:
            return False
        return listed.key in self._keys or self._is_untold(listed.callee, now)

    def end(self, key: str) -> None:
        """That session is being ended; `ended` must follow."""
        self._ending.add(key)

    def ended(self, key: str) -> None:
        self._ending.discard(key)
        self._settled.set()

    async def wait_settled(self) -> None:
        """Wait until no start is without its answer, and OpenSIPS was told to end what nobody wants any more."""
        while self._starting or self._ending:
            self._settled = trio.Event()
            await self._settled.wait()

    def forget(self, key: str) -> None:
        """OpenSIPS does not have that session any more, or cannot end it."""
        self._keys.pop(key, None)

    def _is_untold(self, mark: str | None, now: float) -> bool:
        self._untold = {each: until for each, until in self._untold.items() if now < until}
        return mark in self._untold


def marked(uri: str, number: int) -> str:
    """The mark of a call: its URI with a random number of 64 bits as a parameter. Raises AddressError."""
    return str(parse_uri(f"{uri};aivc={number:016x}"))


def mark_of(event: SessionEvent) -> str | None:
    """The URI in To of an answer to our INVITE; None: it does not say."""
    if event.headers is None:
        return None
    try:
        return str(parse_name_addr(event.headers.get("To") or "").uri)
    except AddressError:
        return None
