"""Keys as RTP events, both ways: the telephone-event payload of RFC 4733.

A key is told as soon as its first packet comes, whichever that is: the caller is heard at once, and no loss of end
packets can swallow a key. What belongs to one press is told by the RTP timestamp, which is the same in all packets of
an event; markers and end bits are missing too often to rest on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import takewhile
from struct import Struct
from typing import Final, NamedTuple

import attrs

from aivc.media.g711 import FRAME_MS, FRAME_OCTETS, OCTETS_PER_MS
from aivc.media.pacer import Pacer

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
MOST_SLOTS: Final = 300 * 1000 // FRAME_MS  # waiting at once: 5 minutes


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


class Slot(NamedTuple):
    """What leaves in one 20 ms of an event and the gap after it."""

    payload: bytes | None  # None: silence
    first: bool  # the event begins here: its packet is marked, its time is that of the event


def tones(digits: str, tone_ms: int, gap_ms: int) -> list[Slot]:
    """The slots that press `digits`, each followed by its gap.

    The end is sent a second and third time in the first 40 ms of the gap (RFC 4733 section 2.5.1.4). A tone lasts
    `tone_ms` to the millisecond; tone and gap each begin on a slot.

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
    return [slot for digit in digits for slot in press(event_code(digit), tone_ms, gap_ms)]


def event_code(digit: str) -> int:
    """Raises ValueError for what is no key."""
    code = KEYS.find(digit.upper())
    if code < 0:
        raise ValueError(f"{digit!r} is no key: 0 to 9, *, # and A to D are")
    return code


def press(code: int, tone_ms: int, gap_ms: int) -> list[Slot]:
    """The slots of one event and its gap."""
    tone_slots, gap_slots = -(-tone_ms // FRAME_MS), -(-gap_ms // FRAME_MS)
    updates = [EVENT.pack(code, VOLUME, slot * FRAME_OCTETS) for slot in range(1, tone_slots)]
    end = EVENT.pack(code, END | VOLUME, tone_ms * OCTETS_PER_MS)
    payloads = [*updates, *[end] * ENDS, *[None] * (gap_slots - (ENDS - 1))]
    return [Slot(payload, n == 0) for n, payload in enumerate(payloads)]


def key_seconds(tone_ms: int, gap_ms: int) -> float:
    """How long one digit and its gap take."""
    return len(press(0, tone_ms, gap_ms)) * FRAME_MS / 1000


def unawaited() -> None:
    """For who does not wait for the end."""


def goes_on(entry: Slot | Callable[[], None]) -> bool:
    """Whether this is part of a digit, or of a gap, that has begun before."""
    return isinstance(entry, Slot) and not entry.first


@attrs.define
class EventSender:
    """The keys that are to be pressed, on the slots of an outgoing stream."""

    waiting: deque[Slot | Callable[[], None]] = attrs.field(
        factory=deque
    )  # slots, and whom to tell when those are over
    _began: int = 0  # RTP timestamp of the event that is being sent

    def press(self, digits: str, tone_ms: int, gap_ms: int, over: Callable[[], None] = unawaited) -> None:
        """Queue digits behind earlier ones; `over` is called when the last gap has passed.

        Raises ValueError as `tones` does, and when too many digits wait.
        """
        slots = tones(digits, tone_ms, gap_ms)
        if len(self.waiting) + len(slots) > MOST_SLOTS:
            raise ValueError("too many digits wait to be sent")  # not which: the text stands in the log
        self.waiting.extend(slots)
        self.waiting.append(over)

    def drop(self, over: Callable[[], None]) -> None:
        """Press no more digits of the request with this `over`; one that has begun is sent to its end, and its gap."""
        kept: deque[Slot | Callable[[], None]] = deque()
        request: list[Slot | Callable[[], None]] = []
        for entry in self.waiting:
            request.append(entry)
            if not isinstance(entry, Slot):
                kept.extend(takewhile(goes_on, request) if entry == over else request)
                request = []
        self.waiting = kept + deque(request)

    @property
    def seconds(self) -> float:
        """How long what waits will take."""
        return sum(isinstance(entry, Slot) for entry in self.waiting) * FRAME_MS / 1000

    def packet(self, pacer: Pacer, payload_type: int, silence: bytes, now: float) -> bytes | None:
        """The datagram that leaves now, None when all is over."""
        while self.waiting:
            slot = self.waiting.popleft()
            if not isinstance(slot, Slot):
                slot()
            elif slot.payload is None:
                return pacer.packet(silence, now)
            else:
                pacer.catch_up(now)
                if slot.first:
                    self._began = pacer.rtp_timestamp
                return pacer.event_packet(payload_type, slot.first, self._began, slot.payload)
        return None

    def abandon(self) -> None:
        """The peer takes no events any more: whoever waits need not wait longer."""
        waiting = [entry for entry in self.waiting if not isinstance(entry, Slot)]
        self.waiting.clear()
        for over in waiting:
            over()
