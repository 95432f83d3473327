"""One speaks at a time: requests that cross the caller's words, responses that fail, servers that tell less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending, Tool, tool
from aivc.realtime.errors import ErrorKind
from aivc.testing import (
    CallTool,
    Context,
    CutOff,
    Fail,
    Faults,
    Latency,
    Part,
    Say,
    Script,
    Session,
    decided,
    scripted,
    speech,
)
from scenarios.barge_in import (
    ALL_AT_ONCE,
    DELETE,
    EXCUSE_ME,
    LONG,
    OCTETS_PER_MS,
    SHORT,
    TRUNCATE,
    corrections,
    interrupt_when_heard,
    pauses,
    requests,
    times_received,
    times_sent,
)
from scenarios.conftest import Dialect
from scenarios.patience import hear_out
from scenarios.world import changed, open_world

CREATE: Final = "response.create"
STARTED: Final = "input_audio_buffer.speech_started"
STOPPED: Final = "input_audio_buffer.speech_stopped"
WORDS: Final = speech(1.2, seed=5)
RESULT: Final = speech(0.6, pitch_hz=210.0, seed=32)
YES: Final = speech(0.4, pitch_hz=210.0, seed=33)
ACTIVE: Final = "conversation_already_has_active_response"


def looking_up(seconds: float) -> Tool:
    @tool
    async def look_up() -> str:
        """Look something up."""
        await trio.sleep(seconds)
        return "42"

    return look_up


def knowing() -> Script:
    """Looks something up first; then says it once it is known, and whatever the caller wants to hear."""

    def respond(context: Context) -> Sequence[Part]:
        if not context.called:
            return [Say("One moment.", audio=SHORT), CallTool("look_up")]
        known = any(speaker == "function_call_output" for speaker, _ in context.history)
        told = ("assistant", "It is 42.") in context.history
        return [Say("It is 42.", audio=RESULT)] if known and not told else [Say("Yes?", audio=YES)]

    return decided(respond)


def outputs_received(session: Session) -> int:
    return len(session.received(lambda event: event.get("item", {}).get("type") == "function_call_output"))


# Requests and words cross


@pytest.mark.parametrize("words", [WORDS, EXCUSE_ME[: 100 * OCTETS_PER_MS]], ids=["long", "short"])
async def test_a_response_that_was_asked_for_when_the_caller_had_begun_to_speak_talks_nobody_down(
    autojump_clock: MockClock, dialect: Dialect, words: bytes
) -> None:
    #  caller speaks --150 ms--> model: speech_started --150 ms--> service
    #              tool is done: response.create --150 ms--> model: created --150 ms--> service: cancel
    latency = Latency(seconds=0.15)
    script, tools = knowing(), (looking_up(1.5),)
    async with open_world(script, dialect=dialect, latency=latency, tools=tools) as world:
        async with world.dial() as call:
            session = await world.model.wait_session()
            await session.wait_sent("response.done")
            (done_at,) = times_sent(session, "response.done")
            await trio.sleep_until(done_at + 1.5)
            call.handset.say(words)
            await hear_out(call)
            await call.handset.wait_silence(2.0)
        crossing, began = times_received(session, CREATE)[1], times_sent(session, STARTED)[0]
        assert began <= crossing <= began + 0.15
        (_, crossed, *_) = session.sent("response.created")
        assert [event["response_id"] for event in session.received("response.cancel")] == [crossed["response"]["id"]]
        assert call.handset.speech_heard() == SHORT + RESULT  # once, after the words
        (stopped,) = times_sent(session, STOPPED)
        if words == WORDS:  # the server answers them, and knows the result
            assert len(requests(session)) == 2
        else:  # it was busy when they ended, and answers nothing by itself
            assert times_received(session, CREATE)[2] == pytest.approx(stopped + 1.0 + 2 * 0.15, abs=0.001)
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_tools_result_that_comes_while_the_caller_speaks_is_part_of_the_answer(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(knowing(), dialect=dialect, tools=(looking_up(1.5),)) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.3)
            call.handset.say(WORDS + WORDS)
            await call.handset.wait_said()
            await hear_out(call)
            await call.handset.wait_silence(1.0)
        session = world.session
        assert call.handset.speech_heard() == SHORT + RESULT
        assert outputs_received(session) == 1
        assert len(requests(session)) == 1  # the greeting: the server answers the caller by itself
        assert session.received("response.cancel") == []


@pytest.mark.parametrize("interruption", ["cut", "confirm"])
async def test_where_the_turn_is_ours_to_answer_a_tools_result_waits_for_its_end(
    autojump_clock: MockClock, dialect: Dialect, interruption: str
) -> None:
    settings = changed(openai={"turn_detection_create_response": False, "interruption": interruption})
    async with open_world(knowing(), settings=settings, dialect=dialect, tools=(looking_up(1.5),)) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.3)
            call.handset.say(WORDS + WORDS)
            await call.handset.wait_said()
            await hear_out(call)
        session = world.session
        assert call.handset.speech_heard() == SHORT + RESULT
        (stopped,) = times_sent(session, STOPPED)
        assert times_received(session, CREATE)[1] == pytest.approx(stopped, abs=0.001)


@pytest.mark.parametrize(
    "faults",
    [
        Faults(crossing=1),
        Faults(crossing=1, no_error_event_id=True),
        Faults(crossing=1, no_metadata=True),
        Faults(crossing=1, no_metadata=True, no_error_event_id=True, code_null=True),
    ],
    ids=["openai", "no event ids", "no metadata", "neither"],
)
async def test_a_request_that_meets_a_response_of_the_servers_own_is_made_again_after_it(
    autojump_clock: MockClock, dialect: Dialect, faults: Faults
) -> None:
    def respond(context: Context) -> Sequence[Part]:
        if not context.called:
            return [CallTool("look_up")]
        return [Say("It is 42.", audio=RESULT)] if context.trigger == "client" else [Say("Yes?", audio=YES)]

    settings = changed(openai={"welcome_message": None})
    world_of = open_world(decided(respond), settings=settings, dialect=dialect, faults=faults, tools=(looking_up(0.1),))
    async with world_of as world:
        async with world.dial() as call:
            call.handset.say(WORDS)
            await hear_out(call)
            await call.handset.wait_silence(1.0)
        assert call.handset.speech_heard() == YES + RESULT
        assert len(requests(world.session)) == 2
        assert outputs_received(world.session) == 1
    assert world.record.realtime_errors == {ACTIVE: 1}
    assert world.record.errors_by_kind == {ErrorKind.ACTIVE_RESPONSE.value: 1}
    assert world.record.refused_requests == 0


async def test_a_greeting_that_meets_a_response_of_the_servers_own_is_spoken_after_it(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    script = scripted([[Say("Hello.", audio=SHORT)], [Say("Hello again.", audio=RESULT)]])
    async with open_world(script, dialect=dialect, faults=Faults(crossing=1)) as world:
        async with world.dial() as call:
            await hear_out(call)
            await call.handset.wait_silence(2.0)
        assert call.handset.speech_heard() == SHORT + RESULT
        first, again = requests(world.session)
        assert first == again
    assert world.record.realtime_errors == {ACTIVE: 1}


@pytest.mark.parametrize(
    "faults", [Faults(no_metadata=True), Faults(no_error_event_id=True)], ids=["no metadata", "no event ids"]
)
async def test_a_server_that_tells_less_is_talked_with_all_the_same(
    autojump_clock: MockClock, dialect: Dialect, faults: Faults
) -> None:
    async with open_world(knowing(), dialect=dialect, faults=faults, tools=(looking_up(0.5),)) as world:
        async with world.dial() as call:
            await hear_out(call, 2)
            call.handset.say(WORDS)
            await hear_out(call)
        assert call.handset.speech_heard() == SHORT + RESULT + YES
        assert len(requests(world.session)) == 2
    assert world.record.realtime_errors == {}


# Responses that fail


@pytest.mark.parametrize("code", ["server_error", "rate_limit_exceeded"])
async def test_a_response_that_fails_is_asked_for_once_more_after_a_second(
    autojump_clock: MockClock, dialect: Dialect, code: str
) -> None:
    script = scripted([[Say("Hello.", audio=SHORT)], [Fail(code)], [Say("Yes?", audio=YES)]])
    async with open_world(script, dialect=dialect) as world:
        async with world.dial() as call:
            await hear_out(call)
            call.handset.say(WORDS)
            await hear_out(call)
        failed_at = times_sent(world.session, "response.done")[1]
        assert call.handset.speech_heard() == SHORT + YES
        assert times_received(world.session, CREATE)[1:] == [pytest.approx(failed_at + 1.0, abs=0.001)]
    assert world.record.realtime_errors == {code: 1}
    assert world.record.errors_by_kind == {ErrorKind.OTHER.value: 1}


async def test_a_response_that_fails_twice_is_left_until_the_caller_speaks(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    script = scripted([[Say("Hello.", audio=SHORT)], [Fail()], [Fail()], [Say("Yes?", audio=YES)]])
    async with open_world(script, dialect=dialect) as world:
        async with world.dial() as call:
            await hear_out(call)
            call.handset.say(WORDS)
            await world.session.wait_sent("response.done", count=3)
            await trio.sleep(5.0)
            assert len(requests(world.session)) == 2
            call.handset.say(WORDS)
            await hear_out(call)
        assert call.handset.speech_heard() == SHORT + YES
    assert world.record.realtime_errors == {"server_error": 2}


async def test_what_the_caller_says_after_a_failure_is_answered_instead(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    script = scripted([[Say("Hello.", audio=SHORT)], [Fail()], [Say("Yes?", audio=YES)]])
    async with open_world(script, dialect=dialect) as world:
        async with world.dial() as call:
            await hear_out(call)
            call.handset.say(WORDS)
            await world.session.wait_sent("response.done", count=2)
            call.handset.say(WORDS)
            await hear_out(call)
            await call.handset.wait_silence(2.0)
        assert call.handset.speech_heard() == SHORT + YES
        assert len(requests(world.session)) == 1


async def test_no_money_ends_the_call(autojump_clock: MockClock, dialect: Dialect) -> None:
    script = scripted([[Say("Hello.", audio=SHORT)], [Fail("insufficient_quota")]])
    async with open_world(script, dialect=dialect) as world:
        async with world.dial() as call:
            await hear_out(call)
            call.handset.say(WORDS)
            await call.wait_hung_up()
        assert len(requests(world.session)) == 1
    assert world.record.ending is Ending.REALTIME_FATAL
    assert world.record.errors_by_kind == {ErrorKind.FATAL.value: 1}


@pytest.mark.parametrize("reason", ["max_output_tokens", "content_filter"])
async def test_a_response_that_is_cut_short_is_heard_as_far_as_it_came(
    autojump_clock: MockClock, dialect: Dialect, reason: str
) -> None:
    cut_off = CutOff("max_output_tokens" if reason == "max_output_tokens" else "content_filter")
    script = scripted([[Say("Once upon a", audio=SHORT), cut_off], [Say("Yes?", audio=YES)]])
    async with open_world(script, dialect=dialect) as world:
        async with world.dial() as call:
            await hear_out(call)
            await call.handset.wait_silence(12.0)
            assert len(requests(world.session)) == 1
            call.handset.say(WORDS)
            await hear_out(call)
        assert call.handset.speech_heard() == SHORT + YES
    assert world.record.realtime_errors == {reason: 1}
    assert world.record.errors_by_kind == {ErrorKind.BENIGN.value: 1}


@pytest.mark.parametrize("response_done", ["lost", "doubled"])
async def test_a_response_whose_end_is_told_never_or_twice_disturbs_nobody(
    autojump_clock: MockClock, dialect: Dialect, response_done: str
) -> None:
    faults = Faults(response_done="lost" if response_done == "lost" else "doubled")
    script = scripted([[Say("Hello.", audio=SHORT)], [Say("Yes?", audio=YES)], [Say("It is 42.", audio=RESULT)]])
    async with open_world(script, dialect=dialect, faults=faults) as world:
        async with world.dial() as call:
            await hear_out(call)
            for _ in range(2):
                call.handset.say(WORDS)
                await hear_out(call)
            await call.handset.wait_silence(12.0)
        assert call.handset.speech_heard() == SHORT + YES + RESULT
        assert len(requests(world.session)) == 1
        assert corrections(world.session) == []
    assert world.record.realtime_errors == {}
    assert len(world.record.transcript) == 3


# Several items in one response

THREE: Final = scripted(
    [[Say("Hello.", audio=SHORT), Say("We are open.", audio=RESULT), Say("And", audio=LONG)], [Say("Yes?", audio=YES)]]
)


@pytest.mark.parametrize("heard_ms", [200, 500, 800, 1100, 1500])
async def test_each_item_of_a_response_is_corrected_for_itself(
    autojump_clock: MockClock, dialect: Dialect, heard_ms: int
) -> None:
    async with open_world(THREE, dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, heard_ms)
            await call.handset.wait_silence(1.5)
        items = [event["item"]["id"] for event in world.session.sent("response.output_item.added")][:3]
        expected: list[tuple[str, str, int | None]] = []
        for item_id, begins_ms, ends_ms in zip(items, (0, 500, 1100), (500, 1100, 4100), strict=True):
            if heard_ms <= begins_ms:
                expected.append((DELETE, item_id, None))
            elif heard_ms < ends_ms:
                expected.append((TRUNCATE, item_id, heard_ms - begins_ms))
        told = [(event["type"], event["item_id"], event.get("audio_end_ms")) for event in corrections(world.session)]
        assert told == expected
        spoken = SHORT + RESULT + LONG
        assert call.handset.speech_heard() == spoken[: heard_ms * OCTETS_PER_MS] + YES
    said = [line.heard_ms for line in world.record.transcript if line.speaker == "model"]
    assert sum(heard or 0 for heard in said) == heard_ms + 400


# Our own cancellation


@pytest.mark.parametrize("speed", [1.5, ALL_AT_ONCE], ids=["as it comes", "all at once"])
async def test_a_server_that_does_not_interrupt_itself_is_told_to(
    autojump_clock: MockClock, dialect: Dialect, speed: float
) -> None:
    settings = changed(openai={"turn_detection_interrupt_response": False})
    script = scripted([[Say("Well,", audio=LONG)], [Say("Yes?", audio=YES)]])
    async with open_world(script, settings=settings, dialect=dialect, speed=speed, delta_ms=(40.0, 80.0)) as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 800)
            await call.handset.wait_silence(1.5)
        session = world.session
        assert call.handset.speech_heard() == LONG[: 800 * OCTETS_PER_MS] + YES
        assert [event["audio_end_ms"] for event in corrections(session)] == [800]
        cancelled = [event["response_id"] for event in session.received("response.cancel")]
        first = session.sent("response.created")[0]["response"]["id"]
        assert cancelled == ([first] if speed < ALL_AT_ONCE else [])
        assert pauses(call)[0][0] <= times_sent(session, STARTED)[0] + 0.020
        assert len(requests(session)) == 1
    assert world.record.realtime_errors == {}


async def test_a_server_that_obeys_no_cancellation_is_not_heard_any_more(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    settings = changed(openai={"turn_detection_interrupt_response": False, "answer_seconds": 3.0})
    script = scripted([[Say("Well,", audio=LONG)], [Say("Yes?", audio=YES)]])
    world_of = open_world(
        script, settings=settings, dialect=dialect, speed=1.5, delta_ms=(40.0, 80.0), faults=Faults(ignore_cancel=True)
    )
    async with world_of as world:
        async with world.dial() as call:
            await interrupt_when_heard(call, 800)
            await call.handset.wait_silence(0.5)
            await hear_out(call)
        assert call.handset.speech_heard() == LONG[: 800 * OCTETS_PER_MS] + YES
        assert len(requests(world.session)) == 2  # the server was busy when the turn ended, so we ask
    assert world.record.late_deltas > 0
