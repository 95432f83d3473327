"""Files written for the OpenSIPS AI Voice Connector CE run as they are."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from paper_control import PaperControl

from aivc.config.settings import OpenAISettings
from aivc.realtime.toolcontext import ToolContext
from aivc.realtime.tools import ToolArgumentsError, ToolFileError, ToolRegistry, load_registry

CART = """
import asyncio
import json
import time

FUNCTIONS = [
    {
        "type": "function",
        "name": "get_cart",
        "description": "Tell what is in the cart.",
        "parameters": {"type": "object", "properties": {"note": {"type": "string"}}, "required": []},
    },
    {"type": "function", "name": "leave", "description": "Hang up."},
    {"type": "function", "name": "slow"},
    {"type": "function", "name": "remember"},
    {"type": "function", "name": "quiet"},
    {"type": "function", "name": "who"},
    {"type": "function", "name": "broken"},
    {"type": "function", "name": "in_thread"},
]


def get_cart(engine, arguments):
    asyncio.create_task(engine.ws.send(json.dumps({
        "type": "response.create",
        "response": {"instructions": "Tell the content: " + json.loads(arguments).get("note", "nothing")},
    })))


def leave(engine, arguments):
    engine.terminate_call()
    return engine.call.terminated


async def slow(engine, arguments):
    await asyncio.sleep(0.01)
    return {"at": "last"}


def remember(engine, arguments):
    engine.count = getattr(engine, "count", 0) + 1
    return engine.count


def quiet(engine, arguments):
    engine.drain_queue()
    asyncio.create_task(engine.ws.send(json.dumps(
        {"type": "session.update", "session": {"instructions": "Keep quiet.", "modalities": ["text"]}})))


def who(engine, arguments):
    return [engine.call.call_id, engine.call.b2b_key, engine.call.to, engine.call.terminated, engine.transfer_to,
            engine.transfer_by, engine.session["voice"], engine.model]


def broken(engine, arguments):
    return engine.call.rtp


async def in_thread(engine, arguments):
    return await engine.run_in_thread(engine.call.terminate)
