"""Asks a running service for its status, for `aivc status`."""

from __future__ import annotations

import json
from typing import Final

import h11
import trio

from aivc.config.rules import parse_host_port
from aivc.nursery.status import Json, from_json
from aivc.sip.address import format_host_port

SECONDS: Final = 5.0  # for the whole answer
LARGEST_ANSWER: Final = 16 * 2**20  # octets: ten thousand calls are some 2 MiB
BLOCK: Final = 65_536  # octets read at once
ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # who listens everywhere is found here


class NoStatus(Exception):
    """Why there is none, in a line."""


async def fetch_status(listen: str) -> Json:
    """The object at /status.

    Args:
      listen: `admin.listen` of that service.

    Raises NoStatus.
    """
    host, port = parse_host_port(listen)
    host = ANYWHERE.get(host, host)
    where = format_host_port(host, port)
    try:
        with trio.fail_after(SECONDS):
            async with await trio.open_tcp_stream(host, port) as stream:
                return parse_untrusted(await exchange(stream, where))
    except trio.TooSlowError:
        raise NoStatus(f"no answer from {where} within {SECONDS:g} s") from None
    except OSError as error:
        raise NoStatus(f"nobody answers at {where} (admin.listen); does the service run?") from error
    except (h11.ProtocolError, trio.BrokenResourceError, ValueError, RecursionError) as error:
        raise NoStatus(f"what answers at {where} is no service of ours: {error}") from None


async def exchange(stream: trio.SocketStream, host: str) -> bytes:
    """Raises h11.ProtocolError and ValueError."""
    connection = h11.Connection(h11.CLIENT)
    request = h11.Request(method="GET", target="/status", headers=[("Host", host), ("Connection", "close")])
    await stream.send_all((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
    body = bytearray()
    while True:
        match connection.next_event():
            case h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(BLOCK))
            case h11.Response(status_code=status) if status != 200:
                raise ValueError(f"status {status}")
            case h11.Data(data=data) if len(body) + len(data) <= LARGEST_ANSWER:
                body += data
            case h11.Data():
                raise ValueError(f"more than {LARGEST_ANSWER} octets")
            case h11.EndOfMessage() | h11.ConnectionClosed():
                return bytes(body)
            case _:
                continue


def parse_untrusted(body: bytes) -> Json:
    """Raises ValueError."""
    found = json.loads(body)
    if not isinstance(found, dict) or not isinstance(found.get("workers"), list):
        raise ValueError("no status")
    for status in (found, *found["workers"]):
        from_json(status)
    return found
