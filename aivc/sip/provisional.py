"""Reliable provisional responses, RFC 3262, from the answering side. No I/O and no clock.

send: RSeq --> unacknowledged --PRACK--> acknowledged
                | T1, 2*T1, 4*T1 ...: resend
                +-- 64*T1: give up, and refuse the INVITE (section 3)
"""

from __future__ import annotations

import enum
from math import inf
from typing import Final

import attrs

from aivc.sip.address import MAX_CSEQ
from aivc.sip.message import Headers, Request
from aivc.sip.scanner import AddressError, parse_number
from aivc.sip.transaction import T1, TIMEOUT

RELIABLE: Final = "100rel"  # the option tag
MAX_FIRST_RSEQ: Final = 2**31 - 1  # section 3


class Unacknowledged(enum.Enum):
    """What a reliable response without its PRACK asks for."""

    RESEND = enum.auto()
    GIVE_UP = enum.auto()


@attrs.frozen
class RAck:
    """The value of RAck, section 7.2."""

    rseq: int
    cseq: int
    method: str


@attrs.define
class ReliableProvisional:
    """One reliable response that waits for its PRACK: there is never more than one (section 3).

    Args:
      rseq: its RSeq.
      cseq: of the INVITE.
      sent: when it went out first, seconds on the owner's clock.
    """

    rseq: int
    cseq: int
    sent: float
    acknowledged: bool = attrs.field(default=False, init=False)
    _interval: float = attrs.field(default=T1, init=False)
    _resend: float = attrs.field(init=False)
    _end: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._resend, self._end = self.sent + T1, self.sent + TIMEOUT

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """What the response says."""
        return ("Require", RELIABLE), ("RSeq", str(self.rseq))

    @property
    def deadline(self) -> float:
        """When `expire` must next be called; inf when nothing is left to do."""
        return min(self._resend, self._end)

    def expire(self, now: float) -> Unacknowledged | None:
        """The interval doubles without an upper limit (section 3), unlike that of a 2xx."""
        if now >= self._end:
            self.stop()
            return Unacknowledged.GIVE_UP
        if now < self._resend:
            return None
        self._interval *= 2
        self._resend = now + self._interval
        return Unacknowledged.RESEND

    def stop(self) -> None:
        """A final response is sent: it is not resent any more, but a PRACK for it is still good (section 3)."""
        self._resend = self._end = inf

    def take(self, rack: RAck) -> bool:
        """Take a PRACK; False when it is for another response, or the second one: answer 481 (section 3)."""
        if self.acknowledged or (rack.rseq, rack.cseq, rack.method) != (self.rseq, self.cseq, "INVITE"):
            return False
        self.acknowledged = True
        self.stop()
        return True


def read_rack(request: Request) -> RAck:
    """The RAck of a PRACK. Raises AddressError."""
    numbers = request.header("RAck").split()
    if len(numbers) != 3:
        raise AddressError("Bad RAck")
    return RAck(parse_number(numbers[0], MAX_CSEQ, "RSeq"), parse_number(numbers[1], MAX_CSEQ, "RAck"), numbers[2])


def is_required(headers: Headers) -> bool:
    """Whether every 18x must be reliable."""
    return RELIABLE in {tag.lower() for tag in headers.items("Require")}


def is_possible(headers: Headers) -> bool:
    """Whether an 18x may be reliable."""
    return is_required(headers) or RELIABLE in {tag.lower() for tag in headers.items("Supported")}


def first_rseq(token: str) -> int:
    """From 1 to 2**31 - 1, at random as `token` is: 16 hexadecimal digits."""
    return int(token, 16) % MAX_FIRST_RSEQ + 1
