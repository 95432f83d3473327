"""The model hangs up: its last words are heard to the end, and nobody hangs up on a caller who speaks."""

from __future__ import annotations

import json
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.nursery.leaving import GOES_ON, JITTER_BUFFER
from aivc.testing import CallTool, Context, Fail, Faults, Part, PhoneCall, Say, Session, decided, scripted, speech
from scenarios.conftest import Dialect
from scenarios.world import DELAY, World, changed, open_world

BYE_BYE: Final = speech(1.0, pitch_hz=210.0, seed=11)
ANSWER: Final = speech(0.4, pitch_hz=210.0, seed=12)
WAIT: Final = speech(0.3, seed=13)
HANG_UP: Final = CallTool("terminate_call")
GOODBYE: Final = (Say("Goodbye.", audio=BYE_BYE), HANG_UP)
ALL_AT_ONCE: Final = 100.0  # speed of a model that has generated its goodbye long before it is heard


def byes(call: PhoneCall) -> int:
    return len({request.header("CSeq") for request in call.requests if request.method == "BYE"})


def outputs(session: Session) -> list[str]:
    items = [event["item"] for event in session.received("conversation.item.create")]
    return [item["output"] for item in items if item["type"] == "function_call_output"]


def last_spoken(call: PhoneCall) -> float:
    return [packet.at for packet in call.handset.heard if call.handset.is_speech(packet)][-1]


async def hear_goodbye(world: World) -> PhoneCall:
    """Let the model say goodbye and hang up; the goodbye is heard octet by octet, then there is one BYE."""
    async with world.dial() as call:
        hung_up_at = await call.wait_hung_up()
    assert call.handset.speech_heard() == BYE_BYE
    assert JITTER_BUFFER <= hung_up_at - last_spoken(call) <= JITTER_BUFFER + 0.040
    assert byes(call) == 1
    return call


@pytest.mark.parametrize("speed", [1.5, ALL_AT_ONCE], ids=["as it comes", "all at once"])
async def test_every_octet_of_the_goodbye_is_heard_before_the_bye(
    autojump_clock: MockClock, dialect: Dialect, speed: float
) -> None:
    async with open_world(scripted([GOODBYE]), dialect=dialect, speed=speed) as world:
        await hear_goodbye(world)
        assert len(world.session.received("response.create")) == 1
        assert outputs(world.session) == []  # nothing is left for the model to say
    assert world.record.ending is Ending.MODEL_HUNG_UP
    (goodbye,) = world.record.transcript
    assert (goodbye.text, goodbye.heard_ms, goodbye.interrupted) == ("Goodbye.", 1000, False)


async def test_a_caller_who_speaks_again_is_not_hung_up_on(autojump_clock: MockClock, dialect: Dialect) -> None:
    later = speech(0.5, pitch_hz=210.0, seed=14)

    def talk(context: Context) -> list[Part]:
        if context.outputs:
            return [Say("Of course.", audio=ANSWER)]
        if context.turns == 2:
            return [Say("Bye, then.", audio=later), HANG_UP]
        return list(GOODBYE) if not context.turns else []

    async with open_world(decided(talk), dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.4)
            call.handset.say(WAIT)
            await world.session.wait_sent("response.done", count=3)  # goodbye, the turn's answer, the output's
            await trio.sleep(8.0)  # far beyond the time that the goodbye would have taken
            assert call.hung_up_at is None
            assert outputs(world.session) == [GOES_ON]
            assert call.handset.speech_heard().endswith(ANSWER)
            call.handset.say(WAIT)
            await call.wait_hung_up()
        assert call.handset.speech_heard().endswith(later)
        assert byes(call) == 1
        assert not call.handset.speech_heard().startswith(BYE_BYE)
    assert world.record.ending is Ending.MODEL_HUNG_UP
    assert [run.name for run in world.record.tools] == ["terminate_call"] * 2
    assert world.record.transcript[0].interrupted


