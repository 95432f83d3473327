"""How a yardstick is told what to do: lines on standard input, answers on standard output.

    call K ADDRESS PORT    begin call K, whose caller has its RTP there
    ready K PORT           its session is configured, and our RTP is there
    end K                  end it
    ended K                its WebSocket and its socket are closed

The end of the input ends the program, whatever is going on.
"""

from __future__ import annotations

import ssl
import sys

import attrs


@attrs.frozen
class Begin:
    """Begin a call and send its RTP to `address`, `port`."""

    number: int
    address: str
    port: int


@attrs.frozen
class End:
    """End a call."""

    number: int


def parse_line(line: str) -> Begin | End:
    """Raises ValueError for anything else."""
    match line.split():
        case ["call", number, address, port]:
            return Begin(int(number), address, int(port))
        case ["end", number]:
            return End(int(number))
        case _:
            raise ValueError(f"not a line that is known here: {line!r}")


def say(answer: str) -> None:
    """Write one line, now."""
    sys.stdout.write(f"{answer}\n")
    sys.stdout.flush()


def tls_context(url: str, cafile: str | None) -> ssl.SSLContext | None:
    """What verifies the server; None for ws://, which needs none."""
    return ssl.create_default_context(cafile=cafile) if url.startswith("wss:") else None
