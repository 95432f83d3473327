"""The audio side of the test phone: speaks G.711 octets as paced RTP and keeps every packet that it hears.

It counts packets and keeps times itself and shares no code with the media path under test.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Final

import attrs
import trio

from aivc.config.settings import Address, Codec

SILENCE: Final = {"PCMU": 0xFF, "PCMA": 0xD5}
PAYLOAD_TYPES: Final = {"PCMU": 0, "PCMA": 8}  # RFC 3551 section 6
OCTETS_PER_MS: Final = 8


@attrs.frozen
class RtpHeard:
    """One RTP packet as it arrived."""

    at: float  # seconds on trio's clock
    marker: bool
    payload_type: int
    sequence: int
    rtp_timestamp: int
    ssrc: int
    payload: bytes
    source: Address


@attrs.frozen
class RtpSent:
    """One RTP packet as it left."""

    at: float  # seconds on trio's clock
    payload: bytes


@attrs.define(eq=False)
class Handset:
    """Speaks and hears on one socket; silence is sent whenever there is nothing to say.

    Args:
      socket: bound UDP socket.
      codec: "PCMU" or "PCMA".
      ptime_ms: duration of each packet sent.
      sequence, rtp_timestamp, ssrc: of the first packet.
    """

    socket: trio.socket.SocketType
    codec: Codec = "PCMU"
    ptime_ms: int = 20
    sequence: int = 1000
    rtp_timestamp: int = 16000
    ssrc: int = 0x0A1C0FFE
    heard: list[RtpHeard] = attrs.field(factory=list)
    sent: list[RtpSent] = attrs.field(factory=list)
    muted: bool = False  # sends nothing at all: a phone with a broken path, or silence suppression
    _to_say: deque[bytes] = attrs.field(factory=deque)
    _changed: trio.Event = attrs.field(factory=trio.Event)

    @property
    def packet_octets(self) -> int:
        return self.ptime_ms * OCTETS_PER_MS

    @property
    def silence(self) -> bytes:
        return bytes([SILENCE[self.codec]]) * self.packet_octets

    def say(self, octets: bytes) -> None:
        """Queue audio behind what is being said; the last packet is filled up with silence."""
        for start in range(0, len(octets), self.packet_octets):
            part = octets[start : start + self.packet_octets]
            self._to_say.append(part.ljust(self.packet_octets, self.silence[:1]))

    async def wait_said(self) -> None:
        """Return when everything queued has left."""
        while self._to_say:
            await self._changed.wait()

    async def wait_speech(self, seconds: float = 0.0) -> float:
        """Wait until the other side is audible, and then for `seconds` of it; the time of its first packet."""
        looked_at = len(self.heard)
        while True:
            for packet in self.heard[looked_at:]:
                if not self.is_silence(packet.payload):
                    await trio.sleep_until(packet.at + seconds)
                    return packet.at
            looked_at = len(self.heard)
            await self._changed.wait()

    async def wait_silence(self, seconds: float) -> None:
        """Wait until the other side has said nothing for `seconds`."""
        quiet_since = trio.current_time()
        seen = len(self.heard)
        while trio.current_time() < quiet_since + seconds:
            with trio.move_on_at(quiet_since + seconds):
                await self._changed.wait()
            for packet in self.heard[seen:]:
                if not self.is_silence(packet.payload):
                    quiet_since = packet.at
            seen = len(self.heard)

    def speech_heard(self) -> bytes:
        """All octets heard except whole packets of silence."""
        return b"".join(p.payload for p in self.heard if not self.is_silence(p.payload))

    def is_silence(self, payload: bytes) -> bool:
        """Whether every octet is the codec's silence."""
        return not payload.strip(self.silence[:1])

    async def listen(self) -> None:
        """Task: keep every RTP packet that arrives."""
        while True:
            data, source = await self.socket.recvfrom(2048)
            if len(data) < 12 or data[0] >> 6 != 2:
                continue
            _, kind, sequence, rtp_timestamp, ssrc = struct.unpack_from("!BBHII", data)
            now = trio.current_time()
            packet = RtpHeard(now, kind >= 128, kind & 127, sequence, rtp_timestamp, ssrc, data[12:], source[:2])
            self.heard.append(packet)
            self._notify()

    async def speak(self, remote: Address) -> None:
        """Task: send one packet every `ptime_ms`, on absolute deadlines."""
        due = trio.current_time()
        while True:
            await trio.sleep_until(due)
            due += self.ptime_ms / 1000
            if not self.muted:
                await self._send(self._to_say.popleft() if self._to_say else self.silence, remote)
            self.rtp_timestamp = (self.rtp_timestamp + self.packet_octets) % 0x100000000  # muted or not, time goes on
            self._notify()

    async def _send(self, payload: bytes, remote: Address) -> None:
        first = not self.sent
        kind = PAYLOAD_TYPES[self.codec] | (0x80 if first else 0)
        header = struct.pack("!BBHII", 0x80, kind, self.sequence, self.rtp_timestamp, self.ssrc)
        self.sequence = (self.sequence + 1) % 0x10000
        self.sent.append(RtpSent(trio.current_time(), payload))
        await self.socket.sendto(header + payload, remote)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
