"""What the caller does: speaks, stops, coughs, presses keys, says nothing.

Barge-in: on `speech_started` the playout is cut at once and asked how much of each item was heard. The server cancels
its response by itself, unless it was told not to; what it still sends of it is dropped by response id.
"""

from __future__ import annotations

import attrs

from aivc.realtime import effects, events
from aivc.realtime.courtesies import Cause
from aivc.realtime.effects import Effect, Send
from aivc.realtime.interruption import Verdict
from aivc.realtime.machines import Machines, hang_up
from aivc.realtime.replay import keys_pressed
from aivc.realtime.sequencer import ResponseRequest

TURN_SECONDS = 1.0  # from speech_stopped to the server's own answer; then requests of ours may go first


@attrs.define
class CallerSide:
    """Turns the caller's events into effects."""

    machines: Machines

    def speech_started(self, event: events.SpeechStarted, now: float) -> list[Effect]:
        """Silence the model, for good or until it is sure that somebody speaks."""
        m = self.machines
        notice = effects.CallerStartedSpeaking(event.item_id, event.audio_start_ms)
        m.history.caller_speaks(event.item_id)
        if m.greeting.holds:  # the caller is not listened to: this is a rest of what was on its way
            return [notice]
        m.turn.started(event, m.playing or m.responses.expects_audio, now)
        m.responses.hold()
        m.watch.rest()
        if m.turn.in_doubt:
            return [effects.PausePlayout(), notice]
        return [*self.take_floor(now, cancel=not m.turn.cancelled_by_server), notice]

    def speech_stopped(self, event: events.SpeechStopped, now: float) -> list[Effect]:
        stopped = effects.CallerStoppedSpeaking(event.item_id, event.audio_end_ms)
        return [stopped, *self._sound_ended(self.machines.turn.stopped(event, now), now)]

    def committed(self, event: events.InputCommitted, now: float) -> list[Effect]:
        """Delete what was only a cough; ask for the answer to a turn, if that is ours to do."""
        m = self.machines
        wanted: list[Effect] = []
        if event.item_id == m.turn.item_id:
            wanted += self._sound_ended(m.turn.stopped(None, now), now)  # its own end may be lost
        if m.turn.take_cough(event.item_id):
            m.history.forget(event.item_id)
            return [*wanted, Send(m.items.delete(event.item_id))]
        m.history.caller_speaks(event.item_id)
        return wanted + (self._answer_turn(now) if m.turn.take_commitment() else [])

    def said(self, event: events.CallerTranscript) -> list[Effect]:
        m = self.machines
        m.usage = m.usage.with_transcript(event)
        if m.turn.is_cough(event.item_id):
            return []
        m.history.caller_said(event.item_id, event.transcript)
        return [effects.CallerSaid(event.item_id, event.transcript)]

    def interrupt(self, now: float, *, by_caller: bool) -> list[Effect]:
        """Silence the model, for the caller or by a tool's wish; not while the caller is held back."""
        m = self.machines
        if m.greeting.holds:
            return []
        m.responses.unwant()
        return self.take_floor(now, cancel=True, by_caller=by_caller)

    def key_pressed(self, now: float) -> list[Effect]:
        """Silence the model until the entry is complete."""
        self.machines.responses.typing = True
        return self.interrupt(now, by_caller=True)

    def digits(self, text: str, now: float) -> list[Effect]:
        """Tell the model which keys were pressed, and ask for the answer."""
        m = self.machines
        m.responses.typing = False
        m.history.keys_pressed(text)
        told = Send(events.SendText(m.new_event_id(), "user", keys_pressed(text)))
        return [*m.sign_of_life(), told, *m.request(ResponseRequest(purpose="keys"), now)]

    def take_floor(self, now: float, *, cancel: bool, by_caller: bool = True) -> list[Effect]:
        """Cut what is being said; `cancel`: the server does not do its part by itself."""
        m = self.machines
        m.turn.take_floor()
        m.ending = m.ending and not by_caller
        m.setbacks.take()
        m.responses.withdraw("welcome")
        m.watch.rest()
        wanted: list[Effect] = [effects.CutPlayout(by_caller)]
        if (active := m.responses.active_id) is not None:
            m.items.mute(active)
            m.responses.cancelled(active, now)
            wanted += [Send(m.items.cancel(active))] if cancel else []
        return wanted + (m.sign_of_life() if by_caller else [])

    def expire(self, now: float) -> list[Effect]:
        """Act on what has lasted long enough: a sound, the wait for its commitment, everybody's silence."""
        m = self.machines
        wanted = self.take_floor(now, cancel=True) if m.turn.take_confirmed(now) else []
        if m.turn.is_endless(now):
            if m.on_hold:  # perhaps the server hears nothing, and waits for the rest
                m.turn.server_spoke(now)
            else:
                wanted += self._sound_ended(m.turn.stopped(None, now), now)
        if m.turn.take_overdue_commitment(now):
            wanted += self._answer_turn(now)
        m.greeting.expire(now)
        if (cause := m.goodbye.take_due(now)) is not None:
            m.responses.give_up("farewell")  # else the hang-up would wait for it
            wanted += hang_up(cause)
        if now >= m.idle.deadline and m.quiet:
            wanted += self._nobody_speaks(now)
        return wanted

    def server_asked(self, now: float) -> list[Effect]:
        """The server noticed the silence and asks by itself; the last time is not followed by another."""
        m = self.machines
        if not m.tools.running:  # then the silence is not the caller's
            m.idle.prompts += 1
        m.watch.model_turn(now)
        return m.server_asks(False) if m.idle.must_stop_server() else []

    def farewell(self, cause: Cause, now: float) -> list[Effect]:
        """Have the model say goodbye, then hang up; no longer a goodbye than the settings allow."""
        m = self.machines
        if m.goodbye.cause is not None:
            m.goodbye.cause = "expired" if cause == "expired" else m.goodbye.cause
            return []
        seconds = m.settings.farewell_seconds if m.settings.farewell_message else 0.0
        m.goodbye.begin(cause, now + seconds)
        if not seconds:
            return hang_up(m.goodbye.take())
        return m.request_words(m.settings.farewell_message, "farewell", now)

    def _nobody_speaks(self, now: float) -> list[Effect]:
        m = self.machines
        if m.idle.is_last:
            return self.farewell("idle", now)
        m.idle.prompts += 1
        return m.request_words(m.settings.idle_message, "idle", now)

    def _sound_ended(self, verdict: Verdict, now: float) -> list[Effect]:
        match verdict:
            case Verdict.NOTHING:
                return []
            case Verdict.COUGH:
                return self._coughed(now)
            case Verdict.CONFIRMED:
                wanted = self.take_floor(now, cancel=True)
            case Verdict.TURN:
                wanted = []
        return wanted + self._turn_ended(now)

    def _coughed(self, now: float) -> list[Effect]:
        m = self.machines
        m.history.forget(m.turn.item_id)
        m.responses.release()
        if m.responses.expects_audio:
            m.watch.model_turn(now)
        return [effects.ResumePlayout(), *m.next_request(now)]

    def _turn_ended(self, now: float) -> list[Effect]:
        """Let the answer to the turn come first, whoever asks for it."""
        m = self.machines
        if m.turn.answered_by_server or m.turn.answered_by_us:
            m.watch.model_turn(now)
        if m.turn.answered_by_us:
            return []  # with the commitment, which releases the queue
        if m.turn.answered_by_server:
            m.responses.hold(now + TURN_SECONDS)
        else:
            m.responses.release()
        return m.next_request(now)

    def _answer_turn(self, now: float) -> list[Effect]:
        m = self.machines
        if not m.turn.in_doubt:
            m.responses.release()
        return m.request(ResponseRequest(purpose="turn"), now)
