"""A telephone talks to Hugging Face's speech-to-speech server: one that speaks GA, and is not OpenAI's nor ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from aivc.testing.phrases import phrase
from aivc.testing.voice import silence
from interop import baresip, huggingface, sipp, wire
from interop.conversing import needs
from interop.huggingface import open_server
from interop.service_process import ServiceProcess, serving
from interop.sipp import played
from interop.sipp_scenario import (
    ack_of_refusal,
    answered,
    expect,
    expect_request,
    in_dialog,
    invite,
    offer,
    pause,
    scenario,
    speak,
)
from interop.speech import encoded, frames_in_order, frames_of, read_wav, without_negative_zero
from interop.wire import open_wire

pytestmark = [pytest.mark.interop, needs(huggingface), needs(sipp)]

LONGEST_SECONDS = 60.0
HOURS = "from nine to five"
TOOLS = f'''
from aivc import tool


@tool
def opening_hours(day: str) -> str:
    """Tell when the shop is open."""
    return "{HOURS}"
'''
TALK = [("model", False), ("caller", False), ("model", True), ("caller", False), ("model", False)]
BUSY_SECONDS = 2.0
HEARD_SECONDS = 4.0  # of the call, after the greeting was silenced
STORY_HEARD_SECONDS = 0.5
JITTER_BUFFER_FRAMES = 5
GREETING_SECONDS = 1.5  # from the answer until it was heard
STORY_SECONDS = 2.2  # from the end of the question: the pause that ends a turn, and some of the story


def variables(folder: Path) -> dict[str, str]:
    tools = folder / "tools.py"
    tools.write_text(TOOLS)
    return {
        "OPENAI_WELCOME_MSG": "Greet the caller.",
        "OPENAI_TOOLS": str(tools),
        "AIVC_RECORDS_DIRECTORY": str(folder / "records"),
    }


def record_in(folder: Path) -> dict[str, Any]:
    (file,) = (folder / "records").glob("*.jsonl")
    record: dict[str, Any] = json.loads(file.read_text())
    return record


def caller(folder: Path) -> Path:
    """A question once the greeting was heard, and another in the middle of the answer."""
    file = folder / "caller.PCMU"
    parts = [silence(GREETING_SECONDS, "PCMU"), phrase("caller_hours").octets]
    parts += [silence(STORY_SECONDS, "PCMU"), phrase("caller_goodbye").octets, silence(8.0, "PCMU")]
    file.write_bytes(b"".join(parts))
    return file


@needs(wire)
@pytest.mark.parametrize("interruption", ["cut", "confirm"])  # the server cancels the response, or we do
async def test_greeting_turn_interruption_tool_and_goodbye(tmp_path: Path, interruption: str) -> None:
    steps = scenario(answered("PCMU"), speak(caller(tmp_path), "PCMU"), expect_request("BYE"))
    with trio.fail_after(LONGEST_SECONDS):
        async with (
            open_wire() as listener,
            open_server("talk", tmp_path) as server,
            serving(server.url, **variables(tmp_path), AIVC_OPENAI_INTERRUPTION=interruption) as service,
        ):
            assert await played(service.uri(), steps, tmp_path / "sipp") == ""
            await service.wait_log("call.ended")
            (report,) = await server.wait_reports(1)
    assert listener is not None
    at_phone, at_service = listener.media_of(service.port)
    heard = b"".join(packet.payload for packet in listener.rtp(at_service, at_phone))
    record = record_in(tmp_path)
    (cut,) = record["interruptions"]
    story = phrase("model_hours").octets[: 8 * cut["heard_ms"]]
    assert all(said in heard for said in (phrase("model_go_on").octets, story, phrase("model_goodbye").octets))
    assert phrase("model_hours").octets[: 8 * (cut["heard_ms"] + 100)] not in heard
    assert 1000 < cut["heard_ms"] < cut["received_ms"]
    assert [(line["speaker"], line["interrupted"]) for line in record["transcript"]] == TALK
    assert [line["text"] for line in record["transcript"] if line["speaker"] == "caller"] == ["Turn 1.", "Turn 2."]
    assert [tool["name"] for tool in record["tools"]] == ["opening_hours", "terminate_call"]
    assert [item["output"] for item in report["items"] if item["type"] == "function_call_output"] == [HOURS]
    assert (report["errors"], record["errors"]) == ({}, {})
    assert (record["ending"], record["sessions"], record["dropped"]["protocol_violations"]) == ("model_hung_up", 1, 0)


@needs(baresip)
async def test_a_telephone_that_speaks_at_once_silences_the_greeting_and_is_answered(tmp_path: Path) -> None:
    with trio.fail_after(LONGEST_SECONDS):
        async with (
            open_server("talk", tmp_path) as server,
            serving(server.url, **variables(tmp_path)) as service,
            baresip.call(service.uri(), "PCMU", made(tmp_path / "baresip"), hangs_up=True) as phone,
        ):
            await service.wait_log("response.interrupted")
            await trio.sleep(HEARD_SECONDS)
            await phone.hang_up()
            assert await phone.wait_over() == 0
            await service.wait_log("call.ended")
            (report,) = await server.wait_reports(1)
    assert phone.recording is not None
    story = without_negative_zero(phrase("model_hours").octets[: round(8000 * STORY_HEARD_SECONDS)], "PCMU")
    frames = frames_of(story)
    assert frames_in_order(frames, encoded(read_wav(phone.recording()), "PCMU")) >= len(frames) - JITTER_BUFFER_FRAMES
    record = record_in(tmp_path)
    assert (report["errors"], record["errors"], record["ending"]) == ({}, {}, "caller_hung_up")


async def test_a_server_without_room_refuses_the_call_and_has_room_when_the_other_is_over(tmp_path: Path) -> None:
    talk = scenario(answered("PCMU"), pause(BUSY_SECONDS), in_dialog("BYE", 2), expect(200))
    refused = scenario(invite(offer("PCMU")), expect(100), expect(180), expect(503), ack_of_refusal())
    with trio.fail_after(LONGEST_SECONDS):
        async with (
            open_server("talk", tmp_path) as server,
            serving(server.url, **variables(tmp_path)) as service,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(check_played, service, talk, tmp_path / "first")
            await service.wait_log("call.answered")
            await check_played(service, refused, tmp_path / "second")
            line = await service.wait_log("call.ended", ending="realtime_refused")
            await server.wait_reports(1)
            await check_played(service, talk, tmp_path / "third")
            await server.wait_reports(2)
    assert "session_limit_reached" in line["detail"]


async def test_the_log_tells_of_16_bit_samples_where_g711_was_agreed(tmp_path: Path) -> None:
    steps = scenario(answered("PCMU"), pause(BUSY_SECONDS), in_dialog("BYE", 2), expect(200))
    with trio.fail_after(LONGEST_SECONDS):
        async with (
            open_server("pcm", tmp_path) as server,
            serving(server.url, **variables(tmp_path)) as service,
        ):
            await check_played(service, steps, tmp_path / "sipp")
            await service.wait_log("call.ended")
            errors = service.log("realtime.error")
    record = record_in(tmp_path)
    assert [(line["level"], line["code"]) for line in errors] == [("warning", "not_g711")]
    assert (record["ending"], record["dropped"]["protocol_violations"]) == ("caller_hung_up", 0)


async def test_a_session_that_the_server_closes_goes_on_in_another(tmp_path: Path) -> None:
    steps = scenario(answered("PCMU"), speak(caller(tmp_path), "PCMU"), expect_request("BYE"))
    with trio.fail_after(LONGEST_SECONDS):
        async with (
            open_server("closes", tmp_path) as server,
            serving(server.url, **variables(tmp_path)) as service,
        ):
            await check_played(service, steps, tmp_path / "sipp")
            await service.wait_log("call.ended")
            _, report = await server.wait_reports(2)
    record = record_in(tmp_path)
    assert [(item["type"], item.get("role")) for item in report["items"][:2]] == [
        ("message", "assistant"),
        ("message", "user"),
    ]
    assert report["errors"] == {}
    assert (record["ending"], record["sessions"]) == ("model_hung_up", 2)


async def check_played(service: ServiceProcess, steps: str, folder: Path) -> None:
    assert await played(service.uri(), steps, folder) == ""


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder
