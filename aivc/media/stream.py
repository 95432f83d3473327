"""One call's RTP: what happens to each datagram that comes and what leaves at each due time.

Synchronous on purpose: a `MediaClock` (clock.py) does the waiting, for one stream or for hundreds in one loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
import trio

from aivc.config.settings import Address, Codec, RtpSettings
from aivc.media.dtmf import EventReader, EventSender
from aivc.media.filling import HeardTime
from aivc.media.g711 import FRAME_OCTETS, is_voiced, silence_frame
from aivc.media.latching import Latch
from aivc.media.pacer import STALL, Pacer
from aivc.media.playout import Playout
from aivc.media.reorder import ReorderBuffer
from aivc.media.rtp import BadPacket, Packet, parse_untrusted
from aivc.media.sounds import SoundPlayout

COMFORT_NOISE: Final = 13  # payload type, RFC 3389 section 4


class NoTelephoneEvent(Exception):
    """The peer has not offered telephone-event (RFC 4733): no digit can be sent to it."""


@attrs.define
class RtpCounters:
    """Packets, by what became of them."""

    received: int = 0  # RTP packets of ours, in any order
    malformed: int = 0  # not RTP
    foreign: int = 0  # from strangers
    other_payload: int = 0  # payload types never agreed, events that are no key, audio packets without audio
    comfort_noise: int = 0  # payload type 13: silence stands in for it
    digits: int = 0  # keys that the caller pressed
    held: int = 0  # audio that came while the caller held us: music for somebody else
    lost: int = 0
    late: int = 0  # too late or twice
    reordered: int = 0  # put back in their place, and heard
    restarts: int = 0  # of the caller's stream: a new SSRC or a jump of its sequence
    filled: int = 0  # 20 ms of silence that the model heard in place of what was lost, suppressed or held
    heard_dropped: int = 0  # the model's side was stuck for a second, or the caller's audio ran 10 s ahead of the clock
    sent: int = 0
    send_errors: int = 0
    receive_errors: int = 0
    stalls: int = 0


def unheeded(digit: str) -> None:
    """For who does not care which keys are pressed."""


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
      telephone_event: payload type of RFC 4733 events, None when the peer has none; a re-INVITE may change it.
      pressed: told of each key that the caller presses, when its first packet comes.
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
    _expects_audio: bool = True
    telephone_event: int | None = attrs.field(default=None, kw_only=True)
    pressed: Callable[[str], None] = attrs.field(default=unheeded, kw_only=True)
    last_received: float = attrs.field(init=False)  # seconds; the start counts as received
    counters: RtpCounters = attrs.field(init=False, factory=RtpCounters)
    last_voiced: float = attrs.field(init=False)  # when the caller's last audible packet came, seconds
    _reorder: ReorderBuffer = attrs.field(init=False)
    _time: HeardTime = attrs.field(init=False, factory=HeardTime)
    _events: EventReader = attrs.field(init=False, factory=EventReader)
    _keys: EventSender = attrs.field(init=False, factory=EventSender)
    _sound: SoundPlayout | None = attrs.field(init=False, default=None)
    _silence: bytes = attrs.field(init=False)
    _filled_octets: int = attrs.field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.last_received = self.started_at
        self.last_voiced = self.started_at
        self._silence = silence_frame(self.codec)
        self._reorder = ReorderBuffer(self.settings.reorder_ms / 1000)
        if not self._expects_audio:
            self._turn()

    @property
    def remote(self) -> Address:
        return self.latch.remote

    @property
    def due(self) -> float:
        """When the next packet leaves, seconds."""
        return self.pacer.due

    @property
    def expects_audio(self) -> bool:
        """False while the caller is not to send.

        What comes all the same, music on hold, is not heard: the model hears silence from the moment that this is set
        until the caller's audio comes again, or nothing at all, as `rtp.hold` says.
        """
        return self._expects_audio

    @expects_audio.setter
    def expects_audio(self, expected: bool) -> None:
        if expected != self._expects_audio:
            self._expects_audio = expected
            self._turn()

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
        """The datagram to send now, or None when nothing may be sent; moves on by one frame either way.

        Digits go before the model's words, these before a sound, and silence is sent when there is nothing else.
        """
        if self._reorder.holding:
            for packet in self._reorder.release(now):
                self._hear(packet, now)
        if now >= self._time.fill_at:
            self._stand_in(now)
        if not self.may_send or self._unanswered(now):
            self.pacer.pause(now)
            return None
        if self._keys.waiting:
            packet_of_key = self._key_packet(now)
            if packet_of_key is not None:
                return packet_of_key
        frame = self.playout.pop_frame(now) or (self._silence if self._sound is None else self._sound_frame())
        return self.pacer.packet(frame, now)

    def send_digits(self, digits: str, tone_ms: int, gap_ms: int) -> trio.Event:
        """Press keys; the event is set when the last gap is over. What else is to be said waits meanwhile.

        Nothing leaves while `may_send` is False, and the event waits for it. It is set, too, when a re-INVITE takes
        telephone-event away: the rest is not sent.

        Args:
          digits: 0 to 9, *, # and A to D; they follow those that still wait.
          tone_ms, gap_ms: of each of them; see `dtmf.tones`.

        Raises NoTelephoneEvent, and ValueError for digits or durations that cannot be sent.
        """
        if self.telephone_event is None:
            raise NoTelephoneEvent("the peer has not offered telephone-event")
        over = trio.Event()
        self._keys.press(digits, tone_ms, gap_ms, over.set)
        return over

    def drop_digits(self, sent: trio.Event) -> None:
        """Press no more of the keys that `send_digits` returned this event for; one that has begun is finished."""
        self._keys.drop(sent.set)

    @property
    def digit_seconds(self) -> float:
        """How long the digits that still wait will take."""
        return self._keys.seconds

    @property
    def sends_digits(self) -> bool:
        """Whether some of them still wait."""
        return bool(self._keys.waiting)

    def play(self, sound: bytes, repeat: bool = False) -> trio.Event:
        """Play G.711 octets of this call's law in place of silence, again and again if `repeat` is set.

        It stands still while the model speaks and while nothing may be sent. A sound that was playing is stopped.
        Returns an event that is set when the last frame has left, or when the sound is stopped.
        """
        self.stop_sound()
        over = trio.Event()
        if sound:
            self._sound = SoundPlayout(sound, repeat, self._silence, over.set)
        else:
            over.set()
        return over

    @property
    def plays_sound(self) -> bool:
        """Whether a sound is being played, or stands still."""
        return self._sound is not None

    def stop_sound(self) -> None:
        """Play no sound any more."""
        if self._sound is not None:
            self._sound.over()
            self._sound = None

    def statistics(self) -> RtpCounters:
        """A copy of the counters, complete."""
        return attrs.evolve(
            self.counters,
            foreign=self.latch.foreign,
            other_payload=self.counters.other_payload + self._events.ignored,
            lost=self._reorder.lost,
            late=self._reorder.late,
            reordered=self._reorder.reordered,
            filled=self._filled_octets // FRAME_OCTETS,
            sent=self.pacer.sent - self.counters.send_errors,
            restarts=self._reorder.restarts,
            stalls=self.pacer.stalls,
        )

    def _turn(self) -> None:
        """A hold begins or ends: what waits to be heard belongs to the time before."""
        self.counters.held += self._reorder.clear()
        if self.settings.hold == "silence":
            self._time.stand_in()
        else:
            self._time.stand_still()

    def _hear(self, packet: Packet, now: float) -> None:
        payload, time = packet.payload, self._time
        if packet.payload_type != self.payload_type or not payload:
            self._hear_other(packet, now)
            return
        if not self._expects_audio:
            self.counters.held += 1
            return
        if time.is_flooded(now):
            self.counters.heard_dropped += 1
            return
        if is_voiced(payload, self.codec):
            self.last_voiced = now
        if packet.rtp_timestamp != time.next_timestamp:
            self._fill(time.gap(packet.rtp_timestamp, len(payload), now))
        time.heard(packet.rtp_timestamp, len(payload), now)
        self._pass_on(payload)

    def _hear_other(self, packet: Packet, now: float) -> None:
        if packet.payload_type == self.telephone_event:
            self._time.quiet(now)
            digit = self._events.feed(packet.ssrc, packet.rtp_timestamp, packet.payload, packet.marker, now)
            if digit is not None:
                self.counters.digits += 1
                self.pressed(digit)
        elif packet.payload_type == COMFORT_NOISE:
            self._time.quiet(now)
            self.counters.comfort_noise += 1
        else:
            self.counters.other_payload += 1

    def _stand_in(self, now: float) -> None:
        # After a stall of ours audio may wait in the socket, and behind a gap it waits in the buffer.
        if now - self.pacer.due <= STALL and not self._reorder.holding:
            self._fill(self._time.frames_due(now) * FRAME_OCTETS)

    def _fill(self, octets: int) -> None:
        if octets:
            self._filled_octets += octets
            self._pass_on(self._silence[:1] * octets)

    def _pass_on(self, octets: bytes) -> None:
        try:
            self.heard.send_nowait(octets)
        except trio.WouldBlock:
            self.counters.heard_dropped += 1

    def _key_packet(self, now: float) -> bytes | None:
        if self.telephone_event is None:
            self._keys.abandon()
            return None
        return self._keys.packet(self.pacer, self.telephone_event, self._silence, now)

    def _sound_frame(self) -> bytes:
        assert self._sound is not None
        frame = self._sound.frame()
        if self._sound.ended:
            self.stop_sound()
        return frame

    def _unanswered(self, now: float) -> bool:
        # An SDP may name a third party: nobody is flooded for long who has never sent us anything.
        budget = self.settings.probe_seconds
        return bool(budget) and not self.latch.locked and now - self.started_at > budget
