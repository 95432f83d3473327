"""A session must end at its `expires_at`: before that another takes its place, in a pause of the talk.

Every wall clock of these worlds stands still, so a session lives as long as the model says when it is configured.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending, Settings
from aivc.testing import Faults, PhoneCall, Say, Script, decided, speech
from aivc.testing.script import Context, Part
from scenarios.conftest import Dialect
from scenarios.world import NOON, World, changed, open_world

HELLO: Final = speech(0.5, pitch_hz=210.0, seed=1)
GOODBYE: Final = speech(0.8, pitch_hz=210.0, seed=6)
QUESTION: Final = speech(0.4, seed=4)
LIFE: Final = 24.0  # seconds
NOTICE: Final = 10.0  # of which the first half is for a pause to come
SHORT: Final = Faults(expires_after_seconds=LIFE)
UNDER_WAY: Final = 2 * 160  # octets of the telephone's that had not arrived when it hung up

FEW_SCHEDULES: Final = pytest.mark.parametrize("any_schedule", [0, 7, 12, 19], indirect=True)  # it takes long


def settings(**openai: object) -> Settings:
    return changed(openai={"expiry_seconds": NOTICE, "transcription_model": "gpt-transcribe", **openai})


def answers(seconds: float = 0.6) -> Script:
    """Greets, then answers each turn with other octets; says goodbye when told to."""

    def respond(context: Context) -> Sequence[Part]:
        if context.instructions is not None:
            farewell = "goodbye" in context.instructions
            return [Say("Goodbye.", audio=GOODBYE) if farewell else Say("Hello.", audio=HELLO)]
        number = sum(speaker == "user" for speaker, _ in context.history)
        return [Say(f"Answer {number}.", audio=answer(number, seconds))]

    return decided(respond)


def answer(number: int, seconds: float = 0.6) -> bytes:
    return speech(seconds, pitch_hz=210.0, seed=100 + number)


async def ask(call: PhoneCall, *, quiet: float = 1.5) -> None:
    """Ask, hear the answer out, and pause."""
    call.handset.say(QUESTION)
    await call.handset.wait_speech()
    await call.handset.wait_silence(quiet)


def check_nothing_is_cut(call: PhoneCall) -> None:
    """The caller heard one packet every 20 ms, and the model never stopped in the middle of its words."""
    heard = call.handset.heard
    assert {(other.sequence - one.sequence) % 2**16 for one, other in pairwise(heard)} == {1}
    assert max(other.at - one.at for one, other in pairwise(heard)) == pytest.approx(0.020)


def check_nothing_is_lost(world: World, call: PhoneCall) -> None:
    """All sessions together have heard every octet that the telephone has sent, in its order."""
    said = b"".join(packet.payload for packet in call.handset.sent)
    heard = b"".join(session.received_audio for session in world.model.sessions)
    assert said.startswith(heard)
    assert len(said) - len(heard) <= UNDER_WAY


@FEW_SCHEDULES
async def test_a_new_session_takes_over_in_a_pause_before_the_old_one_expires(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(answers(), settings=settings(), dialect=dialect, faults=SHORT) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.5)
            began_at = call.answered_at or 0.0
            while trio.current_time() < began_at + LIFE - 1.0:
                await ask(call)
            first, second = world.model.sessions
            assert first.closed == 1000
            opened_at = second.events_sent[0].at
            assert opened_at - began_at == pytest.approx(LIFE - NOTICE, abs=0.1)
            told_at = second.events_received[1].at  # after session.update
            assert told_at - began_at < LIFE - NOTICE / 2
            turns = sum(speaker == "user" for speaker, _ in second.history)
            spoken = [item for item in second.history if item[0] == "assistant"]
            assert spoken[:2] == [("assistant", "Hello."), ("assistant", "Answer 1.")]
        assert call.handset.speech_heard() == HELLO + b"".join(answer(n) for n in range(1, turns + 1))
        check_nothing_is_cut(call)
        check_nothing_is_lost(world, call)
        assert second.received("response.create") == []
    assert (world.record.ending, world.record.sessions) == (Ending.CALLER_HUNG_UP, 2)
    assert world.record.errors_by_kind == {}
    assert world.record.cuts == ()


async def test_the_switch_waits_until_both_have_finished(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(answers(2.5), settings=settings(), dialect=dialect, faults=SHORT) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            first = world.session
            await trio.sleep_until((call.answered_at or 0.0) + LIFE - NOTICE - 0.6)
            call.handset.say(QUESTION)  # and the notice comes in the middle of the answer
            await call.handset.wait_speech()
            second = await world.model.wait_session(2)
            await call.handset.wait_silence(0.8)
            assert first.closed is None
            quiet_at = [packet.at for packet in call.handset.heard if call.handset.is_speech(packet)][-1]
            await first.wait_closed()
            assert 0.88 <= trio.current_time() - quiet_at <= 1.2  # looked at ten times a second
            await trio.sleep(0.1)
            assert [speaker for speaker, _ in second.history] == ["assistant", "user", "assistant"]
        assert call.handset.speech_heard() == HELLO + answer(1, 2.5)
        check_nothing_is_cut(call)
        check_nothing_is_lost(world, call)


@FEW_SCHEDULES
async def test_who_never_pauses_is_taken_over_in_time_all_the_same(autojump_clock: MockClock, dialect: Dialect) -> None:
    script = answers()
    async with open_world(script, settings=settings(welcome_message=None), dialect=dialect, faults=SHORT) as world:
        async with world.dial() as call:
            call.handset.say(speech(15.0, seed=20) + speech(15.0, seed=21))  # a monologue
            second = await world.model.wait_session(2)
            await world.model.sessions[0].wait_closed()
            assert trio.current_time() - (call.answered_at or 0.0) == pytest.approx(LIFE - NOTICE / 2, abs=0.2)
            await call.handset.wait_said()
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.5)
        assert call.handset.speech_heard()
        check_nothing_is_lost(world, call)
        assert second.closed == 1000
    assert world.record.ending is Ending.CALLER_HUNG_UP


@FEW_SCHEDULES
async def test_a_long_call_goes_from_session_to_session(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(answers(), settings=settings(), dialect=dialect, faults=SHORT) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.5)
            asked = 0
            while len(world.model.sessions) < 5:
                await ask(call)
                asked += 1
        assert call.handset.speech_heard() == HELLO + b"".join(answer(n) for n in range(1, asked + 1))
        assert [session.closed for session in world.model.sessions] == [1000] * 5
        assert len(world.model.sessions[-2].history) >= 10
        check_nothing_is_cut(call)
        check_nothing_is_lost(world, call)
    assert (world.record.ending, world.record.detail) == (Ending.CALLER_HUNG_UP, "")


@FEW_SCHEDULES
@pytest.mark.parametrize(
    "life", [-100_000.0, 0.0, 1.0, 1e9], ids=["long past", "now", "in a second", "in thirty years"]
)
async def test_an_expires_at_that_makes_no_sense_ends_no_call(
    autojump_clock: MockClock, dialect: Dialect, life: float
) -> None:
    """The server says so and means an hour: its clock, or its arithmetic, is wrong."""
    async with open_world(
        answers(), settings=settings(), dialect=dialect, wall_clock=lambda: NOON + 3600 - life
    ) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.5)
            for _ in range(3):
                await ask(call)
        assert len(world.model.sessions) == 1
        assert call.handset.speech_heard() == HELLO + answer(1) + answer(2) + answer(3)
        check_nothing_is_lost(world, call)
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_without_reconnect_a_farewell_is_spoken_before_the_session_expires(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    chosen = settings(reconnect=False)
    async with open_world(answers(), settings=chosen, dialect=dialect, faults=SHORT) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.5)
            await ask(call)
            hung_up_at = await call.wait_hung_up()
            began_at = call.answered_at or 0.0
            assert LIFE - NOTICE < hung_up_at - began_at < LIFE
        assert call.handset.speech_heard() == HELLO + answer(1) + GOODBYE
        (farewell,) = world.session.received("response.create")[1:]
        assert "goodbye" in farewell["response"]["instructions"]
        assert await world.session.wait_closed() == 1000
    assert (world.record.ending, world.record.sessions) == (Ending.REALTIME_EXPIRED, 1)


@FEW_SCHEDULES
async def test_a_session_that_cannot_be_renewed_is_used_to_its_end(autojump_clock: MockClock, dialect: Dialect) -> None:
    later = (Faults(refuse_upgrade=503), Faults())
    async with open_world(answers(), settings=settings(), dialect=dialect, faults=SHORT, later_faults=later) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.5)
            while len(world.model.sessions) < 2:
                await ask(call)
            await trio.sleep(5.0)
            assert trio.current_time() - (call.answered_at or 0.0) > LIFE - 1.0
            await ask(call)
        assert world.model.asked == 3
        check_nothing_is_cut(call)
    assert (world.record.ending, world.record.sessions) == (Ending.CALLER_HUNG_UP, 2)


async def test_a_loss_while_the_next_session_waits_for_a_pause_is_made_good_by_it(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(answers(2.5), settings=settings(), dialect=dialect, faults=SHORT) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await trio.sleep_until((call.answered_at or 0.0) + LIFE - NOTICE - 0.6)
            call.handset.say(QUESTION)
            second = await world.model.wait_session(2)
            await call.handset.wait_speech(1.0)  # long enough to have the question in writing
            world.model.sessions[0].drop()
            await call.handset.wait_silence(0.5)
            assert len(world.model.sessions) == 2
            assert [speaker for speaker, _ in second.history][:2] == ["assistant", "user"]
            await ask(call)
        assert second.closed == 1000
    assert (world.record.ending, world.record.sessions) == (Ending.CALLER_HUNG_UP, 2)


async def test_who_hangs_up_while_the_next_session_waits_leaves_none_behind(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(answers(2.5), settings=settings(), dialect=dialect, faults=SHORT) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await trio.sleep_until((call.answered_at or 0.0) + LIFE - NOTICE - 0.6)
            call.handset.say(QUESTION)
            await world.model.wait_session(2)
            await call.handset.wait_speech(0.5)
        for session in world.model.sessions:
            await session.wait_closed()
        assert [session.closed for session in world.model.sessions] == [1000, 1000]
    assert (world.record.ending, world.record.sessions) == (Ending.CALLER_HUNG_UP, 1)
