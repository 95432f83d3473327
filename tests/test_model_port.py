"""The fake model on a real TCP port, and its HTTP manners."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from aivc.testing.client import raw_client
from aivc.testing.faults import Faults
from aivc.testing.model import FakeModel, serve_port
from aivc.testing.script import Say, scripted
from aivc.testing.upgrade import LARGEST_HEAD_OCTETS
from aivc.testing.voice import speech


async def http(model: FakeModel, request: bytes) -> bytes:
    """The whole answer to a request in memory, until the server closes."""
    stream = model.open_stream()
    await stream.send_all(request)
    answer = b""
    while data := await stream.receive_some():
        answer += data
    return answer


async def test_a_call_over_a_real_port() -> None:
    with trio.fail_after(10):
        model = FakeModel(scripted([[Say("x", audio=speech(1.0))]]), think_ms=10, speed=50)
        async with trio.open_nursery() as nursery:
            port: int = await nursery.start(serve_port, model)
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            async with raw_client(stream) as client:
                await client.configure()
                await client.send("response.create")
                await client.wait_for("response.done")
                assert client.audio() == speech(1.0)
                await client.websocket.aclose(1000, "bye")
            session = await model.wait_session()
            assert await session.wait_closed() == 1000
            assert session.errors == []
            nursery.cancel_scope.cancel()


async def test_a_connection_is_cut_on_a_real_port() -> None:
    with trio.fail_after(10):
        model = FakeModel(scripted([[Say("x", seconds=5)]]), think_ms=10, speed=50, faults=Faults(drop_after_deltas=2))
        async with trio.open_nursery() as nursery:
            port: int = await nursery.start(serve_port, model)
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            async with raw_client(stream) as client:
                await client.send("response.create")
                assert (await client.wait_closed())[0] == 1006
            nursery.cancel_scope.cancel()


async def test_a_plain_get_is_told_to_upgrade(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        async with FakeModel() as model:
            answer = await http(model, b"GET /v1/realtime?model=x HTTP/1.1\r\nHost: h\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\n")
            head, _, body = answer.partition(b"\r\n\r\n")
            assert f"Content-Length: {len(body)}".encode() in head
            assert model.sessions == []


async def test_an_unknown_path_is_not_found(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        async with FakeModel() as model:
            for path in (b"/", b"/v1/models", b"/v1/realtime/calls"):
                answer = await http(model, b"GET " + path + b" HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")


async def test_what_is_no_http_is_refused_or_dropped(autojump_clock: MockClock) -> None:
    with trio.fail_after(60):
        async with FakeModel() as model:
            assert (await http(model, b"INVITE sip:x SIP/2.0\r\n\r\n")).startswith(b"HTTP/1.1 400 Bad Request\r\n")
            assert await http(model, b"x" * (LARGEST_HEAD_OCTETS + 1)) == b""
            assert await http(model, b"GET / HTTP/1.1\r\n") == b""  # and no more: the deadline ends it
            broken = b"GET /v1/realtime HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
            assert b"101" not in await http(model, broken)
            assert model.sessions == []


async def test_a_client_that_leaves_early_is_no_trouble(autojump_clock: MockClock) -> None:
    with trio.fail_after(5):
        async with FakeModel() as model:
            stream = model.open_stream()
            await stream.send_all(b"GET /v1/realtime HTTP/1.1\r\n")
            stream.drop()
            await trio.testing.wait_all_tasks_blocked()
            async with raw_client(model.open_stream()) as client:
                await client.wait_for("session.created")
