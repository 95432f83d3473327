"""The process: front end -> admission -> `serve_call`; draining and signals."""

from __future__ import annotations

import gc
import logging
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.config.settings import Address, OpenAISettings, Settings, SipSettings
from aivc.media.clock import MediaClock, open_heartbeat
from aivc.media.ports import PortPool
from aivc.nursery.call import Connect, serve_call
from aivc.nursery.record import CallRecord, Observer
from aivc.realtime.connection import RealtimeSocket, open_realtime
from aivc.realtime.tools import ToolRegistry, load_tools
from aivc.sip.leg import Leg, Rejection
from aivc.sip.useragent import UserAgent, open_user_agent

log = logging.getLogger("aivc.service")

ServeCall = Callable[[Leg], Awaitable[CallRecord]]

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

    @property
    def listening(self) -> tuple[Address, ...]:
        """The SIP addresses, with their real ports."""
        return self.agent.listening

    def drain(self) -> None:
        """Refuse new calls from now on; those in progress go on."""
        self.draining.set()
        self._settle()

    def refusal(self) -> Rejection | None:
        """Why a new call cannot be taken now; None when it can."""
        wait = self.settings.service.retry_after_seconds
        if self.draining.is_set():
            return Rejection(503, "the service is going down", wait)
        if self.settings.openai.disable:
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
) -> AsyncIterator[Service]:
    """Answer calls while the block runs; leaving it drains.

    Leaving: new calls get 503, those in progress may finish for `service.drain_seconds`, then they are hung up with
    BYE. Cancel the block to end at once.

    Args:
      connect, tools, clock, observer: as in `serve_call`; by default OpenAI, the files of `openai.tools`, one
        heartbeat for all calls, and nobody.

    Raises OSError when a listening port is taken, ToolFileError when a tool file cannot be used.
    """
    registry = load_tools(settings.openai.tools) if tools is None else tools
    hang_up = trio.Event()
    async with open_user_agent(front_end(settings.sip)) as agent, shared_clock(clock) as media_clock:
        serve = partial(
            serve_call,
            settings=settings,
            connect=connect or realtime_connector(),
            tools=registry,
            clock=media_clock,
            ports=PortPool(settings.rtp),
            draining=hang_up,
            observer=observer,
        )
        service = Service(settings, agent)
        agent.accepting = service.refusal() is None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_calls, service, agent, serve)
            logs.event(log, "service.ready", listening=[f"{host}:{port}" for host, port in agent.listening])
            yield service
            await drain(service, hang_up)
            nursery.cancel_scope.cancel()


async def drain(service: Service, hang_up: trio.Event) -> None:
    """Let calls finish, then have them hang up, then stop waiting."""
    settings = service.settings
    service.drain()
    logs.event(log, "service.draining", calls=service.calls, seconds=settings.service.drain_seconds)
    with trio.move_on_after(settings.service.drain_seconds):
        await service.idle.wait()
    calls_cut = service.calls
    hang_up.set()
    with trio.move_on_after(settings.sip.hang_up_seconds + settings.openai.close_seconds + LAST_WORDS):
        await service.idle.wait()
    logs.event(log, "service.stopped", calls_cut=calls_cut)


async def answer_calls(service: Service, agent: UserAgent, serve: ServeCall) -> None:
    """One task a call; a call that cannot be taken is refused with the true cause."""

    async def run_one(leg: Leg) -> None:
        try:
            await serve(leg)
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
            refusal = service.refusal()
            if refusal is None:
                service.call_began()
                nursery.start_soon(run_one, leg)
            else:
                service.refused += 1
                logs.event(log, "call.refused", call_id=leg.call_id, status=refusal.status, cause=refusal.cause)
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

    Only in the main thread. Raises as `open_service()` does.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            async with open_service(settings, observer=observer):
                spare_startup_objects()
                await anext(signals)
                nursery.start_soon(stop_at_once, signals, nursery.cancel_scope)
            nursery.cancel_scope.cancel()


def spare_startup_objects() -> None:
    """Start-up made tens of thousands of objects that live for ever: no collection need stop the media for them."""
    gc.collect()
    gc.freeze()


async def stop_at_once(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await anext(signals)
    logs.event(log, "service.second_signal")
    scope.cancel()
