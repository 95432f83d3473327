"""`engine.api_url` in whole calls: a real HTTP server on loopback, and so a real clock; seconds are few."""

from __future__ import annotations

import json
import socket as stdlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import pytest
import trio
from settings_server import Answer, SettingsServer

from aivc import Ending
from aivc.config.settings import EngineSettings
from aivc.testing import PhoneCall, VirtualNetwork, decided
from scenarios.conftest import Dialect
from scenarios.test_calling_several_agents import dial, sales_and_desk, speak_own_phrase, told, who
from scenarios.world import DELAY, SERVICE, World, open_world, wait_over

pytest.importorskip("httpx2", reason="the extra http is not installed")

pytestmark = pytest.mark.parametrize("any_schedule", [0, 7], indirect=True)  # one for each dialect


class RealTcp(VirtualNetwork):
    """UDP is virtual, TCP is the machine's."""

    def socket(self, family: int = stdlib.AF_INET, type: int = stdlib.SOCK_STREAM, proto: int = 0) -> Any:
        if type == stdlib.SOCK_DGRAM:
            return super().socket(family, type, proto)
        return trio.socket.from_stdlib_socket(stdlib.socket(family, type, proto))


@asynccontextmanager
async def open_asking_world(
    answer: Answer, dialect: Dialect, *, calls: int = 1, **engine: Any
) -> AsyncIterator[tuple[World, SettingsServer]]:
    """A world whose service asks a server for the settings of each call; that one is gone before the world is."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = SettingsServer(answer, listener.socket.getsockname()[1])
    given = EngineSettings(api_url=server.url, **{"api_seconds": 0.3, **engine})
    settings = attrs.evolve(sales_and_desk(), engine=given)
    opened = open_world(
        decided(speak_own_phrase),
        settings=settings,
        dialect=dialect,
        tools=None,
        network=RealTcp(delay=DELAY),
        calls=calls,
        think_ms=20.0,
    )
    async with opened as world, trio.open_nursery() as serving:
        serving.start_soon(trio.serve_listeners, server.serve, [listener])
        yield world, server
        await wait_over(world)
        serving.cancel_scope.cancel()


async def wait_final(call: PhoneCall) -> list[int]:
    """The statuses that a call got, the last of them final."""
    while call.responses[-1].status < 200:  # noqa: ASYNC110 - for some milliseconds
        await trio.sleep(0.01)
    return [response.status for response in call.responses]


async def test_the_answer_of_the_server_is_merged_over_the_agent(dialect: Dialect) -> None:
    answer = Answer({"openai": {"voice": "sage", "tool_descriptions": {"terminate_call": "Hang up on Alice."}}})
    async with open_asking_world(answer, dialect, api_seconds=5.0) as (world, server):
        async with dial(world, "1000") as call:
            await call.handset.wait_speech()
        assert told(world.session)["audio"]["output"]["voice"] == "sage"
        assert told(world.session)["instructions"] == "You are in sales."
        (hang_up,) = [tool for tool in told(world.session)["tools"] if tool["name"] == "terminate_call"]
        assert hang_up["description"] == "Hang up on Alice."
        (asked,) = server.requests
        assert json.loads(asked.body)["bot"] == "1000"
    assert who(world.record) == ("sales", "1000")


FAILURES: Final = {
    "slow": Answer({}, stalls=True),
    "broken": Answer(b"<html>"),
    "wrong": Answer({"openai": {"voice": 1}}),
}


@pytest.mark.parametrize("answer", FAILURES.values(), ids=FAILURES)
async def test_a_call_goes_on_without_the_answer(dialect: Dialect, answer: Answer) -> None:
    async with open_asking_world(answer, dialect) as (world, server):
        async with dial(world, "2000") as call:
            await call.handset.wait_speech()
        assert told(world.session)["audio"]["output"]["voice"] == "coral"
        assert len(server.requests) == 1
    assert who(world.record) == ("desk", "2000")


@pytest.mark.parametrize("answer", FAILURES.values(), ids=FAILURES)
async def test_a_call_without_the_answer_may_be_refused(dialect: Dialect, answer: Answer) -> None:
    async with open_asking_world(answer, dialect, api_failure="refuse") as (world, _):
        async with world.phone.ring(f"sip:1000@{SERVICE}:5060") as call:
            assert await wait_final(call) == [100, 180, 503]
        assert call.responses[-1].header("Retry-After") == "10"
        assert world.model.sessions == []
    assert world.record.ending is Ending.CONFIG_FAILED
    assert who(world.record) == ("sales", "1000")


async def test_a_caller_may_give_up_while_the_server_is_asked(dialect: Dialect) -> None:
    async with open_asking_world(Answer({}, stalls=True), dialect, api_seconds=30.0) as (world, server):
        async with world.phone.ring(f"sip:1000@{SERVICE}:5060") as call:
            await server.asked.wait()
            await call.cancel()
            assert await wait_final(call) == [100, 180, 487]
        assert world.model.sessions == []
    assert world.record.ending is Ending.CALLER_CANCELLED


async def test_the_server_is_told_which_number_was_dialled(dialect: Dialect) -> None:
    """Its answer is merged over the settings of whoever has that number."""
    async with open_asking_world(Answer({"openai": {"voice": "sage"}}), dialect, calls=2) as (world, server):
        for number in ("1000", "2000"):
            async with dial(world, number) as call:
                await call.handset.wait_speech()
        instructions = [told(session)["instructions"] for session in world.model.sessions]
        assert instructions == ["You are in sales.", "You are at the desk."]
        assert [json.loads(asked.body)["bot"] for asked in server.requests] == ["1000", "2000"]
    assert [who(record) for record in world.records] == [("sales", "1000"), ("desk", "2000")]
