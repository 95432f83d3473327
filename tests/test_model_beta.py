"""The fake model in the beta dialect."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aivc.testing.client import raw_client
from aivc.testing.model import FakeModel
from aivc.testing.script import CallTool, Say, scripted
from aivc.testing.voice import silence, speech

Json = dict[str, Any]
BETA = [("OpenAI-Beta", "realtime=v1")]
RESOURCE = "/v1/realtime?model=gpt-4o-realtime-preview-2024-10-01"
G711: Json = {"input_audio_format": "g711_ulaw", "output_audio_format": "g711_ulaw"}


async def test_a_beta_session_is_flat(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        async with (
            FakeModel(dialect="beta") as model,
            raw_client(model.open_stream(), headers=BETA, resource=RESOURCE) as client,
        ):
            session = (await client.wait_for("session.created"))["session"]
            assert session["modalities"] == ["audio", "text"]
            assert session["input_audio_format"] == "pcm16"
            assert session["temperature"] == 0.8
            assert session["max_response_output_tokens"] == "inf"
            assert "audio" not in session
            assert "idle_timeout_ms" not in session["turn_detection"]
            update = {**G711, "voice": "verse", "temperature": 0.7, "max_response_output_tokens": 200, "tools": []}
            update["turn_detection"] = {"silence_duration_ms": 300}
            await client.send("session.update", session=update)
            session = (await client.wait_for("session.updated"))["session"]
            assert session["turn_detection"]["type"] == "server_vad"
            assert session["turn_detection"]["silence_duration_ms"] == 300
            assert {name: session[name] for name in update if name != "turn_detection"} == {
                name: value for name, value in update.items() if name != "turn_detection"
            }
            assert model.sessions[0].session["audio"]["input"]["format"] == {"type": "audio/pcmu"}
            assert model.sessions[0].errors == []


async def test_a_beta_turn_has_beta_names(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        script = scripted([[Say("Hello."), CallTool("hours")]])
        async with (
            FakeModel(script, dialect="beta") as model,
            raw_client(model.open_stream(), headers=BETA, resource=RESOURCE) as client,
        ):
            await client.send("session.update", session=G711)
            await client.append(silence(0.5) + speech(1.0) + silence(0.3))
            done = (await client.wait_for("response.done"))["response"]
            assert {name for name in client.types if "mood" not in name} == {
                "session.created",
                "conversation.created",
                "session.updated",
                "input_audio_buffer.speech_started",
                "input_audio_buffer.speech_stopped",
                "input_audio_buffer.committed",
                "conversation.item.created",
                "response.created",
                "response.output_item.added",
                "response.content_part.added",
                "response.audio.delta",
                "response.audio_transcript.delta",
                "response.audio.done",
                "response.audio_transcript.done",
                "response.content_part.done",
                "response.output_item.done",
                "response.function_call_arguments.delta",
                "response.function_call_arguments.done",
                "response.done",
            }
            assert done["output"][0]["content"] == [{"type": "audio", "transcript": "Hello."}]
            assert (done["modalities"], done["output_audio_format"]) == (["audio", "text"], "g711_ulaw")
            assert "name" not in client.received("response.function_call_arguments.done")[0]
            assert client.received("response.output_item.done")[1]["item"]["name"] == "hours"
            assert len(client.audio()) == 8000


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({"type": "realtime"}, "unknown_parameter", "session.type"),
        ({"input_audio_format": "audio/pcmu"}, "invalid_value", "session.input_audio_format"),
        ({"temperature": "0.8"}, "invalid_type", "session.temperature"),
        ({"temperature": 0.5}, "decimal_below_min_value", "session.temperature"),
        ({"turn_detection": {"threshold": "0.5"}}, "invalid_type", "session.turn_detection.threshold"),
        ({"modalities": ["audio"]}, "invalid_value", "session.modalities"),
        ({"voice": "marin"}, "invalid_value", "session.voice"),
    ],
)
async def test_a_beta_update_is_checked_as_strictly(
    session: Json, code: str, param: str, autojump_clock: MockClock
) -> None:
    with trio.fail_after(5):
        async with (
            FakeModel(dialect="beta") as model,
            raw_client(model.open_stream(), headers=BETA, resource=RESOURCE) as client,
        ):
            await client.send("session.update", session=session)
            error = (await client.wait_for("error"))["error"]
            assert (error["code"], error["param"]) == (code, param)


async def test_beta_needs_its_header(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        async with FakeModel(dialect="beta") as model, raw_client(model.open_stream()) as client:
            assert (await client.wait_closed())[0] == 4000
            assert client.events[0][1]["error"]["code"] == "missing_beta_header"


async def test_a_server_of_both_dialects_goes_by_the_header(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        async with FakeModel(dialect="both") as model:
            async with raw_client(model.open_stream(), headers=BETA) as client:
                assert "modalities" in (await client.wait_for("session.created"))["session"]
            async with raw_client(model.open_stream()) as client:
                assert "output_modalities" in (await client.wait_for("session.created"))["session"]


async def test_beta_items_and_responses_have_beta_fields(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with (
            FakeModel(scripted([[Say("Hello.")]]), dialect="beta") as model,
            raw_client(model.open_stream(), headers=BETA, resource=RESOURCE) as client,
        ):
            item = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hi"}]}
            await client.send("conversation.item.create", item=item)
            created = await client.wait_for("conversation.item.created")
            assert created["item"]["content"] == [{"type": "text", "text": "Hi"}]
            response = {"modalities": ["text"], "temperature": 0.9, "max_response_output_tokens": 100}
            await client.send("response.create", response=response)
            done = (await client.wait_for("response.done"))["response"]
            assert done["output"][0]["content"] == [{"type": "text", "text": "Hello."}]
            assert (done["modalities"], done["temperature"], done["max_output_tokens"]) == (["text"], 0.9, 100)
            assert client.received("response.text.done")[0]["text"] == "Hello."
            assert model.sessions[0].errors == []
