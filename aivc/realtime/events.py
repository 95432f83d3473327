"""What client and server of the Realtime API tell each other, without either dialect's spelling.

Audio is G.711 bytes (8 per millisecond), times are integer milliseconds, ids are the server's strings. `dialects` turns
these values into JSON and back; nothing else in the program sees a raw event. Names follow OpenAI's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from aivc.config.settings import Codec, McpServer, OpenAISettings

Role = Literal["user", "system", "assistant"]
ToolChoice = Literal["auto", "none", "required"]


@attrs.frozen
class ToolSchema:
    """What the model is told about one tool."""

    name: str
    description: str
    parameters: Mapping[str, object]  # JSON schema of an object


# Client events. `event_id` is ours (at most 512 characters); an error about the event repeats it.


@attrs.frozen
class ConfigureSession:
    """`session.update`: atomic, one bad field discards all of it."""

    event_id: str
    settings: OpenAISettings
    codec: Codec  # of both directions
    tools: tuple[ToolSchema, ...] = ()
    mcp: tuple[McpServer, ...] = ()  # GA only


@attrs.frozen
class UpdateTurnDetection:
    """`session.update` of the turn detection alone."""

    event_id: str
    settings: OpenAISettings
    idle_timeout: bool  # whether the server shall notice an idle caller


@attrs.frozen
class CreateResponse:
    """`response.create`: instructions given here replace the session's for this one response."""

    event_id: str
    instructions: str | None = None
    tool_choice: ToolChoice | None = None


@attrs.frozen
class CancelResponse:
    """`response.cancel`: without an id, whichever response is active."""

    event_id: str
    response_id: str | None = None


@attrs.frozen
class TruncateItem:
    """`conversation.item.truncate`: the caller heard only so much of it."""

    event_id: str
    item_id: str
    audio_end_ms: int  # at most what was received of this item


@attrs.frozen
class DeleteItem:
    """`conversation.item.delete`"""

    event_id: str
    item_id: str


@attrs.frozen
class SendToolOutput:
    """`conversation.item.create` with a `function_call_output`."""

    event_id: str
    call_id: str
    output: str


@attrs.frozen
class SendText:
    """`conversation.item.create` with a text message."""

    event_id: str
    role: Role
    text: str


@attrs.frozen
class SendFunctionCall:
    """`conversation.item.create` with a `function_call` that an earlier session's model made."""

    event_id: str
    call_id: str
    name: str
    arguments: str


@attrs.frozen
class SendRaw:
    """Any client event, as an embedder or a tool wrote it, in the dialect's own form."""

    event: Mapping[str, object]


ClientEvent = (
    ConfigureSession
    | UpdateTurnDetection
    | CreateResponse
    | CancelResponse
    | TruncateItem
    | DeleteItem
    | SendToolOutput
    | SendText
    | SendFunctionCall
    | SendRaw
)


# Server events.


@attrs.frozen
class SessionCreated:
    """`session.created`: only now is the key, the model and the dialect known to be accepted."""

    session_id: str | None = None
    expires_at: int | None = None  # seconds since 1970, by the server's clock


@attrs.frozen
class SessionUpdated:
    """`session.updated`: the whole effective configuration, of which we keep what we must compare."""

    input_codec: str  # PCMU, PCMA, the server's own name for anything else, or empty when it echoed none
    output_codec: str
    voice: str | None = None
    expires_at: int | None = None  # seconds since 1970, by the server's clock


@attrs.frozen
class SpeechStarted:
    """`input_audio_buffer.speech_started`: the caller speaks; offsets count all audio ever appended.

    Both fields may be absent: silencing the model needs neither.
    """

    item_id: str = ""
    audio_start_ms: int = 0


@attrs.frozen
class SpeechStopped:
    """`input_audio_buffer.speech_stopped`"""

    item_id: str = ""
    audio_end_ms: int = 0


@attrs.frozen
class InputCommitted:
    """`input_audio_buffer.committed`: the caller's turn is an item of the conversation now."""

    item_id: str


@attrs.frozen
class IdleTimeout:
    """`input_audio_buffer.timeout_triggered`: the server noticed an idle caller and answers the silence by itself."""

    item_id: str = ""


@attrs.frozen
class CallerTranscript:
    """`conversation.item.input_audio_transcription.completed`: comes any time later, even after the answer."""

    item_id: str
    transcript: str
    usage: Usage | None = None  # of the transcription model, where it counts tokens
    seconds: float = 0.0  # where it counts time


@attrs.frozen
class CallerTranscriptFailed:
    """`conversation.item.input_audio_transcription.failed`"""

    item_id: str
    code: str | None = None
    message: str = ""


@attrs.frozen
class ResponseCreated:
    """`response.created`: ours, or one that the server's turn detection made."""

    response_id: str
    answers: str | None = None  # our event id; empty: the server made it on its own; None: the server does not say


@attrs.frozen
class AudioDelta:
    """`response.output_audio.delta`: uneven blocks, faster than real time."""

    response_id: str
    item_id: str
    audio: bytes  # G.711, already decoded


@attrs.frozen
class AudioDone:
    """`response.output_audio.done`"""

    response_id: str
    item_id: str


@attrs.frozen
class TranscriptDelta:
    """`response.output_audio_transcript.delta`"""

    response_id: str
    item_id: str
    delta: str


@attrs.frozen
class TranscriptDone:
    """`response.output_audio_transcript.done`"""

    response_id: str
    item_id: str
    transcript: str


@attrs.frozen
class TextDone:
    """`response.output_text.done`: an answer in writing, which no caller hears; we never ask for one."""

    response_id: str
    item_id: str
    text: str


@attrs.frozen
class FunctionCall:
    """A `function_call` item of `response.output_item.done`, or of `response.done`'s output.

    Or `response.function_call_arguments.done`, which comes of a call that was cut short, too: it is not `confirmed`.
    """

    response_id: str
    item_id: str
    call_id: str
    name: str
    arguments: str  # JSON text, written by the model: may be anything
    status: str = "completed"  # of the item; an incomplete one may lack arguments
    confirmed: bool = True


@attrs.frozen
class Usage:
    """Tokens of one response. What the server left out counts as 0; cached is a part of input."""

    input_tokens: int = 0
    output_tokens: int = 0
    input_audio_tokens: int = 0
    input_text_tokens: int = 0
    cached_tokens: int = 0
    output_audio_tokens: int = 0
    output_text_tokens: int = 0


@attrs.frozen
class ResponseDone:
    """`response.done`: generated, not heard; the playout still holds seconds of it."""

    response_id: str
    status: str  # completed, cancelled, incomplete, failed
    reason: str | None = None  # turn_detected, client_cancelled, max_output_tokens, content_filter
    error_code: str | None = None
    error_message: str | None = None
    function_calls: tuple[FunctionCall, ...] = ()
    usage: Usage | None = None


@attrs.frozen
class ErrorEvent:
    """`error`: the socket stays open unless a close frame follows."""

    code: str | None
    message: str
    param: str | None = None
    type: str | None = None  # some servers put the code here
    event_id: str | None = None  # of our event, when the server says so


@attrs.frozen
class Unknown:
    """An event that this program has no use for; never an error."""

    type: str


ServerEvent = (
    SessionCreated
    | SessionUpdated
    | SpeechStarted
    | SpeechStopped
    | InputCommitted
    | IdleTimeout
    | CallerTranscript
    | CallerTranscriptFailed
    | ResponseCreated
    | AudioDelta
    | AudioDone
    | TranscriptDelta
    | TranscriptDone
    | TextDone
    | FunctionCall
    | ResponseDone
    | ErrorEvent
    | Unknown
)
