"""The test phone's calls: two phones, or a phone and plain datagrams, in one virtual network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import attrs
import pytest
import trio
from trio.testing import MockClock

from aivc.config.settings import Address, Codec
from aivc.sip.message import Request, parse_untrusted
from aivc.testing import CallRefused, Phone, ReceivedCall, VirtualNetwork, open_phone, silence, speech
from aivc.testing.wording import answer_to, media_address

URI = "sip:bob@192.0.2.2:5060"
DELAY = 0.005


@attrs.define(eq=False)
class Pair:
    """Two phones; Bob has what the tests do with his calls."""

    network: VirtualNetwork
    alice: Phone
    bob: Phone


@asynccontextmanager
async def open_pair(network: VirtualNetwork | None = None) -> AsyncIterator[Pair]:
    network = (network or VirtualNetwork(delay=DELAY)).enable()
    with trio.fail_after(200):
        async with open_phone("192.0.2.9") as alice, open_phone("192.0.2.2", 5060, user="bob") as bob:
            yield Pair(network, alice, bob)
    assert network.bound == {}


async def test_a_call_is_answered_acknowledged_and_hung_up(autojump_clock: MockClock) -> None:
    async with open_pair() as given, given.bob.answering(ring_seconds=1.0) as calls:
        async with given.alice.dial(URI) as call:
            theirs = await calls.receive()
            await theirs.wait_answered()
            assert [response.status for response in call.responses] == [180, 200]
            assert call.answered_at == pytest.approx(1.0 + 2 * DELAY)
            assert call.remote_media == theirs.handset.socket.getsockname()
            assert theirs.invite.header("From").startswith("<sip:alice@192.0.2.9>;tag=")
            call.handset.say(speech(0.2))
            theirs.handset.say(speech(0.2, seed=1))
            await call.handset.wait_speech(0.3)
        assert theirs.hung_up_at is not None
        assert theirs.is_over
        assert theirs.handset.speech_heard() == speech(0.2)
        assert call.handset.speech_heard() == speech(0.2, seed=1)
        assert len(theirs.acknowledgements) == 1
        assert [request.method for request in theirs.requests] == ["BYE"]


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
async def test_the_phone_offers_one_codec_and_answers_with_it(autojump_clock: MockClock, codec: Codec) -> None:
    async with (
        open_pair() as given,
        given.bob.answering() as calls,
        given.alice.dial(URI, codec=codec, ptime_ms=40) as call,
    ):
        assert call.handset.silence == silence(0.04, codec)
        assert (await calls.receive()).handset.codec == codec


async def test_a_refused_call_raises_the_response(autojump_clock: MockClock) -> None:
    async with open_pair() as given:
        refusing = given.bob.answering(status=486, headers=(("Retry-After", "5"),))
        async with refusing as calls:
            with pytest.raises(CallRefused, match="486 Busy Here") as caught:
                async with given.alice.dial(URI):
                    raise AssertionError("it was refused")
            assert caught.value.status == 486
            assert caught.value.response.header("Retry-After") == "5"
            theirs = await calls.receive()
            await trio.sleep(2 * DELAY)
            assert len(theirs.acknowledgements) == 1


async def test_nobody_answers_outside_of_answering(autojump_clock: MockClock) -> None:
    async with open_pair() as given:
        with pytest.raises(CallRefused, match="480"):
            async with given.alice.dial(URI):
                pass


async def test_what_a_test_raises_inside_a_call_stays_as_it_is(autojump_clock: MockClock) -> None:
    async with open_pair() as given:
        with pytest.raises(LookupError, match="of the test"):
            async with given.bob.answering(), given.alice.dial(URI):
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
    async with open_pair() as given, given.bob.answering(ring_seconds=10.0) as calls:
        async with given.alice.ring(URI) as call:
            await call.cancel()
            with pytest.raises(CallRefused, match="487"):
                await call.wait_answer()
        theirs = await calls.receive()
        assert theirs.is_cancelled
        assert call.is_over


async def test_the_other_side_may_hang_up(autojump_clock: MockClock) -> None:
    async with open_pair() as given, given.bob.answering() as calls, given.alice.dial(URI) as call:
        theirs = await calls.receive()
        await theirs.wait_answered()
        at = trio.current_time()
        await theirs.hang_up()
        assert await call.wait_hung_up() == pytest.approx(at + DELAY)
        assert [request.method for request in call.requests] == ["BYE"]


async def test_leaving_the_block_of_the_answering_ends_its_calls(autojump_clock: MockClock) -> None:
    async with open_pair() as given:
        async with given.bob.answering(ring_seconds=0.0):
            talking = given.alice.dial(URI)
            call = await talking.__aenter__()
        await call.wait_hung_up()
        await talking.__aexit__(None, None, None)


async def test_a_phone_can_be_told_never_to_acknowledge(autojump_clock: MockClock) -> None:
    async with open_pair() as given, given.bob.answering() as calls:
        async with given.alice.dial(URI, acknowledge=False) as call:
            await trio.sleep(40)
        assert (await calls.receive()).acknowledgements == []
        assert len([response for response in call.responses if response.status == 200]) == 11


async def test_a_call_survives_a_bad_network(autojump_clock: MockClock) -> None:
    for seed in range(20):
        network = VirtualNetwork(seed=seed, delay=DELAY, jitter=0.05, loss=0.3)
        async with open_pair(network) as given, given.bob.answering() as calls:
            async with given.alice.dial(URI) as call:
                theirs = await calls.receive()
                await theirs.wait_answered()
                assert (await call.hold()).status == 200
                assert theirs.remote_direction == "sendonly"
            network.loss = 0.0
            await theirs.wait_over()


async def test_the_same_seed_gives_the_same_names(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    names = []
    for seed in (1, 1, 2):
        async with open_phone("192.0.2.9", seed=seed) as phone:
            names.append(phone.token("call"))
    assert names[0] == names[1] != names[2]


async def test_names_are_looked_up_when_the_phone_dials(autojump_clock: MockClock) -> None:
    async with open_pair() as given, given.bob.answering():
        given.network.names["bob.test"] = "192.0.2.2"
        async with given.alice.dial("sip:bob@bob.test") as call:
            assert call.remote == ("192.0.2.2", 5060)
        with pytest.raises(ValueError, match="SIP URI"):
            async with given.alice.dial("tel:1"):
                pass


async def test_phones_talk_over_ipv6(autojump_clock: MockClock) -> None:
    VirtualNetwork(delay=DELAY).enable()
    with trio.fail_after(60):
        async with open_phone("2001:db8::9") as alice, open_phone("2001:db8::2", 5060) as bob:
            async with bob.answering() as calls, alice.dial("sip:bob@[2001:db8::2]") as call:
                theirs = await calls.receive()
                call.handset.say(speech(0.1))
                await theirs.handset.wait_speech(0.1)
            assert "IN IP6 2001:db8::9" in theirs.invite.body.decode()
            assert theirs.target == f"sip:alice@[2001:db8::9]:{alice.address[1]}"
            assert theirs.is_over


async def test_a_late_offer_is_answered_in_the_ack(autojump_clock: MockClock) -> None:
    async with open_pair() as given, given.bob.answering() as calls, given.alice.dial(URI, late_offer=True) as call:
        theirs = await calls.receive()
        await theirs.wait_answered()
        assert theirs.invite.body == b""
        assert media_address(theirs.acknowledgements[0].body.decode()) == call.handset.socket.getsockname()
        theirs.handset.say(speech(0.1))
        await call.handset.wait_speech(0.1)


async def test_strangers_are_told_that_there_is_no_such_call(autojump_clock: MockClock) -> None:
    async with open_pair() as given, given.bob.answering() as calls, given.alice.dial(URI) as call:
        await calls.receive()
        call.remote_tag = "another"
        assert (await call.ask("OPTIONS")).status == 481
        call.remote_tag = None
        assert (await call.ask("OPTIONS")).status == 200


async def test_a_call_over_real_sockets() -> None:
    with trio.fail_after(10):
        async with open_phone() as alice, open_phone(user="bob") as bob, bob.answering(ring_seconds=0.0) as calls:
            async with alice.dial(f"sip:bob@127.0.0.1:{bob.address[1]}") as call:
                theirs: ReceivedCall = await calls.receive()
                call.handset.say(speech(0.1))
                await theirs.handset.wait_speech(0.2)
            await theirs.wait_over()
    assert theirs.handset.speech_heard() == speech(0.1)


# Texts


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
