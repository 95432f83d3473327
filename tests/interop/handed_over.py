"""The service behind OpenSIPS, which hands its calls over as UA sessions."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import attrs
import trio

from aivc.demo.simulator import open_simulator
from aivc.testing.model import FakeModel
from interop.dispatchers import HOST, free_port
from interop.opensips import DEPLOYED, OpenSips, open_deployed, open_opensips
from interop.service_process import ServiceProcess, serving

SUBSCRIPTION_SECONDS: Final = 6  # renewed every 2 s
CHECK_SECONDS: Final = 1.0
FREED_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.05

T = TypeVar("T")


@attrs.define(eq=False)
class Replaceable(Generic[T]):
    """Something that runs in a task of its own, so that it may end before what was begun later."""

    nursery: trio.Nursery
    _end: trio.Event = attrs.field(factory=trio.Event)
    _over: trio.Event = attrs.field(factory=trio.Event)

    async def begin(self, opened: AbstractAsyncContextManager[T]) -> T:
        """What the context manager yields."""
        self._end, self._over = trio.Event(), trio.Event()
        value: T = await self.nursery.start(self._hold, opened, self._end, self._over)
        return value

    async def end(self) -> None:
        self._end.set()
        await self._over.wait()

    async def _hold(
        self,
        opened: AbstractAsyncContextManager[T],
        end: trio.Event,
        over: trio.Event,
        *,
        task_status: trio.TaskStatus[T],
    ) -> None:
        try:
            async with opened as value:
                task_status.started(value)
                await end.wait()
        finally:
            over.set()


@attrs.define(eq=False)
class Handover:
    """Made by `open_handover()`."""

    model: FakeModel
    model_url: str
    variables: dict[str, str]  # the service's environment
    opensips: OpenSips
    service: ServiceProcess
    old_opensips: Replaceable[OpenSips]
    old_service: Replaceable[ServiceProcess]

    async def wait_sessions(self, count: int) -> None:
        """Until OpenSIPS has so many sessions."""
        with trio.fail_after(FREED_SECONDS):
            while len(await self.sessions()) != count:  # noqa: ASYNC110 - no event tells of it
                await trio.sleep(POLL_SECONDS)

    async def sessions(self) -> list[dict[str, Any]]:
        """As OpenSIPS lists them."""
        listed: list[dict[str, Any]] = await ask(self.opensips.mi_port, "ua_session_list")
        return listed

    async def restart_opensips(self, folder: Path) -> None:
        ports = self.opensips.port, self.opensips.mi_port
        await self.old_opensips.end()
        self.opensips = await self.old_opensips.begin(open_opensips(folder, ports=ports))

    async def restart_service(self) -> None:
        """As after a crash."""
        self.service.kill()
        await self.old_service.end()
        self.service = await self.old_service.begin(serving(self.model_url, **self.variables))
        await self.service.wait_log("opensips.subscribed")


async def ask(mi_port: int, method: str) -> Any:
    """The result of a command without parameters."""
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
        await socket.connect((HOST, mi_port))
        await socket.send(json.dumps({"jsonrpc": "2.0", "id": "1", "method": method}).encode())
        with trio.fail_after(FREED_SECONDS):
            return json.loads(await socket.recv(65535))["result"]


@asynccontextmanager
async def open_handover(
    model: FakeModel,
    folder: Path,
    variables: Mapping[str, str] | None = None,
    *,
    deployed: bool = False,
    flags: str = "abh",
    uac_auth: bool = False,
) -> AsyncIterator[Handover]:
    """A model, an OpenSIPS, and the service between them, subscribed.

    Args:
      variables: the service's environment, over those that are set here.
      deployed: with the script of deploy/opensips/ua-sessions.
      flags: of ua_session_server_init, unless it is that script; and whether `uac_auth` is loaded.
    """
    async with open_simulator(model) as url, trio.open_nursery() as nursery:
        opensips, service = Replaceable[OpenSips](nursery), Replaceable[ServiceProcess](nursery)
        opened = open_deployed_here(folder) if deployed else open_opensips(folder, flags=flags, uac_auth=uac_auth)
        proxy = await opensips.begin(opened)
        environ = variables_for(proxy.mi_port) | dict(variables or {})
        process = await service.begin(serving(url, **environ))
        await process.wait_log("opensips.subscribed")
        yield Handover(model, url, environ, proxy, process, opensips, service)
        await service.end()
        await opensips.end()


def variables_for(mi_port: int) -> dict[str, str]:
    """Of a service for the OpenSIPS with this port for commands."""
    return {
        "AIVC_OPENSIPS_ENABLED": "true",
        "AIVC_SIP_ENABLED": "false",
        "MI_PORT": str(mi_port),
        "AIVC_OPENSIPS_SUBSCRIPTION_SECONDS": str(SUBSCRIPTION_SECONDS),
        "AIVC_OPENSIPS_CHECK_SECONDS": str(CHECK_SECONDS),
    }


@asynccontextmanager
async def open_deployed_here(folder: Path) -> AsyncIterator[OpenSips]:
    port, mi_port = free_port(), free_port()
    ours = {"192.0.2.1:5060": f"{HOST}:{port}", "127.0.0.1:8080": f"{HOST}:{mi_port}"}
    async with open_deployed("ua-sessions/opensips.cfg", folder, ours, port=port, mi_port=mi_port) as opensips:
        yield opensips


@asynccontextmanager
async def open_several(folder: Path) -> AsyncIterator[tuple[OpenSips, tuple[int, int]]]:
    """The script for several connectors, and the ports where it expects the SIP of two of them."""
    port, mi_port, sip_ports = free_port(), free_port(), (free_port(), free_port())
    shutil.copytree(DEPLOYED / "ua-sessions-several" / "dbtext", folder / "dbtext")
    table = folder / "dbtext" / "dispatcher"
    text = table.read_text()
    for number, sip_port in enumerate(sip_ports, 1):
        assert f"192.0.2.1{number}\\:5060" in text
        text = text.replace(f"192.0.2.1{number}\\:5060", f"{HOST}\\:{sip_port}")
    table.write_text(text)
    ours = {
        "192.0.2.1:5060": f"{HOST}:{port}",
        "192.0.2.1:8080": f"{HOST}:{mi_port}",
        "/etc/opensips/dbtext": str(folder / "dbtext"),
    }
    script = "ua-sessions-several/opensips.cfg"
    async with open_deployed(script, folder, ours, port=port, mi_port=mi_port) as opensips:
        yield opensips, sip_ports
