"""tshark, which reads what went over the wire by rules of its own."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from interop.wire import PROTOCOL_UDP, Datagram

LINKTYPE_RAW = 101  # packets begin with the IP header
LONGEST_SECONDS = 30.0


def missing() -> str | None:
    return None if shutil.which("tshark") else "tshark is not installed"


def write_capture(path: Path, datagrams: Iterable[Datagram]) -> None:
    """A pcap file; the checksums that the kernel has checked are left out."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, LINKTYPE_RAW))
        for datagram in datagrams:
            packet = packet_of(datagram)
            seconds = int(datagram.at)
            file.write(struct.pack("<IIII", seconds, int((datagram.at - seconds) * 1e6), len(packet), len(packet)))
            file.write(packet)


def packet_of(datagram: Datagram) -> bytes:
    """IPv4 and UDP headers and the payload."""
    udp_octets = 8 + len(datagram.payload)
    addresses = socket.inet_aton(datagram.source[0]) + socket.inet_aton(datagram.destination[0])
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + udp_octets, 0, 0, 64, PROTOCOL_UDP, 0) + addresses
    return ip + struct.pack("!HHHH", datagram.source[1], datagram.destination[1], udp_octets, 0) + datagram.payload


def dissected(capture: Path, display_filter: str, fields: Sequence[str], decode_as: str = "") -> list[list[str]]:
    """The values of these fields in each packet that the filter lets through.

    Args:
        decode_as: what is spoken where, such as `udp.port==5001,rtcp`, if tshark cannot know.
    """
    command = ["tshark", "-n", "-r", str(capture), "-Y", display_filter, "-T", "fields"]
    command += ["-d", decode_as] if decode_as else []
    for field in fields:
        command += ["-e", field]
    run = subprocess.run(command, check=True, capture_output=True, text=True, timeout=LONGEST_SECONDS)
    return [line.split("\t") for line in run.stdout.splitlines()]


def is_true(shown: str) -> bool:
    """Versions of tshark write a flag in two ways."""
    return shown in ("1", "True")
