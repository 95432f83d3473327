"""Nobody speaks: the model asks whether the caller is there, and hangs up at last; or it is the model that is lost."""

from __future__ import annotations

from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending, Settings, ToolContext, tool
from aivc.config.settings import OpenAISettings
from aivc.nursery.leaving import JITTER_BUFFER
from aivc.testing import CallTool, Context, Faults, Part, PhoneCall, Say, Script, Session, decided, scripted, speech
from scenarios.barge_in import ALL_AT_ONCE, SHORT, left_at, requests, times_received, times_sent
from scenarios.conftest import Dialect
from scenarios.test_moving_the_media import offer
from scenarios.world import DELAY, changed, open_world

IDLE: Final = 5.0  # seconds
ANSWER_SECONDS: Final = 10.0
SLACK: Final = 0.06  # seconds: two frames, and what is under way
HELLO: Final = speech(0.6, pitch_hz=210.0, seed=21)
STILL_THERE: Final = speech(0.4, pitch_hz=210.0, seed=22)
GOODBYE: Final = speech(1.0, pitch_hz=210.0, seed=23)
YES: Final = speech(0.3, seed=24)
TIMEOUT: Final = "input_audio_buffer.timeout_triggered"
STOPPED: Final = "input_audio_buffer.speech_stopped"
CREATE: Final = "response.create"
DEFAULTS: Final = OpenAISettings()


def idle(**openai: Any) -> Settings:
    return changed(openai={"idle_timeout_ms": 5000, "idle_prompts": 2, **openai})


def polite() -> Script:
    """Greets, asks, says goodbye, and answers: by what it is told to do, or by the silence that the server noticed."""

    def respond(context: Context) -> list[Part]:
        told = context.instructions or ""
        if DEFAULTS.farewell_message in told:
            return [Say("Goodbye.", audio=GOODBYE)]
        if DEFAULTS.idle_message in told or context.trigger == "idle":
            return [Say("Are you still there?", audio=STILL_THERE)]
        return [Say("Hello.", audio=HELLO)] if told else [Say("Well,", audio=SHORT)]

    return decided(respond)


def groups(call: PhoneCall) -> list[tuple[float, float]]:
    """From when to when the model was heard, for each of its utterances."""
    found: list[tuple[float, float]] = []
    for left in left_at(call):
        if found and left - found[-1][1] < 1.0:
            found[-1] = (found[-1][0], left)
        else:
            found.append((left, left))
    return found


async def hear_out(call: PhoneCall, times: int = 1) -> None:
    """Listen until the model has said something, so many times."""
    for _ in range(times):
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.5)


def check_silences(call: PhoneCall) -> None:
    """Each question, and the goodbye, comes after five seconds of silence and the model's own 300 ms or so."""
    heard = groups(call)
    for (_, ended), (began, _) in zip(heard, heard[1:], strict=False):
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


# The caller is silent


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


# The model is silent


async def question(call: PhoneCall) -> None:
    """Hear out what the model says, and ask."""
    await hear_out(call)
    call.handset.say(YES)
    await call.handset.wait_said()


