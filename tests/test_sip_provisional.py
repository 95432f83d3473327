"""Reliable provisional responses, RFC 3262, and what requests in an early dialog get."""

from __future__ import annotations

from typing import Literal

import pytest
import trio
from sip_phone import RTP, Phone, sdp, user_agent
from trio.testing import MockClock

from aivc.config.settings import SipSettings
from aivc.sip.leg import Cancelled, Leg, MediaChanged, SignallingFailed
from aivc.sip.message import Headers, Request
from aivc.sip.provisional import RAck, ReliableProvisional, Unacknowledged, first_rseq, read_rack
from aivc.sip.scanner import AddressError
from aivc.sip.useragent import UserAgent

REQUIRED, SUPPORTED = "Require: 100rel", "Supported: 100rel, timer"


def rack(text: str) -> RAck:
    return read_rack(Request(method="PRACK", target="sip:x", headers=Headers((("RAck", text),))))


def test_a_rack_is_three_words() -> None:
    assert rack("776656  1 INVITE") == RAck(776656, 1, "INVITE")
    for text in ("", "1 1", "1 1 INVITE x", "-1 1 INVITE", "1 4294967296 INVITE"):
        with pytest.raises(AddressError):
            rack(text)


def test_it_is_resent_at_doubling_intervals_without_a_limit_until_64_t1() -> None:
    waiting, times = ReliableProvisional(7, 1, 0.0), list[float]()
    while (outcome := waiting.expire(waiting.deadline)) is Unacknowledged.RESEND:
        times.append(waiting.deadline)
    assert times == [1.5, 3.5, 7.5, 15.5, 31.5, 32.0]
    assert outcome is Unacknowledged.GIVE_UP
    assert waiting.deadline == float("inf")


def test_only_its_own_prack_is_taken_and_only_once() -> None:
    waiting = ReliableProvisional(7, 1, 0.0)
    assert not any(waiting.take(each) for each in (RAck(8, 1, "INVITE"), RAck(7, 2, "INVITE"), RAck(7, 1, "UPDATE")))
    assert waiting.take(RAck(7, 1, "INVITE"))
    assert not waiting.take(RAck(7, 1, "INVITE"))


def test_the_first_rseq_fits_31_bits() -> None:
    assert all(1 <= first_rseq(digit * 16) < 2**31 for digit in "07f")


@pytest.mark.parametrize(
    ("setting", "extra", "reliable"),
    [
        ("on", (REQUIRED,), True),
        ("on", (SUPPORTED,), False),
        ("on", (), False),
        ("off", (SUPPORTED,), False),
        ("required", (SUPPORTED,), True),
        ("required", (REQUIRED,), True),
    ],
)
async def test_180_is_reliable_for_whom_it_should_be(
    setting: Literal["off", "on", "required"], extra: tuple[str, ...], reliable: bool, autojump_clock: MockClock
) -> None:
    async with user_agent(SipSettings(reliable_provisional=setting)) as (agent, phone):
        await phone.send(phone.write("INVITE", sdp(), *extra))
        leg = await agent.legs.receive()
        await leg.ring()
        assert (await phone.response()).status == 100
        ringing = await phone.response()
        assert ringing.status == 180
        assert (ringing.headers.get("Require") == "100rel") is reliable
        assert (ringing.headers.get("RSeq") is not None) is reliable
        await leg.ring()
        assert reliable is await phone.hears_nothing(0.4)


async def ringing_call(agent: UserAgent, phone: Phone) -> tuple[Leg, str]:
    """A call that rings reliably; its RAck."""
    await phone.send(phone.write("INVITE", sdp(), REQUIRED))
    leg = await agent.legs.receive()
    await leg.ring()
    assert (await phone.response()).status == 100
    ringing = await phone.response()
    phone.to_tag = ringing.to.tag
    return leg, f"RAck: {ringing.header('RSeq')} 1 INVITE"


