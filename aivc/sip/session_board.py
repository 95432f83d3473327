"""What all UA sessions of one OpenSIPS share."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import attrs
import trio

from aivc import logs
from aivc.config.settings import Address, SipSettings
from aivc.sip.inspection import Capabilities, Refusal, retry_after_header
from aivc.sip.jsonrpc import Command
from aivc.sip.log_pace import LogPace
from aivc.sip.negotiation import Origin, SrtpPolicy
from aivc.sip.offeranswer import OfferAnswer
from aivc.sip.own_sessions import OwnSessions
from aivc.sip.refusals import Cause, RefusalCounts
from aivc.sip.session_timer import TIMER
from aivc.sip.switchboard import KEY_OCTETS, MAX_RETRY_SECONDS
from aivc.sip.timers import Timers
from aivc.sip.uasession import SessionEvent

log = logging.getLogger("aivc.sip")

# PRACK never comes to us, so 100rel is not promised; nor is a session replaced or a REFER followed.
CAPABILITIES: Final = Capabilities(
    ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "INFO", "NOTIFY", "UPDATE"),
    (TIMER,),
)

MAX_UNFREED: Final = 4096  # sessions; more calls than there can be at a time


class Commands(Protocol):
    """How OpenSIPS is told what to do: `aivc.sip.mi.ManagementInterface`."""

    async def perform(self, command: Command, seconds: float | None = None) -> object:
        """The result. Raises MiError."""


class Session(Protocol):
    """One UA session, as those see it who bring its events, and count it."""

    @property
    def is_over(self) -> bool:
        """Whether its end was told; OpenSIPS may have to be told still."""

    @property
    def is_unanswered(self) -> bool:
        """Whether its INVITE came in and has no final answer of ours."""

    @property
    def is_ending(self) -> bool:
        """Whether we are ending it: OpenSIPS was told, or will be."""

    def take(self, event: SessionEvent) -> None:
        """An event of this session but NEW."""

    def lose(self, cause: str) -> None:
        """OpenSIPS does not have the session any more: nothing is sent."""

    def close(self) -> None:
        """The front end ends: nothing is sent."""


@attrs.define
class SessionCounts:
    """What the sessions count.

    Attributes:
      refused: requests of peers that were refused.
      failed: commands that OpenSIPS refused or did not answer: mostly the session was over already.
      dropped: requests that were not answered, because too many answers wait to be taken by OpenSIPS.
      stray: events that say nothing to the session, such as answers to requests that nobody waits for.
    """

    refused: int = 0
    failed: int = 0
    dropped: int = 0
    stray: int = 0


@attrs.define(eq=False, repr=False)
class Unfreed:
    """Sessions of ours that OpenSIPS could not be told to free, because it did not answer: by key, with what to say.

    They are ours whoever else is subscribed, so somebody must try again.
    """

    _commands: dict[str, tuple[Command, ...]] = attrs.field(factory=dict, init=False)

    def add(self, key: str, *commands: Command) -> None:
        self._commands[key] = commands
        if len(self._commands) > MAX_UNFREED:
            del self._commands[next(iter(self._commands))]

    def discard(self, key: str) -> None:
        self._commands.pop(key, None)

    def oldest_first(self) -> tuple[tuple[str, tuple[Command, ...]], ...]:
        return tuple(self._commands.items())


@attrs.frozen(eq=False, repr=False)
class SessionBoard:
    """Shared by all sessions of one OpenSIPS. Its timers run in `tasks` from the beginning.

    Args:
      commands: how OpenSIPS is told what to do.
      tasks: what the sessions still have to say is said there, also when their calls are cancelled: sheltered.
      settings: `[sip]`, of which the session timer, the header fields and `hang_up_seconds` are used.
      srtp, rtcp: the settings of `[rtp]`.
      signalling: where events come to, which is where no audio may go; and our host name in Warning.
      forget: the session of this key is over, and needs no more events. Called once for each.
      serve: the session of this key is there, made by OpenSIPS because we told it to, and needs events.
      own: all of these.
      unfreed: those that are over for us, and perhaps not for OpenSIPS.

    Attributes:
      refusals: how often requests were refused, by cause.
      pace: of the log, for requests that are refused.
    """

    commands: Commands
    tasks: trio.Nursery
    settings: SipSettings
    srtp: SrtpPolicy
    rtcp: bool
    randomness: random.Random
    signalling: Address
    forget: Callable[[str], None]
    serve: Callable[[str, Session], None]
    own: OwnSessions = attrs.field(factory=OwnSessions)
    unfreed: Unfreed = attrs.field(factory=Unfreed)
    counts: SessionCounts = attrs.field(factory=SessionCounts, init=False)
    refusals: RefusalCounts = attrs.field(factory=RefusalCounts, init=False)
    timers: Timers = attrs.field(factory=Timers, init=False)
    pace: LogPace = attrs.field(factory=LogPace, init=False)

    def __attrs_post_init__(self) -> None:
        self.tasks.start_soon(self.timers.run)

    def new_media(self) -> OfferAnswer:
        """The offer/answer of a new session."""
        origin = Origin(self.randomness.getrandbits(62))  # fits a signed 64-bit integer everywhere
        return OfferAnswer(self.signalling, origin, self.srtp, self.new_key, rtcp=self.rtcp)

    def new_key(self) -> bytes:
        """For SDES."""
        return self.randomness.randbytes(KEY_OCTETS)

    def later(self, cause: str) -> Refusal:
        """500 with a random Retry-After (RFC 3261 section 14.2)."""
        wait = retry_after_header(self.randomness.randint(0, MAX_RETRY_SECONDS))
        return Refusal(500, cause, (wait,), Cause.RETRY_LATER.value)

    def note_refusal(self, call_id: str, method: str, refusal: Refusal) -> None:
        """Count and log a request that is refused."""
        self.counts.refused += 1
        if refusal.is_counted:
            self.refusals.add(refusal.name)
        level = self.pace.level_of(refusal.status, trio.current_time())
        told = partial(logs.event, log, "sip.refused", level=level, call_id=call_id, method=method)
        told(refusal=refusal.name or None, status=refusal.status, cause=refusal.cause)
