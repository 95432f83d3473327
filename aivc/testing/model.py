"""A strict Realtime server for tests and demonstrations, in memory or on a real port.

It knows OpenAI's rules and reports every one that a client breaks, speaks the GA and the beta dialect, and shares no
code with the client that it tests.

    async with FakeModel(scripted([[Say("Hello.", seconds=2.0)]])) as model:
        socket = await connect_to(model)(nursery, settings)   # aivc.testing.connect
        ...
        assert model.sessions[0].errors == []
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Literal

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream
from wsproto.utilities import LocalProtocolError

from aivc.testing.faults import Faults
from aivc.testing.generation import Pace
from aivc.testing.line import Line
from aivc.testing.machine import SessionMachine
from aivc.testing.outbox import Effect, Setup
from aivc.testing.script import Script, stand_in
from aivc.testing.session import Observed, Session
from aivc.testing.upgrade import (
    LARGEST_HEAD_OCTETS,
    BadRequest,
    EntryRefused,
    UpgradeRequest,
    check_dialect,
    check_key,
    check_model,
    http_answer,
    parse_untrusted,
)
from aivc.testing.websocket import Latency, MemoryStream, memory_stream_pair

HANDSHAKE_SECONDS = 10.0  # for the request head and the upgrade
LARGEST_MESSAGE_OCTETS = 24 * 1024 * 1024  # one append of 15 MiB, in base64 and JSON
QUEUED_MESSAGES = 64  # while this is full, trio-websocket's reader answers no ping
RECEIVE_OCTETS = 65536


@attrs.define(eq=False)
class FakeModel:
    """A Realtime server. Enter it to use it in memory; `serve_port` needs no entering.

    A client that breaks a rule gets the `error` event that OpenAI sends, and the error is in its `Session.errors`.
    Ids, sizes and times come from the seed alone: under a fake clock, the same seed and the same client give the same
    events, octet by octet, if `wall_clock` is fixed too (it is only used for `expires_at`).

    An exception in the script ends the server and is raised where the model was entered.
    """

    script: Script = attrs.field(factory=stand_in)
    dialect: Literal["ga", "beta", "both"] = attrs.field(
        default="ga", kw_only=True
    )  # both: as the client's header says
    faults: Faults = attrs.field(factory=Faults, kw_only=True)  # of sessions that begin from now on
    # Of the second connection, the third, and so on; the last stays; none: the same as the first.
    later_faults: Sequence[Faults] = attrs.field(default=(), kw_only=True)
    seed: int = attrs.field(default=0, kw_only=True)
    speed: float = attrs.field(default=5.0, kw_only=True)  # seconds of audio generated in one second
    delta_ms: tuple[float, float] = attrs.field(default=(60.0, 480.0), kw_only=True)  # shortest and longest audio delta
    think_ms: float = attrs.field(default=300.0, kw_only=True)  # from response.created to the first item, about
    decorate: bool = attrs.field(default=True, kw_only=True)  # obfuscation, phase, unknown events, as at OpenAI
    keys: Collection[str] | None = attrs.field(default=None, kw_only=True)  # None: any that is not empty
    require_key: bool = attrs.field(default=True, kw_only=True)
    models: Collection[str] | None = attrs.field(default=None, kw_only=True)  # None: any with `realtime` in its name
    latency: Latency | tuple[Latency, Latency] | None = attrs.field(
        default=None, kw_only=True
    )  # in memory; to us, from us
    window_octets: int | None = attrs.field(default=None, kw_only=True)  # in memory: unread octets before a backlog
    record: bool = attrs.field(default=True, kw_only=True)  # False: keep no events, audio or ended sessions
    watch: trio.MemorySendChannel[Observed] | None = attrs.field(
        default=None, kw_only=True
    )  # live view; never waited for
    wall_clock: Callable[[], float] = attrs.field(default=time.time, kw_only=True)  # seconds since 1970

    sessions: list[Session] = attrs.field(factory=list, init=False)  # in the order of their connections
    asked: int = attrs.field(default=0, init=False)  # requests for an upgrade so far, those refused included
    _served: int = attrs.field(default=0, init=False)
    _came: trio.Event = attrs.field(factory=trio.Event, init=False)
    _nursery: trio.Nursery | None = attrs.field(default=None, init=False)
    _stack: AsyncExitStack = attrs.field(factory=AsyncExitStack, init=False)

    async def __aenter__(self) -> FakeModel:
        self._nursery = await self._stack.enter_async_context(trio.open_nursery())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()
        # Not given the body's exception, the nursery does not wrap it in a group: a failed assertion stays one.
        await self._stack.aclose()
        self._nursery = None

    def open_stream(self, latency: tuple[Latency, Latency] | None = None) -> MemoryStream:
        """Connect in memory: the client's end of a connection whose other end is being served.

        Args:
            latency: to the model and from it; None: its own.

        Raises:
            RuntimeError: the model is not entered.
        """
        if self._nursery is None:
            raise RuntimeError("enter the model first: async with FakeModel(...) as model")
        client, server = memory_stream_pair(latency=latency or self.latency, window_octets=self.window_octets)
        self._nursery.start_soon(self.serve_stream, server)
        return client

    async def wait_session(self, number: int = 1) -> Session:
        """The session of the `number`-th client that got through the upgrade; waits for it to come."""
        await trio.lowlevel.checkpoint()
        while len(self.sessions) < number:
            await self._came.wait()
        return self.sessions[number - 1]

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one connection, from its HTTP request to its end, and close it."""
        line = Line(stream)
        try:
            await self._serve_line(line)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client left in the middle of its HTTP request
        finally:
            await trio.aclose_forcefully(line)

    async def _serve_line(self, line: Line) -> None:
        request: UpgradeRequest | None = None
        with trio.move_on_after(HANDSHAKE_SECONDS):
            request = await self._wait_request(line)
        if request is None:
            return
        self.asked += 1
        faults = [self.faults, *self.later_faults][: self.asked][-1]
        if faults.refuse_upgrade is not None:
            await line.send_all(http_answer(faults.refuse_upgrade, "Refused by a fault of the test server."))
            return
        if faults.silent_upgrade:
            await trio.sleep_forever()
        try:
            await self._upgrade(line, request, faults)
        except* LocalProtocolError:
            pass  # trio-websocket answers a ping also when our close frame has gone

    async def _upgrade(self, line: Line, request: UpgradeRequest, faults: Faults) -> None:
        async with trio.open_nursery() as nursery:
            websocket: WebSocketConnection | None = None
            with trio.move_on_after(HANDSHAKE_SECONDS), suppress(ConnectionClosed):
                upgrade = await wrap_server_stream(
                    nursery, line, QUEUED_MESSAGES, LARGEST_MESSAGE_OCTETS, RECEIVE_OCTETS
                )
                websocket = await upgrade.accept(subprotocol="realtime" if "realtime" in request.protocols else None)
            if websocket is not None:
                await self._serve_websocket(websocket, line, request, faults)
            nursery.cancel_scope.cancel()

    async def _serve_websocket(
        self, websocket: WebSocketConnection, line: Line, request: UpgradeRequest, faults: Faults
    ) -> None:
        session, effects = self._let_in(request, faults)
        self.sessions.append(session)
        self._came.set()
        self._came = trio.Event()
        try:
            await session.run(websocket, line, effects)
        finally:
            if not self.record:
                self.sessions.remove(session)

    def _let_in(self, request: UpgradeRequest, faults: Faults) -> tuple[Session, list[Effect]]:
        """A session for this client, and its first effects: session.created, or an error and the close frame."""
        self._served += 1
        setup = Setup(
            model=request.model or "",
            dialect="beta" if request.beta and self.dialect != "ga" else "ga",
            script=self.script,
            pace=Pace(think_ms=self.think_ms, speed=self.speed, delta_ms=self.delta_ms),
            faults=faults,
            decorate=self.decorate,
            record=self.record,
        )
        machine = SessionMachine(setup, random.Random(f"{self.seed}/{self._served}"))
        session = Session(machine, request.headers, record=self.record, watch=self.watch)
        try:
            if self.require_key:
                check_key(request, self.keys)
            check_dialect(request, self.dialect)
            check_model(request, self.models)
        except EntryRefused as refused:
            return session, machine.refuse_entry(refused.refusal, refused.code)
        if faults.refuse_session is not None:
            return session, machine.turn_away(faults.refuse_session)
        return session, machine.open(trio.current_time(), self.wall_clock())

    async def _wait_request(self, line: Line) -> UpgradeRequest | None:
        """The upgrade request; None if there was none, which is answered already."""
        head = await line.read_until(b"\r\n\r\n", LARGEST_HEAD_OCTETS)
        if head is None:
            return None
        try:
            request = parse_untrusted(head)
        except BadRequest as error:
            await line.send_all(bytes(error))
            return None
        return request


async def serve_port(
    model: FakeModel,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve on a TCP port until cancelled: `ws://HOST:PORT/v1/realtime?model=gpt-realtime`.

    Args:
        model: may be entered or not.
        host: IP address to listen on. The fake has no TLS and believes any key: keep it on loopback.
        port: 0 = any free one; the number is reported through `task_status`.

    Raises:
        OSError: the port cannot be had.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    bound: int = listeners[0].socket.getsockname()[1]
    task_status.started(bound)
    await trio.serve_listeners(model.serve_stream, listeners)
