"""Both spellings of the protocol: strict in what is written, tolerant in what is read."""

from __future__ import annotations

import base64
import contextlib
import json
import math
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivc.config.settings import Codec, OpenAISettings
from aivc.realtime import events
from aivc.realtime.dialects import BETA, GA, Dialect, ProtocolViolation, dialect_named
from aivc.realtime.errors import ErrorKind, classify

SETTINGS = OpenAISettings(voice="marin", max_tokens=500)
both = pytest.mark.parametrize("dialect", [GA, BETA], ids=["ga", "beta"])


def sent(dialect: Dialect, event: events.ClientEvent) -> dict[str, Any]:
    fields = json.loads(dialect.encode(event))
    assert isinstance(fields, dict)
    return fields


def read(dialect: Dialect, event_type: str, **fields: object) -> events.ServerEvent:
    return dialect.decode(json.dumps({"type": event_type, "event_id": "event_1", "new_field": {"x": [1]}, **fields}))


# Other client events


@both
@pytest.mark.parametrize(
    ("event", "wire"),
    [
        (
            events.CreateResponse("e"),
            {"type": "response.create", "response": {"metadata": {"client_event_id": "e"}}},
        ),
        (
            events.CreateResponse("e", "Say hello.", "none"),
            {
                "type": "response.create",
                "response": {
                    "instructions": "Say hello.",
                    "tool_choice": "none",
                    "metadata": {"client_event_id": "e"},
                },
            },
        ),
        (events.CancelResponse("e"), {"type": "response.cancel"}),
        (events.CancelResponse("e", "resp_1"), {"type": "response.cancel", "response_id": "resp_1"}),
        (
            events.TruncateItem("e", "item_1", 1200),
            {"type": "conversation.item.truncate", "item_id": "item_1", "content_index": 0, "audio_end_ms": 1200},
        ),
        (events.DeleteItem("e", "item_1"), {"type": "conversation.item.delete", "item_id": "item_1"}),
        (
            events.SendToolOutput("e", "call_1", "ok"),
            {
                "type": "conversation.item.create",
                "item": {"type": "function_call_output", "call_id": "call_1", "output": "ok"},
            },
        ),
        (
            events.SendText("e", "user", "42#"),
            {
                "type": "conversation.item.create",
                "item": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "42#"}]},
            },
        ),
        (
            events.SendFunctionCall("e", "call_1", "book", '{"n":2}'),
            {
                "type": "conversation.item.create",
                "item": {"type": "function_call", "call_id": "call_1", "name": "book", "arguments": '{"n":2}'},
            },
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, dict) else "",
)
def test_the_other_client_events_are_alike(dialect: Dialect, event: events.ClientEvent, wire: dict[str, Any]) -> None:
    assert sent(dialect, event) == {**wire, "event_id": "e"}


def test_what_the_assistant_said_has_its_own_content_type_in_each_dialect() -> None:
    said = events.SendText("e", "assistant", "Hello.")
    assert sent(GA, said)["item"]["content"][0]["type"] == "output_text"
    assert sent(BETA, said)["item"]["content"][0]["type"] == "text"


@both
def test_a_raw_event_goes_out_as_it_is(dialect: Dialect) -> None:
    mine = {"type": "input_audio_buffer.clear", "event_id": "mine", "more": [1, None]}
    assert sent(dialect, events.SendRaw(mine)) == mine


def test_only_the_beta_sends_its_header() -> None:
    assert dialect_named("ga").headers == ()
    assert dialect_named("beta").headers == (("OpenAI-Beta", "realtime=v1"),)


# Server events


@pytest.mark.parametrize(("dialect", "middle"), [(GA, "output_audio"), (BETA, "audio")], ids=["ga", "beta"])
def test_audio_and_transcripts_are_read_under_each_dialects_names(dialect: Dialect, middle: str) -> None:
    ids: dict[str, object] = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
    audio = bytes(range(256))
    delta = base64.b64encode(audio).decode()
    transcript = f"response.{middle}_transcript"
    assert read(dialect, f"response.{middle}.delta", **ids, delta=delta, obfuscation="x") == events.AudioDelta(
        "resp_1", "item_1", audio
    )
    assert read(dialect, f"response.{middle}.done", **ids) == events.AudioDone("resp_1", "item_1")
    assert read(dialect, f"{transcript}.delta", **ids, delta="He") == events.TranscriptDelta("resp_1", "item_1", "He")
    assert read(dialect, f"{transcript}.done", **ids, transcript="Hello") == events.TranscriptDone(
        "resp_1", "item_1", "Hello"
    )


