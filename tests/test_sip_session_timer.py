"""Session timers, RFC 4028: who refreshes, what is refused, and when a call is over."""

from __future__ import annotations

from math import inf

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from sip_phone import sdp, user_agent
from trio.testing import MockClock

from aivc.config.settings import SipSettings
from aivc.sip.leg import HungUp, SessionExpired
from aivc.sip.message import Headers
from aivc.sip.scanner import AddressError
from aivc.sip.session_timer import (
    Due,
    SessionTimer,
    Terms,
    Wish,
    agree,
    answer_fields,
    is_too_short,
    read_wish,
    refresh_fields,
)

TIMER = "Supported: timer"
UPDATE = "Allow: INVITE, ACK, BYE, UPDATE"


def test_what_a_message_says_is_read_in_every_form() -> None:
    headers = Headers((("Session-Expires", "1800 ; Refresher=UAC"), ("Min-SE", "120"), ("Supported", "100rel, Timer")))
    assert read_wish(headers) == Wish(1800, "uac", 120, True)
    assert read_wish(Headers((("Session-Expires", "90;refresher=other;x"), ("Min-SE", "10")))) == Wish(90, None, 90)
    assert read_wish(Headers()) == Wish()


@pytest.mark.parametrize("text", ["", "-1", "1e3", "90;", "90 uac", "4294967296", "1800;refresher=\x00"])
def test_what_is_no_interval_is_an_error(text: str) -> None:
    with pytest.raises(AddressError):
        read_wish(Headers((("Session-Expires", text),)))


@given(st.text(max_size=60))
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        wish = read_wish(Headers((("Session-Expires", text), ("Min-SE", text))))
    except AddressError:
        return
    assert wish.least >= 90


@pytest.mark.parametrize(
    ("wish", "wanted", "terms"),
    [
        (Wish(knows=True), 1800, Terms(1800, True)),
        (Wish(knows=True), 0, None),
        (Wish(), 1800, None),  # who does not know timers is asked for none
        (Wish(least=3600, knows=True), 1800, Terms(3600, True)),
        (Wish(1800, "uac", knows=True), 0, Terms(1800, False)),
        (Wish(1800, "uas", knows=True), 0, Terms(1800, True)),
        (Wish(1800, None, knows=True), 0, Terms(1800, True)),
        (Wish(7200, "uac", knows=True), 1800, Terms(1800, False)),  # it may be reduced
        (Wish(7200, "uac", least=3000, knows=True), 1800, Terms(3000, False)),  # not below Min-SE
        (Wish(600, "uac", knows=True), 1800, Terms(600, False)),  # and never raised
        (Wish(1800, "uac"), 1800, Terms(1800, True, required=False)),  # put there by a proxy: table 2 of section 9
        (Wish(30), 1800, Terms(90, True, required=False)),
    ],
)
def test_the_terms_of_a_2xx_follow_table_2(wish: Wish, wanted: int, terms: Terms | None) -> None:
    assert agree(wish, wanted) == terms


def test_what_a_2xx_and_a_refresh_say() -> None:
    assert answer_fields(Terms(1800, False)) == (("Session-Expires", "1800;refresher=uac"), ("Require", "timer"))
    assert answer_fields(Terms(90, True, required=False)) == (("Session-Expires", "90;refresher=uas"),)
    assert answer_fields(None) == ()
    assert refresh_fields(1800, 90) == (("Session-Expires", "1800;refresher=uac"),)
    assert refresh_fields(1800, 3600) == (("Session-Expires", "3600;refresher=uac"), ("Min-SE", "3600"))


def test_only_who_knows_timers_is_told_that_its_own_is_too_short() -> None:
    assert is_too_short(Wish(100, knows=True), 120)
    assert not is_too_short(Wish(100), 120)
    assert not is_too_short(Wish(120, knows=True), 120)


def test_the_timer_fires_at_half_and_ends_before_the_end() -> None:
    timer = SessionTimer()
    assert timer.deadline == inf
    timer.restart(Terms(1800, True), 0.0)
    assert (timer.deadline, timer.expire(899.9), timer.expire(900.0)) == (900.0, None, Due.REFRESH)
    assert (timer.deadline, timer.expire(1768.0)) == (1768.0, Due.OVER)  # 32 s before
    timer.restart(Terms(90, False), 0.0)
    assert (timer.deadline, timer.expire(60.0)) == (60.0, Due.OVER)  # a third before
    assert (timer.terms, timer.deadline) == (None, inf)


