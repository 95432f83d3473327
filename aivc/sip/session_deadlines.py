"""What a UA session waits for, and until when: an answer of ours, an ACK, a refresh. No I/O and no clock."""

from __future__ import annotations

import enum
from math import inf
from typing import Final

import attrs

from aivc.sip.inspection import Refusal
from aivc.sip.message import Headers
from aivc.sip.refreshing import judge
from aivc.sip.session_timer import Due, SessionTimer, Terms, read_wish
from aivc.sip.transaction import TIMEOUT

ACK_SECONDS: Final = TIMEOUT  # RFC 3261 section 13.3.1.4: 64*T1 after the 2xx


class Lapse(enum.Enum):
    """What did not come in time."""

    ANSWER = enum.auto()  # ours: the Expires of the INVITE has passed
    ACK = enum.auto()
    REFRESH = enum.auto()


@attrs.define
class SessionDeadlines:
    """The deadlines of one session, seconds on the owner's clock.

    Attributes:
      answer: until when the caller waits for our answer.
      ack: when it is time to look whether the ACK has come.
      refreshes: those of the peer.
    """

    answer: float = inf
    ack: float = inf
    refreshes: SessionTimer = attrs.field(factory=SessionTimer, init=False)

    @property
    def deadline(self) -> float:
        """When `expire` must next be called; inf when nothing is waited for."""
        return min(self.answer, self.ack, self.refreshes.deadline)

    def expire(self, now: float) -> Lapse | None:
        """One thing that did not come in time, and is waited for no more; call again until there is none."""
        if now >= self.answer:
            self.answer = inf
            return Lapse.ANSWER
        if now >= self.ack:
            self.ack = inf
            return Lapse.ACK
        return Lapse.REFRESH if self.refreshes.expire(now) is Due.OVER else None

    def stop(self) -> None:
        """Nothing is waited for any more."""
        self.answer = self.ack = inf
        self.refreshes.restart(None, 0.0)


def session_terms(headers: Headers, wanted: int, least: int) -> Terms | Refusal | None:
    """The terms of our 2xx to a request with these headers; None: without a session timer.

    All refreshes must be the peer's (RFC 4028 section 9, table 2): a re-INVITE of ours would make OpenSIPS refuse the
    peer's BYE with 491 while it is open. So there is no timer where the peer does not ask for one, wants us to refresh,
    or is asked by a proxy without knowing the extension.

    Args:
      wanted: the interval that we would have, in seconds; 0: any.
      least: the shortest that we take.
    """
    terms = judge(headers, wanted, least)
    if not isinstance(terms, Terms):
        return terms
    wish = read_wish(headers)
    if wish.seconds is None or not wish.knows or wish.refresher == "uas":
        return None
    return Terms(terms.seconds, we_refresh=False)
