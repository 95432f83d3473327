"""The caller puts the call on hold: nobody speaks into the music, and afterwards everything goes on."""

from __future__ import annotations

from itertools import pairwise
from typing import Final, Literal

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending, tool
from aivc.testing import CallTool, Faults, PhoneCall, Say, Script, decided, scripted, speech
from aivc.testing.handset import RtpHeard
from aivc.testing.script import Context, Part
from aivc.testing.wording import Audio, describe
from scenarios.conftest import Dialect
from scenarios.world import PHONE, World, changed, open_world

HELLO: Final = speech(2.0, pitch_hz=210.0, seed=1)
ANSWER: Final = speech(0.7, pitch_hz=210.0, seed=3)
QUESTION: Final = speech(0.4, seed=4)
MUSIC: Final = speech(5.0, pitch_hz=300.0, seed=5)  # for the held, which is somebody else
OCTETS_PER_SECOND: Final = 8000

FEW_SCHEDULES: Final = pytest.mark.parametrize("any_schedule", [0, 7, 12, 19], indirect=True)  # it takes long

Way = Literal["sendonly", "inactive", "0.0.0.0"]
WAYS: Final = pytest.mark.parametrize("way", ["sendonly", "inactive", "0.0.0.0"])


def agent() -> Script:
    """Greets, and answers every turn alike."""

    def respond(context: Context) -> list[Part]:
        return [Say("Yes.", audio=ANSWER)] if context.turns else [Say("Hello.", audio=HELLO)]

    return decided(respond)


async def after_greeting(call: PhoneCall) -> None:
    await call.handset.wait_speech()
    await call.handset.wait_silence(0.3)


async def ask(call: PhoneCall) -> None:
    call.handset.say(QUESTION)
    await call.handset.wait_speech()
    await call.handset.wait_silence(0.5)


async def hold_for(call: PhoneCall, seconds: float, way: Way = "sendonly") -> list[RtpHeard]:
    """Hold with music for so long; returns what the holder heard meanwhile."""
    await call.hold(way)
    seen = len(call.handset.heard)
    if way == "sendonly":
        call.handset.say((MUSIC * 12)[: round(seconds * OCTETS_PER_SECOND)])
    else:
        call.handset.muted = True
    await trio.sleep(seconds)
    heard = call.handset.heard[seen:]
    call.handset.muted = False
    await call.handset.wait_said()
    await call.resume()
    return heard


def check_real_time(world: World, call: PhoneCall, tolerance: float = 0.25) -> None:
    """The model has heard as many seconds as have passed: turn detection counts octets."""
    seconds = call.handset.sent[-1].at - (call.answered_at or 0.0)
    assert len(world.session.received_audio) / OCTETS_PER_SECOND == pytest.approx(seconds, abs=tolerance)


@WAYS
async def test_who_holds_the_call_hears_nothing_and_the_model_hears_silence_in_real_time(
    autojump_clock: MockClock, dialect: Dialect, way: Way
) -> None:
    async with open_world(agent(), dialect=dialect) as world:
        async with world.dial() as call:
            await after_greeting(call)
            before, before_at = len(world.session.received_audio), trio.current_time()
            heard = await hold_for(call, 4.0, way)
            audio = world.session.received_audio[before:]
            assert len(audio) / OCTETS_PER_SECOND == pytest.approx(trio.current_time() - before_at, abs=0.1)
            assert not audio.strip(b"\xff")  # the codec's silence, and nothing of the music
            assert heard == []
            await ask(call)
            check_real_time(world, call)
        assert call.handset.speech_heard() == HELLO + ANSWER
        assert QUESTION in world.session.received_audio
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert world.record.latencies[0].total_ms < 1500


async def test_silence_for_the_model_comes_frame_by_frame(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(agent(), dialect=dialect) as world:
        async with world.dial() as call:
            await after_greeting(call)
            await call.hold("inactive")
            call.handset.muted = True
            await trio.sleep(0.3)
            held_at = trio.current_time()
            await trio.sleep(2.0)
        appended = [seen for seen in world.session.events_received if seen.event["type"].endswith("append")]
        times = [seen.at for seen in appended if held_at <= seen.at <= held_at + 2.0]
        assert len(times) == pytest.approx(100, abs=1)
        assert max(later - earlier for earlier, later in pairwise(times)) <= 0.021


@WAYS
async def test_an_answer_stands_still_while_the_caller_holds_and_goes_on_where_it_stopped(
    autojump_clock: MockClock, dialect: Dialect, way: Way
) -> None:
    async with open_world(agent(), dialect=dialect, speed=100.0) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.5)
            heard = await hold_for(call, 5.0, way)
            assert heard == []
            resumed_at, seen = trio.current_time(), len(call.handset.heard)
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.3)
            after = call.handset.heard[seen:]
            assert after[0].marker  # a talkspurt begins, RFC 3551 section 4.1
            assert [packet.marker for packet in after[1:]].count(True) == 0
            gaps = [later.at - earlier.at for earlier, later in pairwise(after)]
            assert min(gaps) == pytest.approx(0.020) == max(gaps)  # no burst
            spoken = [packet.at for packet in after if call.handset.is_speech(packet)]
            assert spoken[-1] - resumed_at == pytest.approx(len(HELLO) / OCTETS_PER_SECOND - 0.5, abs=0.06)
            sequences = [packet.sequence for packet in call.handset.heard]
            assert {(later - earlier) % 2**16 for earlier, later in pairwise(sequences)} == {1}
            times = [packet.rtp_timestamp for packet in call.handset.heard]
            assert (times[-1] - times[0]) % 2**32 == pytest.approx(
                (call.handset.heard[-1].at - call.handset.heard[0].at) * OCTETS_PER_SECOND, abs=320
            )
        assert call.handset.speech_heard() == HELLO
        assert world.session.received("conversation.item.truncate") == []
    assert world.record.cuts == ()


