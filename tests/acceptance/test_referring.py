"""Transfers by REFER as the caller's telephone sees them: RFC 3515, RFC 3892, RFC 4488, RFC 5589."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from sip_phone import RTP, user_agent
from trio.testing import MockClock

from aivc.config.settings import SipSettings
from aivc.sip.leg import HungUp, Leg, ReferOutcome
from aivc.sip.useragent import UserAgent, open_user_agent
from aivc.testing import PhoneCall, Transfers, VirtualNetwork, open_phone

URI = "sip:1000@192.0.2.1:5060"
TARGET, BY = "sip:200@192.0.2.77", "sip:1000@192.0.2.1"


@asynccontextmanager
async def open_call(transfers: Transfers | None) -> AsyncIterator[tuple[Leg, PhoneCall, UserAgent]]:
    """A call of a telephone that takes transfers so; None: it refuses them with 405."""
    VirtualNetwork(delay=0.005).enable()
    with trio.fail_after(200):
        async with (
            open_phone("192.0.2.9") as phone,
            open_user_agent(SipSettings(listen=("udp:192.0.2.1:5060",))) as agent,
            trio.open_nursery() as nursery,
        ):
            legs: list[Leg] = []

            async def answer() -> None:
                legs.append(await agent.legs.receive())
                await legs[0].answer(RTP)

            nursery.start_soon(answer)
            async with phone.dial(URI, transfers=transfers) as call:
                await trio.sleep(0.1)
                yield legs[0], call, agent


async def refer(leg: Leg) -> ReferOutcome:
    return await leg.refer(TARGET, BY, 20.0)


async def test_rf_01_a_transfer_is_a_refer_of_the_dialog(autojump_clock: MockClock) -> None:
    """RFC 3515 section 2.4.1: Refer-To, Contact, an increasing CSeq, and nothing else before the 202."""
    async with open_call(Transfers(delay=1.0)) as (leg, call, _), trio.open_nursery() as nursery:
        nursery.start_soon(refer, leg)
        request = (await call.wait_referral()).request
        assert (request.method, request.call_id) == ("REFER", call.call_id)
        assert request.header("Refer-To") == f"<{TARGET}>"
        assert request.header("Contact") == "<sip:192.0.2.1:5060>"
        assert call.answered is not None
        assert request.sender.tag == call.answered.to.tag
        await trio.sleep(0.5)
        assert [one.method for one in call.requests] == ["REFER"]


async def test_rf_02_each_notify_is_answered_and_the_last_one_ends_the_wait(autojump_clock: MockClock) -> None:
    """RFC 3515 section 2.4.4: 100, then 200 with a terminated subscription; the BYE is ours, and comes after it."""
    async with open_call(Transfers(progress=(100, 200), delay=1.0)) as (leg, call, _):
        outcome = await refer(leg)
        assert (outcome.succeeded, outcome.status) == (True, 200)
        await trio.sleep(0.1)
        assert [answer.status for answer in call.referrals[0].answers] == [200, 200]
        assert call.hung_up_at is None
        await leg.hang_up("transferred")
        assert call.hung_up_at is not None


@pytest.mark.parametrize("status", [603, 405, 481])
async def test_rf_03_a_refused_refer_leaves_the_call_as_it_was(status: int, autojump_clock: MockClock) -> None:
    """RFC 3515 section 2.4.2; that the model is told of it is shown with the transfers of whole calls."""
    async with open_call(Transfers(answer=status)) as (leg, call, agent):
        outcome = await refer(leg)
        assert (outcome.accepted, outcome.status) == (False, status)
        assert agent.statistics().legs == 1
        assert (await call.ask("OPTIONS")).status == 200


async def test_rf_04_a_target_that_is_busy_leaves_the_call_as_it_was(autojump_clock: MockClock) -> None:
    """RFC 3515 section 2.4.5: 202, and a NOTIFY that says 486."""
    async with open_call(Transfers(progress=(100, 486))) as (leg, call, agent):
        outcome = await refer(leg)
        assert (outcome.accepted, outcome.succeeded, outcome.status) == (True, False, 486)
        assert agent.statistics().legs == 1
        assert (await call.ask("OPTIONS")).status == 200


async def test_rf_06_a_bye_while_the_refer_is_open_ends_the_call_and_a_late_notify_is_481(
    autojump_clock: MockClock,
) -> None:
    """RFC 3515, RFC 6665 section 4.1.3."""
    async with user_agent() as (agent, phone), trio.open_nursery() as nursery:
        leg = await phone.connect(agent)
        nursery.start_soon(refer, leg)
        await phone.reply(await phone.request(), 202)
        assert (await phone.ask(phone.write("BYE", cseq=3))).status == 200
        assert [event async for event in leg.events] == [HungUp()]
        late = phone.write(
            "NOTIFY", b"SIP/2.0 200 OK\r\n", "Event: refer", "Subscription-State: terminated", cseq=4,
            content_type="message/sipfrag",
        )  # fmt: skip
        assert (await phone.ask(late)).status == 481
        assert agent.statistics().legs == 0


async def test_rf_07_the_subscription_is_always_wanted(autojump_clock: MockClock) -> None:
    """RFC 4488: no Refer-Sub: false, whose support the caller has never claimed."""
    async with open_call(Transfers()) as (leg, call, _):
        await refer(leg)
        assert call.referrals[0].request.headers.get("Refer-Sub") is None


async def test_rf_08_who_transfers_is_said(autojump_clock: MockClock) -> None:
    """RFC 3892: Referred-By, a URI in angle brackets."""
    async with open_call(Transfers()) as (leg, call, _):
        await refer(leg)
        assert call.referrals[0].request.header("Referred-By") == f"<{BY}>"


async def test_rf_09_refer_and_bye_follow_the_route_set(autojump_clock: MockClock) -> None:
    """RFC 3261 section 12.2.1.1; with a real proxy it is shown, too."""
    routes = ["<sip:192.0.2.10;lr>", "<sip:192.0.2.22;lr>"]
    async with user_agent() as (agent, phone), trio.open_nursery() as nursery:
        leg, _ = await phone.call(agent, None, *(f"Record-Route: {route}" for route in routes))
        await phone.ack()
        nursery.start_soon(refer, leg)
        request = await phone.request()
        await phone.reply(request, 603)
        nursery.start_soon(leg.hang_up, "over")
        bye = await phone.request()
        await phone.reply(bye)
        assert [request.headers.items("Route"), bye.headers.items("Route")] == [routes, routes]
