"""One call's RTP: what happens to each datagram that comes and what leaves at each due time.

Synchronous on purpose: a `MediaClock` (clock.py) does the waiting, for one stream or for hundreds in one loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
import trio

from aivc.config.settings import Address, Codec, RtpSettings
from aivc.media.counters import RtpCounters
from aivc.media.dtmf import EventReader, EventSender
from aivc.media.filling import Heard, HeardTime
from aivc.media.g711 import FRAME_OCTETS, SILENCE, is_voiced, silence_frame
from aivc.media.latching import Latch
from aivc.media.pacer import STALL, Pacer
from aivc.media.playout import Playout, unawaited, unheeded
from aivc.media.reorder import ReorderBuffer
from aivc.media.reports import ANOTHER_CLOCK, CLOCK_HZ, Quality, Reception
from aivc.media.rtcpline import RtcpLine
from aivc.media.rtp import BadPacket, Packet, is_rtcp, parse_untrusted
from aivc.media.sounds import SoundPlayout
from aivc.media.srtp import Srtp, Unauthentic

__all__ = ["NoTelephoneEvent", "RtpCounters", "RtpStream"]

COMFORT_NOISE: Final = 13  # payload type, RFC 3389 section 4


class NoTelephoneEvent(Exception):
    """The peer has not offered telephone-event (RFC 4733): no digit can be sent to it."""


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
      own_telephone_event: what the peer sends them with, if that is another.
      pressed: told of each key that the caller presses, when its first packet comes.
      rtcp: its RTCP; None: there is none.
      srtp: its keys; None: RTP in the clear.
      is_trusted: audio goes to where the SDP says even if none ever comes from there.
    """

    socket: trio.socket.SocketType
    codec: Codec
    payload_type: int
    latch: Latch
    playout: Playout
    pacer: Pacer
    heard: Heard
    settings: RtpSettings
    started_at: float
    may_send: bool = True  # False while the caller holds us
    _expects_audio: bool = True
    telephone_event: int | None = attrs.field(default=None, kw_only=True)
    own_telephone_event: int | None = attrs.field(default=None, kw_only=True)
    pressed: Callable[[str], None] = attrs.field(default=unheeded, kw_only=True)
    rtcp: RtcpLine | None = attrs.field(default=None, kw_only=True)
    _srtp: Srtp | None = attrs.field(default=None, kw_only=True)
    is_trusted: bool = attrs.field(default=False, kw_only=True)
    repaced: Callable[[], None] = attrs.field(init=False, default=unawaited)  # told when `ptime_ms` has changed
    last_received: float = attrs.field(init=False)  # seconds; the start counts as received, and so does the answer
    reception: Reception = attrs.field(init=False, factory=Reception)
    counters: RtpCounters = attrs.field(init=False, factory=RtpCounters)
    last_voiced: float = attrs.field(init=False)  # when the caller's last audible packet was heard, seconds
    held_voiced: tuple[float, float] = attrs.field(init=False, default=(0.0, 0.0))  # of those held: heard, came
    _reorder: ReorderBuffer = attrs.field(init=False)
    _time: HeardTime = attrs.field(init=False, factory=HeardTime)
    _events: EventReader = attrs.field(init=False, factory=EventReader)
    _keys: EventSender = attrs.field(init=False, factory=EventSender)
    _sound: SoundPlayout | None = attrs.field(init=False, default=None)
    _silence: bytes = attrs.field(init=False)
    _filled_octets: int = attrs.field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.last_received = self.last_voiced = self.started_at
        self._reorder = ReorderBuffer(self.settings.reorder_ms / 1000)
        self.playout.cushion_ms = self.settings.cushion_ms
        self._fit()
        self.srtp = self._srtp
        if not self._expects_audio:
            self._turn()

    @property
    def remote(self) -> Address:
        return self.latch.remote

    def answered(self, now: float) -> None:
        """The call was answered, at `now`, in seconds: until then nobody need have sent anything."""
        self.started_at = self.last_received = now

    @property
    def last_alive(self) -> float:
        """When RTP or RTCP of the caller's last came, seconds; the start counts."""
        return self.last_received if self.rtcp is None else max(self.last_received, self.rtcp.last_received)

    @property
    def ptime_ms(self) -> int:
        """Length of the packets that leave, 10 to 60 in steps of 10; it may be set at any time."""
        return self.pacer.ptime_ms

    @ptime_ms.setter
    def ptime_ms(self, ptime_ms: int) -> None:
        if ptime_ms != self.pacer.ptime_ms:
            self.pacer.repace(ptime_ms)
            self._fit()
            self.repaced()

    @property
    def srtp(self) -> Srtp | None:
        """The keys of RTP and RTCP; a re-INVITE may change them."""
        return self._srtp

    @srtp.setter
    def srtp(self, srtp: Srtp | None) -> None:
        self._srtp = srtp
        self.pacer.protect = None if srtp is None else srtp.protect

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
        latch = self.latch
        known = source == latch.pinned
        if not known and latch.shuts_out(now):
            latch.foreign += 1
            return
        if self._srtp is not None and not is_rtcp(datagram):
            try:
                datagram = self._srtp.unprotect(datagram)
            except Unauthentic as refusal:
                self.counters.refused(refusal)
                return
        try:
            packet = parse_untrusted(datagram)
        except BadPacket:
            self._not_rtp(datagram, source, now)
            return
        if known and packet.ssrc == latch.ssrc:
            latch.last_heard = now
            self._take(packet, now)
        else:
            for accepted in latch.accept(packet, source, now):
                self._take(accepted, now)

    def control_received(self, datagram: bytes, source: Address, now: float) -> None:
        """Take one RTCP datagram from the network."""
        if self.rtcp is None or not self.rtcp.admits(self.latch, source, now):
            return
        if self._srtp is not None:
            try:
                datagram = self._srtp.unprotect_rtcp(datagram)
            except Unauthentic as refusal:
                self.counters.refused(refusal)
                return
        self.rtcp.received(datagram, source, now)

    def control_outgoing(self, now: float, goodbye: bool = False) -> tuple[bytes, Address] | None:
        """The RTCP datagram to send now and where, or None when nothing may be sent; with BYE it is the last."""
        to = None if self.rtcp is None else self.rtcp.destination(self.latch, self.is_trusted)
        if self.rtcp is None or to is None or self._may_not_aim(now) or (goodbye and not self.pacer.sent):
            return None
        compound = self.rtcp.compound(self.pacer, self.reception, now, goodbye)
        return (compound if self._srtp is None else self._srtp.protect_rtcp(compound)), to

    def quality(self) -> Quality | None:
        """How RTP fares both ways; None without RTCP."""
        return None if self.rtcp is None else self.rtcp.quality(self.reception)

    def outgoing(self, now: float) -> bytes | None:
        """The datagram to send now, or None when nothing may be sent; moves on by one packet either way.

        Digits go before the model's words, these before a sound, and silence is sent when there is nothing else.
        """
        if self._reorder.held:
            self._hear_held(self._reorder.release(now), now)
        if now >= self._time.fill_at:
            self._stand_in(now)
        if not self.may_send or ((self.latch.pinned is None or self.latch.nowhere) and self._may_not_aim(now)):
            self.pacer.pause(now)
            return None
        if self._keys.waiting and (of_key := self._key_packet(now)) is not None:
            return of_key
        frame = self.playout.pop_frame(now) or (self._silence if self._sound is None else self._frame_of(self._sound))
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
        return self._keys.seconds(self.pacer.frame_octets)

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
            self._sound = SoundPlayout(sound, repeat, SILENCE[self.codec], over.set)
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
            received=self.reception.received,
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

    def _take(self, packet: Packet, now: float) -> None:
        """A packet of the caller's; the arithmetic of RFC 3550 appendices A.1 and A.8 stands here for its speed."""
        reception, reorder = self.reception, self._reorder
        payload_type, _, sequence, rtp_timestamp, ssrc, payload = packet
        reception.received += 1
        self.last_received = now
        is_audio = payload_type == self.payload_type
        if is_audio:  # the packets of an event bear one time, however they come
            transit = now * CLOCK_HZ - rtp_timestamp
            late = abs(transit - reception.transit)
            reception.transit = transit
            if late < ANOTHER_CLOCK:
                reception.jitter += (late - reception.jitter) / 16
        if not (sequence and sequence == reorder.expected and ssrc == reorder.ssrc and not reorder.held):
            reception.update(sequence, ssrc, anew=reorder.ssrc < 0)
            self._hear_held(reorder.push(packet, now), now)
            return
        reception.highest = sequence
        reorder.expected = (sequence + 1) & 0xFFFF
        if is_audio and payload:
            self._hear_audio(payload, rtp_timestamp, now)
        else:
            self._hear_other(packet, now)

    def _not_rtp(self, datagram: bytes, source: Address, now: float) -> None:
        if self.rtcp is not None and self.rtcp.mux and is_rtcp(datagram):
            self.control_received(datagram, source, now)
        else:
            self.counters.malformed += 1

    def _fit(self) -> None:
        """What leaves has the length of a packet."""
        self.playout.frame_octets = self.pacer.frame_octets
        self._silence = silence_frame(self.codec, self.pacer.frame_octets)

    def _turn(self) -> None:
        """A hold begins or ends: what waits to be heard belongs to the time before."""
        self.counters.held += self._reorder.clear()
        if self.settings.hold == "silence":
            self._time.stand_in()
        else:
            self._time.stand_still()

    def _hear_audio(self, payload: bytes, rtp_timestamp: int, now: float) -> None:
        time, octets = self._time, len(payload)
        if not time.follows(rtp_timestamp, octets, now):  # it never does while the caller is not to send: see `_turn`
            if not self._expects_audio:
                self.counters.held += 1
                return
            if time.is_flooded(now):
                self.counters.heard_dropped += 1
                return
            self._fill(time.gap(rtp_timestamp, octets, now))
            time.follows(rtp_timestamp, octets, now)
        if is_voiced(payload, self.codec):
            self.last_voiced = now
        try:
            self.heard.send_nowait(payload)
        except trio.WouldBlock:
            self.counters.heard_dropped += 1

    def _hear_held(self, packets: tuple[Packet, ...], now: float) -> None:
        for packet in packets:
            if packet.payload_type == self.payload_type and packet.payload:
                self._hear_audio(packet.payload, packet.rtp_timestamp, now)
            else:
                self._hear_other(packet, now)
            if self.last_voiced == now and is_voiced(packet.payload, self.codec):
                self.held_voiced = now, self._reorder.were_held.get(packet.sequence, now)

    def _hear_other(self, packet: Packet, now: float) -> None:
        if packet.payload_type in (self.telephone_event, self.own_telephone_event):
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
            try:
                self.heard.send_nowait(self._silence[:1] * octets)
            except trio.WouldBlock:
                self.counters.heard_dropped += 1

    def _key_packet(self, now: float) -> bytes | None:
        if self.telephone_event is None:
            self._keys.abandon()
            return None
        return self._keys.packet(self.pacer, self.telephone_event, self._silence, now)

    def _frame_of(self, sound: SoundPlayout) -> bytes:
        frame = sound.frame(self.pacer.frame_octets)
        if sound.ended:
            self.stop_sound()
        return frame

    def _may_not_aim(self, now: float) -> bool:
        # An SDP may name a third party: nobody is flooded for long who has never sent us anything.
        latch, budget = self.latch, self.settings.probe_seconds
        if latch.pinned is not None or latch.nowhere:
            return latch.nowhere
        spent = bool(budget) and not self.is_trusted and now - self.started_at > budget
        return spent or not latch.may_be_aimed_at
