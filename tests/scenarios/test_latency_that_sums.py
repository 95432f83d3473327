"""Each part of the silence before an answer is set to a known length, and the record shows it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio
from trio.testing import MockClock

from aivc import tool
from aivc.config.settings import RealtimeSettings, SoundsSettings
from aivc.media.g711 import is_voiced
from aivc.nursery.latency import TurnLatency
from aivc.testing import CallTool, Context, Latency, Part, PhoneCall, Say, Session, decided, scripted, speech
from scenarios.barge_in import EXCUSE_ME, LONG, SHORT, left_at, times_sent
from scenarios.conftest import Dialect
from scenarios.world import DELAY, World, changed, open_world

QUESTION: Final = speech(0.6, seed=41)
ONE_MOMENT: Final = speech(0.4, pitch_hz=210.0, seed=42)
MUSIC: Final = speech(0.8, pitch_hz=300.0, seed=43)
WAY: Final = 0.03  # seconds to the model, and as long back
SILENCE_MS: Final = 400
SLOW: Final = changed(openai={"turn_detection_silence_ms": SILENCE_MS, "welcome_message": ""})
ANSWERS: Final = scripted([[Say("Yes?", audio=SHORT)]])


@tool
async def look_up(seconds: float = 1.0) -> str:
    """Look something up."""
    await trio.sleep(seconds)
    return "found"


async def ask(call: PhoneCall, patience: float = 1.0) -> None:
    """Say something at once, and hear the answer."""
    await trio.sleep(0.5)
    call.handset.say(QUESTION)
    await call.handset.wait_said()
    await call.handset.wait_speech(0.3)
    await call.handset.wait_silence(patience)


def last_audible(call: PhoneCall) -> float:
    """When the service got it."""
    return [sent.at for sent in call.handset.sent if is_voiced(sent.payload, call.handset.codec)][-1] + DELAY


def appended(session: Session, packet: bytes) -> float:
    """When the model got the append with this packet in it."""
    return next(
        seen.at
        for seen in session.events_received
        if seen.event.get("type") == "input_audio_buffer.append" and packet in base64.b64decode(seen.event["audio"])
    )


def first_sent(session: Session, *names: str) -> float:
    return min(at for name in names for at in times_sent(session, name))


def latency_of(world: World) -> TurnLatency:
    """The only one of the only call; it adds up."""
    (latency,) = world.record.latencies
    assert latency.parts.total_ms == pytest.approx(latency.total_ms, abs=1e-6)
    assert min(attrs.astuple(latency.parts)) >= 0
    return latency


async def test_a_plain_answer_is_the_settings_the_networks_and_the_models_to_the_millisecond(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(ANSWERS, settings=SLOW, dialect=dialect, latency=Latency(seconds=WAY)) as world:
        async with world.dial() as call:
            await ask(call)
        session = world.session
        stopped = first_sent(session, "input_audio_buffer.speech_stopped")
        created = first_sent(session, "response.created")
        delta = first_sent(session, "response.output_audio.delta", "response.audio.delta")
    latency, came = latency_of(world), last_audible(call)
    parts = latency.parts
    assert latency.began_at == pytest.approx(came)
    assert latency.total_ms == pytest.approx(1000 * (left_at(call)[0] - came))
    assert latency.endpointing_ms == pytest.approx(1000 * (stopped + WAY - came))
    assert (parts.reorder_ms, parts.append_ms, parts.request_ms, parts.tool_ms, parts.queue_ms) == (0, 0, 0, 0, 0)
    assert parts.vad_ms == pytest.approx(SILENCE_MS)
    assert parts.network_ms == pytest.approx(2000 * WAY)
    assert parts.detection_ms == pytest.approx(latency.endpointing_ms - SILENCE_MS - 2000 * WAY)
    assert parts.detection_ms < 45.0  # soft ends of words, and whole packets
    assert parts.creation_ms == pytest.approx(1000 * (created - stopped), abs=1e-6)
    assert parts.generation_ms == pytest.approx(1000 * (delta - created))
    assert 0 < parts.playout_ms <= 20.001
    assert world.record.greeted_at is None


async def test_audio_that_waits_for_a_whole_message_is_ours(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = attrs.evolve(SLOW, realtime=RealtimeSettings(append_ms=100))
    async with open_world(ANSWERS, settings=settings, dialect=dialect) as world:
        async with world.dial() as call:
            await ask(call)
        voiced = [sent for sent in call.handset.sent if is_voiced(sent.payload, call.handset.codec)][-1]
        waited = appended(world.session, voiced.payload) - (voiced.at + DELAY)
    parts = latency_of(world).parts
    assert parts.append_ms == pytest.approx(1000 * waited, abs=1e-6)
    assert 0 <= parts.append_ms <= 80.001
    assert parts.vad_ms == SILENCE_MS


async def test_a_detection_by_meaning_is_counted_as_its_settings(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(SLOW, openai={"turn_detection_type": "semantic_vad", "turn_detection_eagerness": "low"})
    way = Latency(seconds=WAY)
    async with open_world(ANSWERS, settings=settings, dialect=dialect, latency=way) as world, world.dial() as call:
        await ask(call)
    latency = latency_of(world)
    assert latency.parts.network_ms == pytest.approx(2000 * WAY)
    assert latency.parts.vad_ms == pytest.approx(latency.endpointing_ms - 2000 * WAY)
    assert latency.parts.vad_ms >= 1000


async def test_an_answer_that_we_ask_for_takes_another_way_over_the_network(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    settings = changed(SLOW, openai={"interruption": "confirm"})
    async with open_world(ANSWERS, settings=settings, dialect=dialect, latency=Latency(seconds=WAY)) as world:
        async with world.dial() as call:
            await ask(call)
        asked = [seen.at for seen in world.session.events_received if seen.event["type"] == "response.create"]
        assert len(asked) == 1
    parts = latency_of(world).parts
    assert parts.network_ms == pytest.approx(4000 * WAY)
    assert parts.request_ms == 0  # asked as soon as the turn was committed


async def test_rounds_of_tools_and_tools_side_by_side_are_the_tools_time(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    def respond(context: Context) -> Sequence[Part]:
        match len(context.called):
            case 0:
                return [CallTool("look_up", {"seconds": 1.0}), CallTool("look_up", {"seconds": 0.6})]
            case 2:
                return [CallTool("look_up", {"seconds": 0.5})]
            case _:
                return [Say("It is 42.", audio=SHORT)]

    given: dict[str, Any] = {"settings": SLOW, "dialect": dialect, "tools": (look_up,), "latency": Latency(seconds=WAY)}
    async with open_world(decided(respond), **given) as world, world.dial() as call:
        await ask(call)
    latency, (one, two, three) = latency_of(world), sorted(world.record.tools, key=lambda run: run.started_at)
    union = max(one.ended_at, two.ended_at) - one.started_at + three.duration_seconds
    assert latency.parts.tool_ms == pytest.approx(1000 * union)
    assert latency.parts.network_ms == pytest.approx(3 * 2000 * WAY)
    assert latency.parts.request_ms == pytest.approx(0, abs=1e-6)
    assert latency.first_audio_ms > 1500


async def test_a_spoken_filler_ends_the_silence_and_music_does_not(
    autojump_clock: MockClock, dialect: Dialect, tmp_path: Path
) -> None:
    def respond(context: Context) -> Sequence[Part]:
        if context.outputs:
            return [Say("It is 42.", audio=SHORT)]
        return [Say("Mm.", audio=ONE_MOMENT)] if context.instructions else [CallTool("look_up", {"seconds": 2.0})]

    file = tmp_path / "music.ulaw"
    file.write_bytes(MUSIC)
    for filler, silence in (("model", (0.5, 2.0)), ("sound", (2.5, 4.0))):
        settings = changed(SLOW, openai={"filler_after_ms": 500, "filler": filler})
        settings = attrs.evolve(settings, sounds=SoundsSettings(hold=str(file)))
        given: dict[str, Any] = {"settings": settings, "dialect": dialect, "tools": (look_up,)}
        async with open_world(decided(respond), **given) as world, world.dial() as call:
            await ask(call, 2.5)
        latency = latency_of(world)
        assert silence[0] < latency.total_ms / 1000 < silence[1]


async def test_who_interrupts_is_measured_for_the_answer_that_they_hear(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    script = scripted([[Say("Well,", audio=LONG)], [Say("Yes?", audio=SHORT)]])
    async with open_world(script, settings=SLOW, dialect=dialect) as world, world.dial() as call:
        await trio.sleep(0.5)
        call.handset.say(QUESTION)
        await call.handset.wait_said()
        await trio.sleep(0.5)
        call.handset.say(EXCUSE_ME)  # before anything was heard
        await call.handset.wait_said()
        await call.handset.wait_speech(0.3)
        await call.handset.wait_silence(1.0)
    latency = latency_of(world)
    assert latency.began_at == pytest.approx(last_audible(call))
    assert latency.parts.vad_ms == SILENCE_MS


async def test_the_greeting_has_a_time_of_its_own(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(ANSWERS, dialect=dialect) as world, world.dial() as call:
        await call.handset.wait_speech(0.3)
        await call.handset.wait_silence(0.5)
    assert world.record.latencies == ()
    assert world.record.greeted_at == pytest.approx(left_at(call)[0])
