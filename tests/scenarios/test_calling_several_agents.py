"""One service, several agents: who answers which number, each with a voice, tools and a codec of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio
from trio.testing import MockClock

from aivc import CallRecord, Settings
from aivc.config.settings import Agent
from aivc.testing import CallTool, Context, Part, PhoneCall, Say, Session, decided, speech
from aivc.testing.schema import Json
from scenarios.conftest import Dialect
from scenarios.world import RTP_PORT, SERVICE, World, changed, open_world

PHRASE: Final = {name: speech(0.5, pitch_hz=210.0, seed=30 + number) for number, name in enumerate(("sales", "desk"))}
QUESTION: Final = speech(0.4, seed=33)
SEVERAL_CALLS: Final = changed(rtp={"max_port": RTP_PORT + 7})


def with_agents(*agents: tuple[str, dict[str, Any]], settings: Settings = SEVERAL_CALLS, **openai: Any) -> Settings:
    """The settings with these agents; `openai` is for all of them."""
    settings = changed(settings, openai=openai)
    made = [Agent(name=name, openai=attrs.evolve(settings.openai, **given)) for name, given in agents]
    return attrs.evolve(settings, agents=tuple(made))


def speak_own_phrase(context: Context) -> Sequence[Part]:
    """Each agent knows its words by its instructions."""
    instructions = str(context.session.get("instructions"))
    name = next((name for name in PHRASE if name in instructions), None)
    return [] if name is None else [Say(name, audio=PHRASE[name])]


def dial(world: World, number: str, **more: Any) -> AbstractAsyncContextManager[PhoneCall]:
    return world.phone.dial(f"sip:{number}@{SERVICE}:5060", **more)


async def refused(world: World, number: str) -> tuple[int, str]:
    """Call a number that nobody answers; the status and Retry-After."""
    async with world.phone.ring(f"sip:{number}@{SERVICE}:5060") as call:
        await trio.sleep(0.2)
    response = call.responses[-1]
    return response.status, response.headers.get("Retry-After") or ""


def sales_and_desk(**openai: Any) -> Settings:
    return with_agents(
        ("sales", {"match": ("1[0-9]{3}",), "instructions": "You are in sales.", "voice": "ash"}),
        ("desk", {"match": ("2000", "3000"), "instructions": "You are at the desk.", "voice": "coral"}),
        **openai,
    )


def told(session: Session) -> Json:
    """What the model was configured with, in GA form."""
    return session.session


def who(record: CallRecord) -> tuple[str | None, str]:
    return record.agent, record.dialled


@pytest.mark.parametrize(
    ("number", "agent", "voice"), [("1234", "sales", "ash"), ("2000", "desk", "coral"), ("3000", "desk", "coral")]
)
async def test_the_number_decides_who_answers(
    autojump_clock: MockClock, dialect: Dialect, number: str, agent: str, voice: str
) -> None:
    settings = sales_and_desk(match=("9",))
    async with open_world(decided(speak_own_phrase), settings=settings, dialect=dialect) as world:
        async with dial(world, number) as call:
            await call.handset.wait_speech(0.7)
        assert call.handset.speech_heard() == PHRASE[agent]
        assert told(world.session)["audio"]["output"]["voice"] == voice
    assert who(world.record) == (agent, number)


async def test_a_number_of_nobody_is_not_found(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = sales_and_desk(match=("9",))
    async with open_world(decided(speak_own_phrase), settings=settings, dialect=dialect, calls=0) as world:
        assert await refused(world, "4000") == (404, "")
        assert await refused(world, "12345") == (404, "")  # all of it must match
    assert world.model.sessions == []


async def test_without_a_match_of_its_own_the_common_agent_is_the_last(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    settings = sales_and_desk(instructions="You are nobody.")
    async with open_world(decided(speak_own_phrase), settings=settings, dialect=dialect, calls=2) as world:
        for number in ("4000", "2000"):
            async with dial(world, number):
                await trio.sleep(1.0)
    assert [who(record) for record in world.records] == [(None, "4000"), ("desk", "2000")]


async def test_the_first_of_two_agents_that_match_answers(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = with_agents(("one", {"match": ("1.*",)}), ("all", {"match": (".*",)}), ("never", {"match": ("1000",)}))
    async with open_world(decided(lambda _: []), settings=settings, dialect=dialect, calls=2) as world:
        for number in ("1000", "2000"):
            async with dial(world, number):
                await trio.sleep(0.5)
    assert [who(record) for record in world.records] == [("one", "1000"), ("all", "2000")]


async def test_the_caller_may_decide_too(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = with_agents(
        ("bob's", {"match": ("1000",), "match_from": ("bob",)}),
        ("alice's", {"match": ("1000",), "match_from": ("eve", "al.*")}),
    )
    async with open_world(decided(lambda _: []), settings=settings, dialect=dialect, calls=2) as world:
        for number in ("1000", "1001"):
            async with dial(world, number):
                await trio.sleep(0.5)
    assert [who(record) for record in world.records] == [("alice's", "1000"), (None, "1001")]


async def test_a_disabled_agent_is_unavailable_and_the_others_are_not(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    settings = with_agents(("sales", {"match": ("1000",), "disable": True}), ("all", {"match": (".*",)}))
    async with open_world(decided(lambda _: []), settings=settings, dialect=dialect) as world:
        assert await refused(world, "1000") == (503, "10")  # and not the next agent that matches
        async with dial(world, "2000"):
            await trio.sleep(0.5)
    assert who(world.record) == ("all", "2000")


async def test_two_calls_at_once_do_not_mix(autojump_clock: MockClock, dialect: Dialect) -> None:
    answers = {"sales": speech(1.5, pitch_hz=210.0, seed=34), "desk": speech(1.5, pitch_hz=210.0, seed=35)}

    def talk(context: Context) -> list[Part]:
        if not context.turns:
            return list(speak_own_phrase(context))
        assert context.turn is not None
        name = "sales" if "sales" in str(context.session["instructions"]) else "desk"
        return [Say(f"This is {name}.", audio=answers[name])]

    heard: dict[str, bytes] = {}
    async with open_world(decided(talk), settings=sales_and_desk(), dialect=dialect, calls=2) as world:

        async def converse(number: str, name: str, wait: float) -> None:
            await trio.sleep(wait)
            async with dial(world, number) as call:
                await call.handset.wait_speech(0.7)
                call.handset.say(QUESTION)
                await call.handset.wait_speech(1.7)
            heard[name] = call.handset.speech_heard()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(converse, "1000", "sales", 0.0)
            nursery.start_soon(converse, "2000", "desk", 0.13)
        assert world.service.calls <= 2
    assert heard == {name: PHRASE[name] + answers[name] for name in PHRASE}
    assert {who(record) for record in world.records} == {("sales", "1000"), ("desk", "2000")}
    for record in world.records:
        assert [said.text for said in record.transcript if said.speaker == "model"] == [
            record.agent,
            f"This is {record.agent}.",
        ]


async def test_each_call_has_its_own_codec(autojump_clock: MockClock, dialect: Dialect) -> None:
    formats = {"PCMU": "audio/pcmu", "PCMA": "audio/pcma"}
    async with open_world(decided(speak_own_phrase), settings=sales_and_desk(), dialect=dialect, calls=2) as world:
        for number, codec in (("1000", "PCMU"), ("2000", "PCMA")):
            async with dial(world, number, codec=codec) as call:
                await call.handset.wait_speech(0.3)
                assert {packet.payload_type for packet in call.handset.heard} == {0 if codec == "PCMU" else 8}
        for session, audio in zip(world.model.sessions, formats.values(), strict=True):
            assert told(session)["audio"]["input"]["format"] == {"type": audio}
            assert told(session)["audio"]["output"]["format"] == {"type": audio}
    assert [record.codec for record in world.records] == ["PCMU", "PCMA"]


PRICES: Final = '''
from aivc import tool


@tool
def price() -> str:
    """The price of all."""
    return "{price} euros"
'''


async def test_each_agent_has_tools_of_its_own(autojump_clock: MockClock, dialect: Dialect, tmp_path: Path) -> None:
    """Even two of the same name."""
    for name, price in (("cheap", "1"), ("dear", "100")):
        (tmp_path / f"{name}.py").write_text(PRICES.format(price=price))
    settings = with_agents(
        ("cheap", {"match": ("1000",), "tools": (str(tmp_path / "cheap.py"),)}),
        ("dear", {"match": ("2000",), "tools": (str(tmp_path / "dear.py"),), "disabled_tools": ("terminate_call",)}),
    )

    def talk(context: Context) -> list[Part]:
        return [] if context.called else [CallTool("price")]

    async with open_world(decided(talk), settings=settings, dialect=dialect, tools=None, calls=3) as world:
        for number in ("1000", "2000", "3000"):
            async with dial(world, number):
                with trio.move_on_after(5.0):
                    session = world.model.sessions[-1]
                    await session.wait_received("conversation.item.create")
        offered = [{tool["name"] for tool in told(session)["tools"]} for session in world.model.sessions]
        assert offered == [
            {"terminate_call", "send_digits", "price"},
            {"send_digits", "price"},
            {"terminate_call", "send_digits"},
        ]
    outputs = [run.output for record in world.records for run in record.tools]
    assert outputs[:2] == ["1 euros", "100 euros"]
    assert "there is no tool 'price'" in json.loads(outputs[2])["error"]
