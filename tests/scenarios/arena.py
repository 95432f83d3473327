"""A telephone, a model and a service that may be stopped or cancelled, and what must be left of a call: nothing.

async with open_arena(way, "sip", "ga") as arena:
    await way.live(arena)
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Literal

import attrs
import pytest
import trio

from aivc import CallEvent, CallRecord, Ending, OpenAISettings, Service, open_service
from aivc.config.settings import Address
from aivc.media.clock import TaskClock
from aivc.media.ports import NoPortFree, PortPool
from aivc.nursery.ending import FAREWELLS
from aivc.nursery.record import OBSERVER_EVENTS, Ended
from aivc.realtime.connection import RealtimeSocket
from aivc.realtime.tools import load_registry
from aivc.sip.transaction_layer import TransactionLayer
from aivc.testing import FakeModel, FakeOpenSips, Phone, PhoneCall, VirtualNetwork, connect_to, open_phone
from scenarios.behind import byes, excuse
from scenarios.front_ends import FrontEndName
from scenarios.leftovers import Survey, added, survey
from scenarios.ways import Way
from scenarios.world import (
    DELAY,
    NOON,
    NUMBER,
    PATIENCE,
    PHONE,
    RTP_PORT,
    SERVICE,
    behind_opensips,
    check_closed,
    check_opensips,
    in_dialect,
    only_one,
    opensips_if,
    received,
)

Dialect = Literal["ga", "beta"]

TRANSACTIONS: Final = 64 * 0.5 + 1.0  # seconds: the longest timer of a transaction (RFC 3261 section 17), and one more


# After these the model's side is told 1000; it has closed first, or nobody waits for it, else.
POLITE: Final = frozenset(
    {
        *(Ending.CALLER_HUNG_UP, Ending.MODEL_HUNG_UP, Ending.MAX_DURATION, Ending.MEDIA_TIMEOUT, Ending.ACK_MISSING),
        *(Ending.SESSION_EXPIRED, Ending.DRAINED),
    }
)
BARELY_OVER: Final = 0.5  # seconds after the end of a call in which its port is still resting


@attrs.define(eq=False)
class Arena:
    """What a way of ending works with.

    Attributes:
      opensips: between the telephone and the service, or None.
      lines: every WebSocket that was opened.
    """

    network: VirtualNetwork
    model: FakeModel
    phone: Phone
    opensips: FakeOpenSips | None
    nursery: trio.Nursery
    service: Service
    task: trio.lowlevel.Task  # of the service
    lines: list[RealtimeSocket]
    scope: trio.CancelScope  # of the service
    stopping: trio.Event
    stopped: trio.Event

    def dial(self, **more: Any) -> AbstractAsyncContextManager[PhoneCall]:
        """As `Phone.dial`."""
        return self.phone.dial(NUMBER, **more)

    def ring(self, **more: Any) -> AbstractAsyncContextManager[PhoneCall]:
        return self.phone.ring(NUMBER, **more)

    @property
    def has_garbage(self) -> bool:
        """Whether a whole front end has ended, or the test OpenSIPS: each is a ring with its last transactions."""
        return self.stopped.is_set() or (self.opensips is not None and self.opensips.was_troubled)

    def media_sockets(self) -> list[Address]:
        """The service's open sockets of RTP and RTCP."""
        return [each for each in self.network.bound if each[0] == SERVICE and each[1] in (RTP_PORT, RTP_PORT + 1)]

    async def stop(self) -> None:
        """As after SIGTERM; returns when the service is gone."""
        self.stopping.set()
        await self.stopped.wait()

    async def cancel(self) -> None:
        """As after the second one, or by who embeds it."""
        self.scope.cancel()
        await self.stopped.wait()

    async def wait_over(self) -> None:
        """Until the service has said all its goodbyes."""
        while self.service.calls:  # noqa: ASYNC110 - a fake clock makes polling cheap
            await trio.sleep(0.05)


async def live_through(way: Way, front_end: FrontEndName, dialect: Dialect) -> None:
    """One run: the call, its end, and a look at what is left."""
    observer, observed = trio.open_memory_channel[CallEvent](OBSERVER_EVENTS)
    try:
        with trio.fail_after(PATIENCE):
            async with open_arena(way, front_end, dialect, observer) as arena:
                await trio.sleep(DELAY)  # all tasks of the service are there
                before = survey(arena.task)
                call = await way.live(arena)
                await arena.wait_over()
                records = records_of(observed)
                if arena.stopped.is_set():
                    del arena.service
                else:
                    await check_service(way, arena, records)
                if arena.has_garbage:
                    gc.collect()
                check_nothing_left(arena, before)
                await arena.stop()
                records += records_of(observed)
                check_seen(way, call)
                check_records(way, arena, records)
            assert arena.network.bound == {}
            assert arena.network.streams == []
    except BaseExceptionGroup as group:
        raise only_one(group) from None


