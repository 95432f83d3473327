"""Inside a dialog: re-INVITE (RFC 3261 section 14.2, RFC 3264 section 8), late offers, CSeq, and what is refused."""

from __future__ import annotations

import pytest
import trio
from sip_phone import sdp, user_agent
from trio.testing import MockClock

from aivc.sip import event_queue
from aivc.sip.leg import AckMissing, AudioAgreement, HungUp, MediaChanged, SignallingFailed

AGREED = AudioAgreement("PCMU", 0, ("192.0.2.10", 49170), 101)
TARGET = "sip:192.0.2.1:5060"


async def test_a_hold_and_its_end_are_answered_and_told(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg = await phone.connect(agent)
        body = "m=audio 49170 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"
        held = await phone.ask(phone.write("INVITE", sdp(body + "a=sendonly\r\n", 2), cseq=2, target=TARGET))
        phone.cseq = 2
        await phone.ack()
        assert b"a=recvonly" in held.body
        resumed = await phone.ask(phone.write("INVITE", sdp(body, 3), cseq=3, target=TARGET))
        phone.cseq = 3
        await phone.ack()
        assert b"a=sendrecv" in resumed.body
        events = [leg.events.receive_nowait() for _ in range(2)]
        assert events == [
            MediaChanged(AudioAgreement("PCMU", 0, ("192.0.2.10", 49170), 101, may_send=False)),
            MediaChanged(AGREED),
        ]
        assert leg.agreement == AGREED


async def test_a_reinvite_that_moves_the_media_and_drops_an_event_type_keeps_our_address(
    autojump_clock: MockClock,
) -> None:
    async with user_agent() as (agent, phone):
        leg, first = await phone.call(agent)
        await phone.ack()
        same = await phone.ask(phone.write("INVITE", sdp(), cseq=2))
        phone.cseq = 2
        await phone.ack()
        moved = await phone.ask(phone.write("INVITE", sdp("m=audio 6000 RTP/AVP 8 0\r\n", 2), cseq=3))
        phone.cseq = 3
        await phone.ack()
        assert same.body == first.body  # nothing new to say: the version stays (RFC 3264 section 8)
        assert moved.body.split(b"\r\n")[1].split(b" ")[2] == b"2"
        assert b"m=audio 40000 RTP/AVP 0\r\n" in moved.body
        assert leg.events.receive_nowait() == MediaChanged(AudioAgreement("PCMU", 0, ("192.0.2.10", 6000)))
        with pytest.raises(trio.WouldBlock):
            leg.events.receive_nowait()


async def test_a_reinvite_updates_the_remote_target(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone), trio.open_nursery() as nursery:
        leg = await phone.connect(agent)
        phone.contact = "<sip:moved@192.0.2.10>"
        await phone.ask(phone.write("INVITE", sdp()))
        await phone.ack()
        nursery.start_soon(leg.hang_up, "bye")
        bye = await phone.request()
        assert bye.target == "sip:moved@192.0.2.10"
        await phone.reply(bye)


async def test_a_reinvite_without_sdp_gets_an_offer_and_its_answer_counts(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg = await phone.connect(agent)
        offer = await phone.ask(phone.write("INVITE"))
        assert b"m=audio 40000 RTP/AVP 0 101\r\n" in offer.body
        await phone.ack(sdp("m=audio 7000 RTP/AVP 0\r\n", 2))
        assert leg.events.receive_nowait() == MediaChanged(AudioAgreement("PCMU", 0, ("192.0.2.10", 7000)))


async def test_an_unacceptable_reinvite_is_488_and_the_call_goes_on(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg = await phone.connect(agent)
        for number, body in enumerate(
            (sdp("m=audio 4000 RTP/AVP 18\r\n"), sdp("m=audio 4000 RTP/SAVP 0\r\n"), b"junk"), 2
        ):
            answer = await phone.ask(phone.write("INVITE", body, cseq=number, branch=f"z9hG4bK-r{number}"))
            await phone.send(phone.write("ACK", cseq=number, branch=f"z9hG4bK-r{number}"))
            assert answer.status == (400 if body == b"junk" else 488)
        assert (await phone.ask(phone.write("OPTIONS", cseq=9))).status == 200
        assert leg.agreement == AGREED


async def test_an_audio_stream_taken_away_leaves_a_silent_call(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg = await phone.connect(agent)
        answer = await phone.ask(phone.write("INVITE", sdp("m=audio 0 RTP/AVP 0\r\n", 2)))
        assert b"m=audio 0 RTP/AVP 0\r\n" in answer.body
        event = leg.events.receive_nowait()
        assert isinstance(event, MediaChanged)
        assert (event.agreement.remote[1], event.agreement.may_send) == (0, False)


async def test_a_second_invite_before_the_ack_of_the_first_is_500_and_the_first_unharmed(
    autojump_clock: MockClock,
) -> None:
    async with user_agent() as (agent, phone):
        leg = await phone.connect(agent)
        assert (await phone.ask(phone.write("INVITE", sdp("m=audio 6000 RTP/AVP 0\r\n", 2)))).status == 200
        second = await phone.ask(
            phone.write("INVITE", sdp("m=audio 6002 RTP/AVP 0\r\n", 3), cseq=3, branch="z9hG4bK-second")
        )
        assert second.status == 500
        assert 0 <= int(second.header("Retry-After")) <= 10
        await phone.send(phone.write("ACK", cseq=3, branch="z9hG4bK-second"))
        await phone.ack()
        assert await phone.hears_nothing(40)
        assert leg.agreement.remote == ("192.0.2.10", 6000)


async def test_a_reinvite_that_is_never_acknowledged_ends_the_call(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg = await phone.connect(agent)
        await phone.send(phone.write("INVITE", sdp()))
        assert [await leg.events.receive()] == [AckMissing(TARGET)]


async def test_events_that_nobody_takes_are_refused_and_the_end_is_still_told(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg = await phone.connect(agent)
        statuses = []
        for number in range(2, 2 + event_queue.EVENTS):
            body = sdp(f"m=audio {6000 + number} RTP/AVP 0\r\n", number)
            answer = await phone.ask(phone.write("INVITE", body, cseq=number, branch=f"z9hG4bK-r{number}"))
            statuses.append(answer.status)
            await phone.send(phone.write("ACK", cseq=number, branch=f"z9hG4bK-r{number}"))
        assert statuses == [200] * (event_queue.EVENTS - 1) + [500]
        assert (await phone.ask(phone.write("BYE", cseq=99))).status == 200
        assert [event async for event in leg.events][-1] == HungUp()


async def test_a_late_offer_is_answered_in_the_ack(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg, offer = await phone.call(agent, b"")
        assert (leg.agreement.may_send, leg.agreement.codec) == (False, "PCMU")
        assert b"m=audio 40000 RTP/AVP 0 101\r\n" in offer.body
        await phone.ack(sdp("m=audio 49170 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"))
        assert await leg.events.receive() == MediaChanged(AudioAgreement("PCMU", 0, ("192.0.2.10", 49170), 101))


async def test_a_late_offer_without_a_usable_answer_ends_with_bye(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        leg, _ = await phone.call(agent, b"")
        await phone.ack()
        bye = await phone.request()
        assert bye.header("Reason").startswith("SIP;cause=488;")
        assert [event async for event in leg.events] == [SignallingFailed("unusable answer: no SDP came")]


async def test_a_lower_cseq_in_the_dialog_is_500(autojump_clock: MockClock) -> None:
    async with user_agent() as (agent, phone):
        phone.cseq = 10
        await phone.connect(agent)
        assert (await phone.ask(phone.write("OPTIONS", cseq=9))).status == 500
        assert (await phone.ask(phone.write("OPTIONS", cseq=12))).status == 200


@pytest.mark.parametrize(
    ("method", "status"),
    [
        *(("REFER", 603), ("INFO", 200), ("UPDATE", 200), ("PRACK", 481)),
        *(("MESSAGE", 405), ("NOTIFY", 489), ("OPTIONS", 200), ("NEW", 501)),
    ],
)
async def test_what_we_do_not_serve_in_a_dialog_is_refused_and_harms_nothing(
    method: str, status: int, autojump_clock: MockClock
) -> None:
    async with user_agent() as (agent, phone):
        leg = await phone.connect(agent)
        refer = "Refer-To: <sip:premium@192.0.2.66>"
        assert (await phone.ask(phone.write(method, b"", refer))).status == status
        assert await phone.hears_nothing(3)
        assert (await phone.ask(phone.write("BYE", cseq=3))).status == 200
        assert await leg.events.receive() == HungUp()
