"""Kamailio, a SIP proxy that stays in the path of a dialog (Record-Route, RFC 3261 section 16.6)."""

from __future__ import annotations

import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from interop.program import open_program
from interop.service_process import ServiceProcess

HOST = "127.0.0.1"
# From the edge of a provider: what comes from outside of a dialog goes to one server, the rest where its route says.
CONFIG = """\
#!KAMAILIO
debug=0
log_stderror=yes
fork=yes
children=1
auto_aliases=no
disable_tcp=yes
listen=udp:{host}:{port}
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "siputils.so"
request_route {{
    if (has_totag()) {{
        if (loose_route() || method != "ACK" || t_check_trans()) t_relay();
    }} else if (method != "CANCEL") {{
        record_route();
        t_relay_to_udp("{target_host}", "{target_port}");
    }} else if (t_check_trans()) {{
        t_relay();
    }}
}}
"""


def missing() -> str | None:
    return None if shutil.which("kamailio") else "kamailio is not installed"


@asynccontextmanager
async def open_kamailio(service: ServiceProcess, folder: Path) -> AsyncIterator[int]:
    """A proxy in front of the service for the length of the block; its port."""
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind((HOST, 0))
        port: int = free.getsockname()[1]
    target_host, target_port = service.address
    config = folder / "kamailio.cfg"
    config.write_text(CONFIG.format(host=HOST, port=port, target_host=target_host, target_port=target_port))
    command: list[str | Path] = ["kamailio", "-DD", "-E", "-f", config, "-Y", folder, "-m", "16", "-M", "4"]
    async with open_program(command, folder=folder) as program:
        await program.wait_output("Listening on")
        yield port
