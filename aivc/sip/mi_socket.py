"""The datagram socket between us and OpenSIPS's module mi_datagram: UDP, or one of the UNIX domain."""

from __future__ import annotations

import socket as stdlib
from typing import Final, Protocol

import attrs
import trio
from trio.socket import SocketType

from aivc.config.settings import Address, OpenSipsSettings
from aivc.sip.flow import NoFlow
from aivc.sip.jsonrpc import MAX_DATAGRAM_OCTETS
from aivc.sip.transport import addresses_of

AUTOBIND: Final = b""  # unix(7): Linux finds an abstract name, which needs no permissions and leaves no file


class MiSocket(Protocol):
    """Sends commands and receives answers; a datagram that cannot be sent, or was not taken, is an OSError."""

    @property
    def peer_ip(self) -> str | None:
        """The address of OpenSIPS; None in the UNIX domain."""

    def leads_as(self, other: MiSocket) -> bool:
        """Whether the other one would be no change."""

    async def send(self, data: bytes) -> None: ...

    async def receive(self) -> bytes:
        """Raises ClosedResourceError when `close` is called meanwhile."""

    def close(self) -> None: ...


@attrs.frozen(eq=False)
class UdpSocket:
    """A connected one: the system lets nothing from others through, and tells when nobody listens at the other end."""

    socket: SocketType
    local: Address
    peer: Address

    @property
    def peer_ip(self) -> str | None:
        return self.peer[0]

    def leads_as(self, other: MiSocket) -> bool:
        return isinstance(other, UdpSocket) and (self.local[0], self.peer) == (other.local[0], other.peer)

    async def send(self, data: bytes) -> None:
        await self.socket.send(data)

    async def receive(self) -> bytes:
        return await self.socket.recv(MAX_DATAGRAM_OCTETS)

    def close(self) -> None:
        self.socket.close()


@attrs.frozen(eq=False)
class UnixSocket:
    """One with a name to answer to; not connected, because OpenSIPS answers from another socket than it listens on.

    So anybody on this machine who finds our name can write to it; they cannot know the ids of commands.
    """

    socket: SocketType
    sender: stdlib.socket  # the same: trio would spin while OpenSIPS's queue is full, poll(2) does not tell of it
    path: str

    @property
    def peer_ip(self) -> str | None:
        return None

    def leads_as(self, other: MiSocket) -> bool:
        return isinstance(other, UnixSocket) and self.path == other.path

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.sender.sendto(data, self.path)

    async def receive(self) -> bytes:
        return await self.socket.recv(MAX_DATAGRAM_OCTETS)

    def close(self) -> None:
        self.socket.close()


async def open_socket(settings: OpenSipsSettings) -> MiSocket:
    """A new one; `ip` is looked up.

    Raises:
      OSError: the name is not known, or there is no way to its address.
    """
    return await open_udp(settings.ip, settings.port) if settings.socket is None else open_unix(settings.socket)


async def open_udp(host: str, port: int) -> MiSocket:
    """Raises OSError."""
    try:
        found = [address for address in await addresses_of(host, port) if ":" not in address[0]]
    except NoFlow as error:
        raise OSError(str(error)) from error
    if not found:
        raise OSError(f"{host} has no IPv4 address")
    socket = trio.socket.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM)
    try:
        await socket.connect(found[0])
        local = socket.getsockname()
    except BaseException:
        socket.close()
        raise
    return UdpSocket(socket, (str(local[0]), int(local[1])), found[0])


def open_unix(path: str) -> MiSocket:
    """Raises OSError."""
    sender = stdlib.socket(stdlib.AF_UNIX, stdlib.SOCK_DGRAM)
    try:
        sender.setblocking(False)
        sender.bind(AUTOBIND)
        return UnixSocket(trio.socket.from_stdlib_socket(sender), sender, path)
    except BaseException:
        sender.close()
        raise