def ga_session(codec: str) -> dict[str, Any]:
    return {"audio": {"input": {"format": {"type": codec}}, "output": {"format": {"type": codec}, "voice": "ash"}}}


def beta_session(codec: str) -> dict[str, Any]:
    return {"input_audio_format": codec, "output_audio_format": codec, "voice": "ash"}


@pytest.mark.parametrize(
    ("dialect", "session", "codec"),
    [
        (GA, ga_session("audio/pcmu"), "PCMU"),
        (GA, ga_session("audio/pcma"), "PCMA"),
        (GA, ga_session("audio/pcm"), "audio/pcm"),
        (BETA, beta_session("g711_ulaw"), "PCMU"),
        (BETA, beta_session("g711_alaw"), "PCMA"),
        (BETA, beta_session("pcm16"), "pcm16"),
    ],
)
def test_the_echoed_formats_become_codec_names(dialect: Dialect, session: dict[str, Any], codec: str) -> None:
    assert read(dialect, "session.updated", session=session) == events.SessionUpdated(codec, codec, "ash")


@both
def test_a_session_without_formats_echoes_no_codec(dialect: Dialect) -> None:
    assert read(dialect, "session.updated", session={"id": "sess_1"}) == events.SessionUpdated("", "")


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
@both
def test_what_is_asked_for_is_what_an_honest_echo_gives(dialect: Dialect, codec: Codec) -> None:
    session = sent(dialect, events.ConfigureSession("e", SETTINGS, codec))["session"]
    assert read(dialect, "session.updated", session=session) == events.SessionUpdated(codec, codec, "marin")


def test_a_custom_voice_is_an_object_with_an_id() -> None:
    session = ga_session("audio/pcmu")
    session["audio"]["output"]["voice"] = {"id": "voice_123"}
    assert read(GA, "session.updated", session=session) == events.SessionUpdated("PCMU", "PCMU", "voice_123")


@both
def test_the_common_events_are_read(dialect: Dialect) -> None:
    created = read(dialect, "session.created", session={"id": "sess_1", "expires_at": 1_800_000_000, "object": "x"})
    assert created == events.SessionCreated("sess_1", 1_800_000_000)
    started = read(dialect, "input_audio_buffer.speech_started", item_id="item_1", audio_start_ms=700)
    assert started == events.SpeechStarted("item_1", 700)
    stopped = read(dialect, "input_audio_buffer.speech_stopped", item_id="item_1", audio_end_ms=1700)
    assert stopped == events.SpeechStopped("item_1", 1700)
    transcription = "conversation.item.input_audio_transcription"
    assert read(dialect, f"{transcription}.completed", item_id="i", transcript="Hi") == events.CallerTranscript(
        "i", "Hi"
    )
    failed = read(
        dialect, f"{transcription}.failed", item_id="i", error={"code": "audio_unintelligible", "message": "?"}
    )
    assert failed == events.CallerTranscriptFailed("i", "audio_unintelligible", "?")
    assert read(dialect, "response.created", response={"id": "resp_1"}) == events.ResponseCreated("resp_1")


@both
def test_a_committed_turn_and_an_idle_caller_are_read(dialect: Dialect) -> None:
    committed = read(dialect, "input_audio_buffer.committed", item_id="item_1", previous_item_id=None)
    assert committed == events.InputCommitted("item_1")
    idle = read(dialect, "input_audio_buffer.timeout_triggered", item_id="item_2", audio_start_ms=1, audio_end_ms=2)
    assert idle == events.IdleTimeout("item_2")
    with pytest.raises(ProtocolViolation):
        read(dialect, "input_audio_buffer.committed")


TOKENS = {"type": "tokens", "input_tokens": 22, "output_tokens": 5, "input_token_details": {"audio_tokens": 20}}


