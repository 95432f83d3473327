"""A service with two front ends: one admission, the same limits, routing and records for the calls of both."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import pytest
import trio
from log_lines import lines_of
from paper_leg import paper_leg
from scenarios.world import DELAY, NOON, PHONE, SERVICE, SETTINGS, changed, received
from trio.testing import MockClock

from aivc import (
    CallEvent,
    CallRecord,
    Ending,
    EngineSettings,
    FrontEnd,
    Leg,
    OpenSipsSettings,
    Rejection,
    Service,
    Settings,
    SipSettings,
    open_service,
    open_user_agent,
)
from aivc.config.settings import Agent
from aivc.media.clock import TaskClock
from aivc.nursery.front_ends import FrontEnds, management_address
from aivc.nursery.record import OBSERVER_EVENTS, Ended
from aivc.nursery.routing import Route, load_routes
from aivc.nursery.service import answer_calls
from aivc.testing import CallRefused, FakeModel, Phone, Say, VirtualNetwork, connect_to, open_phone, scripted
from aivc.testing.opensips import FakeOpenSips, open_fake_opensips

OPENSIPS: Final = "192.0.2.5"
BY_SIP: Final = f"sip:1000@{SERVICE}:5060"
BY_OPENSIPS: Final = f"sip:1000@{OPENSIPS}:5060"


# Without a network: a front end of paper


@attrs.define(eq=False)
class PaperFrontEnd:
    """Implements `aivc.sip.leg.FrontEnd`; the test brings the calls."""

    legs: trio.MemoryReceiveChannel[Leg]
    bring: trio.MemorySendChannel[Leg]
    accepting: bool = True
    withdrew: bool = False

    async def withdraw(self) -> None:
        self.withdrew = True


def paper_front_end() -> PaperFrontEnd:
    bring, legs = trio.open_memory_channel[Leg](8)
    return PaperFrontEnd(legs, bring)


async def endless(_leg: Leg, _route: Route) -> CallRecord:
    await trio.sleep_forever()
    raise AssertionError("nobody wakes it")


async def test_the_calls_of_two_front_ends_share_limits_and_routing(autojump_clock: MockClock) -> None:
    settings = changed(service={"max_calls": 2})
    front_ends: tuple[FrontEnd, ...] = (one := paper_front_end(), other := paper_front_end())
    legs = [attrs.evolve(paper_leg(), call_id=str(number)) for number in range(3)]
    with trio.fail_after(5):
        async with open_user_agent(SipSettings(listen=())) as agent, trio.open_nursery() as nursery:
            service = Service(settings, FrontEnds(agent))
            for front_end in front_ends:
                nursery.start_soon(answer_calls, service, front_end, load_routes(settings).route, endless)
            for front, leg in zip((one, other, one), legs, strict=True):
                front.bring.send_nowait(leg)
                await trio.sleep(0.1)
            assert (service.calls, service.refused) == (2, 1)
            nursery.cancel_scope.cancel()
    assert [leg.did for leg in legs] == [[], [], [Rejection(503, "service.max_calls = 2 is reached", 10, "max_calls")]]


async def test_a_bug_in_choosing_who_answers_costs_that_call_only(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    front_end, legs = paper_front_end(), [paper_leg(), paper_leg()]

    def route(leg: Leg) -> Route | Rejection:
        if leg is legs[0]:
            raise LookupError("a shelf")
        return Rejection(404, "no agent for this number", None, "no_agent")

    with trio.fail_after(5):
        async with open_user_agent(SipSettings(listen=())) as agent, trio.open_nursery() as nursery:
            nursery.start_soon(answer_calls, Service(SETTINGS, FrontEnds(agent)), front_end, route, endless)
            for leg in legs:
                front_end.bring.send_nowait(leg)
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
    assert [leg.did for leg in legs] == [
        [Rejection(500, "internal error", None, "internal_error")],
        [Rejection(404, "no agent for this number", None, "no_agent")],
    ]
    assert [line.message for line in caplog.records if line.exc_info] == ["call.bug"]


def test_the_management_interface_is_named_as_opensips_names_it() -> None:
    assert management_address(OpenSipsSettings()) == "udp:127.0.0.1:8080"
    assert management_address(OpenSipsSettings(socket="/run/mi.sock")) == "unix:/run/mi.sock"


# With an OpenSIPS, and a telephone that calls by it or directly


@attrs.define(eq=False)
class World:
    opensips: FakeOpenSips
    model: FakeModel
    phone: Phone
    service: Service
    events: list[CallEvent] = attrs.field(factory=list)  # once the service has ended

    @property
    def records(self) -> list[CallRecord]:
        return [event.what.record for event in self.events if isinstance(event.what, Ended)]


def with_opensips(settings: Settings = SETTINGS, **more: Any) -> Settings:
    opensips = OpenSipsSettings(enabled=True, ip=OPENSIPS)
    rtp = attrs.evolve(settings.rtp, max_port=settings.rtp.min_port + 9)
    given = {"opensips": opensips, "engine": EngineSettings(event_ip=SERVICE, event_port=8090), "rtp": rtp}
    return attrs.evolve(settings, **{**given, **more})


@asynccontextmanager
async def open_world(settings: Settings, extra_params: object = None) -> AsyncIterator[World]:
    """An OpenSIPS, a model, a service that is subscribed, and a telephone."""
    text = extra_params if extra_params is None else json.dumps(extra_params)
    VirtualNetwork(delay=DELAY).enable()
    observer, observed = trio.open_memory_channel[CallEvent](OBSERVER_EVENTS)
    with trio.fail_after(200):
        async with (
            open_fake_opensips(OPENSIPS, extra_params=text) as opensips,
            FakeModel(scripted([[Say("Hello.", seconds=0.5)]]), wall_clock=lambda: NOON) as model,
            open_phone(PHONE) as phone,
        ):
            opened = open_service(
                settings, connect=connect_to(model), clock=TaskClock(), observer=observer, wall_clock=lambda: NOON
            )
            async with opened as service:
                world = World(opensips, model, phone, service)
                await opensips.wait_subscribed()
                yield world
            world.events += received(observed)
            assert opensips.violations == []


async def refusal(phone: Phone, uri: str) -> int:
    with pytest.raises(CallRefused) as caught:
        async with phone.dial(uri):
            pass
    return caught.value.response.status


async def test_calls_come_by_sip_and_from_opensips_at_once(autojump_clock: MockClock) -> None:
    async with open_world(with_opensips(changed(service={"max_calls": 2}))) as world:
        async with world.phone.dial(BY_OPENSIPS) as one, world.phone.dial(BY_SIP) as other:
            for call in (one, other):
                await call.handset.wait_speech(0.3)
            assert world.service.calls == 2
            assert await refusal(world.phone, BY_OPENSIPS) == await refusal(world.phone, BY_SIP) == 503
        await world.opensips.wait_empty()
    assert [record.ending for record in world.records] == [Ending.CALLER_HUNG_UP] * 2
    assert {record.dialled for record in world.records} == {"1000"}


async def test_the_log_and_the_service_tell_of_opensips(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "aivc.service"):
        async with open_world(with_opensips()) as world:
            await trio.sleep(0.1)
            subscribed = [world.service.is_subscribed]
            await world.opensips.stop()
            await trio.sleep(60)
            subscribed.append(world.service.is_subscribed)
    assert subscribed == [True, False]
    (ready,) = lines_of(caplog, "service.ready")
    assert ready == {
        "listening": [f"udp:{SERVICE}:5060"],
        "opensips": f"udp:{OPENSIPS}:8080",
        "events": f"udp:{SERVICE}:8090",
    }


async def test_without_opensips_nothing_is_said_of_it(autojump_clock: MockClock) -> None:
    async with open_user_agent(SipSettings(listen=())) as agent:
        assert Service(SETTINGS, FrontEnds(agent)).is_subscribed is None


async def test_the_user_agent_may_be_off(autojump_clock: MockClock) -> None:
    async with open_world(with_opensips(changed(sip={"enabled": False}))) as world:
        assert world.service.listening == ()
        async with world.phone.dial(BY_OPENSIPS) as call:
            await call.handset.wait_speech(0.3)
        await world.opensips.wait_empty()
    assert [record.ending for record in world.records] == [Ending.CALLER_HUNG_UP]


async def test_draining_refuses_new_calls_and_stays_subscribed_for_those_in_progress(
    autojump_clock: MockClock,
) -> None:
    statuses: list[int] = []
    subscribed: list[int] = []

    async def talk(world: World) -> None:
        async with world.phone.dial(BY_OPENSIPS) as call:
            await call.handset.wait_speech(0.3)
            await world.service.draining.wait()
            await trio.sleep(1.0)
            statuses.append(await refusal(world.phone, BY_OPENSIPS))
            await trio.sleep(60.0)  # longer than a subscription's third
            subscribed.append(len(world.opensips.subscribers))

    async with trio.open_nursery() as nursery:
        async with open_world(with_opensips(changed(service={"drain_seconds": 120.0}))) as world:
            nursery.start_soon(talk, world)
            await trio.sleep(2.0)
        nursery.cancel_scope.deadline = trio.current_time() + 60
    assert (statuses, subscribed) == ([503], [1])
    assert world.opensips.subscribers == []  # it was taken back
    assert [record.ending for record in world.records] == [Ending.CALLER_HUNG_UP]


# What OpenSIPS says of the call


SALES: Final = Agent(
    name="sales", openai=attrs.evolve(SETTINGS.openai, match=("2000",), voice="ash", disabled_tools=("send_digits",))
)
AGENTS: Final = attrs.evolve(SETTINGS, agents=(SALES,))


def told(world: World) -> Mapping[str, Any]:
    (session,) = world.model.sessions
    return session.session


async def test_extra_params_choose_the_agent_and_change_its_settings(autojump_clock: MockClock) -> None:
    extra = {"flavor": "sales", "openai": {"instructions": "You speak with Alice."}}
    async with open_world(with_opensips(AGENTS), extra) as world:
        async with world.phone.dial(BY_OPENSIPS) as call:
            await call.handset.wait_speech(0.3)
        assert told(world)["instructions"] == "You speak with Alice."
        assert told(world)["audio"]["output"]["voice"] == "ash"
        assert [tool["name"] for tool in told(world)["tools"]] == ["terminate_call"]
        await world.opensips.wait_empty()
    assert [record.agent for record in world.records] == ["sales"]


async def test_extra_params_may_have_the_call_refused(autojump_clock: MockClock) -> None:
    async with open_world(with_opensips(), {"openai": {"disable": True}}) as world:
        assert await refusal(world.phone, BY_OPENSIPS) == 503
        assert world.service.refused == 1
        await world.opensips.wait_empty()
    assert world.records == []


@pytest.mark.parametrize("action", ["fallback", "refuse"])
async def test_extra_params_that_cannot_be_used_are_left_aside_or_refuse_the_call(
    autojump_clock: MockClock, action: Any
) -> None:
    engine = EngineSettings(event_ip=SERVICE, api_failure=action)
    async with open_world(with_opensips(AGENTS, engine=engine), {"flavor": "deepgram"}) as world:
        if action == "refuse":
            assert await refusal(world.phone, BY_OPENSIPS) == 503
        else:
            async with world.phone.dial(BY_OPENSIPS) as call:
                await call.handset.wait_speech(0.3)
        await world.opensips.wait_empty()
    assert [record.agent for record in world.records] == ([] if action == "refuse" else [None])
