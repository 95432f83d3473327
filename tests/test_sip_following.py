"""A REFER that a caller sends to us: refused, or followed as far as the settings let us."""

from __future__ import annotations

import pytest
import trio
from sip_phone import Phone, another_phone, sdp, user_agent
from trio.testing import MockClock

from aivc.config.settings import SipSettings
from aivc.sip.event_queue import EVENTS
from aivc.sip.inspection import Refusal
from aivc.sip.leg import HungUp, MediaChanged
from aivc.sip.message import Headers, Request
from aivc.sip.referred import Order, read_refer
from aivc.sip.replacing import Replaces

OTHER = "192.0.2.77"
URI = f"sip:bob@{OTHER}"
PATTERNS = (r"sip:bob@192[.]0[.]2[.]77", r"sip:[0-9]{3}@pbx[.]example[.]com")
SETTINGS = SipSettings(follow_refer=PATTERNS)


def read(refer_to: str, *more: tuple[str, str], patterns: tuple[str, ...] = PATTERNS) -> Order | Refusal:
    headers = Headers((("Refer-To", refer_to), ("CSeq", "7 REFER"), *more))
    return read_refer(Request(method="REFER", target="sip:x@y", headers=headers), patterns)


@pytest.mark.parametrize(
    ("refer_to", "called"),
    [
        (f"<{URI}>", URI),
        (f'"Bob" <{URI}>;x=y', URI),
        (URI, URI),
        ("<sip:b%6Fb@192.0.2.77>", URI),
        ("<SIP:100@PBX.Example.COM>", "sip:100@pbx.example.com"),
        ("<sip:100@pbx.example.com?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2>", "sip:100@pbx.example.com"),
    ],
)
def test_a_uri_that_a_pattern_matches_whole_is_called_as_it_was_matched(refer_to: str, called: str) -> None:
    order = read(refer_to)
    assert isinstance(order, Order)
    assert str(order.target) == called
    assert order.replaces == (Replaces("a@b", "1", "2") if "Replaces" in refer_to else None)


@pytest.mark.parametrize(
    ("refer_to", "status"),
    [
        ("<sip:bob@192.0.2.77:5080>", 603),
        ("<sip:bob@192.0.2.77;transport=tcp>", 603),
        ("<sip:bob@192.0.2.777>", 603),
        ("<sip:xbob@192.0.2.77>", 603),
        ("<sip:100:secret@pbx.example.com>", 603),
        ("<sip:1000@pbx.example.com>", 603),
        ("<sip:100%40evil@pbx.example.com>", 603),
        ("<sips:bob@192.0.2.77>", 603),
        ("<tel:+4900>", 603),
        ("<http://192.0.2.77/>", 603),
        (f"<{URI}?Route=%3Csip:evil%3E>", 603),
        (f"<{URI}?Replaces=a%3Bto-tag%3D1%3Bfrom-tag%3D2&X=y>", 603),
        (f"<{URI}?Replaces=a%0d%0aX>", 400),
        (f"<{URI}?Replaces=nonsense>", 400),
        (f"<{URI}>, <{URI}>", 400),
        ("<sip:bob", 400),
        (f"<{URI}{'x' * 2000}>", 400),
    ],
)
def test_what_could_be_fraud_is_refused(refer_to: str, status: int) -> None:
    refusal = read(refer_to)
    assert isinstance(refusal, Refusal)
    assert refusal.status == status


def test_another_method_than_invite_is_not_sent_for_anybody() -> None:
    assert isinstance(read("<sip:bob@h;method=BYE>", patterns=(".*",)), Refusal)
    assert isinstance(read("<sip:bob@h;method=INVITE>", patterns=(".*",)), Order)


async def refer(phone: Phone, *extra: str, cseq: int = 2, refer_to: str = URI) -> int:
    data = phone.write("REFER", b"", f"Refer-To: <{refer_to}>", *extra, cseq=cseq)
    return (await phone.ask(data)).status


