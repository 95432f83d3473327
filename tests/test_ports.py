"""Which ports a call gets, of either family."""

from __future__ import annotations

import itertools
import random
import socket as stdlib

import pytest
import trio
from trio.testing import MockClock

from aivc.config.settings import RtpSettings
from aivc.media.ports import NoPortFree, PortPool, local_ip_towards
from aivc.testing.network import VirtualNetwork


def pool(seed: int = 1, **settings: object) -> PortPool:
    chosen = {"min_port": 40_000, "max_port": 40_099, "quarantine_seconds": 0.0, **settings}
    return PortPool(RtpSettings(**chosen), random.Random(seed))  # type: ignore[arg-type]  # given by name in each test


async def ports_of(one: PortPool, calls: int) -> list[int]:
    found = []
    for _ in range(calls):
        async with one.open_sockets() as sockets:
            found.append(sockets.rtp.getsockname()[1])
            if sockets.rtcp is not None:
                assert sockets.rtcp.getsockname()[1] == found[-1] + 1
    return found


async def test_rtp_is_on_an_even_port_and_rtcp_on_the_next(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    found = await ports_of(pool(min_port=40_001, max_port=40_010), 60)
    assert set(found) == {40_002, 40_004, 40_006, 40_008}


async def test_without_rtcp_the_odd_port_is_left_alone(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    found = await ports_of(pool(min_port=40_001, max_port=40_010, rtcp=False), 80)
    assert set(found) == {40_002, 40_004, 40_006, 40_008, 40_010}
    async with pool(rtcp=False).open_sockets() as sockets:
        assert sockets.rtcp is None


async def test_nobody_can_tell_the_next_port_from_the_last(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    found = await ports_of(pool(), 200)
    steps = {(later - earlier) % 100 for earlier, later in itertools.pairwise(found)}
    assert len(steps) > 30
    assert len(set(found)) > 40
    assert found != await ports_of(pool(seed=2), 200)


async def test_every_pair_is_found_before_a_call_is_refused(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    for seed in range(20):
        one = pool(seed)
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                await nursery.start(hold_open, one)
            assert one.in_use == 50
            with pytest.raises(NoPortFree, match="50 in use"):
                await one.open_sockets().__aenter__()
            nursery.cancel_scope.cancel()
        assert one.in_use == 0


async def hold_open(one: PortPool, task_status: trio.TaskStatus[None]) -> None:
    async with one.open_sockets():
        task_status.started()
        await trio.sleep_forever()


@pytest.mark.parametrize("taken", [40_000, 40_001])
async def test_a_pair_of_which_somebody_else_has_one_is_passed_over(autojump_clock: MockClock, taken: int) -> None:
    network = VirtualNetwork().enable()
    other = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await other.bind(("0.0.0.0", taken))
    for seed in range(10):
        assert await ports_of(pool(seed, max_port=40_003), 1) == [40_002]
    assert set(network.bound) == {("0.0.0.0", taken)}  # nothing is left behind
    with pytest.raises(NoPortFree):
        await pool(max_port=40_001).open_sockets().__aenter__()


async def test_a_range_without_a_pair_has_no_port(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    with pytest.raises(NoPortFree):
        await pool(min_port=40_001, max_port=40_002).open_sockets().__aenter__()


async def test_an_address_that_is_not_ours_refuses_the_call_and_names_the_setting() -> None:
    with trio.fail_after(5), pytest.raises(NoPortFree, match=r"rtp\.bind_ip = 192\.0\.2\.7"):
        await pool(bind_ip="192.0.2.7").open_sockets().__aenter__()
    with trio.fail_after(5), pytest.raises(NoPortFree, match=r"IPv6|rtp\.bind_ipv6"):
        await pool(bind_ipv6="2001:db8::7").open_sockets(ipv6=True).__aenter__()


def has_ipv6() -> bool:
    try:
        with stdlib.socket(stdlib.AF_INET6, stdlib.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
async def test_a_caller_of_either_family_may_have_the_same_port() -> None:
    with trio.fail_after(5):
        one, other = pool(max_port=40_001), pool(max_port=40_001)
        async with one.open_sockets() as four, other.open_sockets(ipv6=True) as six:
            assert six.rtp.family == stdlib.AF_INET6
            assert four.rtp.getsockname()[1] == six.rtp.getsockname()[1] == 40_000
            assert six.rtp.getsockopt(stdlib.IPPROTO_IPV6, stdlib.IPV6_V6ONLY) == 1
        assert await local_ip_towards(("::1", 9)) == "::1"
