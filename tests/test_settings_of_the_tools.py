"""Every setting of the tools changes what the program does: see test_settings_take_effect.py."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from call_parts import parts
from paper_control import PaperControl
from settings_shown import shows
from trio.testing import MockClock

from aivc.config.settings import HttpTool, OpenAISettings
from aivc.nursery.execution import Workshop
from aivc.nursery.leaving import Leaving
from aivc.realtime.events import FunctionCall, ResponseCreated, ResponseDone
from aivc.realtime.toolcontext import ToolContext
from aivc.realtime.tools import ToolFileError, ToolRegistry, load_registry, tool
from aivc.realtime.transfers import TransferRefused, transfer_uri

SLOW = 4.0  # seconds


@tool
async def look_up() -> str:
    """Look it up."""
    await trio.sleep(SLOW)
    return "found"


def offered(http: tuple[HttpTool, ...] = (), **given: Any) -> dict[str, str]:
    """What the model is told of its functions."""
    return {schema.name: schema.description for schema in load_registry(OpenAISettings(**given), http).schemas}


async def signs_of_life(**given: Any) -> list[tuple[object, ...]]:
    """What a caller hears while a tool takes its time, with the times since its start."""
    call, control, tools = parts(), PaperControl(), ToolRegistry()
    tools.add(look_up)
    call.performer.handle(ResponseCreated("r1"))
    made = FunctionCall("r1", "i1", "fc1", "look_up", "{}")
    call.performer.handle(made)
    call.performer.handle(ResponseDone("r1", "completed", function_calls=(made,)))
    context = ToolContext("call-1", "sip:alice@192.0.2.9", "1000", control)
    began = trio.current_time()
    with trio.move_on_after(2 * SLOW):
        async with trio.open_nursery() as nursery:
            shop = Workshop(nursery, tools, context, OpenAISettings(**given), call.performer, Leaving())
            with call.jobs.done_by(shop.begin, nursery):
                await trio.sleep_forever()
    return [
        tuple(round(each - began, 3) if isinstance(each, float) else each for each in done) for done in control.done
    ]


@shows("openai.disabled_tools")
def test_a_built_in_function_can_be_withheld() -> None:
    assert list(offered()) == ["terminate_call", "send_digits"]
    assert list(offered(disabled_tools=("send_digits",))) == ["terminate_call"]


@shows("openai.tool_descriptions")
def test_a_function_can_be_described_in_other_words() -> None:
    assert offered(tool_descriptions={"terminate_call": "Bye."})["terminate_call"] == "Bye."
    assert offered(tool_descriptions={"transfer_call": "Not offered here."}) == offered()
    with pytest.raises(ToolFileError, match=r"openai.tool_descriptions: there is no function terminate_cal"):
        offered(tool_descriptions={"terminate_cal": "Bye."})


def test_the_function_that_must_be_used_must_exist() -> None:
    assert offered(tool_choice="terminate_call") == offered()
    with pytest.raises(ToolFileError, match=r"openai.tool_choice: there is no function book"):
        offered(tool_choice="book")


@shows("tools.http")
def test_http_requests_are_functions() -> None:
    stock = HttpTool(name="stock", description="Look whether a book is there.", url="https://example.com/stock")
    assert offered((stock,))["stock"] == "Look whether a book is there."
    assert "stock" not in offered()


@shows("openai.filler_after_ms")
async def test_the_caller_gets_a_sign_of_life_after_so_long(autojump_clock: MockClock) -> None:
    with trio.fail_after(60):
        assert await signs_of_life() == []
        assert await signs_of_life(filler_after_ms=round(1000 * SLOW) + 1) == []
        assert len(await signs_of_life(filler_after_ms=2500)) == 1
        began = (await signs_of_life(filler_after_ms=2500, filler="sound"))[0]
        assert began == ("start_hold_sound", 2.5)


@shows("openai.filler")
async def test_the_sign_of_life_is_speech_or_a_sound(autojump_clock: MockClock) -> None:
    with trio.fail_after(60):
        spoken = await signs_of_life(filler_after_ms=1000, filler="speech")
        played = await signs_of_life(filler_after_ms=1000, filler="sound")
    assert spoken == [("say", "Say only: one moment, please.")]
    assert played == [("start_hold_sound", 1.0), ("stop_hold_sound", SLOW)]


@shows("openai.filler_message")
async def test_the_model_is_told_what_to_say_meanwhile(autojump_clock: MockClock) -> None:
    with trio.fail_after(60):
        assert await signs_of_life(filler_after_ms=1000, filler_message="Hum.") == [("say", "Hum.")]


@shows("openai.transfer_to")
def test_there_is_a_usual_place_to_transfer_to() -> None:
    assert "transfer_call" not in offered()
    assert "transfer_call" in offered(transfer_to="sip:desk@example.com")
    assert transfer_uri(OpenAISettings(transfer_to="sip:desk@example.com"), None) == "sip:desk@example.com"


@shows("openai.transfer_targets")
def test_names_can_be_transferred_to() -> None:
    assert "transfer_call" in offered(transfer_targets={"sales": "sip:sales@example.com"})
    settings = OpenAISettings(transfer_targets={"sales": "sip:sales@example.com"})
    assert transfer_uri(settings, "Sales") == "sip:sales@example.com"


@shows("openai.transfer_allow")
def test_a_number_in_the_models_words_is_called_if_a_pattern_allows_it() -> None:
    assert "transfer_call" in offered(transfer_allow=("[0-9]{3}",))
    assert transfer_uri(OpenAISettings(transfer_allow=("[0-9]{3}",)), "123") == "tel:123"
    with pytest.raises(TransferRefused):
        transfer_uri(OpenAISettings(transfer_to="sip:desk@example.com"), "123")