async def test_a_question_that_is_not_answered_is_asked_once_more(autojump_clock: MockClock, dialect: Dialect) -> None:
    faults = Faults(unanswered_after=1, unanswered=1)
    async with open_world(polite(), dialect=dialect, faults=faults) as world:
        async with world.dial() as call:
            await question(call)
            await hear_out(call)
        (stopped,) = times_sent(world.session, STOPPED)
        assert call.handset.speech_heard() == HELLO + SHORT
        assert times_received(world.session, CREATE)[1] - stopped == pytest.approx(ANSWER_SECONDS, abs=0.001)
    assert world.record.realtime_errors == {"model_silent": 1}
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_model_that_answers_nothing_any_more_ends_the_call(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(openai={"reconnect": False})
    faults = Faults(unanswered_after=1, unanswered=9)
    async with open_world(polite(), settings=settings, dialect=dialect, faults=faults) as world:
        async with world.dial() as call:
            await question(call)
            hung_up_at = await call.wait_hung_up()
        (stopped,) = times_sent(world.session, STOPPED)
        assert hung_up_at - stopped == pytest.approx(2 * ANSWER_SECONDS + DELAY, abs=0.001)
        assert len(requests(world.session)) == 3  # the greeting; once more; and as that was not answered, either, again
    assert world.record.ending is Ending.REALTIME_SILENT


async def test_another_session_takes_over_from_a_model_that_answers_nothing_any_more(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    def respond(context: Context) -> list[Part]:
        return [Say("Well,", audio=SHORT)] if context.history else [Say("Hello.", audio=HELLO)]

    faults, later = Faults(unanswered_after=1, unanswered=9), (Faults(),)
    async with open_world(decided(respond), dialect=dialect, faults=faults, later_faults=later) as world:
        async with world.dial() as call:
            await question(call)
            await hear_out(call)
            call.handset.say(YES)
            await hear_out(call)
        assert call.handset.speech_heard() == HELLO + SHORT + SHORT
        first, second = world.model.sessions
        assert second.history[0] == ("assistant", "Hello.")
        assert requests(second) == [None]
        taken_over, (stopped,) = times_received(second, CREATE)[0], times_sent(first, STOPPED)
        assert taken_over - stopped == pytest.approx(2 * ANSWER_SECONDS, abs=0.1)
    assert (world.record.sessions, world.record.ending) == (2, Ending.CALLER_HUNG_UP)
    assert world.record.errors_by_kind["realtime_silent"] == 1


async def test_a_greeting_that_nobody_answers_is_asked_for_again(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(polite(), dialect=dialect, faults=Faults(unanswered=1)) as world:
        async with world.dial() as call:
            await hear_out(call)
        assert call.handset.speech_heard() == HELLO
        first, second = times_received(world.session, CREATE)
        assert second - first == pytest.approx(5.0, abs=0.001)  # every response.create is answered within that
        assert requests(world.session)[0] == requests(world.session)[1]
    assert world.record.realtime_errors == {"response_timeout": 1}


async def test_a_response_that_stops_coming_is_replaced(autojump_clock: MockClock, dialect: Dialect) -> None:
    # A hundred times slower than it is heard: the model has begun, and for a minute there is no word of it.
    stuck = Say("Well,", audio=SHORT * 20)

    def respond(context: Context) -> list[Part]:
        return [stuck] if context.responses == 0 else [Say("Hello.", audio=HELLO)]

    faults = Faults(late_deltas=0)
    model = {"speed": 0.1, "delta_ms": (6000.0, 6000.0), "faults": faults}
    async with open_world(decided(respond), dialect=dialect, **model) as world:
        async with world.dial() as call:
            await world.session.wait_received(CREATE, count=2)
            first, second = times_received(world.session, CREATE)
            assert second - first == pytest.approx(ANSWER_SECONDS + 0.3, abs=0.1)  # from the item's announcement
            await call.handset.wait_speech()
        assert requests(world.session)[0] == requests(world.session)[1]
        assert HELLO.startswith(call.handset.speech_heard()[:160])
    assert world.record.realtime_errors == {"model_silent": 1}


async def test_nothing_is_missed_while_a_tool_runs(autojump_clock: MockClock, dialect: Dialect) -> None:
    @tool
    async def slow() -> str:
        """Takes longer than an answer may."""
        await trio.sleep(15.0)
        return "done"

    script = scripted([[CallTool("slow")], [Say("It is done.", audio=SHORT)]])
    async with open_world(script, dialect=dialect, tools=(slow,)) as world:
        async with world.dial() as call:
            await hear_out(call)
        assert call.handset.speech_heard() == SHORT
        assert len(requests(world.session)) == 2
    assert world.record.realtime_errors == {}


async def test_nothing_is_missed_while_a_long_answer_plays_or_the_caller_is_on_hold(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    story = speech(14.0, pitch_hz=210.0, seed=25)
    script = scripted([[Say("Once upon a time", audio=story)]])
    faults = Faults(response_done="lost")
    async with open_world(script, dialect=dialect, faults=faults, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(5.0)
            await call.reinvite(offer(call, "a=sendonly"))
            await trio.sleep(25.0)
            await call.reinvite(offer(call, "a=sendrecv"))
            await call.handset.wait_silence(12.0)
        assert call.handset.speech_heard() == story
        assert len(requests(world.session)) == 1
    assert world.record.realtime_errors == {}


async def test_a_model_may_be_silent_for_ever_if_it_is_told_so(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings, faults = changed(openai={"answer_seconds": 0.0}), Faults(unanswered_after=1, unanswered=9)
    async with open_world(polite(), settings=settings, dialect=dialect, faults=faults) as world:
        async with world.dial() as call:
            await question(call)
            await trio.sleep(60.0)
            assert call.hung_up_at is None
        assert len(requests(world.session)) == 1
    assert world.record.realtime_errors == {}


# Nobody is answered by itself

BY_HAND: Final = [{"turn_detection_type": "none"}, {"turn_detection_create_response": False}]


@pytest.mark.parametrize("openai", BY_HAND, ids=["no turn detection", "no answers"])
async def test_where_the_model_answers_nobody_by_itself_a_silence_is_no_fault(
    autojump_clock: MockClock, dialect: Dialect, openai: dict[str, object]
) -> None:
    async with open_world(polite(), settings=changed(openai=openai), dialect=dialect) as world:
        async with world.dial() as call:
            await question(call)
            await call.handset.wait_silence(30.0)
        assert call.handset.speech_heard() == HELLO
        assert len(requests(world.session)) == 1
    assert (world.record.realtime_errors, world.record.ending) == ({}, Ending.CALLER_HUNG_UP)


@pytest.mark.parametrize("openai", BY_HAND, ids=["no turn detection", "no answers"])
async def test_where_the_model_answers_nobody_by_itself_a_tool_can_make_it_speak(
    autojump_clock: MockClock, dialect: Dialect, openai: dict[str, object]
) -> None:
    @tool(finish=True)
    async def wait_for_taxi(context: ToolContext) -> str:
        """Tells the caller as soon as it is there."""
        await trio.sleep(2.0)
        context.say("Say: your taxi is here.")
        await trio.sleep(2.0)
        return "It is there."

    def respond(context: Context) -> list[Part]:
        if context.outputs:
            return [Say("Good-bye.", audio=GOODBYE)]
        if context.instructions and "taxi" in context.instructions:
            return [Say("Your taxi is here.", audio=STILL_THERE)]
        return [Say("Hello.", audio=HELLO), CallTool("wait_for_taxi")]

    async with open_world(
        decided(respond), settings=changed(openai=openai), dialect=dialect, tools=(wait_for_taxi,)
    ) as world:
        async with world.dial() as call:
            await hear_out(call)
            call.handset.say(YES)
            await hear_out(call, 2)
        assert call.handset.speech_heard() == HELLO + STILL_THERE + GOODBYE
        assert len(requests(world.session)) == 3
    assert world.record.realtime_errors == {}
