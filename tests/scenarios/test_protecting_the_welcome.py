"""`welcome_interruptible = false`: the welcome is heard to its end, whoever speaks meanwhile."""

from __future__ import annotations

from typing import Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.realtime.courtesies import GREETING_SECONDS
from aivc.testing import CallTool, Fail, Faults, PhoneCall, Say, Session, scripted, silence, speech
from scenarios.barge_in import (
    ALL_AT_ONCE,
    LONG,
    OCTETS_PER_MS,
    SHORT,
    corrections,
    interrupt_when_heard,
    left_at,
    requests,
    times_sent,
)
from scenarios.conftest import Dialect
from scenarios.world import DELAY, changed, open_world

PROTECTED: Final = changed(openai={"welcome_interruptible": False, "transcription_model": "gpt-transcribe"})
CALLER: Final = speech(0.7, seed=5)
STARTED: Final = "input_audio_buffer.speech_started"
TALK: Final = scripted([[Say("Welcome to Example Ltd.", audio=LONG)], [Say("Yes?", audio=SHORT)]])
PACKET: Final = 0.020  # seconds


def is_silent(octets: bytes) -> bool:
    return octets == silence(len(octets) / 8000)


def heard_by_model(session: Session) -> list[tuple[float, bool]]:
    """When each of the caller's packets came, and whether there was a sound in it."""
    audio, at = session.received_audio, 0
    packets = []
    for seen in session.events_received:
        if seen.event["type"] == "input_audio_buffer.append":
            packets.append((seen.at, not is_silent(audio[at : at + 160])))
            at += 160
    assert at == len(audio)
    return packets


@pytest.mark.parametrize("speed", [1.5, ALL_AT_ONCE], ids=["as it comes", "all at once"])
@pytest.mark.parametrize("interruption", ["cut", "confirm"])
async def test_who_speaks_during_the_welcome_hears_all_of_it(
    autojump_clock: MockClock, dialect: Dialect, speed: float, interruption: str
) -> None:
    settings = changed(PROTECTED, openai={"interruption": interruption})
    async with open_world(TALK, settings=settings, dialect=dialect, speed=speed, delta_ms=(40.0, 80.0)) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 800, CALLER)
            await call.handset.wait_silence(1.0)
            session = world.session
            assert call.handset.speech_heard() == LONG
            assert is_silent(session.received_audio)
            assert len(session.received_audio) >= 4.0 * 8000  # at the pace of the call
            assert times_sent(session, STARTED) == []
            call.handset.say(CALLER)  # now it is listened to
            await call.handset.wait_speech()
            await call.handset.wait_silence(1.0)
        assert CALLER in session.received_audio
        assert call.handset.speech_heard() == LONG + SHORT
        assert corrections(session) == session.received("response.cancel") == []
    assert (world.record.cuts, world.record.false_interruptions) == ((), 0)
    assert [said.speaker for said in world.record.transcript] == ["model", "caller", "model"]


