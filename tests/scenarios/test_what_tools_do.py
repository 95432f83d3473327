"""What a tool does to its call: words of its own, an end to the model's, keys, and a memory for the call."""

from __future__ import annotations

import json
from typing import Final

import attrs
import pytest
import trio
from trio.testing import MockClock

from aivc import Ending, ToolContext, tool
from aivc.config.settings import DtmfSettings
from aivc.testing import CallTool, Say, scripted
from scenarios.conftest import Dialect
from scenarios.test_slow_tools import ALL_AT_ONCE, ANSWER, LONG, ONE_MOMENT, answering, instructions, outputs
from scenarios.world import PHONE, RTP_PORT, SETTINGS, changed, open_world


@tool
async def count(context: ToolContext) -> str:
    """Count how often it was called in this call."""
    times = int(str(context.state.get("times", 0))) + 1
    context.state["times"] = times
    return f"{times} of {len(context.state)}"


async def test_tools_remember_for_one_call_only(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(rtp={"max_port": RTP_PORT + 5})
    script = scripted([[CallTool("count")], [CallTool("count")], [Say("Done.", audio=ANSWER)]])
    async with open_world(script, settings=settings, dialect=dialect, tools=(count,), calls=2) as world:
        for _ in range(2):
            async with world.dial() as call:
                await call.handset.wait_speech()
        assert [outputs(session) for session in world.model.sessions] == [["1 of 1", "2 of 1"]] * 2


async def test_a_tool_may_have_the_model_say_something(autojump_clock: MockClock, dialect: Dialect) -> None:
    @tool
    async def ask_around(context: ToolContext) -> str:
        """Ask around, and tell how it goes."""
        await trio.sleep(0.5)
        context.say("Say that the first one did not know.")
        await trio.sleep(1.5)
        return "nobody knows"

    script = answering(CallTool("ask_around"), filler=Say("The first one did not know.", audio=ONE_MOMENT))
    async with open_world(script, dialect=dialect, tools=(ask_around,)) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(2.0)
        assert call.handset.speech_heard() == ONE_MOMENT + ANSWER
        assert instructions(world.session)[1:] == ["Say that the first one did not know.", None]


async def test_a_tool_may_stop_what_the_model_is_saying(autojump_clock: MockClock, dialect: Dialect) -> None:
    @tool
    async def hush(context: ToolContext) -> str:
        """Stop talking."""
        await trio.sleep(1.0)
        context.interrupt()
        return "hushed"

    script = scripted([[CallTool("hush"), Say("I could go on", audio=LONG)], [Say("Yes?", audio=ANSWER)]])
    async with open_world(script, dialect=dialect, speed=ALL_AT_ONCE, tools=(hush,)) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(1.5)
        words = call.handset.speech_heard().removesuffix(ANSWER)
        assert LONG.startswith(words)
        assert len(words) / 8000 == pytest.approx(1.0, abs=0.1)
        (truncation,) = world.session.received("conversation.item.truncate")
        assert truncation["audio_end_ms"] == len(words) // 8
    (cut,) = world.record.cuts
    assert cut.heard_ms == len(words) // 8


async def test_a_tool_may_send_any_event(autojump_clock: MockClock, dialect: Dialect) -> None:
    @tool
    async def note(context: ToolContext) -> str:
        """Tell the model of a note."""
        text = [{"type": "input_text", "text": "The caller is a friend."}]
        context.send_event(
            {"type": "conversation.item.create", "item": {"type": "message", "role": "system", "content": text}}
        )
        return "noted"

    async with open_world(answering(CallTool("note")), dialect=dialect, tools=(note,)) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
        assert ("system", "The caller is a friend.") in world.session.history


KEYS: Final = CallTool("send_digits", {"digits": "47#"})


@pytest.mark.parametrize(("tone_ms", "gap_ms"), [(160, 80), (100, 60)])
async def test_the_model_presses_keys(autojump_clock: MockClock, dialect: Dialect, tone_ms: int, gap_ms: int) -> None:
    settings = attrs.evolve(SETTINGS, dtmf=DtmfSettings(tone_ms=tone_ms, gap_ms=gap_ms))
    async with open_world(answering(KEYS), settings=settings, dialect=dialect) as world:
        async with world.dial() as call:
            digits = await call.handset.wait_digits(3)
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.5)
        assert [(key.digit, key.duration_ms) for key in digits] == [(key, tone_ms) for key in "47#"]
        assert [key.ends for key in call.handset.digits_heard()] == [3] * 3
        assert outputs(world.session) == ["The keys 47# were sent."]
        assert call.handset.speech_heard() == ANSWER
        events = [packet for packet in call.handset.heard if packet.payload_type == 101]
        assert [packet.marker for packet in events].count(True) == 3
        assert {(packet.sequence - call.handset.heard[0].sequence) & 0xFFFF for packet in call.handset.heard} == set(
            range(len(call.handset.heard))
        )
    (run,) = world.record.tools
    assert run.duration_seconds == pytest.approx(3 * (tone_ms + gap_ms) / 1000, abs=0.03)


async def test_the_models_words_wait_while_it_presses_keys(autojump_clock: MockClock, dialect: Dialect) -> None:
    script = scripted([[Say("I press the keys now.", audio=LONG), KEYS], [Say("Done.", audio=ANSWER)]])
    async with open_world(script, dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await call.handset.wait_digits(3)
            await call.handset.wait_silence(1.0)
        handset = call.handset
        assert handset.speech_heard() == LONG + ANSWER  # nothing is lost, it is only later
        during = [packet for packet in handset.heard if packet.payload_type == 101]
        between = [packet for packet in handset.heard if during[0].at < packet.at < during[-1].at]
        assert not [packet for packet in between if handset.is_speech(packet)]
        assert during[-1].at - during[0].at == pytest.approx(3 * 0.24 - 0.08 + 0.02, abs=0.03)
    assert world.record.cuts == ()


async def test_a_telephone_without_keys_is_an_error_for_the_model(autojump_clock: MockClock, dialect: Dialect) -> None:
    media = f"v=0\r\no=- 1 1 IN IP4 {PHONE}\r\ns=-\r\nc=IN IP4 {PHONE}\r\nt=0 0\r\n"
    sdp = f"{media}m=audio 49152 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    async with open_world(answering(KEYS), dialect=dialect) as world:
        async with world.dial(sdp=sdp) as call:
            await world.session.wait_sent("response.done", count=2)
        (output,) = outputs(world.session)
        assert json.loads(output)["error"] == "the peer has not offered telephone-event"
        assert call.handset.digits_heard() == []
    assert [run.outcome for run in world.record.tools] == ["error"]


@pytest.mark.parametrize("digits", ["", "12x", "1" * 101])
async def test_what_are_no_keys_is_an_error_for_the_model(
    autojump_clock: MockClock, dialect: Dialect, digits: str
) -> None:
    async with open_world(answering(CallTool("send_digits", {"digits": digits})), dialect=dialect) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
        (output,) = outputs(world.session)
        assert json.loads(output)["error"]
        assert call.handset.digits_heard() == []


async def test_a_caller_who_hangs_up_hears_no_more_keys(autojump_clock: MockClock, dialect: Dialect) -> None:
    keys = CallTool("send_digits", {"digits": "1" * 50})
    async with open_world(answering(keys), dialect=dialect) as world:
        async with world.dial() as call:
            await call.handset.wait_digits(2)
        assert len(call.handset.digits_heard()) <= 3
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert [run.outcome for run in world.record.tools] == ["cancelled"]
