"""Opening, configuring, keeping alive and closing the Realtime WebSocket, against trio-websocket's own server."""

from __future__ import annotations

import base64
import json
import logging
import socket as stdlib_socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing
import trustme
from trio.testing import MockClock
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket, wrap_server_stream

from aivc.config.settings import OpenAISettings, Secret
from aivc.realtime.connection import (
    RealtimeClosed,
    RealtimeRefused,
    RealtimeSocket,
    configure,
    open_realtime,
    wrap_realtime,
)
from aivc.realtime.dialects import GA, ProtocolViolation
from aivc.realtime.events import ToolSchema
from aivc.realtime.stream import SocketByteStream

KEY = "sk-secret-0123456789"
SETTINGS = OpenAISettings(key=Secret(KEY), voice="marin", model="gpt-realtime-2.1")
HEADERS = (("Authorization", f"Bearer {KEY}"),)
Serve = Callable[[WebSocketRequest], Awaitable[None]]


def byte_streams() -> tuple[SocketByteStream, trio.SocketStream]:
    ours, theirs = stdlib_socket.socketpair()
    ours.setblocking(False)
    return SocketByteStream(ours), trio.SocketStream(trio.socket.from_stdlib_socket(theirs))


async def accept(nursery: trio.Nursery, stream: trio.abc.Stream, serve: Serve) -> None:
    await serve(await wrap_server_stream(nursery, stream))


@attrs.define
class Pair:
    client: RealtimeSocket
    server: WebSocketConnection
    nursery: trio.Nursery
    stream: SocketByteStream


@asynccontextmanager
async def connected() -> AsyncIterator[Pair]:
    """Both ends of an upgraded connection; leaving the block ends both readers."""
    servers: list[WebSocketConnection] = []

    async def serve(request: WebSocketRequest) -> None:
        servers.append(await request.accept())

    ours, theirs = byte_streams()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept, nursery, theirs, serve)
        client = await wrap_realtime(nursery, ours, "realtime.test", "/v1/realtime?model=m", HEADERS)
        await trio.testing.wait_all_tasks_blocked()
        yield Pair(client, servers[0], nursery, ours)
        nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(theirs)


async def say(server: WebSocketConnection, event_type: str, **fields: object) -> None:
    await server.send_message(json.dumps({"type": event_type, "event_id": "event_1", **fields}))


def session(codec: str = "audio/pcmu") -> dict[str, Any]:
    audio = {"format": {"type": codec}}
    return {
        "id": "sess_1",
        "audio": {"input": audio, "output": audio | {"voice": "marin"}},
        "expires_at": 1_800_000_000,
    }


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


# Sending and receiving.


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
    assert "the WebSocket reader failed: LocalProtocolError" in caplog.text


# Keeping alive.


async def test_pings_that_are_answered_go_on(autojump_clock: MockClock) -> None:
    with trio.fail_after(200):
        async with connected() as pair:
            with trio.move_on_after(100) as scope:
                await pair.client.keep_alive(15.0, 10.0)
            assert scope.cancelled_caught
            assert pair.server.closed is None


async def test_a_peer_that_stops_reading_is_noticed_within_ping_and_pong_time(autojump_clock: MockClock) -> None:
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
                await client.keep_alive(15.0, 10.0)
            nursery.cancel_scope.cancel()
    assert caught.value.code == 1006
    assert trio.current_time() - start == pytest.approx(25.0)
    await trio.aclose_forcefully(theirs)


async def test_keeping_alive_ends_with_the_connection(autojump_clock: MockClock) -> None:
    with trio.fail_after(60):
        async with connected() as pair:
            await pair.server.aclose(code=1001)
            with pytest.raises(RealtimeClosed) as caught:
                await pair.client.keep_alive(15.0, 10.0)
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


# Configuring.


async def answer(server: WebSocketConnection, sent: list[dict[str, Any]], updated: dict[str, Any]) -> None:
    await say(server, "session.created", session=session("audio/pcm"))
    sent.append(json.loads(await server.get_message()))
    await say(server, "rate_limits.updated")
    await say(server, "session.updated", session=updated)


async def test_a_session_is_configured_when_the_server_echoes_the_formats() -> None:
    sent: list[dict[str, Any]] = []
    tools = (ToolSchema("terminate_call", "Hang up.", {"type": "object", "properties": {}}),)
    with trio.fail_after(5):
        async with connected() as pair, trio.open_nursery() as nursery:
            nursery.start_soon(answer, pair.server, sent, session("audio/pcma"))
            updated = await configure(pair.client, GA, SETTINGS, "PCMA", tools)
    assert (updated.input_codec, updated.output_codec, updated.voice) == ("PCMA", "PCMA", "marin")
    assert updated.expires_at == 1_800_000_000
    assert sent[0]["type"] == "session.update"
    assert [tool["name"] for tool in sent[0]["session"]["tools"]] == ["terminate_call"]


@pytest.mark.parametrize("echoed", [session("audio/pcm"), session("audio/pcma"), {"id": "sess_1"}])
async def test_another_echo_is_a_wrong_format(echoed: dict[str, Any]) -> None:
    with trio.fail_after(5):
        async with connected() as pair, trio.open_nursery() as nursery:
            nursery.start_soon(answer, pair.server, [], echoed)
            with pytest.raises(RealtimeRefused) as caught:
                await configure(pair.client, GA, SETTINGS, "PCMU", ())
    assert caught.value.code == "wrong_format"
    assert not caught.value.retryable


