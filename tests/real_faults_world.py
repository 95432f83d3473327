"""`aivc serve` as a process, with a model in a process of its own, so that either can be killed, stopped or starved."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import trio
from interop.program import Program, open_program
from interop.service_process import ROOT, ServiceProcess, command, environment, serving

from aivc.config.settings import Address
from aivc.testing.caller import Phone, PhoneCall, open_phone

LONGEST_SECONDS: Final = 30.0
SHORT: Final = {  # what may take long for real callers, short
    "OPENAI_WELCOME_MSG": "Hello.",
    "AIVC_OPENAI_RECONNECT": "false",
    "AIVC_OPENAI_CONNECT_SECONDS": "1",
    "AIVC_OPENAI_CLOSE_SECONDS": "0.5",
    "AIVC_OPENAI_PING_SECONDS": "1",
    "AIVC_OPENAI_PONG_SECONDS": "1",
    "AIVC_RTP_QUARANTINE_SECONDS": "1",
    "AIVC_SIP_HANG_UP_SECONDS": "1",
}


@attrs.define(eq=False)
class ModelProcess:
    """`aivc simulator`."""

    program: Program
    address: Address

    @property
    def url(self) -> str:
        return "ws://{}:{}/v1/realtime".format(*self.address)

    def tell(self, number: int) -> None:
        self.program.process.send_signal(number)


@asynccontextmanager
async def open_model(port: int = 0) -> AsyncIterator[ModelProcess]:
    """A model on a port of 127.0.0.1."""
    arguments = command("simulator", "--listen", f"127.0.0.1:{port}")
    async with open_program(arguments, folder=ROOT, environ=environment()) as program:
        ready = await program.wait_output(r"ws://([\d.]+):(\d+)/v1/realtime")
        try:
            yield ModelProcess(program, (ready[1], int(ready[2])))
        finally:
            if program.process.poll() is None:
                program.process.send_signal(signal.SIGCONT)  # who is stopped does not hear SIGTERM


@attrs.define(eq=False)
class Plant:
    """The service, its model, and a phone to call with."""

    service: ServiceProcess
    model: ModelProcess
    phone: Phone
    folder: Path  # of records

    @property
    def pid(self) -> int:
        return self.service.program.process.pid

    def records(self) -> list[dict[str, Any]]:
        """In the order in which the calls ended; what a full disk left of others is passed over."""
        lines = [line for file in self.folder.glob("*.jsonl") for line in file.read_text().splitlines()]
        return [json.loads(line) for line in lines if line.endswith("}")]

    def endings(self) -> dict[str, str]:
        """By Call-ID; each call has exactly one record."""
        found = self.records()
        assert max(Counter(record["call_id"] for record in found).values(), default=1) == 1
        return {record["call_id"]: record["ending"] for record in found}

    @asynccontextmanager
    async def calls(self, count: int) -> AsyncIterator[list[PhoneCall]]:
        """So many that talk."""
        async with AsyncExitStack() as stack:
            calls = [await stack.enter_async_context(self.phone.dial(self.service.uri())) for _ in range(count)]
            for call in calls:
                await call.handset.wait_speech(0.1)
            yield calls

    async def check_next_call(self) -> None:
        """The service goes on: a call is answered, greeted, and ends as calls do."""
        async with self.calls(1) as (call,):
            pass
        await self.ended(call, "caller_hung_up")
        await until(lambda: self.endings().get(call.call_id) == "caller_hung_up", "its record is on the disk")

    async def ended(self, call: PhoneCall, ending: str) -> dict[str, Any]:
        """The record of a call, which must have this ending."""
        line = await self.service.wait_log("call.ended", call_id=call.call_id)
        assert line["ending"] == ending
        return line

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def resident_mib(self) -> float:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def until(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    """What no event tells of: look again and again."""
    with trio.move_on_after(seconds):
        while not condition():  # noqa: ASYNC110 - no event tells of it
            await trio.sleep(0.02)
        return
    raise AssertionError(f"{what}: not within {seconds:g} s")


@asynccontextmanager
async def plant(
    folder: Path,
    *,
    before: Sequence[str] = (),
    instead: Sequence[str] | None = None,
    seconds: float = LONGEST_SECONDS,
    **variables: str,
) -> AsyncIterator[Plant]:
    """All over within so many seconds; in the end the service has no more descriptors than before its calls, and stops
    in order.

    Args:
      before, instead: as of `serving`.
    """
    given = SHORT | {"AIVC_RECORDS_DIRECTORY": str(folder)} | variables
    with trio.fail_after(seconds):
        async with (
            open_model() as model,
            serving(model.url, before=before, instead=instead, **given) as service,
            open_phone() as phone,
        ):
            made = Plant(service, model, phone, folder)
            await made.check_next_call()  # what is imported and opened once is there now
            descriptors, memory = made.descriptors(), made.resident_mib()
            yield made
            if service.program.process.poll() is None:
                await until(lambda: made.descriptors() <= descriptors, "descriptors are back")
                assert made.resident_mib() < memory + 20


def limited(limit: str) -> list[str]:
    """What runs a command under a `ulimit`, for example `-n 64`."""
    return ["sh", "-c", f'ulimit {limit} && exec "$@"', "sh"]
