"""RTP both ways, as the caller and strangers see it: RFC 3550, RFC 3551, RFC 4961."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import trio
from scenarios.world import DELAY, PHONE, changed, open_world
from trio.testing import MockClock

from acceptance.talk import FOREIGN, MEDIA, PACKET, audio, count_arrivals, is_heard, open_talk, rtp, socket_at
from aivc import Ending
from aivc.testing import Say, VirtualNetwork, scripted, speech


async def test_rtp_01_the_stream_is_one_of_rtp_every_20_ms(autojump_clock: MockClock) -> None:
    """RFC 3550 section 5.1, RFC 3551 section 4: one SSRC, sequence + 1, the timestamp counts samples."""
    async with open_talk() as (_, call):
        await trio.sleep(2.0)
        heard = audio(call.handset)
        assert {(packet.payload_type, len(packet.payload)) for packet in heard} == {(0, 160)}
        assert len({packet.ssrc for packet in heard}) == 1
        for before, after in pairwise(heard):
            assert (after.sequence - before.sequence) % 2**16 == 1
            assert (after.rtp_timestamp - before.rtp_timestamp) % 2**32 == 160
            assert after.at - before.at == pytest.approx(PACKET, abs=0.001)


async def test_rtp_02_the_stream_comes_from_the_port_of_our_answer(autojump_clock: MockClock) -> None:
    """RFC 4961."""
    async with open_talk() as (_, call):
        assert {packet.source for packet in call.handset.heard} == {call.remote_media} == {MEDIA}


async def test_rtp_03_a_talkspurt_begins_with_the_marker(autojump_clock: MockClock) -> None:
    """RFC 3551 section 4.1."""
    async with open_talk() as (_, call):
        heard = audio(call.handset)
        assert heard[0].marker
        assert not any(packet.marker for packet in heard[1:])


MALFORMED = {
    "nothing": b"",
    "short": b"\x80\0\0\1",
    "version 0": b"\0" + rtp(1)[1:],
    "version 1": b"\x40" + rtp(1)[1:],
    "version 3": b"\xc0" + rtp(1)[1:],
    "CSRCs beyond": b"\x8f" + rtp(1)[1:20],
    "extension beyond": b"\x90" + rtp(1)[1:12] + b"\xbe\xde\xff\xff",
    "padding 0": b"\xa0" + rtp(1)[1:-1] + b"\0",
    "padding 255": b"\xa0" + rtp(1)[1:-1] + b"\xff",
    "RTCP": b"\x80\xc8\0\6" + b"\0" * 24,
    "no payload": rtp(1, payload=b""),
    "long": rtp(1, payload=b"\x55" * 1400),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
async def test_rtp_04_malformed_packets_do_not_disturb_the_stream(data: bytes, autojump_clock: MockClock) -> None:
    """RFC 3550 appendix A.1."""
    async with open_talk() as (world, call):
        for _ in range(5):
            await call.handset.socket.sendto(data, MEDIA)
        assert await is_heard(call.handset)
        assert world.service.calls == 1


@pytest.mark.parametrize("fault", ["wrap", "SSRC", "reordering", "duplicates", "loss"])
async def test_rtp_05_a_stream_that_wraps_restarts_or_loses_is_still_heard(
    fault: str, autojump_clock: MockClock
) -> None:
    """RFC 3550 appendix A.1: the model hears what the caller says, and answers."""
    network = VirtualNetwork(delay=DELAY, seed=4, reordering_delay=0.03)
    script = scripted([[Say("Hello.", seconds=0.2)], [Say("Yes.", seconds=0.5)]])
    async with open_world(script, network=network) as world, world.dial() as call:
        handset = call.handset
        await handset.wait_speech(0.5)
        network.loss, network.reordering = 0.3 * (fault == "loss"), 0.2 * (fault == "reordering")
        if fault == "wrap":
            handset.sequence, handset.rtp_timestamp = 2**16 - 10, 2**32 - 1600
        handset.ssrc += fault == "SSRC"
        handset.say(speech(1.0, pitch_hz=200.0, seed=3))
        while fault == "duplicates" and handset.sequence < 1060:
            await handset.socket.sendto(rtp(handset.sequence - 1, ssrc=handset.ssrc), MEDIA)
            await trio.sleep(PACKET)
        await handset.wait_said()
        network.loss = network.reordering = 0.0
        with trio.fail_after(10):
            await handset.wait_speech(0.2)
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_rtp_06_who_sprays_our_port_gets_nothing(autojump_clock: MockClock) -> None:
    """RTP bleed, CVE-2017-14099: the caller goes on hearing, a stranger hears nothing."""
    async with open_talk() as (_, call), socket_at(FOREIGN) as thief:
        for number in range(100):
            await thief.sendto(rtp(number), MEDIA)
            await trio.sleep(0.01)
        assert await is_heard(call.handset)
        assert await count_arrivals(thief, 1.0) == 0


async def test_rtp_08_a_caller_behind_a_nat_is_sent_to_where_it_sends_from(autojump_clock: MockClock) -> None:
    """Symmetric RTP, RFC 4961: the address of the SDP, another port than it says."""
    async with open_talk() as (_, call), socket_at((PHONE, 45_000)) as moved:
        call.handset.muted = True
        for number in range(250):
            await moved.sendto(rtp(number), MEDIA)
            await trio.sleep(PACKET)
        assert await count_arrivals(moved, 0.2) >= 8


async def test_rtp_09_10_after_the_bye_nothing_is_sent_and_the_port_is_closed(autojump_clock: MockClock) -> None:
    """RFC 3550: within 200 ms."""
    async with open_talk() as (world, call):
        await call.hang_up()
        await trio.sleep(0.2)
        before = len(call.handset.heard)
        await trio.sleep(1.0)
        assert len(call.handset.heard) == before
        assert world.media_sockets() == []


@pytest.mark.parametrize("port", [0, 1], ids=["RTP port", "RTCP port"])
async def test_rtp_11_garbage_for_rtcp_does_no_harm(port: int, autojump_clock: MockClock) -> None:
    """RFC 3550 section 6: truncated and compound packets, and AST-2017-008's of four octets."""
    dice = random.Random(1)
    async with open_talk() as (_, call):
        to = (MEDIA[0], MEDIA[1] + port)
        whole = b"\x81\xc9\0\7" + bytes(28) + b"\x81\xca\0\2" + bytes(8)
        for data in (
            b"\x81\xc9\0\7",
            whole[:20],
            whole[:-3],
            b"\x9f\xc8\xff\xff",
            b"\x81\xcb\0\0",
            dice.randbytes(300),
        ):
            await call.handset.socket.sendto(data, to)
        assert await is_heard(call.handset)


