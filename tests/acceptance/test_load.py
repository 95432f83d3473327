"""What an instance owes a load balancer, and many calls at a time: RFC 3261 sections 11.2 and 21.5.4."""

from __future__ import annotations

import gc

import pytest
import trio
from scenarios.world import NUMBER, World, changed, open_world, wait_over
from sip_phone import Phone, user_agent
from trio.testing import MockClock

from acceptance.talk import is_heard, open_talk, socket_at
from aivc.sip.leg import HungUp
from aivc.sip.message import Response
from aivc.testing import CallRefused, Say, VirtualNetwork, scripted

BALANCER = ("192.0.2.40", 5060)
MANY = changed(rtp={"max_port": 40_999})


async def ping(number: int) -> Response:
    """The answer to a probe."""
    async with socket_at(BALANCER) as socket:
        phone = Phone(socket, call_id=f"ping-{number}", host=BALANCER[0])
        return await phone.ask(phone.write("OPTIONS", target="sip:192.0.2.1", branch=f"z9hG4bK-ping-{number}"))


async def test_lb_01_02_a_probe_is_answered_as_a_call_would_be(autojump_clock: MockClock) -> None:
    """RFC 3261 section 11.2: 200 while there is room, 503 with Retry-After while there is none, then 200 again."""
    async with open_talk(settings=changed(service={"max_calls": 1})) as (world, call):
        full = await ping(1)
        assert (full.status, int(full.header("Retry-After")) > 0) == (503, True)
        await call.hang_up()
        await wait_over(world)
        assert (await ping(2)).status == 200


async def test_lb_03_06_an_instance_that_drains_says_so_and_serves_the_calls_that_it_has(
    autojump_clock: MockClock,
) -> None:
    """Probes and new calls get 503 at once; whatever belongs to a running call is served to its end."""
    async with open_talk() as (world, call):
        world.service.drain()
        assert (await ping(1)).status == 503
        with pytest.raises(CallRefused) as refused:
            async with world.phone.dial(NUMBER):
                pass
        assert refused.value.response.status == 503
        assert await is_heard(call.handset)
        assert (await call.hold()).status == 200
        assert (await call.ask("OPTIONS")).status == 200
        await call.hang_up()
        assert world.service.idle.is_set()


async def test_lb_04_a_call_beyond_capacity_is_refused_before_anything_else(autojump_clock: MockClock) -> None:
    """The balancer tries another instance only if nothing but 100 came before the 503."""
    async with open_talk(settings=changed(service={"max_calls": 1})) as (world, _):
        start = trio.current_time()
        async with world.ring() as second:
            with pytest.raises(CallRefused, match="503"):
                await second.wait_answer()
            assert trio.current_time() - start < 0.1
            assert [response.status for response in second.responses if response.status != 100] == [503]


async def call_once(world: World, seconds: float, failures: list[BaseException]) -> None:
    try:
        async with world.dial() as call:
            await call.handset.wait_speech(seconds)
    except (CallRefused, trio.TooSlowError) as failure:
        failures.append(failure)


@pytest.mark.parametrize(("calls", "pace"), [pytest.param(50, 10, id="ld_01"), pytest.param(200, 20, id="ld_02")])
async def test_ld_01_02_many_calls_at_a_steady_pace_are_all_answered(
    calls: int, pace: int, autojump_clock: MockClock
) -> None:
    """None fails, and nothing is left of any; `check_remains` looks at tasks and sockets."""
    failures: list[BaseException] = []
    hello = scripted([[Say("Hello.", seconds=0.2)]])
    async with open_world(hello, settings=MANY, calls=calls) as world, trio.open_nursery() as nursery:
        for _ in range(calls):
            nursery.start_soon(call_once, world, 0.3, failures)
            await trio.sleep(1 / pace)
    assert failures == []


async def test_ld_03_an_hour_of_calls_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    """A call every five seconds through the user agent: neither transactions nor objects pile up."""
    network, objects = VirtualNetwork(), list[int]()
    async with user_agent(network=network, seconds=4000.0) as (agent, phone):
        for number in range(720):
            phone.call_id, phone.to_tag, phone.cseq = f"churn-{number}", None, 1
            leg = await phone.connect(agent)
            await trio.sleep(4.5)
            assert (await phone.ask(phone.write("BYE"))).status == 200
            assert [event async for event in leg.events] == [HungUp()]
            await trio.sleep(0.5)
            if number in (200, 719):
                gc.collect()
                objects.append(len(gc.get_objects()))
        assert agent.statistics().server_transactions <= 30
        await trio.sleep(40)
        left = agent.statistics()
        assert (left.legs, left.server_transactions, left.client_transactions) == (0, 0, 0)
        assert objects[1] - objects[0] < 500
