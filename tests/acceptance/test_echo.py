"""What the model hears when the network treats the caller's packets badly: RFC 3550 appendix A."""

from __future__ import annotations

import pytest
import trio
from scenarios.world import DELAY, open_world
from trio.testing import MockClock

from acceptance.talk import FOREIGN, MEDIA, rtp, socket_at
from aivc.testing import Handset, VirtualNetwork, scripted, speech

FRAME = 160  # octets
SAID = speech(2.0, seed=5)


def sent(handset: Handset) -> bytes:
    return b"".join(packet.payload for packet in handset.sent)


async def say(handset: Handset) -> None:
    await trio.sleep(0.1)
    handset.say(SAID)
    await handset.wait_said()
    handset.muted = True
    await trio.sleep(0.1)


async def test_ec_01_lost_packets_leave_gaps_of_silence_and_the_rest_in_its_place(autojump_clock: MockClock) -> None:
    """RFC 3550 appendix A.3."""
    network = VirtualNetwork(delay=DELAY, seed=3)
    async with open_world(scripted([[]]), network=network) as world, world.dial() as call:
        await trio.sleep(0.1)
        network.loss = 0.1
        call.handset.say(SAID)
        await call.handset.wait_said()
        network.loss = 0.0
        await trio.sleep(0.1)
        call.handset.muted = True
        await trio.sleep(0.1)
        heard, whole = world.session.received_audio, sent(call.handset)
        assert len(heard) == len(whole)
        frames = [(heard[at : at + FRAME], whole[at : at + FRAME]) for at in range(0, len(whole), FRAME)]
        missing = [ours for ours, theirs in frames if ours != theirs]
        assert set(missing) == {b"\xff" * FRAME}
        assert 3 <= len(missing) <= 30


@pytest.mark.parametrize("fault", [pytest.param("reordering", id="ec_02"), pytest.param("duplicates", id="ec_03")])
async def test_ec_02_03_packets_that_overtake_or_repeat_leave_no_trace(fault: str, autojump_clock: MockClock) -> None:
    """RFC 3550 appendix A.1."""
    network = VirtualNetwork(delay=DELAY, reordering_delay=0.025)
    async with open_world(scripted([[]]), network=network) as world, world.dial() as call:
        handset = call.handset
        await trio.sleep(0.1)
        network.reordering = 0.1 * (fault == "reordering")
        handset.say(SAID)
        await trio.sleep(0.005)  # between two of its packets
        while fault == "duplicates" and len(handset.sent) < 80:
            again = handset.sent[-1].payload
            header = rtp(handset.sequence - 1, ssrc=handset.ssrc)[:4]
            stamp = (handset.rtp_timestamp - FRAME).to_bytes(4, "big") + handset.ssrc.to_bytes(4, "big")
            await handset.socket.sendto(header + stamp + again, MEDIA)
            await trio.sleep(0.02)
        await handset.wait_said()
        handset.muted = True
        await trio.sleep(0.1)
        assert world.session.received_audio == sent(handset)


async def test_ec_04_a_new_ssrc_of_the_caller_is_the_caller(autojump_clock: MockClock) -> None:
    """RFC 3550 section 8.2: nothing of either stream is lost."""
    async with open_world(scripted([[]])) as world, world.dial() as call:
        await trio.sleep(0.5)
        call.handset.ssrc, call.handset.sequence = 0x5EC0, 7
        await say(call.handset)
        assert SAID in world.session.received_audio


async def test_ec_05_packets_of_a_stranger_are_never_heard(autojump_clock: MockClock) -> None:
    """RTP injection: right payload type, plausible sequence, another source."""
    foreign = bytes(range(1, 161))
    async with open_world(scripted([[]])) as world, world.dial() as call, socket_at(FOREIGN) as stranger:
        await trio.sleep(0.5)
        for number in range(200):
            await stranger.sendto(rtp(call.handset.sequence + number, ssrc=call.handset.ssrc, payload=foreign), MEDIA)
            await trio.sleep(0.005)
        await say(call.handset)
        assert foreign not in world.session.received_audio
        assert SAID in world.session.received_audio
    assert world.record.rtp.foreign == 200
