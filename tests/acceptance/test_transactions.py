"""Whole transactions and their timers: RFC 3261 sections 9, 13, 14 and 17."""

from __future__ import annotations

import pytest
import trio
from sip_phone import RTP, sdp, user_agent
from trio.testing import MockClock

from aivc.sip.leg import AckMissing, Cancelled
from aivc.sip.message import Response, answer_to, parse_untrusted


async def test_tx_03_an_invite_is_answered_at_once_and_its_2xx_is_whole(autojump_clock: MockClock) -> None:
    """RFC 3261 sections 17.2.1 and 13.3.1: 100 within 200 ms, the 2xx with To tag, Contact and SDP."""
    async with user_agent() as (agent, phone):
        start = trio.current_time()
        await phone.send(phone.write("INVITE", sdp()))
        assert (await phone.response()).status == 100
        assert trio.current_time() - start <= 0.2
        await (await agent.legs.receive()).answer(RTP)
        answer = await phone.response()
        assert answer.status == 200
        assert answer.to.tag
        assert answer.header("Contact") == "<sip:192.0.2.1:5060>"
        assert answer.header("Content-Type") == "application/sdp"
        assert b"m=audio 40000 RTP/AVP" in answer.body


async def test_tx_04_a_retransmitted_invite_makes_no_second_dialog(autojump_clock: MockClock) -> None:
    """RFC 3261 section 17.2.1."""
    async with user_agent() as (agent, phone):
        invite = phone.write("INVITE", sdp())
        await phone.send(invite)
        leg = await agent.legs.receive()
        await leg.ring()
        assert [(await phone.response()).status for _ in range(2)] == [100, 180]
        await phone.send(invite)
        again = await phone.response()
        await leg.answer(RTP)
        assert (again.status, again.to.tag) == (180, (await phone.response()).to.tag)
        assert agent.statistics().legs == 1


async def test_tx_05_the_2xx_is_resent_with_growing_pauses_until_the_ack(autojump_clock: MockClock) -> None:
    """RFC 3261 section 13.3.1.4: T1, 2*T1, ... up to T2; then silence."""
    async with user_agent() as (agent, phone):
        _, answer = await phone.call(agent)
        before, pauses = trio.current_time(), list[float]()
        for _ in range(6):
            assert bytes(await phone.response()) == bytes(answer)
            pauses.append(trio.current_time() - before)
            before = trio.current_time()
        assert pauses == pytest.approx([0.5, 1, 2, 4, 4, 4])
        await phone.ack()
        assert await phone.hears_nothing(60)


async def test_tx_06_without_any_ack_the_call_ends_with_a_bye(autojump_clock: MockClock) -> None:
    """RFC 3261 section 13.3.1.4: after 64*T1, which is 32 s."""
    async with user_agent() as (agent, phone):
        leg, _ = await phone.call(agent)
        start = trio.current_time()
        while isinstance(message := await phone.receive(), Response):
            assert message.status == 200
        assert message.method == "BYE"
        assert trio.current_time() - start == pytest.approx(32)
        await phone.reply(message)
        assert isinstance([event async for event in leg.events][-1], AckMissing)


async def test_tx_09_a_cancel_while_ringing_ends_the_invite_and_one_after_the_answer_ends_nothing(
    autojump_clock: MockClock,
) -> None:
    """RFC 3261 section 9.2."""
    async with user_agent() as (agent, phone):
        await phone.send(phone.write("INVITE", sdp(), branch="z9hG4bK-one"))
        leg = await agent.legs.receive()
        await leg.ring()
        assert [(await phone.response()).status for _ in range(2)] == [100, 180]
        await phone.send(phone.write("CANCEL", branch="z9hG4bK-one"))
        answers = [await phone.response() for _ in range(2)]
        assert {answer.cseq.method: answer.status for answer in answers} == {"CANCEL": 200, "INVITE": 487}
        await phone.send(phone.write("ACK", branch="z9hG4bK-one"))
        assert [event async for event in leg.events] == [Cancelled()]

        phone.call_id = "second@192.0.2.10"
        await phone.send(phone.write("INVITE", sdp(), branch="z9hG4bK-two"))
        second = await agent.legs.receive()
        await second.answer(RTP)
        assert [(await phone.response()).status for _ in range(2)] == [100, 200]
        assert (await phone.ask(phone.write("CANCEL", branch="z9hG4bK-two"))).status == 200
        assert agent.statistics().legs == 1
        with pytest.raises(trio.WouldBlock):
            second.events.receive_nowait()


async def test_tx_30_a_second_invite_before_the_ack_of_the_first_is_refused(autojump_clock: MockClock) -> None:
    """RFC 3261 section 14.2: 500 with Retry-After; the first is unharmed."""
    async with user_agent() as (agent, phone):
        leg = await phone.connect(agent)
        first = phone.write("INVITE", sdp(version=2), cseq=2)
        assert (await phone.ask(first)).status == 200
        refused = await phone.ask(phone.write("INVITE", sdp(version=3), cseq=3, branch="z9hG4bK-third"))
        assert (refused.status, refused.cseq.number) == (500, 3)
        assert 0 <= int(refused.header("Retry-After")) <= 10
        await phone.send(phone.write("ACK", cseq=3, branch="z9hG4bK-third"))
        await phone.send(phone.write("ACK", cseq=2))
        assert await phone.hears_nothing(40)
        assert (await phone.ask(phone.write("OPTIONS", cseq=4))).status == 200
        with pytest.raises(trio.WouldBlock):
            leg.events.receive_nowait()


async def test_tx_31_stray_responses_are_ignored(autojump_clock: MockClock) -> None:
    """RFC 3261 sections 8.1.3.3 and 17.1.3."""
    async with user_agent() as (agent, phone):
        await phone.connect(agent)
        for method in ("INVITE", "BYE", "OPTIONS"):
            headers = parse_untrusted(phone.write(method)).headers
            for status in (100, 200, 401, 486):
                await phone.send(bytes(answer_to(headers, status)))
        assert await phone.hears_nothing(5)
        assert agent.statistics().stray_responses == 12
        assert (await phone.ask(phone.write("OPTIONS"))).status == 200


async def test_tx_41_options_inside_a_dialog_is_200_and_changes_nothing(autojump_clock: MockClock) -> None:
    """RFC 3261 sections 11.2 and 12.2."""
    async with user_agent() as (agent, phone):
        leg = await phone.connect(agent)
        answer = await phone.ask(phone.write("OPTIONS"))
        assert (answer.status, answer.to.tag) == (200, phone.to_tag)
        assert agent.statistics().legs == 1
        with pytest.raises(trio.WouldBlock):
            leg.events.receive_nowait()
        assert (await phone.ask(phone.write("BYE", cseq=3))).status == 200
