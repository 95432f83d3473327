"""The programs that can be measured: aivc, and the yardsticks beside it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import attrs

from bench.compiling import compiled
from bench.yardsticks import FLOOR, FLOOR_LIBRARIES

ROOT: Final = Path(__file__).parents[1]  # programs run here, so that `-m` finds them in a checkout
UNHINDERED: Final[Mapping[str, str]] = {  # nothing is refused, nothing is kept
    "AIVC_SERVICE_MAX_CALLS": "5000",
    "AIVC_SERVICE_CALLS_PER_SECOND": "0",
    "AIVC_SERVICE_MAX_PACING_MS": "0",
    "AIVC_SERVICE_DRAIN_SECONDS": "2",
    "AIVC_SIP_REQUESTS_PER_SECOND": "0",
    "AIVC_LOG_LEVEL": "warning",
}
ADDRESSES: Final[Mapping[str, str]] = {
    "OPENAI_API_KEY": "sk-bench-0123456789abcdef",
    "OPENAI_API_MODEL": "gpt-realtime-2.1",
    "OPENAI_URL": "{ws_url}",
    "SSL_CERT_FILE": "{cafile}",
    "RTP_BIND_IP": "127.0.0.1",
    "RTP_IP": "127.0.0.1",
    "RTP_MIN_PORT": "{rtp_min}",
    "RTP_MAX_PORT": "{rtp_max}",
}
BY_SIP: Final[Mapping[str, str]] = {"AIVC_SIP_LISTEN": "udp:127.0.0.1:{sip_port}"}
BY_OPENSIPS: Final[Mapping[str, str]] = {
    "AIVC_SIP_ENABLED": "false",
    "AIVC_OPENSIPS_ENABLED": "true",
    "MI_IP": "127.0.0.1",
    "MI_PORT": "{mi_port}",
    "EVENT_IP": "127.0.0.1",
    "EVENT_PORT": "{event_port}",
}


@attrs.frozen
class Target:
    """A program and how it is told of calls: as a SIP server, by an OpenSIPS, or line by line.

    In `command` and `environ` are filled in: ws_url, cafile, sip_port, rtp_min, rtp_max, mi_port, event_port, each
    in braces.
    """

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str] = attrs.field(factory=dict)
    signalling: Literal["sip", "mi", "lines"] = "lines"

    def filled(self, places: Mapping[str, str]) -> Target:
        """With the places filled in."""
        command = tuple(word.format_map(places) for word in self.command)
        environ = {name: text.format_map(places) for name, text in self.environ.items()}
        return attrs.evolve(self, command=command, environ=environ)


def aivc(signalling: Literal["sip", "mi"] = "sip", *, workers: int = 1, **environ: str) -> Target:
    """`aivc serve` with its defaults, but for limits; `environ` are more settings by their variables, which win.

    Braces in a value of `environ` are doubled, unless they are for one of the places of `Target`.
    """
    several = {"AIVC_SERVICE_WORKERS": str(workers)} if workers != 1 else {}
    front_end = BY_SIP if signalling == "sip" else BY_OPENSIPS
    settings = {**UNHINDERED, **ADDRESSES, **front_end, **several, **environ}
    return Target("aivc", (sys.executable, "-m", "aivc", "serve"), settings, signalling)


def floor(mode: Literal["heartbeat", "events"]) -> Target:
    """The same work in C: on a heartbeat of 5 ms, or as each packet comes. Raises CompileError."""
    program = compiled(FLOOR, libraries=FLOOR_LIBRARIES)
    return Target(f"floor-{mode}", (str(program), "--mode", mode, *YARDSTICK_ARGUMENTS))


def plain_trio() -> Target:
    """trio, trio-websocket and json, without any thought of speed."""
    return python_yardstick("plain_trio")


def uvloop() -> Target:
    """asyncio on uvloop, with websockets."""
    return python_yardstick("uvloop_bridge")


YARDSTICK_ARGUMENTS: Final = ("--url", "{ws_url}", "--cafile", "{cafile}")


def python_yardstick(module: str) -> Target:
    return Target(module, (sys.executable, "-m", f"bench.yardsticks.{module}", *YARDSTICK_ARGUMENTS))
