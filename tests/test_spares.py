"""Connections opened ahead, in virtual time: socket pairs stand for what `dial` would connect."""

from __future__ import annotations

import socket as stdlib_socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from aivc.realtime.spares import AGAIN, CONNECT_SECONDS, MOST_ENDPOINTS, SPARE_SECONDS, Spares
from aivc.realtime.stream import SocketByteStream
from aivc.realtime.target import Target


def at(host: str) -> Target:
    return Target("", host, 443, True, "", ())


@attrs.define(eq=False)
class World:
    """Servers at every host that hear nothing: the ends of the connections, in the order of their opening."""

    spares: Spares = attrs.field(init=False)
    opened: list[tuple[float, str]] = attrs.field(factory=list)
    ends: list[stdlib_socket.socket] = attrs.field(factory=list)
    fails: bool = False
    hangs: bool = False

    async def dial(self, place: Target) -> SocketByteStream:
        self.opened.append((trio.current_time(), place.host))
        if self.hangs:
            await trio.sleep_forever()
        if self.fails:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = stdlib_socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.ends.append(theirs)
        return SocketByteStream(ours)

    @property
    def open_ends(self) -> int:
        """How many of them are connected still."""
        return sum(is_open(end) for end in self.ends)


def is_open(end: stdlib_socket.socket) -> bool:
    try:
        return end.fileno() >= 0 and end.recv(1) != b""
    except BlockingIOError:
        return True


@asynccontextmanager
async def open_world(count: int = 1) -> AsyncIterator[World]:
    world = World()
    with trio.fail_after(10_000):
        try:
            async with trio.open_nursery() as nursery:
                world.spares = Spares(nursery, world.dial, count)
                yield world
                nursery.cancel_scope.cancel()
            assert world.open_ends == 0  # but for those that were taken and closed by the test
        finally:
            for end in world.ends:
                end.close()


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_as_many_as_wanted_wait_at_each_endpoint(autojump_clock: MockClock) -> None:
    async with open_world(3) as world:
        world.spares.want(at("a"))
        world.spares.want(at("b"))
        world.spares.want(at("a"))
        await settled()
        assert sorted(host for _, host in world.opened) == ["a"] * 3 + ["b"] * 3
        assert world.spares.ready == 6


async def test_one_that_is_taken_is_the_takers_and_replaced_at_once(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        world.spares.want(at("a"))
        await settled()
        stream = world.spares.take(at("a"))
        assert stream is not None
        await settled()
        assert [when for when, _ in world.opened] == [0.0, 0.0]
        await stream.send_all(b"GET")  # it is good for both directions
        assert world.ends[0].recv(10) == b"GET"
        world.ends[0].send(b"101")
        assert await stream.receive_some() == b"101"
        await trio.sleep(2 * SPARE_SECONDS)
        assert is_open(world.ends[0])  # nobody watches over it any more
        await stream.aclose()
        assert attrs.astuple(world.spares.counters)[:2] == (1, 0)


async def test_the_newest_is_taken_first(autojump_clock: MockClock) -> None:
    async with open_world(2) as world:
        world.spares.want(at("a"))
        await settled()
        await trio.sleep(10)
        first = world.spares.take(at("a"))
        await settled()
        second = world.spares.take(at("a"))
        assert first is not None
        assert second is not None
        await second.send_all(b"x")
        assert world.ends[2].recv(1) == b"x"  # opened when the first was taken
        await first.aclose()
        await second.aclose()


async def test_none_is_kept_until_servers_lose_patience(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        world.spares.want(at("a"))
        await trio.sleep(2.5 * SPARE_SECONDS)
        assert [when for when, _ in world.opened] == pytest.approx([0.0, SPARE_SECONDS, 2 * SPARE_SECONDS])
        assert (world.open_ends, world.spares.counters.replaced) == (1, 2)


@pytest.mark.parametrize("last_words", [b"", b"220 mail ready\r\n"])
async def test_one_that_the_server_gives_up_is_replaced_with_patience(
    autojump_clock: MockClock, last_words: bytes
) -> None:
    async with open_world() as world:
        world.spares.want(at("a"))
        await settled()
        world.ends[0].sendall(last_words)
        if not last_words:
            world.ends[0].close()
        await settled()
        assert world.spares.ready == 0
        assert world.spares.take(at("a")) is None
        await trio.sleep(AGAIN + 0.01)
        assert (len(world.opened), world.spares.ready) == (2, 1)
        assert (world.spares.counters.missed, world.spares.counters.replaced) == (1, 1)


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_server_that_cannot_be_reached_is_tried_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, hangs: bool
) -> None:
    async with open_world() as world:
        world.fails, world.hangs = True, hangs
        world.spares.want(at("a"))
        pause = AGAIN + (CONNECT_SECONDS if hangs else 0)
        await trio.sleep(2.5 * pause)
        assert [when for when, _ in world.opened] == pytest.approx([0.0, pause, 2 * pause])
        world.fails = world.hangs = False
        await trio.sleep(pause)
        assert world.spares.ready == 1
    complaints = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(complaints) == 1  # the others are debug


async def test_the_endpoint_that_was_used_least_gives_way(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        for number in range(MOST_ENDPOINTS):
            world.spares.want(at(f"h{number}"))
        await settled()
        world.spares.want(at("h0"))
        world.spares.want(at("another"))
        await settled()
        assert world.spares.ready == world.open_ends == MOST_ENDPOINTS
        assert world.spares.take(at("h1")) is None
        assert world.spares.take(at("h2")) is None  # h1 came back for it
