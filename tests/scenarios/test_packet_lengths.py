"""Packets of 10 to 60 ms, as the caller's telephone wants them: the same octets, the same interruptions."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.config.settings import Codec
from aivc.testing import Say, decided, speech
from aivc.testing.script import Context, Part
from aivc.testing.wording import read_description
from scenarios.conftest import Dialect
from scenarios.world import changed, open_world

HELLO: Final = speech(1.2, pitch_hz=210.0, seed=71)
LONG: Final = speech(6.0, pitch_hz=210.0, seed=72)
ANSWER: Final = speech(0.6, pitch_hz=210.0, seed=73)
QUESTION: Final = speech(0.6, seed=74)
LENGTHS: Final = pytest.mark.parametrize("ptime_ms", [10, 30, 40, 60])


def talk(context: Context) -> list[Part]:
    return [Say("Yes.", audio=ANSWER)] if context.turns else [Say("Hello.", audio=HELLO)]


def talk_long(context: Context) -> list[Part]:
    return [Say("Yes.", audio=ANSWER)] if context.turns else [Say("Hello.", audio=LONG)]


@LENGTHS
@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
async def test_both_sides_use_the_length_that_the_caller_wants(
    autojump_clock: MockClock, dialect: Dialect, ptime_ms: int, codec: Codec
) -> None:
    greeting, question = speech(1.2, codec, pitch_hz=210.0, seed=71), speech(0.6, codec, seed=74)

    def respond(context: Context) -> list[Part]:
        return [] if context.turns else [Say("Hello.", audio=greeting, codec=codec)]

    async with open_world(decided(respond), dialect=dialect) as world:
        async with world.dial(codec, ptime_ms=ptime_ms) as call:
            assert call.answered is not None
            assert read_description(call.answered.body.decode()).ptime_ms == ptime_ms
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.4)
            call.handset.say(question)
            await call.handset.wait_said()
            await trio.sleep(0.2)
        assert call.handset.speech_heard() == greeting
        assert {len(packet.payload) for packet in call.handset.heard} == {ptime_ms * 8}
        steps = [later.at - one.at for one, later in pairwise(call.handset.heard)]
        assert min(steps) == pytest.approx(ptime_ms / 1000) == max(steps)
        stamps = {(later.rtp_timestamp - one.rtp_timestamp) % 2**32 for one, later in pairwise(call.handset.heard)}
        assert stamps == {ptime_ms * 8}
        assert question in world.session.received_audio
    assert world.record.rtp.lost == 0
    assert world.record.ending is Ending.CALLER_HUNG_UP


@LENGTHS
async def test_an_interruption_is_told_to_the_millisecond_that_was_heard(
    autojump_clock: MockClock, dialect: Dialect, ptime_ms: int
) -> None:
    async with (
        open_world(decided(talk_long), dialect=dialect, speed=100.0) as world,
        world.dial(ptime_ms=ptime_ms) as call,
    ):
        await call.handset.wait_speech(1.0)
        call.handset.say(QUESTION)
        truncation = await world.session.wait_received("conversation.item.truncate")
        await call.handset.wait_silence(0.3)
        heard = call.handset.speech_heard()
        cut = heard if not heard.endswith(ANSWER) else heard[: -len(ANSWER)]
        assert truncation["audio_end_ms"] == len(cut) // 8
        assert truncation["audio_end_ms"] % ptime_ms == 0
        assert cut == LONG[: len(cut)]
        await call.handset.wait_speech(0.3)
    (interruption,) = world.record.cuts
    assert interruption.heard_ms == truncation["audio_end_ms"]
    assert interruption.received_ms == 6000


async def test_the_length_may_change_in_the_call(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(decided(talk_long), dialect=dialect, speed=100.0) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(1.0)
            assert (await call.reinvite(call.describe().replace("a=ptime:20", "a=ptime:60"))).status == 200
            await trio.sleep(0.1)
            changed_at = len(call.handset.heard)
            await call.handset.wait_silence(0.5)
            assert {len(packet.payload) for packet in call.handset.heard[changed_at:]} == {480}
            steps = [later.at - one.at for one, later in pairwise(call.handset.heard[changed_at:])]
            assert min(steps) == pytest.approx(0.060) == max(steps)
        assert call.handset.speech_heard().rstrip(b"\xff") == LONG.rstrip(b"\xff")
        sequences = {(later.sequence - one.sequence) % 2**16 for one, later in pairwise(call.handset.heard)}
        assert sequences == {1}
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_caller_may_send_other_lengths_than_it_wants(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(decided(talk), dialect=dialect) as world:
        async with world.dial(ptime_ms=60) as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.4)
            call.handset.ptime_ms = 20
            call.handset.say(QUESTION)
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.4)
        assert call.handset.speech_heard() == HELLO + ANSWER
        assert QUESTION in world.session.received_audio
    assert world.record.ending is Ending.CALLER_HUNG_UP


@LENGTHS
async def test_a_hold_resumes_with_whole_packets(autojump_clock: MockClock, dialect: Dialect, ptime_ms: int) -> None:
    settings = changed(rtp={"hold": "nothing"})
    async with open_world(decided(talk), settings=settings, dialect=dialect, speed=100.0) as world:
        async with world.dial(ptime_ms=ptime_ms) as call:
            await call.handset.wait_speech(0.5)
            await call.hold()
            await trio.sleep(2.0)
            await call.resume()
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.4)
        assert call.handset.speech_heard() == HELLO
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert world.record.duration_seconds == pytest.approx(call.handset.heard[-1].at - (call.answered_at or 0), abs=0.2)
