"""The process: front ends -> admission -> `serve_call`; draining and signals."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.config.loading import ConfigError
from aivc.config.settings import Address, RtpSettings, Settings
from aivc.media.clock import MediaClock, open_heartbeat
from aivc.media.ports import PortPool
from aivc.media.srtp import SrtpMissing, require_srtp
from aivc.nursery.admin import open_admin
from aivc.nursery.admission import TokenBucket
from aivc.nursery.call import serve_call
from aivc.nursery.connections import open_connections
from aivc.nursery.front_ends import FrontEnds, addresses, open_front_ends
from aivc.nursery.garbage import spare_startup_objects
from aivc.nursery.ground import Connect
from aivc.nursery.lookout import Lookout
from aivc.nursery.observers import FanOut, Subscription
from aivc.nursery.pacing import HINT, Pacing, pacing_of
from aivc.nursery.percall import check_installed, fetch_settings, open_client
from aivc.nursery.prompts import Prompts, load_prompts
from aivc.nursery.record import OBSERVER_EVENTS, CallRecord, Observer
from aivc.nursery.recorder import check_folder, open_watching_recorder
from aivc.nursery.recordfile import open_record_file, prepare_folder
from aivc.nursery.routing import Route, Routes, is_disabled, load_routes
from aivc.nursery.status import Status
from aivc.nursery.tally import Tally
from aivc.nursery.writing import InThread, in_thread
from aivc.realtime.tools import ToolRegistry
from aivc.sip.leg import FrontEnd, Leg, Rejection
from aivc.sip.refusals import Cause, advice_on, turned_away
from aivc.sip.registration import RegistrationStatus
from aivc.sip.useragent import Place, UserAgent

log = logging.getLogger("aivc.service")

RouteLeg = Callable[[Leg], Route | Rejection]
ServeLeg = Callable[[Leg, Route], Awaitable[CallRecord]]

RELOADS: Final = tuple(getattr(signal, name) for name in ("SIGHUP",) if hasattr(signal, name))  # not on Windows
LAST_WORDS: Final = 2.0  # seconds for the calls' goodbyes beyond their own deadlines, before they are cancelled


@attrs.frozen
class Refused:
    """Why a call is not taken, and what to change if it should be."""

    rejection: Rejection
    hint: str | None = None


@attrs.define(eq=False)
class Service:
    """A running service, as `open_service()` yields it."""

    settings: Settings
    front_ends: FrontEnds
    draining: trio.Event = attrs.field(factory=trio.Event)  # set: no new calls
    calls: int = 0  # in progress, ringing included
    refused: int = 0
    arrivals: TokenBucket = attrs.field(init=False)  # a token for each new call
    idle: trio.Event = attrs.field(factory=trio.Event)  # set while draining and no call is left
    events: FanOut = attrs.field(factory=FanOut)
    pacing: Pacing = attrs.field(factory=Pacing)
    look: Callable[[], Status] = Status  # what can be seen of it from outside

    def __attrs_post_init__(self) -> None:
        self.arrivals = TokenBucket(self.settings.service.calls_per_second)

    @property
    def agent(self) -> UserAgent:
        """The built-in user agent; with `sip.enabled` = false it listens nowhere."""
        return self.front_ends.agent

    @property
    def is_subscribed(self) -> bool | None:
        """Whether OpenSIPS sends us its calls, as far as we know; None without `opensips.enabled`."""
        return None if self.front_ends.opensips is None else self.front_ends.opensips.is_subscribed

    @property
    def listening(self) -> tuple[Address, ...]:
        """The SIP addresses, with their real ports."""
        return self.agent.listening

    @property
    def registrations(self) -> tuple[RegistrationStatus, ...]:
        """How each of `sip.register` stands, in their order."""
        return self.agent.registrations

    def reload_certificates(self) -> bool:
        """Read the files of `sip.tls_*` again for new connections; False when the old ones stay, as the log says."""
        return self.agent.reload_certificates()

    def subscribe(self, capacity: int = OBSERVER_EVENTS) -> AbstractAsyncContextManager[Subscription]:
        """Hear of all calls from now on: `async with service.subscribe() as events: async for event in events: ...`.

        Nobody waits for a subscriber: what does not fit into `capacity` is missed, and counted. Ends with the service.
        """
        return self.events.subscribe(capacity)

    def status(self) -> Status:
        """What it does now, and has done so far."""
        refusal = self.refusal()
        return attrs.evolve(
            self.look(),
            calls=self.calls,
            refused=self.refused,
            accepting=refusal is None,
            why_not="" if refusal is None else refusal.cause,
            draining=self.draining.is_set(),
            **self.pacing.figures(),
        )

    def drain(self) -> None:
        """Refuse new calls from now on; those in progress go on."""
        self.draining.set()
        self.settle()

    def refusal(self) -> Rejection | None:
        """Why a new call cannot be taken now; None when it can."""
        wait = self.settings.service.retry_after_seconds
        if self.draining.is_set():
            return turned_away(Cause.DRAINING, "the service is going down", wait)
        if is_disabled(self.settings):
            return turned_away(Cause.DISABLED, "openai.disable is set", wait)
        if self.pacing.is_late:
            return turned_away(Cause.PACING_LATE, self.pacing.cause, wait)
        if self.calls >= self.settings.service.max_calls:
            cause = f"service.max_calls = {self.settings.service.max_calls} is reached"
            return turned_away(Cause.MAX_CALLS, cause, wait)
        return None

    def admit(self, leg: Leg, route: RouteLeg) -> Route | Refused:
        """Who answers a new call, or why nobody does; a call that is to be answered takes its token."""
        if (refusal := self.refusal()) is not None:
            return Refused(refusal, HINT if refusal.name == Cause.PACING_LATE.value else advice_on(refusal.name))
        found = route(leg)
        if isinstance(found, Rejection):
            return Refused(found, unmatched(leg) if found.status == 404 else advice_on(found.name))
        if self.arrivals.take(trio.current_time()):
            return found
        rate, wait = self.settings.service.calls_per_second, self.settings.service.retry_after_seconds
        cause = f"service.calls_per_second = {rate:g} is exceeded"
        refusal = turned_away(Cause.CALLS_PER_SECOND, cause, wait)
        return Refused(refusal, advice_on(refusal.name))

    def call_began(self) -> None:
        self.calls += 1
        self.pacing.call_began()
        self.settle()

    def call_ended(self) -> None:
        self.calls -= 1
        self.settle()

    def settle(self) -> None:
        """Tell the front ends whether calls can be taken, and whoever drains that none is left."""
        accepting = self.refusal() is None
        for front_end in self.front_ends.all:
            front_end.accepting = accepting  # a dispatcher that asks by OPTIONS looks elsewhere in time
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
    in_thread: InThread = in_thread,
    place: Place | None = None,
) -> AsyncIterator[Service]:
    """Answer calls while the block runs; leaving it drains.

    They come by the built-in user agent, from an OpenSIPS, or both, as `sip.enabled` and `opensips.enabled` say.
    Leaving: new calls get 503, those in progress may finish for `service.drain_seconds`, then they are hung up with
    BYE. Cancel the block to end at once.

    Args:
      connect, tools, clock, observer, wall_clock: as in `serve_call`; by default OpenAI, the files of each agent's
        `tools`, one heartbeat for all calls, nobody, and the system's. `Service.subscribe` is another way to hear of
        calls.
      in_thread: what files are written with; see `aivc.open_recorder`.
      place: of one of several processes at the same addresses; see `aivc.nursery.workers`.

    Raises OSError when a listening port is taken, that of `admin.listen` included, ToolFileError when a tool file
    cannot be used, ConfigError when something else cannot work: the folders of `records` and `recorder`, the packages
    for `engine.api_url` and `rtp.srtp`; `service.workers`, which `aivc serve` alone can start.
    """
    if settings.service.workers > 1:
        raise ConfigError(("service.workers: only `aivc serve` starts several; set it to 1",))
    who = "service" if place is None else "worker"  # in the log: only the parent speaks for the service
    routes, prompts = equip(settings, tools)
    prepare_folder(settings.records, wall_clock())
    check_folder(settings.recorder)
    hang_up = trio.Event()
    async with (
        open_front_ends(settings, wall_clock, place) as front_ends,
        shared_clock(clock) as media_clock,
        open_record_file(settings.records, wall_clock=wall_clock, in_thread=in_thread) as records,
        open_watching_recorder(settings.recorder, front_ends, wall_clock, in_thread) as recorder,
        open_client(settings.engine) as client,
        open_connections(settings, media_clock) if connect is None else nullcontext(connect) as connecting,
    ):
        tally = Tally()
        lookout = Lookout(settings, front_ends, tally, records, recorder, trio.current_time())
        events = FanOut((tally, *filter(None, (records, observer))))
        pacing = pacing_of(settings.service, media_clock, is_ours=clock is None)
        service = Service(settings, front_ends, events=events, pacing=pacing, look=lookout.status)
        run_call = partial(
            serve_call,
            connect=connecting,
            clock=media_clock,
            ports=PortPool(settings.rtp),
            draining=hang_up,
            observer=service.events,
            prompts=prompts,
            wall_clock=wall_clock,
            recorder=recorder,
        )

        async def serve(leg: Leg, route: Route) -> CallRecord:
            offered: ToolRegistry | None = route.tools
            prepare = None
            if client is not None:  # the answer may change which tools are offered, so the call loads them after it
                offered, prepare = tools, partial(fetch_settings, leg, settings, route, client, tools)
            with tally.call(leg, route.agent, trio.current_time()):
                return await run_call(leg, route.settings, agent=route.agent, tools=offered, prepare=prepare)

        service.settle()
        try:
            async with open_admin(settings.admin, lambda: (service.status(),)), trio.open_nursery() as nursery:
                nursery.start_soon(pacing.watch, lambda: service.calls, service.settle)
                for front_end in front_ends.all:
                    nursery.start_soon(answer_calls, service, front_end, routes.route, serve)
                logs.event(log, f"{who}.ready", **addresses(front_ends, settings.opensips))
                yield service
                calls_cut = await drain(service, hang_up, who)
                nursery.cancel_scope.cancel()
        finally:
            service.events.end()
    logs.event(log, f"{who}.stopped", calls_cut=calls_cut)  # and every record is on the disk


def equip(settings: Settings, tools: ToolRegistry | None = None) -> tuple[Routes, Prompts]:
    """Load what calls need beside the settings: tools and sounds. Raises ConfigError for what cannot be used."""
    check_installed(settings.engine)
    check_srtp(settings.rtp)
    return load_routes(settings, tools), load_prompts(settings.sounds)


def check_srtp(rtp: RtpSettings) -> None:
    """Raises ConfigError when `rtp.srtp` is on and the package for it is missing."""
    if rtp.srtp != "off":
        try:
            require_srtp()
        except SrtpMissing:
            raise ConfigError(("rtp.srtp: needs the package pylibsrtp: pip install 'aivc[srtp]'",)) from None


async def drain(service: Service, hang_up: trio.Event, who: str) -> int:
    """Let calls finish, then have them hang up, then stop waiting. Returns how many had to hang up."""
    settings = service.settings
    service.drain()
    logs.event(log, f"{who}.draining", calls=service.calls, seconds=settings.service.drain_seconds)
    async with trio.open_nursery() as nursery:
        for front_end in service.front_ends.all:
            nursery.start_soon(front_end.withdraw)  # registrars need not send new calls here while these last
        with trio.move_on_after(settings.service.drain_seconds):
            await service.idle.wait()
        calls_cut = service.calls
        hang_up.set()
        with trio.move_on_after(settings.sip.hang_up_seconds + settings.openai.close_seconds + LAST_WORDS):
            await service.idle.wait()
    return calls_cut


async def answer_calls(service: Service, front_end: FrontEnd, route: RouteLeg, serve: ServeLeg) -> None:
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

    def take(leg: Leg) -> None:
        match admitted(service, leg, route):
            case Route() as found:
                service.call_began()
                nursery.start_soon(run_one, leg, found)
            case Refused(rejection=refusal, hint=hint):
                service.refused += 1
                note_refusal(leg, refusal, hint)
                nursery.start_soon(refuse_one, leg, refusal)

    async with trio.open_nursery() as nursery:
        async for leg in front_end.legs:
            take(leg)
            del leg  # else the last call would be kept until the next one comes


def admitted(service: Service, leg: Leg, route: RouteLeg) -> Route | Refused:
    """As `Service.admit`; a bug in choosing, which looks at what the caller wrote, costs this call only."""
    try:
        return service.admit(leg, route)
    except Exception as error:
        logs.event(log, "call.bug", level=logging.ERROR, call_id=leg.call_id, exc_info=error)
        return Refused(turned_away(Cause.INTERNAL_ERROR, "internal error"))


def unmatched(leg: Leg) -> str:
    return f"{leg.dialled!r:.80} fits no match of [openai] and [agents.*], or the caller no match_from"


def note_refusal(leg: Leg, refusal: Rejection, hint: str | None) -> None:
    """One line for each call that is not taken: whose it was, why, and what to change."""
    status, cause, source = refusal.status, refusal.cause, leg.source[0]
    whose = partial(logs.event, log, "call.refused", call_id=leg.call_id, caller=leg.caller, dialled=leg.dialled)
    whose(source=source, refusal=refusal.name, status=status, cause=cause, hint=hint)


@asynccontextmanager
async def shared_clock(clock: MediaClock | None) -> AsyncIterator[MediaClock]:
    if clock is not None:
        yield clock
        return
    async with open_heartbeat() as heartbeat:
        yield heartbeat


async def run_service(settings: Settings, *, observer: Observer | None = None) -> None:
    """`aivc serve`: answer calls until SIGTERM or SIGINT, then drain; a second signal ends at once.

    SIGHUP has the certificates of `tls:` read again; calls go on.

    Only in the main thread. With several `service.workers` there can be no observer. Raises what `open_service()`
    does, in an ExceptionGroup.
    """
    if settings.service.workers > 1 and observer is None:
        from aivc.nursery.workers import run_workers  # each of which runs a service, and imports this

        await run_workers(settings)
        return
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, *RELOADS) as signals:
        async with trio.open_nursery() as nursery:
            async with open_service(settings, observer=observer) as service:
                spare_startup_objects()
                await told_to_stop(signals, service)
                nursery.start_soon(stop_at_once, signals, service, nursery.cancel_scope)
            nursery.cancel_scope.cancel()


async def told_to_stop(signals: AsyncIterator[int], service: Service) -> None:
    """Until a signal says so; SIGHUP has the certificates read again."""
    async for number in signals:
        if number not in RELOADS:
            return
        logs.event(log, "service.reloaded", certificates=service.reload_certificates())


async def stop_at_once(signals: AsyncIterator[int], service: Service, scope: trio.CancelScope) -> None:
    await told_to_stop(signals, service)
    logs.event(log, "service.second_signal")
    scope.cancel()
