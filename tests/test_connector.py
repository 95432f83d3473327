"""What all calls of a process connect with, at a real TLS server on loopback."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
import trustme
from realtime_pair import SETTINGS
from trio_websocket import ConnectionClosed, wrap_server_stream

from aivc.config.settings import OpenAISettings, Settings
from aivc.media.clock import Heartbeat, MediaClock, TaskClock, open_heartbeat
from aivc.nursery.connections import open_connections
from aivc.nursery.ground import Connect
from aivc.realtime.connection import RealtimeRefused
from aivc.realtime.connector import Connector, open_connector
from aivc.realtime.dialling import client_context
from aivc.realtime.spares import Spares
from aivc.realtime.stream import SocketByteStream
from aivc.testing.line import Line


@attrs.define(eq=False)
class Server:
    """Counts its connections, and notes whether their TLS sessions were old ones.

    Attributes:
      gives_up: True: whoever is connected by then is not answered.
    """

    port: int
    authority: trustme.CA
    trusted: ssl.SSLContext
    connections: int = 0
    resumed: list[bool] = attrs.field(factory=list)
    gives_up: bool = False
    certified: ssl.SSLContext = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Know nothing of earlier TLS sessions."""
        self.certified = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.authority.issue_cert("127.0.0.1").configure_cert(self.certified)

    @property
    def settings(self) -> OpenAISettings:
        return attrs.evolve(SETTINGS, url=f"wss://127.0.0.1:{self.port}/v1/realtime")

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        tls = trio.SSLStream(stream, self.certified, server_side=True, https_compatible=True)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, ConnectionClosed):
            await tls.do_handshake()
            head = await tls.receive_some()
            if self.gives_up:
                self.gives_up = False
                await trio.aclose_forcefully(tls)
                return
            self.resumed.append(bool(tls.session_reused))
            await self.upgrade(Line(tls, bytes(head)))

    async def upgrade(self, stream: Line) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream)
            websocket = await request.accept()
            await websocket.send_message("hello")
            with suppress(ConnectionClosed):
                await websocket.get_message()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_server(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> AsyncIterator[Server]:
    authority = trustme.CA()
    trusted = client_context()  # the servers here leave out TLS's close, as many do
    authority.configure_trust(trusted)
    trusted.maximum_version = version
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = Server(listeners[0].socket.getsockname()[1], authority, trusted)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.serve, listeners)
        yield server
        nursery.cancel_scope.cancel()


async def talk(connector: Connector, settings: OpenAISettings) -> None:
    """One connection: opened, used and closed."""
    async with trio.open_nursery() as nursery:
        socket = await connector.open(nursery, settings)
        assert await socket.receive() == "hello"
        await socket.close(1.0)
        nursery.cancel_scope.cancel()


def spares_of(connector: Connector) -> Spares:
    assert connector.spares is not None
    return connector.spares


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - there is no event for it
        await trio.sleep(0.002)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_tls_session_is_resumed_by_the_next_connection_to_the_same_endpoint(version: ssl.TLSVersion) -> None:
    with trio.fail_after(10):
        async with open_server(version) as server, open_connector(server.settings, context=server.trusted) as connector:
            for _ in range(3):
                await talk(connector, server.settings)
    assert server.resumed == [False, True, True]


async def test_by_default_a_server_may_leave_out_the_close_of_tls() -> None:
    async with open_connector(SETTINGS) as connector:
        assert connector.context.options & ssl.OP_IGNORE_UNEXPECTED_EOF
        assert connector.context.verify_mode is ssl.CERT_REQUIRED
        assert connector.context.check_hostname


async def test_a_server_that_knows_the_session_no_more_is_connected_to_all_the_same() -> None:
    with trio.fail_after(10):
        async with open_server() as server, open_connector(server.settings, context=server.trusted) as connector:
            await talk(connector, server.settings)
            server.forget()
            await talk(connector, server.settings)
            await talk(connector, server.settings)
    assert server.resumed == [False, False, True]


