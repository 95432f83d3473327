"""docs/tools.md and the example files do what they say."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import trio
from paper_control import PaperControl

from aivc.config.loading import load
from aivc.config.secret import Secret
from aivc.config.settings import HttpTool, OpenAISettings
from aivc.nursery.execution import result_of
from aivc.realtime.effects import ToolCall
from aivc.realtime.httptools import request_of
from aivc.realtime.toolcontext import ToolContext
from aivc.realtime.toolfiles import import_file
from aivc.realtime.tools import ToolRegistry, load_registry

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs" / "tools.md"
BUILT_IN = ["terminate_call", "send_digits"]
DAY: dict[str, Any] = {
    "date": "2030-01-02",
    "meal": "dinner",
    "guests": [{"name": "Ann"}, {"name": "Bo", "child": True}],
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


def context(control: PaperControl | None = None) -> ToolContext:
    return ToolContext("call-1", "sip:alice@example.com", "100", control or PaperControl())


async def run(tools: ToolRegistry, name: str, control: PaperControl | None = None, **arguments: object) -> str:
    """What the model is told."""
    call = ToolCall("fc1", name, json.dumps(arguments), "r1")
    with trio.fail_after(5):
        given = context(control).of_tool_call("fc1")
        return (await result_of(tools, given, call, 5.0, trio.CapacityLimiter(1))).output


@pytest.fixture
def guide(tmp_path: Path) -> list[str]:
    """The Python of the guide as files."""
    files = [tmp_path / f"guide{number}.py" for number in range(len(blocks("python")))]
    for file, text in zip(files, blocks("python"), strict=True):
        before = "from aivc import ToolContext, tool\n" if "class Notes" in text else ""
        file.write_text(before + text)
    return [str(file) for file in files]


async def test_the_functions_of_the_guide_can_be_called(guide: list[str]) -> None:
    shop, costs, _, _, legacy = guide
    tools = load_registry(OpenAISettings(tools=(shop, costs, legacy)))
    assert [schema.name for schema in tools.schemas] == [
        *BUILT_IN,
        "opening_hours",
        "order",
        "shipping_costs",
        "status",
    ]
    assert await run(tools, "opening_hours", day="sunday") == "closed"
    assert await run(tools, "order", title="Emma") == '{"ordered": "Emma", "copies": 1, "so_far": 1}'
    assert await run(tools, "shipping_costs", country="Germany") == "free"
    control = PaperControl()
    assert await run(tools, "status", control, number=7) == "ok"
    assert control.done == [("say", "Say that order 7 is on its way.")]


def test_the_test_of_the_guide_hangs_up(guide: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    import_file(guide[2])
    assert capsys.readouterr().out == "hung up\n"


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_the_signature_is_verified_as_the_guide_says(guide: list[str], method: Any) -> None:
    verify: Any = import_file(guide[3])
    settings = HttpTool(name="f", description="", url="http://x/?a=1", method=method, secret=Secret("key"))
    request = request_of(settings, {"title": "Emma"}, context(), int(time.time()))
    payload = request.body or b"a=1&title=Emma"
    assert verify.is_genuine("key", request.headers, payload, time.time())
    assert not verify.is_genuine("key", request.headers, payload + b" ", time.time())
    assert not verify.is_genuine("other", request.headers, payload, time.time())
    assert not verify.is_genuine("key", request.headers, payload, time.time() + 1000)


@pytest.mark.parametrize("text", blocks("toml"), ids=range(len(blocks("toml"))))
def test_the_configuration_of_the_guide_is_valid(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    (tmp_path / "shop.py").write_text(blocks("python")[0])
    environment = {"STOCK_KEY": "1", "SHOP": "2", "CALENDAR_TOKEN": "3", "OPENAI_API_KEY": "sk-1"}
    settings = load(str(tmp_path / "config.toml"), environment).settings
    load_registry(settings.openai, settings.tools.http)


# The examples


async def test_the_typed_example_books_and_transfers(capsys: pytest.CaptureFixture[str]) -> None:
    tools = load_registry(OpenAISettings(tools=(str(ROOT / "examples" / "tools.py"),)))
    assert await run(tools, "opening_hours", meal="lunch") == "12 to 14"
    assert await run(tools, "book_table", **DAY) == "Booked; it is number 1 of this caller."
    assert "booked dinner for 2, 1 of them children, on 2030-01-02" in capsys.readouterr().out
    assert "guests" in await run(tools, "book_table", **(DAY | {"guests": ["Ann"]}))


async def test_the_ce_example_answers_and_hangs_up() -> None:
    tools, control = load_registry(OpenAISettings(tools=(str(ROOT / "examples" / "tools_ce.py"),))), PaperControl()
    assert await run(tools, "order_status", number="7") == "order 7 of call-1 is on its way"
    assert await run(tools, "cancel_order", control) == "ok"
    assert ("hang_up",) in control.done
    assert ("say", "Say that the order is cancelled, and goodbye.") in control.done
