"""A `SocketByteStream`, trio's own stream at the other end of a real socket, plain and with TLS, and who reads."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import trio
import trustme

from aivc.media.clock import Heartbeat, open_heartbeat
from aivc.realtime.dialling import client_context
from aivc.realtime.stream import SocketByteStream, SocketWatch

SMALL_BUFFER = 4096  # octets of SO_SNDBUF: nearly every write is partial
HOST = "realtime.test"

Ends = tuple[SocketByteStream, trio.abc.Stream]


Watching = Callable[[], AbstractAsyncContextManager[SocketWatch | None]]


class Pair(Protocol):
    def __call__(self, watch: SocketWatch | None = None) -> AbstractAsyncContextManager[Ends]: ...


@asynccontextmanager
async def plain(watch: SocketWatch | None = None) -> AsyncIterator[Ends]:
    """A `SocketByteStream` with a small send buffer, and trio's own stream at the other end."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
    stream, peer = SocketByteStream(ours, watch), trio.SocketStream(as_trio(theirs))
    try:
        yield stream, peer
    finally:
        await trio.aclose_forcefully(stream)
        await trio.aclose_forcefully(peer)


@asynccontextmanager
async def tls(watch: SocketWatch | None = None) -> AsyncIterator[Ends]:
    authority = trustme.CA()
    certified, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), client_context()
    authority.issue_cert(HOST).configure_cert(certified)
    authority.configure_trust(trusting)
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
    ours.setblocking(False)
    wrapped = trusting.wrap_socket(ours, server_hostname=HOST, do_handshake_on_connect=False)
    stream = SocketByteStream(wrapped, watch)
    peer = trio.SSLStream(trio.SocketStream(as_trio(theirs)), certified, server_side=True, https_compatible=True)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.do_handshake)
            await stream.handshake()
        yield stream, peer
    finally:
        await trio.aclose_forcefully(stream)
        await trio.aclose_forcefully(peer)


@asynccontextmanager
async def by_task() -> AsyncIterator[SocketWatch | None]:
    yield None


@asynccontextmanager
async def by_heartbeat() -> AsyncIterator[SocketWatch | None]:
    async with open_heartbeat() as heartbeat:
        assert isinstance(heartbeat, Heartbeat), "no epoll here"
        yield heartbeat


def as_trio(sock: socket.socket) -> trio.socket.SocketType:
    return trio.socket.from_stdlib_socket(sock)


async def read_exactly(peer: trio.abc.ReceiveStream, octets: int) -> bytes:
    received = bytearray()
    while len(received) < octets:
        piece = await peer.receive_some(octets - len(received))
        assert piece, f"the stream ended after {len(received)} octets"
        received += piece
    return bytes(received)
