"""Performs what the conversation decides on the channels of its call. Synchronous: it never waits for anybody."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Final, Literal, assert_never

import attrs
import trio

from aivc import logs
from aivc.media.g711 import OCTETS_PER_MS
from aivc.media.playout import Playout
from aivc.media.stream import RtpStream
from aivc.nursery.alarm import Alarm
from aivc.nursery.backlog import Backlog
from aivc.nursery.ending import CallOver, Ending
from aivc.nursery.entries import Entries, Source
from aivc.nursery.gap import TurnEnd
from aivc.nursery.leaving import FINAL, Leaving
from aivc.nursery.record import CallEvent, DigitEntry, DigitsEntered, Observer, What
from aivc.nursery.turns import Turns
from aivc.nursery.uplink import Uplink
from aivc.realtime.connection import RealtimeSocket
from aivc.realtime.conversation import Conversation
from aivc.realtime.dialects import ProtocolViolation
from aivc.realtime.effects import (
    CallerSaid,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    CutPlayout,
    Effect,
    GiveUp,
    HangUp,
    Interrupted,
    ItemAudioDone,
    ModelSaid,
    ModelStartedResponse,
    Notice,
    PausePlayout,
    Play,
    RealtimeError,
    ResponseFinished,
    ResumePlayout,
    RunTool,
    Send,
    ToolCall,
)
from aivc.realtime.events import CancelResponse, ClientEvent, CreateResponse, SendRaw, ServerEvent

log = logging.getLogger("aivc.call")

PAUSE: Final = 1.0  # seconds without a word: nobody is in the middle of a sentence
HANG_UPS: Final = {"idle": Ending.CALLER_IDLE, "expired": Ending.REALTIME_EXPIRED}
GIVEN_UP: Final = {"model_silent": Ending.REALTIME_SILENT, "session_expired": Ending.REALTIME_EXPIRED}
WORDS_OF_OURS: Final = frozenset({"welcome", "idle", "farewell"})  # no answers, whatever the caller said before
TOO_BUSY: Final = '{"error": "too many tools are running; try again"}'


@attrs.define(eq=False)
class Announcer:
    """Tells an observer, if there is one, what happens; one that does not keep up, or fails, misses events."""

    call_id: str
    observer: Observer | None
    missed: int = 0

    def tell(self, what: What) -> None:
        if self.observer is None:
            return
        try:
            self.observer.send_nowait(CallEvent(self.call_id, trio.current_time(), what))
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self.missed += 1
        except Exception as error:  # we may be in the media clock or in a goodbye: a bug in an observer costs no call
            level = logging.DEBUG if self.missed else logging.ERROR
            self.missed += 1
            logs.event(log, "observer.failed", level=level, error=repr(error), exc_info=error)


@attrs.define(eq=False)
class Performer:
    """The hands of one call's conversation."""

    conversation: Conversation
    playout: Playout
    stream: RtpStream
    outbox: Backlog[ClientEvent]
    jobs: Backlog[ToolCall]
    turns: Turns
    announcer: Announcer
    leaving: Leaving = attrs.field(factory=Leaving)
    entries: Entries = attrs.field(factory=Entries)
    uplink: Uplink = attrs.field(factory=Uplink)
    socket: RealtimeSocket | None = None  # of the session that is used
    aside: bool = False  # True while the caller waits for somebody else: the model has nothing to say to them
    connected: bool = True  # False while the call has no session: what is to be sent then is void
    alarm: Alarm = attrs.field(factory=Alarm)  # of the call
    _held: bool = False  # by the caller
    _overlong: str = ""  # the response that was refused last: one cancellation is enough

    def begin(self) -> None:
        """The call was answered."""
        self.perform(self.conversation.begin(trio.current_time()))

    def restart(self) -> None:
        """A new session has taken the place of the old one: tell it what was said."""
        self.perform(self.conversation.restart(trio.current_time()))

    def say(self, instructions: str) -> None:
        """Have the model say something when its turn has come."""
        self.perform(self.conversation.say(instructions, trio.current_time()))

    def say_farewell(self, cause: Literal["idle", "expired"]) -> None:
        """Have the model say goodbye, and hang up after it."""
        self.perform(self.conversation.farewell(cause, trio.current_time()))

    def interrupt(self) -> None:
        """Stop what is being said, by a tool's wish."""
        self.perform(self.conversation.interrupt(trio.current_time()))

    def press(self, digit: str, source: Source) -> None:
        """The caller has pressed a key. The first of an entry stops what is being said, and nothing is said until it is
        complete.
        """
        now = trio.current_time()
        if not self.entries.dtmf.enabled:
            return
        if not self.entries.is_begun:
            self.turns.not_awaited()
            self.perform(self.conversation.key_pressed(now))
        if (entry := self.entries.press(digit, source, now)) is not None:
            self.digits_entered(entry)
        self.alarm.sooner(self.deadline)

    def digits_entered(self, entry: DigitEntry) -> None:
        """Tell the model which keys the caller has pressed: what it says then is the answer to them."""
        self.turns.not_awaited()
        self.turns.entered(entry)
        self.tell(DigitsEntered(entry))
        # Only how many: a PIN is nobody's business.
        logs.event(log, "caller.pressed_keys", keys=len(entry.digits), source=entry.source)
        self.perform(self.conversation.digits_entered(entry.digits, trio.current_time()))

    def caller_holds(self, on_hold: bool) -> None:
        """The caller put the call on hold, or is back."""
        self._held = on_hold
        self.turns.not_awaited()
        self.perform(self.conversation.caller_holds(on_hold or self.aside, trio.current_time()))

    def put_aside(self, aside: bool) -> None:
        """The caller waits for somebody else, or is back: meanwhile the model hears silence and is silenced itself."""
        self.aside = aside
        if aside and self.is_speaking:
            self.interrupt()
        self.caller_holds(self._held)

    def hang_up(self, ending: Ending) -> None:
        """End the call when the last words were heard; not while the caller acts, if what they do may put it off."""
        if ending in FINAL or not self.conversation.caller_speaks:
            self.leaving.ask(ending)
            self.conversation.last_words()

    def playout_drained(self) -> None:
        """Everything that came was played."""
        self.perform(self.conversation.playout_drained(trio.current_time()))

    def send_raw(self, event: Mapping[str, object]) -> None:
        """Send a client event as a tool wrote it; while there is no session it is dropped and counted."""
        self.turns.dropped_events += not self.connected
        self._send(SendRaw(event))

    @property
    def is_speaking(self) -> bool:
        """Whether the model has something left to say, or keys left to press."""
        generating = self.connected and not self.conversation.responses.idle  # what a lost session owes never comes
        return generating or not self.playout.drained or self.stream.sends_digits

    async def wait_pause(self) -> None:
        """Until neither side has spoken for a second."""
        last_word = trio.current_time()
        while trio.current_time() < last_word + PAUSE:
            await trio.sleep(PAUSE / 10)
            last_word = max(last_word, trio.current_time() if self.is_speaking else self.stream.last_voiced)

    def note_violation(self, violation: ProtocolViolation) -> None:
        """The model sent what cannot be read."""
        level = logging.DEBUG if self.turns.violations else logging.WARNING  # a broken server sends thousands
        self.turns.violations += 1
        logs.event(log, "realtime.violation", level=level, error=str(violation))

    def tell(self, what: What) -> None:
        """Tell the observer, if there is one."""
        self.announcer.tell(what)

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
        # words that are not meant for the model; asked once an event: once a packet it takes 3 % of all CPU
        self.uplink.withheld = self.aside or self.conversation.holds_back_caller
        for effect in effects:
            self._perform_one(effect)
        self.alarm.sooner(self.deadline)

    @property
    def deadline(self) -> float:
        """When `expire` is wanted, on trio's clock."""
        return min(self.conversation.deadline, self.entries.deadline)

    def expire(self) -> None:
        """Do what is due now."""
        now = trio.current_time()
        if self.conversation.deadline <= now:
            self.perform(self.conversation.expire(now))
        if (entry := self.entries.expire(now)) is not None:
            self.digits_entered(entry)

    def _perform_one(self, effect: Effect) -> None:
        match effect:
            case Play(response_id=response_id, item_id=item_id, audio=audio):  # the most frequent one
                self._play(response_id, item_id, audio)
            case Send(event=event):
                self._send(event)
            case ItemAudioDone(item_id=item_id):
                self.playout.end_item(item_id)
            case CutPlayout(by_caller=by_caller):
                if by_caller:
                    self._stay()
                self.turns.audio_cut(trio.current_time())
                self.perform(self.conversation.playout_cut(self.playout.cut(), trio.current_time()))
            case PausePlayout():
                self.playout.pause()
            case ResumePlayout():
                self.turns.not_awaited()  # it was a cough, or nobody knows
                self.playout.resume()
            case RunTool(call=call):
                self._run(call)
            case HangUp(cause=cause):
                self.hang_up(HANG_UPS[cause])
            case GiveUp(code=code, message=message):
                raise CallOver(GIVEN_UP.get(code, Ending.REALTIME_FATAL), f"{code}: {message}")
            case _:
                self._notice(effect)

    def _send(self, event: ClientEvent) -> None:
        if not self.connected:
            return
        try:
            self.outbox.send_nowait(event)
        except trio.WouldBlock:
            raise CallOver(Ending.REALTIME_STUCK, "too many events wait to be sent") from None
        if isinstance(event, CreateResponse):
            self._note_request(event)

    def _note_request(self, event: CreateResponse) -> None:
        request = self.conversation.responses.request_sent_as(event.event_id)
        if request is None:
            return
        if request.purpose in WORDS_OF_OURS:
            self.turns.not_awaited()
        again = bool(request.attempts) or request.unanswered is not None
        self.turns.requested(request.asked_at, trio.current_time(), again=again)

    def _stay(self) -> None:
        """The caller spoke again: a hang-up that was wanted is not any more."""
        for call_id, output in self.leaving.withdraw():
            logs.event(log, "call.goes_on")
            self.tool_finished(call_id, output)

    def _play(self, response_id: str, item_id: str, audio: bytes) -> None:
        queue = self.playout.waiting_octets / (1000 * OCTETS_PER_MS)
        if self.playout.push(response_id, item_id, audio):
            self.turns.audio_came(response_id, queue, trio.current_time())
        else:
            self._refuse(response_id)

    def _refuse(self, response_id: str) -> None:
        if response_id != self._overlong:
            self._overlong = response_id
            logs.event(log, "playout.full", level=logging.WARNING, response_id=response_id)
            self._send(CancelResponse(event_id=f"full-{response_id}", response_id=response_id))

    def _run(self, call: ToolCall) -> None:
        self.turns.tool_called(call.call_id)
        try:
            self.jobs.send_nowait(call)
        except trio.WouldBlock:
            self.tool_finished(call.call_id, TOO_BUSY)

    def _notice(self, notice: Notice) -> None:
        now = trio.current_time()
        if isinstance(notice, CallerStoppedSpeaking):
            self.turns.turn_ended(self._turn_end(), now)
        self.turns.notice(notice, now)
        log_notice(notice)
        self.announcer.tell(notice)
        if self.aside and isinstance(notice, ModelStartedResponse):  # to keys, to what was said before, to a tool
            self.interrupt()

    def _turn_end(self) -> TurnEnd:
        stream, openai = self.stream, self.conversation.settings
        heard_at, (held_until, came_at) = stream.last_voiced, stream.held_voiced
        is_timed = openai.turn_detection_type == "server_vad"
        return TurnEnd(
            came_at=came_at if held_until == heard_at else heard_at,
            heard_at=heard_at,
            appended_at=self.uplink.appended_at(heard_at),
            silence=openai.turn_detection_silence_ms / 1000 if is_timed else None,
            round_trip=None if self.socket is None else self.socket.round_trip,
            is_answered=openai.turn_detection_create_response,
            caller_round_trip=None if stream.rtcp is None else stream.rtcp.reports.round_trip,
        )


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
