"""The caller says nothing: the model asks whether they are there, and says goodbye at last."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending, Settings, tool
from aivc.nursery.leaving import JITTER_BUFFER
from aivc.testing import CallTool, Context, Faults, Part, PhoneCall, Say, Session, decided, scripted, speech
from scenarios.barge_in import ALL_AT_ONCE, SHORT, left_at, requests, times_received
from scenarios.conftest import Dialect
from scenarios.patience import DEFAULTS, GOODBYE, HELLO, STILL_THERE, YES, hear_out, polite
from scenarios.test_moving_the_media import offer
from scenarios.world import changed, open_world

IDLE: Final = 5.0  # seconds
SLACK: Final = 0.06  # seconds: two frames, and what is under way
TIMEOUT: Final = "input_audio_buffer.timeout_triggered"


# Long calls: a few orders of tasks, in both dialects.
pytestmark = pytest.mark.parametrize("any_schedule", [0, 1, 12, 13], indirect=True)


def idle(**openai: Any) -> Settings:
    return changed(openai={"idle_timeout_ms": 5000, "idle_prompts": 2, **openai})


def groups(call: PhoneCall) -> list[tuple[float, float]]:
    """From when to when the model was heard, for each of its utterances."""
    found: list[tuple[float, float]] = []
    for left in left_at(call):
        if found and left - found[-1][1] < 1.0:
            found[-1] = (found[-1][0], left)
        else:
            found.append((left, left))
    return found


def check_silences(call: PhoneCall) -> None:
    """Each question, and the goodbye, comes after five seconds of silence and the model's own 300 ms or so."""
    heard = groups(call)
    for (_, ended), (began, _) in pairwise(heard):
        assert IDLE + 0.2 <= began - ended <= IDLE + 0.6


def told_to(session: Session, message: str) -> int:
    return sum(message in (instructions or "") for instructions in requests(session))


def idle_timeouts(session: Session) -> list[object]:
    """What each session.update said of the server's own time-out."""
    updates = [event["session"] for event in session.received("session.update")]
    return [
        update["audio"]["input"]["turn_detection"].get("idle_timeout_ms", "absent")
        for update in updates
        if "audio" in update
    ]


