"""A small world with one phone, one service and one model, and what must hold in it after every call.

Half of the runs of a scenario have an OpenSIPS at the service's own address, which answers the phone and hands its
calls over as UA sessions: `scenarios.conftest`.

    async with open_world(scripted([[Say("Hello.", seconds=1.0)]])) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.5)
    assert world.record.ending is Ending.CALLER_HUNG_UP

Leaving the block waits for the end of every call and checks what `check_calls` and `check_remains` say.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, Final, Literal, TypeVar

import attrs
import pytest
import trio

from aivc import (
    CallEvent,
    CallRecord,
    OpenAISettings,
    RtpSettings,
    Secret,
    Service,
    Settings,
    SipSettings,
    open_service,
)
from aivc.config.settings import Address, Codec, ServiceSettings
from aivc.media.clock import TaskClock
from aivc.nursery.record import OBSERVER_EVENTS, Ended
from aivc.realtime.connection import RealtimeSocket
from aivc.realtime.tools import Tool, load_registry
from aivc.testing import (
    Chaos,
    FakeModel,
    FakeOpenSips,
    Faults,
    Phone,
    PhoneCall,
    Script,
    Session,
    VirtualNetwork,
    connect_to,
    open_fake_opensips,
    open_phone,
)
from aivc.testing.registrar import Registrar
from scenarios.front_ends import FRONT_END

SERVICE: Final = "192.0.2.1"  # addresses of RFC 5737
PHONE: Final = "192.0.2.9"
SERVICE6: Final = "2001:db8::1"  # addresses of RFC 3849
REGISTRAR: Final = "192.0.2.50"
PHONE6: Final = "2001:db8::9"
NUMBER: Final = f"sip:1000@{SERVICE}:5060"
RTP_PORT: Final = 40_000  # the only one, so that a seed of the network decides every packet's fate
DELAY: Final = 0.005  # seconds, of the network, one way
NOON: Final = 1_800_000_000.0  # seconds since 1970, of everybody's wall clock
EVENTS_OF_A_CALL: Final = 20  # at most, when there are many calls: the observer is read at the end only
EXPIRY: Final = 2.0  # seconds: OpenSIPS counts whole ones, and drops who has unsubscribed when the next one is over
PATIENCE: Final = 200.0  # virtual seconds: no scenario lasts so long

SETTINGS: Final = Settings(
    openai=OpenAISettings(
        url="ws://model.test/v1/realtime",
        key=Secret("sk-abcdefghijkl"),
        model="gpt-realtime-2.1",
        welcome_message="Hello.",
    ),
    sip=SipSettings(listen=(f"udp:{SERVICE}:5060",)),
    rtp=RtpSettings(bind_ip=SERVICE, min_port=RTP_PORT, max_port=RTP_PORT + 1),
    service=ServiceSettings(drain_seconds=0.0),
)

Changes = Mapping[str, Any]
NONE: Final[Changes] = {}
NO_FAULTS: Final = Faults()
CALM: Final = Chaos()
NO_REGISTRAR: Final = nullcontext()

T = TypeVar("T")


def changed(
    settings: Settings = SETTINGS,
    *,
    openai: Changes = NONE,
    sip: Changes = NONE,
    rtp: Changes = NONE,
    service: Changes = NONE,
    opensips: Changes = NONE,
    engine: Changes = NONE,
) -> Settings:
    """The same settings but for the given ones."""
    return attrs.evolve(
        settings,
        openai=attrs.evolve(settings.openai, **openai),
        sip=attrs.evolve(settings.sip, **sip),
        rtp=attrs.evolve(settings.rtp, **rtp),
        service=attrs.evolve(settings.service, **service),
        opensips=attrs.evolve(settings.opensips, **opensips),
        engine=attrs.evolve(settings.engine, **engine),
    )


@attrs.define(eq=False)
class World:
    """What a scenario works with."""

    network: VirtualNetwork
    model: FakeModel
    service: Service
    phone: Phone
    registrar: Registrar | None = None  # at REGISTRAR
    opensips: FakeOpenSips | None = None  # between the phone and the service
    events: list[CallEvent] = attrs.field(factory=list)  # what the observer heard, once the calls are over

    def dial(self, codec: Codec = "PCMU", **more: Any) -> AbstractAsyncContextManager[PhoneCall]:
        """Call, wait for the answer, hang up at the end of the block; `more` as in `Phone.dial`."""
        return self.phone.dial(NUMBER, codec=codec, **more)

    def ring(self, codec: Codec = "PCMU", **more: Any) -> AbstractAsyncContextManager[PhoneCall]:
        """Call; the block runs before the answer."""
        return self.phone.ring(NUMBER, codec=codec, **more)

    @property
    def session(self) -> Session:
        """The model's only session."""
        (session,) = self.model.sessions
        return session

    @property
    def records(self) -> list[CallRecord]:
        """The records of all calls, once they are over."""
        return [event.what.record for event in self.events if isinstance(event.what, Ended)]

    @property
    def record(self) -> CallRecord:
        """The record of the only call, once it is over."""
        (record,) = self.records
        return record

    def media_sockets(self) -> list[Address]:
        """The service's open sockets of RTP and RTCP."""
        rtp = self.service.settings.rtp
        ports, hosts = range(rtp.min_port, rtp.max_port + 2), (SERVICE, SERVICE6)
        return [each for each in self.network.bound if each[0] in hosts and each[1] in ports]


