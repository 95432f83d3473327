"""What is left of an upgrade that fails, and who receives what trio-websocket has read."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from realtime_pair import accept, byte_streams, connected
from scenarios.leftovers import CANCELLING_LEAVES_CYCLES
from trio.testing import MockClock
from trio_websocket import WebSocketRequest

from aivc.realtime.connection import RealtimeClosed, RealtimeRefused, wrap_realtime
from aivc.realtime.inbox import Message


async def unanswered(stream: trio.SocketStream, nursery: trio.Nursery) -> None:
    """Never says a word."""


async def refused(stream: trio.SocketStream, nursery: trio.Nursery) -> None:
    async def reject(request: WebSocketRequest) -> None:
        await request.reject(401, body=b"{}")

    await accept(nursery, stream, reject)


async def hung_up(stream: trio.SocketStream, nursery: trio.Nursery) -> None:
    await stream.receive_some()
    await stream.aclose()


async def overwhelmed(stream: trio.SocketStream, nursery: trio.Nursery) -> None:
    """Says more than anybody receives, before the upgrade is done."""
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + 1000 * b"\x81\x01a")


if_clean = pytest.mark.skipif(CANCELLING_LEAVES_CYCLES, reason="cancel scopes leave cycles with this version of Python")


@pytest.mark.parametrize(
    "serve", [pytest.param(unanswered, marks=if_clean), refused, hung_up, pytest.param(overwhelmed, marks=if_clean)]
)
async def test_an_upgrade_that_fails_leaves_no_task_and_nothing_for_the_collector(
    serve: Callable[[trio.SocketStream, trio.Nursery], Awaitable[None]],
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def attempt() -> None:
        ours, theirs = byte_streams()
        async with trio.open_nursery() as sockets, trio.open_nursery() as servers:
            servers.start_soon(serve, theirs, servers)
            with pytest.raises(RealtimeRefused):
                await wrap_realtime(sockets, ours, "realtime.test", "/", (), connect_deadline=trio.current_time() + 5)
            await trio.testing.wait_all_tasks_blocked()
            assert len(sockets.child_tasks) == 0
            servers.cancel_scope.cancel()
        assert ours.sock.fileno() == -1
        await theirs.aclose()

    with trio.fail_after(60):
        await attempt()  # what is made once
        gc.collect()
        gc.disable()
        try:
            await attempt()
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            assert [found for found in gc.garbage if type(found).__module__.startswith("aivc")] == []
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert caplog.messages == []  # the call's refusal says it all


async def test_who_is_cancelled_while_upgrading_leaves_no_task_and_no_socket() -> None:
    ours, theirs = byte_streams()
    with trio.fail_after(5):
        async with trio.open_nursery() as sockets, trio.open_nursery() as call:
            call.start_soon(wrap_realtime, sockets, ours, "realtime.test", "/", ())
            await trio.testing.wait_all_tasks_blocked()
            call.cancel_scope.cancel()
        assert ours.sock.fileno() == -1
    await theirs.aclose()


async def test_the_end_of_the_nursery_while_upgrading_refuses() -> None:
    ours, theirs = byte_streams()
    with trio.fail_after(5):
        async with trio.open_nursery() as call, trio.open_nursery() as sockets:

            async def upgrade() -> None:
                with pytest.raises(RealtimeRefused):
                    await wrap_realtime(sockets, ours, "realtime.test", "/", ())

            call.start_soon(upgrade)
            await trio.testing.wait_all_tasks_blocked()
            sockets.cancel_scope.cancel()
        assert ours.sock.fileno() == -1
    await theirs.aclose()


async def test_each_message_is_taken_whoever_read_it_until_the_connection_is_over() -> None:
    taken: list[Message] = []
    with trio.fail_after(5):
        async with connected() as pair:

            async def take() -> None:
                with pytest.raises(RealtimeClosed) as closed:
                    await pair.client.receive_each(taken.append)
                assert closed.value.code == 1001

            async with trio.open_nursery() as nursery:
                nursery.start_soon(take)
                await pair.server.send_message("by the sieve")
                await pair.server.send_message(b"by trio-websocket")
                await pair.server._stream.send_all(b"\x01\x05in pa" + b"\x80\x03rts")
                await pair.server.send_message("whole")
                await pair.server.aclose(code=1001)
    assert taken == ["by the sieve", b"by trio-websocket", "in parts", "whole"]


async def test_a_message_read_by_trio_websocket_that_cannot_be_taken_fails_who_receives_only() -> None:
    def take(message: Message) -> None:
        raise LookupError(message)

    with trio.fail_after(5):
        async with connected() as pair:
            await pair.server.send_message(b"binary")
            await pair.server.send_message("the next")
            with pytest.raises(LookupError):
                await pair.client.receive_each(take)
            assert await pair.client.receive() == "the next"


async def test_who_waits_for_each_message_is_told_of_a_loss() -> None:
    with trio.fail_after(5):
        async with connected() as pair, trio.open_nursery() as nursery:

            async def take() -> None:
                with pytest.raises(RealtimeClosed) as closed:
                    await pair.client.receive_each(lambda _: None)
                assert closed.value.code == 1006

            nursery.start_soon(take)
            await trio.testing.wait_all_tasks_blocked()
            await trio.aclose_forcefully(pair.server._stream)
