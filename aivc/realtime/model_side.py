"""What the model does: speaks, calls tools, fails, says nothing."""

from __future__ import annotations

from typing import assert_never

import attrs

from aivc.realtime import effects, events
from aivc.realtime.effects import Effect, RealtimeError, Send
from aivc.realtime.errors import ErrorKind, classify, is_retryable
from aivc.realtime.machines import Machines, hang_up
from aivc.realtime.mislabelled import SampleFormat
from aivc.realtime.refusals import printable
from aivc.realtime.sequencer import ResponseRequest
from aivc.realtime.toolcalls import ToolOutput

NOT_G711 = RealtimeError(
    "not_g711",
    "the server agreed to G.711 and seems to send 16-bit samples, which the caller hears as noise",
    ErrorKind.OTHER,
)


@attrs.define
class ModelSide:
    """Turns the server's events about responses into effects."""

    machines: Machines
    dropped_deltas: int = attrs.field(default=0, init=False)  # audio of interrupted responses
    _format: SampleFormat = attrs.field(factory=SampleFormat, init=False)
    _has_written: bool = attrs.field(default=False, init=False)  # an answer in writing, of which we have warned

    def audio(self, event: events.AudioDelta, now: float) -> list[Effect]:
        m = self.machines
        if m.items.is_muted(event.response_id):
            self.dropped_deltas += 1
            deletion = m.items.unheard(event.item_id)
            return [] if deletion is None else [Send(deletion)]
        if m.responses.is_over(event.response_id):  # late, or made up: the ledger of its item is closed
            self.dropped_deltas += 1
            return []
        if not event.audio:
            return []
        m.setbacks.audio_came()
        m.watch.audible()
        m.works(now)
        m.items.audio_came(event)
        m.history.audio(event)
        m.playing = True
        play = effects.Play(event.response_id, event.item_id, event.audio)
        return [play, NOT_G711] if self._format.is_found_wrong(event.audio) else [play]

    def audio_done(self, event: events.AudioDone, now: float) -> list[Effect]:
        m = self.machines
        m.items.audio_done(event.item_id)
        if m.items.is_muted(event.response_id):
            return []
        m.alive(event.response_id, now)
        m.history.audio_done(event.item_id)
        return [effects.ItemAudioDone(event.item_id)]

    def wrote(self, event: events.TextDone) -> list[Effect]:
        """Note an answer in writing, and warn of the first: the caller hears nothing."""
        m = self.machines
        if m.items.is_muted(event.response_id) or not m.history.written(event.item_id, event.text):
            return []
        kind = ErrorKind.BENIGN if self._has_written else ErrorKind.OTHER
        self._has_written = True
        message = "the model answered in writing, which the caller does not hear"
        return [effects.ModelSaid(event.item_id, event.text), RealtimeError("text_only", message, kind)]

    def created(self, event: events.ResponseCreated, now: float) -> list[Effect]:
        """A response began, ours or the server's; one of ours that would talk the caller down is turned away."""
        m = self.machines
        response_id = event.response_id
        if m.responses.is_over(response_id):
            return []
        asked = m.responses.answered_by(event.answers)
        m.responses.created(response_id, event.answers)
        wanted: list[Effect] = [effects.ModelStartedResponse(response_id)]
        if asked is not None and (asked.unwanted or m.turn.speaking):
            wanted += self._turn_away(response_id, asked.request, now)
        elif asked is None and m.responses.typing and not m.greeting.holds:  # the answer to the whole entry covers it
            m.turn.lost_end()
            m.responses.cancelled(response_id, now)
            wanted.append(Send(m.items.cancel(response_id)))
        elif asked is None and not m.turn.in_doubt:
            m.turn.lost_end()
            m.responses.release()
            m.responses.cover(now)
        m.setbacks.take()
        m.alive(response_id, now)
        # One response at a time: the end of an earlier one was lost, and its calls still wait.
        return wanted + self.deliver(m.tools.over_but(response_id), now)

    def called(self, event: events.FunctionCall) -> list[Effect]:
        m = self.machines
        if not m.tools.announce(event, over=m.responses.is_over(event.response_id)):
            return []
        m.history.tool_called(event)
        return [effects.RunTool(effects.ToolCall(event.call_id, event.name, event.arguments, event.response_id))]

    def done(self, event: events.ResponseDone, now: float) -> list[Effect]:
        m = self.machines
        response_id = event.response_id
        if m.responses.is_over(response_id):
            return []
        m.usage = m.usage.with_response(event.usage)
        wanted: list[Effect] = []
        for item_id in m.items.take_unfinished(response_id):
            m.history.audio_done(item_id)
            wanted.append(effects.ItemAudioDone(item_id))
        for call in event.function_calls:
            wanted += self.called(call)
        for call in m.tools.take_unconfirmed(response_id) if event.status == "completed" else []:
            wanted += self.called(call)
        wanted.append(effects.ResponseFinished(response_id, event.status, event.reason, event.error_code, event.usage))
        request = m.responses.request_of(response_id)
        m.responses.done(response_id)
        wanted += self._outcome(event, request, now)
        wanted += self.deliver(m.tools.over(response_id) + m.tools.take_refused(), now)
        return wanted + m.next_request(now)

    def error(self, event: events.ErrorEvent, now: float) -> list[Effect]:
        m = self.machines
        code, kind = event.code or event.type or "unknown", classify(event.code, event.type)
        if m.items.take_correction(event.event_id) and kind is not ErrorKind.FATAL:
            kind = ErrorKind.BENIGN  # known by our id: servers disagree on the codes of these
        message = self._shown(event.message)
        wanted: list[Effect] = [RealtimeError(code, message, kind)]
        match kind:
            case ErrorKind.FATAL:
                wanted.append(effects.GiveUp(code, message))
            case ErrorKind.ACTIVE_RESPONSE:
                m.responses.already_active(event.event_id, now)
            case ErrorKind.TOOL:
                m.tools.refused(event.event_id)
            case ErrorKind.BENIGN:
                pass
            case ErrorKind.OTHER:
                wanted += self._other_error(event, code, now)
            case _:
                assert_never(kind)
        return wanted

    def transcription_failed(self, event: events.CallerTranscriptFailed) -> list[Effect]:
        code = event.code or "transcription_failed"
        return [RealtimeError(code, self._shown(event.message), ErrorKind.BENIGN)]

    def deliver(self, outputs: list[ToolOutput], now: float) -> list[Effect]:
        """Send every output, then ask for one response to them."""
        m = self.machines
        if not outputs:
            return []
        wanted: list[Effect] = []
        for output in outputs:
            event_id = m.new_event_id()
            m.tools.sent(event_id, output)
            m.history.tool_answered(output.call_id, output.output)
            wanted.append(Send(events.SendToolOutput(event_id, output.call_id, output.output)))
        choice: events.ToolChoice | None = "none" if m.tools.is_last_round() else None
        return wanted + m.request(ResponseRequest(None, choice, "tools"), now)

    def expire(self, now: float) -> list[Effect]:
        """Act on what was not answered in time."""
        m = self.machines
        unanswered, following = m.responses.expire(now)
        wanted = m.sent(following, now)
        if unanswered is not None:
            error = RealtimeError("response_timeout", "response.create was not answered", ErrorKind.OTHER)
            wanted += [error, *self._came_to_nothing(unanswered)]
        if (retry := m.setbacks.take_due(now)) is not None:
            wanted += m.request(retry, now)
        if now >= m.watch.deadline:
            wanted += self._silent(now)
        return wanted

    def _turn_away(self, response_id: str, request: ResponseRequest, now: float) -> list[Effect]:
        """Cancel a response that crossed the caller's words; the answer to those covers it, if there is one."""
        m = self.machines
        m.responses.cancelled(response_id, now)
        if m.turn.speaking and request.instructions is None:
            m.responses.put_back(request)  # goes when the caller has stopped and nobody else answers
        return [Send(m.items.cancel(response_id))]

    def _outcome(self, event: events.ResponseDone, request: ResponseRequest | None, now: float) -> list[Effect]:
        m = self.machines
        purpose, failed = request and request.purpose, event.status == "failed"
        wanted: list[Effect] = []
        if failed:
            wanted += self._failure(event, request or ResponseRequest(purpose="turn"), now)
        elif not m.items.is_muted(event.response_id):
            m.watch.answered()
        m.setbacks.response_ended(failed)
        if event.status == "incomplete":  # what came of it is played
            reason = event.reason or "incomplete"
            wanted.append(RealtimeError(reason, "the response is incomplete", ErrorKind.BENIGN))
        if purpose == "welcome" and not failed:
            m.greeting.generated(m.playing)
        return wanted + (hang_up(m.goodbye.take()) if purpose == "farewell" else [])

    def _failure(self, event: events.ResponseDone, request: ResponseRequest, now: float) -> list[Effect]:
        code, message = event.error_code or "response_failed", self._shown(event.error_message or "")
        kind = classify(code)
        if kind is ErrorKind.FATAL:
            return [RealtimeError(code, message, kind), effects.GiveUp(code, message)]
        if self.machines.setbacks.is_storm():
            return [RealtimeError(code, message, ErrorKind.OTHER), effects.GiveUp(code, message)]
        if not self.machines.items.is_muted(event.response_id):
            self._ask_again(request, now)
        return [RealtimeError(code, message, ErrorKind.OTHER)]

    def _ask_again(self, request: ResponseRequest, now: float) -> None:
        """Ask again after a pause; what the caller says meanwhile is answered instead."""
        m = self.machines
        if m.ending or request.purpose == "farewell":
            return
        if not m.turn.silent:
            if request.instructions is None:
                m.responses.request(request, now)
        elif not m.setbacks.retry_once(request, now) and request.purpose == "welcome":
            m.greeting.over()
        else:
            m.watch.model_turn(now)

    def _other_error(self, event: events.ErrorEvent, code: str, now: float) -> list[Effect]:
        m = self.machines
        if m.setbacks.is_storm():
            return [effects.GiveUp(code, self._shown(event.message))]
        if event.event_id is None or (request := m.responses.request_sent_as(event.event_id)) is None:
            return []
        if is_retryable(code):
            self._ask_again(request, now)
        following = m.responses.refused(event.event_id, now)
        planned = m.setbacks.retry_at < float("inf")
        return m.sent(following, now) + ([] if planned else self._came_to_nothing(request))

    def _came_to_nothing(self, request: ResponseRequest) -> list[Effect]:
        """Nobody will hear what was asked for: whoever waits for its end waits no longer, unless it is asked again."""
        m = self.machines
        if request.purpose == "welcome" and all(other.purpose != "welcome" for other in m.responses.waiting):
            m.greeting.over()
        return hang_up(m.goodbye.take()) if request.purpose == "farewell" else []

    def _silent(self, now: float) -> list[Effect]:
        """The model says nothing in its turn: ask it once more, then give it up."""
        m = self.machines
        if m.playing or m.on_hold or m.responses.typing:  # the caller hears it, or nothing at all, or is not done
            m.watch.alive(now)
            # A rest of less than a frame waits for more, and would count as playing for ever.
            return [effects.ItemAudioDone(item_id) for item_id in m.items.take_all_unfinished()]
        if m.ending or m.goodbye.cause is not None:  # which has its own deadline
            m.watch.rest()
            return []
        active = m.responses.active_id
        if active is not None and m.items.is_whole(active):  # only its end was lost
            m.watch.rest()
            return self.done(events.ResponseDone(active, "completed"), now)
        if m.watch.is_lost(now):
            message = f"no answer in {2 * m.watch.seconds:g} s"
            return [RealtimeError("model_silent", message, ErrorKind.FATAL), effects.GiveUp("model_silent", message)]
        wanted: list[Effect] = [RealtimeError("model_silent", "the model is asked once more", ErrorKind.OTHER)]
        wanted += [] if active is None else [Send(m.items.cancel(active))]
        request = m.responses.abandon(now)
        if request is None and m.responses.waiting:
            return wanted + m.next_request(now)
        return wanted + m.request(request or ResponseRequest(purpose="turn"), now)

    def _shown(self, text: str) -> str:
        key = self.machines.settings.key
        return printable(text, key.reveal() if key else "")
