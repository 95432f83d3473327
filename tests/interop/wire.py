"""What really goes over the loopback interface, as the kernel saw it, with the kernel's times.

A packet socket (packet(7)) needs root or CAP_NET_RAW and hears every datagram of the machine, whoever sends it; so the
service and the telephone under test are not touched, and a busy test process does not blur the times.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from aivc.config.settings import Address
from aivc.testing.handset import RtpHeard
from aivc.testing.wording import media_address

INTERFACE = "lo"
ETHERTYPE_IPV4 = 0x0800
PROTOCOL_TCP, PROTOCOL_UDP = 6, 17
PACKET_OUTGOING = 4  # on loopback each packet is seen twice: going out and coming in
SO_RCVBUFFORCE = 33  # socket(7), as the next; Python has no names for them
SO_TIMESTAMPNS = 35  # the ancillary message is a struct timespec
TIMESPEC = struct.Struct("qq")
SOL_PACKET, PACKET_STATISTICS = 263, 6  # packet(7): two unsigned ints, packets seen and packets dropped
QUEUE_OCTETS = 8 * 1024 * 1024  # the test process may be held up for seconds on a busy machine
LONGEST_PACKET = 65536
RTP_HEADER_OCTETS = 12
RTP_VERSION = 2  # in the first two bits


@attrs.frozen
class Datagram:
    """One UDP datagram."""

    at: float  # seconds since 1970, by the kernel
    source: Address
    destination: Address
    payload: bytes


@attrs.define(eq=False)
class Wire:
    """All UDP datagrams on loopback, in their order, and what went over TCP. Made by `open_wire()`."""

    packets: trio.socket.SocketType
    datagrams: list[Datagram] = attrs.field(factory=list)
    segments: list[Datagram] = attrs.field(factory=list)  # of TCP; each SIP message that is sent at once is one
    dropped: int = 0  # datagrams that the kernel could not keep for us; complete when the wire is closed

    async def listen(self) -> None:
        """Task: keep what passes."""
        while True:
            packet, ancillary, _, address = await self.packets.recvmsg(LONGEST_PACKET, socket.CMSG_SPACE(TIMESPEC.size))
            assert isinstance(address, tuple)  # (interface, ethertype, kind, ...), see packet(7)
            if address[2] == PACKET_OUTGOING or packet[9] not in (PROTOCOL_TCP, PROTOCOL_UDP):
                continue
            seconds, nanoseconds = TIMESPEC.unpack(ancillary[0][2])
            kept = self.datagrams if packet[9] == PROTOCOL_UDP else self.segments
            kept.append(read_packet(packet, seconds + nanoseconds / 1e9))

    def sip(self, port: int, start: str) -> list[Datagram]:
        """SIP messages from or to this port that begin like this, retransmissions included."""
        return [
            datagram
            for datagram in (*self.datagrams, *self.segments)
            if port in (datagram.source[1], datagram.destination[1]) and datagram.payload.startswith(start.encode())
        ]

    def media_of(self, port: int) -> tuple[Address, Address]:
        """Where the telephone and the service at this SIP port said that they want their audio."""
        offer = self.sip(port, "INVITE ")[0].payload.decode()
        (answer, *_) = [d.payload.decode() for d in self.sip(port, "SIP/2.0 200") if b" INVITE\r\n" in d.payload]
        return media_address(offer), media_address(answer)

    def rtp(self, source: Address, destination: Address) -> list[RtpHeard]:
        """The RTP packets from one address to another. STUN (RFC 7983), which Linphone sends there too, is left out."""
        between = [d for d in self.datagrams if (d.source, d.destination) == (source, destination)]
        return [read_rtp(datagram) for datagram in between if datagram.payload[0] >> 6 == RTP_VERSION]


def read_packet(packet: bytes, at: float) -> Datagram:
    """An IPv4 packet with a UDP datagram or a TCP segment in it, which the kernel has checked."""
    end, transport = int.from_bytes(packet[2:4]), (packet[0] & 0x0F) * 4
    source_port, destination_port = struct.unpack_from("!HH", packet, transport)
    payload = transport + (8 if packet[9] == PROTOCOL_UDP else (packet[transport + 12] >> 4) * 4)
    return Datagram(
        at,
        (socket.inet_ntoa(packet[12:16]), source_port),
        (socket.inet_ntoa(packet[16:20]), destination_port),
        packet[payload:end],
    )


def read_rtp(datagram: Datagram) -> RtpHeard:
    """An RTP packet of the plainest kind: version 2, no padding, no extension, no CSRC (RFC 3550 section 5.1)."""
    first, kind, sequence, rtp_timestamp, ssrc = struct.unpack_from("!BBHII", datagram.payload)
    assert first == 0x80, f"not plain RTP: {datagram}"
    payload = datagram.payload[RTP_HEADER_OCTETS:]
    return RtpHeard(datagram.at, kind >= 128, kind & 127, sequence, rtp_timestamp, ssrc, payload, datagram.source)


def enlarge_queue(packets: trio.socket.SocketType) -> None:
    try:
        packets.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, QUEUE_OCTETS)
    except PermissionError:  # it needs CAP_NET_ADMIN, too
        packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, QUEUE_OCTETS)  # as much as the system allows


def missing() -> str | None:
    """Why nobody can listen here; None when one can."""
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM).close()
    except (PermissionError, AttributeError):  # not root; not Linux
        return "listening to the loopback interface needs root or CAP_NET_RAW"
    return None


@asynccontextmanager
async def open_wire() -> AsyncIterator[Wire | None]:
    """Listen to the loopback interface for the length of the block; None when the system does not let us."""
    if missing() is not None:
        yield None
        return
    with trio.socket.from_stdlib_socket(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)) as packets:
        enlarge_queue(packets)
        packets.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        await packets.bind((INTERFACE, ETHERTYPE_IPV4))
        wire = Wire(packets)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.listen)
            yield wire
            nursery.cancel_scope.cancel()
        _, wire.dropped = struct.unpack("II", packets.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
