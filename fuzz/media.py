"""RTP, RTCP, keys in RTP, and whatever else comes to a media port."""

from __future__ import annotations

from typing import Final, cast

import attrs
import trio

from aivc.config.settings import Address, RtpSettings
from aivc.media import rtcp, rtp
from aivc.media.dtmf import KEYS, EventReader
from aivc.media.g711 import FRAME_OCTETS
from aivc.media.latching import CANDIDATES, Latch, Nat
from aivc.media.pacer import Pacer
from aivc.media.playout import Playout
from aivc.media.reports import Reports
from aivc.media.rtcp import BadRtcp, Description, Goodbye, Rtcp
from aivc.media.rtcpline import RtcpLine
from aivc.media.rtp import BadPacket
from aivc.media.stream import RtpStream
from fuzz.choices import Choices
from fuzz.target import Target, only

NO_SOCKET: Final = cast("trio.socket.SocketType", None)  # only a clock touches it
NATS: Final[tuple[Nat, ...]] = ("auto", "on", "off")
PHONE: Final[Address] = ("192.0.2.9", 4000)
PROXY: Final = "198.51.100.1"
SOURCES: Final[tuple[Address, ...]] = (PHONE, PHONE, ("192.0.2.9", 4002), (PROXY, 4000), ("203.0.113.66", 4000))
STEPS: Final = (0.0, 0.001, 0.02, 0.02, 0.02, 0.06, 1.0, 5.0)  # seconds between two datagrams
HEARD: Final = 1_000  # what may wait for the model; more is dropped and counted
STRANGERS: Final = RtpSettings(relatch_seconds=3.0)


def packet(data: bytes) -> None:
    """One RTP packet: read or refused; what is read is written and read as the same."""
    read = only(BadPacket, rtp.parse_untrusted, data)
    if read is not None:
        assert len(read.payload) <= len(data) - 12
        assert rtp.parse_untrusted(rtp.build(read)) == read


def compound(data: bytes) -> None:
    """One RTCP datagram: read or refused; what is read is written and read as the same."""
    read = only(BadRtcp, rtcp.parse_untrusted, data)
    if read is not None:
        plain = tuple(map(in_ascii, read))
        assert rtcp.parse_untrusted(rtcp.build(plain)) == plain
        reports = Reports(7, "cname", 0.0)
        reports.take(read, 1.0)


def in_ascii(packet: Rtcp) -> Rtcp:
    """Texts that are as long in octets as in characters."""
    if isinstance(packet, Description):
        return attrs.evolve(packet, cname="".join(char for char in packet.cname or "" if char.isascii()))
    if isinstance(packet, Goodbye):
        return attrs.evolve(packet, reason="".join(char for char in packet.reason if char.isascii()))
    return packet


def events(data: bytes) -> None:
    """Payloads of telephone-event in any order: keys or nothing, and never two of one packet sent twice."""
    choices, reader, now = Choices(data), EventReader(), 0.0
    while not choices.is_over:
        ssrc, at, marker = choices.number(3), choices.number(65_536) << 8, bool(choices.number(2))
        payload, now = choices.take(choices.number(8)), now + choices.one_of(STEPS)
        key = reader.feed(ssrc, at, payload, marker, now)
        assert key is None or key in KEYS
        assert reader.feed(ssrc, at, payload, marker, now) is None, "one packet, two keys"


def junk(data: bytes) -> None:
    """Anything from anywhere to one call's ports, while it speaks: only who may be the caller is heard and sent to."""
    choices = Choices(data)
    nat = choices.one_of(NATS)
    send, receive = trio.open_memory_channel[bytes](HEARD)
    latch = Latch(PHONE, PROXY, nat, STRANGERS.relatch_seconds)
    line = RtcpLine(Reports(7, "cname", 0.0), mux=bool(choices.number(2)))
    stream = RtpStream(
        NO_SOCKET, "PCMU", 0, latch, Playout(0xFF), Pacer(0, 7, 65_530, 0, 0.0, 20), send, STRANGERS, 0.0,
        telephone_event=101, rtcp=line,
    )  # fmt: skip
    now, came = 0.0, 0
    while not choices.is_over:
        source, now = choices.one_of(SOURCES), now + choices.one_of(STEPS)
        datagram = complete(choices, choices.number(4))
        if choices.number(8) == 7:
            stream.control_received(datagram, source, now)
        else:
            stream.received(datagram, source, now)
            came += 1
        leave(stream, now)
        assert nat == "on" or latch.remote[0] == PHONE[0], f"audio goes to {latch.remote}"
        assert latch.pinned is None or nat == "on" or latch.pinned[0] == PHONE[0]
    counted = stream.statistics()
    assert counted.received + counted.malformed + counted.foreign <= came + CANDIDATES
    heard = sum(map(len, (receive.receive_nowait() for _ in range(receive.statistics().current_buffer_used))))
    assert heard <= (now + 10.0) * 8000 + came * 4 * FRAME_OCTETS, "more was heard than the time could hold"


def complete(choices: Choices, kind: int) -> bytes:
    """A datagram: as it stands in the input, or with the beginning of an RTP, RTCP or STUN packet before it."""
    sequence = choices.number(65_536)
    if kind == 0:
        return choices.piece()
    if kind == 1:
        return b"\x80\0" + sequence.to_bytes(2, "big") + (160 * sequence).to_bytes(4, "big") + b"\0\0\0\1" + bytes(160)
    if kind == 2:
        return b"\x80" + choices.take(1) + sequence.to_bytes(2, "big") + choices.take(8) + choices.piece()
    return b"\0\1\0\x08\x21\x12\xa4\x42" + choices.take(12) + choices.piece()


def leave(stream: RtpStream, now: float) -> None:
    """What leaves until then, without catching up on long pauses."""
    for _ in range(5):
        if stream.pacer.due > now:
            return
        stream.outgoing(now)


TARGETS: Final = (
    Target("rtp", packet, 2048),
    Target("rtcp", compound, 2048),
    Target("events", events, 2048),
    Target("junk", junk, 4096, 300),
)
