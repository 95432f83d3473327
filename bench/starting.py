"""A target started with what it is to know: where the model, its caller and its ports are."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Final, assert_never

from bench.compiling import cache_folder
from bench.generator import Generator, Load
from bench.processes import Program, started
from bench.signalling import HOST, Datagrams, Exchange
from bench.signalling_lines import Lines, Pipe
from bench.signalling_opensips import PROCESSES, OpenSips
from bench.signalling_sip import SipCallers
from bench.targets import ROOT, Target

RTP_PORTS: Final = (10_000, 29_999)  # of the target: below those that systems give to others (32768 and up)


@contextmanager
def opened(
    target: Target, load: Load, generator: Generator, cores: Iterable[int]
) -> Iterator[tuple[Program, Exchange]]:
    """The target on these cores, and the signalling that it speaks, for the length of the block.

    What it prints is kept in the folder `logs` of the cache. Raises TargetError.
    """
    with closing(Datagrams([0] * (1 + PROCESSES if target.signalling == "mi" else 1))) as sockets:
        sip_port, event_port = free_ports(2)
        filled = target.filled(
            {
                "ws_url": generator.ws_url,
                "cafile": str(generator.cafile),
                "sip_port": str(sip_port),
                "rtp_min": str(RTP_PORTS[0]),
                "rtp_max": str(RTP_PORTS[1]),
                "mi_port": str(sockets.ports[0]),
                "event_port": str(event_port),
            }
        )
        log, talks = cache_folder() / "logs" / f"{target.name}-{load.calls}.log", target.signalling == "lines"
        with (
            started(
                target.name, filled.command, filled.environ, cores=cores, log=log, folder=ROOT, talks=talks
            ) as program,
            closing(exchange_with(target, program, sockets, sip_port, load)) as exchange,
        ):
            yield program, exchange


def exchange_with(target: Target, program: Program, sockets: Datagrams, sip_port: int, load: Load) -> Exchange:
    """The signalling that the target speaks."""
    match target.signalling:
        case "sip":
            life = f"{random.getrandbits(32):08x}"
            return Exchange(SipCallers((HOST, sip_port), sockets.ports[0], load.law, life), sockets)
        case "mi":
            return Exchange(OpenSips(load.law, int(time.time())), sockets)
        case "lines":
            assert program.process.stdin is not None
            assert program.process.stdout is not None
            return Exchange(Lines(), Pipe(program.process.stdin, program.process.stdout))
        case _:
            assert_never(target.signalling)


def free_ports(count: int) -> Sequence[int]:
    """UDP ports that nobody has now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]
