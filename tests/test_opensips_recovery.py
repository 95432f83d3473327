"""The OpenSIPS front end with the emulated OpenSIPS: lost events, restarts, several connectors. A raw phone calls."""

from __future__ import annotations

import trio
from opensips_world import world
from trio.testing import MockClock

from aivc.sip.leg import HungUp, SessionExpired
from aivc.sip.message import Request


async def test_a_caller_whose_event_was_lost_hears_503(autojump_clock: MockClock) -> None:
    async with world() as found, found.connector(check_seconds=1):
        found.opensips.lose("event")
        await found.invite()
        assert await found.hear() == 503
        await found.opensips.wait_empty()


async def test_a_caller_who_calls_before_we_are_there_hears_503(autojump_clock: MockClock) -> None:
    async with world() as found:
        await found.invite()
        async with found.connector():
            assert await found.hear() == 503
            await found.opensips.wait_empty()


async def test_a_hang_up_whose_event_was_lost_is_found_out(autojump_clock: MockClock) -> None:
    async with world() as found, found.connector() as front_end:
        leg = await found.talk(front_end)
        found.opensips.lose("event", lambda event: event["event_type"] == "TERMINATED")
        assert await found.hear(found.phone.write("BYE", cseq=2)) == 200
        with trio.fail_after(20):
            assert isinstance(await leg.events.receive(), SessionExpired)
        assert front_end.statistics().lost == 1


async def test_a_hang_up_is_one_however_late_its_event_is(autojump_clock: MockClock) -> None:
    async with world() as found, found.connector(check_seconds=1) as front_end:
        leg = await found.talk(front_end)
        found.opensips.delay("event", 0.9)
        assert await found.hear(found.phone.write("BYE", cseq=2)) == 200
        assert await leg.events.receive() == HungUp()
        await trio.sleep(30)
        assert front_end.statistics().lost == 0


async def test_after_a_restart_of_opensips_calls_end_and_new_ones_come(autojump_clock: MockClock) -> None:
    async with world() as found, found.connector(subscription_seconds=30) as front_end:
        leg = await found.talk(front_end)
        await found.opensips.restart()
        with trio.fail_after(15):
            assert isinstance(await leg.events.receive(), SessionExpired)
        found.phone.call_id, found.phone.to_tag = "call-2", None
        await found.talk(front_end)
        assert front_end.statistics().lapses == 1


async def test_calls_of_a_killed_connector_are_hung_up_by_the_next(autojump_clock: MockClock) -> None:
    async with world() as found:
        async with found.connector() as front_end:
            await found.talk(front_end)
        async with found.connector(subscription_seconds=9) as front_end:
            request = await found.phone.receive()
            assert isinstance(request, Request)
            assert request.method == "BYE"
            assert front_end.statistics().orphans == 1


async def test_the_subscription_stands_while_a_third_of_all_datagrams_is_lost(autojump_clock: MockClock) -> None:
    async with world(loss=0.33) as found, found.connector():
        await found.opensips.wait_subscribed()
        began, missing = trio.current_time(), []
        for _ in range(300):
            await trio.sleep(1)
            missing += [trio.current_time() - began] * (not found.opensips.subscribers)
        assert missing == []


async def test_each_of_two_connectors_takes_the_calls_that_name_it(autojump_clock: MockClock) -> None:
    async with world() as found:
        one = found.connector(instance="one", check_seconds=1)
        two = found.connector("192.0.2.8", instance="two", check_seconds=1)
        found.opensips.extra_params = '{"instance": "two"}'
        async with one as first, two as second:
            await found.talk(second)
            assert await found.hear(found.phone.write("OPTIONS", cseq=2)) == 200
            await trio.sleep(60)
            assert (first.statistics().ignored, first.statistics().legs, second.statistics().legs) == (1, 0, 1)
            assert len(found.opensips.sessions) == 1
