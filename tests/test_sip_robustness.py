"""What strangers and bad days must not do to the user agent."""

from __future__ import annotations

import logging
import math
import weakref

import attrs
import pytest
import trio
from sip_phone import sdp, user_agent
from trio.testing import MockClock

from aivc.config.settings import SipSettings
from aivc.sip import transaction_layer
from aivc.sip.message import MAX_VIAS, ParseError, parse_untrusted
from aivc.sip.timers import Timers


@attrs.define(eq=False)
class Alarm:
    """Fires once, and may break doing so."""

    deadline: float
    breaks: bool = False
    fired: int = 0

    def expire(self, now: float) -> None:
        self.fired += 1
        if self.breaks:
            raise RuntimeError("a bug")
        self.deadline = math.inf


def test_a_timer_that_raises_does_not_stop_the_others() -> None:
    timers, broken, good = Timers(), Alarm(1.0, breaks=True), Alarm(2.0)
    timers.watch(broken)
    timers.watch(good)
    timers.expire(3.0)
    timers.expire(4.0)
    assert (broken.fired, good.fired) == (1, 1)


def test_who_waits_for_nothing_any_more_is_not_kept_until_its_old_deadline() -> None:
    timers, over = Timers(), Alarm(1800.0)
    timers.watch(over)
    over.deadline = math.inf
    timers.watch(over)
    kept = weakref.ref(over)
    del over
    assert kept() is None


def test_who_waits_again_is_told_at_its_new_deadline_only() -> None:
    timers, alarm = Timers(), Alarm(1.0)
    for deadline in (1.0, math.inf, 3.0, 2.0):
        alarm.deadline = deadline
        timers.watch(alarm)
    timers.expire(1.5)
    assert alarm.fired == 0
    timers.expire(9.0)
    assert alarm.fired == 1


async def test_a_peer_is_answered_when_no_descriptor_is_left_to_ask_for_the_route(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with user_agent(listen="udp:0.0.0.0:5060") as (_, phone):

        def refuse(*_: object) -> None:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(trio.socket, "socket", refuse)
        assert (await phone.ask(phone.write("OPTIONS"))).status == 200


async def test_invented_to_tags_do_not_take_the_room_kept_for_calls(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction_layer, "MAX_TRANSACTIONS", 3)
    monkeypatch.setattr(transaction_layer, "IN_DIALOG_RESERVE", 2)
    async with user_agent() as (agent, phone):
        await phone.connect(agent)
        tag, phone.to_tag = phone.to_tag, "invented"
        statuses = [(await phone.ask(phone.write("BYE", cseq=number))).status for number in range(10, 17)]
        assert statuses == [481, 481, 503, 503, 503, 503, 503]
        phone.to_tag = tag
        assert (await phone.ask(phone.write("BYE", cseq=20))).status == 200


async def test_long_requests_fill_the_table_by_their_octets(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction_layer, "MAX_STORED_OCTETS", 10_000)
    async with user_agent() as (agent, phone):
        padding = "X-Padding: " + "x" * 6000
        statuses = [(await phone.ask(phone.write("OPTIONS", b"", padding, cseq=n))).status for n in range(10, 13)]
        assert statuses == [200, 200, 503]
        await trio.sleep(33)
        assert (await phone.ask(phone.write("OPTIONS", cseq=20))).status == 200
        assert agent.statistics().server_transactions == 1


async def test_the_bye_to_a_phone_behind_a_nat_goes_where_its_invite_came_from(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        phone.contact = "<sip:alice@10.0.0.5:5060>"
        await phone.send(phone.write("INVITE", sdp(), via="10.0.0.5:5060"))
        leg = await agent.legs.receive()
        await leg.answer(("192.0.2.1", 40_000))
        assert (await phone.response()).status == 100
        phone.to_tag = (await phone.response()).to.tag
        await phone.ack()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leg.hang_up, "over")
            bye = await phone.request()
            assert (bye.method, bye.target) == ("BYE", "sip:alice@10.0.0.5:5060")
            await phone.reply(bye)


def test_more_vias_than_a_request_can_have_passed_are_refused() -> None:
    vias = ", ".join(["SIP/2.0/UDP 192.0.2.10"] * (MAX_VIAS + 1))
    request = (
        f"OPTIONS sip:x@192.0.2.1 SIP/2.0\r\nVia: {vias}\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:x@y>\r\n"
        "Call-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n"
    )
    with pytest.raises(ParseError, match="Too many Vias"):
        parse_untrusted(request.encode())


async def test_a_flood_of_refusals_is_no_flood_of_the_log(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aivc.sip")
    async with user_agent(SipSettings(requests_per_second=0)) as (_agent, phone):
        for number in range(500):
            await phone.send(phone.write("BYE", cseq=number))
        await trio.sleep(0.5)
        lines = [record for record in caplog.records if record.getMessage() == "sip.refused"]
        assert 0 < len(lines) <= 50


async def test_an_answer_to_a_broken_request_has_a_tag(autojump_clock: MockClock) -> None:
    """RFC 3261 section 8.2.6.2; without state it is the same for every copy (section 8.2.7)."""
    async with user_agent() as (_, phone):
        data = phone.write("OPTIONS", b"", "Max-Forwards: x")
        first, second = await phone.ask(data), await phone.ask(data)
        assert (first.status, first.to.tag) == (400, second.to.tag)
        assert first.to.tag is not None
