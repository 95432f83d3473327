"""The OpenSIPS front end with the emulated OpenSIPS: what crosses, and what is left behind. A raw phone calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from opensips_world import RTP, World, world
from sip_phone import sdp
from trio.testing import MockClock

from aivc.sip.leg import HungUp, LegEvent, SessionExpired
from aivc.sip.opensips import OpenSips


@asynccontextmanager
async def shared_world() -> AsyncIterator[tuple[World, OpenSips]]:
    """Sessions that we do not know may be those of another connector."""
    async with world() as found, found.connector(instance="one", check_seconds=5) as front_end:
        found.opensips.extra_params = '{"instance": "one"}'
        yield found, front_end


async def test_a_reinvite_that_crosses_our_bye_leaves_no_session_behind(autojump_clock: MockClock) -> None:
    async with shared_world() as (found, front_end):
        leg = await found.talk(front_end)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leg.hang_up, "goodbye")
            bye = await found.phone.request()
            assert await found.hear(found.phone.write("INVITE", sdp(), cseq=2, branch="z9hG4bKx")) == 100
            assert await found.hear() == 481
            await found.phone.send(found.phone.write("ACK", cseq=2, branch="z9hG4bKx"))
            await found.phone.reply(bye)
        await trio.sleep(3)
        assert found.opensips.sessions == {}


async def test_a_request_that_the_bye_has_overtaken_leaves_no_session_behind(autojump_clock: MockClock) -> None:
    async with shared_world() as (found, front_end):
        await found.talk(front_end)
        assert await found.hear(found.phone.write("MESSAGE", cseq=2)) == 405
        found.opensips.delay("event", 0.3, lambda event: event["method"] == "INFO")
        await found.phone.send(found.phone.write("INFO", cseq=3))
        await trio.sleep(0.05)
        assert await found.hear(found.phone.write("BYE", cseq=4)) == 200
        await trio.sleep(3)
        assert found.opensips.sessions == {}


async def test_a_call_that_is_hung_up_while_opensips_is_silent_is_over_when_it_is_not(
    autojump_clock: MockClock,
) -> None:
    async with shared_world() as (found, front_end):
        leg = await found.talk(front_end)
        found.opensips.lose("command")
        await leg.hang_up("goodbye")
        await trio.sleep(10)
        found.opensips.heal()
        assert (await found.phone.request(30)).method == "BYE"
        await trio.sleep(1)
        assert (found.opensips.sessions, found.opensips.violations) == ({}, [])


async def test_a_call_that_is_refused_while_opensips_is_silent_is_refused_when_it_is_not(
    autojump_clock: MockClock,
) -> None:
    async with shared_world() as (found, _):
        found.opensips.lose("command")
        assert await found.hear(found.phone.write("INVITE", b"rubbish")) == 100
        await trio.sleep(10)
        found.opensips.heal()
        assert (await found.phone.response(30)).status == 400
        await trio.sleep(1)
        assert found.opensips.sessions == {}


async def test_a_copy_of_our_answer_to_a_hold_does_not_answer_the_resume(autojump_clock: MockClock) -> None:
    async with world() as found, found.connector() as front_end:
        await found.talk(front_end)
        found.opensips.lose("answer", lambda command: command["method"] == "ua_session_reply", times=1)
        answers = []
        for number, direction in ((2, b"a=sendonly\r\n"), (3, b"a=sendrecv\r\n")):
            await found.phone.send(found.phone.write("INVITE", sdp(version=number) + direction, cseq=number))
            assert await found.hear() == 100
            answers.append((await found.phone.response()).body)
            await found.phone.send(found.phone.write("ACK", cseq=number))
            await trio.sleep(0.2)
        assert b"a=recvonly" in answers[0]
        assert b"a=recvonly" not in answers[1]


@pytest.mark.parametrize(("check_seconds", "told"), [(0, HungUp), (15, SessionExpired)])
async def test_a_cancel_that_crosses_our_200_ends_the_call_even_if_its_event_is_lost(
    check_seconds: int, told: type[LegEvent], autojump_clock: MockClock
) -> None:
    async with world() as found, found.connector(check_seconds=check_seconds) as front_end:
        await found.phone.send(found.phone.write("INVITE", sdp(), branch="z9hG4bKx"))
        leg = await front_end.legs.receive()
        await leg.answer(RTP)
        found.opensips.lose("event", lambda event: event["event_type"] == "TERMINATED")
        await found.phone.send(found.phone.write("CANCEL", branch="z9hG4bKx"))
        with trio.fail_after(40):
            assert isinstance(await leg.events.receive(), told)
        await trio.sleep(1)
        assert found.opensips.sessions == {}


async def test_a_bye_whose_event_is_lost_while_a_request_is_open_ends_the_call_and_frees_it(
    autojump_clock: MockClock,
) -> None:
    async with shared_world() as (found, front_end):
        leg = await found.talk(front_end)
        assert await found.hear(found.phone.write("MESSAGE", cseq=2)) == 405
        found.opensips.lose("event")
        await found.phone.send(found.phone.write("INFO", cseq=3))
        assert await found.hear(found.phone.write("BYE", cseq=4)) == 200
        with trio.fail_after(20):
            assert isinstance(await leg.events.receive(), SessionExpired)
        await trio.sleep(1)
        assert (found.opensips.sessions, front_end.statistics().legs) == ({}, 0)
