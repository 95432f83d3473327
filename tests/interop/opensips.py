"""OpenSIPS with UA sessions (its modules b2b_entities, mi_datagram and event_datagram), on this machine."""

from __future__ import annotations

import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import attrs

from interop.dispatchers import HOST, OPENSIPS, free_port
from interop.dispatchers import OPENSIPS_MODULES as MODULES
from interop.program import Program, open_program
from interop.service_process import ROOT

PACKAGED_MODULES: Final = "/usr/lib/x86_64-linux-gnu/opensips/modules/"
VERSION: Final = re.compile(r"opensips ([0-9]+)\.([0-9]+)")
OLDEST: Final = (3, 4)  # the first with UA sessions
READY: Final = "a new child 0/"  # mi_datagram takes commands
DEPLOYED: Final = ROOT / "deploy" / "opensips"

# The shortest script that hands calls over. In-dialog requests of UA sessions never reach route{}.
SCRIPT: Final = """\
log_level=3
stderror_enabled=yes
syslog_enabled=no
udp_workers={workers}
socket=udp:{host}:{port}
mpath="{modules}"
loadmodule "proto_udp.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "sipmsgops.so"
loadmodule "signaling.so"
loadmodule "mi_datagram.so"
loadmodule "event_datagram.so"
{more}loadmodule "b2b_entities.so"
modparam("tm", "fr_timeout", {fr_seconds})
modparam("tm", "fr_inv_timeout", {fr_inv_seconds})
modparam("mi_datagram", "socket_name", "{mi}")
route {{
    t_check_trans();
    if (is_method("INVITE") && !has_totag()) {{
        if (!ua_session_server_init($var(key), "{flags}"{extra_params})) send_reply(500, "No session");
        exit;
    }}
    send_reply(404, "Not here");
}}
"""


def missing() -> str | None:
    """Why it cannot run here; None: it can."""
    if OPENSIPS is None:
        return "OpenSIPS is not on PATH, nor named by AIVC_OPENSIPS"
    try:
        said = subprocess.run([OPENSIPS, "-V"], check=True, capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return f"{OPENSIPS}: {error}"
    found = VERSION.search(said)
    if found is None or (int(found[1]), int(found[2])) < OLDEST:
        return f"{OPENSIPS} is {found[0] if found else said[:80]!r}: UA sessions came with OpenSIPS 3.4"
    return None


@attrs.define(eq=False)
class OpenSips:
    """A running one. Made by `open_opensips()` or `open_deployed()`."""

    port: int  # of its SIP, on 127.0.0.1
    mi_port: int  # 0: its commands come by a UNIX socket
    config: Path
    program: Program

    def uri(self, user: str = "1000") -> str:
        return f"sip:{user}@{HOST}:{self.port}"


@asynccontextmanager
async def open_opensips(
    folder: Path,
    *,
    flags: str = "abh",
    extra_params: str | None = None,
    fr_seconds: int = 2,
    fr_inv_seconds: int = 4,
    workers: int = 1,
    uac_auth: bool = False,
    ports: tuple[int, int] | None = None,
    mi_path: Path | None = None,
) -> AsyncIterator[OpenSips]:
    """One for the length of the block that hands every INVITE over.

    Args:
      flags: of ua_session_server_init, and `extra_params` of the same.
      fr_seconds, fr_inv_seconds: modparams of tm; how long it waits for answers.
      uac_auth: whether it loads the module of this name.
      ports: of SIP and of its commands, such as those of one that ran before; None: any.
      mi_path: of a UNIX socket for its commands.
    """
    port, mi_port = ports or (free_port(), free_port())
    config = folder / "opensips.cfg"
    config.write_text(
        SCRIPT.format(
            workers=workers,
            host=HOST,
            port=port,
            modules=MODULES,
            fr_seconds=fr_seconds,
            fr_inv_seconds=fr_inv_seconds,
            mi=mi_path or f"udp:{HOST}:{mi_port}",
            more='loadmodule "uac_auth.so"\n' if uac_auth else "",
            flags=flags,
            extra_params="" if extra_params is None else f", '{extra_params}'",
        )
    )
    async with run_opensips(config) as program:
        yield OpenSips(port, 0 if mi_path else mi_port, config, program)


@asynccontextmanager
async def open_deployed(
    script: str, folder: Path, replacements: Mapping[str, str], *, port: int, mi_port: int
) -> AsyncIterator[OpenSips]:
    """One with a script of deploy/opensips/, such as "ua-sessions/opensips.cfg", and our addresses in it."""
    text = (DEPLOYED / script).read_text()
    for theirs, ours in ({PACKAGED_MODULES: MODULES} | dict(replacements)).items():
        assert theirs in text
        text = text.replace(theirs, ours)
    config = folder / "opensips.cfg"
    config.write_text(text)
    async with run_opensips(config) as program:
        yield OpenSips(port, mi_port, config, program)


@asynccontextmanager
async def run_opensips(config: Path) -> AsyncIterator[Program]:
    """Its processes, until the end of the block."""
    command: list[str | Path] = [str(OPENSIPS), "-F", "-m", "64", "-M", "8", "-f", config]
    async with open_program(command, folder=config.parent) as program:
        await program.wait_output(READY)
        yield program
