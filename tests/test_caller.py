"""The test phone: its SIP dialog and its handset, against the user agent and against plain datagrams."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from aivc import Leg, Rejection, SipSettings, UserAgent, open_user_agent
from aivc.config.settings import Address, Codec
from aivc.sip.leg import AckMissing, Cancelled, HungUp
from aivc.sip.message import Request, parse_untrusted
from aivc.testing import CallRefused, Handset, Phone, VirtualNetwork, open_phone, silence, speech
from aivc.testing.wording import answer_to, media_address

SERVER: Address = ("192.0.2.1", 5060)
MEDIA: Address = ("192.0.2.1", 40_000)
URI = "sip:1000@192.0.2.1:5060"
DELAY = 0.005


@attrs.define(eq=False)
class Exchange:
    """A user agent whose calls the test answers, and a phone."""

    network: VirtualNetwork
    agent: UserAgent
    phone: Phone
    legs: list[Leg] = attrs.field(factory=list)

    async def answer(self) -> None:
        leg = await self.agent.legs.receive()
        self.legs.append(leg)
        await leg.ring()
        await trio.sleep(0.1)
        await leg.answer(MEDIA)


@asynccontextmanager
async def open_exchange(network: VirtualNetwork | None = None) -> AsyncIterator[Exchange]:
    network = (network or VirtualNetwork(delay=DELAY)).enable()
    settings = SipSettings(listen=("udp:192.0.2.1:5060",))
    with trio.fail_after(200):
        async with open_phone("192.0.2.9") as phone, open_user_agent(settings) as agent:
            yield Exchange(network, agent, phone)


async def test_a_call_is_answered_acknowledged_and_hung_up(autojump_clock: MockClock) -> None:
    async with open_exchange() as given:
        given.phone.nursery.start_soon(given.answer)
        async with given.phone.dial(URI) as call:
            assert [response.status for response in call.responses] == [100, 180, 200]
            assert call.answered_at == pytest.approx(trio.current_time())
            assert call.remote_media == MEDIA
            await trio.sleep(1.0)
        (leg,) = given.legs
        assert leg.call_id == call.call_id
        assert leg.caller == "sip:alice@192.0.2.9"
        assert leg.events.receive_nowait() == HungUp()
        assert given.agent.statistics().stray_acks == 0


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
async def test_the_phone_offers_one_codec(autojump_clock: MockClock, codec: Codec) -> None:
    async with open_exchange() as given:
        given.phone.nursery.start_soon(given.answer)
        async with given.phone.dial(URI, codec=codec) as call:
            pass
        agreement = given.legs[0].agreement
        assert agreement.codec == codec
        assert agreement.remote[0] == "192.0.2.9"
        assert call.handset.silence == silence(0.02, call.handset.codec)


async def test_a_refused_call_raises_the_response(autojump_clock: MockClock) -> None:
    async with open_exchange() as given:

        async def refuse() -> None:
            await (await given.agent.legs.receive()).reject(Rejection(486, "busy"))

        given.phone.nursery.start_soon(refuse)
        with pytest.raises(CallRefused, match="486 Busy Here") as caught:
            async with given.phone.dial(URI):
                raise AssertionError("it was refused")
        assert caught.value.status == 486
        assert caught.value.response.header("Reason") == 'SIP;cause=486;text="busy"'
        await trio.sleep(40)  # acknowledged: nothing is sent any more
        assert given.agent.statistics().server_transactions == 0


async def test_what_a_test_raises_inside_a_call_stays_as_it_is(autojump_clock: MockClock) -> None:
    async with open_exchange() as given:
        given.phone.nursery.start_soon(given.answer)
        with pytest.raises(LookupError, match="of the test"):
            async with given.phone.dial(URI):
                raise LookupError("of the test")


async def test_an_invite_is_repeated_until_something_comes_back(autojump_clock: MockClock) -> None:
    sent: list[float] = []

    def note(source: Address, to: Address, data: bytes) -> None:
        if data.startswith(b"INVITE"):
            sent.append(trio.current_time())

    VirtualNetwork(on_packet=note).enable()
    with trio.move_on_after(10):
        async with open_phone("192.0.2.9") as phone, phone.ring(URI):
            raise AssertionError("nobody is there")
    assert [round(later - earlier, 6) for earlier, later in pairwise(sent)] == [0.5, 1.0, 2.0, 4.0]  # timer A


async def test_a_call_can_be_given_up_before_the_answer(autojump_clock: MockClock) -> None:
    async with open_exchange() as given, given.phone.ring(URI) as call:
        leg = await given.agent.legs.receive()
        await call.cancel()
        with pytest.raises(CallRefused, match="487"):
            await call.wait_answer()
        assert leg.events.receive_nowait() == Cancelled()


async def test_the_other_side_may_hang_up(autojump_clock: MockClock) -> None:
    async with open_exchange() as given:
        given.phone.nursery.start_soon(given.answer)
        async with given.phone.dial(URI) as call:
            await trio.sleep(0.1)
            at = trio.current_time()
            await given.legs[0].hang_up("enough")
            assert await call.wait_hung_up() == pytest.approx(at + DELAY)
        (bye,) = call.requests  # and the phone sends none of its own
        assert bye.header("Reason") == 'SIP;cause=200;text="enough"'


async def test_a_phone_can_be_told_never_to_acknowledge(autojump_clock: MockClock) -> None:
    async with open_exchange() as given:
        given.phone.nursery.start_soon(given.answer)
        async with given.phone.dial(URI, acknowledge=False) as call:
            await call.wait_hung_up()
        assert isinstance(given.legs[0].events.receive_nowait(), AckMissing)
        assert len([response for response in call.responses if response.status == 200]) == 11


async def test_the_same_seed_gives_the_same_names(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    names = []
    for seed in (1, 1, 2):
        async with open_phone("192.0.2.9", seed=seed) as phone:
            names.append(phone.token("call"))
    assert names[0] == names[1] != names[2]


def test_a_response_copies_what_it_must() -> None:
    request = parse_untrusted(
        b"BYE sip:alice@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nVia: SIP/2.0/UDP b\r\n"
        b"From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\nCall-ID: x\r\nCSeq: 7 BYE\r\nContent-Length: 0\r\n\r\n"
    )
    assert isinstance(request, Request)
    assert answer_to(request, "200 OK").decode().split("\r\n")[:7] == [
        "SIP/2.0 200 OK",
        "Via: SIP/2.0/UDP a;branch=z9hG4bK1",
        "Via: SIP/2.0/UDP b",
        "From: <sip:a@b>;tag=1",
        "To: <sip:c@d>;tag=2",
        "Call-ID: x",
        "CSeq: 7 BYE",
    ]


def test_the_media_address_is_that_of_the_description() -> None:
    assert media_address("v=0\r\nc=IN IP4 192.0.2.7\r\nm=audio 4002 RTP/AVP 0\r\n") == ("192.0.2.7", 4002)


# The handset


@asynccontextmanager
async def open_handsets(**settings: Any) -> AsyncIterator[tuple[Handset, Handset]]:
    """Two handsets; the first speaks to the second."""
    VirtualNetwork(delay=DELAY).enable()
    with (
        trio.fail_after(60),
        trio.socket.socket(type=trio.socket.SOCK_DGRAM) as one,
        trio.socket.socket(type=trio.socket.SOCK_DGRAM) as other,
    ):
        await one.bind(("192.0.2.1", 4000))
        await other.bind(("192.0.2.2", 4000))
        speaker, listener = Handset(one, **settings), Handset(other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.listen)
            nursery.start_soon(speaker.speak, ("192.0.2.2", 4000))
            yield speaker, listener
            nursery.cancel_scope.cancel()


async def test_a_handset_sends_silence_until_it_is_told_what_to_say(autojump_clock: MockClock) -> None:
    async with open_handsets() as (speaker, listener):
        await trio.sleep(0.1)
        words = speech(0.05)
        speaker.say(words)
        await speaker.wait_said()
        await trio.sleep(0.1)
        assert listener.speech_heard() == words + silence(0.01)  # filled up to whole packets
        assert listener.heard[0].payload == silence(0.02)
        assert [packet.payload for packet in listener.heard] == [packet.payload for packet in speaker.sent][
            : len(listener.heard)
        ]


async def test_packets_are_numbered_and_timed_as_rtp_asks(autojump_clock: MockClock) -> None:
    async with open_handsets(ptime_ms=30, sequence=65_534, rtp_timestamp=2**32 - 300) as (speaker, listener):
        await trio.sleep(0.15)
    heard = listener.heard
    assert [packet.sequence for packet in heard] == [65_534, 65_535, 0, 1, 2]
    assert [packet.rtp_timestamp for packet in heard] == [2**32 - 300, 2**32 - 60, 180, 420, 660]
    assert [packet.marker for packet in heard] == [True] + [False] * 4
    assert {round(later.at - earlier.at, 9) for earlier, later in pairwise(heard)} == {0.030}
    assert {(packet.ssrc, packet.payload_type, len(packet.payload)) for packet in heard} == {(speaker.ssrc, 0, 240)}


async def test_a_muted_handset_sends_nothing(autojump_clock: MockClock) -> None:
    async with open_handsets() as (speaker, listener):
        speaker.muted = True
        await trio.sleep(0.5)
        assert listener.heard == []


async def test_waiting_for_speech_and_for_silence(autojump_clock: MockClock) -> None:
    async with open_handsets() as (speaker, listener):
        begin = trio.current_time()
        speaker.say(silence(0.2) + speech(0.4))
        assert await listener.wait_speech(0.1) == pytest.approx(begin + 0.2 + DELAY)
        assert trio.current_time() == pytest.approx(begin + 0.3 + DELAY)
        await listener.wait_silence(0.5)
        assert trio.current_time() == pytest.approx(begin + 0.58 + DELAY + 0.5)  # since the last packet of speech


async def test_what_is_no_rtp_is_not_heard(autojump_clock: MockClock) -> None:
    async with open_handsets() as (speaker, listener):
        speaker.muted = True
        for data in (b"", b"\x80" * 11, b"\x00" * 172):
            await speaker.socket.sendto(data, ("192.0.2.2", 4000))
        await trio.sleep(0.1)
        assert listener.heard == []


async def test_the_phone_calls_over_real_sockets() -> None:
    with trio.fail_after(10):
        async with (
            open_phone() as phone,
            open_user_agent(SipSettings(listen=("udp:127.0.0.1:0",))) as agent,
            trio.open_nursery() as nursery,
        ):
            with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as media:
                await media.bind(("127.0.0.1", 0))
                far_end = Handset(media)

                async def answer() -> None:
                    leg = await agent.legs.receive()
                    await leg.answer(media.getsockname()[:2])
                    nursery.start_soon(far_end.listen)
                    nursery.start_soon(far_end.speak, leg.agreement.remote)

                nursery.start_soon(answer)
                host, port = agent.listening[0]
                async with phone.dial(f"sip:1000@{host}:{port}") as call:
                    call.handset.say(speech(0.2))
                    far_end.say(speech(0.2, seed=1))
                    await far_end.wait_speech(0.3)
                nursery.cancel_scope.cancel()
    assert far_end.speech_heard() == speech(0.2)
    assert call.handset.speech_heard() == speech(0.2, seed=1)
