"""Keys as RTP packets, RFC 4733: what a telephone sends for a key, and which keys some packets tell of."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final

import attrs

KEYS: Final = "0123456789*#ABCD"  # by event number, section 3.2
END: Final = 0x80
VOLUME_DBM0: Final = 10  # the key's level is -10 dBm0
OCTETS_PER_MS: Final = 8
COMFORT_NOISE: Final = 13  # payload type, RFC 3389


@attrs.frozen
class DigitHeard:
    """One key that RFC 4733 packets told of."""

    digit: str
    duration_ms: int  # the longest that any of its packets told
    packets: int  # how many came
    ends: int  # how many of them had the end bit


@attrs.frozen
class EventPacket:
    """One RFC 4733 packet to send."""

    payload: bytes
    rtp_timestamp_back: int  # how long ago the key began, RTP timestamp units
    marker: bool
    lost: bool  # it counts, but never leaves
    copies: int


@attrs.frozen
class Press:
    """How a key is pressed, and what becomes of its packets.

    Args:
      tone_ms: how long the key is down, a whole number of packets.
      gap_ms: how long nothing is pressed after it.
      marker: whether its first packet has the marker bit, as section 2.5.1.1 asks.
      end_repeats: how many packets with the end bit; section 2.5.1.4 asks for three.
      lose: packets that get lost on the way: 0 is the key's first, -1 its last.
      copies: how often each packet arrives.
    """

    tone_ms: int = 100
    gap_ms: int = 60
    marker: bool = True
    end_repeats: int = 3
    lose: frozenset[int] = frozenset()
    copies: int = 1

    def packets(self, digit: str, ptime_ms: int) -> Iterator[list[EventPacket]]:
        """What leaves at each tick of `ptime_ms`. Raises ValueError for what is no key."""
        event, ticks = KEYS.index(digit.upper()), max(1, self.tone_ms // ptime_ms)
        count, number = ticks - 1 + self.end_repeats, 0
        for tick in range(1, ticks + 1):
            last = tick == ticks
            elapsed = tick * ptime_ms * OCTETS_PER_MS
            payload = struct.pack("!BBH", event, (END if last else 0) | VOLUME_DBM0, min(elapsed, 0xFFFF))
            packets = []
            for _ in range(self.end_repeats if last else 1):
                lost = number in self.lose or number - count in self.lose
                back = elapsed - ptime_ms * OCTETS_PER_MS
                packets.append(EventPacket(payload, back, self.marker and number == 0, lost, self.copies))
                number += 1
            yield packets


def digits_told(packets: Iterable[tuple[int, bytes]]) -> list[DigitHeard]:
    """The keys, in the order of their first packets.

    Args:
      packets: RTP timestamp and payload of each.
    """
    found: dict[tuple[int, int], DigitHeard] = {}
    for rtp_timestamp, payload in packets:
        if len(payload) < 4 or payload[0] >= len(KEYS):
            continue
        event, flags, duration = struct.unpack_from("!BBH", payload)
        before = found.get((rtp_timestamp, event), DigitHeard(KEYS[event], 0, 0, 0))
        found[rtp_timestamp, event] = DigitHeard(
            before.digit,
            max(before.duration_ms, duration // OCTETS_PER_MS),
            before.packets + 1,
            before.ends + bool(flags & END),
        )
    return list(found.values())
