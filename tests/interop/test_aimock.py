"""A telephone talks to aimock: events that are nearly those of OpenAI, and not one octet of audio."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from aivc.testing.schema import Json
from interop import aimock, sipp
from interop.aimock import open_aimock
from interop.conversing import needs
from interop.service_process import LogLine, serving
from interop.sipp import played
from interop.sipp_scenario import (
    ack_of_refusal,
    answered,
    expect,
    expect_request,
    info_key,
    invite,
    offer,
    pause,
    scenario,
)

pytestmark = [pytest.mark.interop, needs(aimock), needs(sipp)]

LONGEST_SECONDS = 40.0
GREETING_SECONDS = 2.0  # a second of which is the pause before a failed response is asked for again
HOURS = "from nine to five"
TOOLS = f'''
from aivc import tool


@tool
def opening_hours(day: str) -> str:
    """Tell when the shop is open."""
    return "{HOURS}"
'''
GREETS: Json = {"systemMessage": "Greet the caller."}
PRESSED: Json = {"userMessage": "the keys 42"}
FAILURE: Json = {
    "match": GREETS | {"sequenceIndex": 0},
    "response": {"error": {"message": "Busy.", "type": "server_error", "code": "server_error"}, "status": 500},
}
GREETING: Json = {"match": GREETS | {"sequenceIndex": 1}, "response": {"content": "Hello."}}
LOOKS_UP: Json = {
    "match": PRESSED | {"hasToolResult": False},
    "response": {"toolCalls": [{"name": "opening_hours", "arguments": '{"day": "Monday"}'}]},
}
SAYS_GOODBYE: Json = {
    "match": PRESSED | {"hasToolResult": True},
    "response": {"content": f"We are open {HOURS}.", "toolCalls": [{"name": "terminate_call", "arguments": "{}"}]},
}


async def call(fixtures: Sequence[Json], folder: Path) -> tuple[dict[str, Any], list[LogLine]]:
    """One call in which the caller presses keys: its record, and the errors in the log."""
    tools = folder / "tools.py"
    tools.write_text(TOOLS)
    variables = {
        "OPENAI_WELCOME_MSG": "Greet the caller.",
        "OPENAI_TOOLS": str(tools),
        "AIVC_RECORDS_DIRECTORY": str(folder / "records"),
    }
    keys = "".join(info_key(n, key) + expect(200) for n, key in enumerate("42#", 2))
    steps = scenario(answered("PCMU", keys=True), pause(GREETING_SECONDS), keys, expect_request("BYE"))
    with trio.fail_after(LONGEST_SECONDS):
        async with open_aimock(fixtures, folder) as url, serving(url, **variables) as service:
            assert await played(service.uri(), steps, folder / "sipp") == ""
            await service.wait_log("call.ended")
            errors = service.log("realtime.error")
    (file,) = (folder / "records").glob("*.jsonl")
    record: dict[str, Any] = json.loads(file.read_text())
    return record, errors


def check_talk(record: Json) -> None:
    """The tool was used, its output told, and the call ended as the model wished."""
    assert [(tool["name"], tool["outcome"]) for tool in record["tools"]] == [
        ("opening_hours", "ok"),
        ("terminate_call", "ok"),
    ]
    assert (record["ending"], record["dropped"]["protocol_violations"]) == ("model_hung_up", 0)


async def test_a_greeting_that_failed_is_asked_for_again_and_answers_in_writing_are_told_of_once(
    tmp_path: Path,
) -> None:
    record, errors = await call([FAILURE, GREETING, LOOKS_UP, SAYS_GOODBYE], tmp_path)
    check_talk(record)
    spoken = [line for line in record["transcript"] if line["speaker"] == "model"]
    assert [line["text"] for line in spoken] == ["Hello.", f"We are open {HOURS}."]
    assert {line["heard_ms"] for line in spoken} == {0}
    assert record["errors"] == {"server_error": 1, "text_only": 2}
    assert [(line["level"], line["code"]) for line in errors] == [("warning", "server_error"), ("warning", "text_only")]


async def test_a_greeting_that_fails_twice_is_given_up_and_the_talk_goes_on(tmp_path: Path) -> None:
    record, _ = await call([LOOKS_UP, SAYS_GOODBYE], tmp_path)
    check_talk(record)
    assert record["errors"] == {"no_fixture_match": 2, "text_only": 1}


async def test_the_beta_dialect_is_refused_for_what_it_is(tmp_path: Path) -> None:
    steps = scenario(invite(offer("PCMU")), expect(100), expect(180), expect(503), ack_of_refusal())
    with trio.fail_after(LONGEST_SECONDS):
        async with open_aimock([], tmp_path) as url, serving(url, OPENAI_DIALECT="beta") as service:
            assert await played(service.uri(), steps, tmp_path / "sipp") == ""
            line = await service.wait_log("call.ended")
    assert "beta_api_shape_disabled" in line["detail"]