@both
@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, events.CallerTranscript("i", "Hi")),
        (TOKENS, events.CallerTranscript("i", "Hi", events.Usage(22, 5, 20))),
        ({"type": "duration", "seconds": 3}, events.CallerTranscript("i", "Hi", seconds=3.0)),
        ({"type": "duration", "seconds": 2.5}, events.CallerTranscript("i", "Hi", seconds=2.5)),
        ({"type": "duration", "seconds": -1}, events.CallerTranscript("i", "Hi")),
        ({"type": "duration", "seconds": math.inf}, events.CallerTranscript("i", "Hi")),
        ({"type": "duration", "seconds": 10**400}, events.CallerTranscript("i", "Hi")),
    ],
)
def test_a_transcript_tells_what_it_cost(dialect: Dialect, usage: object, expected: events.CallerTranscript) -> None:
    name = "conversation.item.input_audio_transcription.completed"
    assert read(dialect, name, item_id="i", transcript="Hi", usage=usage) == expected


def test_a_failure_of_a_remote_tool_server_is_an_error_that_ends_nothing() -> None:
    listing = read(GA, "mcp_list_tools.failed", item_id="item_1")
    assert isinstance(listing, events.ErrorEvent)
    assert (listing.code, listing.message) == ("mcp_list_tools_failed", "the item is item_1")
    called = read(GA, "response.mcp_call.failed", item_id="item_2", output_index=0)
    assert isinstance(called, events.ErrorEvent)
    assert called.code == "mcp_call_failed"
    assert {classify(event.code, event.type) for event in (listing, called)} == {ErrorKind.BENIGN}


@both
def test_a_number_beyond_reason_is_none(dialect: Dialect) -> None:
    created = read(dialect, "session.created", session={"id": "sess_1", "expires_at": 10**400})
    assert created == events.SessionCreated("sess_1", None)
    with pytest.raises(ProtocolViolation):
        read(dialect, "input_audio_buffer.speech_started", item_id="i", audio_start_ms=10**400)


@both
@pytest.mark.parametrize(("metadata", "answers"), [({"client_event_id": "e7"}, "e7"), ({}, ""), (None, ""), (5, "")])
def test_a_response_tells_which_request_it_answers(dialect: Dialect, metadata: object, answers: str) -> None:
    created = read(dialect, "response.created", response={"id": "resp_1", "metadata": metadata})
    assert created == events.ResponseCreated("resp_1", answers)


@both
def test_barge_in_needs_no_offset(dialect: Dialect) -> None:
    assert read(dialect, "input_audio_buffer.speech_started") == events.SpeechStarted("", 0)


CALL = {"type": "function_call", "id": "item_2", "call_id": "call_1", "name": "book", "arguments": '{"n":2}'}


@both
def test_a_function_call_is_read_when_its_item_is_done(dialect: Dialect) -> None:
    expected = events.FunctionCall("resp_1", "item_2", "call_1", "book", '{"n":2}', "incomplete")
    item = CALL | {"status": "incomplete", "phase": "commentary"}
    assert read(dialect, "response.output_item.done", response_id="resp_1", item=item) == expected
    message = read(dialect, "response.output_item.done", response_id="resp_1", item={"type": "message"})
    assert isinstance(message, events.Unknown)


@both
def test_a_finished_response_tells_status_calls_and_usage(dialect: Dialect) -> None:
    response = {
        "id": "resp_1",
        "status": "completed",
        "status_details": None,
        "output": [{"type": "message"}, CALL | {"status": "completed"}, {"type": "function_call"}, None],
        "usage": {
            "input_tokens": 50,
            "output_tokens": 30,
            "input_token_details": {"audio_tokens": 40, "text_tokens": 10, "cached_tokens": None},
            "output_token_details": {"audio_tokens": 25},
        },
    }
    call = events.FunctionCall("resp_1", "item_2", "call_1", "book", '{"n":2}')
    assert read(dialect, "response.done", response=response) == events.ResponseDone(
        "resp_1", "completed", function_calls=(call,), usage=events.Usage(50, 30, 40, 10, 0, 25, 0)
    )


def test_a_failed_response_tells_why() -> None:
    details = {"type": "failed", "error": {"type": "server_error", "code": None, "message": "busy"}}
    response = {"id": "resp_1", "status": "failed", "status_details": details, "usage": None}
    done = read(GA, "response.done", response=response)
    assert done == events.ResponseDone("resp_1", "failed", error_code="server_error", error_message="busy")
    response = {"id": "resp_1", "status": "cancelled", "status_details": {"reason": "turn_detected"}}
    assert read(GA, "response.done", response=response) == events.ResponseDone("resp_1", "cancelled", "turn_detected")


@both
def test_an_error_event_may_lack_everything_but_its_object(dialect: Dialect) -> None:
    error = {"type": "invalid_request_error", "code": "invalid_value", "message": "m", "param": "p", "event_id": "e"}
    expected = events.ErrorEvent("invalid_value", "m", "p", "invalid_request_error", "e")
    assert read(dialect, "error", error=error) == expected
    assert read(dialect, "error", error={"code": None}) == events.ErrorEvent(None, "")


@both
@pytest.mark.parametrize("event_type", ["response.content_part.added", "rate_limits.updated", "brand.new"])
def test_an_unknown_type_is_no_error(dialect: Dialect, event_type: str) -> None:
    assert read(dialect, event_type) == events.Unknown(event_type)


@pytest.mark.parametrize("message", ['{"type":"brand.new"}\r\n', ' \t{"type":"brand.new"}', b'{"type":"brand.new"}'])
def test_space_around_a_message_and_octets_in_place_of_text_are_no_error(message: str | bytes) -> None:
    assert GA.decode(message) == events.Unknown("brand.new")


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "[1]",
        "null",
        '"text"',
        '{"type":5}',
        '{"no":"type"}',
        b"\xff\xfe",
        "[" * 100_000,
        '{"type":"brand.new"}{}',
        '{"type":"brand.new"}\u00a0',
        '\ufeff{"type":"brand.new"}',
        '{"type":"error"}',
        '{"type":"error","error":"text"}',
        '{"type":"response.created","response":{}}',
        '{"type":"response.created","response":{"id":null}}',
        '{"type":"response.done","response":{}}',
        '{"type":"response.output_audio.done","item_id":"i"}',
        '{"type":"response.output_audio.done","item_id":null,"response_id":"r"}',
        '{"type":"input_audio_buffer.speech_started","audio_start_ms":"soon"}',
        '{"type":"input_audio_buffer.speech_started","audio_start_ms":true}',
        '{"type":"response.output_audio.delta","item_id":"i","delta":"AAAA"}',
        '{"type":"response.output_audio.delta","item_id":"i","response_id":"r","delta":5}',
        '{"type":"response.output_audio.delta","item_id":"i","response_id":"r","delta":"AA!A"}',
        '{"type":"response.output_audio.delta","item_id":"i","response_id":"r","delta":"AAA"}',
        '{"type":"response.output_audio.delta","item_id":"i","response_id":"r","delta":"\\u00e9"}',
        '{"type":"response.output_item.done","item":{"type":"function_call","call_id":"c","name":"n"}}',
        '{"type":"response.output_item.done","response_id":"r","item":{"type":"function_call","name":"n"}}',
    ],
    ids=range(28),
)
def test_what_is_malformed_is_a_violation_and_nothing_else(message: str | bytes) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        GA.decode(message)
    assert len(str(caught.value)) < 300


NAMED = {
    "error",
    "code",
    "item",
    "input",
    "id",
    "call_id",
    "usage",
    "status_details",
    "response_id",
    "type",
    "response",
    "delta",
    "status",
    "format",
    "session",
    "name",
    "voice",
    "arguments",
    "audio_start_ms",
    "output",
    "audio",
    "item_id",
}
FIELDS = st.sampled_from(sorted(NAMED))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=6),
    max_leaves=12,
)


@both
@given(event_type=st.sampled_from(sorted(GA.readers)), fields=st.dictionaries(FIELDS, VALUES, max_size=8))
def test_no_message_makes_anything_but_an_event_or_a_violation(
    dialect: Dialect, event_type: str, fields: dict[str, Any]
) -> None:
    with contextlib.suppress(ProtocolViolation):
        assert attrs.has(type(dialect.decode(json.dumps(fields | {"type": event_type}))))


def test_a_response_that_ends_without_a_status_is_over_all_the_same() -> None:
    done = GA.decode('{"type":"response.done","response":{"id":"r"}}')
    assert isinstance(done, events.ResponseDone)
    assert done.status == "completed"
