"""A conversation that a client writes into the fake model, as it does when it replays an earlier one."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aivc.realtime import events
from aivc.realtime.dialects import dialect_named
from aivc.testing.client import RawClient, raw_client
from aivc.testing.model import FakeModel
from aivc.testing.script import CallTool, Context, Part, Say, decided

Json = dict[str, Any]
BETA = [("OpenAI-Beta", "realtime=v1")]
CONVERSATION: tuple[events.ClientEvent, ...] = (
    events.SendText("e1", "system", "The call goes on."),
    events.SendText("e2", "assistant", "Hello, what can I do for you?"),
    events.SendText("e3", "user", "When are you open?"),
    events.SendFunctionCall("e4", "call_old", "hours", '{"day": "monday"}'),
    events.SendToolOutput("e5", "call_old", "from nine"),
)
HISTORY = [
    ("system", "The call goes on."),
    ("assistant", "Hello, what can I do for you?"),
    ("user", "When are you open?"),
    ("function_call", '{"day": "monday"}'),
    ("function_call_output", "from nine"),
]


async def write(client: RawClient, dialect: Any, *wanted: events.ClientEvent) -> None:
    for event in wanted:
        await client.websocket.send_message(dialect_named(dialect).encode(event))


@pytest.mark.parametrize("dialect", ["ga", "beta"])
async def test_an_earlier_conversation_can_be_written_down(dialect: Any, autojump_clock: MockClock) -> None:
    asked: list[Context] = []

    def respond(context: Context) -> list[Part]:
        asked.append(context)
        return [Say("We open at nine.")]

    headers = BETA if dialect == "beta" else []
    with trio.fail_after(20):
        async with (
            FakeModel(decided(respond), dialect=dialect) as model,
            raw_client(model.open_stream(), headers=headers) as client,
        ):
            await write(client, dialect, *CONVERSATION)
            await client.send("response.create")
            await client.wait_for("response.done")
            await write(client, dialect, events.SendText("e6", "user", "42"))
            await client.send("response.create")
            await client.wait_for("response.done", count=2)
            session = model.sessions[0]
            assert session.errors == []
            assert list(asked[0].history) == HISTORY
            assert asked[0].texts == ("When are you open?",)
            assert [output.name for output in asked[0].outputs] == ["hours"]
            assert asked[1].texts == ("42",)
            spoken = ("assistant", "We open at nine.")
            assert session.history == [*HISTORY, spoken, ("user", "42"), spoken]


async def test_an_answer_before_its_call_is_refused(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        async with FakeModel() as model, raw_client(model.open_stream()) as client:
            await write(client, "ga", CONVERSATION[4])
            assert (await client.wait_for("error"))["error"]["code"] == "invalid_tool_call_id"


@pytest.mark.parametrize(("dialect", "wrong"), [("ga", "text"), ("beta", "output_text")])
async def test_the_other_dialects_content_type_is_refused(dialect: Any, wrong: str, autojump_clock: MockClock) -> None:
    headers = BETA if dialect == "beta" else []
    with trio.fail_after(5):
        async with FakeModel(dialect=dialect) as model, raw_client(model.open_stream(), headers=headers) as client:
            item = {"type": "message", "role": "assistant", "content": [{"type": wrong, "text": "Hello."}]}
            await client.send("conversation.item.create", item=item)
            assert (await client.wait_for("error"))["error"]["param"] == "item.content[0].type"


async def test_a_truncated_item_says_nothing_in_the_history(autojump_clock: MockClock) -> None:
    with trio.fail_after(20):
        script = decided(lambda context: [Say("Two seconds.", seconds=2.0), CallTool("hours", {})])
        async with FakeModel(script) as model, raw_client(model.open_stream()) as client:
            await client.configure()
            await client.send("response.create")
            await client.wait_for("response.done")
            item_id = client.received("response.output_item.done")[0]["item"]["id"]
            truncation = events.TruncateItem("e", item_id, 500)
            await client.websocket.send_message(json.dumps(dialect_named("ga").wire_form(truncation)))
            await client.wait_for("conversation.item.truncated")
            assert model.sessions[0].history == [("assistant", ""), ("function_call", "{}")]
