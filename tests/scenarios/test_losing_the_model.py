"""The connection to the model breaks in the middle of a call: another session goes on where the lost one stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import attrs
import pytest
import trio
from trio.testing import MockClock

from aivc import Ending, tool
from aivc.config.settings import SoundsSettings
from aivc.nursery.record import SessionLost, SessionReplaced
from aivc.realtime.replay import keys_pressed
from aivc.testing import CallTool, Faults, PhoneCall, Say, Script, Session, decided, speech
from aivc.testing.script import Context, Part
from scenarios.conftest import Dialect
from scenarios.world import World, changed, open_world

HELLO: Final = speech(0.5, pitch_hz=210.0, seed=1)
ANSWER: Final = speech(3.0, pitch_hz=210.0, seed=2)
MORE: Final = speech(0.6, pitch_hz=210.0, seed=3)
QUESTION: Final = speech(0.4, seed=4)
ASKED: Final = "(0.9 seconds of speech)"  # by the fake model: 300 ms more before it, and 200 ms after
WORDS: Final = "We are open from nine to six on every day but Sunday"
AT_ONCE: Final = 100.0  # speed of a model that has generated an answer long before it is heard
BEARABLE: Final = 2.0  # seconds of silence

SETTINGS: Final = changed(openai={"transcription_model": "gpt-transcribe", "ping_seconds": 1.0, "pong_seconds": 0.5})


def expire(session: Session) -> None:
    error = {"type": "invalid_request_error", "code": "session_expired", "message": "Your session hit the maximum."}
    session.send({"type": "error", "error": {**error, "param": None, "event_id": None}})
    session.close(1001)


LOSSES: Final[dict[str, Callable[[Session], None]]] = {
    "closed with 1011": lambda session: session.close(1011),
    "cut": lambda session: session.drop(),
    "half-open": lambda session: session.stall(),
    "expired without warning": expire,
}


def shop(*, tools: bool = False) -> Script:
    """Greets, answers the first question at length, and any other in short: by what was said, in whichever session."""

    def respond(context: Context) -> Sequence[Part]:
        said = [speaker for speaker, _ in context.history]
        if not said:
            return [Say("Hello.", audio=HELLO)]
        if tools and "function_call" not in said:
            return [CallTool("opening_hours", {"day": "Monday"})]
        if said.count("assistant") < 2:
            return [Say(WORDS, audio=ANSWER)]
        return [Say("And until four on Saturdays.", audio=MORE)]

    return decided(respond)


async def ask(call: PhoneCall) -> None:
    """Hear out what the model says, and ask."""
    await call.handset.wait_speech()
    await call.handset.wait_silence(0.3)
    call.handset.say(QUESTION)
    await call.handset.wait_said()


def silences(call: PhoneCall) -> list[float]:
    """How long the caller heard nothing between two packets with a sound, each time."""
    sounds = [packet.at for packet in call.handset.heard if call.handset.is_speech(packet)]
    return [later - earlier - 0.020 for earlier, later in pairwise(sounds)]


def requests(session: Session) -> list[str | None]:
    """The instructions of every `response.create`."""
    return [event.get("response", {}).get("instructions") for event in session.received("response.create")]


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
async def test_another_session_goes_on_and_the_caller_notices_nothing(
    autojump_clock: MockClock, dialect: Dialect, lose: Callable[[Session], None]
) -> None:
    @tool
    async def opening_hours(day: str) -> str:
        """When the shop is open."""
        return f"{day}: nine to six"

    script, settings = shop(tools=True), SETTINGS
    async with open_world(script, settings=settings, dialect=dialect, tools=(opening_hours,), speed=AT_ONCE) as world:
        async with world.dial() as call:
            await ask(call)
            first = world.model.sessions[0]
            await first.wait_sent("response.done", count=3)
            await call.handset.wait_speech(0.5)
            lose(first)
            second = await world.model.wait_session(2)
            lost_at = trio.current_time()
            await call.handset.wait_silence(0.5)
            heard_at = [packet.at for packet in call.handset.heard if call.handset.is_speech(packet)]
            assert heard_at[-1] > lost_at  # the answer went on after the loss
            assert call.handset.speech_heard() == HELLO + ANSWER
            assert requests(second) == []  # there was nothing left to be said
            call_id = next(item.body["call_id"] for item in first.items if item.body["type"] == "function_call")
            assert second.history == [
                ("assistant", "Hello."),
                ("user", ASKED),
                ("function_call", '{"day": "Monday"}'),
                ("function_call_output", "Monday: nine to six"),
                ("assistant", WORDS),
            ]
            assert [item.body["call_id"] for item in second.items[2:4]] == [call_id, call_id]
            kind = "output_text" if dialect == "ga" else "text"
            told = [event["item"] for event in second.received("conversation.item.create")]
            assert [part["type"] for item in (told[0], told[4]) for part in item["content"]] == [kind, kind]
            call.handset.say(QUESTION)
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.5)
        assert call.handset.speech_heard() == HELLO + ANSWER + MORE
    assert (world.record.ending, world.record.sessions) == (Ending.CALLER_HUNG_UP, 2)
    assert world.record.errors_by_kind.get("realtime_lost", 0) + world.record.errors_by_kind.get("realtime_expired", 0)
    told_of = [event.what for event in world.events if isinstance(event.what, SessionLost | SessionReplaced)]
    assert [type(what) for what in told_of] == [SessionLost, SessionReplaced]


@pytest.mark.parametrize("lose", [LOSSES["closed with 1011"], LOSSES["cut"]], ids=["closed", "cut"])
async def test_an_answer_that_broke_off_is_taken_up_before_the_caller_wonders(
    autojump_clock: MockClock, dialect: Dialect, lose: Callable[[Session], None]
) -> None:
    async with open_world(shop(), settings=SETTINGS, dialect=dialect, speed=1.5) as world:
        async with world.dial() as call:
            await ask(call)
            first = world.model.sessions[0]
            await first.wait_until(lambda session: len(session.items) == 3 and len(session.items[2].audio) > 8000)
            lose(first)
            second = await world.model.wait_session(2)
            await second.wait_sent("response.done")
            await call.handset.wait_silence(1.0)
        heard = call.handset.speech_heard()
        cut = next(item for item in first.items[2:]).audio  # all that came of it
        assert heard.startswith(HELLO + bytes(cut))
        assert heard.rstrip(b"\xff").endswith(MORE)  # the last frame is filled up with silence
        assert max(silences(call)[len(HELLO) // 160 + 1 :]) < BEARABLE
        assert requests(second) == [None]  # the answer, not the greeting
        speaker, text = second.history[2]
        assert speaker == "assistant"
        assert WORDS.startswith(text)
    assert world.record.transcript[2].heard_ms == len(cut) // 8


async def test_a_question_that_nobody_had_answered_is_answered_by_the_second_session(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(shop(), settings=SETTINGS, dialect=dialect) as world:
        async with world.dial() as call:
            await ask(call)
            await world.session.wait_sent("input_audio_buffer.speech_stopped")
            world.session.drop()
            asked_at = trio.current_time()
            answered_at = await call.handset.wait_speech()
            await call.handset.wait_silence(0.5)
        assert answered_at - asked_at < BEARABLE
        assert call.handset.speech_heard() == HELLO + ANSWER
        assert requests(world.model.sessions[1]) == [None]


async def test_what_the_caller_says_while_there_is_no_session_is_heard_by_the_second(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    slow = Faults(session_updated_seconds=0.7)
    async with open_world(shop(), settings=SETTINGS, dialect=dialect, later_faults=(slow,)) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.5)
            world.session.drop()
            call.handset.say(QUESTION)
            await trio.sleep(0.1)
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.5)
        second = world.model.sessions[1]
        assert QUESTION in second.received_audio
        assert call.handset.speech_heard() == HELLO + ANSWER
    assert world.record.rtp.heard_dropped == 0


async def test_who_was_speaking_is_heard_to_the_end_by_the_second_session(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(shop(), settings=SETTINGS, dialect=dialect) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.5)
            call.handset.say(speech(2.0, seed=5))
            await trio.sleep(1.0)
            world.session.drop()
            await call.handset.wait_said()
            said_at = trio.current_time()
            assert await call.handset.wait_speech() - said_at < BEARABLE
            await call.handset.wait_silence(0.5)
        heard = b"".join(session.received_audio for session in world.model.sessions)
        assert len(heard.strip(b"\xff")) >= 16_000 - 2 * 160  # but for what the lost connection had taken
        assert call.handset.speech_heard() == HELLO + ANSWER


async def test_keys_that_are_pressed_while_there_is_no_session_are_told_to_the_second(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    slow = Faults(session_updated_seconds=1.2)
    async with open_world(shop(), settings=SETTINGS, dialect=dialect, later_faults=(slow,)) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.5)
            world.session.drop()
            call.handset.press("4711#")
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.5)
        second = world.model.sessions[1]
        assert [text for speaker, text in second.history if speaker == "user"] == [keys_pressed("4711")]
        assert requests(second) == [None]
        assert call.handset.speech_heard() == HELLO + ANSWER


async def test_a_greeting_that_nobody_heard_is_spoken_by_the_second_session(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(shop(), settings=SETTINGS, dialect=dialect) as world:
        async with world.dial() as call:
            await world.session.wait_sent("response.created")
            world.session.drop()
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.5)
        assert call.handset.speech_heard() == HELLO
        (greeting,) = requests(world.model.sessions[1])
        assert "Hello." in str(greeting)


async def test_of_an_interrupted_answer_the_second_session_knows_what_was_heard(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(shop(), settings=SETTINGS, dialect=dialect, speed=AT_ONCE) as world:
        async with world.dial() as call:
            await ask(call)
            await call.handset.wait_speech(1.0)
            call.handset.say(QUESTION)  # "Stop!"
            await call.handset.wait_said()
            await call.handset.wait_silence(1.5)
            world.session.close(1011)
            second = await world.model.wait_session(2)
            await call.handset.wait_silence(0.5)
        said = [text for speaker, text in second.history if speaker == "assistant"]
        (cut,) = world.model.sessions[0].received("conversation.item.truncate")
        letters = len(WORDS) * cut["audio_end_ms"] // 3000
        assert said[0] == "Hello."
        assert WORDS[:letters].startswith(said[1])
        assert letters - len(said[1]) < 6  # a word that was begun was not heard
        assert said[2] == "And until four on Saturdays."


async def test_the_output_of_a_tool_that_runs_meanwhile_reaches_the_second_session(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    @tool
    async def opening_hours(day: str) -> str:
        """Take long."""
        await trio.sleep(1.5)
        return f"{day}: nine to six"

    script = shop(tools=True)
    async with open_world(script, settings=SETTINGS, dialect=dialect, tools=(opening_hours,), speed=AT_ONCE) as world:
        async with world.dial() as call:
            await ask(call)
            await world.session.wait_sent("response.done", count=2)
            await trio.sleep(0.5)
            world.session.drop()
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.5)
        assert call.handset.speech_heard() == HELLO + ANSWER
        second = world.model.sessions[1]
        assert [entry for entry in second.history if entry[0].startswith("function")] == [
            ("function_call", '{"day": "Monday"}'),
            ("function_call_output", "Monday: nine to six"),
        ]
        assert requests(second) == [None]
    assert [run.outcome for run in world.record.tools] == ["ok"]


async def test_a_second_loss_ends_the_call(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(shop(), settings=SETTINGS, dialect=dialect) as world:
        async with world.dial() as call:
            await ask(call)
            world.session.drop()
            second = await world.model.wait_session(2)
            await call.handset.wait_speech(0.5)
            second.close(1011)
            lost_at = trio.current_time()
            assert await call.wait_hung_up() - lost_at < 0.1
        assert len(world.model.sessions) == 2
        (bye,) = (request for request in call.requests if request.method == "BYE")
        assert bye.header("Reason").endswith('text="realtime_lost: the connection to the model was lost"')  # RFC 3326
    assert (world.record.ending, world.record.sessions) == (Ending.REALTIME_LOST, 2)


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
async def test_without_reconnect_a_loss_ends_the_call_at_once(
    autojump_clock: MockClock, dialect: Dialect, lose: Callable[[Session], None]
) -> None:
    settings = changed(SETTINGS, openai={"reconnect": False})
    async with (
        open_world(shop(), settings=settings, dialect=dialect) as world,
        world.dial() as call,
    ):
        await call.handset.wait_speech(0.2)
        lose(world.session)
        lost_at = trio.current_time()
        patience = 1.6 if lose is LOSSES["half-open"] else 0.1  # a ping a second, half a second for the pong
        assert await call.wait_hung_up() - lost_at < patience
    expected = Ending.REALTIME_EXPIRED if lose is expire else Ending.REALTIME_LOST
    assert (world.record.ending, world.record.sessions) == (expected, 1)


async def lost_when_quiet(world: World, call: PhoneCall) -> float:
    """Lose the session when everything was said; how long the call lasts after that."""
    await call.handset.wait_speech()
    await call.handset.wait_silence(0.5)
    world.session.drop()
    lost_at = trio.current_time()
    return await call.wait_hung_up() - lost_at


async def test_a_second_session_that_is_refused_ends_the_call(autojump_clock: MockClock, dialect: Dialect) -> None:
    refused = Faults(refuse_upgrade=401)
    async with open_world(shop(), settings=SETTINGS, dialect=dialect, later_faults=(refused,)) as world:
        async with world.dial() as call:
            assert await lost_when_quiet(world, call) < 0.1
        assert world.model.asked == 2
    assert (world.record.ending, world.record.sessions) == (Ending.REALTIME_LOST, 1)
    assert "401" in world.record.detail


@pytest.mark.parametrize(
    "fault",
    [Faults(session_updated_seconds=3.0), Faults(silent_upgrade=True), Faults(refuse_upgrade=503)],
    ids=["slow", "silent", "busy"],
)
async def test_a_second_session_that_cannot_be_had_in_two_seconds_ends_the_call(
    autojump_clock: MockClock, dialect: Dialect, fault: Faults
) -> None:
    async with (
        open_world(shop(), settings=SETTINGS, dialect=dialect, later_faults=(fault,)) as world,
        world.dial() as call,
    ):
        assert BEARABLE < await lost_when_quiet(world, call) < BEARABLE + 0.1
    assert world.record.ending is Ending.REALTIME_LOST
    assert "not replaced within 2.0 s" in world.record.detail


async def test_a_server_that_is_busy_for_a_moment_is_asked_again(autojump_clock: MockClock, dialect: Dialect) -> None:
    later = (Faults(refuse_upgrade=503), Faults(refuse_upgrade=429), Faults())
    async with open_world(shop(), settings=SETTINGS, dialect=dialect, later_faults=later) as world:
        async with world.dial() as call:
            await ask(call)
            await world.session.wait_sent("input_audio_buffer.speech_stopped")
            world.session.drop()
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.5)
        assert call.handset.speech_heard() == HELLO + ANSWER
        assert world.model.asked == 4
        assert max(silences(call)) < BEARABLE
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_caller_with_music_waits_longer_for_a_second_session(
    autojump_clock: MockClock, dialect: Dialect, tmp_path: Path
) -> None:
    music, slow = speech(1.0, pitch_hz=300.0, seed=9), Faults(session_updated_seconds=3.5)
    (tmp_path / "hold.ulaw").write_bytes(music)
    settings = attrs.evolve(SETTINGS, sounds=SoundsSettings(hold=str(tmp_path / "hold.ulaw")))
    async with open_world(shop(), settings=settings, dialect=dialect, later_faults=(slow,)) as world:
        async with world.dial() as call:
            await ask(call)
            await world.session.wait_sent("input_audio_buffer.speech_stopped")
            world.session.drop()
            second = await world.model.wait_session(2)
            await second.wait_sent("response.done")
            await call.handset.wait_silence(0.5)
        heard = call.handset.speech_heard()
        assert heard.startswith(HELLO + 3 * music + music[:3200])
        assert heard.endswith(ANSWER)
        between = heard[len(HELLO) : -len(ANSWER)]
        assert between == (4 * music)[: len(between)]
        assert len(between) / 8000 == pytest.approx(3.5, abs=0.1)
    assert world.record.ending is Ending.CALLER_HUNG_UP
