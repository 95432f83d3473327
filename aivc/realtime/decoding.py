"""From the server's JSON to neutral events: tolerant of everything new, strict about what is needed.

Unknown types become `Unknown`, unknown fields are ignored, and a needed field that is missing or of another type is a
`ProtocolViolation`, which a reader counts and survives.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs
import cattrs

from aivc.realtime import events
from aivc.realtime.events import ServerEvent
from aivc.realtime.session import REQUEST

Json = Mapping[str, object]
Reader = Callable[[Json], ServerEvent]
Event = TypeVar("Event", bound=ServerEvent)

DECODER = json.JSONDecoder()
QUOTED_CHARACTERS = 80  # of an offending value, in a message
LONGEST_ARGUMENTS = 65_536  # characters of one function call; the longest answer, 4096 tokens, has a quarter
LARGEST_NUMBER = 2**53  # what JSON's numbers hold exactly everywhere; Python's could be too large for a float
CODECS = {"audio/pcmu": "PCMU", "g711_ulaw": "PCMU", "audio/pcma": "PCMA", "g711_alaw": "PCMA"}


class ProtocolViolation(Exception):
    """The server sent something that its protocol does not allow; the connection itself is still good."""


def exact_text(value: object, _type: object) -> str:
    if not isinstance(value, str):  # cattrs alone would make "None" of a null
        raise TypeError(f"expected text, got {type(value).__name__}")
    return value


def whole_number(value: object, _type: object) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected a whole number, got {type(value).__name__}")
    if abs(value) > LARGEST_NUMBER:
        raise ValueError("a number that is too large")
    return value


WIRE = cattrs.Converter(detailed_validation=False)
WIRE.register_structure_hook(str, exact_text)
WIRE.register_structure_hook(int, whole_number)


def flat(event: type[Event]) -> Reader:
    """Return a reader for an event whose wire fields are the attributes of `event`."""
    hook = WIRE.get_structure_hook(event)

    def read(fields: Json) -> ServerEvent:
        result: Event = hook(fields, event)
        return result

    return read


def audio_delta(fields: Json) -> ServerEvent:
    """The one frequent event: by hand, which is twice as fast as structuring it."""
    response_id, item_id, delta = fields["response_id"], fields["item_id"], fields["delta"]
    if not (isinstance(response_id, str) and isinstance(item_id, str) and isinstance(delta, str)):
        raise TypeError("expected text in response_id, item_id and delta")
    return events.AudioDelta(response_id, item_id, binascii.a2b_base64(delta, strict_mode=True))


def session_created(fields: Json) -> ServerEvent:
    session = inner(fields, "session")
    return events.SessionCreated(text(session, "id"), number(session, "expires_at"))


def ga_session_updated(fields: Json) -> ServerEvent:
    session = needed(fields, "session")
    heard, spoken = (inner(inner(session, "audio"), direction) for direction in ("input", "output"))
    return events.SessionUpdated(
        codec(text(inner(heard, "format"), "type")),
        codec(text(inner(spoken, "format"), "type")),
        voice(spoken),
        number(session, "expires_at"),
    )


def beta_session_updated(fields: Json) -> ServerEvent:
    session = needed(fields, "session")
    return events.SessionUpdated(
        codec(text(session, "input_audio_format")),
        codec(text(session, "output_audio_format")),
        voice(session),
        number(session, "expires_at"),
    )


def caller_transcript(fields: Json) -> ServerEvent:
    spent = inner(fields, "usage")
    item_id, transcript = exact_text(fields["item_id"], str), exact_text(fields["transcript"], str)
    if spent.get("type") == "duration":
        return events.CallerTranscript(item_id, transcript, seconds=seconds(spent))
    return events.CallerTranscript(item_id, transcript, usage(fields.get("usage")))


def mcp_failure(code: str) -> Reader:
    """Return a reader for an event that tells of a remote server's failure and of nothing but an item."""

    def read(fields: Json) -> ServerEvent:
        return events.ErrorEvent(code, f"the item is {text(fields, 'item_id') or 'unknown'}", type="mcp_error")

    return read


def transcription_failed(fields: Json) -> ServerEvent:
    error = inner(fields, "error")
    return events.CallerTranscriptFailed(
        text(fields, "item_id") or "", text(error, "code"), text(error, "message") or ""
    )


def response_created(fields: Json) -> ServerEvent:
    response = needed(fields, "response")
    told = "metadata" in response  # null in OpenAI's answer when there is none; absent where servers do not know it
    return events.ResponseCreated(
        exact_text(response["id"], str), (text(inner(response, "metadata"), REQUEST) or "") if told else None
    )


def output_item_done(fields: Json) -> ServerEvent:
    item = needed(fields, "item")
    if item.get("type") != "function_call":
        return events.Unknown("response.output_item.done")
    return function_call(item, exact_text(fields["response_id"], str))


def arguments_done(fields: Json) -> ServerEvent:
    """Some servers announce a call in no other way, and then with its name."""
    if not (isinstance(fields.get("name"), str) and isinstance(fields.get("call_id"), str)):
        return events.Unknown("response.function_call_arguments.done")
    call = function_call({**fields, "id": fields.get("item_id")}, exact_text(fields["response_id"], str))
    return attrs.evolve(call, status="completed", confirmed=False)


def function_call(item: Json, response_id: str) -> events.FunctionCall:
    return events.FunctionCall(
        response_id,
        text(item, "id") or "",
        exact_text(item["call_id"], str),
        exact_text(item["name"], str),
        (text(item, "arguments") or "")[:LONGEST_ARGUMENTS],  # what is cut off is no JSON: the model is told so
        text(item, "status") or "completed",
    )


