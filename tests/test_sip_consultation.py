"""Attended transfer: a call of ours to the target, and a REFER that has the caller take our place in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from sip_phone import Phone, another_phone, sdp, user_agent
from test_sip_following import OTHER, URI, answer_call
from trio.testing import MockClock

from aivc.config.settings import Address, SipSettings
from aivc.sip.leg import Consultation, ConsultationFailed, DigitPressed, HungUp, Leg, MediaChanged, ReferOutcome
from aivc.sip.message import Request
from aivc.sip.replacing import parse_replaces, unescape_header
from aivc.sip.useragent import UserAgent

BY = "sip:100@192.0.2.1"
LOCAL: Address = ("192.0.2.1", 40_002)


@asynccontextmanager
async def consulted(
    settings: SipSettings | None = None,
) -> AsyncIterator[tuple[UserAgent, Phone, Phone, Leg, Consultation, Request]]:
    """A call, and one of ours to somebody else that was answered."""
    async with user_agent(settings) as (agent, phone), another_phone(OTHER) as other:
        leg = await phone.connect(agent)
        found: list[Consultation] = []
        async with trio.open_nursery() as nursery:

            async def consult() -> None:
                found.append(await leg.consult(URI, LOCAL, 20))

            nursery.start_soon(consult)
            invite = await answer_call(other)
        other.call_id, other.tag, other.to_tag = invite.call_id, "bob", invite.sender.tag
        yield agent, phone, other, leg, found[0], invite


async def test_the_target_is_called_with_the_codec_of_the_call(autojump_clock: MockClock) -> None:
    async with consulted() as (_, phone, _other, leg, consultation, invite):
        assert invite.target == URI
        assert b"m=audio 40002 RTP/AVP 0 101\r\n" in invite.body
        assert invite.headers.items("Supported") == ["100rel", "replaces", "timer"]
        assert invite.header("Session-Expires") == "1800"
        assert (consultation.agreement.remote, leg.agreement.remote) == ((OTHER, 7000), ("192.0.2.10", 49170))
        assert (await phone.ask(phone.write("OPTIONS", cseq=2))).status == 200


async def test_the_second_call_is_a_call_like_any_other(autojump_clock: MockClock) -> None:
    async with consulted() as (agent, _phone, other, _leg, consultation, _invite):
        other.contact = f"<sip:bob@{OTHER}>"
        held = sdp("m=audio 7000 RTP/AVP 0\r\na=sendonly\r\n", 2)
        assert (await other.ask(other.write("INVITE", held, cseq=11))).status == 200
        await other.send(other.write("ACK", cseq=11))
        key = other.write("INFO", b"5", cseq=12, content_type="application/dtmf")
        assert (await other.ask(key)).status == 200
        assert (await other.ask(other.write("BYE", cseq=13))).status == 200
        changed, digit, end = [event async for event in consultation.events]
        assert isinstance(changed, MediaChanged)
        assert (changed.agreement.may_send, digit, end) == (False, DigitPressed("5", 100), HungUp())
        assert agent.statistics().legs == 1


async def test_we_hang_it_up(autojump_clock: MockClock) -> None:
    async with consulted() as (_, _phone, other, _leg, consultation, invite), trio.open_nursery() as nursery:
        nursery.start_soon(consultation.hang_up, "given up", (("X-Why", "no"),))
        bye = await other.request()
        assert (bye.method, bye.call_id, bye.header("X-Why")) == ("BYE", invite.call_id, "no")
        assert bye.header("From") == invite.header("From")
        await other.reply(bye)


@pytest.mark.parametrize(("status", "text"), [(486, "Whatever"), (603, "Whatever"), (302, "not followed")])
async def test_a_target_that_refuses_is_a_failure_and_the_call_goes_on(
    status: int, text: str, autojump_clock: MockClock
) -> None:
    async with user_agent() as (agent, phone), another_phone(OTHER) as other, trio.open_nursery() as nursery:
        leg = await phone.connect(agent)

        async def refuse() -> None:
            await other.reply(await other.request(), status, tag="bob")

        nursery.start_soon(refuse)
        with pytest.raises(ConsultationFailed, match=text) as failure:
            await leg.consult(URI, LOCAL, 20)
        assert failure.value.status == status
        assert (await phone.ask(phone.write("OPTIONS", cseq=2))).status == 200


async def test_a_target_that_finds_our_timer_too_short_is_called_without(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone), another_phone(OTHER) as other, trio.open_nursery() as nursery:
        leg = await phone.connect(agent)
        nursery.start_soon(leg.consult, URI, LOCAL, 20)
        first = await other.request()
        await other.reply(first, 422, "Min-SE: 3600", tag="bob")
        assert (await other.request()).method == "ACK"
        second = await answer_call(other)
        assert second.headers.get("Session-Expires") is None
        assert second.call_id != first.call_id


async def test_nobody_there_is_a_failure_in_time(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg = await phone.connect(agent)
        start = trio.current_time()
        with pytest.raises(ConsultationFailed) as failure:
            await leg.consult(URI, LOCAL, 7)
        assert failure.value.status is None
        assert trio.current_time() - start == pytest.approx(7)


@pytest.mark.parametrize("uri", ["", "bob", "http://x", "sip:a@b\r\nX: y", "sip:a@b?Route=x"])
async def test_a_uri_that_cannot_be_called_is_an_error(uri: str, autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg = await phone.connect(agent)
        with pytest.raises(ValueError, match="URI"):
            await leg.consult(uri, LOCAL, 20)


async def test_the_refer_names_the_call_to_replace_as_its_target_knows_it(autojump_clock: MockClock) -> None:
    async with consulted() as (_, phone, other, leg, consultation, _invite), trio.open_nursery() as nursery:
        outcomes: list[ReferOutcome] = []

        async def transfer() -> None:
            outcomes.append(await leg.refer(URI, BY, 20, fields=(("X-Note", "hot"),), replaces=consultation))

        nursery.start_soon(transfer)
        request = await phone.request()
        uri, _, headers = request.header("Refer-To").strip("<>").partition("?")
        assert uri == URI
        assert headers.startswith("Replaces=")
        replaces = parse_replaces(unescape_header(headers.removeprefix("Replaces=")))
        assert (replaces.call_id, replaces.to_tag, replaces.from_tag) == (other.call_id, "bob", other.to_tag)
        assert "replaces" in request.headers.items("Supported")
        assert request.header("X-Note") == "hot"
        await phone.reply(request, 202)
        frag = phone.write(
            "NOTIFY",
            b"SIP/2.0 200 OK\r\n",
            "Event: refer",
            "Subscription-State: terminated",
            cseq=2,
            content_type="message/sipfrag",
        )
        assert (await phone.ask(frag)).status == 200
        await trio.sleep(0.01)
        assert outcomes == [ReferOutcome(200, "OK", accepted=True)]


async def test_fields_that_would_smuggle_are_an_error_in_a_refer_and_left_out_of_a_bye(
    autojump_clock: MockClock,
) -> None:
    async with user_agent() as (agent, phone), trio.open_nursery() as nursery:
        leg = await phone.connect(agent)
        for name, value in (("X-A", "b\r\nX-Evil: 1"), ("To", "x"), ("a b", "c"), ("X-A", "x" * 2000)):
            with pytest.raises(ValueError, match=r"header field|belongs to the protocol"):
                await leg.refer(URI, BY, 20, fields=((name, value),))
        nursery.start_soon(leg.hang_up, "over", (("X-A", "b\r\nX-Evil: 1"), ("X-B", "gr\u00fc\u00dfe"), ("Route", "x")))
        bye = await phone.request()
        assert bye.method == "BYE"
        assert not [name for name, _ in bye.headers if name in ("X-A", "X-Evil", "Route")]
        assert bye.headers.joined()["x-b"] == "gr\u00fc\u00dfe"
        await phone.reply(bye)


async def test_a_telephone_number_may_be_the_target_of_an_attended_transfer(autojump_clock: MockClock) -> None:
    """A tel URI cannot hold Replaces (RFC 3966): the Contact of who answered does (RFC 5589 section 7.3)."""
    async with user_agent() as (agent, phone), trio.open_nursery() as nursery:
        leg = await phone.connect(agent)

        async def transfer() -> None:
            consultation = await leg.consult("tel:+15551234567", LOCAL, 20)
            await leg.refer("tel:+15551234567", BY, 5, replaces=consultation)

        nursery.start_soon(transfer)
        invite = await phone.request()  # a tel URI is called by way of whoever called us
        assert (invite.method, invite.target) == ("INVITE", "tel:+15551234567")
        await phone.reply(invite, 200, "Contact: <sip:carol@192.0.2.10>", tag="carol", body=sdp())
        assert (await phone.request()).method == "ACK"
        refer = await phone.request()
        assert refer.method == "REFER"
        assert refer.header("Refer-To").startswith("<sip:carol@192.0.2.10?Replaces=")
        await phone.reply(refer, 603)


async def test_a_bye_leaves_with_as_many_fields_as_one_datagram_may_have(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone), trio.open_nursery() as nursery:
        leg = await phone.connect(agent)
        fields = (("X-" + "a" * 70_000, "b"), *((f"X-{number}", "x" * 1000) for number in range(100)))
        nursery.start_soon(leg.hang_up, "over", fields)
        bye = await phone.request()
        assert [name for name, _ in bye.headers if name.startswith("X-")] == ["X-0", "X-1", "X-2", "X-3"]
        await phone.reply(bye)


@pytest.mark.parametrize("seconds", [0, 1])
async def test_a_session_shorter_than_any_may_be_does_not_end_our_call(seconds: int, autojump_clock: MockClock) -> None:
    """RFC 4028 section 5: 90 s is the least; a callee that says less must not have its call ended at once."""
    async with user_agent() as (agent, phone), another_phone(OTHER) as other:
        leg = await phone.connect(agent)
        async with trio.open_nursery() as nursery:

            async def consult() -> None:
                await leg.consult(URI, ("192.0.2.1", 40_002), 20)

            nursery.start_soon(consult)
            invite = await other.request()
            body = sdp("m=audio 7000 RTP/AVP 0\r\n").replace(b"192.0.2.10", OTHER.encode())
            expires = f"Session-Expires: {seconds};refresher=uac"
            await other.reply(invite, 200, f"Contact: <sip:bob@{OTHER}>", expires, tag="bob", body=body)
            assert (await other.request()).method == "ACK"
        assert await other.hears_nothing(30)


async def test_an_answer_beside_isup_parameters_is_found(autojump_clock: MockClock) -> None:
    """RFC 5621 and RFC 3204: a SIP-I trunk answers with multipart/mixed."""
    async with user_agent() as (agent, phone), another_phone(OTHER) as other:
        leg = await phone.connect(agent)
        found: list[Consultation] = []
        async with trio.open_nursery() as nursery:

            async def consult() -> None:
                found.append(await leg.consult(URI, ("192.0.2.1", 40_002), 20))

            nursery.start_soon(consult)
            invite = await other.request()
            audio = sdp("m=audio 7000 RTP/AVP 0\r\n").replace(b"192.0.2.10", OTHER.encode())
            body = b"--b\r\nContent-Type: application/sdp\r\n\r\n" + audio
            body += b"\r\n--b\r\nContent-Type: application/isup\r\n\r\nx\r\n--b--\r\n"
            lines = [f"{n}: {v}" for n, v in invite.headers if n in ("Via", "From", "Call-ID", "CSeq")]
            lines += [f"To: {invite.header('To')};tag=bob", f"Contact: <sip:bob@{OTHER}>"]
            lines += ["Content-Type: multipart/mixed;boundary=b", f"Content-Length: {len(body)}"]
            await other.send("\r\n".join(["SIP/2.0 200 OK", *lines, "", ""]).encode() + body)
            assert (await other.request()).method == "ACK"
        assert found[0].agreement.remote == (OTHER, 7000)


async def test_a_second_try_without_a_timer_takes_no_more_time_than_was_given(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone), another_phone(OTHER) as other:
        leg = await phone.connect(agent)
        async with trio.open_nursery() as nursery:

            async def consult() -> None:
                begun = trio.current_time()
                try:
                    await leg.consult(URI, ("192.0.2.1", 40_002), 20)
                except ConsultationFailed:
                    assert trio.current_time() - begun < 20.5
                nursery.cancel_scope.cancel()

            nursery.start_soon(consult)
            invite = await other.request()
            await other.reply(invite, 180, tag="b")
            await trio.sleep(18)
            await other.reply(invite, 422, "Min-SE: 3600", tag="b")
            while True:
                request = await other.request(100)
                if request.method != "ACK":
                    await other.reply(request, 180 if request.method == "INVITE" else 200, tag="b")
