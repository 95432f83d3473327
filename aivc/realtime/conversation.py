"""The session after it is configured: who speaks, what is cut, which response comes next, which tools run.

Barge-in: on `speech_started` the playout is cut at once and asked how much of each item was heard. The server's copy of
the conversation is then shortened to that (`conversation.item.truncate`), so that the model knows what was heard.
The server cancels the response by itself; what it still sends of it is dropped by response id.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol, assert_never

import attrs

from aivc.config.settings import OpenAISettings
from aivc.realtime import effects
from aivc.realtime.effects import Effect, RealtimeError, Send
from aivc.realtime.errors import ErrorKind, classify, is_retryable
from aivc.realtime.events import (
    AudioDelta,
    AudioDone,
    CallerTranscript,
    CallerTranscriptFailed,
    CreateResponse,
    DeleteItem,
    ErrorEvent,
    FunctionCall,
    ResponseCreated,
    ResponseDone,
    SendToolOutput,
    ServerEvent,
    SessionCreated,
    SessionUpdated,
    SpeechStarted,
    SpeechStopped,
    TranscriptDelta,
    TranscriptDone,
    TruncateItem,
    Unknown,
)
from aivc.realtime.recent import Recent
from aivc.realtime.refusals import printable
from aivc.realtime.sequencer import ResponseRequest, ResponseSequencer
from aivc.realtime.toolcalls import ToolLedger, ToolOutput

RETRY_SECONDS = 1.0  # before a failed response is asked for again: the server is busy, the caller waits
TOOL_ROUNDS = 10  # tool calls upon tool calls without a word of the caller; then the model must talk
ERROR_STORM = 20  # errors in a row with no audio between them: nobody is talking to the caller


class CutItem(Protocol):
    """What the playout knows about one item when it is cut."""

    @property
    def item_id(self) -> str: ...

    @property
    def heard_ms(self) -> int:
        """Handed to the caller, rounded down."""

    @property
    def received_ms(self) -> int: ...

    @property
    def complete(self) -> bool:
        """Everything received was heard, and no more was to come."""


@attrs.define
class Conversation:
    """The session machine of one call: events in, effects out, to be performed in order.

    Call `expire` when `deadline` is reached. `new_event_id` returns a fresh text of at most 512 characters.
    """

    settings: OpenAISettings
    new_event_id: Callable[[], str]
    responses: ResponseSequencer = attrs.field(
        init=False, default=attrs.Factory(lambda self: ResponseSequencer(self.new_event_id), takes_self=True)
    )
    tools: ToolLedger = attrs.field(factory=ToolLedger, init=False)
    dropped_deltas: int = attrs.field(default=0, init=False)  # audio of interrupted responses
    _muted: Recent[bool] = attrs.field(factory=Recent, init=False)  # interrupted responses, by id
    _items: Recent[str] = attrs.field(factory=Recent, init=False)  # item id -> response id, of items with audio
    _unfinished: Recent[str] = attrs.field(factory=Recent, init=False)  # those without response.output_audio.done
    _corrections: Recent[bool] = attrs.field(factory=Recent, init=False)  # our truncates and deletes, by event id
    _outputs: Recent[ToolOutput] = attrs.field(factory=Recent, init=False)  # sent, by event id
    _again: list[ToolOutput] = attrs.field(factory=list, init=False)  # refused as too early
    _retry: ResponseRequest | None = attrs.field(default=None, init=False)
    _retry_at: float = attrs.field(default=math.inf, init=False)
    _caller_speaking: bool = attrs.field(default=False, init=False)
    _failed: bool = attrs.field(default=False, init=False)  # the last response failed
    _tool_rounds: int = attrs.field(default=0, init=False)
    _errors: int = attrs.field(default=0, init=False)  # since the last audio

    @property
    def deadline(self) -> float:
        """When to call `expire`; infinity when nothing is awaited."""
        return min(self.responses.deadline, self._retry_at)

    def begin(self, now: float) -> list[Effect]:
        """Ask for the greeting, if there is one."""
        welcome = self.settings.welcome_message
        if not welcome:
            return []
        # A response's instructions replace the session's, so both stand in it.
        greeting = f"Please greet the caller with the following: {welcome}"
        instructions = f"{self.settings.instructions}\n\n{greeting}" if self.settings.instructions else greeting
        return self._request(ResponseRequest(instructions), now)

    def handle(self, event: ServerEvent, now: float) -> list[Effect]:
        """Return what one event of the server asks for."""
        match event:
            case AudioDelta():
                return self._audio(event)
            case AudioDone():
                self._unfinished.take(event.item_id)
                return [] if event.response_id in self._muted else [effects.ItemAudioDone(event.item_id)]
            case SpeechStarted():
                return self._caller_speaks(event)
            case SpeechStopped():
                return self._caller_stopped(event, now)
            case CallerTranscript():
                return [effects.CallerSaid(event.item_id, event.transcript)]
            case CallerTranscriptFailed():
                code = event.code or "transcription_failed"
                return [RealtimeError(code, event.message, ErrorKind.BENIGN)]
            case ResponseCreated():
                return self._created(event, now)
            case TranscriptDone():
                return [effects.ModelSaid(event.item_id, event.transcript)]
            case FunctionCall():
                return self._call(event)
            case ResponseDone():
                return self._done(event, now)
            case ErrorEvent():
                return self._error(event, now)
            case SessionCreated() | SessionUpdated() | TranscriptDelta() | Unknown():
                return []
            case _:
                assert_never(event)

    def playout_cut(self, items: Sequence[CutItem], now: float) -> list[Effect]:
        """Tell the server how much of each item was heard; `items` is what `CutPlayout` removed."""
        wanted: list[Effect] = []
        for item in items:
            if (response_id := self._items.get(item.item_id)) is not None:
                self._muted.add(response_id, True)
            if item.complete:
                continue
            wanted.append(effects.Interrupted(item.item_id, item.heard_ms, item.received_ms))
            wanted.append(self._shorten(item))
        return wanted

    def tool_finished(self, call_id: str, output: str, now: float) -> list[Effect]:
        """Hand over a tool's output; it is sent when its response is done and its sibling calls are finished too."""
        return self._deliver(self.tools.finish(call_id, output), now)

    def expire(self, now: float) -> list[Effect]:
        """Return what the passing of `deadline` asks for; nothing before it."""
        unanswered, following = self.responses.expire(now)
        wanted = sent(following)
        if unanswered:
            wanted.append(RealtimeError("response_timeout", "response.create was not answered", ErrorKind.OTHER))
        if now >= self._retry_at and (retry := self._retry) is not None:
            self._forget_retry()
            wanted += self._request(retry, now)
        return wanted

    def _audio(self, event: AudioDelta) -> list[Effect]:
        if event.response_id in self._muted:
            self.dropped_deltas += 1
            return self._forget_unheard(event.item_id, event.response_id)
        if self.responses.is_over(event.response_id):  # late, or made up: the ledger of its item is closed
            self.dropped_deltas += 1
            return []
        if not event.audio:
            return []
        self._errors = 0
        if event.item_id not in self._items:
            self._items.add(event.item_id, event.response_id)
            self._unfinished.add(event.item_id, event.response_id)
        return [effects.Play(event.response_id, event.item_id, event.audio)]

    def _caller_speaks(self, event: SpeechStarted) -> list[Effect]:
        self._tool_rounds = 0
        self._caller_speaking = True
        self._forget_retry()  # the server answers what the caller says now
        if (active := self.responses.active_id) is not None:
            self._muted.add(active, True)
        return [effects.CutPlayout(), effects.CallerStartedSpeaking(event.item_id, event.audio_start_ms)]

    def _forget_unheard(self, item_id: str, response_id: str) -> list[Effect]:
        """Delete, once, an item of an interrupted response of which nothing was ever played."""
        if item_id in self._items:
            return []
        self._items.add(item_id, response_id)
        event_id = self.new_event_id()
        self._corrections.add(event_id, True)
        return [Send(DeleteItem(event_id, item_id))]

    def _caller_stopped(self, event: SpeechStopped, now: float) -> list[Effect]:
        self._caller_speaking = False
        if self._retry is not None:
            self._retry_at = now + RETRY_SECONDS  # unless the server answers first, which covers it
        return [effects.CallerStoppedSpeaking(event.item_id, event.audio_end_ms)]

    def _shorten(self, item: CutItem) -> Effect:
        event_id = self.new_event_id()
        self._corrections.add(event_id, True)
        heard_ms = min(item.heard_ms, item.received_ms)  # more than the item has is an error
        if heard_ms <= 0:  # some servers refuse a truncation to nothing, others keep an empty item
            return Send(DeleteItem(event_id, item.item_id))
        return Send(TruncateItem(event_id, item.item_id, heard_ms))

    def _created(self, event: ResponseCreated, now: float) -> list[Effect]:
        response_id = event.response_id
        self._caller_speaking = False  # the end of a turn may be lost
        self.responses.created(response_id, event.answers)
        self._forget_retry()
        # One response at a time: the end of an earlier one was lost, and its calls still wait.
        late = self._deliver(self.tools.over_but(response_id), now)
        return [effects.ModelStartedResponse(response_id), *late]

    def _call(self, event: FunctionCall) -> list[Effect]:
        if not self.tools.announce(event, over=self.responses.is_over(event.response_id)):
            return []
        return [effects.RunTool(effects.ToolCall(event.call_id, event.name, event.arguments, event.response_id))]

    def _done(self, event: ResponseDone, now: float) -> list[Effect]:
        if self.responses.is_over(event.response_id):
            return []
        wanted: list[Effect] = [effects.ItemAudioDone(item_id) for item_id in self._take_unfinished(event.response_id)]
        for call in event.function_calls:
            wanted += self._call(call)
        finished = effects.ResponseFinished(
            event.response_id, event.status, event.reason, event.error_code, event.usage
        )
        wanted.append(finished)
        request = self.responses.request_of(event.response_id)
        self.responses.done(event.response_id)
        if event.status == "failed":
            wanted += self._failure(event, request, now)
        self._failed = event.status == "failed"
        refused, self._again = self._again, []
        wanted += self._deliver(self.tools.over(event.response_id) + refused, now)
        return wanted + sent(self.responses.next(now))

    def _failure(self, event: ResponseDone, request: ResponseRequest | None, now: float) -> list[Effect]:
        code, message = event.error_code or "response_failed", self._shown(event.error_message or "")
        kind = classify(code)
        if kind is ErrorKind.FATAL:
            return [RealtimeError(code, message, kind), effects.GiveUp(code, message)]
        self._errors += 1
        if self._errors >= ERROR_STORM:
            return [RealtimeError(code, message, ErrorKind.OTHER), effects.GiveUp(code, message)]
        self._retry_once(request or ResponseRequest(), now)
        return [RealtimeError(code, message, ErrorKind.OTHER)]

    def _retry_once(self, request: ResponseRequest, now: float) -> None:
        """What failed twice fails for longer than a caller waits."""
        if not self._failed:
            self._retry, self._retry_at = request, math.inf if self._caller_speaking else now + RETRY_SECONDS
        self._failed = True

    def _error(self, event: ErrorEvent, now: float) -> list[Effect]:
        code, kind = event.code or event.type or "unknown", classify(event.code, event.type)
        if self._corrections.take(event.event_id) is not None and kind is not ErrorKind.FATAL:
            kind = ErrorKind.BENIGN  # known by our id: servers disagree on the codes of these
        message = self._shown(event.message)
        wanted: list[Effect] = [RealtimeError(code, message, kind)]
        match kind:
            case ErrorKind.FATAL:
                wanted.append(effects.GiveUp(code, message))
            case ErrorKind.ACTIVE_RESPONSE:
                self.responses.already_active(event.event_id, now)
            case ErrorKind.TOOL:
                output = self._outputs.take(event.event_id)
                if output is not None and not output.resent:
                    self._again.append(attrs.evolve(output, resent=True))
            case ErrorKind.BENIGN:
                pass
            case ErrorKind.OTHER:
                wanted += self._other_error(event, code, now)
            case _:
                assert_never(kind)
        return wanted

    def _other_error(self, event: ErrorEvent, code: str, now: float) -> list[Effect]:
        self._errors += 1
        if self._errors >= ERROR_STORM:
            return [effects.GiveUp(code, self._shown(event.message))]
        if event.event_id is None:
            return []
        request = self.responses.request_sent_as(event.event_id)
        if request is not None and is_retryable(code):
            self._retry_once(request, now)
        return sent(self.responses.refused(event.event_id, now))

    def _deliver(self, outputs: list[ToolOutput], now: float) -> list[Effect]:
        """Send every output, then ask for one response to them."""
        if not outputs:
            return []
        wanted: list[Effect] = []
        for output in outputs:
            event_id = self.new_event_id()
            self._outputs.add(event_id, output)
            wanted.append(Send(SendToolOutput(event_id, output.call_id, output.output)))
        self._tool_rounds += 1
        request = ResponseRequest(tool_choice="none") if self._tool_rounds >= TOOL_ROUNDS else ResponseRequest()
        if self._caller_speaking:  # nobody is talked down; the server's answer to the caller knows the outputs
            self._retry = request
            return wanted
        return wanted + self._request(request, now)

    def _request(self, request: ResponseRequest, now: float) -> list[Effect]:
        return sent(self.responses.request(request, now))

    def _take_unfinished(self, response_id: str) -> list[str]:
        items = self._unfinished.keys_of(response_id)
        for item_id in items:
            self._unfinished.take(item_id)
        return [] if response_id in self._muted else items

    def _shown(self, text: str) -> str:
        return printable(text, self.settings.key.reveal() if self.settings.key else "")

    def _forget_retry(self) -> None:
        self._retry, self._retry_at = None, math.inf


def sent(event: CreateResponse | None) -> list[Effect]:
    return [] if event is None else [Send(event)]
