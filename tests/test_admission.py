"""How many calls a second are taken, and what is said of those that are not."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from log_lines import lines_of
from paper_leg import PaperLeg, paper_leg
from scenarios.world import SETTINGS, changed
from trio.testing import MockClock

from aivc import CallRecord, Leg, OpenAISettings, Rejection, Service, Settings, open_user_agent
from aivc.config.loading import ConfigError
from aivc.config.settings import RtpSettings
from aivc.nursery.admission import TokenBucket
from aivc.nursery.front_ends import FrontEnds
from aivc.nursery.routing import Route, load_routes
from aivc.nursery.service import answer_calls, check_srtp


def taken(bucket: TokenBucket, *moments: float) -> list[bool]:
    return [bucket.take(moment) for moment in moments]


def test_a_bucket_holds_one_second_and_fills_evenly() -> None:
    bucket = TokenBucket(4.0)
    assert taken(bucket, 0, 0, 0, 0, 0) == [True] * 4 + [False]
    assert taken(bucket, 0.2, 0.25, 0.26, 0.5, 0.75) == [False, True, False, True, True]
    assert taken(bucket, *[100.0] * 5) == [True] * 4 + [False]


def test_a_slow_bucket_still_lets_one_call_in() -> None:
    assert taken(TokenBucket(0.1), 0, 5, 10, 11) == [True, False, True, False]


def test_without_a_limit_it_is_never_empty() -> None:
    assert all(taken(TokenBucket(0.0), *[0.0] * 1000))


def test_time_that_stands_still_or_goes_back_fills_nothing() -> None:
    assert taken(TokenBucket(1.0), 10.0, 10.0, 9.0) == [True, False, False]


# In the service


@asynccontextmanager
async def open_idle(settings: Settings) -> AsyncIterator[Service]:
    """A service whose calls the test brings."""
    async with open_user_agent(attrs.evolve(settings.sip, listen=())) as agent:
        yield Service(settings, FrontEnds(agent))


async def brought(service: Service, legs: list[PaperLeg], settings: Settings | None = None) -> None:
    """Bring calls to a service, all at once."""
    send, receive = trio.open_memory_channel[Leg](100)
    service.agent.legs = receive

    async def serve(leg: Leg, _: Route) -> CallRecord:
        await trio.sleep_forever()
        raise AssertionError

    route = load_routes(settings or service.settings).route
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_calls, service, service.agent, route, serve)
        for leg in legs:
            send.send_nowait(leg)
        await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


async def test_calls_beyond_the_rate_are_refused_and_the_log_says_what_to_change(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    legs = [attrs.evolve(paper_leg(), call_id=str(number)) for number in range(4)]
    settings = changed(service={"calls_per_second": 2.0})
    with trio.fail_after(5), caplog.at_level(logging.INFO, "aivc.service"):
        async with open_idle(settings) as service:
            await brought(service, legs)
            assert service.agent.accepting  # the next second has room again: no dispatcher need look elsewhere
    assert [leg.did for leg in legs[:2]] == [[], []]
    refusal = Rejection(503, "service.calls_per_second = 2 is exceeded", 10, "calls_per_second")
    assert [leg.did for leg in legs[2:]] == [[refusal], [refusal]]
    (told, _) = lines_of(caplog, "call.refused")
    assert (told["cause"], told["status"]) == (refusal.cause, 503)
    assert told["hint"] == "raise service.calls_per_second if this machine can take more"
    assert told["source"] == "192.0.2.9"


async def test_a_call_for_nobody_takes_no_token_and_says_which_settings_did_not_fit(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    settings = changed(service={"calls_per_second": 1.0})
    legs = [attrs.evolve(paper_leg(), dialled="2000"), paper_leg()]
    only = attrs.evolve(settings, openai=OpenAISettings(match=("1000",)))
    with trio.fail_after(5), caplog.at_level(logging.INFO, "aivc.service"):
        async with open_idle(settings) as service:
            await brought(service, legs, only)
    assert [leg.did for leg in legs] == [[Rejection(404, "no agent for this number", None, "no_agent")], []]
    (told,) = lines_of(caplog, "call.refused")
    assert told["hint"].startswith("'2000' fits no match of [openai] and [agents.*]")


def test_srtp_without_its_package_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pylibsrtp", None)
    check_srtp(SETTINGS.rtp)
    with pytest.raises(ConfigError, match=r"rtp\.srtp: needs the package pylibsrtp: pip install 'aivc\[srtp\]'"):
        check_srtp(RtpSettings(srtp="optional"))
