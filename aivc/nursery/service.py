"""The process: front end -> admission -> `serve_call`; draining and signals."""

from __future__ import annotations

import gc
import logging
import signal
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.config.settings import Address, OpenAISettings, Settings, SipSettings
from aivc.media.clock import MediaClock, open_heartbeat
from aivc.media.ports import PortPool
from aivc.nursery.call import serve_call
from aivc.nursery.ground import Connect
from aivc.nursery.observers import FanOut, Subscription
from aivc.nursery.percall import check_installed, fetch_settings, open_client
from aivc.nursery.prompts import Prompts, load_prompts
from aivc.nursery.record import OBSERVER_EVENTS, CallRecord, Observer
from aivc.nursery.recordfile import open_record_file, prepare_folder
from aivc.nursery.routing import Route, Routes, is_disabled, load_routes
from aivc.realtime.connection import RealtimeSocket, open_realtime
from aivc.realtime.tools import ToolRegistry
from aivc.sip.leg import Leg, Rejection
from aivc.sip.useragent import UserAgent, open_user_agent

log = logging.getLogger("aivc.service")

RouteLeg = Callable[[Leg], Route | Rejection]
ServeLeg = Callable[[Leg, Route], Awaitable[CallRecord]]

LAST_WORDS: Final = 2.0  # seconds for the calls' goodbyes beyond their own deadlines, before they are cancelled


@attrs.define(eq=False)
class Service:
    """A running service, as `open_service()` yields it."""

    settings: Settings
    agent: UserAgent
    draining: trio.Event = attrs.field(factory=trio.Event)  # set: no new calls
    calls: int = 0  # in progress, ringing included
    refused: int = 0
    idle: trio.Event = attrs.field(factory=trio.Event)  # set while draining and no call is left
    events: FanOut = attrs.field(factory=FanOut)

    @property
    def listening(self) -> tuple[Address, ...]:
        """The SIP addresses, with their real ports."""
        return self.agent.listening

    def subscribe(self, capacity: int = OBSERVER_EVENTS) -> AbstractAsyncContextManager[Subscription]:
        """Hear of all calls from now on: `async with service.subscribe() as events: async for event in events: ...`.

        Nobody waits for a subscriber: what does not fit into `capacity` is missed, and counted. Ends with the service.
        """
        return self.events.subscribe(capacity)

    def drain(self) -> None:
        """Refuse new calls from now on; those in progress go on."""
        self.draining.set()
        self._settle()

    def refusal(self) -> Rejection | None:
        """Why a new call cannot be taken now; None when it can."""
        wait = self.settings.service.retry_after_seconds
        if self.draining.is_set():
            return Rejection(503, "the service is going down", wait)
        if is_disabled(self.settings):
            return Rejection(503, "openai.disable is set", wait)
        if self.calls >= self.settings.service.max_calls:
            return Rejection(503, f"service.max_calls = {self.settings.service.max_calls} is reached", wait)
        return None

    def call_began(self) -> None:
        self.calls += 1
        self._settle()

    def call_ended(self) -> None:
        self.calls -= 1
        self._settle()

    def _settle(self) -> None:
        self.agent.accepting = self.refusal() is None  # a dispatcher that asks by OPTIONS looks elsewhere in time
        if self.draining.is_set() and not self.calls:
            self.idle.set()


@asynccontextmanager
async def open_service(
    settings: Settings,
    *,
    connect: Connect | None = None,
    tools: ToolRegistry | None = None,
    clock: MediaClock | None = None,
    observer: Observer | None = None,
    wall_clock: Callable[[], float] = time.time,
) -> AsyncIterator[Service]:
    """Answer calls while the block runs; leaving it drains.

    Leaving: new calls get 503, those in progress may finish for `service.drain_seconds`, then they are hung up with
    BYE. Cancel the block to end at once.

    Args:
      connect, tools, clock, observer, wall_clock: as in `serve_call`; by default OpenAI, the files of each agent's
        `tools`, one heartbeat for all calls, nobody, and the system's. `Service.subscribe` is another way to hear of
        calls.

    Raises OSError when a listening port is taken, ToolFileError when a tool file cannot be used, ConfigError when
    something else cannot work: the folder for records, the package for `engine.api_url`.
    """
    routes, prompts = equip(settings, tools)
    prepare_folder(settings.records, wall_clock())
    hang_up = trio.Event()
    async with (
        open_user_agent(front_end(settings.sip)) as agent,
        shared_clock(clock) as media_clock,
        open_record_file(settings.records, wall_clock=wall_clock) as records,
        open_client(settings.engine) as client,
    ):
        service = Service(settings, agent, events=FanOut((*filter(None, (records, observer)),)))
        run_call = partial(
            serve_call,
            connect=connect or realtime_connector(),
            clock=media_clock,
            ports=PortPool(settings.rtp),
            draining=hang_up,
            observer=service.events,
            prompts=prompts,
            wall_clock=wall_clock,
        )

        async def serve(leg: Leg, route: Route) -> CallRecord:
            given = partial(run_call, leg, route.settings, agent=route.agent)
            if client is None:
                return await given(tools=route.tools)
            # The answer may change which tools are offered, so the call loads them after it.
            return await given(tools=tools, prepare=partial(fetch_settings, leg, route.settings, client, tools))

        agent.accepting = service.refusal() is None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer_calls, service, agent, routes.route, serve)
                logs.event(log, "service.ready", listening=[f"{host}:{port}" for host, port in agent.listening])
                yield service
                calls_cut = await drain(service, hang_up)
                nursery.cancel_scope.cancel()
        finally:
            service.events.end()
    logs.event(log, "service.stopped", calls_cut=calls_cut)  # and every record is on the disk


