"""Kamailio: a proxy that stays in the path of a dialog (Record-Route, RFC 3261 section 16.6), and a registrar."""

from __future__ import annotations

import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from interop.program import Program, open_program
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
# A PBX: whoever knows the password of an extension is reached at it. No binding is kept on disk.
REGISTRAR = """\
#!KAMAILIO
debug=0
log_stderror=yes
fork=yes
children=1
tcp_children=1
auto_aliases=no
listen=udp:{host}:{port}
listen=tcp:{host}:{port}
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "siputils.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
modparam("auth", "qop", "auth")
modparam("auth", "nonce_count", 1)
modparam("auth", "algorithm", "{algorithm}")
modparam("usrloc", "timer_interval", 1)
request_route {{
    if (has_totag()) {{
        if (loose_route() || method != "ACK" || t_check_trans()) t_relay();
    }} else if (method == "REGISTER") {{
        if (!pv_www_authenticate("pbx.example.com", "{password}", "0")) {{
            www_challenge("pbx.example.com", "1");
            exit;
        }}
        save("location");
    }} else if (method == "CANCEL") {{
        if (t_check_trans()) t_relay();
    }} else if (lookup("location")) {{
        record_route();
        t_relay();
    }} else {{
        sl_send_reply("404", "Not Found");
    }}
}}
"""


def missing() -> str | None:
    return None if shutil.which("kamailio") else "kamailio is not installed"


def free_port() -> int:
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind((HOST, 0))
        port: int = free.getsockname()[1]
    return port


@asynccontextmanager
async def open_kamailio(service: ServiceProcess, folder: Path) -> AsyncIterator[int]:
    """A proxy in front of the service for the length of the block; its port."""
    port, (target_host, target_port) = free_port(), service.address
    config = CONFIG.format(host=HOST, port=port, target_host=target_host, target_port=target_port)
    async with run(config, folder):
        yield port


@asynccontextmanager
async def open_registrar(folder: Path, port: int, password: str, algorithm: str = "MD5") -> AsyncIterator[None]:
    """A PBX on UDP and TCP for the length of the block; it has forgotten everybody when it is opened again."""
    async with run(REGISTRAR.format(host=HOST, port=port, password=password, algorithm=algorithm), folder):
        yield


@asynccontextmanager
async def run(config: str, folder: Path) -> AsyncIterator[Program]:
    """Kamailio with this configuration, ready."""
    file = folder / "kamailio.cfg"
    file.write_text(config)
    command: list[str | Path] = ["kamailio", "-DD", "-E", "-f", file, "-Y", folder, "-m", "16", "-M", "4"]
    async with open_program(command, folder=folder) as program:
        await program.wait_output("Listening on")
        yield program
