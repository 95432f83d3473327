"""Whether the ACK of a 2xx has come: told by an event if the session has the flag "a", else known from OpenSIPS's list.

OpenSIPS resends the 2xx by itself, but not for the 64*T1 of RFC 3261 section 13.3.1.4, and gives up in silence.
"""

from __future__ import annotations

import enum
import logging
from math import inf
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.sip.mi import MiError, MiRefused
from aivc.sip.session_board import SessionBoard
from aivc.sip.uasession import NO_SESSION, EventError, list_sessions, read_sessions

log = logging.getLogger("aivc.sip")

LAST_UNACKNOWLEDGED: Final = 4  # of the states in b2b_entities/dlg.h: B2B_CONFIRMED; 5 is B2B_ESTABLISHED
TERMINATED: Final = 7  # B2B_TERMINATED
LOOK_SECONDS: Final = 0.5  # between two looks of who cannot go on without the ACK: T1


class Seen(enum.Enum):
    """What OpenSIPS's list says of a session."""

    UNACKNOWLEDGED = enum.auto()
    ACKNOWLEDGED = enum.auto()
    ENDED = enum.auto()  # by a BYE or CANCEL whose event was lost
    GONE = enum.auto()
    UNKNOWN = enum.auto()  # no answer, or none that can be read


@attrs.define(eq=False, repr=False)
class AckWatch:
    """The ACK of the last 2xx to an INVITE.

    Attributes:
      since: when the 2xx went out, on trio's clock; inf: nothing is waited for.
    """

    board: SessionBoard
    key: str
    call_id: str
    since: float = attrs.field(default=inf, init=False)
    _cseq: int = attrs.field(default=-1, init=False)
    _closed: trio.Event = attrs.field(factory=trio.Event, init=False)

    @property
    def is_open(self) -> bool:
        """Whether an ACK is waited for."""
        return self.since != inf

    def begin(self, cseq: int, now: float) -> None:
        """A 2xx to the INVITE with this CSeq goes out."""
        self.close()
        self.since, self._cseq, self._closed = now, cseq, trio.Event()

    def take(self, cseq: int) -> bool:
        """An ACK with this CSeq has come; False: none is waited for, or another."""
        if not self.is_open or cseq != self._cseq:
            return False
        self.close()
        return True

    def close(self) -> None:
        """It is waited for no more."""
        self.since = inf
        self._closed.set()

    async def wait(self, seconds: float) -> bool:
        """Wait for the ACK at most so long; whether it has come. Nothing is sent but questions."""
        with trio.move_on_after(seconds):
            while self.is_open and await self.look() not in (Seen.ACKNOWLEDGED, Seen.ENDED, Seen.GONE):
                with trio.move_on_after(LOOK_SECONDS):
                    await self._closed.wait()
            return True
        return not self.is_open

    async def look(self) -> Seen:
        """Ask OpenSIPS. Never raises."""
        try:
            found = read_sessions(await self.board.commands.perform(list_sessions(self.key)))
        except MiRefused as error:
            return Seen.GONE if error.code == NO_SESSION else Seen.UNKNOWN
        except (MiError, EventError):
            return Seen.UNKNOWN
        except Exception as error:  # a bug of ours may cost one question, never all calls
            logs.event(log, "sip.bug", level=logging.ERROR, call_id=self.call_id, exc_info=error)
            return Seen.UNKNOWN
        if not found:
            return Seen.GONE
        if found[0].state == TERMINATED:
            return Seen.ENDED
        return Seen.UNACKNOWLEDGED if found[0].state <= LAST_UNACKNOWLEDGED else Seen.ACKNOWLEDGED
