"""Keys as RTP events, both ways: the telephone-event payload of RFC 4733.

A key is told as soon as its first packet comes, whichever that is: the caller is heard at once, and no loss of end
packets can swallow a key. What belongs to one press is told by the RTP timestamp, which is the same in all packets of
an event; markers and end bits are missing too often to rest on.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final

import attrs

from aivc.media.g711 import FRAME_MS, FRAME_OCTETS, OCTETS_PER_MS
from aivc.media.pacer import Pacer
from aivc.media.playout import unawaited

KEYS: Final = "0123456789*#ABCD"  # by event code, RFC 4733 section 3.2
EVENT: Final = Struct("!BBH")  # event | E R volume | duration in timestamp units, RFC 4733 section 2.3
END: Final = 0x80
VOLUME: Final = 10  # -10 dBm0, what telephones send
LONGEST_SEGMENT: Final = 0xFFFF  # timestamp units; a longer press goes on in a new segment, section 2.5.1.3
ENDS: Final = 3  # the end is sent so often, one packet interval apart, section 2.5.1.4

# No two presses of one key begin within 40 ms, the shortest tone that ITU-T Q.24 asks receivers to recognise.
# Gateways that move the timestamp on with every packet would otherwise press it 50 times a second.
SHORTEST_PRESS: Final = 40 * OCTETS_PER_MS  # timestamp units
FORGOTTEN: Final = 2.0  # seconds without events; a step back in time is then a new clock, not a late packet

SHORTEST_TONE_MS: Final = 40
LONGEST_TONE_MS: Final = LONGEST_SEGMENT // OCTETS_PER_MS
MOST_DIGITS: Final = 100  # of one request
LONGEST_SECONDS: Final = 300  # waiting at once


@attrs.define
class EventReader:
    """Tells each key of one RTP source once."""

    ignored: int = 0  # packets that are no key: too short, or another event (flash, modem and fax tones)
    _ssrc: int = -1
    _key: int = 0  # event code of the newest press
    _began: int = 0  # RTP timestamp of its newest segment
    _last_at: float = 0.0  # when its last packet came, seconds

    def feed(self, ssrc: int, rtp_timestamp: int, payload: bytes, marker: bool, now: float) -> str | None:
        """The key, when this packet is the first of its press to come.

        Args:
          ssrc: another one has other timestamps; those before it mean nothing.
          rtp_timestamp: of the packet, 8000 Hz.
          payload: four octets; further events in one packet (section 2.5.1.5) are not read.
        """
        if len(payload) < EVENT.size or payload[0] >= len(KEYS):
            self.ignored += 1
            return None
        key = payload[0]
        if ssrc == self._ssrc and not self._is_new(key, rtp_timestamp, marker, now):
            return None
        self._ssrc, self._key, self._began, self._last_at = ssrc, key, rtp_timestamp, now
        return KEYS[key]

    def _is_new(self, key: int, rtp_timestamp: int, marker: bool, now: float) -> bool:
        """Whether a press begins here; otherwise it is the newest press that goes on, or an older one."""
        ahead = (rtp_timestamp - self._began) & 0xFFFFFFFF
        silent, self._last_at = now - self._last_at, now
        if ahead >= 0x80000000:  # older
            return silent > FORGOTTEN
        if ahead and key == self._key and (ahead < SHORTEST_PRESS or (ahead == LONGEST_SEGMENT and not marker)):
            self._began = rtp_timestamp
            return False
        return ahead > 0


@attrs.define(eq=False)
class Press:
    """One key that is to be pressed, and the gap after it; it counts itself down as its packets leave.

    Tone and gap each begin on a packet and take whole packets, but the tone is told to the millisecond. The end is
    sent three times, the second and third in the gap (RFC 4733 section 2.5.1.4).
    """

    code: int
    tone_octets: int  # timestamp units
    gap_octets: int
    _tone_past: int = 0  # timestamp units, whole packets
    _gap_past: int = 0
    _ends: int = 0

    @property
    def begun(self) -> bool:
        return self._tone_past > 0

    def packets_left(self, frame_octets: int) -> int:
        """How many packets it still takes, of that length."""
        tone = -(-max(0, self.tone_octets - self._tone_past) // frame_octets)
        gap = -(-max(0, self.gap_octets - self._gap_past) // frame_octets)
        return tone + max(gap, (ENDS - max(1, self._ends)))

    def next_payload(self, frame_octets: int) -> bytes | None:
        """The event in the packet of the next `frame_octets`; None: silence."""
        if self._tone_past < self.tone_octets:
            self._tone_past += frame_octets
            if self._tone_past < self.tone_octets:
                return EVENT.pack(self.code, VOLUME, self._tone_past)
        else:
            self._gap_past += frame_octets
        if self._ends == ENDS:
            return None
        self._ends += 1
        return EVENT.pack(self.code, END | VOLUME, self.tone_octets)


def presses(digits: str, tone_ms: int, gap_ms: int) -> list[Press]:
    """The keys of `digits`.

    Args:
      digits: 0 to 9, *, # and A to D; 1 to 100 of them.
      tone_ms: 40 to 8191.
      gap_ms: at least 40.

    Raises ValueError.
    """
    if not 0 < len(digits) <= MOST_DIGITS:
        raise ValueError(f"{len(digits)} digits: 1 to {MOST_DIGITS} can be sent at once")
    if not SHORTEST_TONE_MS <= tone_ms <= LONGEST_TONE_MS:
        raise ValueError(f"a tone of {tone_ms} ms: it must last {SHORTEST_TONE_MS} to {LONGEST_TONE_MS} ms")
    if gap_ms < SHORTEST_TONE_MS:
        raise ValueError(f"a gap of {gap_ms} ms: it must last at least {SHORTEST_TONE_MS} ms")
    return [Press(event_code(digit), tone_ms * OCTETS_PER_MS, gap_ms * OCTETS_PER_MS) for digit in digits]


def event_code(digit: str) -> int:
    """Raises ValueError for what is no key."""
    code = KEYS.find(digit.upper())
    if code < 0:
        raise ValueError(f"{digit!r} is no key: 0 to 9, *, # and A to D are")
    return code


def key_seconds(tone_ms: int, gap_ms: int, ptime_ms: int = FRAME_MS) -> float:
    """How long one digit and its gap take, in packets of `ptime_ms`."""
    press = Press(0, tone_ms * OCTETS_PER_MS, gap_ms * OCTETS_PER_MS)
    return press.packets_left(ptime_ms * OCTETS_PER_MS) * ptime_ms / 1000


def has_begun(entry: Press | Callable[[], None]) -> bool:
    return isinstance(entry, Press) and entry.begun


@attrs.define
class EventSender:
    """The keys that are to be pressed, in the packets of an outgoing stream."""

    waiting: list[Press | Callable[[], None]] = attrs.field(factory=list)  # and whom to tell when those are over
    _began: int = 0  # RTP timestamp of the event that is being sent

    def press(self, digits: str, tone_ms: int, gap_ms: int, over: Callable[[], None] = unawaited) -> None:
        """Queue digits behind earlier ones; `over` is called when the last gap has passed.

        Raises ValueError as `presses` does, and when too many digits wait.
        """
        pressed = presses(digits, tone_ms, gap_ms)
        if self.seconds(FRAME_OCTETS) + len(pressed) * key_seconds(tone_ms, gap_ms) > LONGEST_SECONDS:
            raise ValueError("too many digits wait to be sent")  # not which: the text stands in the log
        self.waiting.extend(pressed)
        self.waiting.append(over)

    def drop(self, over: Callable[[], None]) -> None:
        """Press no more digits of the request with this `over`; one that has begun is sent to its end, and its gap."""
        kept: list[Press | Callable[[], None]] = []
        request: list[Press | Callable[[], None]] = []
        for entry in self.waiting:
            request.append(entry)
            if not isinstance(entry, Press):
                kept.extend(filter(has_begun, request) if entry == over else request)
                request = []
        self.waiting = kept + list(request)

    def seconds(self, frame_octets: int) -> float:
        """How long what waits will take, in packets of that length."""
        packets = sum(entry.packets_left(frame_octets) for entry in self.waiting if isinstance(entry, Press))
        return packets * frame_octets / (1000 * OCTETS_PER_MS)

    def packet(self, pacer: Pacer, payload_type: int, silence: bytes, now: float) -> bytes | None:
        """The datagram that leaves now, None when all is over."""
        while self.waiting:
            entry = self.waiting[0]
            if isinstance(entry, Press) and entry.packets_left(pacer.frame_octets):
                return self._packet_of(entry, pacer, payload_type, silence, now)
            del self.waiting[0]
            if not isinstance(entry, Press):
                entry()
        return None

    def abandon(self) -> None:
        """The peer takes no events any more: whoever waits need not wait longer."""
        waiting = [entry for entry in self.waiting if not isinstance(entry, Press)]
        self.waiting.clear()
        for over in waiting:
            over()

    def _packet_of(self, press: Press, pacer: Pacer, payload_type: int, silence: bytes, now: float) -> bytes:
        first, payload = not press.begun, press.next_payload(pacer.frame_octets)
        if payload is None:
            return pacer.packet(silence, now)
        pacer.catch_up(now)
        if first:
            self._began = pacer.rtp_timestamp
        return pacer.event_packet(payload_type, first, self._began, payload)
