"""A stage without a service of its own: scenarios start services there, one after the other or side by side.

async with open_stage(greeter()) as stage:
    run = await stage.start(SETTINGS)
    async with stage.dial() as call:
        await run.crash()
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal

import attrs
import trio

from aivc import CallEvent, CallRecord, Service, Settings, open_service
from aivc.media.clock import TaskClock
from aivc.nursery.record import OBSERVER_EVENTS, Ended
from aivc.realtime.tools import load_registry
from aivc.testing import (
    FakeModel,
    FakeOpenSips,
    Phone,
    PhoneCall,
    Script,
    VirtualNetwork,
    connect_to,
    open_fake_opensips,
    open_phone,
)
from scenarios.world import (
    DELAY,
    NOON,
    NUMBER,
    PATIENCE,
    PHONE,
    SERVICE,
    behind_opensips,
    in_dialect,
    only_one,
    received,
)


@attrs.define(eq=False)
class Run:
    """One life of a service."""

    opensips: FakeOpenSips
    service: Service
    _scope: trio.CancelScope
    _stopping: trio.Event
    _stopped: trio.Event
    _observed: trio.MemoryReceiveChannel[CallEvent]

    async def stop(self) -> None:
        """As after SIGTERM."""
        self._stopping.set()
        await self._stopped.wait()

    async def crash(self) -> None:
        """Say nothing more to OpenSIPS. Takes some seconds, in which the service tries to."""
        self.opensips.lose("command")
        self._scope.cancel()
        await self._stopped.wait()
        self.opensips.heal()

    def records(self) -> list[CallRecord]:
        """Of its calls, once it has stopped; once."""
        return [event.what.record for event in received(self._observed) if isinstance(event.what, Ended)]


@attrs.define(eq=False)
class Stage:
    """What a scenario works with."""

    network: VirtualNetwork
    model: FakeModel
    opensips: FakeOpenSips
    phone: Phone
    nursery: trio.Nursery
    dialect: Literal["ga", "beta"]

    def dial(self, number: str = NUMBER, **more: Any) -> AbstractAsyncContextManager[PhoneCall]:
        return self.phone.dial(number, **more)

    def ring(self, number: str = NUMBER, **more: Any) -> AbstractAsyncContextManager[PhoneCall]:
        return self.phone.ring(number, **more)

    async def start(self, settings: Settings) -> Run:
        """A service behind the OpenSIPS, once it is subscribed."""
        run: Run = await self.nursery.start(self._live, settings)
        while not run.service.is_subscribed:  # noqa: ASYNC110 - a fake clock makes polling cheap
            await trio.sleep(0.02)
        return run

    async def _live(self, settings: Settings, task_status: trio.TaskStatus[Run]) -> None:
        observer, observed = trio.open_memory_channel[CallEvent](OBSERVER_EVENTS)
        scope, stopping, stopped = trio.CancelScope(), trio.Event(), trio.Event()
        opened = open_service(
            in_dialect(behind_opensips(settings), self.dialect),
            connect=connect_to(self.model),
            tools=load_registry(settings.openai, settings.tools.http),
            clock=TaskClock(),
            observer=observer,
            wall_clock=lambda: NOON,
        )
        try:
            with scope:
                async with opened as service:
                    task_status.started(Run(self.opensips, service, scope, stopping, stopped, observed))
                    await stopping.wait()
        finally:
            stopped.set()


@asynccontextmanager
async def open_stage(script: Script, *, dialect: Literal["ga", "beta"] = "ga", **opensips: Any) -> AsyncIterator[Stage]:
    """A model, an OpenSIPS and a phone; `opensips` as in `open_fake_opensips`."""
    network = VirtualNetwork(delay=DELAY).enable()
    network.host = SERVICE
    try:
        with trio.fail_after(PATIENCE):
            async with (
                FakeModel(script, dialect=dialect, wall_clock=lambda: NOON) as model,
                open_fake_opensips(SERVICE, **opensips) as between,
                open_phone(PHONE) as phone,
                trio.open_nursery() as nursery,
            ):
                yield Stage(network, model, between, phone, nursery, dialect)
                nursery.cancel_scope.cancel()
                assert between.violations == []
                assert between.sessions == {}
    except BaseExceptionGroup as group:
        raise only_one(group) from None
    assert network.bound == {}