def test_a_422_asks_for_a_longer_interval_once() -> None:
    timer = SessionTimer()
    timer.restart(Terms(90, True), 0.0)
    timer.expire(45.0)
    assert timer.too_short(Wish(least=200), 45.5)
    assert (timer.terms, timer.least, timer.deadline) == (Terms(200, True), 200, 45.5)
    assert not timer.too_short(Wish(least=200), 46.0)


@pytest.mark.parametrize(("allow", "method"), [((UPDATE,), "UPDATE"), ((), "INVITE")])
async def test_we_refresh_at_half_of_the_interval(
    allow: tuple[str, ...], method: str, autojump_clock: MockClock
) -> None:
    async with user_agent(SipSettings(session_expires_seconds=120)) as (agent, phone):
        leg, answer = await phone.call(agent, None, TIMER, *allow)
        assert answer.header("Session-Expires") == "120;refresher=uas"
        assert answer.header("Require") == "timer"
        await phone.ack()
        start = trio.current_time()
        refresh = await phone.request(100)
        assert trio.current_time() - start == pytest.approx(60, abs=0.1)
        assert refresh.method == method
        assert refresh.header("Session-Expires") == "120;refresher=uac"
        assert "timer" in refresh.headers.items("Supported")
        assert refresh.body == (b"" if method == "UPDATE" else answer.body)
        body = b"" if method == "UPDATE" else sdp()
        await phone.reply(refresh, 200, "Session-Expires: 120;refresher=uac", f"Contact: {phone.contact}", body=body)
        if method == "INVITE":
            assert (await phone.request()).method == "ACK"
        assert (await phone.request(100)).method == method  # and again
        assert trio.current_time() - start == pytest.approx(120, abs=0.2)
        with pytest.raises(trio.WouldBlock):
            leg.events.receive_nowait()


