"""A UA session from its beginning to its ends: what OpenSIPS is told, and what the call hears."""

from __future__ import annotations

import pytest
import trio
from session_leg_parts import (
    CALL_ID,
    EVENTS,
    KEY,
    LOCAL,
    PaperCommands,
    ack,
    ended,
    event,
    invite,
    open_board,
    open_session,
    refusal_of,
    request,
    response,
    settle,
)
from trio.testing import MockClock

from aivc.sip.leg import Cancelled, HungUp, Leg, Rejection, SessionExpired, SignallingFailed
from aivc.sip.session_leg import receive_session
from aivc.sip.uasession import EventError


async def test_a_leg_tells_who_calls_whom_from_where_and_with_what(autojump_clock: MockClock) -> None:
    asserted = ("P-Asserted-Identity", "<sip:boss@example.com>")
    async with open_session(invite(asserted, ("X-Customer", "7"), extra_params='{"flavor": "openai"}')) as session:
        leg: Leg = session.leg
        assert (leg.call_id, leg.caller, leg.dialled) == (CALL_ID, "sip:boss@example.com", "openai")
        assert leg.source == ("192.0.2.9", 5060)
        assert leg.is_trusted
        assert leg.headers["x-customer"] == "7"
        assert leg.extra_params == '{"flavor": "openai"}'
        assert (leg.agreement.codec, leg.agreement.remote) == ("PCMU", ("192.0.2.9", 40000))
        assert session.paper.told == []