def equip(settings: Settings, tools: ToolRegistry | None = None) -> tuple[Routes, Prompts]:
    """Load what calls need beside the settings: tools and sounds. Raises ConfigError for what cannot be used."""
    check_installed(settings.engine)
    return load_routes(settings, tools), load_prompts(settings.sounds)


async def drain(service: Service, hang_up: trio.Event) -> int:
    """Let calls finish, then have them hang up, then stop waiting. Returns how many had to hang up."""
    settings = service.settings
    service.drain()
    logs.event(log, "service.draining", calls=service.calls, seconds=settings.service.drain_seconds)
    with trio.move_on_after(settings.service.drain_seconds):
        await service.idle.wait()
    calls_cut = service.calls
    hang_up.set()
    with trio.move_on_after(settings.sip.hang_up_seconds + settings.openai.close_seconds + LAST_WORDS):
        await service.idle.wait()
    return calls_cut


async def answer_calls(service: Service, agent: UserAgent, route: RouteLeg, serve: ServeLeg) -> None:
    """One task a call; a call that cannot be taken is refused with the true cause."""

    async def run_one(leg: Leg, found: Route) -> None:
        try:
            await serve(leg, found)
        except Exception as error:  # a bug outside the call's own net costs this call only
            logs.event(log, "call.bug", level=logging.ERROR, call_id=leg.call_id, exc_info=error)
        finally:
            service.call_ended()

    async def refuse_one(leg: Leg, refusal: Rejection) -> None:
        try:
            await leg.reject(refusal)
        except Exception as error:
            logs.event(log, "call.bug", level=logging.ERROR, call_id=leg.call_id, exc_info=error)

    async with trio.open_nursery() as nursery:
        async for leg in agent.legs:
            match service.refusal() or route(leg):
                case Route() as found:
                    service.call_began()
                    nursery.start_soon(run_one, leg, found)
                case Rejection(status=status, cause=cause) as refusal:
                    service.refused += 1
                    logs.event(log, "call.refused", call_id=leg.call_id, status=status, cause=cause)
                    nursery.start_soon(refuse_one, leg, refusal)


def front_end(settings: SipSettings) -> SipSettings:
    """A user agent that is not enabled listens nowhere."""
    return settings if settings.enabled else attrs.evolve(settings, listen=())


def realtime_connector() -> Connect:
    """`open_realtime` with one TLS context for the whole process: making one takes 20 ms, too much for every call."""
    context = ssl.create_default_context()

    async def connect(nursery: trio.Nursery, settings: OpenAISettings) -> RealtimeSocket:
        return await open_realtime(nursery, settings, ssl_context=context)

    return connect


@asynccontextmanager
async def shared_clock(clock: MediaClock | None) -> AsyncIterator[MediaClock]:
    if clock is not None:
        yield clock
        return
    async with open_heartbeat() as heartbeat:
        yield heartbeat


async def run_service(settings: Settings, *, observer: Observer | None = None) -> None:
    """`aivc serve`: answer calls until SIGTERM or SIGINT, then drain; a second signal ends at once.

    Only in the main thread. Raises what `open_service()` does, in an ExceptionGroup.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            async with open_service(settings, observer=observer):
                spare_startup_objects()
                await anext(signals)
                nursery.start_soon(stop_at_once, signals, nursery.cancel_scope)
            nursery.cancel_scope.cancel()


def spare_startup_objects() -> None:
    """Start-up made tens of thousands of objects that live for ever: no collection need stop the media for them.

    A call in progress is some 700 objects, nearly none of them garbage. With Python's own thresholds a hundred calls
    set off a full collection of 50 ms; with these it comes about once in a thousand calls.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 10, 5)


async def stop_at_once(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await anext(signals)
    logs.event(log, "service.second_signal")
    scope.cancel()
