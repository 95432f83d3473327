"""The dispatchers of deploy/, in front of instances on this machine."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from interop import kamailio
from interop.program import open_program
from interop.service_process import ROOT

HOST: Final = "127.0.0.1"
OPENSIPS: Final = os.environ.get("AIVC_OPENSIPS") or shutil.which("opensips")
OPENSIPS_MODULES: Final = os.environ.get("AIVC_OPENSIPS_MODULES", "/usr/lib/x86_64-linux-gnu/opensips/modules/")

Dispatcher = Callable[..., AbstractAsyncContextManager[int]]  # folder, ports of the instances -> its own port


def installed() -> list[Any]:
    """Both, each as a parameter that says why it is skipped."""
    no_opensips = None if OPENSIPS else "OpenSIPS is not on PATH, nor named by AIVC_OPENSIPS"
    return [
        pytest.param(each, id=name, marks=pytest.mark.skipif(missing is not None, reason=str(missing)))
        for name, each, missing in (
            ("kamailio", open_kamailio, kamailio.missing()),
            ("opensips", open_opensips, no_opensips),
        )
    ]


def free_port() -> int:
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind((HOST, 0))
        port: int = free.getsockname()[1]
    return port


@asynccontextmanager
async def open_kamailio(folder: Path, *instances: int) -> AsyncIterator[int]:
    """deploy/kamailio in front of these ports; its own."""
    port, names = free_port(), folder / "dispatcher.list"
    lines = (f"1 sip:{HOST}:{instance} 0 0 duid=aivc-{number}\n" for number, instance in enumerate(instances))
    names.write_text("".join(lines))
    defines = (f"LISTEN=udp:{HOST}:{port}", f'INSTANCES="{names}"', f'CONTROL="unixs:{folder}/ctl"')
    options = [part for define in defines for part in ("-A", define)]
    config = ROOT / "deploy" / "kamailio" / "kamailio.cfg"
    command: list[str | Path] = ["kamailio", "-DD", "-E", "-f", config, "-Y", folder, "-m", "32", "-M", "8", *options]
    async with open_program(command, folder=folder) as program:
        await program.wait_output("Listening on")
        yield port


@asynccontextmanager
async def open_opensips(folder: Path, *instances: int) -> AsyncIterator[int]:
    """deploy/opensips/sip-dispatcher in front of these ports; its own."""
    port, tables = free_port(), folder / "dbtext"
    shutil.copytree(ROOT / "deploy" / "opensips" / "sip-dispatcher" / "dbtext", tables)
    balanced = tables / "load_balancer"
    lines = [f"{number}:1:sip\\:{HOST}\\:{instance}:calls=100:2::" for number, instance in enumerate(instances, 1)]
    balanced.write_text("\n".join([balanced.read_text().partition("\n")[0], *lines]) + "\n")
    config = (ROOT / "deploy" / "opensips" / "sip-dispatcher" / "opensips.cfg").read_text()
    for ours, theirs in (
        ("192.0.2.1:5060", f"{HOST}:{port}"),
        ("/etc/opensips/dbtext", str(tables)),
        ("/usr/lib/x86_64-linux-gnu/opensips/modules/", OPENSIPS_MODULES),
    ):
        assert ours in config
        config = config.replace(ours, theirs)
    (folder / "opensips.cfg").write_text(config)
    command: list[str | Path] = [str(OPENSIPS), "-F", "-m", "64", "-M", "8", "-f", folder / "opensips.cfg"]
    async with open_program(command, folder=folder) as program:
        await program.wait_output("Listening on")
        yield port
