"""Telephones that fall silent and networks that lose packets: the model's time stays the caller's, and turns end.

A server counts time in octets: what a telephone suppresses or a network loses must be made up for, or its turn
detection never hears the end of a turn, and every offset it tells is wrong.
"""

from __future__ import annotations

from typing import Final

import pytest
import trio
from trio.testing import MockClock

from aivc.testing import PhoneCall, Say, Script, VirtualNetwork, decided, speech
from aivc.testing.script import Context, Part
from scenarios.conftest import Dialect
from scenarios.world import DELAY, World, open_world

HELLO: Final = speech(0.5, pitch_hz=210.0, seed=1)
ANSWER: Final = speech(0.6, pitch_hz=210.0, seed=2)
QUESTION: Final = speech(0.8, seed=4)
OCTETS_PER_SECOND: Final = 8000
TURNS: Final = 3
SLACK_MS: Final = 90  # packets, the detection's windows, and what waits for a packet out of order


def agent() -> Script:
    def respond(context: Context) -> list[Part]:
        return [Say("Yes.", audio=ANSWER)] if context.turns else [Say("Hello.", audio=HELLO)]

    return decided(respond)


async def ask(call: PhoneCall, *, pause: float = 1.5) -> tuple[float, float]:
    """Ask, hear the answer, pause; from when to when the question was spoken."""
    began = trio.current_time()
    call.handset.say(QUESTION)
    await call.handset.wait_said()
    ended = trio.current_time()
    await call.handset.wait_speech()
    await call.handset.wait_silence(pause)
    return began, ended


def check_offsets(world: World, call: PhoneCall, spoken: list[tuple[float, float]]) -> None:
    """Where the model says that the caller began and stopped is when they did."""
    session = world.session
    started = [event["audio_start_ms"] for event in session.sent("input_audio_buffer.speech_started")]
    stopped = [event["audio_end_ms"] for event in session.sent("input_audio_buffer.speech_stopped")]
    assert len(started) == len(stopped) == len(spoken)
    zero = call.handset.sent[0].at if call.handset.sent else call.answered_at or 0.0
    for (began, ended), start_ms, end_ms in zip(spoken, started, stopped, strict=True):
        assert start_ms + 300 == pytest.approx((began - zero) * 1000, abs=SLACK_MS)  # less prefix padding
        assert end_ms - 200 == pytest.approx((ended - zero) * 1000, abs=SLACK_MS)  # after that silence
    lengths = [ended - began for began, ended in spoken]
    assert max(lengths) < 0.9


async def test_turns_of_a_telephone_that_suppresses_silence_end_and_keep_their_time(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(agent(), dialect=dialect) as world:
        async with world.dial() as call:
            await trio.sleep(0.1)  # it sends, and then it suppresses
            call.handset.suppresses_silence = True
            await call.handset.wait_speech()
            await call.handset.wait_silence(1.0)
            spoken = [await ask(call) for _ in range(TURNS)]
            check_offsets(world, call, spoken)
        assert call.handset.speech_heard() == HELLO + TURNS * ANSWER
        assert world.session.received_audio.count(QUESTION) == TURNS
    assert world.record.rtp.comfort_noise == TURNS + 1
    assert world.record.rtp.filled > 0


async def test_a_telephone_that_just_stops_sending_between_words_is_no_different(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(agent(), dialect=dialect) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.5)
            spoken = []
            for _ in range(TURNS):
                began = trio.current_time()
                call.handset.muted = False
                call.handset.say(QUESTION)
                await call.handset.wait_said()
                spoken.append((began, trio.current_time()))
                call.handset.muted = True  # no comfort noise, nothing
                await call.handset.wait_speech()
                await call.handset.wait_silence(1.0)
            check_offsets(world, call, spoken)
        assert call.handset.speech_heard() == HELLO + TURNS * ANSWER
    assert world.record.rtp.comfort_noise == 0


async def test_the_noise_of_a_long_pause_is_silence_to_the_model(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with (
        open_world(agent(), dialect=dialect) as world,
        world.dial() as call,
    ):
        await trio.sleep(0.1)
        call.handset.suppresses_silence = True
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.5)
        for level_dbov in (60, 20, 127, 0):  # every now and then the phone describes it anew, RFC 3389 section 5.1
            call.handset.comfort_noise(level_dbov)
            await trio.sleep(0.7)
        spoken = [await ask(call)]
        check_offsets(world, call, spoken)
        heard = world.session.received_audio
        assert not heard[: heard.index(QUESTION)].strip(b"\xff")


async def test_turns_end_in_time_though_every_twentieth_packet_is_lost(
    autojump_clock: MockClock, dialect: Dialect, schedule: int
) -> None:
    async with (
        open_world(agent(), dialect=dialect, network=VirtualNetwork(seed=schedule, delay=DELAY)) as world,
        world.dial() as call,
    ):
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.5)
        world.network.loss = 0.05
        spoken = [await ask(call, pause=0.5) for _ in range(TURNS)]
        world.network.loss = 0.0
        check_offsets(world, call, spoken)
        seconds = trio.current_time() - call.handset.sent[0].at
        assert len(world.session.received_audio) / OCTETS_PER_SECOND == pytest.approx(seconds, abs=0.1)
    assert world.record.rtp.lost > 0
    assert world.record.rtp.filled == world.record.rtp.lost
    assert len(world.record.latencies) == TURNS


async def test_packets_that_overtake_each_other_change_no_octet_and_no_offset(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(agent(), dialect=dialect) as world:
        async with world.dial() as call:
            call.handset.swaps_neighbours = True
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.5)
            spoken = [await ask(call) for _ in range(TURNS)]
            check_offsets(world, call, spoken)
        assert world.session.received_audio.count(QUESTION) == TURNS
    assert (world.record.rtp.lost, world.record.rtp.filled) == (0, 0)
    assert world.record.rtp.reordered > 0


async def test_an_outage_of_two_seconds_is_two_seconds_to_the_model(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with (
        open_world(agent(), dialect=dialect) as world,
        world.dial() as call,
    ):
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.5)
        began = trio.current_time()
        call.handset.say(QUESTION[:3200])
        await call.handset.wait_said()
        call.handset.muted = True  # in the middle of a word
        ended = trio.current_time()
        await call.handset.wait_speech()  # the turn ended by itself, and is answered
        await trio.sleep(2.0)
        call.handset.muted = False
        await call.handset.wait_silence(0.5)
        spoken = [(began, ended), await ask(call)]
        check_offsets(world, call, spoken)
