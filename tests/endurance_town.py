"""One service with both front ends, its models, and thousands of callers; and what must hold in between and at the end.

async with open_town(seed=7) as town:
    await town.live(range(1000))
assert town.faults == []
"""

from __future__ import annotations

import gc
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import attrs
import trio
from endurance_calls import DELAY, KINDS, MODELS, TARGET, Caller, Front, Kind

from aivc import (
    Agent,
    CallEvent,
    CallRecord,
    Ended,
    EngineSettings,
    OpenAISettings,
    OpenSipsSettings,
    RtpSettings,
    Secret,
    Service,
    ServiceSettings,
    Settings,
    SipSettings,
    TaskClock,
    load_registry,
    open_service,
    tool,
)
from aivc.config.settings import Address
from aivc.media.ports import PortPool
from aivc.realtime.connection import RealtimeSocket
from aivc.sip.event_reception import MAX_OVER, Over
from aivc.sip.sources import MAX_SOURCES, Bucket
from aivc.testing import (
    CallRefused,
    FakeModel,
    FakeOpenSips,
    VirtualNetwork,
    connect_to,
    open_fake_opensips,
    open_phone,
)

SERVICE: Final = "192.0.2.1"
OPENSIPS: Final = "192.0.2.5"
AT_ONCE: Final = 200  # calls in progress at a time
PATIENCE: Final = 150.0  # virtual seconds for one call
TIMERS: Final = 45.0  # virtual seconds after which no transaction and no port remembers a call
OBSERVED: Final = 100_000  # events
DIALECTS: Final = ("ga", "beta")
NOBODY: Final = 99
OTHERS_LEFT: Final = 2500  # objects of others, from the second batch to the last: trio's heap of deadlines, caches
LEFT: Final = 8  # of a class of ours, from the first batch to the last: the last message of all, and the like
BOUNDED: Final = {Bucket: MAX_SOURCES, Over: MAX_OVER}  # of tables that keep so many on purpose


@tool
async def opening_hours() -> str:
    """When the shop is open."""
    await trio.sleep(0.05)
    return "from nine until six"


def settings() -> Settings:
    """Twelve agents of each dialect; a caller's number decides who answers."""
    openai = OpenAISettings(
        url="ws://talker.test/v1/realtime",
        key=Secret("sk-abcdefghijkl"),
        model="gpt-realtime-2.1",
        welcome_message="Hello.",
        transfer_to=TARGET,
        configure_seconds=30.0,
        match=("none",),
    )
    agents = [
        Agent(
            name=f"{name}-{dialect}",
            openai=attrs.evolve(
                openai, url=f"ws://{name}.test/v1/realtime", dialect=dialect, match=(dialled(name, dialect),)
            ),
        )
        for name in MODELS
        for dialect in DIALECTS
    ]
    return Settings(
        openai=openai,
        agents=tuple(agents),
        sip=SipSettings(listen=(f"udp:{SERVICE}:5060",)),
        opensips=OpenSipsSettings(enabled=True, ip=OPENSIPS),
        engine=EngineSettings(event_ip=SERVICE),
        rtp=RtpSettings(bind_ip=SERVICE, min_port=40_000, max_port=43_000, timeout_seconds=5.0),
        service=ServiceSettings(drain_seconds=0.0, calls_per_second=1000.0, max_calls=2 * AT_ONCE),
    )


def dialled(model: str, dialect: str) -> str:
    place = list(MODELS).index(model) if model in MODELS else NOBODY
    return f"{1 + DIALECTS.index(dialect)}{place:02}"


