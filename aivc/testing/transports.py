"""How the test phone's messages travel: one UDP socket, or TCP connections (RFC 3261 section 18)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Literal, Protocol

import attrs
import trio

from aivc.config.settings import Address

LENGTH: Final = re.compile(rb"^(?:content-length|l)[ \t]*:[ \t]*(\d+)", re.IGNORECASE | re.MULTILINE)
PING: Final = b"\r\n\r\n"  # RFC 5626 section 4.4.1
PONG: Final = b"\r\n"
READ_OCTETS: Final = 65_536

Take = Callable[[bytes, Address], Awaitable[None]]  # one message, and where it came from


class Line(Protocol):
    """One way to send and receive messages."""

    @property
    def name(self) -> Literal["UDP", "TCP"]:
        """As Via spells it."""

    @property
    def address(self) -> Address:
        """Where it can be reached."""

    async def send(self, message: bytes, to: Address, otherwise: Address | None = None) -> None:
        """Send it, on TCP `otherwise` when the connection from `to` is lost."""

    async def run(self, take: Take) -> None:
        """Task: give every message to `take`."""


@attrs.define(eq=False)
class DatagramLine:
    """Each message is a datagram."""

    socket: trio.socket.SocketType
    name: Literal["UDP", "TCP"] = "UDP"

    @property
    def address(self) -> Address:
        host, port = self.socket.getsockname()[:2]
        return host, port

    async def send(self, message: bytes, to: Address, otherwise: Address | None = None) -> None:
        await self.socket.sendto(message, to)

    async def run(self, take: Take) -> None:
        while True:
            data, source = await self.socket.recvfrom(READ_OCTETS)
            await take(data, source[:2])


@attrs.define(eq=False)
class StreamLine:
    """Messages go over the connection to that address, a new one if there is none; a lost one is made again.

    Attributes:
      connections: those that are open, made and accepted ones, by the other side's address.
      unsent: messages for addresses that cannot be connected to.
      pings: keep-alives that were answered.
      pongs: answers to keep-alives of the phone.
    """

    listener: trio.SocketListener
    name: Literal["UDP", "TCP"] = "TCP"
    connections: dict[Address, trio.SocketStream] = attrs.field(factory=dict)
    unsent: int = 0
    pings: int = 0
    pongs: int = 0
    _new: trio.Event = attrs.field(factory=trio.Event)
    _unread: list[tuple[Address, trio.SocketStream]] = attrs.field(factory=list)  # connections without a reader
    _accepted: set[Address] = attrs.field(factory=set)  # far ends that nobody listens at
    _sending: trio.Lock = attrs.field(factory=trio.Lock)

    @property
    def address(self) -> Address:
        host, port = self.listener.socket.getsockname()[:2]
        return host, port

    async def send(self, message: bytes, to: Address, otherwise: Address | None = None) -> None:
        async with self._sending:
            for address in (to, otherwise or to):  # the loss of a connection may have gone unnoticed
                if await self._delivers(message, address):
                    return
            self.unsent += 1

    async def _delivers(self, message: bytes, to: Address) -> bool:
        stream = self.connections.get(to)
        if stream is None and to in self._accepted:
            return False
        try:
            await (stream or await self._connect(to)).send_all(message)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.connections.pop(to, None)
            return False
        except OSError:
            return False
        return True

    async def run(self, take: Take) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._accept)
            while True:
                for peer, stream in self._unread:
                    nursery.start_soon(self._read, peer, stream, take)
                self._unread.clear()
                self._new = trio.Event()
                await self._new.wait()

    async def _accept(self) -> None:
        while True:
            stream = await self.listener.accept()
            peer = stream.socket.getpeername()[:2]
            self._accepted.add(peer)
            self._keep(peer, stream)

    async def _connect(self, to: Address) -> trio.SocketStream:
        socket = trio.socket.socket(family_of(to[0]), trio.socket.SOCK_STREAM)
        try:
            await socket.bind((self.address[0], 0))
            await socket.connect(to)
        except BaseException:
            socket.close()
            raise
        return self._keep(to, trio.SocketStream(socket))

    def _keep(self, peer: Address, stream: trio.SocketStream) -> trio.SocketStream:
        self.connections[peer] = stream
        self._unread.append((peer, stream))
        self._new.set()
        return stream

    async def _read(self, peer: Address, stream: trio.SocketStream, take: Take) -> None:
        buffer = bytearray()
        async with stream:
            try:
                while data := await stream.receive_some(READ_OCTETS):
                    buffer += data
                    while (message := cut_message(buffer)) is not None:
                        if message == PING:
                            self.pings += 1
                            await stream.send_all(PONG)
                        elif message == PONG:
                            self.pongs += 1
                        else:
                            await take(message, peer)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                buffer.clear()
        if self.connections.get(peer) is stream:
            del self.connections[peer]


def cut_message(buffer: bytearray) -> bytes | None:
    """Take one message off the beginning; CRLF for the answer to a ping, two for a ping; None while it is not whole."""
    if buffer.startswith(PING):
        return taken(buffer, 4)
    if buffer.startswith(PONG):
        return None if buffer == b"\r\n\r" else taken(buffer, 2)
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    found = LENGTH.search(buffer, 0, end)
    whole = end + 4 + (int(found[1]) if found else 0)
    return taken(buffer, whole) if len(buffer) >= whole else None


def taken(buffer: bytearray, octets: int) -> bytes:
    message = bytes(buffer[:octets])
    del buffer[:octets]
    return message


def family_of(host: str) -> int:
    return trio.socket.AF_INET6 if ":" in host else trio.socket.AF_INET


@asynccontextmanager
async def open_line(transport: Literal["udp", "tcp"], host: str, port: int) -> AsyncIterator[DatagramLine | StreamLine]:
    """A line on `host`; port 0 takes any."""
    if transport == "udp":
        with trio.socket.socket(family_of(host), trio.socket.SOCK_DGRAM) as socket:
            await socket.bind((host, port))
            yield DatagramLine(socket)
        return
    (listener,) = await trio.open_tcp_listeners(port, host=host)
    async with listener:
        line = StreamLine(listener)
        try:
            yield line
        finally:
            for stream in line.connections.values():
                stream.socket.close()
