"""Which agent answers a call, and with which tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import attrs
import pytest
from paper_leg import PaperLeg, paper_leg

from aivc.config.settings import Agent, OpenAISettings, Settings
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
    assert served(settings, "3000") == Rejection(404, "no agent for this number")


def test_an_agent_may_choose_its_callers() -> None:
    settings = Settings(agents=(agent("german", match_from=("[+]49.*",)),))
    assert served(settings, "1000", "sip:+4930123@example.com") == "german"
    assert served(settings, "1000", "sip:+1555@example.com") is None


def test_an_agent_that_is_disabled_refuses_its_calls_and_no_others() -> None:
    settings = Settings(agents=(agent("sales", match=("1000",), disable=True),))
    assert served(settings, "1000") == Rejection(503, "agents.sales.disable is set", 10)
    assert served(settings, "2000") is None
    assert not is_disabled(settings)


def test_openai_may_be_disabled_while_an_agent_is_not() -> None:
    off = OpenAISettings(disable=True)
    settings = Settings(openai=off, agents=(agent("sales", match=("1000",)),))
    assert served(settings, "1000") == "sales"
    assert served(settings, "2000") == Rejection(503, "openai.disable is set", 10)
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