async def test_a_caller_who_speaks_just_before_the_bye_is_not_hung_up_on(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    script = scripted([GOODBYE, [Say("Yes?", audio=ANSWER)]])
    async with open_world(script, dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(1.0)
            call.handset.say(WAIT)  # everything was heard, and the telephone still plays the last of it
            await call.handset.wait_speech()
            await trio.sleep(2.0)
            assert call.hung_up_at is None
            assert outputs(world.session) == [GOES_ON]
        assert call.handset.speech_heard() == BYE_BYE + ANSWER
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert world.record.cuts == ()


async def test_a_goodbye_without_end_is_cut(autojump_clock: MockClock, dialect: Dialect) -> None:
    script = scripted([[HANG_UP, Say("Goodbye, and", audio=BYE_BYE * 5)]])
    settings = changed(openai={"farewell_seconds": 2.0})
    async with open_world(script, settings=settings, dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            began = await call.handset.wait_speech()
            hung_up_at = await call.wait_hung_up()
        assert began + 1.5 <= hung_up_at <= began + 2.0 + 2 * DELAY
        assert byes(call) == 1
    assert world.record.ending is Ending.MODEL_HUNG_UP


async def test_a_goodbye_whose_end_is_never_told_is_over_by_the_deadline(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    settings, faults = changed(openai={"farewell_seconds": 3.0}), Faults(response_done="lost")
    world_of = open_world(scripted([GOODBYE]), settings=settings, dialect=dialect, speed=ALL_AT_ONCE, faults=faults)
    async with world_of as world:
        async with world.dial() as call:
            began = await call.handset.wait_speech()
            assert await call.wait_hung_up() == pytest.approx(began + 3.0, abs=0.1)
        assert call.handset.speech_heard() == BYE_BYE
    assert world.record.ending is Ending.MODEL_HUNG_UP


async def test_a_goodbye_that_fails_after_the_hang_up_is_not_said_again(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    script = scripted([[*GOODBYE, Fail()], [Say("Goodbye again.", audio=ANSWER)]])
    settings = changed(openai={"welcome_message": None})
    async with open_world(script, settings=settings, dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            call.handset.say(WAIT)
            await call.wait_hung_up()
        assert call.handset.speech_heard() == BYE_BYE
        assert world.session.received("response.create") == []
    assert world.record.ending is Ending.MODEL_HUNG_UP
    assert world.record.realtime_errors == {"server_error": 1}


async def test_a_goodbye_that_fails_before_the_hang_up_is_said_once_more(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(scripted([[Fail()], GOODBYE]), dialect=dialect, speed=ALL_AT_ONCE) as world:
        await hear_goodbye(world)
    assert world.record.ending is Ending.MODEL_HUNG_UP


async def test_two_hang_ups_in_one_response_are_one_bye(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(scripted([[*GOODBYE, HANG_UP]]), dialect=dialect, speed=ALL_AT_ONCE) as world:
        await hear_goodbye(world)
        assert outputs(world.session) == []
    assert [run.name for run in world.record.tools] == ["terminate_call"] * 2
    assert world.record.ending is Ending.MODEL_HUNG_UP


async def test_both_hang_ups_of_one_response_are_answered_when_the_caller_speaks(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(scripted([[*GOODBYE, HANG_UP]]), dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.4)
            call.handset.say(WAIT)
            await trio.sleep(3.0)
        assert outputs(world.session) == [GOES_ON] * 2
        assert byes(call) == 0


async def test_a_hang_up_without_a_word_ends_the_call_at_once(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(scripted([[HANG_UP], [Say("Goodbye!", audio=ANSWER)]]), dialect=dialect) as world:
        async with world.dial() as call:
            hung_up_at = await call.wait_hung_up()
        assert call.handset.speech_heard() == b""
        assert len(world.session.received("response.create")) == 1
        (done,) = [seen.at for seen in world.session.events_sent if seen.event["type"] == "response.done"]
        assert hung_up_at - done <= JITTER_BUFFER + 0.030
        assert byes(call) == 1
    assert world.record.ending is Ending.MODEL_HUNG_UP


async def test_a_key_pressed_during_the_goodbye_withdraws_it(autojump_clock: MockClock, dialect: Dialect) -> None:
    def talk(context: Context) -> list[Part]:
        if context.texts:
            return [Say("Number one.", audio=ANSWER)]
        return [] if context.outputs else list(GOODBYE)

    async with open_world(decided(talk), dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.4)
            call.handset.press("1#")
            await call.handset.wait_silence(0.5)
            await trio.sleep(4.0)
            assert outputs(world.session) == [GOES_ON]
        heard = call.handset.speech_heard()
        assert heard.endswith(ANSWER)
        assert BYE_BYE.startswith(heard.removesuffix(ANSWER))
        assert 3200 <= len(heard) - len(ANSWER) <= 4000
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert [entry.digits for entry in world.record.digits] == ["1"]


async def test_the_callers_bye_may_cross_ours(autojump_clock: MockClock, dialect: Dialect) -> None:
    async def hang_up_early(seconds: float) -> tuple[Ending, int]:
        """Hang up so long before our BYE would come; who was recorded, and how many of ours came."""
        async with (
            open_world(scripted([GOODBYE]), dialect=dialect, speed=ALL_AT_ONCE) as world,
            world.dial() as call,
        ):
            assert call.answered_at is not None
            await trio.sleep_until(call.answered_at + came_after - seconds)
            assert call.hung_up_at is None
        return world.record.ending, byes(call)

    async with open_world(scripted([GOODBYE]), dialect=dialect, speed=ALL_AT_ONCE) as world, world.dial() as call:
        assert call.answered_at is not None
        came_after = await call.wait_hung_up() - call.answered_at
    assert await hang_up_early(3 * DELAY) == (Ending.CALLER_HUNG_UP, 0)
    for seconds in (1.5 * DELAY, 0.5 * DELAY):  # before ours has left, but not come yet, and after
        assert await hang_up_early(seconds) == (Ending.MODEL_HUNG_UP, 1)


async def test_a_caller_who_hangs_up_during_the_goodbye_hung_up(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(scripted([GOODBYE]), dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.5)
        assert byes(call) == 0
    assert world.record.ending is Ending.CALLER_HUNG_UP


@pytest.mark.parametrize("way", ["close", "drop"])
async def test_a_session_lost_during_the_goodbye_is_not_missed(
    autojump_clock: MockClock, dialect: Dialect, way: str
) -> None:
    async with open_world(scripted([GOODBYE]), dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.3)
            getattr(world.session, way)()
            hung_up_at = await call.wait_hung_up()
        assert call.handset.speech_heard() == BYE_BYE
        assert hung_up_at - last_spoken(call) <= JITTER_BUFFER + 0.040
        assert len(world.model.sessions) == 1
    assert world.record.ending is Ending.MODEL_HUNG_UP


async def test_a_caller_may_speak_again_when_the_session_is_lost_during_the_goodbye(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    """Nobody hears them any more: the call ends as it was to end."""
    async with open_world(scripted([GOODBYE]), dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.3)
            world.session.drop()
            call.handset.say(WAIT)
            await call.wait_hung_up()
        assert call.handset.speech_heard() == BYE_BYE
    assert world.record.ending is Ending.MODEL_HUNG_UP


def offered(session: Session) -> dict[str, str]:
    """The functions that the model was told of, with their descriptions."""
    (update, *_) = session.received("session.update")
    return {tool["name"]: tool["description"] for tool in update["session"]["tools"]}


async def test_the_model_is_told_to_say_goodbye_first(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(scripted([[]]), dialect=dialect) as world:
        async with world.dial():
            await trio.sleep(0.5)
        assert "goodbye aloud first" in offered(world.session)["terminate_call"]


async def test_a_model_that_may_not_hang_up_is_not_offered_to(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(openai={"disabled_tools": ("terminate_call",)})
    script = scripted([GOODBYE, [Say("You hang up.", audio=ANSWER)]])
    async with open_world(script, settings=settings, dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await world.session.wait_sent("response.done", count=2)
            await call.handset.wait_silence(1.0)
            assert byes(call) == 0
        assert "terminate_call" not in offered(world.session)
        (output,) = outputs(world.session)
        assert json.loads(output)["error"].startswith("there is no tool 'terminate_call'")
        assert call.handset.speech_heard() == BYE_BYE + ANSWER


async def test_hanging_up_may_be_described_anew(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(openai={"tool_descriptions": {"terminate_call": "Hang up on Alice."}})
    async with open_world(scripted([GOODBYE]), settings=settings, dialect=dialect, speed=ALL_AT_ONCE) as world:
        await hear_goodbye(world)
        assert offered(world.session)["terminate_call"] == "Hang up on Alice."
