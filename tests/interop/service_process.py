"""`aivc serve` as a process of its own, as operators run it, and its log."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from aivc.config.catalogue import CATALOGUE
from aivc.config.settings import Address
from aivc.demo.simulator import MODEL
from interop.program import Program, open_program

ROOT = Path(__file__).parents[2]
KEY = "sk-interop-0123456789abcdef"

STOP_SECONDS = 10.0  # for a service whose calls are over

LogLine = dict[str, Any]


@attrs.define(eq=False)
class ServiceProcess:
    """The service, ready for calls."""

    program: Program
    listening: Mapping[str, Address]  # by transport: udp, tcp, tls; ports as the system chose them
    killed: bool = False  # so that it cannot stop in order

    @property
    def address(self) -> Address:
        """The first of `sip.listen`."""
        return next(iter(self.listening.values()))

    @property
    def port(self) -> int:
        return self.address[1]

    def uri(self, user: str = "1000", transport: str | None = None) -> str:
        """To be called at; without a transport: at the first of `sip.listen`, by UDP."""
        host, port = self.address if transport is None else self.listening[transport]
        parameter = "" if transport in (None, "udp") else f";transport={transport}"
        return f"sip:{user}@{f'[{host}]' if ':' in host else host}:{port}{parameter}"

    def reload(self) -> None:
        """Have the certificates read again."""
        self.program.process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """End it as a crash would."""
        self.killed = True
        self.program.process.kill()

    def log(self, event: str | None = None, **fields: object) -> list[LogLine]:
        """The whole lines so far, as JSON; those of one event, and with these fields."""
        return log_lines(self.program.output, event, **fields)

    async def wait_log(self, event: str, **fields: object) -> LogLine:
        """The first such line, waiting for it if need be. Raises ProgramEnded."""
        return await wait_log(self.program, event, **fields)


def log_lines(output: str, event: str | None = None, **fields: object) -> list[LogLine]:
    """The whole lines of an output that is all JSON: those of one event, and with these fields."""
    whole = output.rpartition("\n")[0]
    parsed: list[LogLine] = [json.loads(line) for line in whole.splitlines()]
    wanted = fields | ({"event": event} if event else {})
    return [line for line in parsed if wanted.items() <= line.items()]


async def wait_log(program: Program, event: str, **fields: object) -> LogLine:
    """The first such line of a program's log, waiting for it if need be. Raises ProgramEnded."""
    return await program.wait_until(lambda output: next(iter(log_lines(output, event, **fields)), None))


def environment(**variables: str) -> dict[str, str]:
    """Ours, with none of aivc's variables but these."""
    settings = {setting.variable for setting in CATALOGUE} | {"CONFIG_FILE"}
    others = {name: value for name, value in os.environ.items() if name not in settings}
    return {name: value for name, value in others.items() if not name.startswith("AIVC_")} | variables


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "aivc", *arguments]


def read_listening(entry: str) -> tuple[str, Address]:
    """The transport and the address of `tcp:127.0.0.1:5060`."""
    transport, _, address = entry.partition(":")
    host, _, port = address.rpartition(":")
    return transport, (host.strip("[]"), int(port))


@asynccontextmanager
async def serving(
    model_url: str, *, before: Sequence[str] = (), instead: Sequence[str] | None = None, **variables: str
) -> AsyncIterator[ServiceProcess]:
    """`aivc serve`, talking to the model at this URL, for the length of the block; by default on a free port of
    127.0.0.1.

    Its calls must be over at the end of the block: it is told to stop, and must do so in order.

    Args:
        before: the command that runs it, such as one that limits it.
        instead: what is run in place of `aivc serve`.
        variables: environment variables, over those that are set here.
    """
    settings = {
        "OPENAI_API_KEY": KEY,
        "OPENAI_API_MODEL": MODEL,
        "OPENAI_URL": model_url,
        "AIVC_SIP_LISTEN": "udp:127.0.0.1:0",
        "RTP_BIND_IP": "127.0.0.1",
        "AIVC_LOG_FORMAT": "json",
    }
    environ = environment(**settings | variables)
    async with open_program([*before, *(instead or command("serve"))], folder=ROOT, environ=environ) as program:
        ready = await wait_log(program, "service.ready")
        service = ServiceProcess(program, dict(map(read_listening, ready["listening"])))
        yield service
        if program.process.poll() is None:
            program.process.terminate()
        with trio.fail_after(STOP_SECONDS):
            assert await program.wait_exit() == (-signal.SIGKILL if service.killed else 0)
