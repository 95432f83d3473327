"""What one stranger may cost others: amplification through retransmissions, and tables filled from inside one call."""

from __future__ import annotations

import logging

import pytest
import trio
from sip_phone import Phone, another_phone, sdp, user_agent
from trio.testing import MockClock

from aivc.config.secret import Secret
from aivc.config.settings import SipSettings, SipUser
from aivc.sip.leg import SignallingFailed
from aivc.sip.transaction_layer import MAX_STORED_OCTETS

VICTIM = "192.0.2.99"
USERS = SipSettings(users=(SipUser(name="trunk", password=Secret("x" * 16)),))


def small(branch: str, method: str = "OPTIONS") -> bytes:
    """As short as a request that parses can be, with the key of another one."""
    return (
        f"{method} sip:a SIP/2.0\r\nv:SIP/2.0/UDP {VICTIM}:5060;branch={branch};rport\r\nf:<sip:a>;tag=1\r\n"
        f"t:<sip:a>\r\ni:1\r\nCSeq:1 {method}\r\n\r\n"
    ).encode()


async def octets_heard(phone: Phone, seconds: float) -> int:
    total = 0
    with trio.move_on_after(seconds):
        while True:
            total += len((await phone.socket.recvfrom(65_535))[0])
    return total


async def test_short_copies_of_a_long_request_bring_no_long_answers(autojump_clock: MockClock) -> None:
    """A retransmission is known by branch, sent-by and method alone: it may be much shorter than the request, and so
    the answer, which goes to whom the first one named, more than twice as long."""
    async with user_agent(), another_phone(VICTIM) as victim:
        # `victim`'s own socket stands for a forged source address
        await victim.send(victim.write("OPTIONS", b"", f"X: {'x' * 9}", branch="z9hG4bKlong", target="sip:" + "x@a"))
        await octets_heard(victim, 1)
        long = victim.write("OPTIONS", b"", branch="z9hG4bKlong2").replace(b"From: ", b'From: "' + b"x" * 6000 + b'" ')
        await victim.send(long)
        await octets_heard(victim, 1)
        sent = 0
        for _ in range(100):
            await victim.send(small("z9hG4bKlong2"))
            sent += len(small("z9hG4bKlong2"))
        heard = await octets_heard(victim, 5)
        assert heard <= 2 * sent


async def test_a_challenge_is_sent_once(autojump_clock: MockClock) -> None:
    """RFC 3261 section 26.3.2.4: no retransmissions of a 401 to who may be anybody."""
    async with user_agent(USERS) as (_agent, phone):
        data = phone.write("INVITE", sdp(), "X-Long: " + "x" * 400)
        await phone.send(data)
        assert (await phone.response()).status == 401
        more = await octets_heard(phone, 60)
        assert more == 0


async def test_one_call_cannot_make_us_store_without_an_end(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        await phone.connect(agent)
        body = b"x" * 60_000
        for number in range(600):
            data = phone.write("OPTIONS", b"", "Content-Disposition: x;handling=optional", cseq=10 + number)
            await phone.send(data.replace(b"Content-Length: 0", b"Content-Type: x/y\r\nContent-Length: 60000") + body)
            await trio.sleep(0.01)
        stored = agent._reception.board.layer.stored_octets
        assert stored <= 2 * MAX_STORED_OCTETS


async def test_a_flood_inside_one_call_does_not_keep_another_from_ending(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone), another_phone("192.0.2.50") as quiet:
        await quiet.connect(agent)
        await phone.connect(agent)
        for number in range(9300):  # 290 a second for 32 s: 1 Mbit/s
            await phone.send(phone.write("OPTIONS", cseq=10 + number))
            if number % 200 == 0:
                await trio.sleep(0.01)
        await trio.sleep(1)
        assert (await quiet.ask(quiet.write("BYE", cseq=3))).status == 200


def short_invite() -> bytes:
    """Without an offer, so that the 2xx with ours is more than twice as long."""
    return (
        b"INVITE sip:a SIP/2.0\r\nv:SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK1\r\nf:<sip:a>;tag=1\r\nt:<sip:a>\r\n"
        b"i:1\r\nCSeq:1 INVITE\r\nm:<sip:alice@192.0.2.10>\r\nl:0\r\n\r\n"
    )


async def test_an_answer_that_must_not_be_sent_is_a_refusal_and_the_call_learns_why(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "aivc.sip")
    async with user_agent() as (agent, phone):
        await phone.send(short_invite())
        leg = await agent.legs.receive()
        await leg.answer(("192.0.2.1", 40_000))
        while (answer := await phone.response()).status == 100:
            pass
        assert answer.status == 513
        ending = [event async for event in leg.events]
        assert [type(event) for event in ending] == [SignallingFailed]
        assert agent.statistics().legs == 0
        lines = [record for record in caplog.records if record.getMessage() == "sip.answer_too_long"]
        assert [record.levelname for record in lines] == ["WARNING"]


async def test_a_caller_cannot_vouch_for_another_address(autojump_clock: MockClock) -> None:
    """Its tag proves that it gets our answers where the INVITE came from, and nowhere else."""
    async with user_agent() as (agent, phone), another_phone(VICTIM) as victim:
        await phone.connect(agent)
        victim.call_id, victim.tag, victim.to_tag = phone.call_id, phone.tag, phone.to_tag
        await victim.send(victim.write("INFO", cseq=9))  # in the call, with a forged source
        await octets_heard(victim, 1)
        request = small("z9hG4bKshort")
        await victim.send(request)
        assert await octets_heard(victim, 1) <= 2 * len(request)
