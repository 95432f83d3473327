"""OpenSIPS restarts, is not there yet, or goes away: it tells nobody, and all its calls are lost."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.testing import CallTool, Faults, Say, scripted
from scenarios.behind import (
    FEW_SCHEDULES,
    HELLO,
    LOST,
    ROOMY,
    byes,
    check_pace,
    command,
    greeter,
    opensips_of,
    statuses,
    told,
    until_over,
)
from scenarios.conftest import Dialect
from scenarios.world import SETTINGS, World, changed, open_world

pytestmark = pytest.mark.opensips_only

SLACK = 0.5  # seconds: an answer or two, and the end of a call


def looking(subscription_seconds: int, check_seconds: float) -> Any:
    return changed(ROOMY, opensips={"subscription_seconds": subscription_seconds, "check_seconds": check_seconds})


async def hear_greeting(world: World) -> None:
    """The next call works."""
    async with world.dial() as call:
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.3)
        assert call.handset.speech_heard() == HELLO
        assert byes(call) == []


@FEW_SCHEDULES
@pytest.mark.parametrize(
    ("subscription_seconds", "check_seconds", "longest"),
    [
        (90, 15.0, 15 + 2),  # the defaults: one look at the list, and the second
        (90, 5.0, 5 + 2),
        (6, 3600.0, 6 / 3 + 2),  # the renewal finds that we are not subscribed, and has the list read
        (30, 3600.0, 30 / 3 + 2),
    ],
)
async def test_a_call_that_opensips_has_forgotten_ends_in_time(
    autojump_clock: MockClock, dialect: Dialect, subscription_seconds: int, check_seconds: float, longest: float
) -> None:
    settings = looking(subscription_seconds, check_seconds)
    async with open_world(greeter(), settings=settings, dialect=dialect, calls=2) as world:
        opensips = opensips_of(world)
        async with world.dial() as call:
            await call.handset.wait_speech(0.5)
            await opensips.restart()
            restarted_at = trio.current_time()
            over_at = await until_over(world)
            assert over_at - restarted_at <= longest + SLACK
            check_pace(call)
            assert call.handset.speech_heard() == HELLO  # the audio does not go through OpenSIPS
            assert call.handset.heard[-1].at >= restarted_at + min(2.0, longest) / 2
            assert byes(call) == []  # OpenSIPS cannot send any
        before = told(opensips)
        assert before == ["INVITE 180", "INVITE 200"]  # nothing is told to who knows nothing of it
        await opensips.wait_subscribed()
        assert trio.current_time() - restarted_at <= longest + SLACK  # whatever noticed it, calls come again
        await hear_greeting(world)
    first, second = world.records
    assert (first.ending, first.detail) == (Ending.SESSION_EXPIRED, LOST)
    assert second.ending is Ending.CALLER_HUNG_UP


@FEW_SCHEDULES
async def test_without_looks_at_the_list_a_forgotten_call_ends_when_its_audio_does(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    settings = changed(looking(6, 0.0), rtp={"timeout_seconds": 3.0})
    async with open_world(greeter(), settings=settings, dialect=dialect) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.5)
            await opensips_of(world).restart()
            await trio.sleep(10.0)
            assert world.service.calls == 1
            check_pace(call)
        hung_up_at = trio.current_time()  # OpenSIPS answers the BYE of whom it does not know, and tells nobody
        over_at = await until_over(world)
        assert 2.9 < over_at - hung_up_at < 3.0 + 2 * 5.0 + SLACK
    assert world.record.ending is Ending.MEDIA_TIMEOUT


async def test_a_restart_between_two_calls_is_noticed_by_the_next_renewal(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(greeter(), settings=looking(9, 3600.0), dialect=dialect, calls=2) as world:
        opensips = opensips_of(world)
        await hear_greeting(world)
        await opensips.restart()
        with trio.fail_after(9 / 3 + SLACK):
            await opensips.wait_subscribed()
        await hear_greeting(world)
    assert [record.ending for record in world.records] == [Ending.CALLER_HUNG_UP] * 2


async def test_who_calls_before_the_restart_was_noticed_hears_that_it_did_not_work(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(greeter(), settings=looking(12, 3.0), dialect=dialect) as world:
        opensips = opensips_of(world)
        await opensips.restart()
        async with world.ring() as call:
            rang_at = trio.current_time()
            await call.wait_over()
            assert trio.current_time() - rang_at < 3.0 + 2.0 + SLACK
            assert [response.status for response in call.responses] == [100, 503]
            assert call.responses[-1].header("Retry-After") == "10"
        assert told(opensips) == ["INVITE 503", "terminate"]
        await hear_greeting(world)
    assert world.record.ending is Ending.CALLER_HUNG_UP


@pytest.mark.parametrize("seconds", [0.0, 1.0, 20.0])
async def test_opensips_may_start_after_us(autojump_clock: MockClock, dialect: Dialect, seconds: float) -> None:
    async with open_world(greeter(), dialect=dialect, opensips_is_down=True) as world:
        opensips = opensips_of(world)
        await trio.sleep(seconds)
        assert opensips.told("event_subscribe") == []
        await opensips.start()
        with trio.fail_after(2.0 + SETTINGS.opensips.command_seconds + SLACK):
            await opensips.wait_subscribed()
        await trio.sleep(0.1)
        assert world.service.is_subscribed
        await hear_greeting(world)
    assert world.record.ending is Ending.CALLER_HUNG_UP


@FEW_SCHEDULES
@pytest.mark.parametrize("seconds", [0.5, 30.0])
async def test_opensips_may_be_away_for_a_while(autojump_clock: MockClock, dialect: Dialect, seconds: float) -> None:
    async with open_world(greeter(), settings=looking(30, 5.0), dialect=dialect, calls=2) as world:
        opensips = opensips_of(world)
        async with world.dial() as call:
            await call.handset.wait_speech(0.5)
            await opensips.stop()
            await trio.sleep(seconds)
            assert world.service.calls == 1  # that it does not answer does not mean that the call is over
            await opensips.start()
            started_at = trio.current_time()
            assert await until_over(world) - started_at < 5.0 + 2.0 + SETTINGS.opensips.command_seconds + SLACK
            check_pace(call)
        with trio.fail_after(SLACK):
            await opensips.wait_subscribed()
        await hear_greeting(world)
    assert [record.ending for record in world.records] == [Ending.SESSION_EXPIRED, Ending.CALLER_HUNG_UP]


# It stops at the wrong moment

NO_ANSWER = SETTINGS.opensips.command_seconds
HELLO_SECONDS = len(HELLO) / 8000
SLOW = Faults(session_updated_seconds=4.0)


@FEW_SCHEDULES
async def test_opensips_that_stops_while_it_rings_ends_the_call(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = looking(30, 5.0)
    async with open_world(greeter(), settings=settings, dialect=dialect, calls=2, faults=SLOW) as world:
        opensips = opensips_of(world)
        async with world.ring() as call:
            await opensips.wait_told("ua_session_reply")
            await opensips.stop()
            stopped_at = trio.current_time()
            assert await until_over(world) - stopped_at < 4.0 + NO_ANSWER + SLACK
            assert [response.status for response in call.responses] in ([100], [100, 180])
            await opensips.start()
            with trio.fail_after(2.0 + NO_ANSWER + SLACK):
                await opensips.wait_subscribed()
        await hear_greeting(world)
    assert [record.ending for record in world.records] == [Ending.SIGNALLING_FAILED, Ending.CALLER_HUNG_UP]


@FEW_SCHEDULES
@pytest.mark.parametrize("has_answered", [False, True])
async def test_opensips_that_stops_while_we_answer_ends_the_call(
    autojump_clock: MockClock, dialect: Dialect, has_answered: bool
) -> None:
    async with open_world(greeter(), settings=looking(30, 5.0), dialect=dialect, calls=2) as world:
        opensips = opensips_of(world)
        opensips.lose("answer" if has_answered else "command", command("reply", "INVITE", 200))
        async with world.ring() as call:
            await trio.sleep(0.1)
            await opensips.stop()
            opensips.heal()
            stopped_at = trio.current_time()
            assert await until_over(world) - stopped_at < NO_ANSWER + SLACK
            assert statuses(call) == ([100, 180, 200] if has_answered else [100, 180])
            assert byes(call) == []
            await opensips.start()
            await opensips.wait_subscribed()
        await hear_greeting(world)
    assert [record.ending for record in world.records] == [Ending.SIGNALLING_FAILED, Ending.CALLER_HUNG_UP]


@FEW_SCHEDULES
async def test_opensips_that_stops_while_we_hang_up_does_not_hold_us_up(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    script = scripted([[Say("Goodbye.", audio=HELLO), CallTool("terminate_call")]])
    async with open_world(script, dialect=dialect) as world:
        opensips = opensips_of(world)
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.01)
            await opensips.stop()
            stopped_at = trio.current_time()
            over_at = await until_over(world)
            assert over_at - stopped_at < 2 * NO_ANSWER + HELLO_SECONDS
            assert byes(call) == []
    assert world.record.ending is Ending.MODEL_HUNG_UP
