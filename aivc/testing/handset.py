"""The audio side of the test phone: speaks G.711 octets as paced RTP and keeps every packet that it hears.

Reports (RTCP) are kept, too, and sent on demand; with a `Cipher` both are SRTP.

It counts packets and keeps times itself and shares no code with the media path under test.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from operator import itemgetter
from typing import Final

import attrs
import trio

from aivc.config.settings import Address, Codec
from aivc.testing.chaos import CALM, Chaos
from aivc.testing.ciphers import Cipher
from aivc.testing.keys import COMFORT_NOISE, DigitHeard, EventPacket, Press, digits_told
from aivc.testing.reports import ReportHeard, is_rtcp, report_of
from aivc.testing.wording import PAYLOAD_TYPES

SILENCE: Final = {"PCMU": 0xFF, "PCMA": 0xD5}
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
    """One RTP packet of audio as it left."""

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
      telephone_event: payload type of its keys; None: it has none, and a phone offers none.
      muted: it sends nothing at all but keys and comfort noise: a phone with a broken path.
      suppresses_silence: it sends nothing while there is nothing to say, but one packet of comfort noise at the
        beginning of a pause and a marker at its end (RFC 3551 section 4.1, RFC 3389).
      swaps_neighbours: every second packet overtakes the one before it.
      rtcp_socket: bound UDP socket for reports; None: they come on `socket` if at all (RFC 5761).
      is_secure: what comes is dropped while there is no cipher.
      cipher: makes SRTP of what is sent, and RTP of what comes.
      chaos: how wrong its clock is, and when its SSRC and its port change.

    Attributes:
      remote: where the audio goes; may be changed while it speaks.
      rtcp_remote: where reports go; None: to the port after that.
      undeciphered: packets that the cipher did not take.
      described: where it says that it is, since it has moved to another port without saying so.
    """

    socket: trio.socket.SocketType
    codec: Codec = "PCMU"
    ptime_ms: int = 20
    sequence: int = 1000
    rtp_timestamp: int = 16000
    ssrc: int = 0x0A1C0FFE
    heard: list[RtpHeard] = attrs.field(factory=list)
    sent: list[RtpSent] = attrs.field(factory=list)
    telephone_event: int | None = 101
    muted: bool = False
    suppresses_silence: bool = False
    swaps_neighbours: bool = False
    rtcp_socket: trio.socket.SocketType | None = None
    is_secure: bool = False
    cipher: Cipher | None = None
    chaos: Chaos = CALM
    described: Address | None = None
    remote: Address | None = None
    rtcp_remote: Address | None = None
    reports: list[ReportHeard] = attrs.field(factory=list)
    undeciphered: int = 0
    _to_say: deque[bytes] = attrs.field(factory=deque)
    _to_press: deque[list[EventPacket]] = attrs.field(factory=deque)  # what leaves at each tick; none in a gap
    _noise: deque[bytes] = attrs.field(factory=deque)
    _held_back: bytes | None = None  # until its successor has left
    _pausing: bool = True  # so the next packet of audio has the marker
    _changed: trio.Event = attrs.field(factory=trio.Event)
    _listening: trio.Nursery | None = None

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

    def press(
        self,
        keys: str,
        *,
        tone_ms: int = 100,
        gap_ms: int = 60,
        marker: bool = True,
        end_repeats: int = 3,
        lose: Collection[int] = (),
        copies: int = 1,
    ) -> None:
        """Queue keys behind those that are being pressed; see `aivc.testing.keys.Press`. Audio is held back meanwhile.

        Raises ValueError for what is no key.
        """
        press = Press(tone_ms, gap_ms, marker, end_repeats, frozenset(lose), copies)
        for key in keys:
            self._to_press.extend(press.packets(key, self.ptime_ms))
            self._to_press.extend([] for _ in range(gap_ms // self.ptime_ms))

    async def wait_pressed(self) -> None:
        """Return when every key queued has been pressed, with the gap after it."""
        while self._to_press:
            await self._changed.wait()

    def digits_heard(self) -> list[DigitHeard]:
        """The keys that the other side sent as RFC 4733 events."""
        events = (packet for packet in self.heard if packet.payload_type == self.telephone_event)
        return digits_told((packet.rtp_timestamp, packet.payload) for packet in events)

    async def wait_digits(self, count: int) -> list[DigitHeard]:
        """Wait until the other side has pressed and released so many keys."""
        while len(ended := [digit for digit in self.digits_heard() if digit.ends]) < count:
            await self._changed.wait()
        return ended

    def comfort_noise(self, level_dbov: int = 60) -> None:
        """Send one packet of comfort noise (RFC 3389) in place of the next one, `level_dbov` below full scale."""
        self._noise.append(bytes([level_dbov]))

    async def wait_speech(self, seconds: float = 0.0) -> float:
        """Wait until the other side is audible, and then for `seconds` of it; the time of its first packet."""
        looked_at = len(self.heard)
        while True:
            for packet in self.heard[looked_at:]:
                if self.is_speech(packet):
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
                if self.is_speech(packet):
                    quiet_since = packet.at
            seen = len(self.heard)

    def speech_heard(self) -> bytes:
        """All octets heard except whole packets of silence."""
        return b"".join(packet.payload for packet in self.heard if self.is_speech(packet))

    def is_speech(self, packet: RtpHeard) -> bool:
        """Whether it is audio, and not all silence."""
        other = packet.payload_type in (self.telephone_event, COMFORT_NOISE)
        return not other and not self.is_silence(packet.payload)

    def is_silence(self, payload: bytes) -> bool:
        """Whether every octet is the codec's silence."""
        return not payload.strip(self.silence[:1])

    async def send_report(self, *, lost_share: float = 0.0, lost: int = 0, jitter_ms: float = 0.0) -> None:
        """Send one compound report: sender or receiver report, and CNAME (RFC 3550 section 6).

        Args:
          lost_share: of the other side's packets since the report before, 0..1.
          lost: of them in all.
          jitter_ms: of their arrival.
        """
        last = self.heard[-1] if self.heard else None
        octets = sum(len(packet.payload) for packet in self.sent)
        data = report_of(
            self.ssrc,
            None if last is None else (last.ssrc, last.sequence),
            sent=(len(self.sent), octets, self.rtp_timestamp) if self.sent else None,
            now=trio.current_time(),
            loss=(lost_share, lost),
            jitter=round(jitter_ms * OCTETS_PER_MS),
            echo=self._echo(),
        )
        await self.send_rtcp(data)

    def _echo(self) -> tuple[int, int]:
        """LSR and DLSR (RFC 3550 section 6.4.1); 0 and 0 before any sender report."""
        for report in reversed(self.reports):
            if (middle := report.ntp_middle) is not None:
                return middle, round((trio.current_time() - report.at) * 65536)
        return 0, 0

    async def send_rtcp(self, data: bytes) -> None:
        """Send any octets to where reports go."""
        assert self.remote is not None, "the handset does not know the other side yet"
        to = self.rtcp_remote or (self.remote[0], self.remote[1] + 1)
        data = data if self.cipher is None else self.cipher.protect_rtcp(data)
        await (self.rtcp_socket or self.socket).sendto(data, to)

    async def wait_report(self, count: int = 1) -> ReportHeard:
        """The latest report, once so many have come."""
        while len(self.reports) < count:
            await self._changed.wait()
        return self.reports[-1]

    async def listen(self) -> None:
        """Task: keep every packet that arrives, until the sockets are closed."""
        async with trio.open_nursery() as nursery:
            self._listening = nursery
            for socket in (self.socket, self.rtcp_socket):
                if socket is not None:
                    nursery.start_soon(self._listen, socket)

    async def _listen(self, socket: trio.socket.SocketType) -> None:
        with suppress(trio.ClosedResourceError):
            while True:
                data, source = await socket.recvfrom(2048)
                if len(data) < 8 or data[0] >> 6 != 2:
                    continue
                if is_rtcp(data):
                    self._take_report(data, source[:2])
                elif len(data) >= 12:
                    self._take(data, source[:2])

    def _deciphered(self, data: bytes, *, is_report: bool) -> bytes:
        """The packet in the clear; b"" when it cannot be had."""
        if self.cipher is None:
            return b"" if self.is_secure else data
        return self.cipher.unprotect_rtcp(data) if is_report else self.cipher.unprotect(data)

    def _take(self, data: bytes, source: Address) -> None:
        data = self._deciphered(data, is_report=False)
        if not data:
            self.undeciphered += 1
            return
        _, kind, sequence, rtp_timestamp, ssrc = struct.unpack_from("!BBHII", data)
        now = trio.current_time()
        packet = RtpHeard(now, kind >= 128, kind & 127, sequence, rtp_timestamp, ssrc, data[12:], source)
        self.heard.append(packet)
        self._notify()

    def _take_report(self, data: bytes, source: Address) -> None:
        data = self._deciphered(data, is_report=True)
        if not data:
            self.undeciphered += 1
            return
        self.reports.append(ReportHeard(trio.current_time(), data, source))
        self._notify()

    async def speak(self, remote: Address) -> None:
        """Task: send one packet every `ptime_ms` by its own clock, to `remote` or where that attribute says."""
        self.remote = remote
        began = due = trio.current_time()
        ports, sources = self.chaos.port_changes, self.chaos.ssrc_changes
        changes = deque(
            sorted(
                [*((at, self.change_port) for at in ports), *((at, self.change_ssrc) for at in sources)],
                key=itemgetter(0),
            )
        )
        while True:
            await trio.sleep_until(due)
            while changes and due >= began + changes[0][0]:
                await changes.popleft()[1]()
            due += self.ptime_ms / 1000 / (1 + self.chaos.skew_ppm / 1e6)
            await self._tick(self.remote)
            self.rtp_timestamp = (self.rtp_timestamp + self.packet_octets) % 0x100000000  # muted or not, time goes on
            self._notify()

    async def change_ssrc(self) -> None:
        """Go on as another stream, with other numbers: as after a transfer, or in another box on the way."""
        self.ssrc = (self.ssrc * 69069 + 1) % 0x100000000
        self.sequence = (self.sequence + 0x5A5A) % 0x10000
        self.rtp_timestamp = (self.rtp_timestamp + 0x5A5A5A5A) % 0x100000000

    async def change_port(self) -> None:
        """Send and hear on another port from now on, and tell nobody: the NAT on the way has forgotten the old one.

        What still comes to that is lost, and descriptions go on to name it.
        """
        host, port = self.socket.getsockname()[:2]
        self.described = self.described or (host, port)
        moved = trio.socket.socket(self.socket.family, trio.socket.SOCK_DGRAM)
        await moved.bind((host, 0))
        self.socket.close()
        self.socket = moved
        if self._listening is not None:
            self._listening.start_soon(self._listen, moved)

    async def _tick(self, remote: Address) -> None:
        events = self._to_press.popleft() if self._to_press else []
        if events:
            await self._send_events(events, remote)
        elif self._noise:
            await self._send(COMFORT_NOISE, self._noise.popleft(), remote)
            self._pausing = True
        elif self.muted:
            self._pausing = True
        elif self.suppresses_silence and not self._to_say:
            if not self._pausing:
                await self._send(COMFORT_NOISE, b"\x3c", remote)
            self._pausing = True
        else:
            payload = self._to_say.popleft() if self._to_say else self.silence
            self.sent.append(RtpSent(trio.current_time(), payload))
            await self._send(PAYLOAD_TYPES[self.codec], payload, remote, marker=self._pausing)
            self._pausing = False

    async def _send_events(self, events: list[EventPacket], remote: Address) -> None:
        assert self.telephone_event is not None, "this handset has no keys"
        for event in events:
            packet = self._packet(self.telephone_event, event.payload, event.marker, event.rtp_timestamp_back)
            for _ in range(0 if event.lost else event.copies):
                await self._emit(packet, remote)

    async def _send(self, payload_type: int, payload: bytes, remote: Address, *, marker: bool = False) -> None:
        await self._emit(self._packet(payload_type, payload, marker), remote)

    def _packet(self, payload_type: int, payload: bytes, marker: bool, rtp_timestamp_back: int = 0) -> bytes:
        kind = payload_type | (0x80 if marker else 0)
        rtp_timestamp = (self.rtp_timestamp - rtp_timestamp_back) % 0x100000000
        header = struct.pack("!BBHII", 0x80, kind, self.sequence, rtp_timestamp, self.ssrc)
        self.sequence = (self.sequence + 1) % 0x10000
        return header + payload

    async def _emit(self, packet: bytes, remote: Address) -> None:
        if self.cipher is not None:
            packet = self.cipher.protect(packet)
        if self.swaps_neighbours and self._held_back is None:
            self._held_back = packet
            return
        await self.socket.sendto(packet, remote)
        if self._held_back is not None:
            held_back, self._held_back = self._held_back, None
            await self.socket.sendto(held_back, remote)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
