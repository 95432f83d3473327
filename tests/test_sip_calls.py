"""Whole calls under a fake clock: answer, ACK, CANCEL, BYE, and what happens when they are lost."""

from __future__ import annotations

import pytest
import trio
from sip_phone import PHONE, RTP, SERVER, sdp, user_agent
from trio.testing import MockClock

from aivc.config.settings import Address, SipSettings
from aivc.sip.leg import AckMissing, AudioAgreement, Cancelled, HungUp, Leg
from aivc.sip.message import Request, Response, parse_untrusted
from aivc.sip.useragent import UserAgent
from aivc.testing.network import VirtualNetwork

BACKED_OFF = [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
AGREED = AudioAgreement("PCMU", 0, ("192.0.2.10", 49170), 101)
TARGET = "sip:192.0.2.1:5060"


async def until_nothing_is_left(agent: UserAgent) -> None:
    await trio.sleep(70)
    left = agent.statistics()
    assert (left.legs, left.server_transactions, left.client_transactions) == (0, 0, 0)


async def test_a_call_is_offered_answered_acknowledged_and_hung_up(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg, answer = await phone.call(agent)
        assert (leg.call_id, leg.caller, leg.dialled) == (phone.call_id, "sip:alice@192.0.2.10", "100")
        assert (leg.source, leg.agreement) == (PHONE, AGREED)
        assert answer.header("Contact") == "<sip:192.0.2.1:5060>"
        assert answer.headers.get("Supported") == "100rel, replaces, timer"
        assert answer.header("Content-Type") == "application/sdp"
        assert b"m=audio 40000 RTP/AVP 0 101\r\n" in answer.body
        await phone.ack()
        assert await phone.hears_nothing(40)
        bye = phone.write("BYE", cseq=2)
        assert (await phone.ask(bye)).status == 200
        assert [event async for event in leg.events] == [HungUp()]
        assert (await phone.ask(bye)).status == 200
        assert (await phone.ask(phone.write("BYE", cseq=3))).status == 481
        await until_nothing_is_left(agent)


async def test_ringing_and_answer_share_one_to_tag_and_the_record_route(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        routes = ["<sip:192.0.2.20;lr>, <sip:192.0.2.21;lr>", "<sip:192.0.2.22;lr>"]
        await phone.send(phone.write("INVITE", sdp(), *(f"Record-Route: {route}" for route in routes)))
        leg = await agent.legs.receive()
        await leg.ring()
        await leg.answer(RTP)
        trying, ringing, answer = [await phone.response() for _ in range(3)]
        assert [trying.status, ringing.status, answer.status] == [100, 180, 200]
        assert trying.to.tag is None
        assert ringing.to.tag == answer.to.tag is not None
        assert ringing.headers.lines("Record-Route") == answer.headers.lines("Record-Route") == routes


async def test_a_retransmitted_invite_is_answered_by_the_transaction_and_makes_no_second_leg(
    autojump_clock: MockClock,
) -> None:
    async with user_agent() as (agent, phone):
        invite = phone.write("INVITE", sdp())
        await phone.send(invite)
        leg = await agent.legs.receive()
        await phone.send(invite)
        assert [(await phone.response()).status for _ in range(2)] == [100, 100]
        await leg.ring()
        assert (await phone.response()).status == 180
        await phone.send(invite)
        assert (await phone.response()).status == 180
        assert agent.statistics().legs == 1


async def test_an_unacknowledged_2xx_is_resent_until_the_ack_comes(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        _, answer = await phone.call(agent)
        start = trio.current_time()
        for due in BACKED_OFF[:4]:
            assert bytes(await phone.response()) == bytes(answer)
            assert trio.current_time() - start == pytest.approx(due)
        await phone.ack()
        assert await phone.hears_nothing(40)


async def test_without_any_ack_the_call_ends_with_bye_after_64_t1(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg, _ = await phone.call(agent)
        start, resent = trio.current_time(), list[float]()
        while isinstance(message := await phone.receive(), Response):
            resent.append(trio.current_time() - start)
        assert resent == pytest.approx(BACKED_OFF)
        assert trio.current_time() - start == pytest.approx(32)
        assert (message.method, message.target) == ("BYE", "sip:alice@192.0.2.10:5060")
        assert [event async for event in leg.events] == [AckMissing(TARGET)]
        start = trio.current_time()
        copies = []
        for _ in BACKED_OFF:
            assert bytes(await phone.request()) == bytes(message)
            copies.append(trio.current_time() - start)
        assert copies == pytest.approx(BACKED_OFF)
        assert await phone.hears_nothing(10)
        await until_nothing_is_left(agent)


async def test_a_cancel_while_ringing_is_200_and_487(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        await phone.send(phone.write("INVITE", sdp()))
        leg = await agent.legs.receive()
        await leg.ring()
        assert [(await phone.response()).status for _ in range(2)] == [100, 180]
        await phone.send(phone.write("CANCEL", branch="z9hG4bK-1"))
        answers = [await phone.response() for _ in range(2)]
        assert [(answer.status, answer.cseq.method) for answer in answers] == [(200, "CANCEL"), (487, "INVITE")]
        assert answers[0].to.tag == answers[1].to.tag
        await phone.send(phone.write("ACK", branch="z9hG4bK-1"))
        assert [event async for event in leg.events] == [Cancelled()]
        await leg.answer(RTP)
        assert await phone.hears_nothing(10)
        await until_nothing_is_left(agent)


async def test_a_cancel_after_the_answer_is_200_and_without_effect(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg, _ = await phone.call(agent)
        await phone.ack()
        phone.to_tag, tag = None, phone.to_tag
        answer = await phone.ask(phone.write("CANCEL", branch="z9hG4bK-1"))
        assert (answer.status, answer.to.tag) == (200, tag)
        phone.to_tag = tag
        assert (await phone.ask(phone.write("OPTIONS", cseq=2))).status == 200
        with pytest.raises(trio.WouldBlock):
            leg.events.receive_nowait()


async def test_a_bye_before_the_answer_ends_the_early_dialog(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        await phone.send(phone.write("INVITE", sdp()))
        leg = await agent.legs.receive()
        await leg.ring()
        _, ringing = await phone.response(), await phone.response()
        phone.to_tag = ringing.to.tag
        await phone.send(phone.write("BYE", cseq=2))
        assert [(await phone.response()).status for _ in range(2)] == [200, 487]
        assert [event async for event in leg.events] == [Cancelled()]


async def hang_up(leg: Leg, finished: list[float]) -> None:
    await leg.hang_up('goal "reached"')
    finished.append(trio.current_time())


@pytest.mark.parametrize("status", [200, 481, 408])
async def test_hanging_up_sends_bye_and_returns_with_any_answer(status: int, autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone), trio.open_nursery() as nursery:
        leg = await phone.connect(agent)
        finished: list[float] = []
        start = trio.current_time()
        nursery.start_soon(hang_up, leg, finished)
        bye = await phone.request()
        assert bye.header("Reason") == 'SIP;cause=200;text="goal \\"reached\\""'
        assert bye.header("From") == f"<sip:100@192.0.2.1>;tag={phone.to_tag}"
        assert bye.header("To") == "<sip:alice@192.0.2.10>;tag=phone"
        assert (str(bye.cseq), bye.header("Max-Forwards")) == ("1 BYE", "70")
        assert bytes(await phone.request()) == bytes(bye)  # timer E
        await phone.reply(bye, status)
        assert await phone.hears_nothing(1)
        assert finished == [pytest.approx(start + 0.5)]
        assert [event async for event in leg.events] == []
        await leg.hang_up("again")
        await until_nothing_is_left(agent)


async def test_hanging_up_waits_no_longer_than_it_may(autojump_clock: MockClock) -> None:
    async with user_agent(SipSettings(hang_up_seconds=3)) as (agent, phone):
        leg = await phone.connect(agent)
        start = trio.current_time()
        await leg.hang_up("bye")
        assert trio.current_time() - start == pytest.approx(3)
        assert agent.statistics().legs == 0
        await until_nothing_is_left(agent)


async def test_a_hang_up_without_an_ack_returns_in_time_and_the_bye_follows_when_the_ack_is_given_up(
    autojump_clock: MockClock,
) -> None:
    """RFC 3261 section 15: not before the ACK has come, or the transaction has timed out."""
    async with user_agent(SipSettings(hang_up_seconds=2)) as (agent, phone):
        leg, _ = await phone.call(agent)
        start = trio.current_time()
        await leg.hang_up("bye")
        assert trio.current_time() - start == pytest.approx(2)
        assert [event async for event in leg.events] == []
        while isinstance(message := await phone.receive(), Response):
            assert message.status == 200
        assert message.method == "BYE"
        assert trio.current_time() - start == pytest.approx(32)
        await phone.reply(message)
        assert agent.statistics().legs == 0
        assert await phone.hears_nothing(40)
        assert agent.statistics().client_transactions == 0


async def test_the_bye_that_waited_for_the_ack_is_sent_with_its_reason_when_that_comes(
    autojump_clock: MockClock,
) -> None:
    async with user_agent(SipSettings(hang_up_seconds=2)) as (agent, phone):
        leg, _ = await phone.call(agent)
        await leg.hang_up("enough", (("X-Why", "because"),))
        while not await phone.hears_nothing(0.2):  # what was resent
            pass
        await phone.ack()
        bye = await phone.request()
        assert (bye.method, bye.header("X-Why")) == ("BYE", "because")
        assert "enough" in bye.header("Reason")
        await phone.reply(bye)
        assert agent.statistics().legs == 0


async def test_a_caller_who_hangs_up_first_gets_no_bye_of_ours_any_more(autojump_clock: MockClock) -> None:
    async with user_agent(SipSettings(hang_up_seconds=2)) as (agent, phone):
        leg, _ = await phone.call(agent)
        await leg.hang_up("enough")
        await phone.send(phone.write("BYE", cseq=2, branch="z9hG4bKbye"))
        while (await phone.response()).cseq.method != "BYE":
            pass
        assert agent.statistics().legs == 0
        assert await phone.hears_nothing(60)


async def test_a_user_agent_that_ends_does_not_wait_for_the_ack(autojump_clock: MockClock) -> None:
    sent: list[bytes] = []
    network = VirtualNetwork(on_packet=lambda source, to, data: sent.append(data[:3]))
    async with user_agent(network=network) as (agent, phone):
        leg, _ = await phone.call(agent)
        with trio.move_on_after(0.1):
            await leg.hang_up("the service stops")
        assert b"BYE" not in sent
    assert sent[-1] == b"BYE"


async def test_hanging_up_before_the_ack_goes_on_as_soon_as_it_comes(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone), trio.open_nursery() as nursery:
        leg, _ = await phone.call(agent)
        start = trio.current_time()
        nursery.start_soon(leg.hang_up, "bye")
        await trio.sleep(0.1)
        await phone.ack()
        await phone.reply(await phone.request())
        assert trio.current_time() - start < 0.2


async def test_a_cancelled_hang_up_still_sends_its_bye_after_the_ack_and_forgets_the_leg(
    autojump_clock: MockClock,
) -> None:
    async with user_agent() as (agent, phone):
        leg, _ = await phone.call(agent)
        with trio.move_on_after(0.1):
            await leg.hang_up("drained")
        assert await phone.hears_nothing(0.1)
        await phone.ack()
        assert (await phone.request()).method == "BYE"
        assert agent.statistics().legs == 0


async def test_two_byes_that_cross_are_both_answered(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone), trio.open_nursery() as nursery:
        leg = await phone.connect(agent)
        nursery.start_soon(leg.hang_up, "bye")
        ours = await phone.request()
        assert (await phone.ask(phone.write("BYE", cseq=2))).status == 200
        await phone.reply(ours)


async def test_our_bye_follows_the_route_set(autojump_clock: MockClock) -> None:
    seen: list[tuple[Address, bytes]] = []

    def watch(source: Address, to: Address, data: bytes) -> None:
        if source == SERVER:
            seen.append((to, data))

    async with user_agent(network=VirtualNetwork(on_packet=watch)) as (agent, phone):
        leg, _ = await phone.call(agent, None, "Record-Route: <sip:192.0.2.20:5070;lr>, <sip:p2.example.com;lr>")
        await phone.ack()
        with trio.move_on_after(0.1):
            await leg.hang_up("bye")
        to, data = seen[-1]
        bye = parse_untrusted(data)
        assert isinstance(bye, Request)
        assert to == ("192.0.2.20", 5070)
        assert bye.headers.lines("Route") == ["<sip:192.0.2.20:5070;lr>", "<sip:p2.example.com;lr>"]
        assert bye.target == "sip:alice@192.0.2.10:5060"


async def test_a_contact_by_name_is_reached_where_the_invite_came_from(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone), trio.open_nursery() as nursery:
        phone.contact = "<sip:alice@phone.example.com>"
        leg = await phone.connect(agent)
        nursery.start_soon(leg.hang_up, "bye")
        bye = await phone.request()
        assert bye.target == "sip:alice@phone.example.com"
        await phone.reply(bye)


async def test_two_hundred_calls_without_ack_are_each_answered_and_options_too(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone), trio.open_nursery() as nursery:

        async def service() -> None:
            async for leg in agent.legs:
                await leg.answer(RTP)

        nursery.start_soon(service)
        answered = set()
        for number in range(200):
            phone.call_id = f"flood-{number}"
            await phone.send(phone.write("INVITE", sdp()))
            await trio.sleep(0.001)
        with trio.move_on_after(0.1):
            while True:
                message = await phone.response()
                answered.add((message.call_id, message.status))
        assert len([call for call, status in answered if status == 200]) == 200
        phone.call_id = "ping"
        await phone.send(phone.write("OPTIONS"))
        while (await phone.response()).call_id != "ping":
            pass
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(10))
async def test_a_call_over_a_lossy_network_is_set_up_and_ended_once(seed: int, autojump_clock: MockClock) -> None:
    network = VirtualNetwork(seed=seed, delay=0.03, jitter=0.2, loss=0.3)
    async with user_agent(network=network) as (agent, phone), trio.open_nursery() as nursery:

        async def dial() -> None:
            invite = phone.write("INVITE", sdp())
            while phone.to_tag is None:
                await phone.send(invite)
                with trio.move_on_after(0.5):
                    while (answer := await phone.response(60)).status != 200:
                        pass
                    phone.to_tag = answer.to.tag
            while True:
                message = await phone.receive(100)
                if isinstance(message, Response):
                    await phone.send(phone.write("ACK"))
                else:
                    await phone.reply(message)

        nursery.start_soon(dial)
        leg = await agent.legs.receive()
        await leg.answer(RTP)
        await trio.sleep(20)
        await leg.hang_up("done")
        await until_nothing_is_left(agent)
        with pytest.raises(trio.WouldBlock):
            agent.legs.receive_nowait()
        nursery.cancel_scope.cancel()


async def test_leaving_the_block_ends_legs_and_channels_and_frees_the_port(autojump_clock: MockClock) -> None:
    network = VirtualNetwork()
    async with user_agent(network=network) as (agent, phone):
        leg = await phone.connect(agent)
    assert [event async for event in leg.events] == []
    assert [leg async for leg in agent.legs] == []
    assert SERVER not in network.bound


async def test_what_was_said_last_is_still_sent_when_the_block_ends(autojump_clock: MockClock) -> None:
    seen: list[bytes] = []
    network = VirtualNetwork(on_packet=lambda source, to, data: seen.append(data))
    async with user_agent(network=network) as (agent, phone):
        leg = await phone.connect(agent)
        with trio.CancelScope() as scope:
            scope.cancel()
            await leg.hang_up("stopping")
    assert seen[-1].startswith(b"BYE ")


@pytest.mark.parametrize(("trusted", "told"), [((), None), (("192.0.2.0/24",), "<sip:boss@trunk>")])
async def test_an_identity_that_nobody_trusted_asserts_reaches_nobody(
    trusted: tuple[str, ...], told: str | None, autojump_clock: MockClock
) -> None:
    """RFC 3325 section 8: it MUST NOT be used in any way; tools, records and templates read `headers`."""
    async with user_agent(SipSettings(trusted=trusted)) as (agent, phone):
        leg, _ = await phone.call(agent, None, "P-Asserted-Identity: <sip:boss@trunk>")
        assert leg.headers.get("p-asserted-identity") == told


async def test_a_reason_of_any_length_fits_into_a_datagram(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone), trio.open_nursery() as nursery:
        leg = await phone.connect(agent)
        nursery.start_soon(leg.hang_up, "x" * 70_000)
        bye = await phone.request()
        assert 150 < len(bye.header("Reason")) < 300
        await phone.reply(bye)
