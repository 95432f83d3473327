"""Streams that are read on the heartbeat, or by a task of their own: the same must be true of both."""

from __future__ import annotations

import gc
import select
import socket
import struct
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from byte_stream_pairs import Pair, Watching, by_heartbeat, by_task, plain, read_exactly, tls
from trio.testing import MockClock

from aivc.config.settings import Address, RtpSettings
from aivc.media.clock import TICK, Heartbeat, open_heartbeat
from aivc.media.latching import Latch
from aivc.media.pacer import Pacer
from aivc.media.playout import Playout
from aivc.media.polling import ROUNDS, Polled
from aivc.media.stream import RtpStream
from aivc.media.timer import Timer, open_sleep_timer
from aivc.realtime.stream import SocketByteStream, SocketWatch

BIG = bytes(range(256)) * 4000


either = pytest.mark.parametrize("pair", [plain, tls])
both = pytest.mark.parametrize("watching", [by_task, by_heartbeat])


@both
@either
async def test_everything_comes_in_order_and_then_the_end(pair: Pair, watching: Watching) -> None:
    heard = bytearray()

    def take(data: bytes) -> bool:
        heard.extend(data)
        return bool(data)

    with trio.fail_after(10):
        async with watching() as watch, pair(watch) as (stream, peer), trio.open_nursery() as nursery:
            nursery.start_soon(stream.receive_each, take)
            await peer.send_all(BIG)
            await peer.aclose()
    assert heard == BIG


@both
@either
async def test_what_comes_after_enough_waits_for_the_next_reader(pair: Pair, watching: Watching) -> None:
    first = bytearray()

    def take(data: bytes) -> bool:
        first.extend(data)
        return False

    with trio.fail_after(10):
        async with watching() as watch, pair(watch) as (stream, peer):
            for _ in range(5):  # a TLS record each
                await peer.send_all(b"12345")
            await stream.receive_each(take)
            assert await read_exactly(stream, 25 - len(first)) == (b"12345" * 5)[len(first) :]
            await stream.send_all(b"still good")
            assert await read_exactly(peer, 10) == b"still good"


@both
@either
async def test_what_an_earlier_reader_left_is_given_first(pair: Pair, watching: Watching) -> None:
    heard = bytearray()

    def take(data: bytes) -> bool:
        heard.extend(data)
        return len(heard) < 5

    with trio.fail_after(10):
        async with watching() as watch, pair(watch) as (stream, peer):
            await peer.send_all(b"12345678")
            assert await stream.receive_some(3) == b"123"  # of a TLS record; the socket has nothing more to read
            await stream.receive_each(take)
    assert heard == b"45678"


@both
@either
async def test_closing_wakes_who_has_it_read(pair: Pair, watching: Watching) -> None:
    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_each(bool)
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_each(bool)

    with trio.fail_after(10):
        async with watching() as watch, pair(watch) as (stream, _peer), trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            await stream.aclose()


@both
async def test_a_connection_that_is_reset_is_a_broken_resource(watching: Watching) -> None:
    async def read(stream: SocketByteStream) -> None:
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_each(bool)

    with trio.fail_after(10):
        async with watching() as watch, connected(watch) as (stream, peer), trio.open_nursery() as nursery:
            nursery.start_soon(read, stream)
            await trio.testing.wait_all_tasks_blocked()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()


@both
async def test_a_connection_that_was_reset_leaves_nothing_for_the_collector(watching: Watching) -> None:
    async def read(stream: SocketByteStream, broken: trio.Event) -> None:
        try:
            await stream.receive_each(bool)
        except trio.BrokenResourceError:
            broken.set()

    async def lose() -> weakref.ref[SocketByteStream]:
        broken = trio.Event()
        async with watching() as watch, connected(watch) as (stream, peer), trio.open_nursery() as nursery:
            nursery.start_soon(read, stream, broken)
            await trio.testing.wait_all_tasks_blocked()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            await broken.wait()
            return weakref.ref(stream)

    gc.disable()
    try:
        with trio.fail_after(10):
            lost = await lose()
            await trio.testing.wait_all_tasks_blocked()  # trio itself has forgotten the task
            assert lost() is None
    finally:
        gc.enable()


