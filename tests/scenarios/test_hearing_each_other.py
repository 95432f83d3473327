"""What the caller says is what the model gets, and what the model says is what the caller hears, octet by octet."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from aivc.config.settings import Codec
from aivc.testing import Handset, Say, VirtualNetwork, echo, phrase, scripted, speech
from aivc.testing.voice import transcode
from scenarios.conftest import Dialect
from scenarios.world import DELAY, open_world

FRAME_OCTETS = 160  # 20 ms

each_codec = pytest.mark.parametrize("codec", ["PCMU", "PCMA"])


def said(handset: Handset) -> bytes:
    return b"".join(packet.payload for packet in handset.sent)


@each_codec
async def test_the_octets_are_the_same_both_ways(autojump_clock: MockClock, codec: Codec, dialect: Dialect) -> None:
    question = speech(0.5, codec, seed=1)
    async with open_world(echo(), dialect=dialect) as world:
        async with world.dial(codec) as call:
            await call.handset.wait_speech()  # a beep: nothing was said yet
            await call.handset.wait_silence(0.1)
            heard_before = len(call.handset.speech_heard())
            call.handset.say(question)
            await call.handset.wait_speech(1.5)
        answer = call.handset.speech_heard()[heard_before:]
        assert question in answer  # with the silence around it that the turn detection keeps
        assert said(call.handset).startswith(world.session.received_audio)
        assert len(said(call.handset)) - len(world.session.received_audio) <= FRAME_OCTETS  # the one under way
    assert world.record.codec == codec


@each_codec
async def test_an_answer_that_ends_inside_a_frame_is_filled_up_with_silence(
    autojump_clock: MockClock, codec: Codec
) -> None:
    hello = transcode(phrase("model_hello").octets[4000:9001], "PCMU", codec)
    silence = {"PCMU": b"\xff", "PCMA": b"\xd5"}[codec]
    async with open_world(scripted([[Say("Hello.", audio=hello, codec=codec)]])) as world:
        async with world.dial(codec) as call:
            began = await call.handset.wait_speech(1.0)
        heard = b"".join(packet.payload for packet in call.handset.heard if packet.at >= began)
    assert heard.startswith(hello)
    assert set(heard[len(hello) :]) == set(silence)


@each_codec
async def test_rtp_leaves_every_twenty_milliseconds_as_one_unbroken_stream(
    autojump_clock: MockClock, codec: Codec
) -> None:
    async with open_world(scripted([[Say("Hello.", seconds=0.5)]])) as world, world.dial(codec) as call:
        await trio.sleep(1.5)
    heard = call.handset.heard
    assert call.answered_at is not None
    assert heard[0].at == pytest.approx(call.answered_at)  # it left with the 200
    assert len(heard) == 76
    for one, other in pairwise(heard):
        assert other.at - one.at == pytest.approx(0.020, abs=1e-6)
        assert (other.sequence - one.sequence) % 2**16 == 1
        assert (other.rtp_timestamp - one.rtp_timestamp) % 2**32 == FRAME_OCTETS
    assert [packet.marker for packet in heard] == [True] + [False] * 75  # RFC 3551 section 4.1
    assert {packet.payload_type for packet in heard} == {{"PCMU": 0, "PCMA": 8}[codec]}
    assert {len(packet.payload) for packet in heard} == {FRAME_OCTETS}
    assert {packet.source for packet in heard} == {call.remote_media}
    assert len({packet.ssrc for packet in heard}) == 1
    assert world.record.rtp.sent == len(heard)


async def test_packets_of_another_length_reach_the_model_whole(autojump_clock: MockClock) -> None:
    async with open_world(scripted([[]])) as world:
        async with world.dial(ptime_ms=30) as call:
            call.handset.say(speech(0.3))
            await call.handset.wait_said()
            call.handset.muted = True
            await trio.sleep(0.1)
        assert world.session.received_audio == said(call.handset)


async def test_jitter_and_overtaking_packets_leave_no_trace(autojump_clock: MockClock) -> None:
    network = VirtualNetwork(delay=DELAY, jitter=0.010, reordering_delay=0.025)
    greeting = speech(1.0, seed=3)
    async with open_world(scripted([[Say("Hello.", audio=greeting)]]), network=network) as world:
        async with world.dial() as call:
            await trio.sleep(0.1)
            network.reordering = 0.1  # not before: nobody can miss a first packet that was overtaken
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.2)
            call.handset.say(speech(1.0, seed=4))
            await call.handset.wait_said()
            call.handset.muted = True
            await trio.sleep(0.1)
        in_order = sorted(call.handset.heard, key=lambda packet: packet.sequence - call.handset.heard[0].sequence)
        assert greeting in b"".join(packet.payload for packet in in_order)
        assert world.session.received_audio == said(call.handset)
    assert world.record.rtp.reordered > 0
    assert (world.record.rtp.lost, world.record.rtp.late) == (0, 0)


async def test_lost_packets_are_counted_and_silence_takes_their_place(autojump_clock: MockClock) -> None:
    async with open_world(scripted([[]])) as world:
        async with world.dial() as call:
            await trio.sleep(0.1)
            assert call.remote_media is not None
            flow = world.network.flows[call.handset.socket.getsockname(), call.remote_media]
            world.network.loss = 0.05  # of the audio: there is no signalling now
            call.handset.say(speech(3.0))
            await call.handset.wait_said()
            world.network.loss = 0.0
            await trio.sleep(0.1)
            call.handset.muted = True
            await trio.sleep(0.1)
        assert len(world.session.received_audio) == FRAME_OCTETS * flow.sent  # silence in their place: time is kept
    assert world.record.rtp.lost == world.record.rtp.filled == flow.lost > 0
    assert world.record.rtp.received == flow.sent - flow.lost