async def test_rtp_12_audio_before_the_ack_is_taken(autojump_clock: MockClock) -> None:
    """RFC 3264 section 5.1."""
    hello = scripted([[Say("Hello.", seconds=0.5)]])
    async with open_world(hello) as world, world.dial(acknowledge=False) as call:
        await call.handset.wait_speech(0.3)
        assert call.hung_up_at is None
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_rtp_13_a_pause_with_comfort_noise_is_a_pause(autojump_clock: MockClock) -> None:
    """RFC 3389: speech, noise, 2 s without packets, and speech with marker and a jump of the timestamp."""
    async with open_talk() as (world, call):
        call.handset.suppresses_silence = True
        call.handset.say(speech(0.1))
        await trio.sleep(2.3)
        call.handset.say(speech(0.1))
        await trio.sleep(0.3)
        assert call.hung_up_at is None
        assert world.service.calls == 1
    assert world.record.rtp.comfort_noise > 0
    assert world.record.rtp.restarts == 0


async def test_rtp_14_a_caller_that_never_sends_is_cut_when_it_is_set_and_not_before(
    autojump_clock: MockClock,
) -> None:
    """The setting rtp.timeout_seconds."""
    settings = changed(rtp={"timeout_seconds": 8.0})
    hello = scripted([[Say("Hello.", seconds=0.2)]])
    async with open_world(hello, settings=settings) as world, world.ring() as call:
        call.handset.muted = True
        await call.wait_answer()
        answered = trio.current_time()
        assert await call.wait_hung_up() - answered == pytest.approx(8.0, abs=0.1)
    assert world.record.ending is Ending.MEDIA_TIMEOUT


async def test_rtp_16_a_flood_of_strange_ssrcs_leaves_the_caller_its_audio(autojump_clock: MockClock) -> None:
    """5000 packets in a second, from the caller's own address and from elsewhere."""
    dice = random.Random(2)
    async with open_talk() as (_, call), socket_at(FOREIGN) as thief:
        before = len(call.handset.heard)
        for number in range(5000):
            sender = thief if number % 2 else call.handset.socket
            await sender.sendto(rtp(dice.randrange(2**16), ssrc=dice.randrange(2**32)), MEDIA)
            if number % 5 == 0:
                await trio.sleep(0.001)
        assert len(call.handset.heard) - before >= 45
        assert await count_arrivals(thief, 0.5) == 0
        assert await is_heard(call.handset)
