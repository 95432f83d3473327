"""Tools that take their time: what the caller hears meanwhile, what becomes of the result, what a tool may do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import attrs
import pytest
import trio
from trio.testing import MockClock

from aivc import Ending, tool
from aivc.config.settings import Settings, SoundsSettings
from aivc.nursery.record import ToolFinished
from aivc.testing import CallTool, Context, Part, PhoneCall, Say, Script, Session, decided, scripted, speech
from scenarios.conftest import Dialect
from scenarios.world import SETTINGS, changed, open_world

ANSWER: Final = speech(0.4, pitch_hz=210.0, seed=41)
ONE_MOMENT: Final = speech(0.3, pitch_hz=210.0, seed=42)
LONG: Final = speech(4.0, pitch_hz=210.0, seed=43)
MUSIC: Final = speech(1.0, pitch_hz=300.0, seed=44)
QUESTION: Final = speech(0.3, seed=45)
ALL_AT_ONCE: Final = 100.0


@tool
async def look_up(seconds: float = 2.0) -> str:
    """Look it up in many books."""
    await trio.sleep(seconds)
    return f"found after {seconds:g} s"


def outputs(session: Session) -> list[str]:
    items = [event["item"] for event in session.received("conversation.item.create")]
    return [item["output"] for item in items if item["type"] == "function_call_output"]


def instructions(session: Session) -> list[str | None]:
    """Of every response that was asked for."""
    return [event.get("response", {}).get("instructions") for event in session.received("response.create")]


def answering(*calls: CallTool, filler: Part | None = None) -> Script:
    """A model that calls these, says what it is told to, and then what came of it."""

    def respond(context: Context) -> list[Part]:
        if not context.responses:
            return list(calls)
        if context.instructions and filler is not None:
            return [filler]
        return [Say("It is so.", audio=ANSWER)]

    return decided(respond)


def audible_from(call: PhoneCall, octets: bytes) -> float:
    """When the first packet of this was heard."""
    return next(packet.at for packet in call.handset.heard if packet.payload == octets[:160])


# A sign of life


async def test_the_model_says_one_moment_while_a_slow_tool_runs(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(openai={"filler_after_ms": 500})
    script = answering(CallTool("look_up"), filler=Say("One moment.", audio=ONE_MOMENT))
    async with open_world(script, settings=settings, dialect=dialect, tools=(look_up,)) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(2.5)
        assert call.handset.speech_heard() == ONE_MOMENT + ANSWER
        assert instructions(world.session)[1:] == ["Say only: one moment, please.", None]
    (run,) = world.record.tools
    assert 0.5 <= audible_from(call, ONE_MOMENT) - run.started_at <= 1.2  # half a second, and the model's time
    assert 0.0 <= audible_from(call, ANSWER) - run.ended_at <= 0.7
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_two_slow_tools_are_one_wait(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(openai={"filler_after_ms": 500})
    script = answering(CallTool("look_up"), CallTool("look_up", {"seconds": 3.0}), filler=Say("Mm.", audio=ONE_MOMENT))
    async with open_world(script, settings=settings, dialect=dialect, tools=(look_up,)) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(3.0)
        assert call.handset.speech_heard() == ONE_MOMENT + ANSWER
        assert outputs(world.session) == ["found after 2 s", "found after 3 s"]
        assert len(instructions(world.session)) == 3


async def test_a_quick_tool_needs_no_sign_of_life(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(openai={"filler_after_ms": 500})
    script = answering(CallTool("look_up", {"seconds": 0.4}), filler=Say("One moment.", audio=ONE_MOMENT))
    async with open_world(script, settings=settings, dialect=dialect, tools=(look_up,)) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(2.0)
        assert call.handset.speech_heard() == ANSWER


def with_music(folder: Path) -> Settings:
    file = folder / "music.ulaw"
    file.write_bytes(MUSIC)
    settings = changed(SETTINGS, openai={"filler_after_ms": 500, "filler": "sound"})
    return attrs.evolve(settings, sounds=SoundsSettings(hold=str(file)))


async def test_music_is_played_while_a_slow_tool_runs(
    autojump_clock: MockClock, dialect: Dialect, tmp_path: Path
) -> None:
    script = answering(CallTool("look_up"))
    async with open_world(script, settings=with_music(tmp_path), dialect=dialect, tools=(look_up,)) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(1.0)
        heard = call.handset.speech_heard()
        music = heard.removesuffix(ANSWER)
        assert heard.endswith(ANSWER)
        assert (MUSIC * 2).startswith(music)
        assert len(music) / 8000 == pytest.approx(1.5, abs=0.04)  # from half a second on, until the tool is done
        assert len(world.session.received("response.create")) == 2
    (run,) = world.record.tools
    assert audible_from(call, MUSIC) - run.started_at == pytest.approx(0.5, abs=0.03)


async def test_the_model_speaks_over_the_music(autojump_clock: MockClock, dialect: Dialect, tmp_path: Path) -> None:
    def respond(context: Context) -> list[Part]:
        if context.turns and not context.outputs:
            return [Say("I am still looking.", audio=ONE_MOMENT)]
        return [Say("It is so.", audio=ANSWER)] if context.outputs else [CallTool("look_up", {"seconds": 4.0})]

    settings = with_music(tmp_path)
    async with open_world(decided(respond), settings=settings, dialect=dialect, tools=(look_up,)) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.5)
            call.handset.say(QUESTION)
            await call.handset.wait_silence(1.0)
        heard = call.handset.speech_heard()
        assert heard.count(ONE_MOMENT) == 1  # whole, in the middle of the music
        assert heard.endswith(ANSWER)
        assert (MUSIC * 4).startswith(heard.removesuffix(ANSWER).replace(ONE_MOMENT, b""))
    assert world.record.cuts == ()


# Results


async def test_the_result_of_a_tool_waits_until_the_caller_has_spoken(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    def respond(context: Context) -> list[Part]:
        return [CallTool("look_up", {"seconds": 1.0})] if not context.responses else [Say("So.", audio=ANSWER)]

    async with open_world(decided(respond), dialect=dialect, tools=(look_up,)) as world:
        async with world.dial() as call:
            await world.session.wait_sent("response.done")
            call.handset.say(QUESTION * 6)  # 1.8 s: the tool is done in the middle of it
            await call.handset.wait_speech()
            await call.handset.wait_silence(1.5)
        (told_at,) = [
            seen.at for seen in world.session.events_received if seen.event["type"] == "conversation.item.create"
        ]
        (stopped_at,) = [
            seen.at for seen in world.session.events_sent if seen.event["type"] == "input_audio_buffer.speech_stopped"
        ]
        created = [seen.at for seen in world.session.events_received if seen.event["type"] == "response.create"]
        assert told_at < stopped_at
        assert all(at >= stopped_at for at in created[1:])
        assert ANSWER in call.handset.speech_heard()
        assert call.handset.speech_heard().replace(ANSWER, b"") == b""


async def test_calls_of_one_response_are_answered_together_whatever_became_of_them(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    calls = (CallTool("look_up", {"seconds": 9.0}), CallTool("nothing"), CallTool("look_up", {"seconds": 0.1}))
    settings = changed(openai={"tool_seconds": 1.0})
    async with open_world(answering(*calls), settings=settings, dialect=dialect, tools=(look_up,)) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
        late, unknown, found = outputs(world.session)
        assert json.loads(late)["error"] == "look_up did not finish within 1 seconds"
        assert json.loads(unknown)["error"].startswith("there is no tool 'nothing'")
        assert found == "found after 0.1 s"
        assert len(world.session.received("response.create")) == 2
    assert [run.outcome for run in world.record.tools] == ["unknown", "ok", "timeout"]


@tool(seconds=3.0)
async def patient() -> str:
    """Take longer than others may."""
    await trio.sleep(2.0)
    return "done"


async def test_a_tool_may_have_more_time_than_others(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(openai={"tool_seconds": 1.0})
    script = answering(CallTool("patient"))
    async with open_world(script, settings=settings, dialect=dialect, tools=(patient,)) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
        assert outputs(world.session) == ["done"]


async def test_the_caller_has_the_word_before_tools_go_round_for_ever(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    """Ten rounds without a word of the caller's, then the model must speak; with one, ten more."""
    script = decided(lambda _: [CallTool("look_up", {"seconds": 0.0})])
    async with open_world(script, dialect=dialect, tools=(look_up,), think_ms=10.0) as world:
        async with world.dial() as call:
            await trio.sleep(2.0)
            assert len(outputs(world.session)) == 10
            call.handset.say(QUESTION)
            await trio.sleep(3.0)
            assert len(outputs(world.session)) == 20
        choices = [event.get("response", {}).get("tool_choice") for event in world.session.received("response.create")]
        assert choices.count("none") == 2