async def test_a_refusal_in_place_of_session_created_is_read_before_the_close() -> None:
    error = {"type": "invalid_request_error", "code": "invalid_api_key", "message": f"Incorrect API key: {KEY}"}
    with trio.fail_after(5):
        async with connected() as pair:
            await say(pair.server, "error", error=error)
            await pair.server.aclose(code=3000, reason="invalid_request_error.invalid_api_key")
            with pytest.raises(RealtimeRefused) as caught:
                await configure(pair.client, GA, SETTINGS, "PCMU", ())
    assert caught.value.code == "invalid_api_key"
    assert not caught.value.retryable
    assert KEY not in str(caught.value)


async def test_an_error_that_is_followed_by_a_close_before_our_update_is_still_reported() -> None:
    error = {"type": "session_limit_reached", "message": "All session slots are in use"}
    with trio.fail_after(5):
        async with connected() as pair:
            await say(pair.server, "session.created", session={})
            await say(pair.server, "error", error=error)
            await pair.server.aclose(code=1008)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(RealtimeRefused) as caught:
                await configure(pair.client, GA, SETTINGS, "PCMU", ())
    assert (caught.value.code, caught.value.retryable) == ("session_limit_reached", True)


@pytest.mark.parametrize(
    ("code", "reason", "expected", "retryable"),
    [
        (4000, "invalid_request_error.invalid_model", "invalid_model", False),
        (1011, "", "closed_1011", True),
        (1008, "no", "closed_1008", False),
    ],
)
async def test_a_close_without_an_error_event_is_a_refusal(
    code: int, reason: str, expected: str, retryable: bool
) -> None:
    with trio.fail_after(5):
        async with connected() as pair:
            await pair.server.aclose(code=code, reason=reason)
            with pytest.raises(RealtimeRefused) as caught:
                await configure(pair.client, GA, SETTINGS, "PCMU", ())
    assert (caught.value.code, caught.value.retryable) == (expected, retryable)


async def test_a_server_that_says_nothing_is_a_timeout_that_names_the_step(autojump_clock: MockClock) -> None:
    with trio.fail_after(60):
        async with connected() as pair:
            with pytest.raises(RealtimeRefused, match=r"session\.created") as caught:
                await configure(pair.client, GA, SETTINGS, "PCMU", ())
            assert trio.current_time() == pytest.approx(SETTINGS.connect_seconds)
            await say(pair.server, "session.created", session={})
            with pytest.raises(RealtimeRefused, match=r"session\.updated"):
                await configure(pair.client, GA, SETTINGS, "PCMU", ())
    assert (caught.value.code, caught.value.retryable) == ("timeout", True)


async def test_nonsense_instead_of_an_event_is_a_refusal() -> None:
    with trio.fail_after(5):
        async with connected() as pair:
            await pair.server.send_message("<html>")
            with pytest.raises(RealtimeRefused) as caught:
                await configure(pair.client, GA, SETTINGS, "PCMU", ())
    assert caught.value.code == "protocol_violation"


# Real sockets.


async def model(request: WebSocketRequest) -> None:
    websocket = await request.accept()
    if dict(request.headers).get(b"authorization") != f"Bearer {KEY}".encode():
        await say(websocket, "error", error={"code": "invalid_api_key", "message": "no"})
        await websocket.aclose(code=3000)
        return
    await answer(websocket, [], session())
    append = json.loads(await websocket.get_message())
    await say(websocket, "echo", audio=append["audio"])


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_session_over_loopback(encrypted: bool, caplog: pytest.LogCaptureFixture) -> None:
    authority = trustme.CA()
    server_context, client_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server_context)
    authority.configure_trust(client_context)
    with trio.fail_after(10), caplog.at_level(logging.DEBUG):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_websocket, model, "127.0.0.1", 0, server_context if encrypted else None)
            scheme = "wss" if encrypted else "ws"
            settings = attrs.evolve(SETTINGS, url=f"{scheme}://127.0.0.1:{server.port}/v1")
            socket = await open_realtime(nursery, settings, ssl_context=client_context if encrypted else None)
            await configure(socket, GA, settings, "PCMU", ())
            await socket.append_audio(b"\x7f" * 160)
            assert base64.b64decode(json.loads(await socket.receive())["audio"]) == b"\x7f" * 160
            assert await socket.close(1.0)
            nursery.cancel_scope.cancel()
    assert KEY not in caplog.text
    assert KEY not in repr(socket) + repr(settings)


async def test_an_untrusted_certificate_is_refused_and_not_worth_repeating() -> None:
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(server_context)
    listeners = await trio.open_ssl_over_tcp_listeners(0, server_context, host="127.0.0.1")

    async def shake(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with pytest.raises(trio.BrokenResourceError):
            await stream.do_handshake()
        await trio.aclose_forcefully(stream)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, shake, listeners)
            tcp = listeners[0].transport_listener
            assert isinstance(tcp, trio.SocketListener)
            port = tcp.socket.getsockname()[1]
            with pytest.raises(RealtimeRefused) as caught:
                await open_realtime(nursery, attrs.evolve(SETTINGS, url=f"wss://127.0.0.1:{port}"))
            nursery.cancel_scope.cancel()
    assert (caught.value.code, caught.value.retryable) == ("tls", False)


async def test_nobody_listening_is_refused_and_worth_repeating() -> None:
    with stdlib_socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                with pytest.raises(RealtimeRefused) as caught:
                    await open_realtime(nursery, attrs.evolve(SETTINGS, url=f"ws://127.0.0.1:{port}"))
    assert (caught.value.code, caught.value.retryable) == ("unreachable", True)


async def test_settings_that_cannot_make_a_connection_are_refused() -> None:
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            with pytest.raises(RealtimeRefused) as caught:
                await open_realtime(nursery, attrs.evolve(SETTINGS, key=Secret("sk-bad\r\nkey")))
    assert caught.value.code == "bad_target"
    assert "sk-bad" not in str(caught.value)
