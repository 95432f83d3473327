"""The session after it is configured: who speaks, what is cut, which response comes next, which tools run.

Each of these questions has a small machine of its own (`machines`); the caller's side and the model's side tell them
what happens. Here the events are handed out, and a conversation begins, goes on in another session, and waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_never

import attrs

from aivc.config.settings import OpenAISettings
from aivc.realtime import effects, events
from aivc.realtime.caller_side import CallerSide
from aivc.realtime.courtesies import Cause
from aivc.realtime.effects import Effect, Send
from aivc.realtime.events import ServerEvent
from aivc.realtime.history import History
from aivc.realtime.items import CutItem
from aivc.realtime.machines import Machines
from aivc.realtime.model_side import ModelSide
from aivc.realtime.replay import replayed
from aivc.realtime.sequencer import ResponseRequest, ResponseSequencer
from aivc.realtime.toolcalls import ToolLedger
from aivc.realtime.usage import UsageTotals


@attrs.define
class Conversation:
    """The session machine of one call: events in, effects out, to be performed in order.

    Call `expire` when `deadline` is reached. `new_event_id` returns a fresh text of at most 512 characters.
    """

    settings: OpenAISettings
    new_event_id: Callable[[], str]
    _machines: Machines = attrs.field(init=False)
    _caller: CallerSide = attrs.field(init=False)
    _model: ModelSide = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._machines = Machines(self.settings, self.new_event_id)
        self._caller = CallerSide(self._machines)
        self._model = ModelSide(self._machines)

    @property
    def deadline(self) -> float:
        """When to call `expire`; infinity when nothing is awaited."""
        return self._machines.deadline

    @property
    def holds_back_caller(self) -> bool:
        """Whether the server is to hear silence instead of the caller: a welcome plays that may not be interrupted."""
        return self._machines.greeting.holds

    @property
    def caller_speaks(self) -> bool:
        """Whether the caller is known to be speaking, or to be pressing keys."""
        return self._machines.turn.speaking or self._machines.responses.typing

    @property
    def responses(self) -> ResponseSequencer:
        return self._machines.responses

    @property
    def tools(self) -> ToolLedger:
        return self._machines.tools

    @property
    def history(self) -> History:
        """What was said so far."""
        return self._machines.history

    @property
    def usage(self) -> UsageTotals:
        """What it has cost so far."""
        return self._machines.usage

    @property
    def false_interruptions(self) -> int:
        """Sounds that paused the model and turned out to be no speech."""
        return self._machines.turn.false_interruptions

    @property
    def dropped_deltas(self) -> int:
        """Blocks of audio that came for interrupted responses."""
        return self._model.dropped_deltas

    def begin(self, now: float) -> list[Effect]:
        """Ask for the greeting, if there is one."""
        self._machines.greeting.begin(now)
        return self._settled(self._welcome(now), now)

    def handle(self, event: ServerEvent, now: float) -> list[Effect]:
        """Return what one event of the server asks for."""
        self._machines.turn.server_spoke(now)
        return self._settled(self._react(event, now), now)

    def say(self, instructions: str, now: float) -> list[Effect]:
        """Ask for a response with these instructions, and no tools, when its turn comes."""
        return self._settled(self._machines.request_words(instructions, "say", now), now)

    def interrupt(self, now: float) -> list[Effect]:
        """Silence the model, which is no sign that the caller is there; without effect while `holds_back_caller`."""
        return self._settled(self._caller.interrupt(now, by_caller=False), now)

    def key_pressed(self, now: float) -> list[Effect]:
        """Silence the model as if the caller had spoken, and let nobody answer before `digits_entered`."""
        return self._settled(self._caller.key_pressed(now), now)

    def digits_entered(self, text: str, now: float) -> list[Effect]:
        """Tell the model which keys the caller pressed, and ask for its answer to all that came meanwhile."""
        return self._settled(self._caller.digits(text, now), now)

    def farewell(self, cause: Cause, now: float) -> list[Effect]:
        """Have the model say goodbye; `HangUp` follows when it did, or could not."""
        return self._settled(self._caller.farewell(cause, now), now)

    def last_words(self) -> None:
        """Note that the call ends with what is being said; the caller's next word calls that off."""
        self._machines.last_words()

    def caller_holds(self, on_hold: bool, now: float) -> list[Effect]:
        """Note that the caller put the call on hold, or is back: meanwhile no silence counts, at the server neither."""
        m = self._machines
        m.on_hold = on_hold
        return self._settled(m.server_asks(False) if on_hold and m.idle.take_from_server() else [], now)

    def playout_drained(self, now: float) -> list[Effect]:
        """Note that everything received was played."""
        self._machines.playing = False
        self._machines.history.drained()
        self._machines.greeting.drained()
        return self._settled([], now)

    def playout_cut(self, items: Sequence[CutItem], now: float) -> list[Effect]:
        """Tell the server how much of each item was heard; `items` is what `CutPlayout` removed."""
        self._machines.playing = False
        self._machines.history.cut(items)
        self._machines.greeting.drained()
        wanted: list[Effect] = []
        for item in items:
            correction = self._machines.items.cut(item)
            if not item.complete:
                wanted.append(effects.Interrupted(item.item_id, item.heard_ms, item.received_ms))
            if correction is not None:
                wanted.append(Send(correction))
        return self._settled(wanted, now)

    def tool_finished(self, call_id: str, output: str, now: float) -> list[Effect]:
        """Hand over a tool's output; it is sent when its response is done and its sibling calls are finished too."""
        return self._settled(self._model.deliver(self.tools.finish(call_id, output), now), now)

    def restart(self, now: float) -> list[Effect]:
        """Go on in another session, already configured: tell it what was said, and answer if it was the model's turn.

        What is still playing goes on playing; the new session does not know it as audio, so it is never corrected.
        """
        m = self._machines
        wanted: list[Effect] = [effects.ResumePlayout()] if m.turn.in_doubt else []
        wanted += [effects.ItemAudioDone(item_id) for item_id in m.items.take_all_unfinished()]
        outputs = [*m.tools.all_over(), *m.tools.take_refused()]
        for output in outputs:
            m.history.tool_answered(output.call_id, output.output)
        waiting = m.responses.waiting + [retry for retry in (m.setbacks.take(),) if retry is not None]
        model_turn = bool(outputs or waiting) or m.responses.expects_audio or m.watch.waiting
        cut_off = not m.turn.silent
        m.forget_session()
        wanted += [Send(event) for event in replayed(m.history, m.tools, m.new_event_id)]
        if m.idle.must_stop_server() or (m.on_hold and m.idle.take_from_server()):
            wanted += m.server_asks(False)
        return self._settled(wanted + self._go_on(waiting, model_turn, cut_off, now), now)

    def expire(self, now: float) -> list[Effect]:
        """Return what the passing of `deadline` asks for; nothing before it."""
        return self._settled(self._model.expire(now) + self._caller.expire(now), now)

    def _react(self, event: ServerEvent, now: float) -> list[Effect]:
        match event:  # the most frequent ones first
            case events.AudioDelta():
                return self._model.audio(event, now)
            case events.TranscriptDelta():
                self._machines.alive(event.response_id, now)
                self._machines.history.transcript_delta(event.item_id, event.delta)
                return []
            case events.Unknown(type=name):
                # The arguments of a long function call come in events that say nothing else.
                if name.startswith("response.") and (active := self.responses.active_id) is not None:
                    self._machines.alive(active, now)
                return []
            case events.TranscriptDone() | events.TextDone() | events.FunctionCall():
                self._machines.alive(event.response_id, now)
                return self._words(event)
            case events.SpeechStarted():
                return self._caller.speech_started(event, now)
            case events.SpeechStopped():
                return self._caller.speech_stopped(event, now)
            case events.InputCommitted():
                return self._caller.committed(event, now)
            case events.CallerTranscript():
                return self._caller.said(event)
            case events.IdleTimeout():
                return self._caller.server_asked(now)
            case events.CallerTranscriptFailed():
                return self._model.transcription_failed(event)
            case events.ResponseCreated():
                return self._model.created(event, now)
            case events.AudioDone():
                return self._model.audio_done(event, now)
            case events.ResponseDone():
                return self._model.done(event, now)
            case events.ErrorEvent():
                return self._model.error(event, now)
            case events.SessionCreated() | events.SessionUpdated():
                return []
            case _:
                assert_never(event)

    def _words(self, event: events.TranscriptDone | events.TextDone | events.FunctionCall) -> list[Effect]:
        match event:
            case events.TranscriptDone():
                self.history.transcript_done(event.item_id, event.transcript)
                return [effects.ModelSaid(event.item_id, event.transcript)]
            case events.TextDone():
                return self._model.wrote(event)
            case events.FunctionCall():
                return self._model.called(event)

    def _welcome(self, now: float) -> list[Effect]:
        m = self._machines
        if not self.settings.welcome_message:
            return []
        greeting = m.in_session(f"Please greet the caller with the following: {self.settings.welcome_message}")
        return m.request(ResponseRequest(greeting, purpose="welcome"), now)

    def _go_on(self, waiting: list[ResponseRequest], model_turn: bool, cut_off: bool, now: float) -> list[Effect]:
        """Ask the new session for the one response that is due, if any."""
        m = self._machines
        if m.goodbye.deadline < float("inf"):
            return m.request_words(self.settings.farewell_message, "farewell", now)
        if m.history.empty and self.settings.welcome_message:
            return self._welcome(now)
        m.greeting.generated(m.playing)
        if model_turn:
            asked = (request for request in waiting if request.instructions is not None)
            return m.request(next(asked, ResponseRequest(purpose="turn")), now)
        if cut_off:  # who was speaking will go on, or else waits for an answer
            m.watch.model_turn(now)
        return []

    def _settled(self, wanted: list[Effect], now: float) -> list[Effect]:
        """Every step ends here: it may have been the last before nobody speaks."""
        self._machines.idle.observe(self._machines.quiet, now)
        return wanted
