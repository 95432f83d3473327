"""Session timers, RFC 4028: who refreshes a call, how often, and when it is over. No I/O and no clock.

    2xx with Session-Expires                  half of the interval: REFRESH, when it is ours
off ------------------------> running --------------------------------------------------------> running
                                 ^  |  a refresh of either side, answered with a 2xx: begins anew
                                 +--+
                                    |  min(32 s, a third) before the end: OVER (section 10)
                                    +--------------------------------------------------------> off
"""

from __future__ import annotations

import enum
from math import inf
from typing import Final, Literal

import attrs

from aivc.sip.address import get_parameter
from aivc.sip.leg import Fields
from aivc.sip.message import Headers
from aivc.sip.scanner import Scanner, parse_number

TIMER: Final = "timer"  # the option tag
LEAST_SECONDS: Final = 90  # section 5: without Min-SE, and the least that one may say
MOST_SECONDS: Final = 2**32 - 1  # of delta-seconds
MARGIN_SECONDS: Final = 32.0  # section 10

Side = Literal["uac", "uas"]  # of the request that a Session-Expires belongs to


class Due(enum.Enum):
    """What the time that has come asks for."""

    REFRESH = enum.auto()
    OVER = enum.auto()


@attrs.frozen
class Wish:
    """What one message says of timers."""

    seconds: int | None = None  # Session-Expires
    refresher: Side | None = None
    least: int = LEAST_SECONDS  # Min-SE
    knows: bool = False  # its sender knows the extension


@attrs.frozen
class Terms:
    """What is in force."""

    seconds: int
    we_refresh: bool
    required: bool = True  # the peer knows the extension, so the 2xx says Require


def read_wish(headers: Headers) -> Wish:
    """What a request or a response says.

    Raises:
      AddressError: a bad Session-Expires or Min-SE.
    """
    tags = {tag.lower() for name in ("Supported", "Require") for tag in headers.items(name)}
    seconds, refresher = read_seconds(headers.get("Session-Expires"), "Session-Expires")
    least, _ = read_seconds(headers.get("Min-SE"), "Min-SE")
    return Wish(seconds, refresher, max(least or 0, LEAST_SECONDS), TIMER in tags)


def read_seconds(text: str | None, name: str) -> tuple[int | None, Side | None]:
    if text is None:
        return None, None
    head, semicolon, rest = text.partition(";")
    seconds = parse_number(head.strip(" \t"), MOST_SECONDS, name)
    scanner = Scanner(semicolon + rest)
    parameters = scanner.parameters()
    scanner.expect_end()
    side = (get_parameter(parameters, "refresher") or "").lower()
    if side == "uac":
        return seconds, "uac"
    return seconds, "uas" if side == "uas" else None


def is_too_short(wish: Wish, least: int) -> bool:
    """Whether a request is to be answered 422 (section 9): only whoever knows the extension can do better."""
    return wish.knows and wish.seconds is not None and wish.seconds < max(least, LEAST_SECONDS)


def agree(wish: Wish, wanted: int, present: Terms | None = None) -> Terms | None:
    """The terms of our 2xx to a request with this wish (section 9 and its table 2); None: no timer.

    Args:
      wanted: the interval that we ask for, in seconds; 0: none.
      present: what is in force in the dialog.
    """
    if wish.seconds is None:
        if wish.knows and wanted:
            return Terms(max(wanted, wish.least), True)
        return present if present is not None and present.we_refresh else None
    seconds = max(wish.seconds, LEAST_SECONDS)  # a smaller one of a peer that cannot be told so by 422
    if wanted:  # it may be reduced, but not below what the other side can bear
        seconds = min(seconds, max(wanted, wish.least))
    we_refresh = not wish.knows or wish.refresher != "uac"
    return Terms(seconds, we_refresh, wish.knows)


def answer_fields(terms: Terms | None) -> Fields:
    """What our 2xx says."""
    if terms is None:
        return ()
    expires = ("Session-Expires", f"{terms.seconds};refresher={'uas' if terms.we_refresh else 'uac'}")
    return (expires, ("Require", TIMER)) if terms.required else (expires,)


def refresh_fields(seconds: int, least: int) -> Fields:
    """What our refresh says; `least` is the highest Min-SE that we have met (section 7.4)."""
    expires = ("Session-Expires", f"{max(seconds, least)};refresher=uac")
    return (expires, ("Min-SE", str(least))) if least > LEAST_SECONDS else (expires,)


@attrs.define
class SessionTimer:
    """The timer of one dialog.

    Attributes:
      terms: None: it is off.
      least: the highest Min-SE that the peer has asked for.
    """

    terms: Terms | None = attrs.field(default=None, init=False)
    least: int = attrs.field(default=LEAST_SECONDS, init=False)
    _refresh: float = attrs.field(default=inf, init=False)
    _over: float = attrs.field(default=inf, init=False)

    @property
    def deadline(self) -> float:
        """When `expire` must next be called; inf when it is off."""
        return min(self._refresh, self._over)

    def restart(self, terms: Terms | None, now: float) -> None:
        """A request with these terms was answered with a 2xx."""
        self.terms, self._refresh, self._over = terms, inf, inf
        if terms is not None:
            self._over = now + terms.seconds - min(MARGIN_SECONDS, terms.seconds / 3)
            if terms.we_refresh:
                self._refresh = now + terms.seconds / 2

    def accepted(self, wish: Wish, now: float) -> None:
        """Our refresh was answered with a 2xx. A peer that says nothing of timers is refreshed by us all the same:
        it costs little, and tells us whether the peer still knows the call."""
        if wish.seconds is not None:
            terms = Terms(max(wish.seconds, LEAST_SECONDS), wish.refresher != "uas")
            self.restart(terms, now)
        elif self.terms is not None:
            self.restart(attrs.evolve(self.terms, we_refresh=True), now)

    def too_short(self, wish: Wish, now: float) -> bool:
        """Our refresh was answered 422: it is due again with a longer interval. False: its Min-SE asks for no more
        than we said, so that the same would come back."""
        if self.terms is None or wish.least <= max(self.terms.seconds, self.least):
            return False
        self.least = wish.least
        self.terms = attrs.evolve(self.terms, seconds=wish.least)
        self._refresh = now
        return True

    def try_again(self, at: float) -> None:
        """Our refresh could not be made now; the end of the session does not move."""
        self._refresh = at

    def try_later(self, now: float) -> None:
        """Likewise, for a peer that refused: when half of the time that is left is over."""
        self._refresh = now + max(1.0, (self._over - now) / 2)

    def expire(self, now: float) -> Due | None:
        if now >= self._over:
            self.restart(None, now)
            return Due.OVER
        if now >= self._refresh:
            self._refresh = inf
            return Due.REFRESH
        return None
