"""Trouble as one value: what each knob does, that a seed decides it, and that it can be printed and had again."""

from __future__ import annotations

from itertools import pairwise
from math import inf, nan
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aivc.config.settings import Address
from aivc.realtime.tools import load_tools, tool
from aivc.testing import CallRefused, Chaos, Crossing, Handset, Stall, VirtualNetwork, memory_stream_pair, open_phone

ALICE: Address = ("192.0.2.1", 4000)
BOB: Address = ("192.0.2.2", 4000)
CAROL: Address = ("192.0.2.3", 4000)


async def bound(address: Address) -> trio.socket.SocketType:
    sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await sock.bind(address)
    return sock


async def came(sock: trio.socket.SocketType, seconds: float) -> list[bytes]:
    found = []
    with trio.move_on_after(seconds):
        while True:
            found.append((await sock.recvfrom(100))[0])
    return found


# The value


def test_it_is_printed_as_it_is_written() -> None:
    chaos = Chaos(seed=7, loss=0.02, stalls=(Stall(3.0, 1.5, "to_model"),), crossings=(Crossing("BYE", "REFER"),))
    text = repr(chaos)
    assert text == (
        "Chaos(seed=7, loss=0.02, crossings=(Crossing(sends='BYE', meets='REFER'),), "
        "stalls=(Stall(at=3.0, seconds=1.5, way='to_model'),))"
    )
    assert eval(text) == chaos
    assert repr(Chaos()) == "Chaos()"


def test_a_seed_draws_the_same_trouble_and_another_another() -> None:
    drawn = [Chaos.drawn(seed) for seed in range(50)]
    assert drawn == [Chaos.drawn(seed) for seed in range(50)]
    assert len(set(drawn)) == 50
    assert [eval(repr(chaos)) for chaos in drawn] == drawn
    for knob in ("jitter", "loss", "duplication", "ssrc_changes", "port_changes", "stalls", "model_delay"):
        assert len({getattr(chaos, knob) for chaos in drawn}) > 1, knob


@pytest.mark.parametrize(
    "wrong",
    [
        *({"loss": 1.1}, {"duplication": -0.1}, {"delay": -1.0}, {"skew_ppm": 1e6}, {"model_delay": -0.1}),
        *({"jitter": nan}, {"delay": inf}, {"ssrc_changes": (-1.0,)}, {"port_changes": (nan,)}),
        *({"tool_seconds": (2.0, 1.0)}, {"tool_seconds": (-1.0, 1.0)}),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Chaos(**wrong)
    with pytest.raises(ValueError, match="sends"):
        Crossing("PRACK", "200")  # type: ignore[arg-type]  # the point of the test


@pytest.mark.parametrize("wrong", [{"stalls": ((3.0, 1.5),)}, {"crossings": ("BYE",)}, {"port_changes": [1.0]}])
def test_what_is_no_tuple_of_the_right_things_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(wrong))):
        Chaos(**wrong)


# The network


async def test_the_network_takes_its_numbers_from_it(autojump_clock: MockClock) -> None:
    chaos = Chaos(seed=3, delay=0.02, jitter=0.03, loss=0.1, reordering=0.2, reordering_delay=0.05, duplication=0.1)
    network = VirtualNetwork(chaos=chaos)
    assert (network.seed, network.delay, network.jitter, network.loss) == (3, 0.02, 0.03, 0.1)
    assert (network.reordering, network.reordering_delay, network.duplication) == (0.2, 0.05, 0.1)


async def test_some_datagrams_come_twice(autojump_clock: MockClock) -> None:
    VirtualNetwork(duplication=0.2).enable()
    with trio.fail_after(10), await bound(ALICE) as alice, await bound(BOB) as bob:
        for number in range(500):
            await alice.sendto(number.to_bytes(2), BOB)
        found = await came(bob, 1.0)
    assert set(found) == {number.to_bytes(2) for number in range(500)}
    assert 70 < len(found) - 500 < 130


async def test_the_trouble_of_one_host_is_not_that_of_others(autojump_clock: MockClock) -> None:
    network = VirtualNetwork(hosts={ALICE[0]: Chaos(loss=1.0)}).enable()
    with trio.fail_after(10), await bound(ALICE) as alice, await bound(BOB) as bob, await bound(CAROL) as carol:
        await alice.sendto(b"from alice", BOB)
        await carol.sendto(b"from carol", BOB)
        await carol.sendto(b"to alice", ALICE)
        assert await came(bob, 1.0) == [b"from carol"]
        assert await came(alice, 1.0) == []
        network.forget(ALICE[0])
        assert list(network.flows) == [(CAROL, BOB)]
        await alice.sendto(b"now", BOB)
        assert await came(bob, 1.0) == [b"now"]


# The phone


async def spoken(chaos: Chaos, seconds: float) -> Handset:
    """A handset that has listened to one with this trouble."""
    VirtualNetwork(delay=0.01).enable()
    with trio.fail_after(1000), await bound(ALICE) as one, await bound(BOB) as other:
        speaker, listener = Handset(one, chaos=chaos), Handset(other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.listen)
            nursery.start_soon(speaker.listen)
            with trio.move_on_after(seconds):
                await speaker.speak(BOB)
            nursery.cancel_scope.cancel()
        speaker.socket.close()
    return listener


