"""Which agent answers a call, and with which tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
from log_lines import fields_of, lines_of
from paper_leg import PaperLeg, paper_leg

from aivc.config.settings import Agent, EngineSettings, OpenAISettings, Settings
from aivc.nursery.routing import Route, Routes, is_disabled, load_routes
from aivc.realtime.tools import ToolFileError, ToolRegistry, load_tools
from aivc.sip.leg import Rejection

TOOL_FILE: Final = '''
from aivc.realtime.tools import tool

@tool
def {name}() -> str:
    """Say when."""
    return "now"
'''


def agent(name: str, **openai: Any) -> Agent:
    return Agent(name=name, openai=OpenAISettings(**openai))


def leg(dialled: str, caller: str = "sip:alice@192.0.2.9") -> PaperLeg:
    return attrs.evolve(paper_leg(), dialled=dialled, caller=caller)


def served(settings: Settings, dialled: str, caller: str = "sip:alice@192.0.2.9") -> str | Rejection | None:
    """The agent that answers, or the refusal."""
    found = load_routes(settings).route(leg(dialled, caller))
    return found.agent if isinstance(found, Route) else found


def test_the_first_agent_that_wants_a_call_gets_it_with_its_own_settings() -> None:
    settings = Settings(
        openai=OpenAISettings(voice="marin"),
        agents=(agent("sales", match=("1...",), voice="cedar"), agent("support", match=("12..",))),
    )
    routes = load_routes(settings)
    found = routes.route(leg("1234"))
    assert isinstance(found, Route)
    assert (found.agent, found.settings.openai.voice) == ("sales", "cedar")
    found = routes.route(leg("2000"))
    assert isinstance(found, Route)
    assert (found.agent, found.settings) == (None, settings)


def test_a_number_that_nobody_wants_does_not_exist() -> None:
    settings = Settings(openai=OpenAISettings(match=("1000",)), agents=(agent("sales", match=("2000",)),))
    assert served(settings, "1000") is None
    assert served(settings, "2000") == "sales"
    assert served(settings, "3000") == Rejection(404, "no agent for this number", None, "no_agent")


def test_an_agent_may_choose_its_callers() -> None:
    settings = Settings(agents=(agent("german", match_from=("[+]49.*",)),))
    assert served(settings, "1000", "sip:+4930123@example.com") == "german"
    assert served(settings, "1000", "sip:+1555@example.com") is None


def test_an_agent_that_is_disabled_refuses_its_calls_and_no_others() -> None:
    settings = Settings(agents=(agent("sales", match=("1000",), disable=True),))
    assert served(settings, "1000") == Rejection(503, "agents.sales.disable is set", 10, "disabled")
    assert served(settings, "2000") is None
    assert not is_disabled(settings)


def test_openai_may_be_disabled_while_an_agent_is_not() -> None:
    off = OpenAISettings(disable=True)
    settings = Settings(openai=off, agents=(agent("sales", match=("1000",)),))
    assert served(settings, "1000") == "sales"
    assert served(settings, "2000") == Rejection(503, "openai.disable is set", 10, "disabled")
    assert not is_disabled(settings)
    assert is_disabled(Settings(openai=off))
    assert is_disabled(Settings(openai=off, agents=(agent("sales", disable=True),)))


def tools_of(routes: Routes, dialled: str) -> ToolRegistry:
    found = routes.route(leg(dialled))
    assert isinstance(found, Route)
    return found.tools


def test_every_agent_has_its_own_tools(tmp_path: Path) -> None:
    for name in ("opening", "closing"):
        (tmp_path / f"{name}.py").write_text(TOOL_FILE.format(name=name))
    settings = Settings(
        openai=OpenAISettings(tools=(str(tmp_path / "opening.py"),)),
        agents=(agent("sales", match=("1000",), tools=(str(tmp_path / "closing.py"),)),),
    )
    routes = load_routes(settings)
    assert "closing" in tools_of(routes, "1000")
    assert "opening" not in tools_of(routes, "1000")
    assert "opening" in tools_of(routes, "2000")


def test_tools_that_are_given_are_those_of_every_agent() -> None:
    given = ToolRegistry()  # an embedder may want none at all
    routes = load_routes(Settings(agents=(agent("sales", match=("1000",), tools=("/nowhere.py",)),)), given)
    assert tools_of(routes, "1000") is tools_of(routes, "2000") is given


def test_a_tool_file_of_any_agent_is_looked_at_at_the_start() -> None:
    assert load_tools([])
    with pytest.raises(ToolFileError, match="no such file"):
        load_routes(Settings(agents=(agent("sales", match=("1000",), tools=("/nowhere/tools.py",)),)))


# What the call itself wants


def wanting(extra: object, dialled: str = "1000") -> PaperLeg:
    text = extra if isinstance(extra, str) else json.dumps(extra)
    return attrs.evolve(paper_leg(), dialled=dialled, extra_params=text)


SALES_AND_DESK: Final = Settings(
    openai=OpenAISettings(voice="marin", match=("9",)),
    agents=(agent("sales", match=("1000",), voice="ash"), agent("desk", match=("2000",), voice="sage")),
)


def routed(extra: object, dialled: str = "1000", settings: Settings = SALES_AND_DESK) -> Route:
    found = load_routes(settings).route(wanting(extra, dialled))
    assert isinstance(found, Route)
    return found


def refused(extra: object, dialled: str = "1000", settings: Settings = SALES_AND_DESK) -> Rejection:
    found = load_routes(settings).route(wanting(extra, dialled))
    assert isinstance(found, Rejection)
    return found


def test_a_call_may_name_its_agent_and_settings_whatever_was_dialled() -> None:
    for dialled in ("1000", "2000", "3000"):
        found = routed({"flavor": "desk", "openai": {"welcome_message": "Hello Alice."}}, dialled)
        assert (found.agent, found.settings.openai.voice) == ("desk", "sage")
        assert found.settings.openai.welcome_message == "Hello Alice."


def test_a_call_may_change_the_settings_of_the_agent_that_its_number_chooses() -> None:
    found = routed({"openai": {"voice": "cedar"}}, "2000")
    assert (found.agent, found.settings.openai.voice) == ("desk", "cedar")
    assert refused({"openai": {"voice": "cedar"}}, "3000").status == 404


def test_the_flavor_openai_has_a_number_of_nobody_answered() -> None:
    found = routed({"flavor": "openai"}, "3000")
    assert (found.agent, found.settings.openai.voice) == (None, "marin")
    assert routed({"flavor": "openai"}, "1000").agent == "sales"


@pytest.mark.parametrize("text", ["", " \r\n", "{}", '{"instance": "aivc-1"}'])
def test_a_call_that_wants_nothing_is_routed_by_its_number(text: str) -> None:
    routes = load_routes(SALES_AND_DESK)
    found = routes.route(wanting(text))
    assert isinstance(found, Route)
    assert (found.agent, found.settings.openai) == ("sales", SALES_AND_DESK.agents[0].openai)
    assert found.tools is routes.tools["sales"]


def test_the_tools_are_those_of_the_agent_that_was_named_as_the_call_wants_them(tmp_path: Path) -> None:
    (tmp_path / "closing.py").write_text(TOOL_FILE.format(name="closing"))
    desk = agent("desk", match=("2000",), tools=(str(tmp_path / "closing.py"),))
    routes = load_routes(Settings(agents=(desk,)))
    found = routes.route(wanting({"flavor": "desk"}))
    assert isinstance(found, Route)
    assert found.tools is routes.tools["desk"]
    found = routes.route(wanting({"flavor": "desk", "openai": {"disabled_tools": ["terminate_call"]}}))
    assert isinstance(found, Route)
    assert "closing" in found.tools
    assert "terminate_call" not in found.tools
    assert "terminate_call" in routes.tools["desk"]


def test_tools_that_are_given_stay_those_of_every_call() -> None:
    given = ToolRegistry()
    found = load_routes(SALES_AND_DESK, given).route(wanting({"openai": {"disabled_tools": ["terminate_call"]}}))
    assert isinstance(found, Route)
    assert found.tools is given


def test_a_call_may_be_refused_by_what_it_brings() -> None:
    disabled = refused({"flavor": "desk", "openai": {"disable": True}})
    assert disabled == Rejection(503, "extra_params: openai.disable is set", 10, "disabled")
    off = Settings(agents=(agent("desk", disable=True, url="ws://model.test/v1/realtime"),))
    assert refused({"flavor": "desk"}, settings=off) == Rejection(503, "agents.desk.disable is set", 10, "disabled")
    assert routed({"flavor": "desk", "openai": {"disable": False}}, settings=off).agent == "desk"


UNUSABLE: Final = {
    "no JSON": ("flavor: openai", "extra_params: no JSON"),
    "a wrong value": ({"flavor": "desk", "openai": {"voice": 1}}, "extra_params: openai.voice: expected text, got an"),
    "a flavor of another program": ({"flavor": "deepgram"}, 'extra_params: flavor: "deepgram" cannot be served'),
    "a contradiction": ({"openai": {"filler": "sound"}}, "extra_params: openai.filler: there is no sound"),
    "a tool that is not there": (
        {"openai": {"tool_choice": "opening_hours"}},
        "extra_params: openai.tool_choice: there is no function opening_hours",
    ),
}


@pytest.mark.parametrize(("extra", "error"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_cannot_be_used_is_left_aside_with_a_warning_or_refused(
    extra: object, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = routed(extra)
    assert (found.agent, found.settings.openai, found.wishes) == ("sales", SALES_AND_DESK.agents[0].openai, None)
    (line,) = [record for record in caplog.records if record.message == "call.not_configured"]
    assert fields_of(line)["error"].startswith(error)
    assert (fields_of(line)["action"], line.__dict__["call_id"]) == ("fallback", "paper-1")
    strict = attrs.evolve(SALES_AND_DESK, engine=EngineSettings(api_failure="refuse"))
    assert refused(extra, settings=strict) == Rejection(
        503, "the settings of this call cannot be used", 10, "config_failed"
    )


def test_keys_that_do_not_count_are_named_in_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    found = routed({"flavor": "openai", "openai": {"voice": "cedar", "note": 1}, "deepgram": {"language": "de"}})
    assert found.settings.openai.voice == "cedar"
    routed({"openai": {f"key {number}": 1 for number in range(12)}})
    lines = lines_of(caplog, "call.keys_ignored")
    many = [*(f"openai.key {number}" for number in range(10)), "and 2 more"]
    assert lines == [{"source": "extra_params", "keys": keys} for keys in (["deepgram", "openai.note"], many)]
