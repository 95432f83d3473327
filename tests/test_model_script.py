"""The ready scripts: what the model says when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from aivc.testing.phrases import phrase
from aivc.testing.schema import Json
from aivc.testing.script import (
    CallTool,
    Context,
    Part,
    Say,
    Script,
    ToolOutput,
    Turn,
    decided,
    demo,
    echo,
    example_arguments,
    scripted,
    stand_in,
)
from aivc.testing.voice import speech

HOURS: Json = {
    "type": "function",
    "name": "opening_hours",
    "parameters": {
        "type": "object",
        "properties": {"day": {"type": "string", "enum": ["monday"]}, "count": {"type": "integer"}, "x": {}},
        "required": ["day", "count"],
    },
}
TERMINATE: Json = {"type": "function", "name": "terminate_call"}
TRANSFER: Json = {"type": "function", "name": "transfer_call"}
ALL = (TERMINATE, TRANSFER, HOURS)


def context(**changes: Any) -> Context:
    start: Json = {
        "session": {},
        "trigger": "turn",
        "instructions": None,
        "responses": 0,
        "turns": 0,
        "turn": None,
        "interrupted": False,
        "outputs": (),
        "called": (),
        "tools": (),
    }
    return Context(**(start | changes))


def said(parts: Sequence[Part]) -> list[str]:
    """Ids of recordings and names of tools."""
    texts = {
        phrase(name).text: name for name in ("model_greeting", "model_hours", "model_one_moment", "model_looked_up")
    }
    texts |= {phrase(name).text: name for name in ("model_hello", "model_heard", "model_go_on", "model_tool_done")}
    texts[phrase("model_goodbye").text] = "model_goodbye"
    return [part.name if isinstance(part, CallTool) else texts[spoken(part)] for part in parts]


def spoken(part: Part) -> str:
    assert isinstance(part, Say)
    return part.transcript


OUTPUT = (ToolOutput("call_1", "opening_hours", "nine"),)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"instructions": "Greet.", "trigger": "client"}, ["model_greeting"]),
        ({"turns": 1}, ["model_hours"]),
        ({"turns": 2, "interrupted": True}, ["model_one_moment", "opening_hours"]),
        ({"turns": 2, "outputs": OUTPUT, "called": ("opening_hours",)}, ["model_looked_up"]),
        ({"turns": 2, "tools": (TERMINATE,)}, ["model_looked_up"]),
        ({"turns": 3}, ["model_goodbye", "terminate_call"]),
        ({"turns": 3, "tools": ()}, ["model_goodbye"]),
    ],
)
def test_the_demo_follows_its_call(changes: Json, expected: list[str]) -> None:
    assert said(demo().respond(context(**({"tools": ALL} | changes)))) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["model_hello"]),
        ({"turns": 1}, ["model_heard"]),
        ({"turns": 2}, ["opening_hours"]),
        ({"turns": 2, "outputs": OUTPUT, "called": ("opening_hours",)}, ["model_tool_done"]),
        ({"turns": 3, "called": ("opening_hours",)}, ["model_go_on"]),
        ({"turns": 2, "tools": (TERMINATE, TRANSFER)}, ["model_go_on"]),
        ({"turns": 4}, ["model_goodbye", "terminate_call"]),
    ],
)
def test_the_stand_in_serves_any_caller(changes: Json, expected: list[str]) -> None:
    assert said(stand_in().respond(context(**({"tools": ALL} | changes)))) == expected


def test_a_stand_in_without_turns_never_says_goodbye() -> None:
    assert said(stand_in(turns=0).respond(context(turns=50, called=("opening_hours",), tools=ALL))) == ["model_go_on"]


def test_example_arguments_satisfy_the_required_properties() -> None:
    assert example_arguments(HOURS) == {"day": "monday", "count": 1}
    assert example_arguments(TERMINATE) == {}


def test_echo_says_what_was_said() -> None:
    turn = Turn(speech(1.0, "PCMA"), "PCMA", 1.0)
    [part] = echo().respond(context(turn=turn))
    assert isinstance(part, Say)
    assert part.octets("PCMA") == turn.audio
    [nothing] = echo().respond(context())
    assert isinstance(nothing, Say)
    assert nothing.seconds == 0.2


def test_a_scripted_model_falls_silent_after_its_last_response() -> None:
    script: Script = scripted([[Say("One.")], [Say("Two.")]])
    assert [len(script.respond(context(responses=n))) for n in range(3)] == [1, 1, 0]


def test_any_function_can_be_a_script() -> None:
    assert decided(lambda seen: [CallTool("x")] * seen.turns).respond(context(turns=2)) == [CallTool("x")] * 2
