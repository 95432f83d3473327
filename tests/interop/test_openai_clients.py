"""OpenAI's own clients talk to our stand-in for its server: what they send is accepted, what they get is understood.

They live in an interpreter of their own, which AIVC_OPENAI_PYTHON names.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest
import trio

from aivc.testing.model import FakeModel, serve_port
from aivc.testing.phrases import phrase
from aivc.testing.script import CallTool, Context, Part, Say, decided
from aivc.testing.session import Session
from interop.program import open_program

pytestmark = pytest.mark.interop

VARIABLE = "AIVC_OPENAI_PYTHON"
IMPORT_SECONDS = 60.0
LONGEST_SECONDS = 60.0
FOLDER = Path(__file__).parent


@cache
def missing() -> str | None:
    python = os.environ.get(VARIABLE)
    if python is None:
        return f"{VARIABLE} names no Python interpreter that has openai and openai-agents (PyPI)"
    try:
        subprocess.run([python, "-c", "import openai, agents.realtime"], check=True, timeout=IMPORT_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        return f"{VARIABLE}: {error}"
    return None


def respond(context: Context) -> Sequence[Part]:
    """Greet; answer the first turn at length; use the tool in the second; then say what it gave."""
    if context.outputs:
        return [Say(f"We are open {context.outputs[0].output}.", seconds=1.0)]
    match context.turns:
        case 0:
            return [Say("Hello.", seconds=1.0)]
        case 1:
            return [Say("A long story.", seconds=20.0)]
        case _:
            return [CallTool("opening_hours")]


async def talk(model: FakeModel, folder: Path, script: str, *arguments: str) -> tuple[dict[str, Any], Session]:
    """Run one of the clients against this server: what it printed last, and what the server saw.

    Args:
        arguments: of the client, before the file of what the caller says; PORT stands for the server's.
    """
    caller = folder / "caller.ulaw"
    caller.write_bytes(phrase("caller_hours").octets)
    with trio.fail_after(LONGEST_SECONDS):
        async with trio.open_nursery() as nursery:
            port: int = await nursery.start(serve_port, model)
            filled = [argument.replace("PORT", str(port)) for argument in arguments]
            command: list[str | Path] = [os.environ[VARIABLE], FOLDER / script, *filled, caller]
            async with open_program(command, folder=folder) as program:
                status = await program.wait_exit()
            nursery.cancel_scope.cancel()
    assert status == 0, program.output
    report: dict[str, Any] = json.loads(program.output.splitlines()[-1])
    return report, model.sessions[0]


def check_the_interruption(session: Session) -> None:
    """One item was cut where the client said, and the response it belonged to was cancelled."""
    (truncation,) = session.received("conversation.item.truncate")
    (item,) = (item for item in session.items if item.id == truncation["item_id"])
    assert item.audio_ms == truncation["audio_end_ms"] > 0
    reasons = [event["response"]["status_details"] for event in session.sent("response.done")]
    assert {"type": "cancelled", "reason": "turn_detected"} in reasons


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
@pytest.mark.parametrize("dialect", ["ga", "beta"])
async def test_the_python_client_holds_a_conversation(dialect: Literal["ga", "beta"], tmp_path: Path) -> None:
    model = FakeModel(decided(respond), dialect=dialect)
    report, session = await talk(model, tmp_path, "openai_talk.py", "ws://127.0.0.1:PORT/v1", dialect)
    assert {"session.updated", "response.created", "response.done", "conversation.item.truncated"} <= {*report["known"]}
    assert report["invalid"] == []  # every event that its types know is as they say
    assert report["unknown"] in ([], ["response.mood.estimated"])  # made up, as clients must bear new ones
    assert report["errors"] == ["response_cancel_not_active"]
    assert [error["code"] for error in session.errors] == report["errors"]
    assert report["statuses"] == ["completed", "cancelled", "completed", "completed"]
    check_the_interruption(session)
    assert session.items[-1].text == "We are open from nine."


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
async def test_the_agents_sdk_holds_a_conversation(tmp_path: Path) -> None:
    url = "ws://127.0.0.1:PORT/v1/realtime?model=gpt-realtime-2.1"
    model = FakeModel(decided(respond), decorate=False)  # it calls every event that it does not know an error
    report, session = await talk(model, tmp_path, "agents_talk.py", url)
    assert report["errors"] == []
    assert session.errors == []
    check_the_interruption(session)
    assert (report["counts"]["tool_start"], report["counts"]["tool_end"]) == (1, 1)
    assert session.items[-1].text == "We are open from nine."
