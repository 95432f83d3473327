"""What the process that owns the sockets and its workers say to each other: frames, each a packet of a socket pair.

A packet (SOCK_SEQPACKET) is taken whole or not at all, so a queue of them is bounded by just dropping the newest.
A frame is a line of JSON and, after it, the octets of a SIP message as they came or are to go.
"""

from __future__ import annotations

import json
from typing import Any, Final

import attrs
import cattrs
import trio

from aivc.config.settings import Address
from aivc.sip.flow import Transport
from aivc.sip.outbox import Outbox

MESSAGES: Final = 512  # SIP messages queued for one process: more than it serves in the time of a retransmission
RESERVE: Final = 512  # further frames, of those that must not be lost: who does not take so many is stuck
PACKET_OCTETS: Final = 200_000  # below Linux's default net.core.wmem_max, 212,992; the longest message has 65,535


@attrs.frozen
class Datagram:
    """To a worker: a UDP datagram came.

    Attributes:
      socket: index in the order of the UDP sockets.
      given: how many new calls this worker was sent in all, up to this message.
    """

    socket: int
    source: Address
    octets: bytes
    given: int = 0


@attrs.frozen
class Streamed:
    """To a worker: a message came over a connection, which it may see for the first time; `given` as in Datagram."""

    number: int
    transport: Transport
    peer: Address
    local: Address
    octets: bytes
    given: int = 0


@attrs.frozen
class Closed:
    """To a worker: a connection is no more; `failed`: it never was one."""

    number: int
    failed: bool


@attrs.frozen
class Identities:
    """To a worker: who we are at which server's IP address: our URI, and the Route of calls there (RFC 3608)."""

    by_address: dict[str, tuple[str, tuple[str, ...]]]


@attrs.frozen
class Drain:
    """To a worker: take no new calls, end when the last is over."""


@attrs.frozen
class Stop:
    """To a worker: end at once."""


@attrs.frozen
class Say:
    """From a worker: a message for a connection."""

    number: int
    octets: bytes


@attrs.frozen
class Open:
    """From a worker: this number stands for a connection to there from now on, one that is open or a new one.

    Attributes: as the arguments of `ConnectionPool.open_nowait`.
    """

    number: int
    transport: Transport
    peer: Address
    local: Address
    source: Address
    name: str


@attrs.frozen
class Beat:
    """From a worker, some times a second: that it lives. The first one says that it is ready.

    Attributes:
      used: numbers of the connections that a call needs, however quiet they are.
      taken: `given` of the last message that has come.
      status: `aivc.nursery.status` as JSON, once a second.
    """

    calls: int
    accepting: bool
    draining: bool = False
    used: tuple[int, ...] = ()
    taken: int = 0
    status: dict[str, Any] | None = None


@attrs.frozen
class Failed:
    """From a worker: it cannot start, and why. `usable` is False when that is the configuration's fault."""

    text: str
    usable: bool


Frame = Datagram | Streamed | Closed | Identities | Drain | Stop | Say | Open | Beat | Failed
KINDS: Final[dict[str, type[Frame]]] = {kind.__name__: kind for kind in Frame.__args__}
CONVERTER: Final = cattrs.Converter(detailed_validation=False)
CONVERTER.register_unstructure_hook(bytes, lambda octets: octets)
CONVERTER.register_structure_hook(bytes, lambda octets, _: octets)  # they are no part of the JSON


def encoded(frame: Frame) -> bytes:
    """One packet."""
    fields: dict[str, Any] = CONVERTER.unstructure(frame)
    octets: bytes = fields.pop("octets", b"")
    return json.dumps([type(frame).__name__, fields]).encode() + b"\n" + octets


def decoded(packet: bytes) -> Frame:
    """The frame of a packet; from nobody but our own processes. Raises ValueError, KeyError and what cattrs does."""
    head, _, octets = packet.partition(b"\n")
    name, fields = json.loads(head)
    kind = KINDS[name]
    if "octets" in (field.name for field in attrs.fields(kind)):
        fields["octets"] = octets
    made: Frame = CONVERTER.structure(fields, kind)
    return made


@attrs.define(eq=False, repr=False)
class Link:
    """One end of the socket pair. Nobody waits for it who sends.

    Attributes:
      dropped: SIP messages that did not fit into the queue.
    """

    socket: trio.socket.SocketType
    dropped: int = attrs.field(default=0, init=False)
    _outbox: Outbox[bytes] = attrs.field(factory=lambda: Outbox[bytes](MESSAGES + RESERVE), init=False)
    _waiting: int = attrs.field(default=0, init=False)

    def put_nowait(self, frame: Frame) -> bool:
        """Queue it; False when there is no room, a SIP message being counted then. Anything else that finds none
        means that the other process is stuck. What is longer than a packet never goes: its rest would be cut off."""
        is_message, packet = isinstance(frame, (Datagram, Streamed, Say)), encoded(frame)
        has_room = (not is_message or self._waiting < MESSAGES) and len(packet) <= PACKET_OCTETS
        fits = has_room and self._outbox.put_nowait(packet)
        self._waiting += fits
        self.dropped += is_message and not fits
        return fits

    async def transmit(self) -> None:
        """Send what is queued until cancelled. Raises OSError when the other process is gone."""
        await self._outbox.deliver(self._send)

    async def wait_empty(self) -> None:
        await self._outbox.wait_empty()

    async def receive(self) -> Frame | None:
        """The next frame; None when the other process is gone. Raises what `decoded` does."""
        try:
            packet = await self.socket.recv(PACKET_OCTETS)
        except ConnectionError:
            return None
        return decoded(packet) if packet else None

    async def _send(self, packet: bytes) -> None:
        self._waiting -= 1
        await self.socket.send(packet)