@asynccontextmanager
async def open_world(
    script: Script,
    *,
    settings: Settings = SETTINGS,
    dialect: Literal["ga", "beta"] = "ga",
    network: VirtualNetwork | None = None,
    faults: Faults = NO_FAULTS,
    tools: tuple[Tool, ...] | None = (),
    calls: int | None = 1,
    blunders: bool = False,
    drains: bool = False,
    registrar: AbstractAsyncContextManager[Registrar | None] = NO_REGISTRAR,
    wall_clock: Callable[[], float] = lambda: NOON,
    opensips: Changes = NONE,
    opensips_is_down: bool = False,
    chaos: Chaos = CALM,
    patience: float = PATIENCE,
    **model: Any,
) -> AsyncIterator[World]:
    """Open the world, and check at the end that nothing is left of it.

    Args:
      tools: of every call, beside the built-in ones that the settings offer; None: each agent's own files.
      calls: how many get as far as a record; refused ones have none; None: there is one call at most.
      blunders: the scenario makes us break the model's rules, so its list of errors need not be empty.
      drains: calls are still running at the end of the block: `phone.nursery` has the tasks of their callers.
      registrar: what `open_registrar` gives: it outlives the service, as registrars do.
      wall_clock: of the service, seconds since 1970; the model's stands still at `NOON`, when a session begins.
      opensips: arguments of `open_fake_opensips`, for the runs behind it.
      opensips_is_down: it is for the scenario to start it.
      chaos: of the phone, the path to the model, and the network, unless one is given.
      patience: virtual seconds that it may last.
      model: further arguments of `FakeModel`.
    """
    tasks = trio.lowlevel.current_statistics().tasks_living
    network = (network or VirtualNetwork(chaos=attrs.evolve(chaos, delay=chaos.delay or DELAY))).enable()
    network.host = SERVICE  # OpenSIPS and the service are on one machine, and talk to each other without delay
    registry = None if tools is None else load_registry(settings.openai, settings.tools.http)
    for definition in tools or ():
        assert registry is not None
        registry.add(definition)
    registry = registry and chaos.slow(registry)
    observer, observed = trio.open_memory_channel[CallEvent](max(OBSERVER_EVENTS, EVENTS_OF_A_CALL * (calls or 1)))
    lines: list[RealtimeSocket] = []
    fake = FakeModel(script, dialect=dialect, faults=faults, wall_clock=lambda: NOON, **model)

    async def connect(nursery: trio.Nursery, openai: OpenAISettings) -> RealtimeSocket:
        lines.append(await connect_to(fake, chaos)(nursery, openai))
        return lines[-1]

    is_behind = FRONT_END.get() == "opensips"
    service = open_service(
        in_dialect(behind_opensips(settings) if is_behind else settings, dialect),
        connect=connect,
        tools=registry,
        clock=TaskClock(),
        observer=observer,
        wall_clock=wall_clock,
        in_thread=at_once,
    )
    try:
        with trio.fail_after(patience):
            async with (
                fake,
                registrar as pbx,
                opensips_if(is_behind, opensips) as between,
                open_phone(PHONE, chaos=chaos) as phone,
            ):
                if between is not None and opensips_is_down:
                    await between.stop()
                async with service as served:
                    world = World(network, fake, served, phone, pbx, between)
                    if between is not None and not opensips_is_down:
                        await between.wait_subscribed()
                    yield world
                    if not drains:
                        await wait_over(world)
                        assert world.media_sockets() == []
                if between is not None:
                    check_opensips(between)
                    await check_unsubscribed(between, served)
                world.events += received(observed)
                check_calls(world, calls, blunders)
                check_closed(lines)
    except BaseExceptionGroup as group:
        raise only_one(group) from None
    check_remains(world, tasks)