@asynccontextmanager
async def open_arena(
    way: Way, front_end: FrontEndName, dialect: Dialect, observer: trio.MemorySendChannel[CallEvent]
) -> AsyncIterator[Arena]:
    network = way.network(delay=DELAY).enable()
    network.host = SERVICE
    model = FakeModel(
        way.script, dialect=dialect, faults=way.faults, wall_clock=lambda: NOON, **{"think_ms": 10.0, **way.model}
    )
    async with (
        model,
        opensips_if(front_end == "opensips", way.opensips) as opensips,
        open_phone(PHONE) as phone,
        trio.open_nursery() as nursery,
    ):
        lines: list[RealtimeSocket] = []
        scope, stopping, stopped = trio.CancelScope(), trio.Event(), trio.Event()

        async def connect(sockets: trio.Nursery, openai: OpenAISettings) -> RealtimeSocket:
            lines.append(await connect_to(model)(sockets, openai))
            return lines[-1]

        async def live(task_status: trio.TaskStatus[tuple[Service, trio.lowlevel.Task]]) -> None:
            settings = behind_opensips(way.settings) if opensips is not None else way.settings
            registry = load_registry(settings.openai, settings.tools.http)
            for tool in way.tools:
                registry.add(tool)
            opened = open_service(
                in_dialect(settings, dialect),
                connect=connect,
                tools=registry,
                clock=TaskClock(),
                observer=observer,
                wall_clock=lambda: NOON,
            )
            try:
                with scope:
                    async with opened as service:
                        task_status.started((service, trio.lowlevel.current_task()))
                        await stopping.wait()
            finally:
                stopped.set()

        service, task = await nursery.start(live)
        if opensips is not None:
            await opensips.wait_subscribed()
        arena = Arena(network, model, phone, opensips, nursery, service, task, lines, scope, stopping, stopped)
        del service  # it is the arena's to forget
        yield arena


async def check_service(way: Way, arena: Arena, records: list[CallRecord]) -> None:
    """The port rests and comes back; transactions and dialogs are gone at their timers."""
    pool = pool_of(arena.service)
    assert pool.in_use == 0
    if records and records[0].sessions and trio.current_time() - records[0].ended_at < BARELY_OVER:
        with pytest.raises(NoPortFree, match="1 in quarantine"):
            await try_port(pool)
    await trio.sleep(TRANSACTIONS)
    await try_port(pool)
    check_statistics(way, arena)


def check_nothing_left(arena: Arena, before: Survey) -> None:
    """No task, no socket, no object, no descriptor; and every WebSocket is closed."""
    assert arena.media_sockets() == []
    check_closed(arena.lines)
    arena.lines.clear()
    now = survey(arena.task)
    assert added(now.tasks, before.tasks) == {}
    assert added(now.objects, before.objects) == {}
    assert now.descriptors <= before.descriptors


def check_statistics(way: Way, arena: Arena) -> None:
    agent, opensips = arena.service.agent.statistics(), arena.service.front_ends.opensips
    layers = [found for found in gc.get_objects() if isinstance(found, TransactionLayer)]
    assert [(layer.merges, layer.stored_octets) for layer in layers if layer.merges or layer.stored_octets] == []
    assert (agent.legs, agent.server_transactions, agent.client_transactions, agent.failures) == (0, 0, 0, 0)
    if opensips is not None and arena.opensips is not None:
        assert (opensips.statistics().legs, opensips.statistics().failures) == (0, 0)
        if arena.opensips.was_troubled:
            excuse(arena.opensips, *way.excused)
        check_opensips(arena.opensips)


async def try_port(pool: PortPool) -> None:
    async with pool.open_sockets():
        pass


def pool_of(service: Service) -> PortPool:
    """The service's only one."""
    (pool,) = (found for found in gc.get_objects() if isinstance(found, PortPool))
    return pool


def check_seen(way: Way, call: PhoneCall) -> None:
    """What the telephone has seen at the end."""
    found = byes(call)
    said, status = (FAREWELLS[way.ending].text, FAREWELLS[way.ending].status) if way.ending is not None else ("", 503)
    said, status = said if way.says is None else way.says, way.status or status
    finals = [response for response in call.responses if response.status >= 300]
    assert way.sees == "both hang up" or len(found) == (way.sees == "is hung up on")
    match way.sees:
        case "hangs up" | "both hang up" | "is left alone":
            assert finals == []
        case "is hung up on":
            assert not said or said in found[0].header("Reason")
        case "is refused":
            assert [response.status for response in finals] == [status]
            assert not said or said in finals[0].header("Reason")
        case "cancels":
            assert [response.status for response in finals] == [487]


def check_records(way: Way, arena: Arena, records: list[CallRecord]) -> None:
    """One for each call, the one of this way first."""
    wanted = [] if way.ending is None else [way.ending]
    if way.or_else is not None and records and records[0].ending is way.or_else:
        wanted = [way.or_else]
    assert [record.ending for record in records] == [*wanted, *way.others], records
    assert len({record.call_id for record in records}) == len(records)
    if {record.ending for record in records} <= POLITE:
        assert [session.closed for session in arena.model.sessions if session.closed != 1000] == []
    if way.ending is not None:
        assert way.detail in records[0].detail, records[0].detail
        assert bool(way.detail) == bool(records[0].detail), records[0].detail
    assert way.blunders or [error for session in arena.model.sessions for error in session.errors] == []


def records_of(observed: trio.MemoryReceiveChannel[CallEvent]) -> list[CallRecord]:
    return [event.what.record for event in received(observed) if isinstance(event.what, Ended)]