@asynccontextmanager
async def connected(watch: SocketWatch | None) -> AsyncIterator[tuple[SocketByteStream, socket.socket]]:
    """Over TCP, which unlike a pair of sockets can be reset."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        ours.setblocking(False)
        theirs, _ = server.accept()
    stream = SocketByteStream(ours, watch)
    with theirs:
        yield stream, theirs
    await trio.aclose_forcefully(stream)


@both
@either
async def test_a_cancelled_reader_loses_nothing_that_it_has_not_taken(pair: Pair, watching: Watching) -> None:
    heard = bytearray()

    def take(data: bytes) -> bool:
        heard.extend(data)
        return True

    with trio.fail_after(10):
        async with watching() as watch, pair(watch) as (stream, peer):
            with trio.move_on_after(0.05):
                await stream.receive_each(take)
            await peer.send_all(b"after it")
            await trio.sleep(0.02)  # some beats
            assert not heard
            assert await read_exactly(stream, 8) == b"after it"


async def test_a_bug_in_one_that_takes_costs_nobody_else() -> None:
    heard: list[bytes] = []

    def take(data: bytes) -> bool:
        heard.append(data)
        return False

    async def fail() -> None:
        with pytest.raises(ZeroDivisionError):
            await broken.receive_each(lambda data: bool(1 // 0))

    with trio.fail_after(10):
        async with (
            by_heartbeat() as watch,
            plain(watch) as (broken, ill),
            tls(watch) as (healthy, well),
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(fail)
            nursery.start_soon(healthy.receive_each, take)
            await ill.send_all(b"x")
            await well.send_all(b"hello")
    assert heard == [b"hello"]


async def test_who_sends_without_end_does_not_keep_another_from_being_read() -> None:
    taken = {"flood": 0, "other": 0}
    reads_before_other: list[int] = []

    def flooded(data: bytes) -> bool:
        taken["flood"] += 1
        flood_socket.send(bytes(2000))  # there is always more
        return True

    def other(data: bytes) -> bool:
        reads_before_other.append(taken["flood"])
        return False

    with trio.fail_after(10):
        async with by_heartbeat() as watch, plain(watch) as (flood, flooding), plain(watch) as (quiet, speaking):
            assert isinstance(flooding, trio.SocketStream)
            flood_socket = socket.socket(fileno=flooding.socket.fileno())
            try:
                flood_socket.setblocking(False)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(flood.receive_each, flooded)
                    await flooding.send_all(b"x")
                    await trio.sleep(0.02)
                    so_far = taken["flood"]
                    await speaking.send_all(b"hello")
                    await quiet.receive_each(other)
                    nursery.cancel_scope.cancel()
            finally:
                flood_socket.detach()
    assert so_far
    assert reads_before_other[0] - so_far <= 3 * ROUNDS  # the beat that was on, and the one that met it


@pytest.mark.parametrize("early", [0.0001, TICK / 2, TICK])
async def test_audio_that_comes_just_before_a_packet_leaves_is_in_that_packet(
    mock_clock: MockClock, early: float
) -> None:
    with (
        trio.fail_after(10),
        socket.socket(type=socket.SOCK_DGRAM) as phone,
        trio.socket.socket(type=trio.socket.SOCK_DGRAM) as ours,
    ):
        phone.bind(("127.0.0.1", 0))
        phone.setblocking(False)
        await ours.bind(("127.0.0.1", 0))
        async with open_heartbeat(open_sleep_timer) as heartbeat:
            assert isinstance(heartbeat, Heartbeat)
            async with plain(heartbeat) as (stream, peer), trio.open_nursery() as nursery:
                talk = stream_to(phone.getsockname(), ours)
                nursery.start_soon(heartbeat.carry, talk)
                nursery.start_soon(stream.receive_each, partial(talk.playout.push, "r", "i"))
                await trio.testing.wait_all_tasks_blocked()
                mock_clock.jump(talk.pacer.due - early - trio.current_time())
                await peer.send_all(b"\x01" * 400)
                mock_clock.jump(early + 0.0001)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        assert phone.recv(2048).endswith(b"\x01" * 160)


def stream_to(phone: Address, ours: trio.socket.SocketType) -> RtpStream:
    send, _receive = trio.open_memory_channel[bytes](50)
    now = trio.current_time()
    latch, pacer = Latch(phone, "127.0.0.1", "auto", 3.0), Pacer(0, 7, 100, 0, now)
    return RtpStream(ours, "PCMU", 0, latch, Playout(0xFF), pacer, send, RtpSettings(), now, is_trusted=True)


async def test_who_has_much_to_read_is_read_on_in_the_next_beat_when_packets_have_waited_long_enough(
    mock_clock: MockClock,
) -> None:
    with select.epoll() as epoll:
        polled = Polled(epoll)
        ours, theirs = socket.socketpair()
        with ours, theirs:

            def look() -> None:
                ours.recv(1)
                mock_clock.jump(TICK * 0.4)

            polled.watch(ours.fileno(), look)
            theirs.send(b"123456")
            polled.look(trio.current_time() + TICK)
            assert ours.recv(6) == b"456"
            polled.unwatch(ours.fileno())


def test_what_cannot_be_watched_is_not_watched(tmp_path: Path) -> None:
    with select.epoll() as epoll, (tmp_path / "a file").open("w") as file:
        polled = Polled(epoll)
        with pytest.raises(PermissionError):
            polled.watch(file.fileno(), lambda: None)
        assert not polled


async def test_what_is_taken_is_taken_in_the_context_of_the_call_and_not_of_the_heartbeat() -> None:
    whose: ContextVar[str] = ContextVar("whose", default="the heartbeat's")
    found: list[str] = []

    def take(_: bytes) -> bool:
        found.append(whose.get())
        return False

    async def read() -> None:
        whose.set("the call's")
        await stream.receive_each(take)

    with trio.fail_after(10):
        async with by_heartbeat() as watch, plain(watch) as (stream, peer), trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await peer.send_all(b"x")
    assert found == ["the call's"]


async def test_it_beats_only_while_somebody_is_watched() -> None:
    begun = 0
    ended = trio.Event()

    @contextmanager
    def noted(interval: float) -> Iterator[Timer]:
        nonlocal begun
        begun += 1
        with open_sleep_timer(interval) as timer:
            yield timer
        ended.set()

    with trio.fail_after(10):
        async with open_heartbeat(noted) as heartbeat:
            assert isinstance(heartbeat, Heartbeat), "no epoll here"
            for count in (1, 2):
                ended = trio.Event()
                async with plain(heartbeat) as (stream, peer), trio.open_nursery() as nursery:
                    nursery.start_soon(stream.receive_each, bool)
                    await trio.testing.wait_all_tasks_blocked()
                    assert begun == count
                    assert not ended.is_set()
                    await peer.aclose()
                await ended.wait()
