"""Which way requests of ours go when the peer has moved, or names another port of its host."""

from __future__ import annotations

import random

import trio
from sip_phone import RTP, another_phone, sdp, user_agent
from sip_telephone import Telephone
from trio.testing import MockClock

from aivc.config.settings import SipSettings
from aivc.sip.leg import Leg
from aivc.sip.message import Response
from aivc.sip.useragent import UserAgent, open_user_agent
from aivc.testing.network import VirtualNetwork

SERVER = ("192.0.2.1", 5060)


async def test_a_port_in_the_uri_of_a_consultation_is_called_though_the_host_is_the_callers(
    autojump_clock: MockClock,
) -> None:
    """RFC 3261 section 19.1.2 and RFC 3263 section 4.2: an explicit port is the port."""
    async with user_agent() as (agent, phone), another_phone(phone.host, 5070) as other:
        leg = await phone.connect(agent)
        async with trio.open_nursery() as nursery:

            async def consult() -> None:
                await leg.consult(f"sip:bob@{phone.host}:5070", ("192.0.2.1", 40_002), 20)

            nursery.start_soon(consult)
            try:
                invite = await other.request(3)
                assert invite.method == "INVITE"
            finally:
                nursery.cancel_scope.cancel()


async def test_a_phone_that_moved_behind_another_nat_is_hung_up_where_it_is_now(autojump_clock: MockClock) -> None:
    """A re-INVITE from the new place was answered there (RFC 3581); so is our BYE to go."""
    async with user_agent() as (agent, phone), another_phone("203.0.113.5", 31_000) as moved:
        phone.contact = "<sip:alice@10.0.0.2:5060>"
        await phone.send(phone.write("INVITE", sdp(), via="10.0.0.2:5060"))
        leg = await agent.legs.receive()
        await leg.answer(RTP)
        await phone.response()
        answer = await phone.response()
        phone.to_tag = answer.to.tag
        await phone.send(phone.write("ACK", via="10.0.0.2:5060"))
        moved.call_id, moved.tag, moved.to_tag, moved.host = phone.call_id, phone.tag, phone.to_tag, phone.host
        moved.contact = "<sip:alice@192.168.7.7:5060>"
        data = moved.write("INVITE", sdp(version=2), cseq=2, via="192.168.7.7:5060", branch="z9hG4bKmoved")
        assert (await moved.ask(data)).status == 200
        await moved.send(moved.write("ACK", cseq=2, via="192.168.7.7:5060", branch="z9hG4bKmovedack"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leg.hang_up, "over")
            bye = await moved.request()
            assert bye.method == "BYE"
            await moved.reply(bye)


async def tcp_call(agent: UserAgent, *extra: str) -> tuple[Leg, Telephone, Response]:
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as unused:
        phone = Telephone(unused, contact="<sip:alice@10.0.0.2:40000;transport=tcp>", host="10.0.0.2")
    phone.take(await trio.open_tcp_stream(*SERVER))
    await phone.send(phone.write("INVITE", sdp(), *extra))
    leg = await agent.legs.receive()
    await leg.answer(RTP)
    while (answer := await phone.response()).status == 100:
        pass
    phone.to_tag = answer.to.tag
    await phone.ack()
    return leg, phone, answer


async def test_a_call_over_a_quiet_connection_lives_longer_than_idle_seconds(autojump_clock: MockClock) -> None:
    """With the defaults: `sip.idle_seconds` 600 closes what the refresh after 900 s (RFC 4028) needs."""
    VirtualNetwork(host=SERVER[0]).enable()
    with trio.fail_after(5000):
        async with open_user_agent(SipSettings(listen=("tcp:192.0.2.1:5060",)), randomness=random.Random(7)) as agent:
            _leg, phone, answer = await tcp_call(agent, "Supported: timer", "Allow: INVITE, ACK, BYE, UPDATE")
            assert answer.header("Session-Expires") == "1800;refresher=uas"
            refresh = await phone.request(1000)
            assert refresh.method == "UPDATE"
            await phone.reply(refresh, 200, "Session-Expires: 1800;refresher=uac", "Require: timer")
            await trio.sleep(1)
            assert agent.statistics().legs == 1


async def test_a_phone_that_connects_anew_is_hung_up_over_the_new_connection(autojump_clock: MockClock) -> None:
    VirtualNetwork(host=SERVER[0]).enable()
    with trio.fail_after(500):
        async with open_user_agent(SipSettings(listen=("tcp:192.0.2.1:5060",)), randomness=random.Random(7)) as agent:
            leg, phone, _ = await tcp_call(agent)
            await phone.stream.aclose()
            await trio.sleep(1)
            phone.take(await trio.open_tcp_stream(*SERVER))
            data = phone.write("INVITE", sdp(version=2), cseq=2)
            assert (await phone.ask(data)).status == 200
            await phone.send(phone.write("ACK", cseq=2))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(leg.hang_up, "over")
                bye = await phone.request()
                assert bye.method == "BYE"
                await phone.reply(bye)
