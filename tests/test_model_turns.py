"""The fake model's input buffer, VAD turns and conversation."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aivc.config.settings import Codec
from aivc.testing.client import RawClient, raw_client
from aivc.testing.model import FakeModel
from aivc.testing.phrases import phrase
from aivc.testing.script import CallTool, Say, echo, scripted
from aivc.testing.voice import silence, speech

Json = dict[str, Any]
NO_VAD: Json = {"turn_detection": None}


async def error_for(client: RawClient, event_type: str, **fields: object) -> Json:
    before = len(client.received("error"))
    await client.send(event_type, **fields)
    error: Json = (await client.wait_for("error", count=before + 1))["error"]
    return error


async def test_a_turn_is_found_committed_and_answered_under_one_item_id(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with FakeModel(scripted([[Say("Yes.")]])) as model, raw_client(model.open_stream()) as client:
            await client.configure()
            await client.speak(silence(1.0) + speech(1.0) + silence(0.5))
            await client.wait_for("response.done")
            started = client.received("input_audio_buffer.speech_started")[0]
            stopped = client.received("input_audio_buffer.speech_stopped")[0]
            committed = client.received("input_audio_buffer.committed")[0]
            added = client.received("conversation.item.added")[0]
            assert started["audio_start_ms"] == 700  # 1000 less the prefix padding
            assert stopped["audio_end_ms"] == 2200
            ids = {started["item_id"], stopped["item_id"], committed["item_id"], added["item"]["id"]}
            assert len(ids) == 1
            order = [name for name in client.types if name.startswith(("input_audio", "conversation"))]
            assert order[:5] == [
                "input_audio_buffer.speech_started",
                "input_audio_buffer.speech_stopped",
                "input_audio_buffer.committed",
                "conversation.item.added",
                "conversation.item.done",
            ]
            session = model.sessions[0]
            assert session.errors == []
            assert session.received_audio == silence(1.0) + speech(1.0) + silence(0.5)
            # Prefix padding, the speech, and the silence that was waited for.
            assert bytes(session.items[0].audio) == session.received_audio[700 * 8 : 2200 * 8]


async def test_audio_time_is_what_was_appended_and_not_the_clock(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            await client.configure()
            await trio.sleep(5)
            await client.append(silence(1.0) + speech(1.0))
            started = await client.wait_for("input_audio_buffer.speech_started")
            assert started["audio_start_ms"] == 700


@pytest.mark.parametrize(("codec", "wrong"), [("PCMU", "PCMA"), ("PCMA", "PCMU")])
async def test_silence_in_the_wrong_law_is_a_turn_without_an_end(
    codec: Codec, wrong: Codec, autojump_clock: MockClock
) -> None:
    with trio.fail_after(20):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            await client.configure(codec)
            await client.append(silence(2.0, codec))
            await client.append(silence(5.0, wrong))
            await trio.sleep(1)
            assert len(client.received("input_audio_buffer.speech_started")) == 1
            assert client.received("input_audio_buffer.speech_stopped") == []


async def test_the_sessions_vad_settings_are_used(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        vad = {
            "turn_detection": {
                "type": "server_vad",
                "prefix_padding_ms": 100,
                "silence_duration_ms": 700,
                "create_response": False,
            }
        }
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            await client.configure(input=vad)
            await client.append(silence(0.5) + speech(0.5) + silence(0.5) + speech(0.5) + silence(1.0))
            stopped = await client.wait_for("input_audio_buffer.speech_stopped")
            assert client.received("input_audio_buffer.speech_started")[0]["audio_start_ms"] == 400
            assert stopped["audio_end_ms"] == 2700
            await trio.sleep(1)
            assert client.received("response.created") == []


async def test_semantic_vad_finds_turns_too(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            await client.configure(input={"turn_detection": {"type": "semantic_vad", "eagerness": "high"}})
            await client.append(silence(0.5) + speech(1.0) + silence(1.0))
            await client.wait_for("input_audio_buffer.committed")


async def test_without_vad_the_client_commits_and_creates(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with FakeModel(echo()) as model, raw_client(model.open_stream()) as client:
            await client.configure(input=NO_VAD)
            said = speech(1.0)
            await client.append(said)
            await client.append(silence(1.0))
            await client.send("input_audio_buffer.commit")
            await client.wait_for("input_audio_buffer.committed")
            await trio.sleep(1)
            assert client.received("response.created") == []
            await client.send("response.create")
            await client.wait_for("response.done")
            assert client.audio() == said + silence(1.0)


@pytest.mark.parametrize(
    ("ms", "message"),
    [
        (0, "Error committing input audio buffer: the buffer is empty."),
        (
            50,
            "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, "
            "but buffer only has 50.00ms of audio.",
        ),
    ],
)
async def test_too_little_to_commit_is_refused(ms: int, message: str, autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            await client.configure(input=NO_VAD)
            await client.append(silence(ms / 1000))
            error = await error_for(client, "input_audio_buffer.commit")
            assert (error["code"], error["message"]) == ("input_audio_buffer_commit_empty", message)


async def test_clear_empties_the_buffer(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            await client.configure(input=NO_VAD)
            await client.append(speech(1.0))
            await client.send("input_audio_buffer.clear")
            await client.wait_for("input_audio_buffer.cleared")
            assert "empty" in (await error_for(client, "input_audio_buffer.commit"))["message"]


@pytest.mark.parametrize("audio", ["a", "!!!!", "/w=", "/w==\n"])
async def test_audio_must_be_strict_base64(audio: str, autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            error = await error_for(client, "input_audio_buffer.append", audio=audio)
            assert (error["code"], error["param"]) == ("invalid_value", "audio")


async def test_an_append_of_more_than_15_mib_is_refused(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            octets = base64.b64encode(bytes(15 * 1024 * 1024 + 3)).decode()
            assert (await error_for(client, "input_audio_buffer.append", audio=octets))["param"] == "audio"
            assert model.sessions[0].received_audio == b""


async def test_silence_after_the_answer_times_out_in_audio_time(autojump_clock: MockClock) -> None:
    with trio.fail_after(60):
        vad = {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 5000}}
        script = scripted([[Say("Hello.", seconds=2.0)], [Say("Are you there?")]])
        async with FakeModel(script) as model, raw_client(model.open_stream()) as client:
            await client.configure(input=vad)
            await client.send("response.create")
            await client.wait_for("response.done")
            await trio.sleep(20)
            assert client.received("input_audio_buffer.timeout_triggered") == []
            await client.speak(silence(7.0))
            timeout = await client.wait_for("input_audio_buffer.timeout_triggered")
            assert 6000 < timeout["audio_end_ms"] < 7000  # the answer's two seconds, less those while it was made
            await client.wait_for("response.done", count=2)
            assert client.received("input_audio_buffer.committed")[0]["item_id"] == timeout["item_id"]


async def test_the_callers_words_come_as_a_transcript_when_asked_for(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            await client.configure("PCMA", input={"transcription": {"model": "gpt-transcribe", "language": "en"}})
            asked = phrase("caller_hours")
            await client.append(silence(0.5, "PCMA") + asked.encoded("PCMA") + silence(0.5, "PCMA"))
            completed = await client.wait_for("conversation.item.input_audio_transcription.completed")
            assert completed["transcript"] == asked.text
            assert completed["item_id"] == client.received("input_audio_buffer.committed")[0]["item_id"]
            await client.append(speech(1.0, "PCMA") + silence(0.5, "PCMA"))
            other = await client.wait_for("conversation.item.input_audio_transcription.completed", count=2)
            assert other["transcript"] == "(1.5 seconds of speech)"


MESSAGE: Json = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}


async def test_items_are_put_where_the_client_says(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            await client.send("conversation.item.create", item={"id": "b", **MESSAGE})
            await client.send("conversation.item.create", item={"id": "a", **MESSAGE}, previous_item_id="root")
            await client.send("conversation.item.create", item={"id": "ab", **MESSAGE}, previous_item_id="a")
            await client.send("conversation.item.create", item={"id": "c", **MESSAGE}, previous_item_id=None)
            await client.wait_for("conversation.item.done", count=4)
            assert [item.id for item in model.sessions[0].items] == ["a", "ab", "b", "c"]
            added = client.received("conversation.item.added")
            assert [event["previous_item_id"] for event in added] == [None, None, "a", "b"]
            assert model.sessions[0].errors == []


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"item": {"id": "here", **MESSAGE}}, "item_create_duplicate_item_id", "item.id"),
        ({"item": MESSAGE, "previous_item_id": "gone"}, "item_create_invalid_previous_item_id", "previous_item_id"),
        ({}, "missing_required_parameter", "item"),
        ({"item": {"type": "message", "role": "robot"}}, "invalid_value", "item.role"),
        ({"item": {**MESSAGE, "content": [{"type": "text", "text": "x"}]}}, "invalid_value", "item.content[0].type"),
        (
            {"item": {**MESSAGE, "role": "assistant", "content": [{"type": "output_audio", "audio": "/w=="}]}},
            "invalid_value",
            "item.content[0].type",
        ),
        (
            {"item": {"type": "function_call_output", "call_id": "c", "output": {}}},
            "invalid_type",
            "item.output",
        ),
        (
            {"item": {"type": "function_call_output", "call_id": "c", "output": "{}"}},
            "invalid_tool_call_id",
            "item.call_id",
        ),
        ({"item": {"id": "x" * 33, **MESSAGE}}, "string_above_max_length", "item.id"),
    ],
)
async def test_an_item_that_does_not_fit_is_refused(
    fields: Json, code: str, param: str, autojump_clock: MockClock
) -> None:
    with trio.fail_after(20):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            await client.send("conversation.item.create", item={"id": "here", **MESSAGE})
            error = await error_for(client, "conversation.item.create", **fields)
            assert (error["code"], error["param"]) == (code, param)
            assert len(model.sessions[0].items) == 1


async def test_tool_output_is_only_taken_after_the_response_of_its_call(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        script = scripted([[CallTool("hours", {"day": "monday"}), Say("One moment.", seconds=3.0)]])
        async with FakeModel(script) as model, raw_client(model.open_stream()) as client:
            await client.configure()
            await client.send("response.create")
            done = await client.wait_for("response.function_call_arguments.done")
            assert (done["name"], done["arguments"]) == ("hours", '{"day": "monday"}')
            output = {"type": "function_call_output", "call_id": done["call_id"], "output": "nine"}
            error = await error_for(client, "conversation.item.create", item=output)
            assert error["code"] == "invalid_tool_call_id"
            await client.wait_for("response.done")
            await client.send("conversation.item.create", item=output)
            await client.wait_for("conversation.item.done", count=3)
            assert model.sessions[0].items[-1].body["output"] == "nine"


async def spoken(client: RawClient) -> str:
    """The id of an item of two seconds, all generated."""
    await client.configure()
    await client.send("response.create")
    await client.wait_for("response.done")
    item_id: str = client.received("response.output_item.done")[0]["item"]["id"]
    return item_id


async def test_truncating_keeps_what_was_heard_and_drops_the_transcript(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        script = scripted([[Say("Two seconds.", seconds=2.0)]])
        async with FakeModel(script) as model, raw_client(model.open_stream()) as client:
            item_id = await spoken(client)
            place = {"item_id": item_id, "content_index": 0, "audio_end_ms": 1999}
            await client.send("conversation.item.truncate", **place)
            truncated = await client.wait_for("conversation.item.truncated")
            assert {name: truncated[name] for name in place} == place
            item = model.sessions[0].items[0]
            assert item.audio_ms == 1999
            assert "transcript" not in item.body["content"][0]
            error = await error_for(client, "conversation.item.truncate", **{**place, "audio_end_ms": 2000})
            assert error["message"] == "Audio content of 1999ms is already shorter than 2000ms"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"audio_end_ms": 2001}, "invalid_value", "audio_end_ms"),
        ({"audio_end_ms": 0}, "invalid_value", "audio_end_ms"),
        ({"audio_end_ms": 500.5}, "invalid_type", "audio_end_ms"),
        ({"audio_end_ms": -1}, "integer_below_min_value", "audio_end_ms"),
        ({"content_index": 1}, "invalid_value", "content_index"),
        ({"item_id": "gone"}, "item_truncate_invalid_item_id", "item_id"),
        ({"item_id": "text"}, None, "item_id"),
    ],
)
async def test_a_truncation_of_what_was_never_said_is_refused(
    fields: Json, code: str | None, param: str, autojump_clock: MockClock
) -> None:
    with trio.fail_after(20):
        script = scripted([[Say("Two seconds.", seconds=2.0)]])
        async with FakeModel(script) as model, raw_client(model.open_stream()) as client:
            item_id = await spoken(client)
            await client.send("conversation.item.create", item={"id": "text", **MESSAGE})
            place = {"item_id": item_id, "content_index": 0, "audio_end_ms": 100, **fields}
            error = await error_for(client, "conversation.item.truncate", **place)
            assert (error["code"], error["param"]) == (code, param)
            assert model.sessions[0].items[0].audio_ms == 2000


async def test_audio_that_is_not_generated_yet_cannot_be_truncated(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        script = scripted([[Say("Ten seconds.", seconds=10.0)]])
        async with FakeModel(script) as model, raw_client(model.open_stream()) as client:
            await client.configure()
            await client.send("response.create")
            delta = await client.wait_for("response.output_audio.delta", count=3)
            generated_ms = len(client.audio()) // 8
            place = {"item_id": delta["item_id"], "content_index": 0}
            error = await error_for(client, "conversation.item.truncate", **place, audio_end_ms=generated_ms + 1)
            assert error["param"] == "audio_end_ms"
            await client.send("conversation.item.truncate", **place, audio_end_ms=generated_ms)
            await client.wait_for("conversation.item.truncated")


async def test_deleting_repairs_the_chain_and_the_deleted_is_gone(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            for item_id in ("a", "b"):
                await client.send("conversation.item.create", item={"id": item_id, **MESSAGE})
            await client.send("conversation.item.delete", item_id="b")
            assert (await client.wait_for("conversation.item.deleted"))["item_id"] == "b"
            await client.send("conversation.item.create", item={"id": "c", **MESSAGE})
            await client.wait_for("conversation.item.done", count=3)
            assert client.received("conversation.item.added")[-1]["previous_item_id"] == "a"
            gone = await error_for(client, "conversation.item.delete", item_id="b")
            assert gone["code"] == "item_delete_invalid_item_id"
            gone = await error_for(client, "conversation.item.retrieve", item_id="b")
            assert gone["code"] == "item_retrieve_invalid_item_id"


async def test_retrieving_a_turn_gives_its_audio(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            await client.configure(input=NO_VAD)
            await client.append(speech(0.5))
            await client.send("input_audio_buffer.commit")
            item_id = (await client.wait_for("input_audio_buffer.committed"))["item_id"]
            await client.send("conversation.item.retrieve", item_id=item_id)
            item = (await client.wait_for("conversation.item.retrieved"))["item"]
            assert base64.b64decode(item["content"][0]["audio"]) == speech(0.5)
