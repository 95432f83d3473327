"""Upgrading, sending, keeping alive and closing the Realtime WebSocket."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
import socket as stdlib_socket

import pytest
import trio
import trio.testing
from realtime_pair import HEADERS, KEY, accept, byte_streams, connected
from trio.testing import MockClock
from trio_websocket import ConnectionClosed, WebSocketRequest, wrap_server_stream

from aivc.realtime.connection import (
    MESSAGE_QUEUE,
    RealtimeClosed,
    RealtimeRefused,
    RealtimeSocket,
    wrap_realtime,
)
from aivc.realtime.dialects import ProtocolViolation

# The upgrade.


async def test_the_upgrade_carries_host_path_and_credentials() -> None:
    seen: list[tuple[str, dict[bytes, bytes]]] = []

    async def serve(request: WebSocketRequest) -> None:
        seen.append((request.path, dict(request.headers)))
        await request.accept()

    ours, theirs = byte_streams()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept, nursery, theirs, serve)
            await wrap_realtime(nursery, ours, "realtime.test:8080", "/v1/realtime?model=m", HEADERS)
            nursery.cancel_scope.cancel()
    path, headers = seen[0]
    assert path == "/v1/realtime?model=m"
    assert headers[b"authorization"] == f"Bearer {KEY}".encode()
    assert b"sec-websocket-extensions" not in headers  # base64 audio hardly shrinks
    await theirs.aclose()


async def test_a_refused_upgrade_is_reported_to_the_caller_and_not_to_the_nursery() -> None:
    async def serve(request: WebSocketRequest) -> None:
        body = json.dumps({"error": {"code": "invalid_api_key", "message": f"Incorrect API key: {KEY}"}})
        await request.reject(401, body=body.encode())

    ours, theirs = byte_streams()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept, nursery, theirs, serve)
            with pytest.raises(RealtimeRefused) as caught:
                await wrap_realtime(nursery, ours, "realtime.test", "/", HEADERS)
            await trio.lowlevel.checkpoint()  # the nursery is well
            nursery.cancel_scope.cancel()
    assert (caught.value.code, caught.value.http_status) == ("invalid_api_key", 401)
    assert not caught.value.retryable
    assert caught.value.message == "Incorrect API key: ***"
    assert ours.sock.fileno() == -1
    await theirs.aclose()


@pytest.mark.parametrize(("status", "retryable"), [(403, False), (404, False), (429, True), (503, True)])
async def test_an_http_refusal_says_whether_trying_again_may_help(status: int, retryable: bool) -> None:
    async def serve(request: WebSocketRequest) -> None:
        await request.reject(status)

    ours, theirs = byte_streams()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept, nursery, theirs, serve)
            with pytest.raises(RealtimeRefused) as caught:
                await wrap_realtime(nursery, ours, "realtime.test", "/", ())
            nursery.cancel_scope.cancel()
    assert (caught.value.code, caught.value.http_status) == (f"http_{status}", status)
    assert caught.value.retryable is retryable
    await theirs.aclose()


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\n\r\n"])
async def test_a_server_that_speaks_no_websocket_refuses_at_once(answer: bytes) -> None:
    async def hang_up() -> None:
        await theirs.receive_some()
        if answer:
            await theirs.send_all(answer)
        await theirs.aclose()

    ours, theirs = byte_streams()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang_up)
            with pytest.raises(RealtimeRefused) as caught:
                await wrap_realtime(nursery, ours, "realtime.test", "/", HEADERS)
    assert caught.value.code in ("connection_lost", "not_websocket")
    assert ours.sock.fileno() == -1


async def test_an_upgrade_that_is_never_answered_is_a_timeout(autojump_clock: MockClock) -> None:
    ours, theirs = byte_streams()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            with pytest.raises(RealtimeRefused) as caught:
                await wrap_realtime(nursery, ours, "realtime.test", "/", HEADERS, connect_deadline=5.0)
    assert (caught.value.code, caught.value.retryable) == ("timeout", True)
    assert trio.current_time() == pytest.approx(5.0)
    assert ours.sock.fileno() == -1
    await theirs.aclose()


@pytest.mark.parametrize("attempt", range(8))  # trio takes tasks that are ready in any order
async def test_what_comes_with_the_upgrade_is_received_even_if_the_server_hangs_up_at_once(attempt: int) -> None:
    async def hang_up() -> None:
        (key,) = re.findall(rb"(?i)sec-websocket-key: (\S+)", await theirs.receive_some())
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        whole, parts = b"\x81\x01a", b"\x01\x01b\x80\x01c"
        await theirs.send_all(head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + whole + parts)
        await theirs.aclose()

    ours, theirs = byte_streams()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang_up)
            client = await wrap_realtime(nursery, ours, "realtime.test", "/", HEADERS)
            assert [await client.receive(), await client.receive()] == ["a", "bc"]
            with pytest.raises(RealtimeClosed):
                await client.receive()
    assert ours.sock.fileno() == -1


# Sending and receiving.


async def test_fragments_binary_and_whole_messages_come_in_their_order() -> None:
    with trio.fail_after(5):
        async with connected() as pair:
            await pair.server.send_message("first")
            await pair.server._stream.send_all(b"\x01\x03sec" + b"\x80\x03ond")
            await pair.server.send_message("third")
            await pair.server.send_message(b"binary")
            await pair.server.send_message("last")
            assert [await pair.client.receive() for _ in range(3)] == ["first", "second", "third"]
            with pytest.raises(ProtocolViolation):
                await pair.client.receive()
            assert await pair.client.receive() == "last"


async def test_more_messages_than_anybody_receives_do_not_keep_it_from_closing() -> None:
    with trio.fail_after(5):
        async with connected() as pair:
            for _ in range(3 * MESSAGE_QUEUE):
                await pair.server.send_message("unheard")
            await trio.testing.wait_all_tasks_blocked()
            assert await pair.client.close(3.0)
            with pytest.raises(RealtimeClosed):
                await pair.client.receive()


async def test_messages_and_hand_made_audio_frames_share_the_connection() -> None:
    with trio.fail_after(5):
        async with connected() as pair:
            await pair.client.send('{"n":1}')
            await pair.client.append_audio(b"\xff" * 160)
            await pair.client.send('{"n":2}')
            received = [json.loads(await pair.server.get_message()) for _ in range(3)]
            await pair.server.send_message("hello")
            assert await pair.client.receive() == "hello"
    assert received[0] == {"n": 1}
    assert base64.b64decode(received[1]["audio"]) == b"\xff" * 160
    assert received[2] == {"n": 2}


async def test_audio_waits_when_the_peer_does_not_read_and_nothing_is_lost_or_mixed() -> None:
    frames = [bytes([n % 256]) * 160 for n in range(2000)]
    waited = False

    async def append(client: RealtimeSocket) -> None:
        nonlocal waited
        for frame in frames:
            await client.append_audio(frame)
            waited = waited or client.stream.backlog_octets > 0

    async def speak(client: RealtimeSocket) -> None:
        for n in range(50):
            await client.send(json.dumps({"n": n, "text": "x" * 2000}))

    with trio.fail_after(20):
        async with connected() as pair:
            pair.stream.sock.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 4096)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(append, pair.client)
                nursery.start_soon(speak, pair.client)
                received = [json.loads(await pair.server.get_message()) for _ in range(2050)]
    assert [base64.b64decode(event["audio"]) for event in received if "audio" in event] == frames
    assert [event["n"] for event in received if "n" in event] == list(range(50))


async def test_appending_does_not_checkpoint_while_the_peer_keeps_up() -> None:
    with trio.fail_after(5):
        async with connected() as pair:
            with trio.testing.assert_no_checkpoints():
                await pair.client.append_audio(bytes(160))


async def test_a_binary_message_is_a_violation_and_the_connection_lives_on() -> None:
    with trio.fail_after(5):
        async with connected() as pair:
            await pair.server.send_message(b"\x00\x01")
            with pytest.raises(ProtocolViolation):
                await pair.client.receive()
            await pair.server.send_message("text")
            assert await pair.client.receive() == "text"


async def test_a_message_of_several_megabytes_is_received() -> None:
    with trio.fail_after(10):
        async with connected() as pair, trio.open_nursery() as nursery:
            nursery.start_soon(pair.server.send_message, "x" * 5_000_000)
            assert len(await pair.client.receive()) == 5_000_000


async def test_messages_before_a_close_are_read_before_the_close_is_reported() -> None:
    with trio.fail_after(5):
        async with connected() as pair:
            await pair.server.send_message("an error event")
            await pair.server.aclose(code=4000, reason="invalid_request_error.invalid_model")
            assert await pair.client.receive() == "an error event"
            with pytest.raises(RealtimeClosed) as caught:
                await pair.client.receive()
    assert (caught.value.code, caught.value.reason) == (4000, "invalid_request_error.invalid_model")


async def test_nothing_is_written_after_a_close() -> None:
    with trio.fail_after(5):
        async with connected() as pair:
            await pair.server.aclose(code=1001)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(RealtimeClosed) as caught:
                await pair.client.append_audio(bytes(160))
            with pytest.raises(RealtimeClosed):
                await pair.client.send("late")
    assert caught.value.code == 1001


async def test_nothing_is_written_while_a_close_of_ours_waits_for_its_answer(autojump_clock: MockClock) -> None:
    with trio.fail_after(10):
        async with connected() as pair:
            for _ in range(3):
                await pair.client.send("x")  # the server's queue holds one: it stops reading, and answers nothing
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pair.client.close, 1.0)
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(RealtimeClosed) as caught:
                    pair.client.append_nowait(bytes(160))
    assert caught.value.code == 1000


async def test_a_connection_that_breaks_ends_receiving_sending_and_appending() -> None:
    with trio.fail_after(5):
        async with connected() as pair:
            await trio.aclose_forcefully(pair.server._stream)
            with pytest.raises(RealtimeClosed) as caught:
                await pair.client.receive()
            with pytest.raises(RealtimeClosed):
                await pair.client.append_audio(bytes(160))
            with pytest.raises(RealtimeClosed):
                await pair.client.send("late")
    assert caught.value.code == 1006


async def test_a_reader_that_fails_ends_its_connection_and_nothing_else(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    with trio.fail_after(10), caplog.at_level(logging.WARNING):
        async with connected() as pair:
            for _ in range(3):
                await pair.client.send("x")  # the server's queue holds one: it stops reading, and answers nothing
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pair.client.close, 1.0)
                await trio.testing.wait_all_tasks_blocked()
                # trio-websocket's reader raises when it has to answer a ping after our close frame.
                await pair.server._stream.send_all(b"\x89\x00")
            with pytest.raises(RealtimeClosed):
                await pair.client.receive()
            await trio.lowlevel.checkpoint()  # the nursery is well
    assert [(record.msg, record.args) for record in caplog.records] == [("%s", ("realtime.reader_failed",))]


# Keeping alive.


async def test_pings_that_are_answered_go_on(autojump_clock: MockClock) -> None:
    with trio.fail_after(200):
        async with connected() as pair:
            for _ in range(3):
                await trio.sleep(15)
                await pair.client.ping(10.0)
            assert pair.server.closed is None
            assert pair.client.round_trip == pytest.approx(0.0)


async def test_a_peer_that_never_reads_is_noticed_within_pong_time(autojump_clock: MockClock) -> None:
    ours, theirs = byte_streams()

    async def upgrade_then_freeze() -> None:
        async with trio.open_nursery() as frozen:
            request = await wrap_server_stream(frozen, theirs)
            await request.accept()
            frozen.cancel_scope.cancel()

    with trio.fail_after(200):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upgrade_then_freeze)
            client = await wrap_realtime(nursery, ours, "realtime.test", "/", HEADERS)
            start = trio.current_time()
            with pytest.raises(RealtimeClosed) as caught:
                await client.ping(10.0)
            nursery.cancel_scope.cancel()
    assert caught.value.code == 1006
    assert trio.current_time() - start == pytest.approx(10.0)
    assert client.round_trip is None
    await trio.aclose_forcefully(theirs)


async def test_keeping_alive_ends_with_the_connection(autojump_clock: MockClock) -> None:
    with trio.fail_after(60):
        async with connected() as pair:
            await pair.server.aclose(code=1001)
            with pytest.raises(RealtimeClosed) as caught:
                await pair.client.ping(10.0)
    assert caught.value.code == 1001


# Closing.


async def test_a_polite_close_is_answered_at_once(autojump_clock: MockClock) -> None:
    with trio.fail_after(10):
        async with connected() as pair:
            start = trio.current_time()
            assert await pair.client.close(1.0)
            assert trio.current_time() == start
            with pytest.raises(ConnectionClosed):
                await pair.server.get_message()
            assert pair.server.closed is not None
            assert pair.server.closed.code == 1000
            assert pair.stream.sock.fileno() == -1
            with pytest.raises(RealtimeClosed):
                await pair.client.append_audio(bytes(160))


async def test_a_close_that_is_not_answered_ends_in_time_even_when_cancelled(autojump_clock: MockClock) -> None:
    with trio.fail_after(10):
        async with connected() as pair:
            for _ in range(3):
                await pair.client.send("x")  # the server's queue holds one: it stops reading, and answers nothing
            start = trio.current_time()
            with trio.CancelScope() as call:
                call.cancel()
                try:
                    await trio.sleep_forever()
                finally:
                    assert not await pair.client.close(1.0)
            assert trio.current_time() - start == pytest.approx(1.0)
            assert pair.stream.sock.fileno() == -1


async def test_after_a_close_by_the_server_ours_frees_the_socket_at_once() -> None:
    with trio.fail_after(5):
        async with connected() as pair:
            await pair.server.send_message("unread")
            await pair.server.aclose(code=1001)
            await trio.testing.wait_all_tasks_blocked()
            assert await pair.client.close(1.0)
            assert await pair.client.close(1.0)
            assert pair.stream.sock.fileno() == -1


async def test_cancelling_the_nursery_closes_the_socket() -> None:
    with trio.fail_after(5):
        async with connected() as pair:
            pair.nursery.cancel_scope.cancel()
        assert pair.stream.sock.fileno() == -1