async def at_once(work: Callable[[], T]) -> T:
    """Files are written here and now: a thread is idleness to a clock that jumps."""
    await trio.lowlevel.checkpoint()
    return work()


def behind_opensips(settings: Settings) -> Settings:
    """The same settings, but that calls come through the OpenSIPS on the same machine; a scenario may have said how."""
    if settings.opensips.enabled:
        return settings
    return attrs.evolve(
        changed(settings, sip={"enabled": False}),
        opensips=attrs.evolve(settings.opensips, enabled=True, ip=SERVICE),
        engine=attrs.evolve(settings.engine, event_ip=SERVICE),
    )


@asynccontextmanager
async def opensips_if(is_wanted: bool, arguments: Changes = NONE) -> AsyncIterator[FakeOpenSips | None]:
    """An OpenSIPS where the service's user agent would be, with its MI at the default port; or none."""
    if not is_wanted:
        yield None
        return
    async with open_fake_opensips(SERVICE, **arguments) as opensips:
        yield opensips


def check_opensips(opensips: FakeOpenSips) -> None:
    """It was told nothing that it cannot bear, refused nothing that did not cross an end, and has no session left that
    waits for the service."""
    assert opensips.violations == []
    assert [each for each in opensips.sessions.values() if not (each.is_stuck or each.is_being_cancelled)] == []


async def check_unsubscribed(opensips: FakeOpenSips, service: Service) -> None:
    """The service that was there is not told anything any more, and has understood and answered all it was told."""
    await trio.sleep(EXPIRY)
    assert opensips.subscribers == []
    assert service.front_ends.opensips is not None
    statistics = service.front_ends.opensips.statistics()
    assert (statistics.legs, statistics.failures, statistics.unreadable) == (0, 0, 0)
    if not opensips.was_troubled:
        assert (statistics.unanswered, statistics.lost, statistics.orphans, statistics.lapses) == (0, 0, 0, 0)


def in_dialect(settings: Settings, dialect: Literal["ga", "beta"]) -> Settings:
    """The same settings, with every agent in this dialect."""
    agents = [attrs.evolve(agent, openai=attrs.evolve(agent.openai, dialect=dialect)) for agent in settings.agents]
    return attrs.evolve(changed(settings, openai={"dialect": dialect}), agents=tuple(agents))


def only_one(error: BaseException) -> BaseException:
    """What is inside nested groups of one: a failed assertion reads better without the nurseries around it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def wait_over(world: World) -> None:
    """Until the service has said all its goodbyes."""
    while world.service.calls:  # noqa: ASYNC110 - a fake clock makes polling cheap
        await trio.sleep(0.02)


def received(observed: trio.MemoryReceiveChannel[CallEvent]) -> list[CallEvent]:
    events = []
    while observed.statistics().current_buffer_used:
        events.append(observed.receive_nowait())
    return events


def check_calls(world: World, calls: int | None, blunders: bool) -> None:
    """Every call has made one record and has kept the model's rules."""
    made = len({record.call_id for record in world.records})
    assert len(world.records) == made
    assert made == calls or (calls is None and made < 2)
    assert blunders or [error for session in world.model.sessions for error in session.errors] == []
    assert [record.protocol_violations for record in world.records if record.protocol_violations] == []
    for latency in (latency for record in world.records for latency in record.latencies):
        assert latency.parts.total_ms == pytest.approx(latency.total_ms, abs=1e-6)
        assert min(attrs.astuple(latency.parts)) >= 0


def check_closed(lines: list[RealtimeSocket]) -> None:
    """Every WebSocket is closed at our end, whatever its other end knows of it."""
    for line in lines:
        with pytest.raises(trio.ClosedResourceError):
            line.stream.write_nowait(b"")


def check_remains(world: World, tasks: int) -> None:
    """Nothing is left when the world is closed."""
    assert world.service.calls == 0
    statistics = world.service.agent.statistics()
    assert (statistics.legs, statistics.failures) == (0, 0)
    assert world.network.bound == {}
    assert world.network.streams == []
    assert trio.lowlevel.current_statistics().tasks_living == tasks
