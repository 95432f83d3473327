"""The subscription to OpenSIPS's events: kept, missed after a restart, shared, refused, taken back."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from log_lines import fields_of, names_of
from paper_opensips import PaperOpenSips
from trio.testing import MockClock

from aivc.config.settings import OpenSipsSettings
from aivc.sip.subscribing import Standing, Subscription

OWN = "udp:192.0.2.7:50060"
OTHER = "udp:192.0.2.8:50060"


@attrs.define
class Kept:
    """A subscription that is kept in the background."""

    opensips: PaperOpenSips
    subscription: Subscription
    anew: list[float] = attrs.field(factory=list)  # when it was (re)gained

    def stands(self) -> Standing:
        return self.subscription.standing

    def is_sole(self) -> bool:
        return self.subscription.is_sole


@asynccontextmanager
async def kept(opensips: PaperOpenSips | None = None, **settings: Any) -> AsyncIterator[Kept]:
    async def own_socket() -> str:
        return OWN

    opensips = opensips or PaperOpenSips()
    subscription = Subscription(opensips, OpenSipsSettings(**settings), own_socket)
    found = Kept(opensips, subscription)
    subscription.on_subscribed = lambda: found.anew.append(trio.current_time())
    with trio.fail_after(100_000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(subscription.run)
            await trio.sleep(0.1)
            yield found
            nursery.cancel_scope.cancel()


async def test_it_is_made_at_once_and_said_once(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with kept() as found:
        assert list(found.opensips.subscribers) == [OWN]
        assert found.stands() is Standing.SUBSCRIBED
        await trio.sleep(1000)
        assert names_of(caplog) == ["opensips.subscribed"]
        assert len(found.anew) == 1


async def test_it_never_runs_out_while_one_renewal_in_three_succeeds(autojump_clock: MockClock) -> None:
    async with kept(subscription_seconds=30) as found:
        for _ in range(5):
            await trio.sleep(20)
            assert found.opensips.subscribers[OWN] - trio.current_time() >= 19
        assert 10 <= found.opensips.subscriptions <= 12


async def test_an_opensips_that_is_down_is_tried_for_ever_and_said_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with kept(PaperOpenSips(is_up=False)) as found:
        await trio.sleep(10_000)
        assert found.stands() is not Standing.SUBSCRIBED
        assert names_of(caplog) == ["opensips.unreachable"]
        assert "mi_datagram" in fields_of(caplog.records[0])["hint"]
        found.opensips.is_up = True
        await trio.sleep(2.1)
        assert found.stands() is Standing.SUBSCRIBED
        assert names_of(caplog) == ["opensips.unreachable", "opensips.subscribed"]


async def test_an_outage_is_noticed_with_the_next_renewal_or_a_doubt(autojump_clock: MockClock) -> None:
    async with kept() as found:
        found.opensips.is_up = False
        await trio.sleep(10)
        assert found.stands() is Standing.SUBSCRIBED  # not asked yet
        found.subscription.doubt()
        await trio.sleep(0.1)
        assert found.stands() is Standing.UNREACHABLE
        found.opensips.restart()
        found.opensips.is_up = True
        await trio.sleep(2.1)
        assert found.opensips.subscribers
        assert len(found.anew) == 2


async def test_a_restart_between_two_renewals_is_noticed(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with kept(subscription_seconds=90) as found:
        await trio.sleep(5)
        found.opensips.restart()
        await trio.sleep(30)
        assert list(found.opensips.subscribers) == [OWN]
        assert len(found.anew) == 2
        assert found.subscription.lapses == 1
        assert names_of(caplog) == ["opensips.subscribed", "opensips.lapsed"]


async def test_doubts_in_swarms_cost_one_look_in_two_seconds(autojump_clock: MockClock) -> None:
    async with kept() as found:
        for _ in range(200):
            found.subscription.doubt()
            await trio.sleep(0.1)
        assert found.opensips.subscriptions <= 12


async def test_other_subscribers_are_told_of_once_and_make_it_shared(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with kept(PaperOpenSips(subscribers={OTHER: 50.0})) as found:
        assert not found.is_sole()
        await trio.sleep(40)
        assert names_of(caplog) == ["opensips.shared", "opensips.subscribed"]
        assert fields_of(caplog.records[0])["subscribers"] == [OTHER]
        await trio.sleep(40)  # the other one's time is over
        assert found.is_sole()
        for number in range(20):  # they come and go
            found.opensips.subscribers[f"udp:192.0.2.8:{number}"] = trio.current_time() + 100
            await trio.sleep(40)
        assert names_of(caplog) == ["opensips.shared", "opensips.subscribed", "opensips.shared"]


async def test_until_opensips_has_answered_it_may_be_shared(autojump_clock: MockClock) -> None:
    async with kept(PaperOpenSips(is_up=False)) as found:
        assert found.subscription.is_shared
        assert not found.subscription.is_sole


async def test_who_has_an_instance_is_never_sole_and_not_warned(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with kept(PaperOpenSips(subscribers={OTHER: 1e9}), instance="aivc-1") as found:
        assert not found.subscription.is_sole
        assert names_of(caplog) == ["opensips.subscribed"]


async def test_an_ok_without_a_subscription_is_seen_through(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    twin = OWN.replace("192.0.2.7", "192.0.2.77")
    async with kept(PaperOpenSips(subscribers={twin: 1e9}, twin=twin)) as found:
        await trio.sleep(100)
        assert found.stands() is Standing.DISPLACED
        assert found.stands() is not Standing.SUBSCRIBED
        assert names_of(caplog) == ["opensips.shared", "opensips.displaced"]
        assert "engine.event_port" in fields_of(caplog.records[1])["hint"]
        found.opensips.twin = None
        await trio.sleep(3)
        assert found.stands() is Standing.SUBSCRIBED


async def test_an_opensips_without_the_module_is_told_from_one_that_is_down(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with kept(PaperOpenSips(knows_event=False)) as found:
        await trio.sleep(100)
        assert found.stands() is Standing.REFUSED
        assert names_of(caplog) == ["opensips.refused"]
        assert "b2b_entities" in fields_of(caplog.records[0])["hint"]


async def test_it_is_taken_back_in_the_end(autojump_clock: MockClock) -> None:
    async with kept() as found:
        await found.subscription.end()
        assert found.opensips.subscribers[OWN] <= trio.current_time()
        assert found.stands() is not Standing.SUBSCRIBED
        await trio.sleep(1000)
        assert found.opensips.subscriptions == 2  # once made, once taken back


@pytest.mark.parametrize("ahead", [0.0005, 0.0015, 0.0025])  # it begins after 3.003 s; a command takes 1 ms
async def test_a_renewal_under_way_does_not_undo_that(ahead: float, autojump_clock: MockClock) -> None:
    async with kept(subscription_seconds=9) as found:
        await trio.sleep(2.903 + ahead)
        await found.subscription.end()
        await trio.sleep(100)
        assert max(found.opensips.subscribers.values(), default=0) < trio.current_time()
