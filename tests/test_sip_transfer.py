"""REFER in a call: what goes out, what comes back, and what every kind of phone may do with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from sip_phone import user_agent
from trio.testing import MockClock

from aivc.config.settings import Address, SipSettings
from aivc.sip.leg import DigitPressed, HungUp, Leg, MediaChanged, ReferOutcome
from aivc.sip.message import Headers
from aivc.sip.useragent import UserAgent, open_user_agent
from aivc.testing import PhoneCall, Transfers, VirtualNetwork, open_phone

MEDIA: Address = ("192.0.2.1", 40_000)
URI = "sip:1000@192.0.2.1:5060"
TARGET, BY = "sip:200@192.0.2.77", "sip:1000@192.0.2.1"
SECONDS = 20.0
BUSY_HERE = Transfers(progress=(100, 486))


@asynccontextmanager
async def open_call(
    transfers: Transfers | None = None, network: VirtualNetwork | None = None, **options: Any
) -> AsyncIterator[tuple[Leg, PhoneCall, UserAgent]]:
    """A call of the test phone that the user agent has answered."""
    (network or VirtualNetwork(delay=0.005)).enable()
    legs: list[Leg] = []
    with trio.fail_after(200):
        async with (
            open_phone("192.0.2.9") as phone,
            open_user_agent(SipSettings(listen=("udp:192.0.2.1:5060",))) as agent,
        ):

            async def answer() -> None:
                legs.append(await agent.legs.receive())
                await legs[0].answer(MEDIA)

            phone.nursery.start_soon(answer)
            async with phone.dial(URI, transfers=transfers, **options) as call:
                await trio.sleep(0.1)
                yield legs[0], call, agent
            assert agent.statistics().failures == 0


async def refer(leg: Leg, seconds: float = SECONDS) -> ReferOutcome:
    return await leg.refer(TARGET, BY, seconds)


@pytest.mark.parametrize(
    ("transfers", "outcome", "after"),
    [
        (Transfers(), ReferOutcome(200, "OK", True), 0.3),
        (Transfers(answer=200, progress=(200,)), ReferOutcome(200, "OK", True), 0.1),
        (Transfers(forget_end=True), ReferOutcome(200, "OK", True), 0.3),
        (Transfers(name_id=False), ReferOutcome(200, "OK", True), 0.3),
        (Transfers(early=1), ReferOutcome(200, "OK", True), 0.3),
        (Transfers(early=3), ReferOutcome(200, "OK", True), 0.3),
        (BUSY_HERE, ReferOutcome(486, "Busy Here", True), 0.2),
        (Transfers(progress=(100,), reason="giveup"), ReferOutcome(None, "the subscription ended: giveup", True), 0.1),
        (Transfers(answer=603), ReferOutcome(603, "Decline"), 0.0),
        (Transfers(answer=481), ReferOutcome(481, "Call/Transaction Does Not Exist"), 0.0),
        (Transfers(answer=603, early=1), ReferOutcome(603, "Decline"), 0.1),
        (None, ReferOutcome(405, "Method Not Allowed"), 0.0),
        (Transfers(answer=408), ReferOutcome(None, "no answer"), 0.0),
        (Transfers(answer=None), ReferOutcome(None, "no answer"), SECONDS),
        (Transfers(progress=()), ReferOutcome(None, "no answer", True), SECONDS),
        (Transfers(progress=(100, 180), forget_end=True), ReferOutcome(None, "no answer", True), SECONDS),
        (Transfers(progress=(), then_bye=True), ReferOutcome(None, "the caller hung up", True), 0.0),
        (
            Transfers(progress=(100,), forget_end=True, then_bye=True),
            ReferOutcome(None, "the caller hung up", True),
            0.1,
        ),
        (Transfers(answer=None, progress=(), then_bye=True), ReferOutcome(None, "the caller hung up"), 0.0),
    ],
    ids=str,
)
async def test_each_way_a_phone_takes_a_transfer_has_its_outcome(
    autojump_clock: MockClock, transfers: Transfers | None, outcome: ReferOutcome, after: float
) -> None:
    async with open_call(transfers) as (leg, call, _):
        start = trio.current_time()
        assert await refer(leg) == outcome
        assert trio.current_time() - start == pytest.approx(after, abs=0.1)
        await trio.sleep(1.0)
        assert [answer.status for referral in call.referrals for answer in referral.answers] in (
            [200] * n for n in range(4)
        )
        hung_up = transfers is not None and transfers.then_bye
        assert ([event async for event in leg.events] if hung_up else [HungUp()]) == [HungUp()]
        if not hung_up:  # the call lives
            assert (await call.info_digit("1")).status == 200
            assert leg.events.receive_nowait() == DigitPressed("1", 160)


async def test_the_refer_is_a_request_of_the_dialog(autojump_clock: MockClock) -> None:
    async with open_call(Transfers()) as (leg, call, _):
        await refer(leg)
        await refer(leg)
        first, second = (referral.request for referral in call.referrals)
        assert first.target == f"sip:alice@192.0.2.9:{call.phone.address[1]}"
        assert call.answered is not None
        assert (first.sender.tag, first.call_id) == (call.answered.to.tag, call.call_id)
        assert first.headers.lines("Refer-To") == [f"<{TARGET}>"]
        assert first.headers.lines("Referred-By") == [f"<{BY}>"]
        assert first.headers.lines("Contact") == ["<sip:192.0.2.1:5060>"]
        assert first.headers.get("Refer-Sub") is None  # RFC 4488: we want to hear of it
        assert second.cseq.number == first.cseq.number + 1
        assert (call.referrals[0].refer_to, call.referrals[0].referred_by) == (TARGET, BY)


async def test_refer_and_bye_follow_the_route_set(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone), trio.open_nursery() as nursery:
        routes = ["<sip:192.0.2.10;lr>", "<sip:192.0.2.22;lr>"]
        leg, _ = await phone.call(agent, None, *(f"Record-Route: {route}" for route in routes))
        await phone.ack()
        nursery.start_soon(refer, leg)
        request = await phone.request()
        assert (request.method, request.headers.lines("Route")) == ("REFER", routes)
        await phone.reply(request, 603)
        nursery.start_soon(leg.hang_up, "over")
        bye = await phone.request()
        assert (bye.method, bye.headers.lines("Route")) == ("BYE", routes)
        assert bye.cseq.number == request.cseq.number + 1
        await phone.reply(bye)


@pytest.mark.parametrize(
    ("transfers", "outcome"),
    [(Transfers(), ReferOutcome(200, "OK", True)), (Transfers(answer=603), ReferOutcome(603, "Decline"))],
    ids=["accepted", "refused"],
)
@pytest.mark.parametrize("seed", range(5))
async def test_over_a_network_that_loses_much_the_outcome_is_the_same(
    autojump_clock: MockClock, seed: int, transfers: Transfers, outcome: ReferOutcome
) -> None:
    network = VirtualNetwork(seed=seed, delay=0.02, jitter=0.05)
    async with open_call(transfers, network) as (leg, call, _):
        network.loss = 0.4
        assert await refer(leg, 100) == outcome
        assert len(call.referrals) == 1
        network.loss = 0.0


async def test_a_second_transfer_waits_for_nobody(autojump_clock: MockClock) -> None:
    async with open_call(Transfers(delay=1.0)) as (leg, call, _), trio.open_nursery() as nursery:
        outcomes: list[ReferOutcome] = []

        async def first() -> None:
            outcomes.append(await refer(leg))

        nursery.start_soon(first)
        await trio.sleep(0.5)
        assert await refer(leg) == ReferOutcome(None, "a transfer is under way")
        await trio.sleep(5)
        assert outcomes == [ReferOutcome(200, "OK", True)]
        assert len(call.referrals) == 1


async def test_a_wait_that_is_given_up_leaves_the_notifys_answered(autojump_clock: MockClock) -> None:
    async with open_call(Transfers(delay=1.0)) as (leg, call, _):
        with trio.move_on_after(0.5):
            await refer(leg)
        await trio.sleep(5)
        assert [answer.status for answer in call.referrals[0].answers] == [200] * 3
        assert await refer(leg) == ReferOutcome(200, "OK", True)  # and another one may begin


@pytest.mark.parametrize(
    "uri", ["", "200", "http://x", "sip:a@b\r\nX: y", "sip:a@b?Replaces=x", "<sip:a@b>", "sip:a%0d%0aX@b"]
)
async def test_a_uri_that_cannot_be_sent_is_an_error_and_nothing_goes_out(autojump_clock: MockClock, uri: str) -> None:
    async with open_call(Transfers()) as (leg, call, _):
        with pytest.raises(ValueError, match=r"URI|telephone number"):
            await leg.refer(uri, BY, SECONDS)
        with pytest.raises(ValueError, match=r"URI|telephone number"):
            await leg.refer(TARGET, uri, SECONDS)
        await trio.sleep(1)
        assert call.referrals == []


async def test_no_call_no_transfer(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg = await phone.connect(agent)
        assert (await phone.ask(phone.write("BYE", cseq=2))).status == 200
        assert await refer(leg) == ReferOutcome(None, "there is no call to transfer")
        assert await phone.hears_nothing(5)


async def test_before_the_ack_has_come_no_refer_goes_out(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone), trio.open_nursery() as nursery:
        leg, _ = await phone.call(agent)
        nursery.start_soon(refer, leg)
        assert await phone.hears_nothing(0.4)
        await phone.ack()
        request = await phone.request()
        assert request.method == "REFER"
        await phone.reply(request, 603)


async def test_without_any_ack_the_wait_for_a_transfer_ends_in_time(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg, _ = await phone.call(agent)
        start = trio.current_time()
        assert await refer(leg, 3.0) == ReferOutcome(None, "no answer")
        assert trio.current_time() - start == pytest.approx(3.0)


async def test_our_bye_while_the_subscription_lives_ends_it(autojump_clock: MockClock) -> None:
    async with open_call(Transfers(delay=1.0)) as (leg, call, agent), trio.open_nursery() as nursery:
        outcomes: list[ReferOutcome] = []

        async def first() -> None:
            outcomes.append(await refer(leg))

        nursery.start_soon(first)
        await trio.sleep(1.5)
        await leg.hang_up("enough")
        await trio.sleep(0.1)
        assert outcomes == [ReferOutcome(None, "the call is over", True)]
        late = await call.ask("NOTIFY", (("Event", "refer"), ("Subscription-State", "terminated")))
        assert late.status == 481
        assert agent.statistics().legs == 0


async def test_a_success_then_our_bye(autojump_clock: MockClock) -> None:
    async with open_call(Transfers()) as (leg, call, _):
        assert (await refer(leg)).succeeded
        await leg.hang_up("transferred")
        assert [request.method for request in call.requests] == ["REFER", "BYE"]


async def test_a_hold_in_the_midst_of_a_transfer_harms_neither(autojump_clock: MockClock) -> None:
    async with open_call(Transfers(delay=1.0)) as (leg, call, _), trio.open_nursery() as nursery:
        outcomes: list[ReferOutcome] = []

        async def first() -> None:
            outcomes.append(await refer(leg))

        nursery.start_soon(first)
        await trio.sleep(0.5)
        assert (await call.hold()).status == 200
        await trio.sleep(5)
        assert (await call.resume()).status == 200
        assert outcomes == [ReferOutcome(200, "OK", True)]
        events = [leg.events.receive_nowait() for _ in range(2)]
        assert [event.agreement.may_send for event in events if isinstance(event, MediaChanged)] == [False, True]


@pytest.mark.parametrize(
    ("event", "state", "status"),
    [("refer", "active", 481), ("talk", "active", 489), (None, "active", 489), ("refer", None, 400)],
)
async def test_a_notify_that_nobody_asked_for_is_refused(
    autojump_clock: MockClock, event: str | None, state: str | None, status: int
) -> None:
    async with open_call() as (_, call, _agent):
        fields = [(name, text) for name, text in (("Event", event), ("Subscription-State", state)) if text is not None]
        answer = await call.ask("NOTIFY", fields, "message/sipfrag", "SIP/2.0 200 OK\r\n")
        assert answer.status == status
        assert answer.headers.get("Allow-Events") == ("refer" if status == 489 else None)


async def test_a_refer_to_us_makes_us_call_nobody(autojump_clock: MockClock) -> None:
    called: list[bytes] = []
    network = VirtualNetwork(
        on_packet=lambda source, to, data: called.append(data) if source[0] == "192.0.2.1" else None
    )
    async with open_call(network=network) as (leg, call, agent):
        answer = await call.ask("REFER", (("Refer-To", "<sip:expensive@192.0.2.66>"),))
        assert answer.status == 603
        await trio.sleep(5)
        assert not [data for data in called if data.startswith(b"INVITE")]
        assert agent.statistics().legs == 1
        assert (await call.info_digit("#", "dtmf")).status == 200
        assert leg.events.receive_nowait() == DigitPressed("#", 100)


async def test_a_transfer_over_real_sockets() -> None:
    with trio.fail_after(10):
        async with (
            open_phone() as phone,
            open_user_agent(SipSettings(listen=("udp:127.0.0.1:0",))) as agent,
            trio.open_nursery() as nursery,
        ):
            host, port = agent.listening[0]
            outcomes: list[ReferOutcome] = []

            async def serve() -> None:
                leg = await agent.legs.receive()
                await leg.answer(("127.0.0.1", 9))
                outcomes.append(await refer(leg))
                await leg.hang_up("transferred")

            nursery.start_soon(serve)
            async with phone.dial(f"sip:1000@{host}:{port}", transfers=Transfers(delay=0.01)) as call:
                await call.wait_hung_up()
            assert outcomes == [ReferOutcome(200, "OK", True)]
            assert call.referrals[0].refer_to == TARGET


async def test_the_invites_header_fields_are_there_to_read(autojump_clock: MockClock) -> None:
    fields = (("X-Account", "42"), ("x-account", "43"), ("Subject", "caf\u00e9"), ("d", "fork"))
    async with open_call(headers=fields) as (leg, call, _):
        assert leg.headers["x-account"] == "42, 43"
        assert leg.headers["subject"] == "caf\u00e9"
        assert leg.headers["request-disposition"] == "fork"
        assert leg.headers["call-id"] == call.call_id
        assert all(name == name.lower() for name in leg.headers)


def test_octets_that_are_no_utf_8_do_not_hide_a_header() -> None:
    assert Headers((("A", "\xff\xe9"),)).joined() == {"a": "\ufffd\ufffd"}
