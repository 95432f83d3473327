"""What offers and answers do to the audio: RFC 3264, seen at the caller's handset."""

from __future__ import annotations

from typing import Literal

import pytest
import trio
from scenarios.world import PHONE, open_world
from trio.testing import MockClock

from acceptance.talk import MEDIA, audio, count_arrivals, is_heard, open_talk, rtp, socket_at
from aivc.testing import CallRefused, Say, scripted

AT_ONCE = 0.3  # seconds


def description(port: int, media: str = "RTP/AVP 0", version: int = 2) -> str:
    return f"v=0\r\no=- 1 {version} IN IP4 {PHONE}\r\ns=-\r\nc=IN IP4 {PHONE}\r\nt=0 0\r\nm=audio {port} {media}\r\n"


async def test_oa_02_pcma_alone_is_what_is_sent(autojump_clock: MockClock) -> None:
    """RFC 3264 section 6."""
    async with open_talk(codec="PCMA") as (_, call):
        assert {packet.payload_type for packet in audio(call.handset)} == {8}


async def test_oa_05_a_late_offer_makes_audio_both_ways(autojump_clock: MockClock) -> None:
    """RFC 3264 section 5, RFC 3261 section 13.3.1.4."""
    async with open_talk(late_offer=True) as (_, call):
        assert await is_heard(call.handset)


@pytest.mark.parametrize(
    "way",
    [
        pytest.param("sendonly", id="oa_06"),
        pytest.param("inactive", id="oa_07"),
        pytest.param("0.0.0.0", id="oa_08"),
    ],
)
async def test_oa_06_07_08_nothing_is_sent_while_the_caller_holds_and_everything_afterwards(
    way: Literal["sendonly", "inactive", "0.0.0.0"], autojump_clock: MockClock
) -> None:
    """RFC 3264 section 8.4."""
    async with open_talk() as (_, call):
        assert (await call.hold(way)).status == 200
        await trio.sleep(AT_ONCE)
        before = len(call.handset.heard)
        await trio.sleep(2.0)
        assert len(call.handset.heard) == before
        assert (await call.resume()).status == 200
        assert await is_heard(call.handset)


async def test_oa_13_audio_with_port_0_is_no_call_and_no_audio(autojump_clock: MockClock) -> None:
    """RFC 3264 section 5.1."""
    async with open_world(scripted([[Say("Hello.", seconds=0.5)]]), calls=0) as world:
        with pytest.raises(CallRefused, match="488"):
            async with world.dial(sdp=description(0)):
                pass


@pytest.mark.parametrize("ptime", [10, 30, 40, 60])
async def test_oa_17_packets_have_the_time_that_was_asked_for(ptime: int, autojump_clock: MockClock) -> None:
    """RFC 4566 section 6, RFC 3551 section 4.5.14: eight octets a millisecond."""
    async with open_talk(ptime_ms=ptime) as (_, call):
        assert {len(packet.payload) for packet in audio(call.handset)} == {8 * ptime}


async def test_oa_21_the_audio_follows_a_reinvite_to_another_port(autojump_clock: MockClock) -> None:
    """RFC 3264 section 8.3.1: at once, and nothing goes to the old one any more."""
    async with open_talk() as (_, call), socket_at((PHONE, 45_000)) as moved:
        assert (await call.reinvite(description(45_000))).status == 200
        for number in range(5):
            await moved.sendto(rtp(number, ssrc=7), MEDIA)
        await trio.sleep(AT_ONCE)
        before = len(call.handset.heard)
        assert await count_arrivals(moved, 1.0) >= 45
        assert len(call.handset.heard) == before


@pytest.mark.xfail(strict=True, reason="nothing is transcoded: the model was configured for the first codec; 488")
async def test_oa_22_a_reinvite_may_change_the_codec(autojump_clock: MockClock) -> None:
    """RFC 3264 section 8.3.2."""
    async with open_talk() as (_, call):
        port = call.handset.socket.getsockname()[1]
        assert (await call.reinvite(description(port, "RTP/AVP 8"))).status == 200
        await trio.sleep(AT_ONCE)
        assert audio(call.handset)[-1].payload_type == 8


async def test_oa_22_a_reinvite_for_another_codec_is_refused_and_the_call_goes_on(autojump_clock: MockClock) -> None:
    """RFC 3264 section 8: what was agreed stays, and both codecs together keep the first."""
    async with open_talk() as (_, call):
        port = call.handset.socket.getsockname()[1]
        assert (await call.reinvite(description(port, "RTP/AVP 8"))).status == 488
        assert await is_heard(call.handset)
        assert (await call.reinvite(description(port, "RTP/AVP 8 0", version=3))).status == 200
        assert await is_heard(call.handset)
        assert {packet.payload_type for packet in audio(call.handset)} == {0}


async def test_oa_23_a_reinvite_without_an_offer_does_not_disturb_the_audio(autojump_clock: MockClock) -> None:
    """RFC 3261 section 14.2: not even when the ACK does not answer the offer of the 2xx."""
    async with open_talk() as (_, call):
        assert (await call.reinvite("")).status == 200
        assert await is_heard(call.handset)


async def test_oa_27_ipv6_audio_of_an_ipv4_call_goes_to_its_address(autojump_clock: MockClock) -> None:
    """RFC 4566 section 5.7: the answer has an IPv6 address, too."""
    six = description(45_000).replace(f"c=IN IP4 {PHONE}", "c=IN IP6 2001:db8::9")
    async with open_world(scripted([[Say("Hello.", seconds=0.5)]])) as world, world.ring(sdp=six) as call:
        with trio.socket.socket(trio.socket.AF_INET6, trio.socket.SOCK_DGRAM) as socket:
            await socket.bind(("2001:db8::9", 45_000))
            assert b"c=IN IP6 " in (await call.wait_answer()).body
            assert await count_arrivals(socket, 1.0) >= 20
            await call.hang_up()
