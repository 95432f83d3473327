"""Files of tools: what they may look like, and what is said of one that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from paper_control import PaperControl

from aivc.realtime.toolcontext import ToolContext
from aivc.realtime.tools import ToolFileError, load_tools

BUILT_IN = ["terminate_call", "send_digits"]  # where nothing is set


def context() -> ToolContext:
    return ToolContext("call-1", "sip:alice@example.com", "100", PaperControl())


GOOD = """
from __future__ import annotations
import attrs
from aivc.realtime.tools import tool

@attrs.frozen
class Place:
    city: str

@tool
def weather(place: Place) -> str:
    "Tell the weather."
    return f"sunny in {place.city}"
"""


def test_a_file_adds_its_tools_to_the_built_in_ones(tmp_path: Path) -> None:
    file = tmp_path / "my tools.py"
    file.write_text(GOOD)
    tools = load_tools([str(file)])
    assert [schema.name for schema in tools.schemas] == [*BUILT_IN, "weather"]
    assert tools.prepare("weather", '{"place": {"city": "Oslo"}}', context())() == "sunny in Oslo"


def test_a_list_of_plain_functions_will_do(tmp_path: Path) -> None:
    file = tmp_path / "listed.py"
    file.write_text(
        "from aivc.realtime.tools import tool\n"
        "def opening_hours(day: str) -> str:\n    'Tell when the shop is open.'\n    return 'nine'\n"
        "def hidden(x): ...\n"
        "@tool\ndef menu() -> str: ...\n"
        "TOOLS = [opening_hours, menu]\n"
    )
    tools = load_tools([str(file)])
    assert [schema.name for schema in tools.schemas] == [*BUILT_IN, "menu", "opening_hours"]
    assert tools.prepare("opening_hours", '{"day": "Monday"}', context())() == "nine"


def test_a_file_is_imported_once(tmp_path: Path) -> None:
    file = tmp_path / "once.py"
    file.write_text(GOOD)
    first, second = load_tools([str(file)]), load_tools([str(file)])
    assert first.get("weather") is second.get("weather")


def test_a_later_file_may_replace_a_tool(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(GOOD)
    (tmp_path / "b.py").write_text(GOOD.replace("Tell the weather.", "Better."))
    tools = load_tools([str(tmp_path / "a.py"), str(tmp_path / "b.py")])
    assert [schema.description for schema in tools.schemas][2:] == ["Better."]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (None, "no such file"),
        ("import nothing_like_this", "nothing_like_this"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("x = 1", "defines no tool"),
        ("from aivc.realtime.tools import tool\n@tool\ndef f(x): ...", "parameter x has no type annotation"),
        ("def f(x): ...\nTOOLS = [f]", "parameter x has no type annotation"),
        ("TOOLS = 'f'", "TOOLS is not a list"),
        ("TOOLS = ['f']", "TOOLS has 'f', which is not a function"),
        ("TOOLS = []", "defines no tool"),
        ("FUNCTIONS = {}", "FUNCTIONS is not a list"),
        ("FUNCTIONS = [5]", "FUNCTIONS has 5, which is not a dictionary with a name"),
        ("FUNCTIONS = [{'name': 'f'}]", "FUNCTIONS names f, but there is no function f(engine, arguments)"),
        ("FUNCTIONS = [{'name': 'f g'}]\nglobals()['f g'] = print", "tool name 'f g'"),
        ("FUNCTIONS = [{'name': 'f', 'parameters': 1}]\ndef f(e, a): ...", "the parameters are not a dictionary"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_cause(tmp_path: Path, text: str | None, cause: str) -> None:
    file = tmp_path / "bad.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ToolFileError) as caught:
        load_tools([str(file)])
    assert str(file) in str(caught.value)
    assert cause in str(caught.value)


def test_without_files_there_are_the_built_in_tools_only() -> None:
    assert [schema.name for schema in load_tools([]).schemas] == BUILT_IN
