"""SIP peers and OpenSIPS as they were: their messages come from their addresses, and what is sent to them is noted."""

from __future__ import annotations

import json
import socket as stdlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

import attrs
import trio

from aivc.config.settings import Address, Settings
from aivc.flight.entries import MiMessage, SipMessage
from aivc.replaying.alike import loaded
from aivc.replaying.comparing import ROUTINE
from aivc.testing.datagrams import VirtualSocket
from aivc.testing.network import VirtualNetwork
from aivc.testing.streams import VirtualStream

LARGEST_READ: Final = 65_536
NO_SESSIONS: Final[list[object]] = []
KNOWN_STATE: Final = 4  # of a session of OpenSIPS's that is established


def octets_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def text_of(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


@attrs.define(eq=False)
class SipPeers:
    """Whoever the call's SIP came from and went to.

    Args:
      nursery: of the peers' TCP connections.
      tcp: the addresses of peers that were spoken to over TCP.
    """

    network: VirtualNetwork
    nursery: trio.Nursery
    _streams: dict[tuple[Address, Address], VirtualStream] = attrs.field(factory=dict)

    async def listen(self, peers: Iterable[Address]) -> None:
        """Let peers be connected to."""
        for host, port in dict.fromkeys(peers):
            listener = VirtualStream(self.network, family_of(host))
            with suppress(OSError):
                await listener.bind((host, port))
                listener.listen()
                self.nursery.start_soon(self._accept, listener)

    async def say(self, message: SipMessage, text: str) -> None:
        """Have a recorded message arrive."""
        if message.transport == "UDP":
            self.network.carry(message.peer, message.local, octets_of(text))
            return
        stream = self._streams.get((message.peer, message.local))
        if stream is None:
            stream = await self._connected(message.peer, message.local)
        if stream is not None:
            with suppress(OSError, trio.ClosedResourceError):
                await stream.send(octets_of(text))

    async def _connected(self, peer: Address, local: Address) -> VirtualStream | None:
        stream = VirtualStream(self.network, family_of(peer[0]))
        try:
            await stream.bind(peer)
            await stream.connect(local)
        except OSError:
            return None
        self._keep(peer, local, stream)
        return stream

    async def _accept(self, listener: VirtualStream) -> None:
        with listener:
            while True:
                stream, source = await listener.accept()
                own = listener.getsockname()
                self._keep((str(own[0]), int(own[1])), (str(source[0]), int(source[1])), stream)

    def _keep(self, peer: Address, local: Address, stream: VirtualStream) -> None:
        self._streams[peer, local] = stream
        self.nursery.start_soon(self._read, peer, local, stream)

    async def _read(self, peer: Address, local: Address, stream: VirtualStream) -> None:
        """What is said is noted by the network; here it only makes room."""
        with stream, suppress(OSError, trio.ClosedResourceError):
            while await stream.recv(LARGEST_READ):
                pass
        self._streams.pop((peer, local), None)


def family_of(host: str) -> stdlib.AddressFamily:
    return stdlib.AF_INET6 if ":" in host else stdlib.AF_INET


@attrs.define(eq=False)
class PlayedOpenSips:
    """The management interface and the events of an OpenSIPS.

    What concerns the call is answered as it was, when it was. What any service asks for, whether it has a call or not,
    is answered at once.

    Args:
      said: told of each command that concerns the call.
    """

    network: VirtualNetwork
    settings: Settings
    said: Callable[[str], None]
    _socket: VirtualSocket | None = None
    _commands: Address | None = None  # where our commands come from
    _events: Address | None = None  # where events go

    @property
    def address(self) -> Address:
        return self.settings.opensips.ip, self.settings.opensips.port

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with VirtualSocket(self.network) as socket:
            await socket.bind(self.address)
            self._socket = socket
            task_status.started()
            while True:
                data, source = await socket.recvfrom(LARGEST_READ)
                self._commands = (str(source[0]), int(source[1]))
                self._take(text_of(data))

    def say(self, message: MiMessage, text: str) -> None:
        """Have a recorded answer or event arrive."""
        if message.channel == "event":
            if self._events is not None:
                self.network.carry(self.address, self._events, octets_of(text))
        elif self._commands is not None:
            self.network.carry(self.address, self._commands, octets_of(text))

    def _take(self, text: str) -> None:
        command = loaded(text)
        if command.get("method") in ROUTINE:
            self._answer(command.get("id"), self._routine(str(command["method"]), command.get("params", {})))
        else:
            self.said(text)

    def _answer(self, identity: object, result: object) -> None:
        assert self._commands is not None
        answer = json.dumps({"jsonrpc": "2.0", "id": identity, "result": result})
        self.network.carry(self.address, self._commands, answer.encode())

    def _routine(self, method: str, params: dict[str, Any]) -> object:
        if method == "event_subscribe":
            self._events = address_of(str(params.get("socket", "")))
            return "OK"
        if method == "subscribers_list":
            host, port = self._events or ("", 0)
            subscriber = {"socket": f"udp:{host}:{port}", "ttl": 3600}
            return {"Event": {"Subscribers": [] if self._events is None else [subscriber]}}
        key = params.get("key")
        return NO_SESSIONS if key is None else {"state": KNOWN_STATE, "callid": key, "to_tag": key, "ruri": "sip:x"}


def address_of(socket: str) -> Address | None:
    """`udp:192.0.2.7:50060` as OpenSIPS is told it."""
    _, _, rest = socket.partition(":")
    host, _, port = rest.rpartition(":")
    return (host, int(port)) if port.isdigit() else None
