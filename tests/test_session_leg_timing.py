"""What does not come in time in a UA session: the ACK, a refresh, our own answer."""

from __future__ import annotations

import gc
import weakref
from math import inf

import pytest
import trio
from session_leg_parts import (
    KEY,
    LOCAL,
    PaperCommands,
    Session,
    ack,
    ended,
    invite,
    open_board,
    open_session,
    request,
    response,
    sdp,
    settle,
)
from trio.testing import MockClock

from aivc.sip.inspection import Refusal
from aivc.sip.leg import AckMissing, Cancelled, SessionExpired, SignallingFailed
from aivc.sip.message import Headers
from aivc.sip.session_deadlines import Lapse, SessionDeadlines, session_terms
from aivc.sip.session_leg import SessionLeg, receive_session
from aivc.sip.session_timer import Terms


def timer(*fields: tuple[str, str]) -> Headers:
    return Headers((("Supported", "timer"), *fields))


async def test_a_missing_ack_is_noticed_after_32_seconds_and_the_call_hung_up(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        session.paper.state = 4
        await session.leg.answer(LOCAL)
        assert not session.leg.acknowledged
        began = trio.current_time()
        assert isinstance(await session.last_event(), AckMissing)
        assert trio.current_time() - began == pytest.approx(32.0, abs=0.01)
        await settle()
        assert session.paper.told[1:] == ["list", "update BYE"]
        await session.say(response("BYE", 481, "Call/Transaction Does Not Exist"))
        assert session.paper.forgotten == [KEY]


async def test_an_ack_that_was_not_told_is_found_in_the_list(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        session.paper.state = 5
        await session.leg.answer(LOCAL)
        await trio.sleep(33)
        assert session.paper.told == ["reply INVITE 200", "list"]
        assert session.leg.acknowledged
        await trio.sleep(200)
        assert session.paper.told == ["reply INVITE 200", "list"]
        assert not session.leg.is_over


async def test_an_ack_that_was_told_is_not_looked_for(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.answer()
        assert session.leg.acknowledged
        await trio.sleep(100)
        assert session.paper.told == ["reply INVITE 200"]


async def test_an_ack_of_another_invite_is_none(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        session.paper.state = 4
        await session.leg.answer(LOCAL)
        await session.say(ack(7))
        assert isinstance(await session.last_event(), AckMissing)


async def test_a_session_that_is_gone_when_its_ack_is_looked_for_is_lost(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        session.paper.state = None
        await session.leg.answer(LOCAL)
        assert isinstance(await session.last_event(), SessionExpired)
        assert session.paper.told == ["reply INVITE 200", "list"]
        assert session.paper.forgotten == [KEY]


async def test_an_opensips_that_does_not_answer_is_asked_for_the_ack_again(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        session.paper.unanswered |= {"list"}
        await session.leg.answer(LOCAL)
        await trio.sleep(50)
        assert session.paper.told.count("list") == 3
        assert not session.leg.is_over


async def test_an_answer_in_an_ack_that_is_never_told_ends_the_call_soon(autojump_clock: MockClock) -> None:
    async with open_session(invite(body=b"")) as session:
        session.paper.state = 5
        await session.leg.answer(LOCAL)
        began = trio.current_time()
        last = await session.last_event()
        assert isinstance(last, SignallingFailed)
        assert 'flag "a"' in last.cause
        assert trio.current_time() - began < 5.0


async def test_an_answer_in_an_ack_is_waited_for_as_long_as_any(autojump_clock: MockClock) -> None:
    async with open_session(invite(body=b"")) as session:
        session.paper.state = 4
        await session.leg.answer(LOCAL)
        began = trio.current_time()
        assert isinstance(await session.last_event(), AckMissing)
        assert 32.0 <= trio.current_time() - began < 36.0


async def test_the_ack_of_a_reinvite_may_be_missing_too(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.answer()
        session.paper.state = 4
        await session.say(request("INVITE", cseq=2, body=sdp(more="a=sendonly\r\n")))
        await session.say(ack(1))
        assert isinstance(await session.last_event(), AckMissing)


async def test_hanging_up_before_the_ack_waits_for_it(autojump_clock: MockClock) -> None:
    async with open_session(hang_up_seconds=2.0) as session, trio.open_nursery() as nursery:
        session.paper.state = 4
        await session.leg.answer(LOCAL)
        nursery.start_soon(session.leg.hang_up, "the talk is over")
        await trio.sleep(1.2)
        assert "update BYE" not in session.paper.told
        await session.say(ack())
        assert session.paper.told[-1] == "update BYE"
        session.leg.take(response("BYE", 200, "OK"))


async def test_a_caller_who_hangs_up_before_the_ack_gets_no_bye(autojump_clock: MockClock) -> None:
    async with open_session() as session, trio.open_nursery() as nursery:
        session.paper.state = 4
        await session.leg.answer(LOCAL)
        nursery.start_soon(session.leg.hang_up, "the talk is over")
        await trio.sleep(0.2)
        session.leg.take(ended("BYE"))
        await trio.sleep(10)
        assert "update BYE" not in session.paper.told
        assert session.paper.forgotten == [KEY]


async def test_hanging_up_does_not_wait_longer_than_it_may_for_an_ack(autojump_clock: MockClock) -> None:
    async with open_session(hang_up_seconds=2.0) as session:
        session.paper.state = 4
        await session.leg.answer(LOCAL)
        began = trio.current_time()
        await session.leg.hang_up("the talk is over")
        assert trio.current_time() - began == pytest.approx(4.0)
        await settle()
        assert session.paper.told[-2:] == ["update BYE", "terminate"]
        assert session.paper.forgotten == [KEY]


async def test_hanging_up_where_acks_are_not_told_asks_and_goes_on(autojump_clock: MockClock) -> None:
    async with open_session() as session, trio.open_nursery() as nursery:
        await session.leg.answer(LOCAL)
        nursery.start_soon(session.leg.hang_up, "the talk is over")
        await settle()
        assert session.paper.told == ["reply INVITE 200", "list", "update BYE"]
        session.leg.take(response("BYE", 200, "OK"))


# The session timer


def timed(*fields: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return (("Supported", "timer"), *fields)


async def refreshed(session: Session, cseq: int) -> None:
    await session.say(request("UPDATE", *timed(("Session-Expires", "120;refresher=uac")), cseq=cseq))


async def test_a_caller_who_refreshes_is_told_to_and_watched(autojump_clock: MockClock) -> None:
    async with open_session(invite(*timed(("Session-Expires", "120")))) as session:
        await session.answer()
        fields = session.paper.fields("reply INVITE 200")
        assert fields[-2:] == ["Session-Expires: 120;refresher=uac", "Require: timer"]
        began = trio.current_time()
        assert await session.last_event() == SessionExpired("no refresh came")
        assert trio.current_time() - began == pytest.approx(88.0, abs=0.1)  # 32 s before the end
        await settle()
        assert session.paper.fields("update BYE")[0].startswith("Reason: SIP;cause=408;")
        assert session.paper.told[-1] == "update BYE"


async def test_refreshes_keep_the_session_alive(autojump_clock: MockClock) -> None:
    async with open_session(invite(*timed(("Session-Expires", "120;refresher=uac")))) as session:
        await session.answer()
        for cseq in range(2, 6):
            await trio.sleep(60)
            await refreshed(session, cseq)
            assert session.paper.fields("reply UPDATE 200")[-2:] == [
                "Session-Expires: 120;refresher=uac",
                "Require: timer",
            ]
        assert not session.leg.is_over


async def test_an_update_before_the_answer_begins_no_timer(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await refreshed(session, 2)
        assert session.paper.fields("reply UPDATE 200")[-1] == "Supported: timer"
        await session.answer()
        await trio.sleep(300)
        assert not session.leg.is_over


async def test_a_refresh_without_a_timer_ends_the_timer(autojump_clock: MockClock) -> None:
    async with open_session(invite(*timed(("Session-Expires", "120")))) as session:
        await session.answer()
        await session.say(request("UPDATE", cseq=2))
        await trio.sleep(300)
        assert not session.leg.is_over


async def test_a_refresh_that_wants_too_short_a_timer_gets_422(autojump_clock: MockClock) -> None:
    async with open_session(min_se_seconds=120) as session:
        await session.answer()
        await session.say(request("UPDATE", *timed(("Session-Expires", "100")), cseq=2))
        assert session.paper.fields("reply UPDATE 422") == ["Min-SE: 120"]


@pytest.mark.parametrize(
    ("headers", "terms"),
    [
        (timer(("Session-Expires", "1800")), Terms(1800, we_refresh=False)),
        (timer(("Session-Expires", "1800;refresher=uac")), Terms(1800, we_refresh=False)),
        (timer(("Session-Expires", "9000")), Terms(3600, we_refresh=False)),
        (timer(("Session-Expires", "1800;refresher=uas")), None),
        (timer(), None),
        (Headers((("Session-Expires", "1800"),)), None),  # of a proxy
        (Headers(), None),
    ],
)
def test_only_a_caller_who_wants_to_refresh_gets_a_timer(headers: Headers, terms: Terms | None) -> None:
    assert session_terms(headers, 3600, 90) == terms


def test_a_timer_that_cannot_be_read_gets_400() -> None:
    refusal = session_terms(timer(("Session-Expires", "soon")), 3600, 90)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 400


def test_each_lapse_is_told_once() -> None:
    deadlines = SessionDeadlines(answer=1.0, ack=2.0)
    deadlines.refreshes.restart(Terms(90, we_refresh=False), 0.0)
    assert deadlines.deadline == 1.0
    assert [deadlines.expire(100.0) for _ in range(4)] == [Lapse.ANSWER, Lapse.ACK, Lapse.REFRESH, None]
    assert deadlines.deadline == inf


# Our own answer


async def test_an_invite_that_expires_gets_487(autojump_clock: MockClock) -> None:
    async with open_session(invite(("Expires", "20"))) as session:
        await session.leg.ring()
        began = trio.current_time()
        assert await session.last_event() == Cancelled()
        assert trio.current_time() - began == pytest.approx(20.0, abs=0.01)
        await settle()
        assert session.paper.told == ["reply INVITE 180", "reply INVITE 487", "terminate"]


async def test_an_answered_invite_does_not_expire(autojump_clock: MockClock) -> None:
    async with open_session(invite(("Expires", "20"))) as session:
        await session.answer()
        await trio.sleep(60)
        assert not session.leg.is_over


async def test_a_session_that_is_over_is_not_kept_until_its_refresh_would_be_due(autojump_clock: MockClock) -> None:
    async with open_board(PaperCommands()) as board:
        leg = receive_session(board, invite(("Session-Expires", "1800;refresher=uac"), ("Supported", "timer")))
        assert isinstance(leg, SessionLeg)
        await leg.answer(LOCAL)
        for told in (ack(), ended("BYE")):
            leg.take(told)
        await settle()
        kept = weakref.ref(leg.dialog)
        del leg
        gc.collect()
        assert kept() is None