class Listener(logging.Handler):
    """Keeps what is logged as an error, and counts the warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.errors: list[str] = []
        self.warnings: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            self.errors.append(self.format(record))
        else:
            self.warnings[record.getMessage()] += 1


@attrs.define(eq=False)
class Town:
    """What a run works with, and what it has found. `faults` are sentences; an empty list is a good run."""

    seed: int
    network: VirtualNetwork
    service: Service
    opensips: FakeOpenSips
    models: dict[str, FakeModel]
    connecting: dict[str, Caller]  # the callers, by the user part of their address
    lines: list[RealtimeSocket]
    observed: trio.MemoryReceiveChannel[CallEvent]
    listener: Listener
    tasks: int
    addresses: set[Address]
    offered: Sequence[Kind]  # the kinds that a call may be of
    faults: list[str] = attrs.field(factory=list)
    kinds: Counter[str] = attrs.field(factory=Counter)
    endings: Counter[str] = attrs.field(factory=Counter)
    objects: list[Counter[type[object]]] = attrs.field(factory=list)  # alive after each batch
    most_at_once: int = 0

    async def live(self, numbers: Iterable[int]) -> None:
        """One batch of calls, and what must hold when all of them are over."""
        room = trio.CapacityLimiter(AT_ONCE)
        with trio.CancelScope():
            async with trio.open_nursery() as nursery:
                for number in numbers:
                    await room.acquire_on_behalf_of(number)
                    nursery.start_soon(self._call, number, room)
        await self._settle()

    async def _call(self, number: int, room: trio.CapacityLimiter) -> None:
        """Task: one caller."""
        dice = random.Random(f"{self.seed}/{number}")
        kind = dice.choices(self.offered, [each.weight for each in self.offered])[0]
        host = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        self.kinds[kind.name] += 1
        try:
            with trio.fail_after(PATIENCE):
                await trio.sleep(dice.uniform(0, 1.0))
                self.most_at_once = max(self.most_at_once, self.service.calls)
                await self._serve(number, kind, dice, host)
        except (Exception, BaseExceptionGroup) as error:
            if isinstance(error, BaseExceptionGroup) and error.split(Exception)[1] is not None:
                raise
            self.faults.append(f"{self.name(number)}: {told(error)}")
        finally:
            self.network.forget(host)
            room.release_on_behalf_of(number)

    async def _serve(self, number: int, kind: Kind, dice: random.Random, host: str) -> None:
        front: Front = kind.only or ("sip" if dice.random() < 0.5 else "opensips")
        dialect, chaos = dice.choice(DIALECTS), kind.chaos(dice)
        self.network.hosts[host] = chaos
        user = f"c{number}"
        async with open_phone(host, user=user, seed=number, chaos=chaos) as phone:
            target = SERVICE if front == "sip" else OPENSIPS
            caller = Caller(
                number=number,
                kind=kind,
                dice=dice,
                front=front,
                dialect="ga" if dialect == "ga" else "beta",
                codec=dice.choice(("PCMU", "PCMA")),
                ptime_ms=dice.choice((20, 40, 60, 60)),
                chaos=chaos,
                network=self.network,
                phone=phone,
                uri=f"sip:{dialled(kind.model, dialect)}@{target}:5060",
            )
            self.connecting[user] = caller
            await kind.live(caller)
            await trio.sleep(0.2)

    def name(self, number: int) -> str:
        """Of a call, in what is said of it: what it was, and how to have it again."""
        caller = self.connecting.get(f"c{number}")
        what = "" if caller is None else f" ({caller.kind.name}; {caller.front}, {caller.dialect}, {caller.codec}, "
        what += "" if caller is None else f"{caller.ptime_ms} ms, {caller.chaos})"
        return f"call {number}{what}; again: --seed {self.seed} --only {number}"

    # What must hold

    async def _settle(self) -> None:
        with trio.move_on_after(PATIENCE):
            while self.service.calls:  # noqa: ASYNC110 - a fake clock makes polling cheap
                await trio.sleep(0.1)
        await trio.sleep(TIMERS)
        self._check_records()
        self._check_remains()
        self._forget()
        gc.collect()
        self.objects.append(Counter[type[object]](map(type, gc.get_objects())))

    def _check_records(self) -> None:
        records: dict[str, list[CallRecord]] = {user: [] for user in self.connecting}
        while self.observed.statistics().current_buffer_used:
            event = self.observed.receive_nowait()
            if isinstance(event.what, Ended):
                record = event.what.record
                self.endings[record.ending.value] += 1
                records.setdefault(record.caller.partition("@")[0].removeprefix("sip:"), []).append(record)
        for user, made in records.items():
            caller = self.connecting.get(user)
            fault = f"{len(made)} records" if caller is None else fault_of(caller, made)
            if fault:
                self.faults.append(f"{self.name(int(user.removeprefix('c') or -1))}: {fault}")

    def _check_remains(self) -> None:
        agent, front = self.service.agent.statistics(), self.service.front_ends.opensips
        assert front is not None
        others = front.statistics()
        left = {
            "calls": self.service.calls,
            "dialogs": agent.legs,
            "server transactions": agent.server_transactions,
            "client transactions": agent.client_transactions,
            "bugs in signalling": agent.failures + others.failures,
            "UA sessions": others.legs,
            "sessions at OpenSIPS": len([each for each in self.opensips.sessions.values() if not each.is_stuck]),
            "violations of OpenSIPS's rules": self.opensips.violations,
            "tasks": trio.lowlevel.current_statistics().tasks_living - self.tasks,
            "sockets": [each for each in self.network.bound if each not in self.addresses],
            "connections": self.network.streams,
            "sessions of models": [name for name, model in self.models.items() if model.sessions],
            "errors in the log": self.listener.errors,
            "WebSockets": sum(is_open(line) for line in self.lines),
            "RTP ports": sum(each.in_use for each in gc.get_objects() if isinstance(each, PortPool)),
        }
        self.faults += [f"left over, or wrong: {name}: {what}" for name, what in left.items() if what]

    def _forget(self) -> None:
        """What the kit keeps for tests to look at."""
        for kept in (self.connecting, self.lines, self.opensips.commands, self.opensips.events, self.network.flows):
            kept.clear()

    def check_memory(self) -> None:
        """No call leaves anything behind: of no class of ours is there more after the last batch than after the first,
        whatever the number of calls, and of all others hardly."""
        if not self.objects:
            return
        first, last = self.objects[0], self.objects[-1]
        grown = {
            kind: more for kind, more in (last - first).items() if is_ours(kind) and more > BOUNDED.get(kind, LEFT)
        }
        self.faults += [f"memory grows: {more} more of {kind.__qualname__}" for kind, more in grown.items()]
        others = [sum(count for kind, count in each.items() if not is_ours(kind)) for each in self.objects]
        if len(others) > 2 and others[-1] > others[1] + OTHERS_LEFT:
            self.faults.append(f"memory grows: objects of others after each batch: {others}")


def is_ours(kind: type[object]) -> bool:
    return str(kind.__module__).startswith("aivc.")


def fault_of(caller: Caller, made: list[CallRecord]) -> str:
    """What is wrong with the records of one call; "" for nothing."""
    kind = caller.kind
    wanted = (0, 1) if kind.may_lack else (1,) if kind.endings else (0,)
    if len(made) not in wanted:
        return f"{len(made)} records: {[(each.ending.value, each.detail) for each in made]}"
    for record in made:
        if record.ending not in kind.endings:
            return f"its ending is {record.ending.value} ({record.detail})"
        if record.protocol_violations or record.rtp.malformed or record.observer_missed:
            return f"something was not understood: {record}"
    return ""


def is_open(line: RealtimeSocket) -> bool:
    try:
        line.stream.write_nowait(b"")
    except trio.ClosedResourceError:
        return False
    return True


def told(error: BaseException) -> str:
    """An error without the nurseries around it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, CallRefused):
        return f"refused: {error}"
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    where = "" if last is None else f" in line {last.tb_lineno} of {last.tb_frame.f_code.co_filename.split('/')[-1]}"
    return f"{type(error).__name__} {error}{where}"


