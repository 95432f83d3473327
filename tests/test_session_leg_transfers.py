"""A UA session's REFER: a command that is never repeated, and events in any order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from session_leg_parts import KEY, LOCAL, Session, ack, ended, notify, open_session, response, settle
from trio.testing import MockClock

from aivc.sip.leg import HungUp, ReferOutcome
from aivc.sip.message import Headers

TARGET, US = "sip:bob@example.com", "sip:openai@192.0.2.5"


@attrs.define
class Transfer:
    """One that is under way.

    Attributes:
      outcome: None until it is known.
    """

    session: Session
    outcome: ReferOutcome | None = None
    took: float = 0.0

    async def run(self, seconds: float) -> None:
        began = trio.current_time()
        self.outcome = await self.session.leg.refer(TARGET, US, seconds)
        self.took = trio.current_time() - began


@asynccontextmanager
async def transfer(seconds: float = 30.0, **settings: Any) -> AsyncIterator[Transfer]:
    async with open_session(**settings) as session, trio.open_nursery() as nursery:
        await session.answer()
        made = Transfer(session)
        nursery.start_soon(made.run, seconds)
        await settle()
        yield made


async def test_a_refer_has_its_fields_and_an_empty_body(autojump_clock: MockClock) -> None:
    async with transfer(refer_headers={"X-Reason": "agent"}) as made:
        assert made.session.paper.fields("update REFER") == [
            f"Referred-By: <{US}>",
            "Supported: timer",
            "X-Reason: agent",
            f"Refer-To: <{TARGET}>",
        ]
        params = made.session.paper.params("update REFER")
        assert params["body"] == ""  # without it the fields would be memory of OpenSIPS
        await made.session.say(response("REFER", 603, "Decline", cseq=1))


async def test_a_transfer_that_the_target_answers_succeeds(autojump_clock: MockClock) -> None:
    async with transfer() as made:
        await made.session.say(response("REFER", 202, "Accepted", cseq=2))
        await made.session.say(notify("100 Trying", event_name="refer;id=2"))
        assert made.took == 0.0
        await made.session.say(notify("200 OK", "terminated;reason=noresource", "refer;id=2", cseq=6))
        assert made.outcome == ReferOutcome(200, "OK", accepted=True)
        assert made.session.paper.told[1:] == ["update REFER", "reply NOTIFY 200", "reply NOTIFY 200"]


async def test_a_notify_may_come_before_the_answer_to_the_refer(autojump_clock: MockClock) -> None:
    async with transfer() as made:
        await made.session.say(notify("486 Busy Here", "terminated", "refer;id=7"))
        assert made.outcome == ReferOutcome(486, "Busy Here", accepted=True)
        await made.session.say(response("REFER", 202, "Accepted", cseq=7))
        assert made.session.board.counts.stray == 0


async def test_a_refusal_is_the_outcome_and_the_call_goes_on(autojump_clock: MockClock) -> None:
    async with transfer() as made:
        await made.session.say(response("REFER", 405, "Method Not Allowed"))
        assert made.outcome == ReferOutcome(405, "Method Not Allowed")
        await made.session.say(notify("200 OK", "terminated"))
        assert made.session.paper.told[-1] == "reply NOTIFY 481"
        assert not made.session.leg.is_over


async def test_a_refer_that_times_out_has_no_answer(autojump_clock: MockClock) -> None:
    """OpenSIPS then tells nothing but From."""
    async with transfer() as made:
        timeout = attrs.evolve(response("REFER", 408, "Timeout"), headers=Headers((("From", f"<{US}>;tag={KEY}"),)))
        await made.session.say(timeout)
        assert made.outcome == ReferOutcome(None, "no answer")
        await made.session.say(notify("200 OK", "terminated", "refer;id=2"))
        assert made.session.paper.told[-1] == "reply NOTIFY 481"


async def test_silence_is_waited_for_as_long_as_wanted(autojump_clock: MockClock) -> None:
    async with transfer(seconds=8.0) as made:
        await trio.sleep(20)
        assert made.outcome == ReferOutcome(None, "no answer")
        assert made.took == pytest.approx(8.0)
        assert made.session.paper.told.count("update REFER") == 1


async def test_a_refer_whose_command_has_no_answer_is_followed_by_its_events(autojump_clock: MockClock) -> None:
    async with open_session() as session, trio.open_nursery() as nursery:
        await session.answer()
        session.paper.unanswered |= {"update REFER"}
        made = Transfer(session)
        nursery.start_soon(made.run, 30.0)
        await trio.sleep(session.paper.command_seconds + 1.0)
        await session.say(response("REFER", 202, "Accepted"))
        await session.say(notify("200 OK", "terminated"))
        assert made.outcome == ReferOutcome(200, "OK", accepted=True)
        assert session.paper.told.count("update REFER") == 1


async def test_a_refer_that_opensips_refuses_has_no_call(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        await session.answer()
        session.paper.refused |= {"update REFER"}
        assert await session.leg.refer(TARGET, US, 30.0) == ReferOutcome(None, "there is no call to transfer")


async def test_a_caller_who_hangs_up_ends_the_transfer(autojump_clock: MockClock) -> None:
    async with transfer() as made:
        await made.session.say(response("REFER", 202, "Accepted"))
        await made.session.say(ended("BYE"))
        assert made.outcome == ReferOutcome(None, "the caller hung up", accepted=True)
        assert await made.session.last_event() == HungUp()


async def test_one_transfer_at_a_time(autojump_clock: MockClock) -> None:
    async with transfer() as made:
        second = await made.session.leg.refer(TARGET, US, 5.0)
        assert second == ReferOutcome(None, "a transfer is under way")
        await made.session.say(response("REFER", 603, "Decline"))


async def test_a_second_transfer_is_told_from_the_first_by_the_cseq(autojump_clock: MockClock) -> None:
    async with transfer(seconds=5.0) as made:
        await made.session.say(response("REFER", 202, "Accepted", cseq=2))
        await trio.sleep(10)
        assert made.outcome == ReferOutcome(None, "no answer", accepted=True)
        again = Transfer(made.session)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(again.run, 30.0)
            await settle()
            await made.session.say(notify("200 OK", "terminated", "refer;id=2"))  # of the first, too late
            assert again.took == 0.0
            await made.session.say(notify("180 Ringing", "active", "refer;id=3", 6))
            await made.session.say(response("REFER", 202, "Accepted", cseq=3))
            await made.session.say(notify("503 Service Unavailable", "terminated", "refer;id=3", 7))
        assert again.outcome == ReferOutcome(503, "Service Unavailable", accepted=True)
        assert made.session.paper.told.count("reply NOTIFY 200") == 3


async def test_what_comes_late_of_one_transfer_is_not_taken_for_the_next(autojump_clock: MockClock) -> None:
    async with transfer(seconds=1.0) as made, trio.open_nursery() as nursery:
        await trio.sleep(2)
        assert made.outcome == ReferOutcome(None, "no answer")
        await made.run(20.0)
        assert made.outcome == ReferOutcome(None, "a transfer is under way")
        await made.session.say(response("REFER", 603, "Decline", cseq=2))
        nursery.start_soon(made.run, 20.0)
        await settle()
        await made.session.say(response("REFER", 202, "Accepted", cseq=3))
        await made.session.say(notify("200 OK", "terminated;reason=noresource", "refer;id=3"))
        assert made.outcome == ReferOutcome(200, "OK", accepted=True)


async def test_a_refer_that_is_never_answered_keeps_the_next_one_back_for_32_s(autojump_clock: MockClock) -> None:
    async with transfer(seconds=1.0) as made:
        await trio.sleep(33)
        await made.run(1.0)
        assert made.outcome == ReferOutcome(None, "no answer")
        assert made.session.paper.told.count("update REFER") == 2


async def test_an_ack_that_comes_with_the_end_of_the_time_leaves_none_for_the_refer(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        session.paper.state = 4
        await session.leg.answer(LOCAL)

        async def acknowledge() -> None:
            await trio.sleep(0.05)
            autojump_clock.jump(0.1)  # a busy machine
            session.leg.take(ack())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(acknowledge)
            assert await session.leg.refer(TARGET, US, 0.1) == ReferOutcome(None, "no answer")


async def test_a_refer_before_the_ack_waits_for_it(autojump_clock: MockClock) -> None:
    async with open_session() as session, trio.open_nursery() as nursery:
        session.paper.state = 4
        await session.leg.answer(LOCAL)
        made = Transfer(session)
        nursery.start_soon(made.run, 30.0)
        await trio.sleep(3.2)
        assert "update REFER" not in session.paper.told
        await session.say(ack())
        assert session.paper.told[-1] == "update REFER"
        await session.say(response("REFER", 603, "Decline"))
        assert made.outcome == ReferOutcome(603, "Decline")


async def test_without_an_ack_no_refer_is_sent(autojump_clock: MockClock) -> None:
    async with open_session() as session:
        session.paper.state = 4
        await session.leg.answer(LOCAL)
        assert await session.leg.refer(TARGET, US, 5.0) == ReferOutcome(None, "no answer")
        assert "update REFER" not in session.paper.told


async def test_where_acks_are_not_told_the_list_tells_of_them(autojump_clock: MockClock) -> None:
    async with open_session() as session, trio.open_nursery() as nursery:
        session.paper.state = 5
        await session.leg.answer(LOCAL)
        made = Transfer(session)
        nursery.start_soon(made.run, 30.0)
        await settle()
        assert session.paper.told == ["reply INVITE 200", "list", "update REFER"]
        await session.say(response("REFER", 603, "Decline"))


@pytest.mark.parametrize("uri", ["bob", "sip:bob@example.com?Replaces=x", "http://example.com"])
async def test_what_cannot_be_referred_to_is_an_error(autojump_clock: MockClock, uri: str) -> None:
    async with open_session() as session:
        await session.answer()
        with pytest.raises(ValueError, match="URI"):
            await session.leg.refer(uri, US, 5.0)
        with pytest.raises(ValueError, match="line"):
            await session.leg.refer(TARGET, US, 5.0, fields=(("X-A", "a\r\nb"),))
