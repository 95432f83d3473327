"""SIP on connections, and what slow, broken and crowding peers do there: RFC 3261 section 18, RFC 5626."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from sip_phone import RTP, Phone, sdp
from sip_telephone import Telephone
from transport_world import SERVER, dial
from trio.testing import MockClock

from aivc.config.settings import SipSettings
from aivc.sip.useragent import UserAgent, open_user_agent
from aivc.testing.network import VirtualNetwork

PATIENCE = 10.0  # sip.message_seconds


async def connected() -> Telephone:
    stream = await dial()
    phone = Telephone(stream.socket)
    phone.take(stream)
    return phone


@asynccontextmanager
async def listening() -> AsyncIterator[UserAgent]:
    VirtualNetwork(host=SERVER[0]).enable()
    settings = SipSettings(
        listen=("udp:192.0.2.1:5060", "tcp:192.0.2.1:5060"), message_seconds=PATIENCE, max_connections=5000
    )
    with trio.fail_after(200):
        async with open_user_agent(settings, randomness=random.Random(7)) as agent:
            yield agent
            assert agent.statistics().failures == agent.statistics().broken == 0


async def check_alive() -> None:
    """An ordinary request on a connection of its own is answered at once."""
    phone = await connected()
    async with phone.stream:
        phone.call_id = f"alive-{trio.current_time()}"
        with trio.fail_after(1):
            assert (await phone.ask(phone.write("OPTIONS"))).status == 200


async def is_closed_within(stream: trio.SocketStream, seconds: float) -> bool:
    with trio.move_on_after(seconds):
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass
        return True
    return False


async def test_tcp_01_a_whole_call_goes_over_one_connection(autojump_clock: MockClock) -> None:
    """RFC 3261 section 18.2.2: every answer, and our BYE, come on the connection of the INVITE."""
    async with listening() as agent:
        phone = await connected()
        phone.contact = "<sip:alice@192.0.2.10:5060;transport=tcp>"
        async with phone.stream, trio.open_nursery() as nursery:
            leg, answer = await phone.call(agent)
            assert answer.header("Contact") == "<sip:192.0.2.1:5060;transport=tcp>"
            await phone.ack()
            nursery.start_soon(leg.hang_up, "over")
            bye = await phone.request()
            assert (bye.method, bye.via.transport) == ("BYE", "TCP")
            await phone.reply(bye)
        assert (agent.statistics().accepted, agent.statistics().connected) == (1, 0)


async def test_tcp_03_a_request_may_come_octet_by_octet(autojump_clock: MockClock) -> None:
    """RFC 3261 section 18.3."""
    async with listening() as agent:
        phone = await connected()
        async with phone.stream:
            for octet in phone.write("INVITE", sdp()).replace(b"/UDP", b"/TCP"):
                await phone.stream.send_all(bytes([octet]))
                await trio.sleep(0.001)
            leg = await agent.legs.receive()
            await leg.answer(RTP)
            assert [(await phone.response()).status for _ in range(2)] == [100, 200]
            await phone.ack()


@pytest.mark.parametrize("length", ["-1", "many", "0x10", "", "1 2"])
async def test_tcp_05_a_content_length_that_is_no_number_is_400_and_the_end_of_the_connection(
    length: str, autojump_clock: MockClock
) -> None:
    """RFC 4475 section 3.1.2.3."""
    async with listening():
        phone = await connected()
        async with phone.stream:
            request = phone.write("OPTIONS").replace(b"Content-Length: 0", f"Content-Length: {length}".encode())
            assert (await phone.ask(request)).status == 400
            assert await is_closed_within(phone.stream, 1)
        await check_alive()


async def test_tcp_06_a_ping_gets_its_pong_and_does_no_harm(autojump_clock: MockClock) -> None:
    """RFC 5626 section 4.4.1: CRLF for CRLF CRLF."""
    async with listening():
        phone = await connected()
        async with phone.stream:
            await phone.stream.send_all(b"\r\n\r\n")
            with trio.fail_after(1):
                assert await phone.stream.receive_some() == b"\r\n"
            assert (await phone.ask(phone.write("OPTIONS"))).status == 200


async def test_tcp_07_a_hundred_peers_that_never_end_their_headers_hold_up_nobody(autojump_clock: MockClock) -> None:
    """One or another from each of a hundred hosts."""
    async with listening():
        streams = [await dial((f"198.51.100.{number}", 5060)) for number in range(1, 101)]
        for stream in streams:
            await stream.send_all(b"OPTIONS sip:x@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/TCP ")
        await check_alive()
        for stream in streams:
            await stream.aclose()


@pytest.mark.parametrize("trickles", [False, True])
async def test_tcp_08_headers_without_an_end_close_the_connection(trickles: bool, autojump_clock: MockClock) -> None:
    """Also when something comes all the time."""
    async with listening() as agent:
        stream = await dial()
        start = trio.current_time()
        async with stream, trio.open_nursery() as nursery:
            await stream.send_all(b"OPTIONS sip:x@192.0.2.1 SIP/2.0\r\nX: ")

            async def trickle() -> None:
                while trickles:
                    with suppress(trio.BrokenResourceError):
                        await stream.send_all(b"x")
                    await trio.sleep(1.0)

            nursery.start_soon(trickle)
            assert await is_closed_within(stream, 40)
            assert trio.current_time() - start <= PATIENCE + 1
            nursery.cancel_scope.cancel()
        assert agent.statistics().slow == 1


async def test_tcp_10_connections_that_come_and_go_leave_nothing(autojump_clock: MockClock) -> None:
    """Three hundred at once, some in the middle of an INVITE."""
    async with listening() as agent:
        tasks = trio.lowlevel.current_statistics().tasks_living

        async def come_and_go(number: int) -> None:
            stream = await dial((f"198.51.100.{number % 250 + 1}", 0))
            phone = Phone(stream.socket, call_id=f"gone-{number}")
            await stream.send_all(phone.write("INVITE", sdp())[: number * 2])
            await stream.aclose()

        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(come_and_go, number)
        await check_alive()
        await trio.sleep(PATIENCE + 2)
        counted = agent.statistics()
        assert counted.accepted == counted.closed == 301
        assert trio.lowlevel.current_statistics().tasks_living == tasks
