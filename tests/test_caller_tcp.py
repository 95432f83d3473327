"""The test phone over TCP: framing, connections that are used again, lost and made again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock

from aivc.testing import Phone, VirtualNetwork, open_phone, speech
from aivc.testing.transports import StreamLine, cut_message

URI = "sip:bob@192.0.2.2:5060"


@attrs.define(eq=False)
class Pair:
    network: VirtualNetwork
    alice: Phone
    bob: Phone

    def lines(self) -> tuple[StreamLine, StreamLine]:
        assert isinstance(self.alice.line, StreamLine)
        assert isinstance(self.bob.line, StreamLine)
        return self.alice.line, self.bob.line


@asynccontextmanager
async def open_pair() -> AsyncIterator[Pair]:
    network = VirtualNetwork(delay=0.005).enable()
    with trio.fail_after(300):
        async with (
            open_phone("192.0.2.9", transport="tcp") as alice,
            open_phone("192.0.2.2", 5060, user="bob", transport="tcp") as bob,
        ):
            yield Pair(network, alice, bob)
    assert network.streams == []


async def test_a_call_over_one_connection(autojump_clock: MockClock, any_schedule: int) -> None:
    async with open_pair() as given, given.bob.answering() as calls:
        async with given.alice.dial(URI) as call:
            theirs = await calls.receive()
            await theirs.wait_answered()
            assert "SIP/2.0/TCP" in theirs.invite.header("Via")
            assert ";transport=tcp" in theirs.invite.header("Contact")
            assert (await theirs.hold()).status == 200
            call.handset.say(speech(0.1))
            await theirs.handset.wait_speech(0.1)
            assert [len(line.connections) for line in given.lines()] == [1, 1]
        assert theirs.is_over


async def test_nothing_is_repeated(autojump_clock: MockClock) -> None:
    async with open_pair() as given, given.bob.answering(ring_seconds=10.0) as calls:
        given.network.delay = 2.0
        sent: list[bytes] = []
        given.network.on_packet = lambda source, to, data: sent.append(data.partition(b" ")[0])
        async with given.alice.dial(URI):
            theirs = await calls.receive()
            await theirs.wait_answered()
        assert (sent.count(b"INVITE"), sent.count(b"BYE")) == (1, 1)
        assert sent.count(b"ACK") > 1  # a 2xx is repeated on any transport, RFC 3261 section 13.3.1.4


async def test_a_lost_connection_is_made_again(autojump_clock: MockClock, any_schedule: int) -> None:
    async with open_pair() as given, given.bob.answering() as calls:
        async with given.alice.dial(URI) as call:
            theirs = await calls.receive()
            await theirs.wait_answered()
            assert given.network.cut("192.0.2.2") == 1
            await trio.sleep(0.1)
            assert [len(line.connections) for line in given.lines()] == [0, 0]
            assert (await call.hold()).status == 200
        assert theirs.is_over


async def test_whom_nobody_can_connect_to_is_too_slow(autojump_clock: MockClock) -> None:
    async with open_pair() as given:
        given.network.refuse("192.0.2.2")
        with pytest.raises(trio.TooSlowError):
            async with given.alice.dial(URI):
                pass
        assert given.lines()[0].unsent == 1


async def test_who_was_called_goes_on_over_a_connection_to_the_contact(autojump_clock: MockClock) -> None:
    async with open_pair() as given, given.bob.answering() as calls, given.alice.dial(URI) as call:
        theirs = await calls.receive()
        await theirs.wait_answered()
        given.network.cut("192.0.2.2")
        assert (await theirs.hold()).status == 200
        assert given.alice.address in given.lines()[1].connections
        assert call.remote_direction == "sendonly"


async def test_pings_are_answered(autojump_clock: MockClock) -> None:
    async with open_pair() as given, await trio.open_tcp_stream("192.0.2.2", 5060) as stream:
        await stream.send_all(b"\r\n\r\n")
        assert await stream.receive_some() == b"\r\n"
        assert given.lines()[1].pings == 1


def test_messages_are_cut_wherever_the_octets_are() -> None:
    first = b"OPTIONS sip:a SIP/2.0\r\nContent-Length : 4\r\n\r\nbody"
    second = b"BYE sip:a SIP/2.0\r\nl: 0\r\n\r\n"
    octets = first + b"\r\n" + second + b"\r\n\r\n" + first
    for size in (1, 3, 1000):
        buffer, found = bytearray(), []
        for start in range(0, len(octets), size):
            buffer += octets[start : start + size]
            while (message := cut_message(buffer)) is not None:
                found.append(message)
        assert [message for message in found if message.strip()] == [first, second, first]
        assert buffer == b""


async def test_a_call_over_real_connections() -> None:
    with trio.fail_after(10):
        async with (
            open_phone(transport="tcp") as alice,
            open_phone(user="bob", transport="tcp") as bob,
            bob.answering(ring_seconds=0.0) as calls,
        ):
            async with alice.dial(f"sip:bob@127.0.0.1:{bob.address[1]}") as call:
                theirs = await calls.receive()
                call.handset.say(speech(0.1))
                await theirs.handset.wait_speech(0.2)
            await theirs.wait_over()
    assert theirs.handset.speech_heard() == speech(0.1)