async def test_a_peer_that_refreshes_keeps_its_call_and_one_that_stops_loses_it(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        expires = "Session-Expires: 90;refresher=uac"
        leg, answer = await phone.call(agent, None, TIMER, expires)
        assert answer.header("Session-Expires") == "90;refresher=uac"
        await phone.ack()
        await trio.sleep(50)
        refreshed = await phone.ask(phone.write("UPDATE", b"", TIMER, expires, cseq=2))
        assert (refreshed.status, refreshed.header("Session-Expires")) == (200, "90;refresher=uac")
        start = trio.current_time()
        bye = await phone.request(100)
        assert bye.method == "BYE"
        assert trio.current_time() - start == pytest.approx(60, abs=0.1)
        assert [event async for event in leg.events] == [SessionExpired("no refresh came")]
        await phone.reply(bye)


async def test_a_reinvite_refreshes_too_and_may_change_who_does(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        await phone.call(agent, None, TIMER, "Session-Expires: 90;refresher=uac")
        await phone.ack()
        await trio.sleep(50)
        answer = await phone.ask(
            phone.write("INVITE", sdp(), TIMER, UPDATE, "Session-Expires: 100;refresher=uas", cseq=2)
        )
        assert answer.header("Session-Expires") == "100;refresher=uas"
        phone.cseq = 2
        await phone.ack()
        start = trio.current_time()
        assert (await phone.request(100)).method == "UPDATE"
        assert trio.current_time() - start == pytest.approx(50, abs=0.1)


@pytest.mark.parametrize(
    ("status", "cause"),
    [(481, "the peer does not know the call: 481"), (408, "the peer does not know the call: 408")],
)
async def test_a_refresh_that_finds_no_call_ends_ours(status: int, cause: str, autojump_clock: MockClock) -> None:
    async with user_agent(SipSettings(session_expires_seconds=120)) as (agent, phone):
        leg, _ = await phone.call(agent, None, TIMER, UPDATE)
        await phone.ack()
        await phone.reply(await phone.request(100), status)
        assert (await phone.request()).method == "BYE"
        assert [event async for event in leg.events] == [SessionExpired(cause)]


async def test_a_refresh_that_nobody_answers_ends_the_call(autojump_clock: MockClock) -> None:
    async with user_agent(SipSettings(session_expires_seconds=90)) as (agent, phone):
        leg, _ = await phone.call(agent, None, TIMER, UPDATE)
        await phone.ack()
        assert [event async for event in leg.events] == [SessionExpired("no answer to a refresh")]


async def test_a_422_to_our_refresh_is_honoured(autojump_clock: MockClock) -> None:
    async with user_agent(SipSettings(session_expires_seconds=120)) as (agent, phone):
        await phone.call(agent, None, TIMER, UPDATE)
        await phone.ack()
        await phone.reply(await phone.request(100), 422, "Min-SE: 200")
        second = await phone.request()
        assert (second.header("Session-Expires"), second.header("Min-SE")) == ("200;refresher=uac", "200")
        await phone.reply(second, 200, "Session-Expires: 200;refresher=uac")
        start = trio.current_time()
        assert (await phone.request(200)).method == "UPDATE"
        assert trio.current_time() - start == pytest.approx(100, abs=0.1)


async def test_a_491_to_our_refresh_is_tried_again_within_two_seconds(autojump_clock: MockClock) -> None:
    async with user_agent(SipSettings(session_expires_seconds=120)) as (agent, phone):
        await phone.call(agent, None, TIMER)
        await phone.ack()
        first = await phone.request(100)
        await phone.reply(first, 491)
        assert (await phone.request()).method == "ACK"
        start = trio.current_time()
        second = await phone.request()
        assert (second.method, second.cseq.number) == ("INVITE", first.cseq.number + 1)
        assert trio.current_time() - start <= 2.0  # we are not the owner of the Call-ID


async def test_a_peer_that_says_405_to_update_gets_a_reinvite(autojump_clock: MockClock) -> None:
    async with user_agent(SipSettings(session_expires_seconds=120)) as (agent, phone):
        await phone.call(agent, None, TIMER, UPDATE)
        await phone.ack()
        await phone.reply(await phone.request(100), 405)
        assert (await phone.request()).method == "INVITE"


async def test_a_peer_that_refuses_a_refresh_is_asked_again_until_the_session_ends(autojump_clock: MockClock) -> None:
    async with user_agent(SipSettings(session_expires_seconds=120)) as (agent, phone):
        leg, _ = await phone.call(agent, None, TIMER, UPDATE)
        await phone.ack()
        asked = 0
        while (request := await phone.request(100)).method == "UPDATE":
            asked += 1
            await phone.reply(request, 488)
        assert asked > 2
        assert request.method == "BYE"
        assert [event async for event in leg.events] == [SessionExpired("refreshes fail: 488 to UPDATE")]


async def test_a_refresh_that_crosses_a_reinvite_gives_way(autojump_clock: MockClock) -> None:
    async with user_agent(SipSettings(session_expires_seconds=120)) as (agent, phone):
        leg, _ = await phone.call(agent, None, TIMER)
        await phone.ack()
        ours = await phone.request(100)
        assert ours.method == "INVITE"
        crossing = phone.write("INVITE", sdp(version=2), cseq=2)
        assert (await phone.ask(crossing)).status == 491
        await phone.send(phone.write("ACK", cseq=2, branch=f"z9hG4bK-{phone.branches}"))
        held = phone.write("UPDATE", sdp("m=audio 49170 RTP/AVP 0\r\na=sendonly\r\n", 3), cseq=3)
        assert (await phone.ask(held)).status == 491
        await phone.reply(ours, 200, f"Contact: {phone.contact}", body=sdp())
        assert (await phone.request()).method == "ACK"
        assert (await phone.ask(phone.write("INVITE", sdp(version=2), cseq=4))).status == 200
        assert (await phone.ask(phone.write("BYE", cseq=5))).status == 200
        assert [event async for event in leg.events] == [HungUp()]


async def test_the_answer_to_our_reinvite_may_move_the_media(autojump_clock: MockClock) -> None:
    async with user_agent(SipSettings(session_expires_seconds=120)) as (agent, phone):
        leg, _ = await phone.call(agent, None, TIMER)
        await phone.ack()
        ours = await phone.request(100)
        moved = sdp("m=audio 6000 RTP/AVP 0\r\n", 2)
        for _ in range(2):  # the second one is a copy
            await phone.reply(ours, 200, f"Contact: {phone.contact}", body=moved)
            ack = await phone.request()
            assert (ack.method, ack.cseq.number) == ("ACK", ours.cseq.number)
        assert leg.agreement.remote == ("192.0.2.10", 6000)
        assert len([leg.events.receive_nowait()]) == 1
        with pytest.raises(trio.WouldBlock):
            leg.events.receive_nowait()


async def test_without_the_setting_and_without_a_wish_there_is_no_timer(autojump_clock: MockClock) -> None:
    async with user_agent(SipSettings(session_expires_seconds=0)) as (agent, phone):
        _, answer = await phone.call(agent, None, TIMER)
        assert answer.headers.get("Session-Expires") is None
        await phone.ack()
        assert await phone.hears_nothing(190)


async def test_who_does_not_know_timers_has_none(autojump_clock: MockClock) -> None:
    async with user_agent(SipSettings(session_expires_seconds=90)) as (agent, phone):
        _, answer = await phone.call(agent)
        assert (answer.headers.get("Session-Expires"), answer.headers.get("Require")) == (None, None)
        await phone.ack()
        assert await phone.hears_nothing(190)
