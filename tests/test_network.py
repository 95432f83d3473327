"""The virtual network: what arrives, when, and that a seed decides it."""

from __future__ import annotations

import socket as stdlib
from itertools import pairwise
from math import inf, nan
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aivc.config.settings import Address
from aivc.testing.addresses import as_address
from aivc.testing.datagrams import RECEIVE_QUEUE_DATAGRAMS
from aivc.testing.network import VirtualNetwork

ALICE: Address = ("192.0.2.1", 4000)
BOB: Address = ("192.0.2.2", 4000)

Arrival = tuple[float, bytes]


async def bound(address: Address) -> trio.socket.SocketType:
    sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await sock.bind(address)
    return sock


async def arrivals(network: VirtualNetwork, packets: int = 100, *, others: int = 0) -> list[Arrival]:
    """What Bob receives of a packet every 20 ms, with other traffic beside it; times since the start."""
    network.enable()
    came: list[Arrival] = []
    start = trio.current_time()
    with await bound(ALICE) as alice, await bound(BOB) as bob, await bound(("192.0.2.3", 0)) as carol:
        with trio.move_on_after(packets * 0.020 + 1.0):
            async with trio.open_nursery() as nursery:

                async def receive() -> None:
                    while True:
                        data, source = await bob.recvfrom(2048)
                        if source == ALICE:
                            came.append((round(trio.current_time() - start, 9), data))

                nursery.start_soon(receive)
                for number in range(packets):
                    await trio.sleep_until(start + number * 0.020)
                    for _ in range(others):
                        await carol.sendto(b"noise", BOB)
                    await alice.sendto(number.to_bytes(2), BOB)
    return came


async def test_packets_arrive_after_the_delay_and_in_order(autojump_clock: MockClock) -> None:
    with trio.fail_after(10):
        came = await arrivals(VirtualNetwork(delay=0.050))
    assert came == [(round(number * 0.020 + 0.050, 9), number.to_bytes(2)) for number in range(100)]


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        *(("loss", 1.5), ("loss", -0.1), ("reordering", 2.0), ("duplication", nan)),
        *(("delay", -0.001), ("jitter", inf), ("reordering_delay", nan)),
    ],
)
def test_a_figure_that_makes_no_sense_is_refused_at_the_beginning_and_later(figure: str, value: float) -> None:
    wrong: dict[str, Any] = {figure: value}
    with pytest.raises(ValueError, match=f"'{figure}' must be"):
        VirtualNetwork(**wrong)
    network = VirtualNetwork()
    with pytest.raises(ValueError, match=f"'{figure}' must be"):
        setattr(network, figure, value)


async def test_jitter_stays_within_its_bound(autojump_clock: MockClock) -> None:
    with trio.fail_after(10):
        came = await arrivals(VirtualNetwork(delay=0.010, jitter=0.015))
    late = [at - int.from_bytes(data) * 0.020 for at, data in came]
    assert len(came) == 100
    assert 0.010 <= min(late) < 0.013
    assert 0.022 < max(late) <= 0.025


async def test_lost_packets_are_counted_by_flow(autojump_clock: MockClock) -> None:
    network = VirtualNetwork(loss=0.2)
    with trio.fail_after(30):
        came = await arrivals(network, 1000)
    flow = network.flows[ALICE, BOB]
    assert (flow.sent, flow.lost) == (1000, 1000 - len(came))
    assert 150 < flow.lost < 250


async def test_reordering_lets_later_packets_overtake(autojump_clock: MockClock) -> None:
    with trio.fail_after(10):
        came = [int.from_bytes(data) for _, data in await arrivals(VirtualNetwork(reordering=0.1))]
    assert sorted(came) == list(range(100))
    overtaken = sum(later < earlier for earlier, later in pairwise(came))
    assert 3 < overtaken < 20


async def test_the_same_seed_gives_the_same_arrivals_whatever_the_order_of_tasks(
    autojump_clock: MockClock, any_schedule: int
) -> None:
    def troubled(seed: int) -> VirtualNetwork:
        return VirtualNetwork(seed=seed, delay=0.01, jitter=0.03, loss=0.1, reordering=0.1)

    with trio.fail_after(60):
        first, second, other = [await arrivals(troubled(seed), 30) for seed in (1, 1, 2)]
    assert first == second != other


async def test_other_traffic_does_not_change_a_flows_fate(autojump_clock: MockClock) -> None:
    with trio.fail_after(30):
        alone = await arrivals(VirtualNetwork(jitter=0.03, loss=0.1))
        crowded = await arrivals(VirtualNetwork(jitter=0.03, loss=0.1), others=3)
    assert alone == crowded


