"""`interruption = "confirm"`: a cough makes the model pause and takes nothing away; who speaks is listened to."""

from __future__ import annotations

from typing import Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending, Settings, tool
from aivc.testing import CallTool, Context, Faults, Part, PhoneCall, Say, Session, decided, scripted, speech
from scenarios.barge_in import (
    ALL_AT_ONCE,
    DELETE,
    LONG,
    OCTETS_PER_MS,
    SHORT,
    TRUNCATE,
    corrections,
    interrupt_when_heard,
    left_at,
    pauses,
    requests,
    times_received,
    times_sent,
)
from scenarios.conftest import Dialect
from scenarios.test_moving_the_media import offer
from scenarios.world import World, changed, open_world

FRAME: Final = 0.020  # seconds
EVEN: Final = (40.0, 80.0)  # ms of audio in a delta: so it is always there in time
COUGH: Final = speech(0.1, seed=4)
WORDS: Final = speech(0.7, seed=5)
STOPPED: Final = "input_audio_buffer.speech_stopped"
STARTED: Final = "input_audio_buffer.speech_started"

BY_SILENCE: Final = changed(openai={"interruption": "confirm", "transcription_model": "gpt-transcribe"})
# Here the server does not tell which silence it waits for, so confirm_ms must have room for that.
BY_MEANING: Final = changed(
    BY_SILENCE,
    openai={"turn_detection_type": "semantic_vad", "turn_detection_eagerness": "high", "confirm_ms": 600},
)
both_detections = pytest.mark.parametrize("settings", [BY_SILENCE, BY_MEANING], ids=["server_vad", "semantic_vad"])
both_speeds = pytest.mark.parametrize("speed", [1.5, ALL_AT_ONCE], ids=["as it comes", "all at once"])

TALK: Final = scripted([[Say("We are open all day.", audio=LONG)], [Say("Yes?", audio=SHORT)]])


def check_pause(call: PhoneCall, session: Session, number: int = 0) -> None:
    """Silence from one frame after the sound was noticed, words again from one frame after its end was."""
    last, following = pauses(call)[number]
    noticed, ended = times_sent(session, STARTED)[number], times_sent(session, STOPPED)[number]
    assert noticed - FRAME <= last <= noticed + FRAME
    assert ended <= following <= ended + FRAME


def deleted(session: Session) -> list[str]:
    return [event["item_id"] for event in session.received(DELETE)]


def sounds(session: Session) -> list[str]:
    """The items of what the caller uttered."""
    return [event["item_id"] for event in session.sent("input_audio_buffer.committed")]


@both_detections
@both_speeds
async def test_a_cough_makes_the_model_pause_and_go_on_at_the_next_octet(
    autojump_clock: MockClock, dialect: Dialect, settings: Settings, speed: float
) -> None:
    async with open_world(TALK, settings=settings, dialect=dialect, speed=speed, delta_ms=EVEN) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 800, COUGH)
            await call.handset.wait_silence(1.5)
        assert call.handset.speech_heard() == LONG
        assert len(pauses(call)) == 1
        check_pause(call, world.session)
        before = [left for left in left_at(call) if left <= pauses(call)[0][0]]
        assert len(before) == 800 / 20
        session = world.session
        assert deleted(session) == sounds(session) != []
        assert session.received(TRUNCATE) == session.received("response.cancel") == []
        assert len(requests(session)) == 1  # the greeting: nobody answers a cough
        assert [item.text for item in session.items] == ["We are open all day."]
    check_nothing_was_cut(world)


def check_nothing_was_cut(world: World, coughs: int = 1) -> None:
    """The record of a call in which the caller only coughed and the model said one thing."""
    record = world.record
    assert record.false_interruptions == coughs
    assert record.cuts == ()
    (said,) = record.transcript
    assert (said.speaker, said.text, said.heard_ms, said.received_ms, said.interrupted) == (
        "model",
        "We are open all day.",
        3000,
        3000,
        False,
    )


