"""One call's RTP: what happens to each datagram that comes and what leaves at each due time.

Synchronous on purpose: a `MediaClock` (clock.py) does the waiting, for one stream or for hundreds in one loop.
"""

from __future__ import annotations

from typing import Final

import attrs
import trio

from aivc.config.settings import Address, Codec, RtpSettings
from aivc.media.g711 import is_voiced, silence_frame
from aivc.media.latching import Latch
from aivc.media.pacer import Pacer
from aivc.media.playout import Playout
from aivc.media.reorder import ReorderBuffer
from aivc.media.rtp import BadPacket, Packet, parse_untrusted

# A phone with silence suppression (RFC 3389) sends nothing between words; the model must hear the silence all the same,
# or its voice detection never learns that the caller has finished. Longer than any ptime and ordinary jitter.
SUPPRESSED: Final = 0.200  # seconds without audio


@attrs.define
class RtpCounters:
    """Packets, by what became of them."""

    received: int = 0  # RTP packets of ours, in any order
    malformed: int = 0  # not RTP
    foreign: int = 0  # from strangers
    other_payload: int = 0  # comfort noise, telephone-event, payload types never agreed
    lost: int = 0
    late: int = 0  # too late or twice
    reordered: int = 0  # put back in their place, and heard
    restarts: int = 0  # of the caller's stream: a new SSRC or a jump of its sequence
    heard_dropped: int = 0  # the model's side was stuck for a second
    sent: int = 0
    send_errors: int = 0
    receive_errors: int = 0
    stalls: int = 0


@attrs.define(eq=False)
class RtpStream:
    """The media of one call, both ways.

    Args:
      socket: bound; owned by whoever opened it.
      codec, payload_type: as agreed in the answer.
      latch: whom to hear and where to send.
      playout: what to say; silence when it is empty.
      heard: takes the caller's G.711 octets, one item a packet; never waited for.
      settings: `rtp`.
    """

    socket: trio.socket.SocketType
    codec: Codec
    payload_type: int
    latch: Latch
    playout: Playout
    pacer: Pacer
    heard: trio.MemorySendChannel[bytes]
    settings: RtpSettings
    started_at: float
    may_send: bool = True  # False while the caller holds us
    expects_audio: bool = True  # False while the caller is not to send
    last_received: float = attrs.field(init=False)  # seconds; the start counts as received
    counters: RtpCounters = attrs.field(init=False, factory=RtpCounters)
    last_voiced: float = attrs.field(init=False)  # when the caller's last audible packet came, seconds
    _reorder: ReorderBuffer = attrs.field(init=False, factory=ReorderBuffer)
    _silence: bytes = attrs.field(init=False)
    _last_audio: float = attrs.field(init=False, default=float("inf"))  # seconds; nothing is filled in before the first

    def __attrs_post_init__(self) -> None:
        self.last_received = self.started_at
        self.last_voiced = self.started_at
        self._silence = silence_frame(self.codec)

    @property
    def remote(self) -> Address:
        return self.latch.remote

    @property
    def due(self) -> float:
        """When the next packet leaves, seconds."""
        return self.pacer.due

    def received(self, datagram: bytes, source: Address, now: float) -> None:
        """Take one datagram from the network."""
        try:
            packet = parse_untrusted(datagram)
        except BadPacket:
            self.counters.malformed += 1
            return
        for accepted in self.latch.accept(packet, source, now):
            self.counters.received += 1
            self.last_received = now
            for ready in self._reorder.push(accepted, now):
                self._hear(ready, now)

    def outgoing(self, now: float) -> bytes | None:
        """The datagram to send now, or None when nothing may be sent; moves on by one frame either way."""
        if self._reorder.holding:
            for packet in self._reorder.release(now):
                self._hear(packet, now)
        if now - self._last_audio > SUPPRESSED:
            self._pass_on(self._silence)
        if not self.may_send or self._unanswered(now):
            self.pacer.pause(now)
            return None
        return self.pacer.packet(self.playout.pop_frame(now) or self._silence, now)

    def statistics(self) -> RtpCounters:
        """A copy of the counters, complete."""
        return attrs.evolve(
            self.counters,
            foreign=self.latch.foreign,
            lost=self._reorder.lost,
            late=self._reorder.late,
            reordered=self._reorder.reordered,
            sent=self.pacer.sent - self.counters.send_errors,
            restarts=self._reorder.restarts,
            stalls=self.pacer.stalls,
        )

    def _hear(self, packet: Packet, now: float) -> None:
        if packet.payload_type != self.payload_type or not packet.payload:
            self.counters.other_payload += 1
            return
        if is_voiced(packet.payload, self.codec):
            self.last_voiced = now
        self._last_audio = now
        self._pass_on(packet.payload)

    def _pass_on(self, octets: bytes) -> None:
        try:
            self.heard.send_nowait(octets)
        except trio.WouldBlock:
            self.counters.heard_dropped += 1

    def _unanswered(self, now: float) -> bool:
        # An SDP may name a third party: nobody is flooded for long who has never sent us anything.
        budget = self.settings.probe_seconds
        return bool(budget) and not self.latch.locked and now - self.started_at > budget
