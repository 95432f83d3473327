"""An OpenSIPS's management interface as far as the tests of its client need one: what it answers is what they say."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import trio

from aivc.config.settings import Address, OpenSipsSettings
from aivc.sip.jsonrpc import Command, Repeat
from aivc.sip.mi import ManagementInterface, MiError
from aivc.testing.network import VirtualNetwork

OPENSIPS: Final[Address] = ("192.0.2.5", 8080)
SETTINGS: Final = OpenSipsSettings(ip=OPENSIPS[0], port=OPENSIPS[1])
ASK: Final = Command("ua_session_list", {"key": "B2B.1.2"}, Repeat.HARMLESS)
LIST: Final = Command("ua_session_list", {}, Repeat.HARMLESS, lists=True)
END: Final = Command("ua_session_terminate", {"key": "B2B.1.2"}, Repeat.DONE_IF_REFUSED)
REFER: Final = Command("ua_session_update", {"key": "B2B.1.2", "method": "REFER"}, Repeat.NEVER)
Asked = dict[str, Any]
Reply = tuple[float, bytes]  # seconds until it is sent, octets
Script = Callable[[int, Asked], Sequence[Reply]]


def done(asked: Asked, result: object = "OK", after: float = 0.0) -> list[Reply]:
    return [(after, json.dumps({"jsonrpc": "2.0", "result": result, "id": asked["id"]}).encode())]


def failed(asked: Asked, code: int = 500, text: str = "Failed", after: float = 0.0) -> list[Reply]:
    error = {"code": code, "message": text}
    return [(after, json.dumps({"jsonrpc": "2.0", "error": error, "id": asked["id"]}).encode())]


def willing(number: int, asked: Asked) -> Sequence[Reply]:
    return done(asked)


def silent(number: int, asked: Asked) -> Sequence[Reply]:
    return []


@attrs.define(eq=False)
class Interface:
    """Answers as `script` says; it gets the number of the datagram, from 0, and what it holds."""

    script: Script
    asked: list[tuple[float, Asked]] = attrs.field(factory=list)  # seconds on trio's clock
    sources: list[Address] = attrs.field(factory=list)

    async def serve(self, socket: trio.socket.SocketType) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                data, source = await socket.recvfrom(65_535)
                self.sources.append(source)
                self.asked.append((trio.current_time(), json.loads(data)))
                for seconds, octets in self.script(len(self.asked) - 1, self.asked[-1][1]):
                    nursery.start_soon(self._send, socket, source, seconds, octets)

    async def _send(self, socket: trio.socket.SocketType, to: Address, seconds: float, octets: bytes) -> None:
        await trio.sleep(seconds)
        await socket.sendto(octets, to)

    @property
    def ids(self) -> list[str]:
        return [asked["id"] for _, asked in self.asked]

    def times(self, start: float) -> list[float]:
        return [round(at - start, 6) for at, _ in self.asked]


@asynccontextmanager
async def open_interface(script: Script = willing, address: Address = OPENSIPS) -> AsyncIterator[Interface]:
    """Listen at that address until the block ends."""
    interface = Interface(script)
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(address)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(interface.serve, socket)
            try:
                yield interface
            finally:
                nursery.cancel_scope.cancel()


def virtual() -> VirtualNetwork:
    return VirtualNetwork(host="192.0.2.9").enable()


async def outcome(mi: ManagementInterface, command: Command, seconds: float | None = None) -> object:
    """The result, or the error."""
    try:
        return await mi.perform(command, seconds)
    except MiError as error:
        return error