async def test_a_session_of_one_endpoint_is_not_shown_to_another() -> None:
    with trio.fail_after(10):
        async with open_server() as server, open_connector(server.settings, context=server.trusted) as connector:
            await talk(connector, server.settings)
            other = attrs.evolve(server.settings, url=f"wss://localhost:{server.port}/v1/realtime")
            async with trio.open_nursery() as nursery:
                with pytest.raises(RealtimeRefused, match="tls"):  # its certificate, looked at again, names another
                    await connector.open(nursery, other)


async def test_the_process_has_one_tls_context_and_tells_of_what_cannot_be_reached() -> None:
    settings = OpenAISettings(url="wss://127.0.0.1:1/v1/realtime", model="gpt-realtime")
    with trio.fail_after(5):
        async with open_connector(settings) as connector, trio.open_nursery() as nursery:
            context = connector.context
            for _ in range(2):
                with pytest.raises(RealtimeRefused, match="unreachable"):
                    await connector.open(nursery, settings)
            assert connector.context is context


@pytest.mark.parametrize("opened", [open_heartbeat, partial(nullcontext, TaskClock())])
async def test_who_serves_calls_alone_shares_one_context_and_lets_the_clock_read(
    opened: Callable[[], AbstractAsyncContextManager[MediaClock]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with trio.fail_after(10):
        async with open_server() as server, opened() as clock:
            server.authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
            async with open_connections(attrs.evolve(Settings(), openai=server.settings), clock) as connect:
                monkeypatch.delenv("SSL_CERT_FILE")  # a context of later trusts nobody here
                watches = [await watch_of(connect, server.settings) for _ in range(3)]
    assert server.resumed == [False, True, True]
    assert set(watches) == {clock if isinstance(clock, Heartbeat) else None}


async def watch_of(connect: Connect, settings: OpenAISettings) -> object:
    """What reads a connection, after its first message."""
    async with trio.open_nursery() as nursery:
        socket = await connect(nursery, settings)
        assert await socket.receive() == "hello"
        await socket.close(1.0)
        nursery.cancel_scope.cancel()
    assert isinstance(socket.stream, SocketByteStream)
    return socket.stream.watch


# Opened ahead


async def test_a_call_takes_a_connection_that_is_open_already_and_another_takes_its_place() -> None:
    with trio.fail_after(10):
        async with open_server() as server, open_connector(server.settings, 2, context=server.trusted) as connector:
            await until(lambda: spares_of(connector).ready == 2)
            await talk(connector, server.settings)
            await until(lambda: spares_of(connector).ready == 2)
            assert server.connections == 3
            assert spares_of(connector).counters.used == 1


async def test_a_call_that_finds_none_connects_for_itself() -> None:
    with trio.fail_after(10):
        async with open_server() as server, open_connector(server.settings, 1, context=server.trusted) as connector:
            await talk(connector, server.settings)  # before the first one is open
            assert spares_of(connector).counters.missed == 1
            await until(lambda: spares_of(connector).ready == 1)


async def test_a_connection_that_the_server_has_just_given_up_costs_no_call() -> None:
    with trio.fail_after(10):
        async with open_server() as server, open_connector(server.settings, 1, context=server.trusted) as connector:
            await until(lambda: spares_of(connector).ready == 1)
            server.gives_up = True  # what was opened before; the end comes when the request has gone
            await talk(connector, server.settings)
            assert spares_of(connector).counters.lost == 1


async def test_settings_without_a_target_are_refused_and_nothing_is_opened_ahead() -> None:
    nowhere = attrs.evolve(SETTINGS, url="ftp://nowhere")
    with trio.fail_after(5):
        async with open_connector(nowhere, 2) as connector, trio.open_nursery() as nursery:
            with pytest.raises(RealtimeRefused, match=r"openai\.url"):
                await connector.open(nursery, nowhere)
            assert spares_of(connector).ready == 0
