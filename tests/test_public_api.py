"""The public interface, and that one call can be served with all that the service gives to its own."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_type_hints

import attrs
import pytest
import trio
from paper_leg import paper_leg

import aivc
import aivc.testing
from aivc.nursery.record import What
from aivc.sip.leg import LegEvent

PUBLIC = {
    "AckMissing",
    "AdminSettings",
    "Agent",
    "Answered",
    "AudioAgreement",
    "CallControl",
    "CallEvent",
    "CallOver",
    "CallRecord",
    "CallerSaid",
    "CallerStartedSpeaking",
    "CallerStoppedSpeaking",
    "Cancelled",
    "Chosen",
    "ConfigError",
    "Consultation",
    "ConsultationFailed",
    "Cut",
    "DigitEntry",
    "DigitPressed",
    "DigitsEntered",
    "DigitsFailed",
    "DtmfSettings",
    "Ended",
    "Ending",
    "EngineSettings",
    "FanOut",
    "FrontEnd",
    "HttpTool",
    "HungUp",
    "Interrupted",
    "Leg",
    "Loaded",
    "LogSettings",
    "McpServer",
    "MediaChanged",
    "ModelAudible",
    "ModelSaid",
    "ModelStartedResponse",
    "Observer",
    "OpenAISettings",
    "OpenSips",
    "OpenSipsSettings",
    "PortPool",
    "Prompts",
    "Quality",
    "RealtimeError",
    "RecordFile",
    "Recorder",
    "RecorderSettings",
    "RealtimeSettings",
    "RecordsSettings",
    "ReferOutcome",
    "RegistrationStatus",
    "Rejection",
    "ResponseFinished",
    "Route",
    "Routes",
    "RtpCounters",
    "RtpSettings",
    "Secret",
    "Service",
    "ServiceSettings",
    "SessionExpired",
    "SessionLost",
    "SessionReplaced",
    "Settings",
    "SignallingFailed",
    "SipRegister",
    "SipSettings",
    "SipUser",
    "SoundsSettings",
    "Status",
    "Subscription",
    "TaskClock",
    "Tool",
    "ToolContext",
    "ToolError",
    "ToolFileError",
    "ToolFinished",
    "ToolOver",
    "ToolRegistry",
    "ToolRun",
    "ToolStarted",
    "ToolsSettings",
    "TransferBegan",
    "TransferFailed",
    "TransferOver",
    "TransferRun",
    "TurnLatency",
    "UsageTotals",
    "UserAgent",
    "Utterance",
    "__version__",
    "choose_agent",
    "load",
    "load_prompts",
    "load_registry",
    "load_routes",
    "load_tools",
    "open_connections",
    "open_heartbeat",
    "open_opensips",
    "open_record_file",
    "open_recorder",
    "open_service",
    "open_user_agent",
    "run_service",
    "serve_call",
    "tool",
}


def test_the_public_names_are_these_and_no_others() -> None:
    assert set(aivc.__all__) == PUBLIC


def test_every_public_name_exists_and_says_what_it_is() -> None:
    for module in (aivc, aivc.testing):
        for name in module.__all__:
            thing = getattr(module, name)
            if callable(thing):
                assert thing.__doc__, f"{module.__name__}.{name} has no docstring"


@pytest.mark.parametrize("union", [What, LegEvent], ids=["what observers hear", "what a leg tells"])
def test_whoever_matches_on_events_finds_all_of_them_here(union: Any) -> None:
    assert [kind for kind in get_args(union) if getattr(aivc, kind.__name__, None) is not kind] == []


def test_whatever_the_test_opensips_shows_can_be_named() -> None:
    shown = vars(aivc.testing.FakeOpenSips)
    hints = [
        get_type_hints(each.fget if isinstance(each, property) else each)["return"]
        for each in (shown["subscribers"], shown["wait_session"], shown["wait_told"])
    ]
    assert hints == [list[aivc.testing.EventSubscriber], aivc.testing.UaSession, list[aivc.testing.MiCommand]]


def test_every_section_of_the_configuration_can_be_made_in_python() -> None:
    sections = attrs.asdict(aivc.Settings(), recurse=False).values()
    names = {type(section).__name__ for section in sections} - {"tuple"}
    assert names <= set(aivc.__all__)
    assert len(names) == 14


CONFIG = """
[openai]
model = "gpt-realtime-2.1"
url = "ws://model.test/v1/realtime"

[agents.night]
match = ["9.*"]
welcome_message = "Good evening."

[rtp]
bind_ip = "192.0.2.1"

[records]
directory = "records"

[sounds]
failure = "sorry.ulaw"
"""


async def test_one_call_can_have_what_the_service_gives_to_its_own(tmp_path: Path) -> None:
    """With public names alone: the TOML file, the agent for the number, its tools, sounds and the file of records."""
    (tmp_path / "aivc.toml").write_text(CONFIG.replace('"records"', json.dumps(str(tmp_path / "records"))))
    (tmp_path / "sorry.ulaw").write_bytes(b"\x10" * 800)
    aivc.testing.VirtualNetwork().enable()
    loaded = aivc.load(str(tmp_path / "aivc.toml"), {})
    leg = paper_leg()
    leg.dialled = "911"
    chosen = aivc.choose_agent(loaded.settings, leg.dialled, leg.caller)
    assert isinstance(chosen, aivc.Chosen)
    settings, tools = chosen.settings, aivc.load_registry(chosen.settings.openai, chosen.settings.tools.http)
    prompts = aivc.load_prompts(settings.sounds)
    model = aivc.testing.FakeModel(
        aivc.testing.scripted([[aivc.testing.CallTool("terminate_call")]]), require_key=False
    )
    with trio.fail_after(10):
        async with model, aivc.open_record_file(settings.records) as file:
            assert file is not None
            serve = partial(aivc.serve_call, connect=aivc.testing.connect_to(model), observer=aivc.FanOut((file,)))
            record = await serve(leg, settings, tools=tools, prompts=prompts, agent=chosen.name)
    assert (record.ending, record.agent) == (aivc.Ending.MODEL_HUNG_UP, "night")
    (kept,) = (tmp_path / "records").iterdir()
    assert json.loads(kept.read_text())["agent"] == "night"