"""
SETTINGS = OpenAISettings(transfer_to="sip:desk@example.com", model="gpt-realtime", voice="cedar")


def registry(tmp_path: Path, *texts: str, settings: OpenAISettings = SETTINGS) -> ToolRegistry:
    files = [tmp_path / f"tools{number}.py" for number in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text)
    return load_registry(attrs.evolve(settings, tools=tuple(map(str, files))))


async def run(
    tools: ToolRegistry, name: str, arguments: str = "{}", state: dict[str, object] | None = None
) -> tuple[Any, list[tuple[object, ...]]]:
    """What the function returned, and what was done to its call."""
    control = PaperControl()
    context = ToolContext("c1", "sip:alice@example.com", "100", control, state={} if state is None else state)
    function = tools.prepare(name, arguments, context.of_tool_call("fc1"))
    with trio.fail_after(5):
        return await trio.to_thread.run_sync(function, abandon_on_cancel=True), control.done


def test_the_model_is_told_what_the_file_says(tmp_path: Path) -> None:
    definition = registry(tmp_path, CART).get("get_cart")
    assert definition is not None
    assert definition.description == "Tell what is in the cart."
    assert definition.parameters["properties"] == {"note": {"type": "string"}}


async def test_an_event_sent_in_a_task_is_sent_before_the_function_is_over(tmp_path: Path) -> None:
    returned, done = await run(registry(tmp_path, CART), "get_cart", '{"note": "two pens"}')
    assert returned is None
    assert done == [("say", "Tell the content: two pens")]


async def test_no_arguments_arrive_as_an_empty_object(tmp_path: Path) -> None:
    _, done = await run(registry(tmp_path, CART), "get_cart", "")
    assert done == [("say", "Tell the content: nothing")]
    with pytest.raises(ToolArgumentsError, match="get_cart: the arguments are not JSON"):
        await run(registry(tmp_path, CART), "get_cart", "{")


async def test_commands_to_opensips_get_the_key_of_the_session_that_it_handed_over(tmp_path: Path) -> None:
    context = ToolContext("c1", "sip:alice@example.com", "100", PaperControl(), session_key="B2B.1.2.3.4")
    function = registry(tmp_path, CART).prepare("who", "{}", context.of_tool_call("fc1"))
    with trio.fail_after(5):
        told = await trio.to_thread.run_sync(function, abandon_on_cancel=True)
    assert isinstance(told, list)
    assert told[:2] == ["c1", "B2B.1.2.3.4"]


async def test_the_call_is_hung_up(tmp_path: Path) -> None:
    assert await run(registry(tmp_path, CART), "leave") == (True, [("hang_up",)])
    assert await run(registry(tmp_path, CART), "in_thread") == (None, [("hang_up",)])


async def test_an_async_function_is_awaited_in_an_event_loop(tmp_path: Path) -> None:
    assert await run(registry(tmp_path, CART), "slow") == ({"at": "last"}, [])


async def test_what_is_kept_on_the_engine_stays_for_the_call(tmp_path: Path) -> None:
    tools, state = registry(tmp_path, CART), dict[str, object]()
    assert [(await run(tools, "remember", state=state))[0] for _ in range(2)] == [1, 2]
    assert (await run(tools, "remember"))[0] == 1


@pytest.mark.parametrize(
    ("dialect", "session"),
    [
        ("ga", {"type": "realtime", "instructions": "Keep quiet.", "output_modalities": ["text"]}),
        ("beta", {"instructions": "Keep quiet.", "modalities": ["text"]}),
    ],
)
async def test_an_event_is_sent_in_the_form_of_the_dialect(
    tmp_path: Path, dialect: Any, session: dict[str, object]
) -> None:
    _, done = await run(registry(tmp_path, CART, settings=OpenAISettings(dialect=dialect)), "quiet")
    assert done == [("interrupt",), ("send_event", {"type": "session.update", "session": session})]


async def test_the_members_that_files_read_are_there(tmp_path: Path) -> None:
    returned, _ = await run(registry(tmp_path, CART), "who")
    assert returned == ["c1", "c1", "100", False, "sip:desk@example.com", None, "cedar", "gpt-realtime"]


async def test_a_member_that_is_not_offered_is_an_error_that_names_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match=r"engine.call.rtp is not offered by aivc; engine.call has b2b_key, call_"):
        await run(registry(tmp_path, CART), "broken")
    other = CART.replace("engine.call.rtp", "engine.queue")
    (tmp_path / "other").mkdir()
    with pytest.raises(AttributeError, match=r"engine.queue is not offered by aivc; engine has call, drain_queue, ins"):
        await run(registry(tmp_path / "other", other), "broken")


ONE = "FUNCTIONS = [{'name': 'f', 'description': 'one'}]\ndef f(engine, arguments): return 1\n"
TWO = "FUNCTIONS = [{'name': 'f', 'description': 'two'}]\ndef f(engine, arguments): return 2\n"
SCHEMA_ONLY = "FUNCTIONS = [{'name': 'f', 'description': 'three'}]\n"
FUNCTION_ONLY = "FUNCTIONS = []\ndef f(engine, arguments): return 4\n"


@pytest.mark.parametrize(
    ("files", "description", "returned"),
    [
        ((ONE, TWO), "two", 2),
        ((TWO, ONE), "one", 1),
        ((ONE, SCHEMA_ONLY), "three", 1),
        ((SCHEMA_ONLY, ONE), "one", 1),
        ((ONE, FUNCTION_ONLY), "one", 4),
    ],
)
async def test_the_last_definition_wins(
    tmp_path: Path, files: tuple[str, ...], description: str, returned: int
) -> None:
    tools = registry(tmp_path, *files)
    definition = tools.get("f")
    assert definition is not None
    assert definition.description == description
    assert await run(tools, "f") == (returned, [])


async def test_a_file_may_replace_a_built_in_function_with_or_without_a_schema(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    bare = registry(tmp_path / "a", "FUNCTIONS = []\ndef transfer_call(engine, arguments): return 'mine'\n")
    usual = load_registry(SETTINGS)
    assert bare.schemas == usual.schemas
    assert await run(bare, "transfer_call") == ("mine", [])
    schema = "FUNCTIONS = [{'name': 'terminate_call', 'description': 'Bye.'}]\ndef terminate_call(e, a): return 'mine'"
    tools = registry(tmp_path, schema)
    assert tools.schemas[0].description == "Bye."
    assert await run(tools, "terminate_call") == ("mine", [])


def test_a_schema_without_a_function_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolFileError, match=r"FUNCTIONS names f, but there is no function f\(engine, arguments\)"):
        registry(tmp_path, SCHEMA_ONLY)


async def test_a_function_that_outlives_its_deadline_can_do_nothing_to_the_call(tmp_path: Path) -> None:
    release, control = threading.Event(), PaperControl()
    outcome: list[str] = []
    text = (
        "FUNCTIONS = [{'name': 'late'}]\n"
        "def late(engine, arguments):\n"
        "    release.wait(5)\n"
        "    try:\n        engine.terminate_call()\n"
        "    except RuntimeError as error:\n        outcome.append(str(error))\n"
    )
    tools = registry(tmp_path, text)
    late = tools.get("late")
    assert late is not None
    late.function.__globals__.update(release=release, outcome=outcome)
    context = ToolContext("c1", "sip:alice@example.com", "100", control).of_tool_call("fc1")
    function = tools.prepare("late", "{}", context)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, function)
            await trio.testing.wait_all_tasks_blocked()
            context.lifetime.end()
            release.set()
    assert outcome == ["the tool call is over"]
    assert control.done == []


def test_arguments_reach_the_function_as_text(tmp_path: Path) -> None:
    tools = registry(tmp_path, "FUNCTIONS = [{'name': 'f'}]\ndef f(engine, arguments): return arguments\n")
    context = ToolContext("c1", "sip:alice@example.com", "100", PaperControl())
    assert json.loads(str(tools.prepare("f", '{"x": [1, null]}', context)())) == {"x": [1, None]}