async def test_who_goes_on_speaking_is_heard_from_the_end_of_the_welcome(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    words = speech(2.0, seed=6)
    async with open_world(TALK, settings=PROTECTED, dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(2.0)
            call.handset.say(words)
            await call.handset.wait_said()
            await call.handset.wait_silence(1.0)
        session = world.session
        assert call.handset.speech_heard() == LONG + SHORT
        welcome_left = left_at(call)[len(LONG) // 160 - 1]
        first_sound = next(at for at, sound in heard_by_model(session) if sound)
        assert welcome_left <= first_sound <= welcome_left + PACKET
        heard = session.received_audio.strip(b"\xff")
        assert words.strip(b"\xff").endswith(heard)
        assert len(heard) == pytest.approx(len(words) / 2, abs=2 * 160)
        assert corrections(session) == []


async def test_a_welcome_of_several_items_and_a_tool_is_protected_until_its_words_were_played(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    script = scripted([[Say("Welcome.", audio=SHORT), Say("How are you?", audio=LONG)], [Say("Yes?", audio=SHORT)]])
    async with open_world(script, settings=PROTECTED, dialect=dialect) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 400, CALLER)
            await call.handset.wait_silence(1.0)
        assert call.handset.speech_heard() == SHORT + LONG
        assert is_silent(world.session.received_audio)


async def check_is_heard(session: Session, call: PhoneCall, began: float) -> None:
    """What the caller says from now on is heard, and answered."""
    call.handset.say(CALLER)
    await session.wait_until(lambda it: times_sent(it, STARTED) != [])
    assert times_sent(session, STARTED)[0] - began < 0.1


async def test_a_welcome_that_fails_twice_holds_nobody_back(autojump_clock: MockClock, dialect: Dialect) -> None:
    script = scripted([[Fail()], [Fail()], [Say("Yes?", audio=SHORT)]])
    async with open_world(script, settings=PROTECTED, dialect=dialect) as world:
        async with world.dial() as call:
            call.handset.say(silence(0.1))
            await world.session.wait_sent("response.done", count=2)
            await check_is_heard(world.session, call, trio.current_time())
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.5)
        assert call.handset.speech_heard() == SHORT
        assert len(requests(world.session)) == 2
    assert world.record.realtime_errors == {"server_error": 2}


async def test_a_welcome_that_is_refused_holds_nobody_back(autojump_clock: MockClock, dialect: Dialect) -> None:
    refusing = Faults(no_response_to_create=True)
    world_of = open_world(TALK, settings=PROTECTED, dialect=dialect, faults=refusing)
    async with world_of as world, world.dial() as call:
        asked = await world.session.wait_received("response.create")
        error = {"type": "invalid_request_error", "code": "invalid_value", "message": "No.", "param": None}
        world.session.send({"type": "error", "error": {**error, "event_id": asked["event_id"]}})
        await trio.sleep(PACKET)
        await check_is_heard(world.session, call, trio.current_time())
    assert world.record.realtime_errors == {"invalid_value": 1}


async def test_a_welcome_that_never_comes_holds_nobody_back_for_long(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    deaf, settings = Faults(no_response_to_create=True), changed(PROTECTED, openai={"answer_seconds": 0.0})
    async with open_world(TALK, settings=settings, dialect=dialect, faults=deaf) as world, world.dial() as call:
        answered_at = trio.current_time()
        await trio.sleep(8.0)
        assert len(requests(world.session)) == 2  # asked for once more
        assert times_sent(world.session, STARTED) == []
        await trio.sleep(answered_at + 10.0 - trio.current_time())  # and not answered either
        await check_is_heard(world.session, call, trio.current_time())
    assert world.record.realtime_errors == {"response_timeout": 2}


async def test_a_welcome_whose_end_is_never_told_holds_nobody_back_for_ever(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    faults, settings = Faults(response_done="lost"), changed(PROTECTED, openai={"answer_seconds": 0.0})
    async with open_world(TALK, settings=settings, dialect=dialect, faults=faults, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            answered_at = trio.current_time()
            await trio.sleep(GREETING_SECONDS - 1.0)
            assert is_silent(world.session.received_audio)
            await trio.sleep(answered_at + GREETING_SECONDS - trio.current_time())
            await check_is_heard(world.session, call, trio.current_time())
        assert call.handset.speech_heard() == LONG


async def test_a_welcome_whose_end_alone_is_lost_holds_nobody_back_once_it_was_heard_and_is_missed(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    faults, settings = Faults(response_done="lost"), changed(PROTECTED, openai={"answer_seconds": 3.0})
    async with open_world(TALK, settings=settings, dialect=dialect, faults=faults, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await trio.sleep(8.0)
            await check_is_heard(world.session, call, trio.current_time())
        assert call.handset.speech_heard() == LONG
    assert world.record.realtime_errors == {}


async def test_a_welcome_that_breaks_off_with_the_session_is_not_protected_any_more_once_it_was_heard(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    script = scripted([[Say("Welcome to Example Ltd.", audio=LONG)]])
    async with open_world(script, settings=PROTECTED, dialect=dialect, speed=1.5) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.5)
            world.session.drop()
            second = await world.model.wait_session(2)
            await call.handset.wait_silence(3.5)  # the second session greets again, in the same words
            call.handset.say(CALLER)
            await second.wait_until(lambda it: times_sent(it, STARTED) != [])
        assert LONG in call.handset.speech_heard()
        assert is_silent(world.model.sessions[0].received_audio)
    assert world.record.sessions == 2


async def test_keys_during_the_welcome_are_told_but_do_not_cut_it(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(TALK, settings=PROTECTED, dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(1.0)
            call.handset.press("7#")
            await call.handset.wait_silence(1.0)
        assert call.handset.speech_heard() == LONG + SHORT
        assert any("7" in text for _, text in world.session.history)
        assert corrections(world.session) == []
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_welcome_that_ends_the_call_is_heard_before_the_bye(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    script = scripted([[Say("Welcome.", audio=SHORT), CallTool("terminate_call")]])
    async with open_world(script, settings=PROTECTED, dialect=dialect) as world:
        async with world.dial() as call:
            hung_up_at = await call.wait_hung_up()
        assert call.handset.speech_heard() == SHORT
        assert hung_up_at - left_at(call)[-1] < 0.2 + 4 * DELAY + 2 * PACKET
    assert world.record.ending is Ending.MODEL_HUNG_UP


async def test_an_interruptible_welcome_is_interrupted(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(PROTECTED, openai={"welcome_interruptible": True})
    async with open_world(TALK, settings=settings, dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 800, CALLER)
            await call.handset.wait_silence(1.5)
        assert call.handset.speech_heard() == LONG[: 800 * OCTETS_PER_MS] + SHORT