async def test_ringing_sends_180_without_a_body_or_fields(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.leg.ring()
        await session.leg.ring()
        assert session.paper.told == ["reply INVITE 180", "reply INVITE 180"]
        assert "body" not in session.paper.params("reply INVITE 180")


async def test_the_answer_has_sdp_a_whole_content_type_line_and_what_we_can_do(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.leg.answer(LOCAL)
        params = session.paper.params("reply INVITE 200")
        assert params["key"] == KEY
        assert params["content_type"] == "Content-Type: application/sdp\r\n"
        assert f"m=audio {LOCAL[1]} RTP/AVP 0 101\r\n" in params["body"]
        fields = session.paper.fields("reply INVITE 200")
        assert fields == ["Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, NOTIFY, UPDATE", "Supported: timer"]


async def test_a_leg_is_answered_once_and_rings_no_more(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.leg.answer(LOCAL)
        await session.leg.answer(LOCAL)
        await session.leg.ring()
        await session.leg.reject(Rejection(486, "late"))
        assert session.paper.told == ["reply INVITE 200"]


async def test_a_rejection_says_its_cause_and_frees_the_session(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.leg.reject(Rejection(503, "no model", retry_after_seconds=5))
        assert session.paper.told == ["reply INVITE 503", "terminate"]
        assert session.paper.fields("reply INVITE 503") == [
            f'Warning: 399 {EVENTS[0]} "no model"',
            'Reason: SIP;cause=503;text="no model"',
            "Reason: Q.850;cause=41",
            "Retry-After: 5",
        ]
        params = session.paper.params("reply INVITE 503")
        assert (params["body"], params["content_type"]) == ("", "")  # fields without a body would be memory of OpenSIPS
        assert params["reason"] == "Service Unavailable"
        assert session.paper.forgotten == [KEY]
        assert await session.last_event() is None


async def test_an_opensips_that_is_silent_does_not_hold_up_a_rejection(autojump_clock: MockClock) -> None:
    async with open_session(hang_up_seconds=2.0) as session:
        session.paper.unanswered |= {"reply INVITE 486", "terminate"}
        began = trio.current_time()
        await session.leg.reject(Rejection(486, "busy"))
        assert trio.current_time() - began == 2.0
        await trio.sleep(10)
        assert session.paper.forgotten == [KEY]


async def test_a_cancelled_call_gets_487_and_is_freed(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.say(ended("CANCEL"))
        assert session.paper.told == ["reply INVITE 487", "terminate"]
        assert await session.last_event() == Cancelled()
        assert session.paper.forgotten == [KEY]
        await session.leg.answer(LOCAL)
        await session.leg.hang_up("late")
        assert session.paper.told == ["reply INVITE 487", "terminate"]


async def test_a_cancel_during_our_answer_gets_487_after_it(autojump_clock: MockClock) -> None:
    async with open_session() as session, trio.open_nursery() as nursery:
        session.paper.seconds = 0.3
        session.paper.refused |= {"reply INVITE 200"}
        nursery.start_soon(session.leg.answer, LOCAL)
        await trio.sleep(0.1)
        session.leg.take(ended("CANCEL"))
        assert await session.last_event() == Cancelled()
        await trio.sleep(1)
        assert session.paper.told == ["reply INVITE 200", "reply INVITE 487", "terminate"]
        assert session.paper.forgotten == [KEY]


async def test_the_event_of_a_cancel_may_come_after_the_refusal_of_our_answer(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        session.paper.refused |= {"reply INVITE 200"}
        await session.leg.answer(LOCAL)
        await trio.sleep(0.05)
        session.leg.take(ended("CANCEL"))
        assert await session.last_event() == Cancelled()
        await settle()
        assert session.paper.told == ["reply INVITE 200", "reply INVITE 487", "terminate"]
        assert session.paper.forgotten == [KEY]


async def test_a_cancel_that_crosses_our_answer_hangs_up_and_frees_the_session(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.leg.answer(LOCAL)
        await session.say(ended("CANCEL"))
        assert await session.last_event() == HungUp()
        assert session.paper.told == ["reply INVITE 200", "terminate"]
        assert session.paper.forgotten == [KEY]


async def test_an_answer_that_opensips_refuses_ends_the_leg_and_frees_the_session(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        session.paper.refused |= {"reply INVITE 200"}
        await session.leg.answer(LOCAL)
        last = await session.last_event()
        assert isinstance(last, SignallingFailed)
        assert "500 Failed" in last.cause
        await settle()
        assert session.paper.told == ["reply INVITE 200", "reply INVITE 500", "terminate"]
        assert session.paper.forgotten == [KEY]


async def test_an_answer_without_an_answer_ends_the_leg(autojump_clock: MockClock) -> None:
    """Whether it went out is not known: a refusal after a 2xx does nothing, and terminate then says BYE."""
    async with open_session() as session:
        session.paper.unanswered |= {"reply INVITE 200"}
        await session.leg.answer(LOCAL)
        assert isinstance(await session.last_event(), SignallingFailed)
        await settle()
        assert session.paper.told == ["reply INVITE 200", "reply INVITE 500", "terminate"]


async def test_an_answer_whose_wait_is_cancelled_goes_out_all_the_same(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        session.paper.seconds = 1.0
        with trio.move_on_after(0.1):
            await session.leg.answer(LOCAL)
        session.leg.take(ack())
        await session.leg.hang_up("the call was cancelled")
        await trio.sleep(5)
        assert session.paper.told == ["reply INVITE 200", "update BYE", "terminate"]


async def test_a_bye_ends_the_leg_and_nothing_is_sent(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.answer()
        await session.say(ended("BYE"))
        assert await session.last_event() == HungUp()
        assert session.paper.told == ["reply INVITE 200"]
        assert session.paper.forgotten == [KEY]
        await session.leg.hang_up("late")
        assert session.paper.told == ["reply INVITE 200"]


async def test_a_bye_while_a_request_waits_for_its_answer_may_not_have_freed_the_session(
    autojump_clock: MockClock,
) -> None:
    async with open_session() as session:
        await session.answer()
        session.leg.take(request("INFO", ("Content-Type", "text/plain"), body=b"?"))
        session.leg.take(ended("BYE"))
        assert await session.last_event() == HungUp()
        await settle()
        assert session.paper.told[1:] == ["reply INFO 415", "terminate"]
        assert session.paper.forgotten == [KEY]


async def test_hanging_up_sends_a_bye_with_its_reason_and_returns_with_its_answer(autojump_clock: MockClock) -> None:
    async with open_session(bye_headers={"X-Agent": "7"}) as session, trio.open_nursery() as nursery:
        await session.answer()
        nursery.start_soon(session.leg.hang_up, "the talk is over", (("X-Result", "sold"),))
        await settle()
        assert session.paper.fields("update BYE") == [
            'Reason: SIP;cause=200;text="the talk is over"',
            "Reason: Q.850;cause=16",
            "X-Agent: 7",
            "X-Result: sold",
        ]
        assert session.paper.params("update BYE")["body"] == ""
        session.leg.take(response("BYE", 200, "OK"))
        assert await session.last_event() is None
        assert session.paper.told[1:] == ["update BYE"]  # its answer has freed the session
        assert session.paper.forgotten == [KEY]


async def test_a_bye_that_nobody_answers_is_given_up_and_the_session_freed(autojump_clock: MockClock) -> None:
    async with open_session(hang_up_seconds=1.5) as session:
        await session.answer()
        began = trio.current_time()
        await session.leg.hang_up("the talk is over")
        assert trio.current_time() - began == 1.5
        await settle()
        assert session.paper.told[1:] == ["update BYE", "terminate"]
        assert session.paper.forgotten == [KEY]


@pytest.mark.parametrize("failure", ["refused", "unanswered"])
async def test_a_bye_that_opensips_does_not_take_is_left_to_terminate(autojump_clock: MockClock, failure: str) -> None:
    async with open_session() as session:
        await session.answer()
        getattr(session.paper, failure).add("update BYE")
        await session.leg.hang_up("the talk is over")
        await trio.sleep(5)
        assert session.paper.told[1:] == ["update BYE", "terminate"]  # and the BYE not again
        assert session.paper.forgotten == [KEY]


async def test_the_callers_bye_during_ours_ends_the_wait(autojump_clock: MockClock) -> None:
    async with open_session() as session, trio.open_nursery() as nursery:
        await session.answer()
        nursery.start_soon(session.leg.hang_up, "the talk is over")
        await settle()
        session.leg.take(ended("BYE"))
        assert await session.last_event() == HungUp()
        await trio.sleep(5)
        assert session.paper.told[1:] == ["update BYE"]
        assert session.paper.forgotten == [KEY]


async def test_a_hang_up_whose_wait_is_cancelled_says_bye_all_the_same(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.leg.answer(LOCAL)
        session.paper.state = 4
        with trio.move_on_after(0.1):
            await session.leg.hang_up("the talk is over")
        assert await session.last_event() is None
        session.leg.take(ack())
        await trio.sleep(5)
        assert session.paper.told[-2:] == ["update BYE", "terminate"]


async def test_before_the_answer_there_is_nothing_to_hang_up_or_transfer(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.leg.hang_up("too early")
        outcome = await session.leg.refer("sip:bob@example.com", "sip:openai@192.0.2.5", 5.0)
        assert (outcome.status, outcome.text) == (None, "there is no call to transfer")
        assert session.paper.told == []


async def test_a_lost_session_ends_the_leg_and_nothing_is_sent(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.answer()
        session.leg.lose("OpenSIPS does not have the session any more")
        assert await session.last_event() == SessionExpired("OpenSIPS does not have the session any more")
        await session.leg.hang_up("late")
        session.leg.lose("again")
        session.leg.close()
        assert session.paper.told == ["reply INVITE 200"]
        assert session.paper.forgotten == [KEY]


async def test_a_front_end_that_ends_closes_its_legs_without_a_word(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        session.leg.close()
        assert await session.last_event() is None
        await settle()
        assert session.paper.told == []
        assert session.leg.is_over
        assert not session.leg.is_unanswered


async def test_a_front_end_that_ends_leaves_nobody_waiting(autojump_clock: MockClock) -> None:
    async with open_session() as session, trio.open_nursery() as nursery:
        session.paper.seconds = 1000.0
        nursery.start_soon(session.leg.ring)
        nursery.start_soon(session.leg.answer, LOCAL)
        await settle()
        session.board.tasks.cancel_scope.cancel()


async def test_an_event_after_the_end_says_nothing(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.answer()
        await session.say(ended("BYE"))
        for late in (request("OPTIONS"), ended("BYE"), response("BYE", 200, "OK"), ack()):
            await session.say(late)
        assert session.paper.told == ["reply INVITE 200"]
        assert session.board.counts.stray == 4


async def test_a_bug_in_one_command_does_not_stop_those_after_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_session() as session:
        session.paper.broken |= {"reply INVITE 180"}
        await session.leg.ring()
        await session.leg.answer(LOCAL)
        assert session.paper.told == ["reply INVITE 180", "reply INVITE 200"]
        assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == ["sip.bug"]


async def test_an_invite_without_usable_audio_is_refused_with_488(autojump_clock: MockClock) -> None:
    body = b"v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 40000 RTP/AVP 9\r\n"
    refusal = await refusal_of(invite(body=body))
    assert refusal.status == 488
    assert refusal.headers[0][0] == "Warning"


async def test_an_invite_with_a_body_that_is_no_sdp_is_refused_with_415(autojump_clock: MockClock) -> None:
    refusal = await refusal_of(invite(("Content-Type", "text/plain"), body=b"hello"))
    assert (refusal.status, refusal.headers) == (415, (("Accept", "application/sdp"),))


async def test_an_invite_with_broken_sdp_is_refused_with_400(autojump_clock: MockClock) -> None:
    assert (await refusal_of(invite(body=b"v=0\r\nm=audio x RTP/AVP 0\r\n"))).status == 400


@pytest.mark.parametrize("option", ["100rel", "replaces", "outbound"])
async def test_an_invite_that_requires_what_opensips_does_not_hand_through_is_refused(
    autojump_clock: MockClock, option: str
) -> None:
    refusal = await refusal_of(invite(("Require", option)))
    assert (refusal.status, refusal.headers) == (420, (("Unsupported", option),))


async def test_an_invite_with_a_session_timer_that_is_too_short_is_refused_with_422(autojump_clock: MockClock) -> None:
    refusal = await refusal_of(invite(("Supported", "timer"), ("Session-Expires", "60")))
    assert (refusal.status, refusal.headers) == (422, (("Min-SE", "90"),))


async def test_an_event_without_what_every_request_has_is_no_invite(autojump_clock: MockClock) -> None:
    async with open_board(PaperCommands()) as board:
        with pytest.raises(EventError):
            receive_session(board, event("NEW", "INVITE", ("Call-ID", "")))
