"""What the fake model makes of the settings of a session: each is checked, and does what it says."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aivc.testing.client import RawClient, raw_client
from aivc.testing.faults import Faults
from aivc.testing.model import FakeModel
from aivc.testing.phrases import phrase
from aivc.testing.script import Say, scripted
from aivc.testing.voice import silence, speech

Json = dict[str, Any]
TOOL: Json = {"type": "function", "name": "hours"}
MCP: Json = {"type": "mcp", "server_label": "shop", "server_url": "https://mcp.example.com"}


async def error_for(client: RawClient, event_type: str, **fields: object) -> Json:
    before = len(client.received("error"))
    await client.send(event_type, **fields)
    error: Json = (await client.wait_for("error", count=before + 1))["error"]
    return error


def with_input(**fields: object) -> Json:
    return {"type": "realtime", "audio": {"input": fields}}


def with_turn_detection(**members: object) -> Json:
    return with_input(turn_detection=members)


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        (with_input(noise_reduction={"type": "none"}), "invalid_value", "session.audio.input.noise_reduction.type"),
        (
            with_input(transcription={"model": "gpt-transcribe", "language": "English"}),
            "invalid_value",
            "session.audio.input.transcription.language",
        ),
        (
            with_input(transcription={"model": "gpt-5-transcribe"}),
            "invalid_value",
            "session.audio.input.transcription.model",
        ),
        (
            with_input(transcription={"model": "gpt-4o-transcribe-diarize", "prompt": "Ms Brown"}),
            "invalid_value",
            "session.audio.input.transcription.prompt",
        ),
        (
            with_turn_detection(type="semantic_vad", eagerness="eager"),
            "invalid_value",
            "session.audio.input.turn_detection.eagerness",
        ),
        (
            with_turn_detection(type="server_vad", idle_timeout_ms=30001),
            "integer_above_max_value",
            "session.audio.input.turn_detection.idle_timeout_ms",
        ),
        (
            {"type": "realtime", "audio": {"output": {"speed": 0.2}}},
            "decimal_below_min_value",
            "session.audio.output.speed",
        ),
        (
            {"type": "realtime", "tools": [TOOL], "tool_choice": {"type": "function", "name": "prices"}},
            "invalid_value",
            "session.tool_choice",
        ),
        (
            {"type": "realtime", "tools": [{"type": "mcp", "server_label": "shop"}]},
            "missing_required_parameter",
            "session.tools[0].server_url",
        ),
        (
            {"type": "realtime", "tools": [{**MCP, "require_approval": "sometimes"}]},
            "invalid_value",
            "session.tools[0].require_approval",
        ),
        (
            {"type": "realtime", "tools": [{**MCP, "allowed_tools": "find"}]},
            "invalid_type",
            "session.tools[0].allowed_tools",
        ),
    ],
)
async def test_a_setting_out_of_range_is_refused(
    session: Json, code: str, param: str, autojump_clock: MockClock
) -> None:
    with trio.fail_after(5):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            error = await error_for(client, "session.update", session=session)
            assert (error["code"], error["param"]) == (code, param)


async def test_a_chosen_function_must_be_offered_to_the_response_too(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            await client.configure(tools=[TOOL], tool_choice={"type": "function", "name": "hours"})
            error = await error_for(client, "response.create", response={"tools": []})
            assert error["param"] == "response.tool_choice"


async def test_eagerness_decides_how_soon_a_turn_is_over(autojump_clock: MockClock) -> None:
    ends = []
    with trio.fail_after(60):
        async with FakeModel() as model:
            for eagerness in ("high", "medium", "auto", "low"):
                async with raw_client(model.open_stream()) as client:
                    await client.configure(input={"turn_detection": {"type": "semantic_vad", "eagerness": eagerness}})
                    await client.append(silence(0.5) + speech(1.0) + silence(2.0))
                    ends.append((await client.wait_for("input_audio_buffer.speech_stopped"))["audio_end_ms"])
    high, medium, usual, low = ends
    assert high < medium == usual < low


async def test_a_turn_goes_on_under_a_new_turn_detection(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            await client.configure()
            await client.append(silence(0.5) + speech(0.5))
            await client.wait_for("input_audio_buffer.speech_started")
            update = with_turn_detection(type="server_vad", silence_duration_ms=600, idle_timeout_ms=5000)
            await client.send("session.update", session=update)
            await client.append(speech(0.5) + silence(1.0))
            stopped = await client.wait_for("input_audio_buffer.speech_stopped")
            assert stopped["audio_end_ms"] == 2100
            assert len(client.received("input_audio_buffer.speech_started")) == 1


async def test_a_time_out_that_is_taken_back_never_comes(autojump_clock: MockClock) -> None:
    with trio.fail_after(60):
        script = scripted([[Say("Hello.")], [Say("Are you there?")]])
        async with FakeModel(script) as model, raw_client(model.open_stream()) as client:
            await client.configure(input={"turn_detection": {"type": "server_vad", "idle_timeout_ms": 5000}})
            await client.send("response.create")
            await client.wait_for("response.done")
            update = with_turn_detection(type="server_vad", idle_timeout_ms=None)
            await client.send("session.update", session=update)
            await client.speak(silence(20.0))
            assert client.received("input_audio_buffer.timeout_triggered") == []


@pytest.mark.parametrize(
    ("model_name", "kind"),
    [("whisper-1", "duration"), ("gpt-realtime-whisper", "duration"), ("gpt-transcribe", "tokens")],
)
async def test_a_transcript_has_its_price(model_name: str, kind: str, autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            transcription = {"model": model_name, "prompt": "Words that may come."}
            await client.configure(input={"transcription": transcription})
            asked = phrase("caller_hours")
            await client.append(silence(0.5) + asked.octets + silence(0.5))
            usage = (await client.wait_for("conversation.item.input_audio_transcription.completed"))["usage"]
            assert usage["type"] == kind
            if kind == "tokens":
                details = usage["input_token_details"]
                assert usage["input_tokens"] == details["audio_tokens"] + details["text_tokens"]
                assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
                assert details["text_tokens"] > 0
            assert model.sessions[0].history[0] == ("user", asked.text)


@pytest.mark.parametrize("fails", [False, True])
async def test_the_tools_of_a_remote_server_are_listed_once(fails: bool, autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        async with FakeModel(faults=Faults(mcp_fails=fails)) as model, raw_client(model.open_stream()) as client:
            for instructions in ("Be brief.", "Be kind."):
                await client.configure(tools=[TOOL, MCP], instructions=instructions)
            await trio.sleep(5)
            heard = [name for name in client.types if name.startswith("mcp_")]
            assert heard == ["mcp_list_tools.in_progress", f"mcp_list_tools.{'failed' if fails else 'completed'}"]
            assert model.sessions[0].errors == []


@pytest.mark.parametrize(
    ("session", "code"),
    [
        ({"tools": [MCP]}, "invalid_value"),
        ({"turn_detection": {"type": "server_vad", "idle_timeout_ms": 6000}}, "unknown_parameter"),
        ({"input_audio_noise_reduction": {"type": "loud"}}, "invalid_value"),
        ({"input_audio_transcription": {"model": "whisper-1", "languages": ["en"]}}, "unknown_parameter"),
        ({"speed": 1.6}, "decimal_above_max_value"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "prices"}}, "invalid_value"),
    ],
)
async def test_the_beta_refuses_what_only_ga_has(session: Json, code: str, autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        beta = [("OpenAI-Beta", "realtime=v1")]
        async with FakeModel(dialect="beta") as model, raw_client(model.open_stream(), headers=beta) as client:
            assert (await error_for(client, "session.update", session=session))["code"] == code
