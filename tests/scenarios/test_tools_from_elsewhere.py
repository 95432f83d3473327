"""Tools that are no trio code in whole calls: a file of the CE in a thread with asyncio, and a server by HTTP.

Both need a real clock, so their seconds are few.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio
from settings_server import Answer, SettingsServer

from aivc import Ending
from aivc.config.settings import HttpTool, Secret, Settings, ToolsSettings
from aivc.testing import CallTool, Say, decided, scripted, speech
from aivc.testing.script import Context, Part
from scenarios.conftest import Dialect
from scenarios.test_settings_while_it_rings import RealTcp
from scenarios.test_slow_tools import ANSWER, outputs
from scenarios.world import DELAY, SETTINGS, changed, open_world, wait_over

pytestmark = pytest.mark.parametrize("any_schedule", [0, 7], indirect=True)  # one for each dialect

SPEED: Final[Mapping[str, Any]] = {"speed": 100.0, "think_ms": 20.0}
KEY: Final = "a key of ours"
GOODBYE: Final = speech(0.2, pitch_hz=210.0, seed=51)

CE_FILE: Final = """
import asyncio
import json

FUNCTIONS = [
    {
        "type": "function",
        "name": "lookup",
        "description": "Look a name up.",
        "parameters": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    },
    {"type": "function", "name": "finish", "description": "End it.", "parameters": {"type": "object"}},
]


async def lookup(engine, arguments):
    name = json.loads(arguments)["name"]
    await asyncio.sleep(0.05)
    text = {"type": "input_text", "text": f"{name} is an old friend."}
    item = {"type": "message", "role": "user", "content": [text]}
    asyncio.create_task(engine.ws.send(json.dumps({"type": "conversation.item.create", "item": item})))
    return {"name": name, "number": 4711}


def finish(engine, arguments):
    engine.terminate_call()

"""


@pytest.fixture
def with_file(tmp_path: Path) -> Settings:
    file = tmp_path / "ce.py"
    file.write_text(CE_FILE)
    return changed(openai={"tools": (str(file),)})


async def test_a_file_of_the_ce_answers_and_sends_an_event(dialect: Dialect, with_file: Settings) -> None:
    script = scripted([[CallTool("lookup", {"name": "Alice"})], [Say("Found.", audio=ANSWER)]])
    async with open_world(script, settings=with_file, dialect=dialect, tools=None, **SPEED) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
        (output,) = outputs(world.session)
        assert json.loads(output) == {"name": "Alice", "number": 4711}
        assert ("user", "Alice is an old friend.") in world.session.history
    assert [(run.name, run.outcome) for run in world.record.tools] == [("lookup", "ok")]


async def test_a_file_of_the_ce_hangs_up_when_the_goodbye_was_heard(dialect: Dialect, with_file: Settings) -> None:
    script = scripted([[Say("Goodbye.", audio=GOODBYE), CallTool("finish")]])
    async with open_world(script, settings=with_file, dialect=dialect, tools=None, **SPEED) as world:
        async with world.dial() as call:
            await call.wait_hung_up()
        assert call.handset.speech_heard() == GOODBYE
        assert outputs(world.session) == []
    assert world.record.ending is Ending.MODEL_HUNG_UP


@pytest.mark.parametrize("replies", ["ok", "stalls"])
async def test_a_tool_may_be_an_http_request(dialect: Dialect, replies: str) -> None:
    pytest.importorskip("httpx2", reason="the extra http is not installed")
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    answer = Answer({"open": "nine to six"}) if replies == "ok" else Answer(stalls=True)
    server = SettingsServer(answer, listener.socket.getsockname()[1])
    schema = {"type": "object", "properties": {"day": {"type": "string"}}, "required": ["day"]}
    hours = HttpTool(
        name="opening_hours",
        description="When the shop is open.",
        url=server.url,
        schema=schema,
        secret=Secret(KEY),
        seconds=0.3,
    )
    settings = attrs.evolve(SETTINGS, tools=ToolsSettings(http=(hours,)))

    def respond(context: Context) -> list[Part]:
        return [Say("So.", audio=ANSWER)] if context.outputs else [CallTool("opening_hours", {"day": "Monday"})]

    opened = open_world(
        decided(respond), settings=settings, dialect=dialect, tools=None, network=RealTcp(delay=DELAY), **SPEED
    )
    async with opened as world, trio.open_nursery() as serving:
        serving.start_soon(trio.serve_listeners, server.serve, [listener])
        async with world.dial() as call:
            await call.handset.wait_speech()
        (output,) = outputs(world.session)
        (asked, *_) = server.requests
        await wait_over(world)
        serving.cancel_scope.cancel()
    (run,) = world.record.tools
    if replies == "ok":
        assert json.loads(output) == {"open": "nine to six"}
        assert run.outcome == "ok"
    else:
        assert "error" in json.loads(output)
        assert run.outcome == "error"
        assert run.duration_seconds == pytest.approx(0.3, abs=0.2)
    assert json.loads(asked.body) == {"day": "Monday"}
    head = dict(line.split(": ", 1) for line in asked.head.lower().splitlines()[1:])
    signed = head["x-aivc-timestamp"].encode() + b"." + asked.body
    assert head["x-aivc-signature"] == f"sha256={hmac.new(KEY.encode(), signed, hashlib.sha256).hexdigest()}"
