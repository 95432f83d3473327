"""`aivc serve` with several workers, as processes of their own, with a model and a phone."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio
from interop.service_process import LogLine, ServiceProcess, serving

from aivc.demo.simulator import open_simulator
from aivc.testing.caller import Phone, PhoneCall, open_phone
from aivc.testing.model import FakeModel

LONGEST_SECONDS = 60.0


@attrs.define(eq=False)
class Workplace:
    """The service, and who calls it."""

    service: ServiceProcess
    phone: Phone

    def pids(self) -> dict[int, int]:
        """The last process of each worker, by its number."""
        return {line["number"]: line["pid"] for line in self.service.log("worker.started")}

    def tell(self, number: int, signum: int) -> None:
        os.kill(self.pids()[number], signum)

    async def started(self, number: int, times: int) -> LogLine:
        """When a worker has been started so often."""

        def nth(_: str) -> LogLine | None:
            lines = self.service.log("worker.started", number=number)
            return lines[times - 1] if len(lines) >= times else None

        return await self.service.program.wait_until(nth)

    async def owner(self, call: PhoneCall) -> int:
        """Which worker has a call."""
        line = await self.service.wait_log("call.answered", call_id=call.call_id)
        number = line["worker"]
        assert isinstance(number, int)
        return number

    @asynccontextmanager
    async def two_calls(self) -> AsyncIterator[dict[int, PhoneCall]]:
        """One call of each of two workers, by their numbers."""
        async with self.phone.dial(self.service.uri()) as one, self.phone.dial(self.service.uri()) as other:
            calls = {await self.owner(call): call for call in (one, other)}
            assert set(calls) == {0, 1}
            yield calls


@asynccontextmanager
async def workplace(workers: int = 2, **variables: str) -> AsyncIterator[Workplace]:
    """All over within LONGEST_SECONDS."""
    given = {"AIVC_SERVICE_WORKERS": f"{workers}", **variables}
    with trio.fail_after(LONGEST_SECONDS):
        async with open_simulator(FakeModel()) as url, serving(url, **given) as service, open_phone() as phone:
            yield Workplace(service, phone)