async def test_a_prack_is_answered_200_and_stops_the_resending(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg, acknowledges = await ringing_call(agent, phone)
        assert (await phone.response()).status == 180
        assert (await phone.ask(phone.write("PRACK", b"", acknowledges, cseq=2))).status == 200
        assert await phone.hears_nothing(40)
        assert (await phone.ask(phone.write("PRACK", b"", acknowledges, cseq=3))).status == 481
        await leg.answer(RTP)
        assert (await phone.response()).status == 200


async def test_a_stray_prack_is_481_and_one_that_cannot_be_read_400(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        await ringing_call(agent, phone)
        assert (await phone.ask(phone.write("PRACK", b"", "RAck: 1 1 INVITE", cseq=2))).status == 481
        assert (await phone.ask(phone.write("PRACK", b"", "RAck: x", cseq=3))).status == 400


async def test_the_answer_does_not_wait_for_the_prack_which_is_good_even_then(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg, acknowledges = await ringing_call(agent, phone)
        await leg.answer(RTP)
        assert (await phone.response()).status == 200
        await phone.ack()
        assert (await phone.ask(phone.write("PRACK", b"", acknowledges, cseq=2))).status == 200
        assert await phone.hears_nothing(40)


async def test_without_any_prack_the_call_is_refused_after_64_t1(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg, _ = await ringing_call(agent, phone)
        start = trio.current_time()
        while (response := await phone.response(40)).status == 180:
            pass
        assert response.status == 504
        assert trio.current_time() - start == pytest.approx(32, abs=0.1)
        assert [event async for event in leg.events] == [SignallingFailed("no PRACK came for the 180")]


async def test_a_late_offer_that_requires_reliable_responses_rings_in_silence_and_is_answered(
    autojump_clock: MockClock,
) -> None:
    async with user_agent() as (agent, phone):
        await phone.send(phone.write("INVITE", b"", REQUIRED))
        leg = await agent.legs.receive()
        await leg.ring()
        await leg.answer(RTP)
        answers = [await phone.response() for _ in range(2)]
        assert [answer.status for answer in answers] == [100, 200]
        assert b"m=audio 40000" in answers[1].body


async def test_an_update_in_an_early_dialog_is_served_as_far_as_it_can_be(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg, acknowledges = await ringing_call(agent, phone)
        await phone.ask(phone.write("PRACK", b"", acknowledges, cseq=2))
        bare = await phone.ask(phone.write("UPDATE", cseq=3))
        assert (bare.status, bare.header("Contact")) == (200, "<sip:192.0.2.1:5060>")
        offer = await phone.ask(phone.write("UPDATE", sdp(version=2), cseq=4))  # RFC 3311 section 5.2
        assert offer.status == 500
        assert 0 <= int(offer.header("Retry-After")) <= 10
        assert (await phone.ask(phone.write("INVITE", sdp(version=2), cseq=5))).status == 500
        await phone.send(phone.write("ACK", cseq=5, branch=f"z9hG4bK-{phone.branches}"))
        await leg.answer(RTP)
        assert (await phone.response()).status == 200


async def test_an_update_moves_and_holds_the_media_of_a_call(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg = await phone.connect(agent)
        phone.contact = "<sip:moved@192.0.2.10>"
        held = await phone.ask(phone.write("UPDATE", sdp("m=audio 6000 RTP/AVP 0\r\na=sendonly\r\n", 2), cseq=2))
        assert (held.status, b"a=recvonly" in held.body) == (200, True)
        assert (leg.agreement.remote, leg.agreement.may_send) == (("192.0.2.10", 6000), False)
        assert isinstance(leg.events.receive_nowait(), MediaChanged)
        assert (await phone.ask(phone.write("UPDATE", sdp("m=audio 6000 RTP/AVP 18\r\n", 3), cseq=3))).status == 488
        assert await phone.hears_nothing(3)  # no ACK is waited for
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leg.hang_up, "over")
            bye = await phone.request()
            assert bye.target == "sip:moved@192.0.2.10"
            await phone.reply(bye)


async def test_an_update_before_the_ack_of_our_offer_is_491_and_after_an_answer_200(
    autojump_clock: MockClock,
) -> None:
    async with user_agent() as (agent, phone):
        await phone.call(agent)
        assert (await phone.ask(phone.write("UPDATE", sdp(version=2), cseq=2))).status == 200
        await phone.ack()
        assert (await phone.ask(phone.write("INVITE", cseq=3))).status == 200
        assert (await phone.ask(phone.write("UPDATE", sdp(version=3), cseq=4))).status == 491


async def test_an_invite_that_expires_before_the_answer_is_487(autojump_clock: MockClock) -> None:
    """RFC 3261 section 13.3.1."""
    async with user_agent() as (agent, phone):
        await phone.send(phone.write("INVITE", sdp(), "Expires: 20"))
        leg = await agent.legs.receive()
        await leg.ring()
        start = trio.current_time()
        while (response := await phone.response(40)).status < 200:
            pass
        assert response.status == 487
        assert trio.current_time() - start == pytest.approx(20)
        assert [event async for event in leg.events] == [Cancelled()]
        assert agent.statistics().legs == 0


@pytest.mark.parametrize("expires", ["1", "soon", "99999999999", "4294967295"])
async def test_an_invite_that_is_answered_does_not_expire(expires: str, autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        await phone.call(agent, None, f"Expires: {expires}")
        await phone.ack()
        await trio.sleep(60)
        assert agent.statistics().legs == 1