async def test_what_a_tool_finds_while_the_caller_holds_is_heard_afterwards(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    @tool
    async def look_up() -> str:
        """Take long."""
        await trio.sleep(2.0)
        return "found"

    script = scripted([[CallTool("look_up")], [Say("Found.", audio=ANSWER)]])
    async with open_world(script, dialect=dialect, tools=(look_up,)) as world:
        async with world.dial() as call:
            await world.session.wait_sent("response.done")
            await hold_for(call, 6.0)
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.3)
        assert call.handset.speech_heard() == ANSWER
    assert [run.outcome for run in world.record.tools] == ["ok"]


@FEW_SCHEDULES
@WAYS
async def test_a_hold_may_last_longer_than_silence_may(autojump_clock: MockClock, dialect: Dialect, way: Way) -> None:
    settings = changed(rtp={"timeout_seconds": 3.0})
    async with open_world(agent(), settings=settings, dialect=dialect) as world:
        async with world.dial() as call:
            await after_greeting(call)
            assert await hold_for(call, 12.0, way) == []
            await ask(call)
            call.handset.muted = True  # and a caller who is gone after a hold is noticed as ever
            silent_at = trio.current_time()
            assert await call.wait_hung_up() - silent_at == pytest.approx(3.0, abs=0.1)
        assert call.handset.speech_heard() == HELLO + ANSWER
    assert world.record.ending is Ending.MEDIA_TIMEOUT


async def test_a_model_that_is_to_hear_nothing_of_a_hold_hears_nothing(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(agent(), settings=changed(rtp={"hold": "nothing"}), dialect=dialect) as world:
        async with world.dial() as call:
            await after_greeting(call)
            before = len(world.session.received_audio)
            await hold_for(call, 4.0)
            assert (len(world.session.received_audio) - before) / OCTETS_PER_SECOND < 0.1
            await ask(call)
        assert call.handset.speech_heard() == HELLO + ANSWER


async def test_a_caller_who_holds_from_the_beginning_hears_the_greeting_afterwards(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    settings = changed(openai={"answer_seconds": 2.0})
    async with open_world(agent(), settings=settings, dialect=dialect) as world:
        audio = Audio(own=(PHONE, 4000), codec="PCMU", telephone_event=101, ptime_ms=20, direction="inactive")
        async with world.dial(sdp=describe(audio)) as call:
            await trio.sleep(6.0)
            assert call.handset.heard == []
            await call.resume()
            await after_greeting(call)
        assert call.handset.speech_heard() == HELLO


@FEW_SCHEDULES
async def test_a_model_that_may_not_be_heard_is_not_taken_for_silent(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    settings = changed(openai={"answer_seconds": 2.0})
    faults = Faults(no_response_to_create=True)
    async with (
        open_world(agent(), settings=settings, dialect=dialect, faults=faults, blunders=True) as world,
        world.dial() as call,
    ):
        await trio.sleep(0.5)
        await call.hold("inactive")
        call.handset.muted = True
        await trio.sleep(30.0)
        assert call.hung_up_at is None
        call.handset.muted = False
        await call.resume()
        resumed_at = trio.current_time()
        assert await call.wait_hung_up() - resumed_at < 10.0
    assert world.record.ending is Ending.REALTIME_SILENT


@FEW_SCHEDULES
@pytest.mark.parametrize("detection", ["server_vad", "semantic_vad"])
async def test_who_holds_the_call_is_not_asked_whether_they_are_there(
    autojump_clock: MockClock, dialect: Dialect, detection: str
) -> None:
    settings = changed(openai={"idle_timeout_ms": 5000, "idle_prompts": 1, "turn_detection_type": detection})
    async with (
        open_world(agent(), settings=settings, dialect=dialect) as world,
        world.dial() as call,
    ):
        await after_greeting(call)
        await hold_for(call, 20.0, "inactive")
        assert len(world.session.sent("response.created")) == 1
        assert world.session.sent("input_audio_buffer.timeout_triggered") == []
        resumed_at = trio.current_time()
        await world.session.wait_sent("response.created", count=2)
        assert trio.current_time() - resumed_at == pytest.approx(5.0, abs=0.5)
        await call.wait_hung_up()
    assert world.record.ending is Ending.CALLER_IDLE


async def test_who_hangs_up_while_holding_has_hung_up(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with (
        open_world(agent(), dialect=dialect) as world,
        world.dial() as call,
    ):
        await after_greeting(call)
        await call.hold()
        await trio.sleep(1.0)
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_holds_may_follow_each_other(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(agent(), dialect=dialect, speed=100.0) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.3)
            for way in ("sendonly", "0.0.0.0", "inactive"):
                await call.hold(way)
                await trio.sleep(0.5)
                await call.hold(way)  # a session refresh
                await trio.sleep(0.5)
                await call.resume()
                await call.handset.wait_speech(0.3)
            await call.handset.wait_silence(0.5)
        assert call.handset.speech_heard() == HELLO
    assert world.record.ending is Ending.CALLER_HUNG_UP
