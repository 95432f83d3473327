"""The in-memory byte stream, alone and under a WebSocket."""

from __future__ import annotations

from math import inf, nan
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream, wrap_server_stream

from aivc.testing.websocket import Latency, MemoryStream, memory_stream_pair


async def joined(nursery: trio.Nursery, near: MemoryStream, far: MemoryStream) -> list[WebSocketConnection]:
    """A WebSocket client on `near` and a server on `far`, shaken hands."""
    ends: dict[str, WebSocketConnection] = {}

    async def serve() -> None:
        request = await wrap_server_stream(nursery, far)
        ends["server"] = await request.accept()

    async with trio.open_nursery() as handshake:
        handshake.start_soon(serve)
        ends["client"] = await wrap_client_stream(nursery, cast("trio.SocketStream", near), "host", "/")
    return [ends["client"], ends["server"]]


async def test_octets_arrive_in_order_and_then_the_end_of_file(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        near, far = memory_stream_pair()
        await near.send_all(b"one ")
        near.write_nowait(b"two")
        await near.aclose()
        assert await far.receive_some(5) == b"one t"
        assert await far.receive_some() == b"wo"
        assert await far.receive_some() == b""


async def test_latency_delays_each_write_and_keeps_the_order(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        near, far = memory_stream_pair(latency=(Latency(seconds=0.1, jitter_seconds=0.2, seed=1), Latency()))
        start = trio.current_time()
        for octet in b"abcdef":
            near.write_nowait(bytes([octet]))
        got = b""
        while len(got) < 6:
            got += await far.receive_some()
        assert got == b"abcdef"
        assert 0.1 <= trio.current_time() - start <= 0.3
        far.write_nowait(b"x")
        back = trio.current_time()
        assert await near.receive_some() == b"x"
        assert trio.current_time() == back


async def test_the_same_latency_seed_gives_the_same_arrivals(autojump_clock: MockClock) -> None:
    async def arrivals() -> list[float]:
        near, far = memory_stream_pair(latency=Latency(seconds=0.05, jitter_seconds=0.05, seed=7))
        times = []
        for _ in range(5):
            start = trio.current_time()
            near.write_nowait(b"x")
            await far.receive_some()
            times.append(round(trio.current_time() - start, 9))
        return times

    with trio.fail_after(10):
        first = await arrivals()
        assert first == await arrivals()
        assert len(set(first)) > 1


async def test_a_window_makes_a_backlog_that_reading_flushes(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        near, far = memory_stream_pair(window_octets=10)
        near.write_nowait(b"x" * 25)
        assert near.backlog_octets == 15
        with trio.move_on_after(1) as waiting:
            await near.wait_flushed()
        assert waiting.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.wait_flushed)
            assert len(await far.receive_some(15)) == 15
        assert near.backlog_octets == 0


async def test_without_a_window_nothing_ever_waits(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        near, _ = memory_stream_pair()
        near.write_nowait(b"x" * 1_000_000)
        await near.wait_flushed()
        assert near.backlog_octets == 0


async def test_closing_wakes_a_reader_and_refuses_writers(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        near, far = memory_stream_pair()

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await near.receive_some()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            await near.aclose()
        with pytest.raises(trio.ClosedResourceError):
            near.write_nowait(b"x")
        with pytest.raises(trio.BrokenResourceError):
            far.write_nowait(b"x")


async def test_a_writer_that_waits_is_told_when_the_peer_closes(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        near, far = memory_stream_pair(window_octets=1)

        async def write() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await near.send_all(b"xyz")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await trio.testing.wait_all_tasks_blocked()
            await far.aclose()


async def test_a_dropped_connection_breaks_both_ends_and_loses_what_was_under_way(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        near, far = memory_stream_pair()
        near.write_nowait(b"lost")
        far.drop()
        for end in (near, far):
            with pytest.raises(trio.BrokenResourceError):
                await end.receive_some()
            with pytest.raises(trio.BrokenResourceError):
                end.write_nowait(b"x")


async def test_a_websocket_over_a_dropped_connection_closes_with_1006(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        near, far = memory_stream_pair()
        async with trio.open_nursery() as nursery:
            client, server = await joined(nursery, near, far)
            await client.send_message("hello")
            assert await server.get_message() == "hello"
            far.drop()
            with pytest.raises(ConnectionClosed) as caught:
                await client.get_message()
        assert caught.value.reason is not None
        assert caught.value.reason.code == 1006


async def test_a_stalled_end_answers_no_ping_and_lets_the_backlog_of_its_peer_grow(autojump_clock: MockClock) -> None:
    with trio.fail_after(60):
        near, far = memory_stream_pair(window_octets=100)
        async with trio.open_nursery() as nursery:
            client, _ = await joined(nursery, near, far)
            far.stall()
            with trio.move_on_after(20) as waiting:
                await client.ping()
            assert waiting.cancelled_caught
            near.write_nowait(b"x" * 200)
            assert near.backlog_octets > 100
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "wrong",
    [{"seconds": -0.1}, {"seconds": nan}, {"seconds": inf}, {"jitter_seconds": -1.0}, {"stalls": ((1.0, -2.0),)}],
)
def test_a_latency_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Latency(**wrong)
