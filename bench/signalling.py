"""How a target is told of calls: one thin loop for the kinds that signalling_sip, _opensips and _lines speak.

Each kind is a machine without I/O: it takes what came, and the time, and returns what to send and what became of
calls. Times are seconds of the monotonic clock; a datagram's is when the kernel took it, not when it was read.
"""

from __future__ import annotations

import re
import selectors
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Final, Literal, Protocol

import attrs

HOST: Final = "127.0.0.1"
LARGEST: Final = 65_535  # octets of a datagram
BUFFER_OCTETS: Final = 4 << 20  # bursts of hundreds of calls wait here while one is read
READ_AT_ONCE: Final = 64  # datagrams of one socket before the others have their turn
SO_TIMESTAMPNS: Final = 35  # asm-generic/socket.h: arrival as struct timespec; the socket module has no name for it
TIMESPEC: Final = struct.Struct("@qq")
PAYLOAD_TYPES: Final = {"PCMU": 0, "PCMA": 8}  # RFC 3551

Address = tuple[str, int]
Law = Literal["PCMU", "PCMA"]


class TargetGone(Exception):
    """The program at the other end has closed what we talk through; the text says what."""


@attrs.frozen
class Ready:
    """The target can be called."""


@attrs.frozen
class Answered:
    """A call is answered: where its RTP goes, and how long the caller waited, in seconds."""

    number: int
    remote: Address
    seconds: float


@attrs.frozen
class Refused:
    """A call will not be answered: refused by the target, or given up."""

    number: int
    reason: str


@attrs.frozen
class Ended:
    """A call that we ended is over at the target, too; `reason` is empty unless it did not say so in order."""

    number: int
    reason: str = ""


@attrs.frozen
class HungUp:
    """The target ended a call."""

    number: int


Outcome = Ready | Answered | Refused | Ended | HungUp


@attrs.frozen
class Send:
    """Octets to send: from which of the sockets, and where to (None: the pipe has one end)."""

    data: bytes
    to: Address | None = None
    origin: int = 0


Effect = Send | Outcome


class Machine(Protocol):
    """A kind of signalling. A number is a caller's; it may call again when its call is over."""

    @property
    def deadline(self) -> float:
        """When `expire` has something to do; inf: never."""

    def begin(self, number: int, rtp_port: int, now: float) -> list[Effect]:
        """Make a call from that port."""

    def end(self, number: int, now: float) -> list[Effect]:
        """End a call that is answered; of no effect on others."""

    def receive(self, data: bytes, source: Address | None, now: float) -> list[Effect]:
        """Take what came."""

    def expire(self, now: float) -> list[Effect]:
        """Do what is due; at the start that is looking whether the target is there."""


class Wire(Protocol):
    """What carries octets to and from the target."""

    def files(self) -> Sequence[int]: ...
    def send(self, each: Send) -> None: ...
    def receive(self, file: int) -> Iterator[tuple[bytes, Address | None, float]]: ...
    def close(self) -> None: ...


class Exchange:
    """A machine on its wire."""

    def __init__(self, machine: Machine, wire: Wire) -> None:
        self._machine, self._wire = machine, wire
        self._found: list[Outcome] = []
        self._selector = selectors.DefaultSelector()
        for file in wire.files():
            self._selector.register(file, selectors.EVENT_READ)

    def begin(self, number: int, rtp_port: int) -> None:
        """Make a call; what becomes of it is told by `serve`."""
        self._perform(self._machine.begin(number, rtp_port, time.monotonic()))

    def end(self, number: int) -> None:
        """End a call that is answered."""
        self._perform(self._machine.end(number, time.monotonic()))

    def serve(self, until: float) -> list[Outcome]:
        """What became of calls: as soon as there is something, or nothing at that time."""
        while True:
            self._perform(self._machine.expire(time.monotonic()))
            wait = 0.0 if self._found else min(until, self._machine.deadline) - time.monotonic()
            for key, _ in self._selector.select(max(0.0, wait)):
                for data, source, at in self._wire.receive(key.fd):
                    self._perform(self._machine.receive(data, source, at))
            if self._found or time.monotonic() >= until:
                found, self._found = self._found, []
                return found

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self._wire.send(effect)
            else:
                self._found.append(effect)

    def close(self) -> None:
        self._selector.close()
        self._wire.close()


class Datagrams:
    """UDP sockets of the loopback interface; port 0 is any free one."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._sockets: list[socket.socket] = []
        try:
            for port in ports:
                self._sockets.append(datagram_socket(port))
        except OSError:
            self.close()
            raise

    @property
    def ports(self) -> Sequence[int]:
        return [each.getsockname()[1] for each in self._sockets]

    def files(self) -> Sequence[int]:
        return [each.fileno() for each in self._sockets]

    def send(self, each: Send) -> None:
        assert each.to is not None
        self._sockets[each.origin].sendto(each.data, each.to)

    def receive(self, file: int) -> Iterator[tuple[bytes, Address | None, float]]:
        """What waits in that socket."""
        found = next(each for each in self._sockets if each.fileno() == file)
        for _ in range(READ_AT_ONCE):
            try:
                data, ancillary, _, source = found.recvmsg(LARGEST, socket.CMSG_SPACE(TIMESPEC.size))
            except BlockingIOError:
                return
            yield data, source, arrival(ancillary)

    def close(self) -> None:
        for each in self._sockets:
            each.close()


def datagram_socket(port: int) -> socket.socket:
    """Non-blocking, with the kernel's time of arrival. Raises OSError when the port is taken."""
    made = socket.socket(type=socket.SOCK_DGRAM)
    try:
        made.bind((HOST, port))
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_OCTETS)
        made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        made.close()
        raise
    return made


def arrival(ancillary: Sequence[tuple[int, int, bytes]]) -> float:
    """The kernel's time of arrival on the monotonic clock; now, if it did not say."""
    now = time.monotonic()
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS) and len(data) == TIMESPEC.size:
            seconds, nanoseconds = TIMESPEC.unpack(data)
            age: float = (time.time_ns() - seconds * 10**9 - nanoseconds) / 1e9
            return now - max(0.0, age)
    return now


# SDP (RFC 8866), the same for the kinds that have it


def offer(number: int, rtp_port: int, law: Law) -> str:
    """A telephone's offer of one law, and of telephone-event (RFC 4733), as every telephone makes it."""
    payload_type = PAYLOAD_TYPES[law]
    lines = (
        "v=0",
        f"o=- {number + 1} 1 IN IP4 {HOST}",
        "s=-",
        f"c=IN IP4 {HOST}",
        "t=0 0",
        f"m=audio {rtp_port} RTP/AVP {payload_type} 101",
        f"a=rtpmap:{payload_type} {law}/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-15",
        "a=ptime:20",
        "a=sendrecv",
    )
    return "".join(f"{line}\r\n" for line in lines)


def remote_of(answer: str) -> Address | None:
    """Where an answer wants the audio; None when it takes none."""
    media = re.search(r"^m=audio (\d+) ", answer, re.MULTILINE)
    if media is None or media[1] == "0":
        return None
    own = re.search(r"^c=IN IP4 (\S+)", answer[media.end() :], re.MULTILINE)
    host = own or re.search(r"^c=IN IP4 (\S+)", answer, re.MULTILINE)
    return (host[1] if host else HOST, int(media[1]))
