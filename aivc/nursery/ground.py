"""What one call stands on: who calls, by which settings, with what means, and how far it has come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import attrs
import trio

from aivc.config.agents import Chosen
from aivc.config.settings import Codec, OpenAISettings, Settings
from aivc.media.clock import MediaClock
from aivc.media.ports import PortPool
from aivc.media.sounds import Sound
from aivc.media.stream import RtpStream
from aivc.nursery.alarm import Alarm
from aivc.nursery.ending import CallOver, Ending
from aivc.nursery.leaving import Leaving
from aivc.nursery.performer import Announcer, Performer
from aivc.nursery.prompts import Prompts
from aivc.nursery.taping import Taping
from aivc.nursery.turns import Turns
from aivc.realtime.connection import RealtimeSocket
from aivc.realtime.tools import ToolRegistry
from aivc.realtime.usage import UsageTotals
from aivc.sip.leg import Leg

Connect = Callable[[trio.Nursery, OpenAISettings], Awaitable[RealtimeSocket]]
Prepare = Callable[[], Awaitable[Chosen]]  # raises CallOver


@attrs.frozen(eq=False)
class Means:
    """What a call works with and does not own."""

    connect: Connect
    tools: ToolRegistry | None  # None: those of the settings that `prepare` gives
    clock: MediaClock
    ports: PortPool
    draining: trio.Event
    prompts: Prompts
    wall_clock: Callable[[], float]
    prepare: Prepare | None


@attrs.frozen(eq=False)
class Lines:
    """Nurseries around the call's own.

    Args:
      sockets: of the WebSockets' readers; cancelled when the call has said goodbye, and `finishing` is done.
      finishing: of what may finish after the call: tools, and closing handshakes that nobody waits for. Each has its
        own deadline.
    """

    sockets: trio.Nursery
    finishing: trio.Nursery


@attrs.define(eq=False)
class Progress:
    """How far a call has come: what its record is made of when it ends."""

    started_at: float
    agent: str | None = None
    prices: Mapping[str, float] = attrs.field(factory=dict)
    turns: Turns = attrs.field(factory=Turns)
    leaving: Leaving = attrs.field(factory=Leaving)
    over: CallOver = attrs.field(factory=lambda: CallOver(Ending.EMBEDDER_CANCELLED))  # unless a cause is found
    answered_at: float | None = None
    ended_at: float = 0.0  # when our goodbye was said
    stream: RtpStream | None = None
    performer: Performer | None = None
    alarm: Alarm = attrs.field(factory=Alarm)
    socket: RealtimeSocket | None = None
    announced: UsageTotals = attrs.field(factory=UsageTotals)  # what announcing attended transfers has cost
    headers: dict[str, str] = attrs.field(factory=dict)  # of the INVITE, for the record
    taping: Taping | None = None  # None: nobody records the call

    def note(self, state: str) -> None:
        """How far the call has come, for the recording."""
        if self.taping is not None:
            self.taping.state(state)

    def drained(self) -> None:
        """The playout has run empty."""
        if self.performer is not None:
            self.performer.playout_drained()

    def let_go(self) -> None:
        """The record is made: leave no ring of references behind, which only Python's collector could take away."""
        self.stream = self.performer = None  # their playout does


@attrs.frozen(eq=False)
class Ground:
    """All of it together, once the settings of the call are known."""

    leg: Leg
    settings: Settings
    means: Means
    tools: ToolRegistry
    lines: Lines
    progress: Progress
    announcer: Announcer

    def octets(self, prompt: Sound | None) -> bytes:
        """A sound in the call's codec; nothing for none."""
        return b"" if prompt is None else prompt.octets(self.codec)

    @property
    def codec(self) -> Codec:
        return self.leg.agreement.codec
