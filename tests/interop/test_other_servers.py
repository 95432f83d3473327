"""The service talks to a Realtime server that is not ours: LiteLLM's proxy, as a relay in front of our stand-in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from aivc.demo.simulator import open_simulator
from aivc.testing import open_phone
from aivc.testing.model import FakeModel
from aivc.testing.phrases import phrase
from aivc.testing.script import CallTool, Context, Part, Say, decided
from interop import litellm
from interop.conversing import Scene, outputs_told
from interop.litellm import open_litellm
from interop.service_process import serving

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(litellm.missing() is not None, reason=str(litellm.missing())),
]

LONGEST_SECONDS = 60.0
HEARD_SECONDS = 1.0  # of the story, before the caller interrupts it
HOURS = "from nine to five"
TOOLS = f'''
from aivc import tool


@tool
def opening_hours(day: str) -> str:
    """Tell when the shop is open."""
    return "{HOURS}"
'''


def shop_assistant(context: Context) -> Sequence[Part]:
    """Greets; tells a long story, to be interrupted; looks something up; says it and hangs up."""
    if context.outputs:
        return [Say(f"We are open {context.outputs[0].output}. Goodbye.", seconds=1.0), CallTool("terminate_call")]
    parts: list[list[Part]] = [
        [Say("Hello.", seconds=0.6)],
        [Say("A long story.", seconds=20.0)],
        [CallTool("opening_hours", {"day": "Monday"})],
    ]
    return parts[context.turns]


async def test_greeting_turn_interruption_and_tool_through_litellm(tmp_path: Path) -> None:
    model, records = FakeModel(decided(shop_assistant)), tmp_path / "records"
    tools = tmp_path / "tools.py"
    tools.write_text(TOOLS)
    variables = {"OPENAI_WELCOME_MSG": "Greet the caller.", "OPENAI_TOOLS": str(tools)}
    with trio.fail_after(LONGEST_SECONDS):
        async with (
            open_simulator(model) as upstream,
            open_litellm(upstream, tmp_path) as relay,
            serving(relay, AIVC_RECORDS_DIRECTORY=str(records), **variables) as service,
            open_phone("127.0.0.1") as phone,
            phone.dial(service.uri()) as call,
        ):
            session = await model.wait_session()
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.5)
            for text in ("caller_hours", "caller_goodbye"):
                call.handset.say(phrase(text).octets)
                await call.handset.wait_said()
                await call.handset.wait_speech(HEARD_SECONDS)
            await call.wait_hung_up()
            await service.wait_log("call.ended")
    record = Scene(service, model, records, None).record
    (truncation,) = session.received("conversation.item.truncate")
    (cut,) = record["interruptions"]
    assert session.errors == []
    assert outputs_told(session)[0] == HOURS
    assert truncation["audio_end_ms"] == cut["heard_ms"] >= 1000 * HEARD_SECONDS
    assert (record["transcript"][0]["speaker"], record["transcript"][0]["text"]) == ("model", "Hello.")
    assert [tool["name"] for tool in record["tools"]] == ["opening_hours", "terminate_call"]
    assert (record["ending"], record["errors"]) == ("model_hung_up", {})
    assert record["dropped"]["protocol_violations"] == 0