@pytest.mark.parametrize("ppm", [200, -200, 0])
async def test_a_clock_that_is_wrong_counts_other_packets(autojump_clock: MockClock, ppm: float) -> None:
    heard = (await spoken(Chaos(skew_ppm=ppm), 100.015)).heard
    assert len(heard) == 5001 + ppm // 200  # 20 ms in 100 s
    assert {later.rtp_timestamp - packet.rtp_timestamp for packet, later in pairwise(heard)} == {160}


async def test_the_ssrc_and_the_port_change_when_they_are_told_to(autojump_clock: MockClock) -> None:
    heard = (await spoken(Chaos(ssrc_changes=(0.09, 0.29), port_changes=(0.19, 0.29)), 0.395)).heard
    sources = [(packet.ssrc, packet.source[1]) for packet in heard]
    assert [sources.count(each) for each in dict.fromkeys(sources)] == [5, 5, 5, 5]
    assert len({ssrc for ssrc, _ in sources}) == len({port for _, port in sources}) == 3
    assert sum(abs(later.sequence - packet.sequence) > 1 for packet, later in pairwise(heard)) == 2


CROSSINGS = [
    (Crossing("CANCEL", "200"), ["BYE", "CANCEL"]),
    (Crossing("BYE", "BYE"), ["BYE"]),
    (Crossing("BYE", "INVITE"), ["BYE"]),
    (Crossing("UPDATE", "INVITE"), ["BYE", "UPDATE"]),
]


@pytest.mark.parametrize(("crossing", "sent"), CROSSINGS, ids=[f"{c.sends}-{c.meets}" for c, _ in CROSSINGS])
async def test_a_message_has_left_when_the_one_that_it_meets_is_taken(
    autojump_clock: MockClock, crossing: Crossing, sent: list[str], any_schedule: int
) -> None:
    seen: list[str] = []

    def watch(source: Address, to: Address, data: bytes) -> None:
        if source[0] == "192.0.2.9" and data[:1].isalpha():
            seen.append(data.split(b" ")[1 if data.startswith(b"SIP") else 0].decode())

    VirtualNetwork(delay=0.02, on_packet=watch).enable()
    with trio.fail_after(60):
        async with (
            open_phone("192.0.2.2", 5060) as bob,
            bob.answering(ring_seconds=0.5) as calls,
            open_phone("192.0.2.9", chaos=Chaos(crossings=(crossing,))) as alice,
        ):
            async with alice.dial("sip:bob@192.0.2.2:5060") as call:
                theirs = await calls.receive()
                await theirs.wait_answered()
                await trio.sleep(0.3)
                if crossing.meets == "INVITE" and not call.is_over:
                    with trio.move_on_after(1.0):
                        await theirs.resume()
                elif crossing.meets == "BYE":
                    await theirs.hang_up()
                await trio.sleep(0.2)
            await trio.sleep(0.2)
            assert call.crossed == [crossing]
            assert call.is_over
            assert theirs.is_over
    asked = [each for each in seen if each.isalpha() and each not in ("INVITE", "ACK")]
    assert sorted(asked) == sent
    if crossing.meets != "200":
        assert seen.index(crossing.sends) < next(n for n, each in enumerate(seen) if each.isdigit())


async def test_who_cancels_before_the_answer_meets_nothing(autojump_clock: MockClock) -> None:
    VirtualNetwork(delay=0.02).enable()
    with trio.fail_after(60):
        async with (
            open_phone("192.0.2.2", 5060) as bob,
            bob.answering(ring_seconds=5.0),
            open_phone("192.0.2.9", chaos=Chaos(crossings=(Crossing("CANCEL", "180"),))) as alice,
        ):
            with pytest.raises(CallRefused, match="487"):
                async with alice.dial("sip:bob@192.0.2.2:5060"):
                    pass


# The WebSocket


async def test_a_stalled_path_carries_nothing_and_then_all_at_once(autojump_clock: MockClock) -> None:
    assert Chaos(loss=0.5).latency() is None
    near, far = memory_stream_pair(latency=Chaos(model_delay=0.01, stalls=(Stall(0.1, 0.5, "to_model"),)).latency())
    began, found = trio.current_time(), list[tuple[float, bytes]]()

    async def read() -> None:
        while data := await far.receive_some():
            found.append((round(trio.current_time() - began, 6), data))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for number in range(8):
                await trio.sleep_until(began + number * 0.1)
                near.write_nowait(b"%d" % number)
            await far.send_all(b"x")
            sent_at = trio.current_time()
            assert await near.receive_some() == b"x"
            assert trio.current_time() - sent_at == pytest.approx(0.01)
            await near.aclose()
    assert found == [(0.01, b"0"), (0.6, b"12345"), (0.61, b"6"), (0.71, b"7")]


# Tools


@tool
async def opening_hours(day: str) -> str:
    """When the shop is open."""
    return f"closed on {day}"


async def test_tools_take_longer_and_say_the_same(autojump_clock: MockClock) -> None:
    tools = load_tools([])
    tools.add(opening_hours)
    slow = Chaos(tool_seconds=(1.0, 2.0)).slow(tools)
    assert slow.schemas == tools.schemas
    assert slow.get("terminate_call") is tools.get("terminate_call")
    began = trio.current_time()
    with trio.fail_after(10):
        definition = slow.get("opening_hours")
        assert definition is not None
        result = await definition("Sunday")  # type: ignore[misc]  # a tool returns any object; this one is async
    assert result == "closed on Sunday"
    assert 1.0 <= trio.current_time() - began <= 2.0