async def test_a_tool_that_must_finish_outlives_the_call(autojump_clock: MockClock, dialect: Dialect) -> None:
    done: list[float] = []

    @tool(finish=True)
    async def book() -> str:
        """Book a table."""
        await trio.sleep(3.0)
        done.append(trio.current_time())
        return "booked"

    async with open_world(scripted([[CallTool("book")]]), dialect=dialect, tools=(book,)) as world:
        async with world.dial():
            await world.session.wait_sent("response.done")
            await trio.sleep(0.5)
        hung_up_at = trio.current_time()
        await trio.sleep(0.1)
        assert world.media_sockets() == []  # only the tool goes on
        assert world.session.closed == 1000
        assert done == []
    assert done[0] > hung_up_at + 1.0
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert world.record.ended_at < done[0]
    (run,) = [event.what.run for event in world.events if isinstance(event.what, ToolFinished)]
    assert (run.output, run.outcome, run.ended_at) == ("booked", "ok", done[0])


async def test_a_tool_that_must_finish_has_a_deadline_all_the_same(autojump_clock: MockClock, dialect: Dialect) -> None:
    @tool(finish=True, seconds=2.0)
    async def book() -> None:
        """Never return."""
        await trio.sleep_forever()

    async with open_world(scripted([[CallTool("book")]]), dialect=dialect, tools=(book,)) as world, world.dial():
        await world.session.wait_sent("response.done")
        await trio.sleep(0.5)
    (run,) = [event.what.run for event in world.events if isinstance(event.what, ToolFinished)]
    assert run.outcome == "timeout"
    assert run.ended_at - run.started_at == pytest.approx(2.0)
