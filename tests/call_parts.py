"""The real parts of one call, put together without a network, for tests of the tasks that work on them."""

from __future__ import annotations

import itertools

import attrs
import trio

from aivc.config.settings import OpenAISettings, RtpSettings
from aivc.media.latching import Latch
from aivc.media.pacer import Pacer
from aivc.media.playout import Playout
from aivc.media.stream import RtpStream
from aivc.nursery.alarm import Alarm, Timed
from aivc.nursery.backlog import Backlog
from aivc.nursery.performer import Announcer, Performer
from aivc.nursery.record import CallEvent
from aivc.nursery.turns import Turns
from aivc.realtime.conversation import Conversation
from aivc.realtime.effects import ToolCall
from aivc.realtime.events import ClientEvent
from aivc.testing import VirtualNetwork

REMOTE = ("192.0.2.9", 4000)
OUTBOX = 16  # small, so that a test can fill it
JOBS = 2


@attrs.frozen(eq=False)
class Parts:
    """A performer, and what it gives to others."""

    performer: Performer
    outbox: Backlog[ClientEvent]
    jobs: Backlog[ToolCall]
    observed: trio.MemoryReceiveChannel[CallEvent]

    @property
    def sent(self) -> list[ClientEvent]:
        """What was to be sent since the last look."""
        found, self.outbox.waiting = self.outbox.waiting, []
        return found

    @property
    def told(self) -> list[CallEvent]:
        """What the observer was told since the last look."""
        return [self.observed.receive_nowait() for _ in range(self.observed.statistics().current_buffer_used)]


def rtp_stream(now: float = 0.0, settings: RtpSettings | None = None) -> RtpStream:
    """A stream on a socket that is bound nowhere."""
    heard, _ = trio.open_memory_channel[bytes](50)
    chosen = settings or RtpSettings()
    return RtpStream(
        VirtualNetwork().socket(type=trio.socket.SOCK_DGRAM),
        "PCMU",
        0,
        Latch(REMOTE, REMOTE[0], chosen.nat, chosen.relatch_seconds),
        Playout(0xFF),
        Pacer(0, 1, 1, 1, now),
        heard,
        chosen,
        now,
    )


def parts(settings: OpenAISettings | None = None, *, jobs: int = JOBS) -> Parts:
    observer, observed = trio.open_memory_channel[CallEvent](100)
    numbers, called, outbox = itertools.count(1), Backlog[ToolCall](jobs), Backlog[ClientEvent](OUTBOX)
    conversation = Conversation(settings or OpenAISettings(), lambda: f"e{next(numbers)}")
    stream = rtp_stream()
    announcer = Announcer("call-1", observer)
    performer = Performer(conversation, stream.playout, stream, outbox, called, Turns(), announcer)
    return Parts(performer, outbox, called, observed)


async def keep_within(limits: Timed) -> None:
    """Task: ends by what they raise."""
    alarm = Alarm()
    async with trio.open_nursery() as nursery:
        alarm.watch(limits, nursery)
        await alarm.ring(trio.Event())
