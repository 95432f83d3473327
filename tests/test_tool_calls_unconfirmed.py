"""Calls that a server announces with `response.function_call_arguments.done` alone, and those that it cuts short."""

from __future__ import annotations

import json
from typing import Any

import pytest
from realtime_talk import call, conversation

from aivc.realtime import effects, events
from aivc.realtime.conversation import Conversation
from aivc.realtime.dialects import BETA, GA, Dialect
from aivc.realtime.effects import Effect, RunTool

TOLD: dict[str, Any] = {
    "type": "response.function_call_arguments.done",
    "response_id": "r1",
    "item_id": "i1",
    "call_id": "c1",
    "name": "book",
    "arguments": "{}",
}
UNCONFIRMED = events.FunctionCall("r1", "i1", "c1", "book", "{}", confirmed=False)
RUN = RunTool(effects.ToolCall("c1", "book", "{}", "r1"))


def runs(wanted: list[Effect]) -> list[RunTool]:
    return [effect for effect in wanted if isinstance(effect, RunTool)]


def told() -> tuple[Conversation, list[Effect]]:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    return talk, talk.handle(UNCONFIRMED, 0.0)


@pytest.mark.parametrize("dialect", [GA, BETA])
def test_it_is_read_if_it_names_the_function(dialect: Dialect) -> None:
    nameless = {key: value for key, value in TOLD.items() if key != "name"}
    assert dialect.decode(json.dumps(TOLD)) == UNCONFIRMED
    assert dialect.decode(json.dumps(nameless)) == events.Unknown(TOLD["type"])
    assert dialect.decode(json.dumps(TOLD | {"name": None})) == events.Unknown(TOLD["type"])


def test_it_runs_when_its_response_was_completed() -> None:
    talk, wanted = told()
    assert wanted == []
    assert runs(talk.handle(events.ResponseDone("r1", "completed"), 0.1)) == [RUN]
    assert talk.tools.running


def test_it_runs_once_if_it_is_announced_in_full_as_well() -> None:
    talk, _ = told()
    assert runs(talk.handle(call("c1"), 0.0)) == [RUN]
    assert runs(talk.handle(events.ResponseDone("r1", "completed", function_calls=(call("c1"),)), 0.1)) == []


def test_it_never_runs_if_it_was_cut_short() -> None:
    for status in ("cancelled", "incomplete", "failed"):
        talk, _ = told()
        assert runs(talk.handle(events.ResponseDone("r1", status), 0.1)) == []
    talk, _ = told()
    talk.handle(call("c1", status="incomplete"), 0.0)
    assert runs(talk.handle(events.ResponseDone("r1", "completed"), 0.1)) == []