async def notified(phone: Phone) -> tuple[str, str]:
    """The state and the status line of the NOTIFY that comes; it is answered."""
    request = await phone.request(100)
    assert request.method == "NOTIFY"
    assert request.header("Event") == "refer;id=2"
    assert request.header("Content-Type") == "message/sipfrag;version=2.0"
    await phone.reply(request)
    return request.header("Subscription-State").partition(";")[0], request.body.decode().strip()


async def answer_call(other: Phone, *, formats: str = "0") -> Request:
    """The INVITE that came, after its 200 and ACK."""
    invite = await other.request()
    assert invite.method == "INVITE"
    await other.reply(invite, 180, tag="bob")
    body = sdp(f"m=audio 7000 RTP/AVP {formats}\r\n").replace(b"192.0.2.10", OTHER.encode())
    await other.reply(invite, 200, f"Contact: <sip:bob@{OTHER}>", tag="bob", body=body)
    assert (await other.request()).method == "ACK"
    return invite


async def test_a_refer_that_is_allowed_is_followed_and_the_leg_goes_over(autojump_clock: MockClock) -> None:
    async with user_agent(SETTINGS) as (agent, phone), another_phone(OTHER) as other:
        leg = await phone.connect(agent)
        assert await refer(phone, "Referred-By: <sip:alice@192.0.2.10>") == 202
        assert await notified(phone) == ("active", "SIP/2.0 100 Trying")
        invite = await answer_call(other)
        assert (invite.target, invite.header("Referred-By")) == (URI, "<sip:alice@192.0.2.10>")
        assert b"m=audio 40000 RTP/AVP 0 " in invite.body
        assert str(invite.sender.uri) == "sip:100@192.0.2.1"
        assert await notified(phone) == ("terminated", "SIP/2.0 200 OK")
        bye = await phone.request()
        assert bye.method == "BYE"
        await phone.reply(bye)
        event = leg.events.receive_nowait()
        assert isinstance(event, MediaChanged)
        assert (event.agreement.remote, leg.call_id) == ((OTHER, 7000), phone.call_id)
        assert (event.source, event.is_trusted) == ((OTHER, 5060), False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leg.hang_up, "over")
            bye = await other.request()
            assert (bye.method, bye.call_id) == ("BYE", invite.call_id)
            await other.reply(bye)
        assert agent.statistics().legs == 0


async def test_a_target_that_refuses_leaves_the_call_as_it_was(autojump_clock: MockClock) -> None:
    async with user_agent(SETTINGS) as (agent, phone), another_phone(OTHER) as other:
        leg = await phone.connect(agent)
        assert await refer(phone) == 202
        await notified(phone)
        invite = await other.request()
        await other.reply(invite, 486, tag="bob")
        assert await notified(phone) == ("terminated", "SIP/2.0 486 Busy Here")
        assert (await phone.ask(phone.write("OPTIONS", cseq=3))).status == 200
        with pytest.raises(trio.WouldBlock):
            leg.events.receive_nowait()
        assert await refer(phone, cseq=4) == 202  # and may be asked again


async def test_a_target_that_never_answers_is_given_up(autojump_clock: MockClock) -> None:
    async with user_agent(SETTINGS) as (agent, phone):
        await phone.connect(agent)
        assert await refer(phone) == 202
        await notified(phone)
        assert await notified(phone) == ("terminated", "SIP/2.0 408 Request Timeout")


async def test_a_target_without_the_codec_of_the_call_is_hung_up(autojump_clock: MockClock) -> None:
    async with user_agent(SETTINGS) as (agent, phone), another_phone(OTHER) as other:
        await phone.connect(agent)
        assert await refer(phone) == 202
        await notified(phone)
        await answer_call(other, formats="18")
        assert (await other.request()).method == "BYE"
        assert await notified(phone) == ("terminated", "SIP/2.0 488 Not Acceptable Here")


async def test_the_replaces_of_a_refer_to_goes_into_the_invite(autojump_clock: MockClock) -> None:
    async with user_agent(SETTINGS) as (agent, phone), another_phone(OTHER) as other:
        await phone.connect(agent)
        assert await refer(phone, refer_to=f"{URI}?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2") == 202
        invite = await other.request()
        assert (invite.header("Replaces"), invite.header("Require")) == ("a@b;to-tag=1;from-tag=2", "replaces")


