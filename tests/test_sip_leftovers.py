"""What calls must not leave behind: dialogs that nobody hangs up, requests that nobody takes back."""

from __future__ import annotations

import trio
from sip_phone import RTP, Phone, another_phone, sdp, user_agent
from test_sip_following import OTHER, SETTINGS, answer_call, notified, refer
from test_sip_replaces import replaces_field
from trio.testing import MockClock

from aivc.config.settings import SipSettings
from aivc.sip.message import Request, Response, parse_untrusted

THIRD = "192.0.2.78"


async def hung_up(phone: Phone, seconds: float = 5.0) -> bool:
    """Whether a BYE comes; everything is answered."""
    with trio.move_on_after(seconds):
        while True:
            message = await phone.receive(100)
            if isinstance(message, Request):
                await phone.reply(message)
                if message.method == "BYE":
                    return True
    return False


async def test_a_hang_up_while_the_last_notify_is_open_ends_the_old_call_too(autojump_clock: MockClock) -> None:
    """RFC 3515: the transferor's dialog is ours to end; the service hangs up within `hang_up_seconds` of the answer."""
    async with user_agent(SETTINGS) as (agent, phone), another_phone(OTHER) as other:
        leg = await phone.connect(agent)
        assert await refer(phone) == 202
        await notified(phone)
        await answer_call(other)
        await trio.sleep(0.1)  # the NOTIFY with 200 is on its way and not answered
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leg.hang_up, "over")
            assert await hung_up(other)
        assert await hung_up(phone)
        assert agent.statistics().legs == 0


async def test_an_answer_in_the_step_of_the_hang_up_leaves_no_call(autojump_clock: MockClock) -> None:
    async with user_agent(SETTINGS) as (agent, phone), another_phone(OTHER) as other:
        leg = await phone.connect(agent)
        assert await refer(phone) == 202
        await notified(phone)
        invite = await other.request()
        head = [f"{n}: {v}" for n, v in invite.headers if n in ("Via", "From", "To", "Call-ID", "CSeq")]
        head[2] += ";tag=bob" if head[2].startswith("To") else ""
        lines = [line + (";tag=bob" if line.startswith("To:") and "tag" not in line else "") for line in head]
        body = sdp("m=audio 7000 RTP/AVP 0\r\n").replace(b"192.0.2.10", OTHER.encode())
        lines += [f"Contact: <sip:bob@{OTHER}>", "Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        answer = parse_untrusted("\r\n".join(["SIP/2.0 200 OK", *lines, "", ""]).encode() + body)
        assert isinstance(answer, Response)
        agent._reception.board.layer.receive_response(answer)  # in one step with
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hung_up, phone, 1.0)
            await leg.hang_up("over")
        assert await hung_up(other)
        assert agent.statistics().legs == 0


async def test_who_takes_a_call_over_while_its_refer_is_followed_is_hung_up_or_kept(autojump_clock: MockClock) -> None:
    """RFC 3891 and a REFER at once: of three dialogs one stays, and the others get BYE."""
    async with user_agent(SETTINGS) as (agent, phone), another_phone(OTHER) as other, another_phone(THIRD) as third:
        await phone.connect(agent)
        assert await refer(phone) == 202
        await notified(phone)
        invite = await other.request()
        answer = await third.ask(third.write("INVITE", sdp(), replaces_field(phone)))
        assert answer.status == 200
        third.to_tag = answer.to.tag
        await third.ack()
        assert await hung_up(phone)
        body = sdp("m=audio 7000 RTP/AVP 0\r\n").replace(b"192.0.2.10", OTHER.encode())
        await other.reply(invite, 200, f"Contact: <sip:bob@{OTHER}>", tag="bob", body=body)
        await trio.sleep(5)
        assert agent.statistics().legs == 1


async def test_a_refresh_that_is_never_finally_answered_is_forgotten_with_its_call(autojump_clock: MockClock) -> None:
    """RFC 3261 section 9.1: a pending re-INVITE is cancelled; else its transaction lives for ever."""
    settings = SipSettings(session_expires_seconds=90)
    async with user_agent(settings) as (agent, phone):
        await phone.send(phone.write("INVITE", sdp(), "Supported: timer"))
        leg = await agent.legs.receive()
        await leg.answer(RTP)
        await phone.response()
        answer = await phone.response()
        phone.to_tag = answer.to.tag
        await phone.ack()
        refresh = await phone.request(60)
        assert refresh.method == "INVITE"
        await phone.reply(refresh, 100)
        with trio.move_on_after(60):
            while True:
                message = await phone.receive(100)
                if isinstance(message, Request) and message.method == "BYE":
                    await phone.reply(message)
        await trio.sleep(60)
        assert agent.statistics().legs == 0
        assert agent.statistics().client_transactions == 0