@asynccontextmanager
async def open_town(seed: int, kinds: Sequence[Kind] = KINDS) -> AsyncIterator[Town]:
    """A town that is quiet; what is left when it is closed is among its `faults`, too."""
    before = trio.lowlevel.current_statistics().tasks_living
    network = VirtualNetwork(seed=seed, delay=DELAY).enable()
    network.host = SERVICE
    models = {name: model_for(name, seed) for name in MODELS}
    lines: list[RealtimeSocket] = []
    callers: dict[str, Caller] = {}
    tools = load_registry(settings().openai)
    tools.add(opening_hours)

    async def connect(nursery: trio.Nursery, openai: OpenAISettings) -> RealtimeSocket:
        name = str(openai.url).partition("//")[2].partition(".")[0]
        lines.append(await connect_to(models[name])(nursery, openai))
        return lines[-1]

    observer, observed = trio.open_memory_channel[CallEvent](OBSERVED)
    listener = Listener()
    logger = logging.getLogger("aivc")
    logger.addHandler(listener)
    logger.setLevel(logging.WARNING)
    options: dict[str, Any] = {"connect": connect, "tools": tools, "clock": TaskClock(), "observer": observer}
    try:
        async with AsyncExitStack() as stack:
            for model in models.values():
                await stack.enter_async_context(model)
            opensips = await stack.enter_async_context(open_fake_opensips(OPENSIPS))
            service = await stack.enter_async_context(open_service(settings(), **options))
            await opensips.wait_subscribed()
            await trio.sleep(1.0)
            tasks = trio.lowlevel.current_statistics().tasks_living
            town = Town(
                seed,
                network,
                service,
                opensips,
                models,
                callers,
                lines,
                observed,
                listener,
                tasks,
                set(network.bound),
                kinds,
            )
            yield town
            town.check_memory()
        if network.bound or network.streams or trio.lowlevel.current_statistics().tasks_living != before:
            town.faults.append(f"left over when the service was closed: {network.bound} {network.streams}")
    finally:
        logger.removeHandler(listener)
        logger.setLevel(logging.NOTSET)


def model_for(name: str, seed: int) -> FakeModel:
    return FakeModel(
        MODELS[name].script, dialect="both", faults=MODELS[name].faults, seed=seed, record=False, think_ms=50.0
    )
