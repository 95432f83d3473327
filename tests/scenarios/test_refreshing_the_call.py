"""Session timers (RFC 4028): a call that somebody refreshes goes on, one that nobody refreshes ends."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final, Literal

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.testing import CallTool, PhoneCall, Say, SessionTimer, Transfers, decided, scripted, speech
from aivc.testing.script import Context, Part
from aivc.testing.wording import ALLOW
from scenarios.conftest import Dialect
from scenarios.front_ends import FrontEndName
from scenarios.world import DELAY, changed, open_world

HELLO: Final = speech(0.6, pitch_hz=210.0, seed=1)  # here and below multiples of 60 ms
QUESTION: Final = speech(0.42, seed=4)
ANSWER: Final = speech(0.72, pitch_hz=210.0, seed=3)
WITHOUT_UPDATE: Final = ALLOW.replace("UPDATE, ", "")
FEW_SCHEDULES: Final = pytest.mark.parametrize("any_schedule", [0, 7, 12, 19], indirect=True)  # it takes long
SLOW: Final[dict[str, Any]] = {"ptime_ms": 60}  # fewer packets in long calls

OURS: Final = pytest.mark.sip_only("refreshes of ours: behind OpenSIPS they are all the caller's")

Method = Literal["INVITE", "UPDATE"]
METHODS: Final = pytest.mark.parametrize("method", ["INVITE", "UPDATE"])


def talk(context: Context) -> list[Part]:
    return [Say("Yes.", audio=ANSWER)] if context.turns else [Say("Hello.", audio=HELLO)]


async def until(call: PhoneCall, after_answer: float) -> None:
    assert call.answered_at is not None
    await trio.sleep_until(call.answered_at - DELAY + after_answer)


def agreed(call: PhoneCall) -> tuple[str | None, str | None]:
    """What the 200 says of the timer."""
    assert call.answered is not None
    return call.answered.headers.get("Session-Expires"), call.answered.headers.get("Require")


def refresher(front_end: FrontEndName) -> str:
    """Who refreshes when the caller leaves it to us: behind OpenSIPS it must be the caller."""
    return "uas" if front_end == "sip" else "uac"


def allowed(method: Method) -> str:
    return ALLOW if method == "UPDATE" else WITHOUT_UPDATE


async def ask(call: PhoneCall) -> None:
    """The conversation goes on."""
    call.handset.say(QUESTION)
    await call.handset.wait_speech()
    await call.handset.wait_silence(0.5)


@OURS
@FEW_SCHEDULES
@METHODS
async def test_we_refresh_at_each_half_of_the_time(autojump_clock: MockClock, dialect: Dialect, method: Method) -> None:
    timer = SessionTimer(expires=90, refresher="uas")
    async with open_world(decided(talk), dialect=dialect) as world:
        async with world.dial(**SLOW, session_timer=timer, allow=allowed(method)) as call:
            assert agreed(call) == ("90;refresher=uas", "timer")
            times = []
            for count in (1, 2, 3):
                request = await call.wait_request(method, count)
                times.append(trio.current_time() - (call.answered_at or 0.0))
                assert request.header("Session-Expires") == "90;refresher=uac"
                assert "timer" in request.headers.items("Supported")
                assert request.header("Contact") == "<sip:192.0.2.1:5060>"
                assert (request.body != b"") == (method == "INVITE")
            assert times[0] == pytest.approx(45.0)
            assert [later - one for one, later in pairwise(times)] == [pytest.approx(45.0 + 2 * DELAY)] * 2
            if method == "INVITE":  # the description is that of before, RFC 4028 section 7.4
                assert call.answered is not None
                assert {each.body for each in call.requests} == {call.answered.body}
            await ask(call)
        assert {request.method for request in call.requests} == {method}
        assert call.handset.speech_heard() == HELLO + ANSWER
    assert world.record.ending is Ending.CALLER_HUNG_UP


@FEW_SCHEDULES
@METHODS
async def test_the_caller_refreshes(autojump_clock: MockClock, dialect: Dialect, method: Method) -> None:
    timer = SessionTimer(expires=90, refresher="uac", method=method)
    async with open_world(decided(talk), dialect=dialect) as world:
        async with world.dial(**SLOW, session_timer=timer) as call:
            assert agreed(call) == ("90;refresher=uac", "timer")
            await until(call, 150.0)
            await ask(call)
        assert call.requests == []
        assert call.handset.speech_heard() == HELLO + ANSWER
    assert world.record.ending is Ending.CALLER_HUNG_UP


@FEW_SCHEDULES
async def test_a_caller_who_fails_to_refresh_is_hung_up_on(autojump_clock: MockClock, dialect: Dialect) -> None:
    timer = SessionTimer(expires=90, refresher="uac", refreshes=False)
    async with open_world(decided(talk), dialect=dialect) as world:
        async with world.dial(**SLOW, session_timer=timer) as call:
            over_at = await call.wait_hung_up()
            assert over_at == pytest.approx((call.answered_at or 0.0) + 60.0)  # RFC 4028 section 10: less a third
        (bye,) = call.requests
        assert bye.header("Reason") == 'SIP;cause=408;text="session_expired: no refresh came"'
        assert world.session.closed == 1000
    assert world.record.ending is Ending.SESSION_EXPIRED
    assert world.record.detail == "no refresh came"


@FEW_SCHEDULES
async def test_a_long_timer_ends_32_seconds_before_its_time(autojump_clock: MockClock, dialect: Dialect) -> None:
    timer = SessionTimer(expires=120, refresher="uac", refreshes=False)
    async with open_world(decided(talk), dialect=dialect) as world, world.dial(**SLOW, session_timer=timer) as call:
        assert await call.wait_hung_up() == pytest.approx((call.answered_at or 0.0) + 88.0)
    assert world.record.ending is Ending.SESSION_EXPIRED


@OURS
@FEW_SCHEDULES
@METHODS
@pytest.mark.parametrize("status", [481, 408])
async def test_a_caller_who_does_not_know_the_call_any_more_is_not_talked_to(
    autojump_clock: MockClock, dialect: Dialect, method: Method, status: int
) -> None:
    timer = SessionTimer(expires=90, refresher="uas")
    async with open_world(decided(talk), dialect=dialect) as world:
        async with world.dial(**SLOW, session_timer=timer, allow=allowed(method), reoffer_status=status) as call:
            over_at = await call.wait_hung_up()
            assert over_at == pytest.approx((call.answered_at or 0.0) + 45.0 + 2 * DELAY)
        assert [request.method for request in call.requests] == [method, "BYE"]
    assert world.record.ending is Ending.SESSION_EXPIRED
    assert world.record.detail == f"the peer does not know the call: {status}"


@OURS
@FEW_SCHEDULES
async def test_a_caller_whose_network_is_gone_is_noticed_by_the_refresh(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    settings = changed(rtp={"timeout_seconds": 0.0})
    timer = SessionTimer(expires=90, refresher="uas")
    async with (
        open_world(decided(talk), settings=settings, dialect=dialect) as world,
        world.dial(**SLOW, session_timer=timer) as call,
    ):
        await until(call, 20.0)
        world.network.loss = 1.0
        while world.service.calls:  # noqa: ASYNC110 - a fake clock makes polling cheap
            await trio.sleep(0.02)
        assert trio.current_time() - (call.answered_at or 0.0) == pytest.approx(60.0 - DELAY, abs=0.02)
        world.network.loss = 0.0
    assert world.record.ending is Ending.SESSION_EXPIRED
    assert world.record.detail == "no answer to a refresh"


async def test_a_timer_that_is_too_short_is_negotiated(
    autojump_clock: MockClock, dialect: Dialect, front_end: FrontEndName
) -> None:
    settings = changed(sip={"min_se_seconds": 120})
    async with (
        open_world(decided(talk), settings=settings, dialect=dialect) as world,
        world.dial(session_timer=SessionTimer(expires=90)) as call,
    ):
        told = [response.status for response in call.responses if response.status != 100]
        assert told == [422, 180, 200]
        (refusal,) = (response for response in call.responses if response.status == 422)
        assert refusal.header("Min-SE") == "120"
        assert agreed(call) == (f"120;refresher={refresher(front_end)}", "timer")
        await call.handset.wait_speech(0.1)
    assert world.record.ending is Ending.CALLER_HUNG_UP


@OURS
@FEW_SCHEDULES
async def test_a_caller_who_finds_our_refresh_too_short_gets_a_longer_one(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(decided(talk), dialect=dialect) as world:
        timer = SessionTimer(expires=90, refresher="uas")
        async with world.dial(**SLOW, session_timer=timer, reoffer_status=503) as call:
            await call.wait_request("UPDATE")
            call.reoffer_status = 200
            await call.wait_request("UPDATE", 2)
            assert trio.current_time() - (call.answered_at or 0.0) < 60.0
            await until(call, 100.0)
    assert world.record.ending is Ending.CALLER_HUNG_UP


@OURS
@FEW_SCHEDULES
async def test_a_caller_whose_telephone_takes_no_update_is_refreshed_by_reinvite(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    """It says that it allows UPDATE, and answers 405."""
    async with open_world(decided(talk), dialect=dialect) as world:
        timer = SessionTimer(expires=90, refresher="uas")
        async with world.dial(**SLOW, session_timer=timer, reoffer_status=405) as call:
            await call.wait_request("UPDATE")
            call.reoffer_status = 200
            await call.wait_request("INVITE")
            assert trio.current_time() - (call.answered_at or 0.0) == pytest.approx(45.0 + 2 * DELAY)
            await until(call, 100.0)
        assert [request.method for request in call.requests][:2] == ["UPDATE", "INVITE"]
    assert world.record.ending is Ending.CALLER_HUNG_UP


@OURS
@FEW_SCHEDULES
@METHODS
async def test_a_refresh_while_the_caller_holds_does_not_end_the_hold(
    autojump_clock: MockClock, dialect: Dialect, method: Method
) -> None:
    timer = SessionTimer(expires=90, refresher="uas")
    async with open_world(decided(talk), dialect=dialect) as world:
        async with world.dial(**SLOW, session_timer=timer, allow=allowed(method)) as call:
            await until(call, 5.0)
            await call.hold()
            await trio.sleep(0.1)
            seen = len(call.handset.heard)
            await call.wait_request(method, 2)
            await trio.sleep(1.0)
            assert len(call.handset.heard) == seen
            assert call.remote_direction == "recvonly"
            await call.resume()
            assert call.remote_direction == "sendrecv"
            await ask(call)
        assert call.handset.speech_heard() == HELLO + ANSWER
    assert world.record.ending is Ending.CALLER_HUNG_UP


@OURS
@FEW_SCHEDULES
@METHODS
async def test_a_refresh_during_a_transfer_disturbs_neither(
    autojump_clock: MockClock, dialect: Dialect, method: Method
) -> None:
    settings = changed(openai={"transfer_to": "sip:support@example.com", "transfer_seconds": 60.0})
    timer = SessionTimer(expires=90, refresher="uas")
    script = scripted([[Say("Hello.", audio=HELLO)], [CallTool("transfer_call")]])
    transfers = Transfers(progress=(100, 180, 200), delay=5.0)
    async with open_world(script, settings=settings, dialect=dialect) as world:
        async with world.dial(**SLOW, session_timer=timer, allow=allowed(method), transfers=transfers) as call:
            await until(call, 38.0)
            call.handset.say(QUESTION)
            await call.wait_hung_up()
        order = list(dict.fromkeys(request.method for request in call.requests))
        assert order == ["REFER", method, "BYE"]
        assert [answer.status for answer in call.referrals[0].answers[:2]] == [200, 200]
    assert world.record.ending is Ending.TRANSFERRED
    assert [run.status for run in world.record.transfers] == [200]


async def test_a_caller_who_knows_timers_but_wants_none_gets_the_one_of_the_settings(
    autojump_clock: MockClock, dialect: Dialect, front_end: FrontEndName
) -> None:
    settings = changed(sip={"session_expires_seconds": 300}, rtp={"quarantine_seconds": 0.0})
    async with open_world(decided(talk), settings=settings, dialect=dialect, calls=2) as world:
        async with world.dial(headers=(("Supported", "timer"),)) as call:
            none = (None, None)  # behind OpenSIPS: who wants no timer shall not have to refresh
            assert agreed(call) == (("300;refresher=uas", "timer") if front_end == "sip" else none)
        await trio.sleep(0.5)
        async with world.dial() as call:
            assert agreed(call) == (None, None)
    assert [record.ending for record in world.records] == [Ending.CALLER_HUNG_UP] * 2


async def test_a_caller_who_asks_for_longer_gets_what_we_want(
    autojump_clock: MockClock, dialect: Dialect, front_end: FrontEndName
) -> None:
    settings = changed(sip={"session_expires_seconds": 300})
    async with (
        open_world(decided(talk), settings=settings, dialect=dialect) as world,
        world.dial(session_timer=SessionTimer(expires=3600)) as call,
    ):
        assert agreed(call) == (f"300;refresher={refresher(front_end)}", "timer")
    assert world.record.ending is Ending.CALLER_HUNG_UP
