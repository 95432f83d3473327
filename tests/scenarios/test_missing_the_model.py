"""The model says nothing in its turn: it is asked once more, then another session takes over, or the call ends."""

from __future__ import annotations

from typing import Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending, ToolContext, tool
from aivc.testing import CallTool, Context, Faults, Part, PhoneCall, Say, decided, scripted, speech
from scenarios.barge_in import ALL_AT_ONCE, SHORT, requests, times_received, times_sent
from scenarios.conftest import Dialect
from scenarios.patience import GOODBYE, HELLO, STILL_THERE, YES, hear_out, polite
from scenarios.test_moving_the_media import offer
from scenarios.world import DELAY, changed, open_world

ANSWER_SECONDS: Final = 10.0
STOPPED: Final = "input_audio_buffer.speech_stopped"
CREATE: Final = "response.create"

# Long calls: a few orders of tasks, in both dialects.
pytestmark = pytest.mark.parametrize("any_schedule", [0, 1, 12, 13], indirect=True)


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
    slow = open_world(decided(respond), dialect=dialect, faults=faults, speed=0.1, delta_ms=(6000.0, 6000.0))
    async with slow as world:
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
