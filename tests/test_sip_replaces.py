"""Replaces, RFC 3891: read and written, and a call of ours that goes on with somebody else."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from sip_phone import RTP, Phone, another_phone, sdp, user_agent
from trio.testing import MockClock

from aivc.config.secret import Secret
from aivc.config.settings import SipSettings, SipUser
from aivc.sip.address import parse_name_addr
from aivc.sip.digest import answer_challenge, parse_challenge
from aivc.sip.inspection import Refusal
from aivc.sip.leg import HungUp, Leg, MediaChanged
from aivc.sip.message import Headers
from aivc.sip.replacing import Replaces, parse_replaces, read_replaces, refer_to_with, unescape_header
from aivc.sip.scanner import AddressError
from aivc.sip.useragent import UserAgent

OTHER = "192.0.2.77"


def replaces_field(phone: Phone, *, swapped: bool = False, more: str = "") -> str:
    """What somebody is told who is to replace that phone in its call."""
    ours, theirs = (phone.tag, phone.to_tag) if swapped else (phone.to_tag, phone.tag)
    return f"Replaces: {phone.call_id};to-tag={ours};from-tag={theirs}{more}"


def test_it_is_read_with_its_parameters_in_any_order() -> None:
    text = "425928@bobster.example.org;from-tag=6472;other=x;to-tag=7743;early-only"
    assert parse_replaces(text) == Replaces("425928@bobster.example.org", "7743", "6472", early_only=True)


@pytest.mark.parametrize(
    "text", ["", "a@b", "a@b;to-tag=1", ";to-tag=1;from-tag=2", "a b;to-tag=1;from-tag=2", "a;to-tag=1;from-tag=2,b"]
)
def test_what_names_no_dialog_is_an_error(text: str) -> None:
    with pytest.raises(AddressError):
        parse_replaces(text)


def test_two_of_them_are_refused() -> None:
    one = ("Replaces", "a;to-tag=1;from-tag=2")
    assert isinstance(refusal := read_replaces(Headers((one, one))), Refusal)
    assert refusal.status == 400
    assert read_replaces(Headers()) is None


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=";,"), min_size=1))
def test_what_is_written_into_a_refer_to_is_read_back(call_id: str) -> None:
    wanted = Replaces(call_id, "to", "from")
    value = refer_to_with("sip:bob@192.0.2.77", wanted)
    uri = parse_name_addr(value).uri
    name, _, escaped = str(uri).partition("?")[2].partition("=")
    assert (name, unescape_header(escaped)) == ("Replaces", str(wanted))


@pytest.mark.parametrize("text", ["%0d%0aX", "%", "%4", "%zz", "%00"])
def test_no_control_character_comes_out_of_an_escaped_header(text: str) -> None:
    with pytest.raises(AddressError):
        unescape_header(text)


async def took_over(agent: UserAgent, phone: Phone, other: Phone, leg: Leg, answered: int) -> None:
    """The call goes on with the other phone, and the first one was hung up."""
    bye = await phone.request()
    assert (bye.method, bye.header("Reason")) == ("BYE", 'SIP;cause=200;text="replaced by another call"')
    await phone.reply(bye)
    event = leg.events.receive_nowait()
    assert isinstance(event, MediaChanged)
    assert event.agreement.remote == (OTHER, 7000)
    assert leg.agreement == event.agreement
    assert leg.call_id == phone.call_id
    with pytest.raises(trio.WouldBlock):
        agent.legs.receive_nowait()
    assert agent.statistics().legs == 1
    assert (await other.ask(other.write("BYE", cseq=2))).status == 200
    assert [event async for event in leg.events] == [HungUp()]
    assert answered == 200


def offer_of_other(formats: str = "0 8") -> bytes:
    return sdp(f"m=audio 7000 RTP/AVP {formats}\r\n").replace(b"192.0.2.10", OTHER.encode())


@pytest.mark.parametrize("swapped", [False, True])
async def test_an_invite_with_replaces_takes_over_the_leg(swapped: bool, autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone), another_phone(OTHER) as other:
        leg = await phone.connect(agent)
        field = replaces_field(phone, swapped=swapped)
        answer = await other.ask(other.write("INVITE", offer_of_other("8 0"), field, "Require: replaces"))
        other.to_tag = answer.to.tag
        await other.ack()
        assert b"m=audio 40000 RTP/AVP 0\r\n" in answer.body  # our address and the codec of the call
        await took_over(agent, phone, other, leg, answer.status)


@pytest.mark.parametrize("trusted", [False, True])
async def test_the_media_is_told_whence_the_new_peer_signals_and_whether_it_is_trusted(
    trusted: bool, autojump_clock: MockClock
) -> None:
    settings = SipSettings(trusted=(f"{OTHER}/32",) if trusted else ())
    async with user_agent(settings) as (agent, phone), another_phone(OTHER) as other:
        leg = await phone.connect(agent)
        answer = await other.ask(other.write("INVITE", offer_of_other(), replaces_field(phone)))
        other.to_tag = answer.to.tag
        await other.ack()
        await phone.reply(await phone.request())
        event = leg.events.receive_nowait()
        assert event == MediaChanged(leg.agreement, (OTHER, 5060), trusted)


async def test_one_without_an_offer_gets_ours_of_the_codec_of_the_call(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone), another_phone(OTHER) as other:
        leg, _ = await phone.call(agent, sdp("m=audio 49170 RTP/AVP 8\r\n"))
        await phone.ack()
        answer = await other.ask(other.write("INVITE", b"", replaces_field(phone)))
        other.to_tag = answer.to.tag
        assert b"m=audio 40000 RTP/AVP 8 " in answer.body
        await other.ack(offer_of_other("8"))
        await phone.reply(await phone.request())
        events = [leg.events.receive_nowait() for _ in range(2)]
        assert [event.agreement.remote for event in events if isinstance(event, MediaChanged)] == [
            ("0.0.0.0", 0),
            (OTHER, 7000),
        ]


async def test_a_codec_that_cannot_stay_is_488_and_the_call_goes_on(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone), another_phone(OTHER) as other:
        leg = await phone.connect(agent)
        assert (await other.ask(other.write("INVITE", offer_of_other("8"), replaces_field(phone)))).status == 488
        assert (await phone.ask(phone.write("OPTIONS", cseq=2))).status == 200
        assert leg.agreement.remote == ("192.0.2.10", 49170)


@pytest.mark.parametrize(
    ("field", "status"),
    [
        ("Replaces: nobody;to-tag=1;from-tag=2", 481),
        ("Replaces: nonsense", 400),
        ("Replaces: a;to-tag=1;from-tag=2\r\nReplaces: b;to-tag=1;from-tag=2", 400),
    ],
)
async def test_what_cannot_be_replaced_is_refused(field: str, status: int, autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone), another_phone(OTHER) as other:
        await phone.connect(agent)
        assert (await other.ask(other.write("INVITE", offer_of_other(), field))).status == status
        assert agent.statistics().legs == 1


async def test_an_answered_call_is_486_for_early_only_and_one_that_is_over_603(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone), another_phone(OTHER) as other:
        await phone.connect(agent)
        early = replaces_field(phone, more=";early-only")
        assert (await other.ask(other.write("INVITE", offer_of_other(), early))).status == 486
        assert (await phone.ask(phone.write("BYE", cseq=2))).status == 200
        late = other.write("INVITE", offer_of_other(), replaces_field(phone), cseq=2)
        assert (await other.ask(late)).status == 603


async def test_a_call_that_we_have_not_answered_cannot_be_replaced(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone), another_phone(OTHER) as other:
        await phone.send(phone.write("INVITE", sdp()))
        leg = await agent.legs.receive()
        await leg.ring()
        phone.to_tag = [await phone.response(), await phone.response()][1].to.tag
        assert (await other.ask(other.write("INVITE", offer_of_other(), replaces_field(phone)))).status == 481
        await leg.answer(RTP)
        assert (await phone.response()).status == 200


async def test_where_calls_need_a_password_so_does_who_takes_one_over(autojump_clock: MockClock) -> None:
    """RFC 3891 section 8: Call-ID and tags are readable on the way."""
    settings = SipSettings(users=(SipUser(name="a", password=Secret("b")),), trusted=("192.0.2.10",))
    async with user_agent(settings) as (agent, phone), another_phone(OTHER) as other:
        leg = await phone.connect(agent)
        guess = other.write("INVITE", offer_of_other(), "Replaces: nobody;to-tag=1;from-tag=2")
        assert (await other.ask(guess)).status == 401
        asked = await other.ask(other.write("INVITE", offer_of_other(), replaces_field(phone), cseq=2))
        assert asked.status == 401
        challenge = parse_challenge(asked.header("WWW-Authenticate"))
        assert challenge is not None
        given = answer_challenge(
            challenge, username="a", password="b", method="INVITE", uri="sip:100@192.0.2.1", body=b"", cnonce="c", nc=1
        )
        proof = (replaces_field(phone), f"Authorization: {given}")
        answer = await other.ask(other.write("INVITE", offer_of_other(), *proof, cseq=3))
        other.to_tag, other.cseq = answer.to.tag, 3
        await other.ack()
        await phone.reply(await phone.request())
        assert leg.agreement.remote == (OTHER, 7000)


async def test_the_leg_hangs_up_whom_it_talks_to_now(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone), another_phone(OTHER) as other, trio.open_nursery() as nursery:
        leg = await phone.connect(agent)
        answer = await other.ask(other.write("INVITE", offer_of_other(), replaces_field(phone)))
        other.to_tag = answer.to.tag
        await other.ack()
        old = await phone.request()
        assert (await phone.ask(phone.write("BYE", cseq=2))).status == 481  # it is nobody's any more
        await phone.reply(old)
        nursery.start_soon(leg.hang_up, "over")
        bye = await other.request()
        assert (bye.method, bye.call_id) == ("BYE", other.call_id)
        await other.reply(bye)