@both_detections
@both_speeds
async def test_who_really_speaks_is_listened_to_and_the_model_knows_what_was_heard(
    autojump_clock: MockClock, dialect: Dialect, settings: Settings, speed: float
) -> None:
    async with open_world(TALK, settings=settings, dialect=dialect, speed=speed, delta_ms=EVEN) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 800, WORDS)
            await call.handset.wait_silence(1.5)
        session = world.session
        assert call.handset.speech_heard() == LONG[: 800 * OCTETS_PER_MS] + SHORT
        (truncation,) = corrections(session)
        assert (truncation["item_id"], truncation["audio_end_ms"]) == (session.items[0].id, 800)
        (ended,) = times_sent(session, "input_audio_buffer.committed")
        _, answer = times_received(session, "response.create")
        assert answer == pytest.approx(ended, abs=0.001)
        assert requests(session)[1] is None
        (first_response, _) = session.sent("response.created")
        cancelled = [event["response_id"] for event in session.received("response.cancel")]
        assert cancelled == ([first_response["response"]["id"]] if speed < ALL_AT_ONCE else [])
    assert world.record.false_interruptions == 0
    assert [(cut.heard_ms, cut.item_id) for cut in world.record.cuts] == [(800, truncation["item_id"])]
    said, asked, answered = world.record.transcript
    assert (said.heard_ms, said.interrupted) == (800, True)
    assert "We are open all day.".startswith(said.text)
    assert (asked.speaker, answered.text, answered.interrupted) == ("caller", "Yes?", False)


@pytest.mark.parametrize(
    ("spoken_ms", "counts"), [(220, False), (240, False), (260, True), (280, True), (400, True), (1000, True)]
)
async def test_what_is_no_longer_than_a_cough_does_not_count_and_what_is_longer_does(
    autojump_clock: MockClock, dialect: Dialect, spoken_ms: int, counts: bool
) -> None:
    async with open_world(TALK, settings=BY_SILENCE, dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 600, speech(spoken_ms / 1000, seed=6))
            await call.handset.wait_silence(2.0)
        session, heard = world.session, call.handset.speech_heard()
        if counts:
            assert heard == LONG[: 600 * OCTETS_PER_MS] + SHORT
            assert [event["audio_end_ms"] for event in session.received(TRUNCATE)] == [600]
            (cut_at,) = times_received(session, TRUNCATE)
            (noticed,), (ended,) = times_sent(session, STARTED), times_sent(session, STOPPED)
            # 250 ms, and 200 ms in which the turn detection would still have waited for more
            assert cut_at == pytest.approx(min(ended, noticed + 0.450), abs=0.001)
        else:
            assert heard == LONG
            assert corrections(session) == session.received(DELETE) != []
        assert len(requests(session)) == 1 + counts
    assert world.record.false_interruptions == (not counts)


@both_detections
async def test_a_yes_is_an_answer_when_the_model_is_silent(
    autojump_clock: MockClock, dialect: Dialect, settings: Settings
) -> None:
    script = scripted([[Say("Is it you?", audio=SHORT)], [Say("Good.", audio=SHORT)]])
    async with open_world(script, settings=settings, dialect=dialect) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.2)
            call.handset.say(COUGH)
            await call.handset.wait_speech()
            await call.handset.wait_silence(1.0)
        assert call.handset.speech_heard() == SHORT + SHORT
        assert corrections(world.session) == []
        assert len(requests(world.session)) == 2
    assert world.record.false_interruptions == 0
    assert [said.speaker for said in world.record.transcript] == ["model", "caller", "model"]


@pytest.mark.parametrize("think_ms", [300.0, 1000.0], ids=["audio comes during the cough", "audio comes after it"])
async def test_a_cough_while_the_model_still_thinks_does_not_lose_the_answer(
    autojump_clock: MockClock, dialect: Dialect, think_ms: float
) -> None:
    async with open_world(TALK, settings=BY_SILENCE, dialect=dialect, think_ms=think_ms) as world:
        async with world.dial() as call:
            await world.session.wait_sent("response.created")
            call.handset.say(COUGH)
            await call.handset.wait_speech()
            await call.handset.wait_silence(1.0)
        assert call.handset.speech_heard() == LONG
        assert left_at(call)[0] >= times_sent(world.session, STOPPED)[0]
        assert len(requests(world.session)) == 1
        assert deleted(world.session) == sounds(world.session) != []
    check_nothing_was_cut(world)


