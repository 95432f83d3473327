"""Calls set up and torn down per second, beside SIPp's own server as the yardstick.

SIPp (Debian: sip-tester) calls at growing rates: INVITE, 180, 200, ACK, half a second, BYE. The server under test has
one core for itself; SIPp and, for aivc, the stand-in for the Realtime API have the other. A rate is carried when no
call failed and less than one message in a hundred had to be sent again.
"""

from __future__ import annotations

import csv
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import attrs
import click

from bench.measuring import Cores
from bench.processes import Program, started

HOST: Final = "127.0.0.1"
SECONDS: Final = 5  # of calls at one rate
HOLD_MS: Final = 500  # between ACK and BYE
RESENT_SHARE: Final = 0.01
RATES: Final = (10, 20, 40, 60, 80, 100, 125, 150, 200, 300, 400, 600, 800, 1200, 1600, 2400)
READY_SECONDS: Final = 15.0
PAUSE_SECONDS: Final = 2.0  # between rates, for the last goodbyes
PATH: Final = {"PYTHONPATH": str(Path(__file__).parents[1])}  # a checkout need not be installed
QUIET: Final = {
    "OPENAI_API_KEY": "sk-bench-0123456789abcdef",
    "OPENAI_API_MODEL": "gpt-realtime-2.1",
    "AIVC_SERVICE_MAX_CALLS": "5000",
    "AIVC_SERVICE_CALLS_PER_SECOND": "0",
    "AIVC_SERVICE_MAX_PACING_MS": "0",
    "AIVC_SIP_REQUESTS_PER_SECOND": "0",
    "AIVC_RTP_QUARANTINE_SECONDS": "0.2",
    "AIVC_LOG_LEVEL": "error",
}
CALL: Final = (
    """<?xml version="1.0" encoding="UTF-8"?>
<scenario name="setup">
<send retrans="500"><![CDATA[
INVITE sip:1000@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
From: <sip:sipp@[local_ip]:[local_port]>;tag=[pid]t[call_number]
To: <sip:1000@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:sipp@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]

v=0
o=- 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [local_ip]
t=0 0
m=audio 9999 RTP/AVP 0
a=rtpmap:0 PCMU/8000

]]></send>
<recv response="100" optional="true"/>
<recv response="180" optional="true"/>
<recv response="200"/>
<send><![CDATA[
ACK [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
From: <sip:sipp@[local_ip]:[local_port]>;tag=[pid]t[call_number]
[last_To:]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
<pause milliseconds="%d"/>
<send retrans="500"><![CDATA[
BYE sip:1000@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
From: <sip:sipp@[local_ip]:[local_port]>;tag=[pid]t[call_number]
[last_To:]
Call-ID: [call_id]
CSeq: 2 BYE
Max-Forwards: 70
Content-Length: 0

]]></send>
<recv response="200"/>
</scenario>
""".replace('<recv response="200"/>\n<send>', '<recv response="200" rrs="true"/>\n<send>', 1)
    % HOLD_MS
)


@attrs.frozen
class Load:
    """What SIPp saw at one rate."""

    rate: int  # calls per second, asked for
    calls: int
    failed: int
    resent: int  # messages
    cpu_ms: float  # of the server, per call

    @property
    def carried(self) -> bool:
        return not self.failed and self.resent <= RESENT_SHARE * 4 * self.calls


@attrs.frozen
class Yardstick:
    """What one server carried."""

    name: str
    loads: Sequence[Load]

    @property
    def best(self) -> Load | None:
        """The highest rate before the first that was too much."""
        best = None
        for load in self.loads:
            if not load.carried:
                break
            best = load
        return best


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(type=kind) as free:
        free.bind((HOST, 0))
        port: int = free.getsockname()[1]
    return port


def measure(port: int, server: Program, rate: int, core: int, folder: Path) -> Load:
    """Call the server at this rate."""
    statistics = folder / "statistics.csv"
    statistics.unlink(missing_ok=True)
    calls, before = rate * SECONDS, server.usage().cpu_seconds
    command = ["taskset", "-c", str(core), "sipp", f"{HOST}:{port}", "-sf", "call.xml", "-i", HOST, "-nostdin"]
    command += ["-r", str(rate), "-m", str(calls), "-l", str(10 * rate), "-timeout", "60s", "-recv_timeout", "20000"]
    command += ["-trace_stat", "-stf", str(statistics), "-fd", "1"]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    cpu_ms = 1000 * (server.usage().cpu_seconds - before) / calls
    with statistics.open() as lines:
        last = list(csv.DictReader(lines, delimiter=";"))[-1]
    return Load(rate, calls, calls - int(last["SuccessfulCall(C)"]), int(last["Retransmissions(C)"]), cpu_ms)


def ramp(port: int, server: Program, core: int, folder: Path) -> Yardstick:
    """Rate after rate, until one is too much."""
    (folder / "call.xml").write_text(CALL)
    loads: list[Load] = []
    for rate in RATES:
        loads.append(load := measure(port, server, rate, core, folder))
        verdict = "carried" if load.carried else f"too much: {load.failed} failed, {load.resent} sent again"
        click.echo(f"{server.name:>8} {rate:>5} calls/s: {load.cpu_ms:6.2f} ms CPU per call, {verdict}", err=True)
        if not load.carried:
            break
        time.sleep(PAUSE_SECONDS)
    return Yardstick(server.name, loads)


def wait_udp(port: int) -> None:
    """Until somebody listens there."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        with socket.socket(type=socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                return
        time.sleep(0.1)
    raise click.ClickException(f"nothing listens on {port}")


def wait_tcp(port: int) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.1)
    raise click.ClickException(f"nothing listens on {port}")


def program(
    name: str, command: Sequence[str], core: int, folder: Path, **environ: str
) -> AbstractContextManager[Program]:
    return started(name, command, environ, cores=[core], log=folder / f"{name}.log", folder=folder)


def of_sipp(cores: Cores, folder: Path) -> Yardstick:
    port = free_port(socket.SOCK_DGRAM)
    command = ["sipp", "-sn", "uas", "-i", HOST, "-p", str(port), "-nostdin"]
    with program("sipp", command, cores.target, folder) as server:
        wait_udp(port)
        return ramp(port, server, cores.others, folder)


def of_aivc(cores: Cores, folder: Path) -> Yardstick:
    port, model = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
    own = {
        "AIVC_SIP_LISTEN": f"udp:{HOST}:{port}",
        "RTP_BIND_IP": HOST,
        "OPENAI_URL": f"ws://{HOST}:{model}/v1/realtime",
    }
    simulator = [sys.executable, "-m", "aivc", "simulator", "--listen", f"{HOST}:{model}"]
    with program("simulator", simulator, cores.others, folder, **PATH):
        wait_tcp(model)
        command = [sys.executable, "-m", "aivc", "serve"]
        with program("aivc", command, cores.target, folder, **QUIET, **own, **PATH) as server:
            wait_udp(port)
            return ramp(port, server, cores.others, folder)


def absent() -> str:
    """What is not installed; empty if all is."""
    tools = {"sipp": "Debian: sip-tester", "taskset": "Debian: util-linux"}
    return " and ".join(f"{tool} ({package})" for tool, package in tools.items() if shutil.which(tool) is None)
