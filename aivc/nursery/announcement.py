"""What the target of an attended transfer is told before it gets the caller: a short Realtime session of its own.

It hears nothing and has no functions; it says one thing, and is closed. Without it the transfer goes on.
"""

from __future__ import annotations

import itertools
import logging
from functools import partial
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.config.settings import OpenAISettings
from aivc.media.stream import RtpStream
from aivc.nursery.backlog import Backlog
from aivc.nursery.causes import until_over
from aivc.nursery.ground import Ground
from aivc.nursery.leaving import wait_said
from aivc.nursery.performer import Announcer, Performer
from aivc.nursery.sessions import Session, connect_session, read_events, write_event
from aivc.nursery.turns import Turns
from aivc.realtime.connection import RealtimeRefused
from aivc.realtime.conversation import Conversation
from aivc.realtime.dialects import dialect_named
from aivc.realtime.events import ClientEvent
from aivc.realtime.handover import NOW, handover
from aivc.realtime.transfers import ANNOUNCEMENT_SECONDS

log = logging.getLogger("aivc.call")

PICKING_UP: Final = 0.5  # seconds from the answer to the first word: a hand is on its way to an ear
EVENTS: Final = 16  # that wait to be sent: it sends one request, and corrections of none
# In extra_session these would give it functions, or another text than ours.
NOT_HERE: Final = frozenset({"tools", "tool_choice", "instructions"})


@attrs.define(eq=False)
class Announcement:
    """One announcement: its session is opened while the target's telephone rings."""

    ground: Ground
    openai: OpenAISettings
    session: Session | None = None
    tried: trio.Event = attrs.field(factory=trio.Event)  # there is a session, or there will be none
    performer: Performer | None = None

    async def prepare(self) -> None:
        """Task: open the session, which `speak` waits for."""
        try:
            self.session = await connect_session(self.ground, self.openai, (), ())
        except RealtimeRefused as error:
            logs.event(log, "transfer.unannounced", level=logging.WARNING, error=str(error))
        finally:
            self.tried.set()

    async def speak(self, stream: RtpStream) -> None:
        """Say it, and return when it was heard, or cannot be, or has taken too long."""
        with trio.move_on_after(ANNOUNCEMENT_SECONDS) as patience:
            await trio.sleep(PICKING_UP)
            await self.tried.wait()
            if self.session is None:
                return
            over = await until_over(partial(self._talk, self.session, stream))
            if over is not None:
                logs.event(log, "transfer.unannounced", level=logging.WARNING, error=str(over))
        if patience.cancelled_caught:
            why = f"not done within {ANNOUNCEMENT_SECONDS:g} s"
            logs.event(log, "transfer.unannounced", level=logging.WARNING, error=why)

    def drained(self) -> None:
        """The target's playout has run empty."""
        if self.performer is not None:
            self.performer.playout_drained()

    def close(self) -> None:
        """Close the session without waiting, and note what it has cost."""
        if self.session is not None:
            self.ground.lines.finishing.start_soon(self.session.socket.close, self.openai.close_seconds)
        if self.performer is not None:
            progress = self.ground.progress
            progress.announced = progress.announced.with_totals(self.performer.conversation.usage)

    async def _talk(self, session: Session, stream: RtpStream) -> None:
        outbox = Backlog[ClientEvent](EVENTS)
        numbers = itertools.count(1)
        conversation = Conversation(self.openai, lambda: f"aivc-{next(numbers)}")
        unobserved = Announcer(self.ground.leg.call_id, None)
        alarm = self.ground.progress.alarm
        performer = Performer(
            conversation, stream.playout, stream, outbox, Backlog(0), Turns(), unobserved, alarm=alarm
        )
        self.performer, dialect = performer, dialect_named(self.openai.dialect)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_events, session.socket, dialect, performer)
            with (
                alarm.watching(nursery, performer),
                outbox.done_by(partial(write_event, session.socket, dialect), nursery),
            ):
                performer.say(NOW)
                await wait_said(performer, ANNOUNCEMENT_SECONDS)
            nursery.cancel_scope.cancel()


def announcement_of(ground: Ground) -> Announcement:
    """The announcement of this call as it is now: the model is told what was said so far."""
    leg, openai, performer = ground.leg, ground.settings.openai, ground.progress.performer
    said = () if performer is None else performer.conversation.history.utterances
    extra = {name: value for name, value in openai.extra_session.items() if name not in NOT_HERE}
    return Announcement(
        ground,
        attrs.evolve(
            openai,
            instructions=handover(openai.transfer_announcement, leg.caller, leg.dialled, said),
            welcome_message=None,
            turn_detection_type="none",
            idle_timeout_ms=0,
            transcription_model=None,
            tool_choice="auto",
            extra_session=extra,
        ),
    )
