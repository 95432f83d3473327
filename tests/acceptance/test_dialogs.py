"""What may come inside a call, and what we ask there: RFC 3262, RFC 3515, RFC 4028, RFC 6086."""

from __future__ import annotations

import pytest
import trio
from sip_phone import PHONE, RTP, SERVER, sdp, user_agent
from trio.testing import MockClock

from aivc.config.settings import Address, SipSettings
from aivc.sip.leg import DigitPressed, HungUp, SessionExpired
from aivc.sip.message import Request, parse_untrusted
from aivc.testing.network import VirtualNetwork

RELAY = b"Signal=5\r\nDuration=160\r\n"


async def test_dl_02_info_tells_of_a_key_and_of_nothing_else(autojump_clock: MockClock) -> None:
    """RFC 6086, application/dtmf-relay: 200; an unknown type: 415 with Accept."""
    async with user_agent() as (agent, phone):
        leg = await phone.connect(agent)
        assert (await phone.ask(phone.write("INFO", RELAY, content_type="application/dtmf-relay"))).status == 200
        assert leg.events.receive_nowait() == DigitPressed("5", 160)
        refused = await phone.ask(phone.write("INFO", b"x", cseq=3, content_type="application/x-unknown"))
        assert (refused.status, "application/dtmf-relay" in refused.headers.items("Accept")) == (415, True)


async def test_dl_03_a_notify_that_nobody_asked_for_is_refused(autojump_clock: MockClock) -> None:
    """RFC 6665 section 4.1.3: inside a dialog and outside."""
    async with user_agent() as (agent, phone):
        fields = ("Event: refer", "Subscription-State: active")
        assert (await phone.ask(phone.write("NOTIFY", b"", *fields))).status == 481
        phone.call_id = "another@192.0.2.10"
        await phone.connect(agent)
        assert (await phone.ask(phone.write("NOTIFY", b"", *fields))).status == 481


async def test_dl_04_a_refer_makes_us_call_nobody(autojump_clock: MockClock) -> None:
    """Toll fraud: refused, and no INVITE goes to the target."""
    sent: list[bytes] = []
    network = VirtualNetwork(on_packet=lambda source, to, data: sent.append(data) if source == SERVER else None)
    async with user_agent(network=network) as (agent, phone):
        leg = await phone.connect(agent)
        request = phone.write("REFER", b"", "Refer-To: <sip:+1900555@192.0.2.99>")
        assert (await phone.ask(request)).status == 603
        assert await phone.hears_nothing(60)
        assert not [data for data in sent if data.startswith(b"INVITE ")]
        with pytest.raises(trio.WouldBlock):
            leg.events.receive_nowait()


async def test_dl_06_a_session_timer_that_is_offered_is_taken(autojump_clock: MockClock) -> None:
    """RFC 4028 section 9: Session-Expires in the 2xx, and Require: timer if the caller is to refresh."""
    async with user_agent() as (agent, phone):
        _, answer = await phone.call(agent, None, "Supported: timer", "Session-Expires: 1800;refresher=uac")
        assert answer.header("Session-Expires") == "1800;refresher=uac"
        assert answer.headers.items("Require") == ["timer"]


async def test_dl_07_a_session_timer_that_is_too_short_is_422(autojump_clock: MockClock) -> None:
    """RFC 4028 section 9."""
    async with user_agent() as (_, phone):
        answer = await phone.ask(phone.write("INVITE", sdp(), "Supported: timer", "Session-Expires: 30"))
        assert (answer.status, answer.header("Min-SE")) == (422, "90")


async def test_dl_08_a_session_that_the_caller_does_not_refresh_ends_with_a_bye(autojump_clock: MockClock) -> None:
    """RFC 4028 section 10: before its 90 s are over."""
    async with user_agent() as (agent, phone):
        leg, _ = await phone.call(agent, None, "Supported: timer", "Session-Expires: 90;refresher=uac")
        start = trio.current_time()
        await phone.ack()
        bye = await phone.request(90)
        assert bye.method == "BYE"
        assert 45 < trio.current_time() - start < 90
        await phone.reply(bye)
        assert isinstance([event async for event in leg.events][-1], SessionExpired)


@pytest.mark.parametrize("routes", [(), ("<sip:192.0.2.20;lr>", "<sip:192.0.2.21;lr>")])
async def test_dl_09_our_requests_go_by_the_route_set_to_the_contact(
    routes: tuple[str, ...], autojump_clock: MockClock
) -> None:
    """RFC 3261 section 12.2.1.1."""
    sent: list[tuple[Address, bytes]] = []
    network = VirtualNetwork(on_packet=lambda source, to, data: sent.append((to, data)) if source == SERVER else None)
    async with user_agent(network=network) as (agent, phone):
        leg, _ = await phone.call(agent, None, *(f"Record-Route: {route}" for route in routes))
        await phone.ack()
        with trio.move_on_after(0.1):
            await leg.hang_up("over")
        to, data = sent[-1]
        bye = parse_untrusted(data)
        assert isinstance(bye, Request)
        assert (bye.method, bye.target) == ("BYE", "sip:alice@192.0.2.10:5060")
        assert bye.headers.items("Route") == list(routes)
        assert to == (("192.0.2.20", 5060) if routes else PHONE)