async def test_an_address_can_be_bound_once_and_again_after_it_was_closed() -> None:
    VirtualNetwork().enable()
    with trio.fail_after(1):
        with await bound(ALICE), pytest.raises(OSError, match="in use"):
            await bound(ALICE)
        (await bound(ALICE)).close()


async def test_port_zero_is_any_free_port() -> None:
    network = VirtualNetwork().enable()
    with trio.fail_after(1):
        one, other = await bound(("192.0.2.1", 0)), await bound(("192.0.2.1", 0))
    assert one.getsockname() != other.getsockname()
    assert set(network.bound) == {one.getsockname(), other.getsockname()}
    one.close()
    other.close()
    assert network.bound == {}


async def test_a_socket_bound_to_any_address_receives_for_all_and_sends_from_the_host(
    autojump_clock: MockClock,
) -> None:
    VirtualNetwork(host="192.0.2.7").enable()
    with trio.fail_after(1), await bound(("0.0.0.0", 5060)) as server, await bound(ALICE) as alice:
        await alice.sendto(b"to one of its addresses", ("192.0.2.99", 5060))
        _, source = await server.recvfrom(100)
        assert source == ALICE
        await server.sendto(b"back", ALICE)
        assert await alice.recvfrom(100) == (b"back", ("192.0.2.7", 5060))


async def test_a_socket_that_was_never_bound_sends_from_a_port_of_the_host(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    with trio.fail_after(1), await bound(ALICE) as alice, trio.socket.socket(type=trio.socket.SOCK_DGRAM) as nobody:
        assert nobody.getsockname() == ("0.0.0.0", 0)
        await nobody.sendto(b"x", ALICE)
        _, source = await alice.recvfrom(100)
        assert source == nobody.getsockname()
        assert source[0] == "127.0.0.1"


async def test_connecting_tells_the_local_address_as_a_kernel_does() -> None:
    VirtualNetwork(host="192.0.2.7").enable()
    with trio.fail_after(1), trio.socket.socket(type=trio.socket.SOCK_DGRAM) as probe:
        await probe.connect(BOB)
        assert probe.getsockname()[0] == "192.0.2.7"


async def test_where_nobody_listens_a_packet_vanishes() -> None:
    seen: list[tuple[Address, Address, bytes]] = []
    VirtualNetwork(on_packet=lambda source, to, data: seen.append((source, to, data))).enable()
    with trio.fail_after(1), await bound(ALICE) as alice:
        assert await alice.sendto(b"hello", BOB) == 5
    assert seen == [(ALICE, BOB, b"hello")]


async def test_a_receiver_too_slow_loses_what_does_not_fit(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    with trio.fail_after(5), await bound(ALICE) as alice, await bound(BOB) as bob:
        for _ in range(RECEIVE_QUEUE_DATAGRAMS + 10):
            await alice.sendto(b"x", BOB)
        received = 0
        with trio.move_on_after(1):
            while True:
                await bob.recvfrom(100)
                received += 1
    assert received == RECEIVE_QUEUE_DATAGRAMS


async def test_closing_a_socket_wakes_who_waits_for_it_and_forbids_its_use() -> None:
    VirtualNetwork().enable()
    with trio.fail_after(1):
        alice = await bound(ALICE)

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await alice.recvfrom(100)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            alice.close()
            alice.close()  # twice is once
        with pytest.raises(trio.ClosedResourceError):
            await alice.sendto(b"x", BOB)
        with pytest.raises(trio.ClosedResourceError):
            alice.getsockname()


async def test_ipv6_sockets_have_names_of_four_parts(autojump_clock: MockClock) -> None:
    VirtualNetwork(ipv6_host="2001:db8::7").enable()
    kind = trio.socket.SOCK_DGRAM
    with (
        trio.fail_after(1),
        trio.socket.socket(trio.socket.AF_INET6, kind) as one,
        trio.socket.socket(trio.socket.AF_INET6, kind) as other,
    ):
        await one.bind(("::", 4000, 0, 0))
        await other.sendto(b"x", ("2001:db8::9", 4000))
        assert await one.recvfrom(10) == (b"x", other.getsockname())
        assert other.getsockname()[0] == "2001:db8::7"
        with pytest.raises(OSError, match="family"):
            await other.sendto(b"x", BOB)


def test_other_families_and_types_are_refused() -> None:
    with pytest.raises(OSError, match="not supported"):
        VirtualNetwork().socket(stdlib.AF_UNIX)
    with pytest.raises(OSError, match="not supported"):
        VirtualNetwork().socket(type=stdlib.SOCK_RAW)


@pytest.mark.parametrize("address", ["192.0.2.1:5060", ("192.0.2.1",), None])
def test_what_is_no_address_is_refused(address: object) -> None:
    with pytest.raises(OSError, match="is not"):
        as_address(address)
