"""What a call's headers carry: who calls, what the trunk knows of them, and what we say when we leave or transfer."""

from __future__ import annotations

from typing import Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending, ToolContext, ToolError, tool
from aivc.testing import CallTool, Say, Transfers, scripted, speech
from scenarios.conftest import Dialect
from scenarios.front_ends import FrontEndName
from scenarios.world import PHONE, World, changed, open_world

GREETING: Final = speech(0.3, pitch_hz=210.0)
TRUSTED: Final = changed(sip={"trusted": (f"{PHONE}/32",)})
ASSERTED: Final = ("P-Asserted-Identity", '"Bob" <sip:+15551234@carrier.test>, <tel:+15551234>')
SUPPORT: Final = "sip:support@example.com"


def instructions(world: World) -> str:
    return str(world.session.received("session.update")[0]["session"]["instructions"])


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_trunk_is_believed_who_calls_and_nobody_else_is(
    autojump_clock: MockClock, dialect: Dialect, front_end: FrontEndName, trusted: bool
) -> None:
    settings = changed(TRUSTED if trusted else changed(), openai={"instructions": "The caller is {{caller}}."})
    async with open_world(scripted([[]]), settings=settings, dialect=dialect) as world:
        async with world.dial(headers=(ASSERTED,)) as call:
            await trio.sleep(0.1)
        is_believed = trusted or front_end == "opensips"  # whose script says whose word counts
        caller = "sip:+15551234@carrier.test" if is_believed else f"sip:alice@{PHONE}"
        assert instructions(world) == f"The caller is {caller}."
        assert call.hung_up_at is None
    assert world.record.caller == caller


@pytest.mark.parametrize("asserted", ["nonsense <", "<sip:a@b>, <sip:c@d>, <sip:e@f>", ""])
async def test_an_identity_that_cannot_be_read_does_not_cost_the_call(autojump_clock: MockClock, asserted: str) -> None:
    async with (
        open_world(scripted([[]]), settings=TRUSTED) as world,
        world.dial(headers=(("P-Asserted-Identity", asserted),)),
    ):
        await trio.sleep(0.1)
    assert world.record.caller in ("sip:a@b", f"sip:alice@{PHONE}")
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_header_fields_go_into_the_record_the_instructions_and_to_tools(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    seen: list[tuple[str | None, str]] = []

    @tool
    async def look_up(context: ToolContext) -> str:
        """Look up the customer."""
        seen.append((context.headers.get("x-customer"), context.caller))
        assert "authorization" not in context.headers
        return "found"

    settings = changed(
        sip={"pass_headers": ("X-Customer", "User-to-User", "X-Missing")},
        openai={"instructions": "Customer {{header.X-Customer}}, {{header.X-Missing}}, {{header.X-Secret}}."},
    )
    script = scripted([[CallTool("look_up")], [Say("Hello.", audio=GREETING)]])
    fields = (
        ("X-Customer", "4711"),
        ("X-Secret", "no"),
        ("User-to-User", "56a390f3d2b7310023a2;encoding=hex"),
        ("Authorization", 'Digest username="a"'),
    )
    async with open_world(script, settings=settings, dialect=dialect, tools=(look_up,)) as world:
        async with world.dial(headers=fields) as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.3)
        assert instructions(world) == "Customer 4711, , {{header.X-Secret}}."
    assert seen == [("4711", f"sip:alice@{PHONE}")]
    assert world.record.headers == {"X-Customer": "4711", "User-to-User": "56a390f3d2b7310023a2;encoding=hex"}


async def test_our_bye_says_what_the_settings_and_the_tool_want(autojump_clock: MockClock, dialect: Dialect) -> None:
    @tool
    async def leave(context: ToolContext) -> str:
        """Leave."""
        context.hang_up({"X-Result": "sold", "X-Reason": "the tool"})
        return "bye"

    settings = changed(sip={"bye_headers": {"X-Reason": "the settings", "X-Site": "one"}})
    async with open_world(scripted([[CallTool("leave")]]), settings=settings, dialect=dialect, tools=(leave,)) as world:
        async with world.dial() as call:
            await call.wait_hung_up()
        (bye,) = {str(request.cseq): request for request in call.requests}.values()
        assert bye.header("X-Result") == "sold"
        assert bye.headers.lines("X-Reason") == ["the tool"]
        assert bye.header("X-Site") == "one"
        assert bye.header("Reason") == 'SIP;cause=200;text="model_hung_up: the agent ended the call"'
    assert world.record.ending is Ending.MODEL_HUNG_UP


async def test_our_refer_says_what_the_settings_and_the_tool_want(autojump_clock: MockClock, dialect: Dialect) -> None:
    @tool
    async def hand_over(context: ToolContext) -> str:
        """Hand over."""
        return await context.transfer(headers={"X-Case": "17", "X-Reason": "the tool"})

    settings = changed(
        sip={"refer_headers": {"X-Reason": "the settings", "X-Site": "one"}}, openai={"transfer_to": SUPPORT}
    )
    async with open_world(
        scripted([[CallTool("hand_over")]]), settings=settings, dialect=dialect, tools=(hand_over,)
    ) as world:
        async with world.dial(transfers=Transfers()) as call:
            await call.wait_hung_up()
        request = call.referrals[0].request
        assert request.header("X-Case") == "17"
        assert request.headers.lines("X-Reason") == ["the tool"]
        assert request.header("X-Site") == "one"
        assert request.headers.lines("Refer-To") == [f"<{SUPPORT}>"]
    assert world.record.ending is Ending.TRANSFERRED


@pytest.mark.parametrize("fields", [{"Via": "x"}, {"X-A": "b\r\nX-C: d"}, {"Content-Length": "9"}, {"Bad Name": "x"}])
async def test_what_must_not_be_sent_is_not_and_the_call_ends_all_the_same(
    autojump_clock: MockClock, fields: dict[str, str]
) -> None:
    @tool
    async def leave(context: ToolContext) -> str:
        """Leave."""
        try:
            context.hang_up(fields)
        except ToolError:
            context.hang_up()
        return "bye"

    async with open_world(scripted([[CallTool("leave")]]), tools=(leave,)) as world:
        async with world.dial() as call:
            await call.wait_hung_up()
        (bye,) = {str(request.cseq): request for request in call.requests}.values()
        assert len(bye.headers.lines("Via")) == 1
        assert [bye.headers.get(name) for name in ("X-A", "X-C", "Bad Name")] == [None] * 3
    assert world.record.ending is Ending.MODEL_HUNG_UP