async def test_who_wants_no_notify_gets_none(autojump_clock: MockClock) -> None:
    async with user_agent(SETTINGS) as (agent, phone), another_phone(OTHER) as other:
        await phone.connect(agent)
        request = phone.write("REFER", b"", f"Refer-To: <{URI}>", "Refer-Sub: false", cseq=2)
        answer = await phone.ask(request)
        assert (answer.status, answer.header("Refer-Sub")) == (202, "false")
        await answer_call(other)
        assert (await phone.request()).method == "BYE"


@pytest.mark.parametrize("answers", [True, False])
async def test_a_caller_that_hangs_up_after_its_refer_leaves_the_target_to_us(
    answers: bool, autojump_clock: MockClock
) -> None:
    async with user_agent(SETTINGS) as (agent, phone), another_phone(OTHER) as other:
        leg = await phone.connect(agent)
        assert await refer(phone) == 202
        await notified(phone)
        assert (await phone.ask(phone.write("BYE", cseq=3))).status == 200
        if answers:
            await answer_call(other)
            await trio.sleep(0.1)
            assert isinstance(leg.events.receive_nowait(), MediaChanged)
            assert (agent.statistics().legs, leg.agreement.remote) == (1, (OTHER, 7000))
        else:
            await other.reply(await other.request(), 404, tag="bob")
            assert [event async for event in leg.events] == [HungUp()]
            assert agent.statistics().legs == 0


async def test_our_hanging_up_cancels_what_is_followed(autojump_clock: MockClock) -> None:
    async with user_agent(SETTINGS) as (agent, phone), another_phone(OTHER) as other:
        leg = await phone.connect(agent)
        assert await refer(phone) == 202
        await notified(phone)
        invite = await other.request()
        await other.reply(invite, 180, tag="bob")
        await trio.sleep(0.1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leg.hang_up, "over")
            bye = await phone.request()
            assert bye.method == "BYE"
            await phone.reply(bye)
        assert (await other.request()).method == "CANCEL"
        assert [event async for event in leg.events] == []


async def test_a_second_refer_meanwhile_is_put_off(autojump_clock: MockClock) -> None:
    async with user_agent(SETTINGS) as (agent, phone):
        await phone.connect(agent)
        assert await refer(phone) == 202
        await notified(phone)
        assert await refer(phone, cseq=3) == 500


async def test_outside_a_call_nobody_is_called(autojump_clock: MockClock) -> None:
    async with user_agent(SETTINGS) as (_, phone), another_phone(OTHER) as other:
        assert await refer(phone) == 603
        assert await other.hears_nothing(3)


async def test_who_does_not_know_the_subscription_any_more_gets_no_further_notify(autojump_clock: MockClock) -> None:
    """RFC 6665 section 4.2.2."""
    async with user_agent(SETTINGS) as (agent, phone), another_phone(OTHER) as other:
        await phone.connect(agent)
        assert await refer(phone) == 202
        await phone.reply(await phone.request(), 481)
        await answer_call(other)
        request = await phone.request()
        assert request.method == "BYE"
        await phone.reply(request)


async def test_a_call_that_nobody_serves_any_more_is_not_handed_over(autojump_clock: MockClock) -> None:
    """MediaChanged could not be told, and its audio would go on to whom the call has left."""
    async with user_agent(SETTINGS) as (agent, phone), another_phone(OTHER) as other:
        await phone.connect(agent)
        assert await refer(phone) == 202
        await notified(phone)
        for number in range(EVENTS):
            await phone.send(phone.write("INFO", b"5", cseq=20 + number, content_type="application/dtmf"))
        while not await phone.hears_nothing(0.1):  # the last of them is 500
            pass
        await answer_call(other)
        bye = await other.request()
        assert bye.method == "BYE"
        await other.reply(bye)
        notify = await phone.request()
        assert notify.body.startswith(b"SIP/2.0 503")
        await phone.reply(notify)
        assert agent.statistics().legs == 1
