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
from interop.sipp_scenario import answered, expect, expect_request, in_dialog, pause, scenario, speak
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


async def test_greeting_turn_interruption_tool_and_goodbye(tmp_path: Path) -> None:
    steps = scenario(answered("PCMU"), speak(caller(tmp_path), "PCMU"), expect_request("BYE"))
    with trio.fail_after(LONGEST_SECONDS):
        async with (
            open_wire() as listener,
            open_server("talk", tmp_path) as server,
            serving(server.url, **variables(tmp_path)) as service,
        ):
            fault = await played(service.uri(), steps, tmp_path / "sipp")
            await service.wait_log("call.ended")
            (report,) = await server.wait_reports(1)
            print(service.program.output)
    record = record_in(tmp_path)
    print(json.dumps(record, indent=1))
    print(json.dumps(report, indent=1))
    print(server.program.output)
    assert fault == ""
    assert 0
