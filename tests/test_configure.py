"""From the WebSocket to a configured session, in a socket pair and over loopback."""

from __future__ import annotations

import base64
import json
import logging
import socket as stdlib_socket
import ssl
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
import trio
import trio.testing
import trustme
from realtime_pair import KEY, SETTINGS, answer, connected, say, session
from trio.testing import MockClock
from trio_websocket import WebSocketRequest, serve_websocket

from aivc.config.settings import McpServer, Secret
from aivc.realtime.configuring import CONFIGURE_EVENT, configure
from aivc.realtime.connection import RealtimeRefused, open_realtime
from aivc.realtime.dialects import GA
from aivc.realtime.events import ToolSchema

# Configuring.


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


async def refusal_of(error: Mapping[str, object], *mcp: McpServer) -> RealtimeRefused:
    """Our session.update is answered by this error."""
    with trio.fail_after(60):
        async with connected() as pair:
            await say(pair.server, "session.created", session={})
            await say(pair.server, "error", error=error)
            with pytest.raises(RealtimeRefused) as caught:
                await configure(pair.client, GA, SETTINGS, "PCMU", (), mcp)
    return caught.value


async def test_a_refusal_that_repeats_a_secret_of_an_mcp_server_is_told_without_it(autojump_clock: MockClock) -> None:
    mcp = McpServer(server_label="cal", server_url="https://mcp.test/", authorization=Secret("cal_9f8e7d6c5b4a"))
    error = {"type": "invalid_request_error", "code": "invalid_mcp", "message": "bad token 'cal_9f8e7d6c5b4a'"}
    assert "bad token '***'" in str(await refusal_of(error, mcp))


async def test_an_error_about_our_update_is_a_refusal_whatever_its_code(autojump_clock: MockClock) -> None:
    """An mcp_ error is none otherwise: there may be other tools."""
    error = {"type": "invalid_request_error", "code": "mcp_unauthorized", "message": "no"}
    assert (await refusal_of(error)).code == "timeout"
    assert (await refusal_of(error | {"event_id": CONFIGURE_EVENT})).code == "mcp_unauthorized"


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