def response_done(fields: Json) -> ServerEvent:
    response = needed(fields, "response")
    response_id = exact_text(response["id"], str)
    details = inner(response, "status_details")
    error = inner(details, "error")
    return events.ResponseDone(
        response_id,
        text(response, "status") or "completed",  # without it the next response would wait for ever
        text(details, "reason"),
        text(error, "code") or text(error, "type"),
        text(error, "message"),
        tuple(completed_calls(response.get("output"), response_id)),
        usage(response.get("usage")),
    )


def completed_calls(output: object, response_id: str) -> list[events.FunctionCall]:
    """Return the readable function calls of a response; this copy only backs up the one of `output_item.done`."""
    items = output if isinstance(output, list) else []
    return [
        function_call(item, response_id)
        for item in items
        if isinstance(item, dict)
        and item.get("type") == "function_call"
        and isinstance(item.get("call_id"), str)
        and isinstance(item.get("name"), str)
    ]


def usage(fields: object) -> events.Usage | None:
    if not isinstance(fields, dict):
        return None
    heard, spoken = inner(fields, "input_token_details"), inner(fields, "output_token_details")
    return events.Usage(
        number(fields, "input_tokens") or 0,
        number(fields, "output_tokens") or 0,
        number(heard, "audio_tokens") or 0,
        number(heard, "text_tokens") or 0,
        number(heard, "cached_tokens") or 0,
        number(spoken, "audio_tokens") or 0,
        number(spoken, "text_tokens") or 0,
    )


def error_event(fields: Json) -> ServerEvent:
    error = needed(fields, "error")
    return events.ErrorEvent(
        text(error, "code"),
        text(error, "message") or "",
        text(error, "param"),
        text(error, "type"),
        text(error, "event_id"),
    )


def needed(fields: Json, name: str) -> Json:
    """Return a member object that must be there."""
    value = fields[name]
    if not isinstance(value, dict):
        raise TypeError(f"expected an object in {name}, got {type(value).__name__}")
    return value


def inner(fields: Json, name: str) -> Json:
    """Return a member object, empty when it is missing, null or something else."""
    value = fields.get(name)
    return value if isinstance(value, dict) else {}


def text(fields: Json, name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) else None


def number(fields: Json, name: str) -> int | None:
    """Return a count or a time, which is never negative."""
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= LARGEST_NUMBER else None


def seconds(fields: Json) -> float:
    """Return a duration, 0 when it is missing or none."""
    value = fields.get("seconds")
    if not isinstance(value, int | float) or isinstance(value, bool):
        return 0.0
    return float(value) if 0 <= value <= LARGEST_NUMBER else 0.0


def codec(wire_name: str | None) -> str:
    return CODECS.get(wire_name or "", wire_name or "")


def voice(fields: Json) -> str | None:
    return text(fields, "voice") or text(inner(fields, "voice"), "id")  # a custom voice is an object


COMMON: dict[str, Reader] = {
    "session.created": session_created,
    "error": error_event,
    "input_audio_buffer.speech_started": flat(events.SpeechStarted),
    "input_audio_buffer.speech_stopped": flat(events.SpeechStopped),
    "input_audio_buffer.committed": flat(events.InputCommitted),
    "input_audio_buffer.timeout_triggered": flat(events.IdleTimeout),
    "conversation.item.input_audio_transcription.completed": caller_transcript,
    "conversation.item.input_audio_transcription.failed": transcription_failed,
    "response.created": response_created,
    "response.output_item.done": output_item_done,
    "response.function_call_arguments.done": arguments_done,
    "response.done": response_done,
}
GA_READERS: dict[str, Reader] = COMMON | {
    "session.updated": ga_session_updated,
    "response.output_audio.delta": audio_delta,
    "response.output_audio.done": flat(events.AudioDone),
    "response.output_audio_transcript.delta": flat(events.TranscriptDelta),
    "response.output_audio_transcript.done": flat(events.TranscriptDone),
    "response.output_text.done": flat(events.TextDone),
    "mcp_list_tools.failed": mcp_failure("mcp_list_tools_failed"),
    "response.mcp_call.failed": mcp_failure("mcp_call_failed"),
}
BETA_READERS: dict[str, Reader] = COMMON | {
    "session.updated": beta_session_updated,
    "response.audio.delta": audio_delta,
    "response.audio.done": flat(events.AudioDone),
    "response.audio_transcript.delta": flat(events.TranscriptDelta),
    "response.audio_transcript.done": flat(events.TranscriptDone),
    "response.text.done": flat(events.TextDone),
}


def read_untrusted(message: str | bytes, readers: Mapping[str, Reader]) -> ServerEvent:
    """Return the event that one WebSocket message carries.

    Raises:
        ProtocolViolation: not a JSON object with a type, or a needed field is missing, of another type, or not base64.
    """
    try:
        fields = loaded(message)
    except (ValueError, RecursionError) as error:
        raise ProtocolViolation(f"not JSON: {type(error).__name__} in {quoted(message)}") from None
    name = fields.get("type") if isinstance(fields, dict) else None
    if not isinstance(name, str):
        raise ProtocolViolation(f"not an object with a type: {quoted(message)}")
    reader = readers.get(name)
    if reader is None:
        return events.Unknown(name)
    try:
        return reader(fields)
    except KeyError as error:
        raise ProtocolViolation(f"{name}: {error.args[0]!r} is missing") from None
    except (ValueError, TypeError) as error:
        raise ProtocolViolation(f"{name}: {error}") from None


def loaded(message: str | bytes) -> Any:
    """What `json.loads` returns or raises; its search for space around the text takes as long as a short event."""
    if isinstance(message, str) and message.startswith("{"):
        fields, end = DECODER.raw_decode(message)
        if end == len(message):
            return fields
    return json.loads(message)


def quoted(message: str | bytes) -> str:
    return repr(message[:QUOTED_CHARACTERS])