@both_speeds
async def test_each_of_two_coughs_is_only_a_cough(autojump_clock: MockClock, dialect: Dialect, speed: float) -> None:
    async with open_world(TALK, settings=BY_SILENCE, dialect=dialect, speed=speed, delta_ms=EVEN) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 400, COUGH)
            await trio.sleep(1.0)
            call.handset.say(COUGH)
            await call.handset.wait_silence(1.5)
        assert call.handset.speech_heard() == LONG
        for number in range(2):
            check_pause(call, world.session, number)
        assert deleted(world.session) == sounds(world.session)
    check_nothing_was_cut(world, coughs=2)


@pytest.mark.parametrize("before_end_ms", [20, 40, 100])
async def test_a_cough_at_the_very_end_of_an_answer_delays_its_last_frames(
    autojump_clock: MockClock, dialect: Dialect, before_end_ms: int
) -> None:
    async with open_world(TALK, settings=BY_SILENCE, dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 3000 - before_end_ms, COUGH)
            await call.handset.wait_silence(1.5)
        assert call.handset.speech_heard() == LONG
        check_pause(call, world.session)
        assert len([left for left in left_at(call) if left >= pauses(call)[0][1]]) == before_end_ms / 20
    check_nothing_was_cut(world)


async def test_a_cough_after_the_last_frame_has_left_is_a_turn(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(TALK, settings=BY_SILENCE, dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 3000, COUGH)  # the caller has yet to hear the last frame
            await call.handset.wait_silence(1.0)
        assert call.handset.speech_heard() == LONG + SHORT
        assert corrections(world.session) == []
    assert world.record.false_interruptions == 0


@pytest.mark.parametrize("apart", [0.5, 0.1], ids=["after the model went on", "in one breath"])
async def test_who_coughs_and_then_speaks_is_listened_to(
    autojump_clock: MockClock, dialect: Dialect, apart: float
) -> None:
    async with open_world(TALK, settings=BY_SILENCE, dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 600, COUGH)
            await call.handset.wait_said()
            await trio.sleep(apart)
            call.handset.say(WORDS)
            await call.handset.wait_silence(1.5)
        (truncation,) = world.session.received(TRUNCATE)
        heard = LONG[: truncation["audio_end_ms"] * OCTETS_PER_MS]
        assert call.handset.speech_heard() == heard + SHORT
        two_sounds = apart > 0.2  # longer than the silence that ends a turn
        assert (truncation["audio_end_ms"] > 600) is two_sounds
        assert len(deleted(world.session)) == two_sounds
        assert len(requests(world.session)) == 2
    assert world.record.false_interruptions == two_sounds


async def test_a_key_during_the_pause_cuts_the_answer_for_good(autojump_clock: MockClock, dialect: Dialect) -> None:
    def respond(context: Context) -> list[Part]:
        return [Say("Yes?", audio=SHORT)] if context.texts or context.turns else [Say("Well,", audio=LONG)]

    async with open_world(decided(respond), settings=BY_SILENCE, dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 600, COUGH)
            await world.session.wait_sent(STARTED)
            call.handset.press("7#", tone_ms=40, gap_ms=20)
            await call.handset.wait_silence(1.5)
        session = world.session
        assert call.handset.speech_heard() == LONG[: 600 * OCTETS_PER_MS] + SHORT
        assert [event["audio_end_ms"] for event in session.received(TRUNCATE)] == [600]
        assert len(requests(session)) == 2  # one answer to the key and to what was said with it
        assert any("7" in text for _, text in session.history)
    assert world.record.false_interruptions == 0
    assert [entry.digits for entry in world.record.digits] == ["7"]


GOODBYE: Final = (Say("Goodbye.", audio=LONG), CallTool("terminate_call"))


def shop(context: Context) -> list[Part] | tuple[Part, ...]:
    """Says goodbye, and only then listens."""
    return GOODBYE if "terminate_call" not in context.called else [Say("Yes?", audio=SHORT)]


async def test_a_cough_does_not_call_off_a_goodbye(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(decided(shop), settings=BY_SILENCE, dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 1000, COUGH)
            await call.wait_hung_up()
        assert call.handset.speech_heard() == LONG
        check_pause(call, world.session)
        assert len(requests(world.session)) == 1
    assert (world.record.ending, world.record.false_interruptions) == (Ending.MODEL_HUNG_UP, 1)


async def test_a_word_calls_off_a_goodbye(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(decided(shop), settings=BY_SILENCE, dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 1000, WORDS)
            await call.handset.wait_silence(1.5)
            assert call.hung_up_at is None
        assert call.handset.speech_heard() == LONG[: 1000 * OCTETS_PER_MS] + SHORT
    assert (world.record.ending, world.record.false_interruptions) == (Ending.CALLER_HUNG_UP, 0)


async def test_a_caller_who_coughs_and_holds_hears_the_rest_when_back(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(TALK, settings=BY_SILENCE, dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 600, COUGH)
            await world.session.wait_sent(STARTED)
            await call.reinvite(offer(call, "a=sendonly"))
            await trio.sleep(3.0)
            assert call.handset.speech_heard() == LONG[: 600 * OCTETS_PER_MS]
            await call.reinvite(offer(call, "a=sendrecv"))
            await call.handset.wait_silence(1.0)
        assert call.handset.speech_heard() == LONG
    check_nothing_was_cut(world)


async def test_the_loss_of_the_session_during_the_pause_ends_the_pause(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    later = (Faults(session_updated_seconds=0.5),)
    async with open_world(TALK, settings=BY_SILENCE, dialect=dialect, speed=ALL_AT_ONCE, later_faults=later) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 600, COUGH[: 60 * OCTETS_PER_MS])
            await world.session.wait_sent(STARTED)
            world.session.drop()
            second = await world.model.wait_session(2)
            await second.wait_received("conversation.item.create")
            resumed_at = trio.current_time()
            await call.handset.wait_silence(1.0)
        assert call.handset.speech_heard() == LONG
        ((_, following),) = pauses(call)
        assert resumed_at <= following <= resumed_at + FRAME
        assert corrections(second) == []
    assert (world.record.sessions, world.record.cuts) == (2, ())


async def test_a_server_that_never_commits_deletes_no_cough_and_answers_the_words_after_it(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    faults = Faults(lose_committed=True)
    async with open_world(TALK, settings=BY_SILENCE, dialect=dialect, speed=ALL_AT_ONCE, faults=faults) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 400, COUGH)
            await call.handset.wait_said()
            await trio.sleep(0.6)
            call.handset.say(WORDS)
            await call.handset.wait_silence(2.5)
        assert call.handset.speech_heard().endswith(SHORT)
        assert deleted(world.session) == []
        assert len(requests(world.session)) == 2
    assert world.record.false_interruptions == 1


async def test_what_a_tool_wants_to_be_said_waits_for_the_end_of_a_cough(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    script = scripted([[Say("Well,", audio=SHORT), CallTool("slow")], [Say("Done.", audio=SHORT)]])

    @tool
    async def slow() -> str:
        """Takes as long as a cough."""
        await trio.sleep(0.35)
        return "done"

    async with open_world(script, settings=BY_SILENCE, dialect=dialect, speed=ALL_AT_ONCE, tools=(slow,)) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 300, COUGH)
            await call.handset.wait_silence(1.0)
        assert call.handset.speech_heard() == SHORT + SHORT
        (ended,) = times_sent(world.session, STOPPED)
        assert times_received(world.session, "response.create")[1] >= ended
    assert world.record.false_interruptions == 1
