"""What the user agent answers to single requests, good and bad."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
from sip_phone import sdp, user_agent
from trio.testing import MockClock

from aivc.config.settings import SipSettings
from aivc.sip import reception, transaction_layer
from aivc.sip.leg import Rejection
from aivc.sip.message import Response, parse_untrusted

ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, NOTIFY, UPDATE, PRACK"


async def test_options_is_answered_with_what_we_can_do(autojump_clock: MockClock) -> None:
    async with user_agent() as (_, phone):
        answer = await phone.ask(phone.write("OPTIONS"))
        assert (answer.status, answer.call_id, str(answer.cseq)) == (200, phone.call_id, "1 OPTIONS")
        assert answer.to.tag
        assert answer.header("Allow") == ALLOW
        assert answer.header("Supported") == "100rel, replaces, timer"
        assert answer.header("Accept") == "application/sdp"


async def test_a_retransmitted_options_gets_the_same_octets_again(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        request = phone.write("OPTIONS")
        assert bytes(await phone.ask(request)) == bytes(await phone.ask(request))
        assert agent.statistics().server_transactions == 1
        await trio.sleep(32.1)
        assert agent.statistics().server_transactions == 0


async def test_options_says_503_while_no_calls_are_accepted(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        agent.accepting = False
        answer = await phone.ask(phone.write("OPTIONS"))
        assert (answer.status, answer.header("Retry-After")) == (503, "10")


async def test_an_answer_to_options_is_less_than_twice_the_request(autojump_clock: MockClock) -> None:
    async with user_agent() as (_, phone):
        request = (
            b"OPTIONS sip:192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10;rport;branch=z9hG4bKabcdefgh\r\n"
            b"Max-Forwards: 70\r\nTo: <sip:192.0.2.1>\r\nFrom: <sip:x@192.0.2.10>;tag=abcdefgh\r\n"
            b"Call-ID: abcdefghijkl\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        )
        assert len(bytes(await phone.ask(request))) < 2 * len(request)


@pytest.mark.parametrize("method", ["REGISTER", "SUBSCRIBE", "PUBLISH", "MESSAGE"])
async def test_a_known_method_that_we_do_not_serve_is_405_with_allow(method: str, autojump_clock: MockClock) -> None:
    async with user_agent() as (_, phone):
        answer = await phone.ask(phone.write(method))
        assert (answer.status, answer.header("Allow")) == (405, ALLOW)


@pytest.mark.parametrize(
    ("status", "request_options"),
    [
        (501, {"method": "FETCH"}),
        (481, {"method": "NOTIFY"}),
        (481, {"method": "INFO"}),
        (481, {"method": "PRACK"}),
        (481, {"method": "UPDATE"}),
        (603, {"method": "REFER"}),
        (481, {"method": "BYE"}),
        (481, {"method": "CANCEL"}),
        (416, {"method": "OPTIONS", "target": "nobodyKnows:this"}),
        (416, {"method": "INVITE", "target": "tel:+1212"}),
        (415, {"method": "INVITE", "body": b"x", "content_type": "text/plain"}),
        (400, {"method": "INVITE", "body": b"garbage"}),
        (488, {"method": "INVITE", "body": sdp("m=audio 49170 RTP/AVP 18\r\n")}),
    ],
)
async def test_a_request_that_fails_inspection_is_refused(
    status: int, request_options: dict[str, Any], autojump_clock: MockClock
) -> None:
    async with user_agent() as (agent, phone):
        answer = await phone.ask(phone.write(**request_options))
        assert answer.status == status
        assert answer.to.tag
        assert agent.statistics().refused == 1
        assert agent.statistics().legs == 0


async def test_a_refusal_of_content_says_what_is_taken(autojump_clock: MockClock) -> None:
    async with user_agent() as (_, phone):
        answer = await phone.ask(phone.write("INVITE", b"x", content_type="text/plain"))
        assert answer.header("Accept") == "application/sdp"
        answer = await phone.ask(phone.write("INVITE", sdp(), "Content-Encoding: gzip", cseq=2))
        assert (answer.status, answer.header("Accept-Encoding")) == (415, "identity")


async def test_a_required_extension_is_refused_by_name_and_one_for_proxies_is_not_ours(
    autojump_clock: MockClock,
) -> None:
    async with user_agent() as (_, phone):
        answer = await phone.ask(phone.write("OPTIONS", b"", "Require: 100rel, foo, timer, path"))
        assert (answer.status, answer.header("Unsupported")) == (420, "foo, path")
        answer = await phone.ask(
            phone.write("OPTIONS", b"", "Proxy-Require: foo", "Supported: bar", "Max-Forwards: 0", cseq=2)
        )
        assert answer.status == 200


async def test_an_unacceptable_offer_is_488_with_its_true_cause(autojump_clock: MockClock) -> None:
    async with user_agent() as (_, phone):
        answer = await phone.ask(phone.write("INVITE", sdp("m=audio 49170 RTP/SAVP 0\r\n")))
        assert (answer.status, answer.header("Warning")) == (
            488,
            '302 192.0.2.1 "only RTP/AVP is supported while rtp.srtp is off"',
        )


@pytest.mark.parametrize("address", ["255.255.255.255", "239.1.1.1", "127.0.0.1/0", "0.0.0.1"])
async def test_an_offer_that_aims_rtp_at_a_victim_is_refused(address: str, autojump_clock: MockClock) -> None:
    async with user_agent() as (_, phone):
        offer = sdp(f"m=audio 49170 RTP/AVP 0\r\nc=IN IP4 {address}\r\n")
        assert (await phone.ask(phone.write("INVITE", offer))).status == 488


async def test_an_offer_that_aims_rtp_at_our_own_sip_port_or_a_low_port_is_refused(autojump_clock: MockClock) -> None:
    async with user_agent() as (_, phone):
        for number, target in enumerate(("5060 RTP/AVP 0\r\nc=IN IP4 192.0.2.1", "53 RTP/AVP 0"), 1):
            assert (await phone.ask(phone.write("INVITE", sdp(f"m=audio {target}\r\n"), cseq=number))).status == 488


@pytest.mark.parametrize(("user", "status"), [("100", 200), ("%31%300", 200), ("101", 404), ("", 404)])
async def test_only_the_configured_numbers_are_called(user: str, status: int, autojump_clock: MockClock) -> None:
    async with user_agent(SipSettings(numbers=("100", "200"))) as (agent, phone):
        target = f"sip:{user}@192.0.2.1;x=y" if user else "sip:192.0.2.1"
        await phone.send(phone.write("INVITE", sdp(), target=target))
        first = await phone.response()
        assert first.status == (100 if status == 200 else status)
        if status == 200:
            assert (await agent.legs.receive()).dialled == "100"


async def test_options_without_a_user_is_a_ping_and_to_a_foreign_number_404(autojump_clock: MockClock) -> None:
    async with user_agent(SipSettings(numbers=("100",))) as (_, phone):
        assert (await phone.ask(phone.write("OPTIONS", target="sip:192.0.2.1"))).status == 200
        assert (await phone.ask(phone.write("OPTIONS", target="sip:999@192.0.2.1", cseq=2))).status == 404


@pytest.mark.parametrize("contact", ["<tel:+1>", "*", "<sip:a@b>;;"])
async def test_an_invite_without_a_usable_contact_is_400(contact: str, autojump_clock: MockClock) -> None:
    async with user_agent() as (_, phone):
        phone.contact = contact
        answer = await phone.ask(phone.write("INVITE", sdp()))
        assert answer.status == 400
        assert "Contact" in answer.reason


async def test_a_request_in_an_unknown_dialog_is_481_and_a_stray_ack_is_met_with_silence(
    autojump_clock: MockClock,
) -> None:
    async with user_agent() as (agent, phone):
        phone.to_tag = "unknown"
        for number, method in enumerate(("INVITE", "BYE", "OPTIONS"), 1):
            assert (await phone.ask(phone.write(method, cseq=number))).status == 481
        await phone.send(phone.write("ACK", cseq=9))
        await phone.ack()
        assert agent.statistics().stray_acks == 2


async def test_the_same_request_by_another_way_is_482(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg, _ = await phone.call(agent)
        await phone.ack()
        phone.to_tag = None
        assert (await phone.ask(phone.write("INVITE", sdp(), cseq=1, branch="z9hG4bK-other"))).status == 482
        assert leg.call_id == phone.call_id


async def test_stray_responses_are_dropped_and_counted(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        request = parse_untrusted(phone.write("BYE"))
        await phone.send(bytes(Response(status=200, reason="OK", headers=request.headers)))
        assert await phone.hears_nothing(1)
        assert agent.statistics().stray_responses == 1


async def test_a_service_that_takes_no_calls_makes_them_503(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        for number in range(reception.WAITING_LEGS):
            phone.call_id = f"call-{number}"
            await phone.send(phone.write("INVITE", sdp()))
            assert (await phone.response()).status == 100
        phone.call_id = "one too many"
        answer = await phone.ask(phone.write("INVITE", sdp()).replace(b"one too many", b"last"))
        assert (answer.status, answer.header("Retry-After")) == (503, "10")
        assert agent.statistics().legs == reception.WAITING_LEGS


async def test_a_flood_fills_a_bounded_table_and_calls_can_still_end(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction_layer, "MAX_TRANSACTIONS", 3)
    async with user_agent() as (agent, phone):
        await phone.connect(agent)
        tag, phone.to_tag = phone.to_tag, None
        statuses = [(await phone.ask(phone.write("OPTIONS", cseq=number))).status for number in range(10, 15)]
        assert statuses == [200, 200, 503, 503, 503]
        assert agent.statistics().server_transactions == 3
        phone.to_tag = tag
        assert (await phone.ask(phone.write("BYE", cseq=20))).status == 200


async def test_a_rejected_call_gets_its_cause_again_until_it_acknowledges(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        invite = phone.write("INVITE", sdp())
        await phone.send(invite)
        leg = await agent.legs.receive()
        await leg.reject(Rejection(503, 'we are "full"\r\nX: y', retry_after_seconds=30))
        assert (await phone.response()).status == 100
        answer = await phone.response()
        assert (answer.status, answer.header("Retry-After")) == (503, "30")
        assert answer.header("Warning") == '399 192.0.2.1 "we are \\"full\\"  X: y"'
        assert answer.header("Reason") == 'SIP;cause=503;text="we are \\"full\\"  X: y"'
        start = trio.current_time()
        assert bytes(await phone.response()) == bytes(answer)
        assert trio.current_time() - start == pytest.approx(0.5)
        assert bytes(await phone.ask(invite)) == bytes(answer)
        await phone.send(phone.write("ACK", branch="z9hG4bK-1"))
        assert await phone.hears_nothing(4)
        await trio.sleep(2)
        assert agent.statistics().server_transactions == agent.statistics().legs == 0
        await leg.answer(("192.0.2.1", 40_000))
        await leg.hang_up("too late")
        assert await phone.hears_nothing(1)


async def test_a_header_smuggled_into_a_uri_never_becomes_a_header(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        phone.contact = '"x\\" <y>" <sip:a%0d%0aX-Evil:1@192.0.2.10?X-Evil=1>'
        leg, answer = await phone.call(agent)
        await phone.ack()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leg.hang_up, "bye")
            bye = await phone.request()
            await phone.reply(bye)
        assert bye.target == "sip:a%0d%0aX-Evil:1@192.0.2.10"
        assert not [name for message in (answer, bye) for name, _ in message.headers if "evil" in name.lower()]


@pytest.mark.parametrize("seed", range(10))
async def test_damaged_requests_of_a_call_harm_nobody_else(seed: int, autojump_clock: MockClock) -> None:
    dice = random.Random(seed)
    settings = SipSettings(follow_refer=("sip:.*",))
    async with user_agent(settings) as (agent, phone):  # which checks at its end that no message met a bug
        await phone.connect(agent)
        methods = ("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REFER", "UPDATE", "PRACK", "INFO", "NOTIFY")
        extras = (
            *("Session-Expires: 100;refresher=uac", "Supported: timer, 100rel", "Require: 100rel", "RAck: 1 1 INVITE"),
            *("Refer-To: <sip:x@192.0.2.66?Replaces=a%3Bto-tag%3D1%3Bfrom-tag%3D2>", "Accept: text/plain"),
            *(f"Replaces: {phone.call_id};to-tag={phone.to_tag};from-tag={phone.tag}", "Content-Encoding: gzip"),
        )
        for number in range(200):
            tag, phone.to_tag = phone.to_tag, dice.choice((phone.to_tag, None))
            data = bytearray(
                phone.write(
                    dice.choice(methods),
                    dice.choice((sdp(), b"")),
                    *dice.sample(extras, dice.randint(0, 3)),
                    cseq=dice.choice((2, number)),
                )
            )
            phone.to_tag = tag
            for _ in range(dice.randint(1, 3)):
                position = dice.randrange(len(data))
                data[position : position + dice.randint(0, 2)] = dice.choice(
                    (b"", b"\r\n", b";", b",", b'"', b"\0", b"9")
                )
            await phone.send(bytes(data))
        await trio.sleep(0.1)
        while not await phone.hears_nothing(0.01):
            pass
        phone.call_id, phone.to_tag = "after-the-storm", None
        await phone.send(phone.write("OPTIONS"))
        while (answer := await phone.receive()).call_id != "after-the-storm":
            pass
        assert isinstance(answer, Response)
        assert answer.status == 200
