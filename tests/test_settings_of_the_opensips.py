"""What the settings of the OpenSIPS front end change: subscription, sources, instances, orphans, event socket."""

from __future__ import annotations

import json
import random

import pytest
import trio
from connector_parts import EVENTS, connector
from paper_opensips import PaperOpenSips, event, key
from settings_shown import shows
from trio.testing import MockClock

from aivc.config.settings import EngineSettings
from aivc.sip.event_reception import instance_of

KEY = key(1)


@shows("opensips.subscription_seconds")
@pytest.mark.parametrize("seconds", [9, 90, 900])
async def test_the_subscription_lasts_so_long_and_is_renewed_after_a_third(
    seconds: int, autojump_clock: MockClock
) -> None:
    async with connector(subscription_seconds=seconds) as found:
        [until] = found.opensips.subscribers.values()
        assert until - trio.current_time() == pytest.approx(seconds, abs=0.2)
        await trio.sleep(seconds / 3 - 0.2)
        assert found.opensips.subscriptions == 1
        await trio.sleep(0.3)
        assert found.opensips.subscriptions == 2


@shows("opensips.event_sources")
@pytest.mark.parametrize(
    ("sources", "served"),
    [((), True), (("192.0.2.5",), True), (("192.0.2.0/28", "198.51.100.1"), True), (("198.51.100.0/24",), False)],
)
async def test_events_are_read_from_those_networks_only(
    sources: tuple[str, ...], served: bool, autojump_clock: MockClock
) -> None:
    async with connector(event_sources=sources) as found:
        await found.send(event(KEY))
        assert (found.waiting(), found.counts().foreign) == (served, not served)


@shows("opensips.instance")
@pytest.mark.parametrize(
    ("instance", "extra", "served"),
    [
        (None, None, True),
        (None, '{"instance": "aivc-2"}', True),
        ("aivc-1", '{"instance": "aivc-1", "flavor": "sales"}', True),
        ("aivc-1", '{"instance": "aivc-2"}', False),
        ("aivc-1", '{"instance": ["aivc-1"]}', False),
        ("aivc-1", "{}", False),
        ("aivc-1", "[" * 50_000, False),
        ("aivc-1", None, False),
    ],
)
async def test_only_sessions_for_this_instance_are_taken(
    instance: str | None, extra: str | None, served: bool, autojump_clock: MockClock
) -> None:
    async with connector(instance=instance) as found:
        found.opensips.sessions[KEY] = 1
        await found.send(event(KEY, extra_params=extra))
        await found.send(event(key(2), "UPDATED", "INFO"))
        await trio.sleep(100)
        assert found.waiting() == served
        assert found.opensips.told == ([] if instance else [f"{key(2)} INFO 481"])  # nothing that is not ours


@shows("opensips.check_seconds")
@pytest.mark.parametrize(("seconds", "looks"), [(0, 0), (5, 20), (15, 7), (30, 4)])
async def test_the_list_is_looked_at_so_often(seconds: float, looks: int, autojump_clock: MockClock) -> None:
    async with connector(check_seconds=seconds) as found:
        await trio.sleep(95)
        assert found.opensips.lists == pytest.approx(looks, abs=1 if seconds else 0)


@shows("opensips.end_orphans")
@pytest.mark.parametrize(("end", "left"), [(True, {}), (False, {KEY: 5})])
async def test_sessions_that_nobody_serves_are_ended(
    end: bool, left: dict[str, int], autojump_clock: MockClock
) -> None:
    async with connector(PaperOpenSips(sessions={KEY: 5}), end_orphans=end) as found:
        await trio.sleep(100)
        assert found.opensips.sessions == left


@shows("engine.event_ip")
@pytest.mark.parametrize(("ip", "told"), [("192.0.2.44", "192.0.2.44"), ("0.0.0.0", EVENTS[0])])
async def test_events_are_asked_to_come_there(ip: str, told: str, autojump_clock: MockClock) -> None:
    async with connector(engine=EngineSettings(event_ip=ip, event_port=50_099)) as found:
        assert list(found.opensips.subscribers) == [f"udp:{told}:50099"]
        assert found.front_end.event_address == (told, 50_099)
        await found.call(KEY)


@shows("engine.event_port")
async def test_events_are_asked_to_come_to_that_port_or_any(autojump_clock: MockClock) -> None:
    async with connector(engine=EngineSettings(event_ip=EVENTS[0], event_port=50_061)) as found:
        assert list(found.opensips.subscribers) == [f"udp:{EVENTS[0]}:50061"]
    async with connector(engine=EngineSettings(event_ip=EVENTS[0])) as found:
        assert found.front_end.event_address[1] > 1024
        await found.call(KEY)


def test_the_instance_is_a_member_of_an_object() -> None:
    dice = random.Random(3)
    text = json.dumps({"instance": "aivc-1"})
    for _ in range(500):
        place = dice.randrange(len(text))
        found = instance_of(text[:place] + dice.choice('{}[]",:x0') + text[place + 1 :])
        assert found is None or isinstance(found, str)
