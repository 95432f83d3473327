"""Performs what the conversation decides on the channels of its call. Synchronous: it never waits for anybody."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final, assert_never

import attrs
import trio

from aivc import logs
from aivc.media.playout import Playout
from aivc.media.stream import RtpStream
from aivc.nursery.ending import CallOver, Ending
from aivc.nursery.record import Answered, CallEvent, Ended, ModelAudible, Observer, ToolFinished, ToolStarted
from aivc.nursery.turns import Turns
from aivc.realtime.conversation import Conversation
from aivc.realtime.effects import (
    CallerSaid,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    CutPlayout,
    Effect,
    GiveUp,
    Interrupted,
    ItemAudioDone,
    ModelSaid,
    ModelStartedResponse,
    Notice,
    Play,
    RealtimeError,
    ResponseFinished,
    RunTool,
    Send,
    ToolCall,
)
from aivc.realtime.events import CancelResponse, ClientEvent, ServerEvent

log = logging.getLogger("aivc.call")

TOO_BUSY: Final = '{"error": "too many tools are running; try again"}'


@attrs.define(eq=False)
class Announcer:
    """Tells an observer, if there is one, what happens; an observer that does not keep up misses events."""

    call_id: str
    observer: Observer | None
    missed: int = 0

    def tell(self, what: Notice | Answered | ToolStarted | ToolFinished | ModelAudible | Ended) -> None:
        if self.observer is None:
            return
        try:
            self.observer.send_nowait(CallEvent(self.call_id, trio.current_time(), what))
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self.missed += 1


@attrs.define(eq=False)
class Performer:
    """The hands of one call's conversation."""

    conversation: Conversation
    playout: Playout
    stream: RtpStream
    outbox: trio.MemorySendChannel[ClientEvent]
    jobs: trio.MemorySendChannel[ToolCall]
    turns: Turns
    announcer: Announcer
    deadline_moved: trio.Event = attrs.field(factory=trio.Event)
    _overlong: str = ""  # the response that was refused last: one cancellation is enough

    def begin(self) -> None:
        """The call was answered."""
        self.perform(self.conversation.begin(trio.current_time()))

    def handle(self, event: ServerEvent) -> None:
        """Act on an event of the model."""
        self.perform(self.conversation.handle(event, trio.current_time()))

    def tool_finished(self, call_id: str, output: str) -> None:
        """Give the model what a tool returned, when its turn has come."""
        self.perform(self.conversation.tool_finished(call_id, output, trio.current_time()))

    def perform(self, effects: Iterable[Effect]) -> None:
        """Carry out effects in their order.

        Raises CallOver when the model cannot go on or takes no more messages.
        """
        for effect in effects:
            self._perform_one(effect)
        self.deadline_moved.set()
        self.deadline_moved = trio.Event()

    def _perform_one(self, effect: Effect) -> None:
        match effect:
            case Send(event=event):
                self._send(event)
            case Play(response_id=response_id, item_id=item_id, audio=audio):
                self._play(response_id, item_id, audio)
            case ItemAudioDone(item_id=item_id):
                self.playout.end_item(item_id)
            case CutPlayout():
                self.perform(self.conversation.playout_cut(self.playout.cut(), trio.current_time()))
            case RunTool(call=call):
                self._run(call)
            case GiveUp(code=code, message=message):
                raise CallOver(Ending.REALTIME_FATAL, f"{code}: {message}")
            case _:
                self._notice(effect)

    def _send(self, event: ClientEvent) -> None:
        try:
            self.outbox.send_nowait(event)
        except trio.WouldBlock:
            raise CallOver(Ending.REALTIME_STUCK, "64 events wait to be sent") from None

    def _play(self, response_id: str, item_id: str, audio: bytes) -> None:
        self.turns.audio_came(trio.current_time())
        if not self.playout.push(response_id, item_id, audio):
            self._refuse(response_id)

    def _refuse(self, response_id: str) -> None:
        if response_id != self._overlong:
            self._overlong = response_id
            logs.event(log, "playout.full", level=logging.WARNING, response_id=response_id)
            self._send(CancelResponse(event_id=f"full-{response_id}", response_id=response_id))

    def _run(self, call: ToolCall) -> None:
        try:
            self.jobs.send_nowait(call)
        except trio.WouldBlock:
            self.tool_finished(call.call_id, TOO_BUSY)

    def _notice(self, notice: Notice) -> None:
        self.turns.notice(notice, self.stream.last_voiced, trio.current_time())
        log_notice(notice)
        self.announcer.tell(notice)


def log_notice(notice: Notice) -> None:
    """One log line a notice. Transcripts are private: they go to observers, never into the log."""
    match notice:
        case CallerStartedSpeaking():
            logs.event(log, "caller.started_speaking", level=logging.DEBUG)
        case CallerStoppedSpeaking():
            logs.event(log, "caller.stopped_speaking", level=logging.DEBUG)
        case CallerSaid() | ModelSaid():
            pass
        case ModelStartedResponse(response_id=response_id):
            logs.event(log, "response.started", level=logging.DEBUG, response_id=response_id)
        case Interrupted(item_id=item_id, heard_ms=heard_ms, received_ms=received_ms):
            logs.event(log, "response.interrupted", item_id=item_id, heard_ms=heard_ms, received_ms=received_ms)
        case ResponseFinished(response_id=response_id, status=status, reason=reason, error_code=error_code):
            level = logging.WARNING if status == "failed" else logging.DEBUG
            why = error_code or reason
            logs.event(log, "response.finished", level=level, response_id=response_id, status=status, why=why)
        case RealtimeError(code=code, message=message, kind=kind):
            level = logging.DEBUG if kind.value == "benign" else logging.WARNING
            logs.event(log, "realtime.error", level=level, code=code, message=message, kind=kind.value)
        case _:
            assert_never(notice)