async def test_dl_10_reliable_provisional_responses_are_sent_where_they_are_required(
    autojump_clock: MockClock,
) -> None:
    """RFC 3262 section 3: 180 with RSeq, resent until its PRACK, then the 2xx."""
    async with user_agent() as (agent, phone):
        await phone.send(phone.write("INVITE", sdp(), "Require: 100rel"))
        leg = await agent.legs.receive()
        await leg.ring()
        assert (await phone.response()).status == 100
        ringing = await phone.response()
        assert (ringing.status, ringing.headers.items("Require")) == (180, ["100rel"])
        assert bytes(await phone.response()) == bytes(ringing)
        phone.to_tag = ringing.to.tag
        prack = phone.write("PRACK", b"", f"RAck: {ringing.header('RSeq')} 1 INVITE", cseq=2)
        assert (await phone.ask(prack)).status == 200
        assert await phone.hears_nothing(40)
        await leg.answer(RTP)
        assert (await phone.response()).status == 200


async def test_dl_10_an_unsupported_100rel_is_420(autojump_clock: MockClock) -> None:
    """RFC 3262 section 3: with sip.reliable_provisional off."""
    async with user_agent(SipSettings(reliable_provisional="off")) as (_, phone):
        answer = await phone.ask(phone.write("INVITE", sdp(), "Require: 100rel"))
        assert (answer.status, answer.headers.items("Unsupported")) == (420, ["100rel"])


async def test_st_01_we_refresh_at_half_of_the_interval_when_it_is_ours_to_do(autojump_clock: MockClock) -> None:
    """RFC 4028 section 10: refresher=uas."""
    async with user_agent() as (agent, phone):
        await phone.call(agent, None, "Supported: timer", "Session-Expires: 120;refresher=uas")
        await phone.ack()
        start = trio.current_time()
        refresh = await phone.request(100)
        assert refresh.method in ("UPDATE", "INVITE")
        assert trio.current_time() - start == pytest.approx(60, abs=1)
        assert refresh.header("Session-Expires").startswith("120")


async def test_st_02_a_refresh_with_too_short_an_interval_is_422(autojump_clock: MockClock) -> None:
    """RFC 4028 section 9: in the dialog, too; the session stays as it was."""
    async with user_agent() as (agent, phone):
        await phone.call(agent, None, "Supported: timer", "Session-Expires: 1800;refresher=uac")
        await phone.ack()
        short = phone.write("UPDATE", b"", "Supported: timer", "Session-Expires: 30;refresher=uac", cseq=2)
        answer = await phone.ask(short)
        assert (answer.status, answer.header("Min-SE")) == (422, "90")
        assert (await phone.ask(phone.write("OPTIONS", cseq=3))).status == 200


async def test_st_03_refreshes_of_the_caller_keep_the_call(autojump_clock: MockClock) -> None:
    """RFC 4028 section 10: and without them it ends, as above."""
    async with user_agent() as (agent, phone):
        leg, _ = await phone.call(agent, None, "Supported: timer", "Session-Expires: 90;refresher=uac")
        await phone.ack()
        for number in range(2, 5):
            await trio.sleep(40)
            fields = ("Supported: timer", "Session-Expires: 90;refresher=uac")
            assert (await phone.ask(phone.write("UPDATE", b"", *fields, cseq=number))).status == 200
        assert (await phone.ask(phone.write("BYE", cseq=9))).status == 200
        assert [event async for event in leg.events] == [HungUp()]


async def test_st_03_a_refresh_of_ours_that_only_rings_is_given_up_with_the_call(autojump_clock: MockClock) -> None:
    """RFC 3261 section 9.1: a re-INVITE without a final response is cancelled, and leaves no transaction behind."""
    async with user_agent() as (agent, phone):
        await phone.call(agent, None, "Supported: timer", "Session-Expires: 90;refresher=uas", "Allow: INVITE")
        await phone.ack()
        refresh = await phone.request(60)
        assert refresh.method == "INVITE"
        await phone.reply(refresh, 180)
        assert (await phone.ask(phone.write("BYE", cseq=2))).status == 200
        assert (await phone.request()).method == "CANCEL"
        await trio.sleep(70)
        assert agent.statistics().client_transactions == 0