async def test_a_caller_who_says_nothing_is_asked_twice_and_told_goodbye(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(polite(), settings=idle(), dialect=dialect) as world:
        async with world.dial() as call:
            hung_up_at = await call.wait_hung_up()
        session = world.session
        assert call.handset.speech_heard() == HELLO + STILL_THERE + STILL_THERE + GOODBYE
        check_silences(call)
        assert JITTER_BUFFER <= hung_up_at - left_at(call)[-1] <= JITTER_BUFFER + SLACK
        by_server = dialect == "ga"
        assert len(session.sent(TIMEOUT)) == (2 if by_server else 0)
        assert told_to(session, DEFAULTS.idle_message) == (0 if by_server else 2)
        assert told_to(session, DEFAULTS.farewell_message) == 1
        if by_server:
            assert idle_timeouts(session) == [5000, None]  # it is told to ask no more
    assert world.record.ending is Ending.CALLER_IDLE
    assert [said.text for said in world.record.transcript] == [
        "Hello.",
        "Are you still there?",
        "Are you still there?",
        "Goodbye.",
    ]


async def test_where_the_server_does_not_notice_silence_we_do(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = idle(turn_detection_type="semantic_vad", idle_prompts=1)
    async with open_world(polite(), settings=settings, dialect=dialect) as world:
        async with world.dial() as call:
            await call.wait_hung_up()
        assert call.handset.speech_heard() == HELLO + STILL_THERE + GOODBYE
        check_silences(call)
        assert world.session.sent(TIMEOUT) == []
    assert world.record.ending is Ending.CALLER_IDLE


async def test_a_word_makes_the_count_begin_anew(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(polite(), settings=idle(), dialect=dialect) as world:
        async with world.dial() as call:
            await hear_out(call, 3)  # hello, and two questions
            call.handset.say(YES)
            await call.wait_hung_up()
        again = STILL_THERE + STILL_THERE
        assert call.handset.speech_heard() == HELLO + again + SHORT + again + GOODBYE
        if dialect == "ga":
            assert idle_timeouts(world.session) == [5000, None, 5000, None]
    assert world.record.ending is Ending.CALLER_IDLE


async def test_a_key_makes_the_count_begin_anew(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(polite(), settings=idle(), dialect=dialect) as world:
        async with world.dial() as call:
            await hear_out(call, 3)
            call.handset.press("5#")
            await call.wait_hung_up()
        again = STILL_THERE + STILL_THERE
        assert call.handset.speech_heard() == HELLO + again + SHORT + again + GOODBYE
    assert world.record.ending is Ending.CALLER_IDLE


async def test_a_caller_who_speaks_into_the_goodbye_stays(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(polite(), settings=idle(), dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await hear_out(call, 3)
            await call.handset.wait_speech(0.3)
            call.handset.say(YES)
            await call.handset.wait_silence(2.0)
            assert call.hung_up_at is None
        heard = call.handset.speech_heard()
        assert heard.endswith(SHORT)
        assert GOODBYE not in heard
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_caller_who_coughs_into_the_goodbye_is_hung_up_on_after_it(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    settings = idle(interruption="confirm")
    async with open_world(polite(), settings=settings, dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await hear_out(call, 3)
            await call.handset.wait_speech(0.3)
            call.handset.say(YES[:800])
            await call.wait_hung_up()
        assert call.handset.speech_heard() == HELLO + STILL_THERE + STILL_THERE + GOODBYE
    assert (world.record.ending, world.record.false_interruptions) == (Ending.CALLER_IDLE, 1)


async def test_a_caller_who_waits_for_a_tool_is_not_asked(autojump_clock: MockClock) -> None:
    @tool
    async def slow() -> str:
        """Takes long."""
        await trio.sleep(12.0)
        return "done"

    def respond(context: Context) -> list[Part]:
        if context.outputs:
            return [Say("It is done.", audio=SHORT)]
        return [Say("Hello.", audio=HELLO), CallTool("slow")] if not context.called else [Say("?", audio=STILL_THERE)]

    settings = idle(turn_detection_type="semantic_vad")
    async with open_world(decided(respond), settings=settings, tools=(slow,)) as world:
        async with world.dial() as call:
            await hear_out(call, 3)
        assert call.handset.speech_heard() == HELLO + SHORT + STILL_THERE
        first, second, third = groups(call)
        assert second[0] - first[1] > 11.5
        assert third[0] - second[1] == pytest.approx(IDLE, abs=0.5)
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_caller_who_is_on_hold_is_not_asked(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = idle(turn_detection_type="semantic_vad")
    async with open_world(polite(), settings=settings, dialect=dialect) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(1.0)
            await call.reinvite(offer(call, "a=sendonly"))
            await trio.sleep(12.0)
            assert len(requests(world.session)) == 1
            await call.reinvite(offer(call, "a=sendrecv"))
            back_at = trio.current_time()
            asked_at = await call.handset.wait_speech()
        assert asked_at - back_at == pytest.approx(IDLE + 0.3, abs=0.3)


async def test_a_caller_who_listens_to_a_long_answer_is_not_asked(autojump_clock: MockClock) -> None:
    settings = idle(turn_detection_type="semantic_vad", idle_prompts=1)
    story = speech(9.0, pitch_hz=210.0, seed=25)
    script = scripted([[Say("Once upon a time", audio=story)], [Say("Still there?", audio=STILL_THERE)]])
    async with open_world(script, settings=settings, speed=ALL_AT_ONCE) as world, world.dial() as call:
        await hear_out(call, 2)
        assert call.handset.speech_heard() == story + STILL_THERE
        check_silences(call)


async def test_without_words_for_a_goodbye_the_call_just_ends(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = idle(farewell_message="", idle_prompts=1)
    async with open_world(polite(), settings=settings, dialect=dialect) as world:
        async with world.dial() as call:
            await call.wait_hung_up()
        assert call.handset.speech_heard() == HELLO + STILL_THERE
    assert world.record.ending is Ending.CALLER_IDLE


async def test_a_goodbye_that_never_comes_does_not_keep_the_line_open(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    settings, faults = idle(farewell_seconds=3.0), Faults(unanswered_after=3, unanswered=9)
    async with open_world(polite(), settings=settings, dialect=dialect, faults=faults) as world:
        async with world.dial() as call:
            hung_up_at = await call.wait_hung_up()
        asked_at = times_received(world.session, "response.create")[-1]
        assert told_to(world.session, DEFAULTS.farewell_message) == 1
        assert 3.0 <= hung_up_at - asked_at <= 3.0 + JITTER_BUFFER + SLACK
        assert call.handset.speech_heard() == HELLO + STILL_THERE + STILL_THERE
    assert world.record.ending is Ending.CALLER_IDLE
