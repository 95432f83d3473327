"""A user agent that is an extension or trunk of somebody: its calls, its passwords, and to whom it tells them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from sip_phone import PHONE, Phone, another_phone, user_agent
from trio.testing import MockClock

from aivc.config.secret import Secret
from aivc.config.settings import SipRegister, SipSettings, SipUser
from aivc.sip.leg import ConsultationFailed
from aivc.sip.useragent import UserAgent
from aivc.testing.network import VirtualNetwork
from aivc.testing.registrar import Registrar, open_registrar

PBX = "192.0.2.50"
CHALLENGE = 'Proxy-Authenticate: Digest realm="pbx", nonce="abc", algorithm=SHA-256, qop="auth"'
SETTINGS = SipSettings(
    register=(SipRegister(user="200", server=PBX, password=Secret("secret")),),
    users=(SipUser(name="alice", password=Secret("other")),),
    allow=(PHONE[0],),
)


@asynccontextmanager
async def registered() -> AsyncIterator[tuple[UserAgent, Phone, Registrar]]:
    """A user agent that has registered, and the side of its PBX that calls it."""
    network = VirtualNetwork()
    network.enable()
    async with open_registrar(PBX, {"200": "secret"}) as registrar:
        registrar.extra = (("Service-Route", f"<sip:{PBX}:5070;lr>"),)
        async with user_agent(SETTINGS, network) as (agent, _), another_phone(PBX, 5070) as pbx:
            await registrar.wait_registered("200")
            await trio.sleep(0.1)
            yield agent, pbx, registrar
        assert registrar.registered("200") == []  # taken back


async def test_a_call_from_where_we_registered_is_served_unasked(autojump_clock: MockClock) -> None:
    async with registered() as (agent, pbx, _):
        assert [status.state for status in agent.registrations] == ["registered"]
        await pbx.connect(agent)
        assert (await pbx.ask(pbx.write("BYE"))).status == 200


async def test_withdrawing_leaves_the_calls_alone(autojump_clock: MockClock) -> None:
    async with registered() as (agent, pbx, registrar):
        await pbx.connect(agent)
        await agent.withdraw()
        assert registrar.registered("200") == []
        assert (await pbx.ask(pbx.write("BYE"))).status == 200


async def test_our_requests_that_the_server_challenges_are_sent_again_with_the_password(
    autojump_clock: MockClock,
) -> None:
    async with registered() as (agent, pbx, _), trio.open_nursery() as nursery:
        leg = await pbx.connect(agent)
        nursery.start_soon(leg.hang_up, "over")
        first = await pbx.request()
        await pbx.reply(first, 407, CHALLENGE)
        second = await pbx.request()
        assert (second.method, second.cseq.number) == ("BYE", first.cseq.number + 1)
        assert 'username="200"' in second.header("Proxy-Authorization")
        await pbx.reply(second)


async def test_whom_we_do_not_know_gets_no_answer_to_a_challenge(autojump_clock: MockClock) -> None:
    settings = SipSettings(register=SETTINGS.register)
    async with user_agent(settings) as (agent, phone), trio.open_nursery() as nursery:
        leg = await phone.connect(agent)
        nursery.start_soon(leg.hang_up, "over")
        bye = await phone.request()
        assert bye.method == "BYE"
        await phone.reply(bye, 407, CHALLENGE)
        assert await phone.hears_nothing(40)


async def test_we_call_by_the_server_as_who_we_are_there(autojump_clock: MockClock) -> None:
    async with registered() as (agent, pbx, _), trio.open_nursery() as nursery:
        leg = await pbx.connect(agent)
        failures: list[int | None] = []

        async def consult() -> None:
            try:
                await leg.consult("sip:300@pbx.example.com", ("192.0.2.1", 40_002), 10)
            except ConsultationFailed as failure:
                failures.append(failure.status)

        nursery.start_soon(consult)
        invite = await pbx.request()
        assert (invite.target, str(invite.sender.uri)) == ("sip:300@pbx.example.com", f"sip:200@{PBX}")
        assert invite.headers.lines("Route") == [f"<sip:{PBX}:5070;lr>"]
        await pbx.reply(invite, 486, tag="x")
        assert (await pbx.request()).method == "ACK"
        await trio.sleep(0.1)
        assert failures == [486]
