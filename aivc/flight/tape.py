"""What is kept of a call while it lasts: one run of octets, in order, within a bound.

Half of the room is for the beginning of the call; when that is full the other half goes round, so that the end of the
call is always there, and what was between is counted as missing. An RTP packet takes 34 octets, a message to the model
with audio 24, anything else its line in the file.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from struct import Struct
from typing import Final

import attrs

from aivc.flight.audio import DIGEST_OCTETS, append_with, append_without, short_digest
from aivc.flight.entries import Address, Entry, RealtimeEvent, RtpPacket, Way
from aivc.flight.fields import KINDS, read_fields
from aivc.flight.flightfile import entry_line

HEAD: Final = Struct("<Bd")  # kind, at; of every record
PACKET: Final = Struct(f"<BdHBBHIIHB{DIGEST_OCTETS}s")  # ... flow, payload type, flags, seq., time, SSRC, octets, kept
APPEND: Final = Struct(f"<BdHIB{DIGEST_OCTETS}s")  # ... session, octets, kept
OTHER: Final = Struct("<BdI")  # ... octets that follow
IS_PACKET, IS_APPEND, IS_OTHER = 1, 2, 3
IN, VOICED, MARKER = 1, 2, 4  # flags
EVENT_OCTETS: Final = 16  # at most, of payload that is no audio but a key (RFC 4733), and kept: G.711 has 80 and more
CHUNKS: Final = 16  # pieces that the ring is given up in
MOST_PEERS: Final = 1000  # addresses of media that are told apart; a call has one or two, an attacker no more


@attrs.define(eq=False)
class Tape:
    """The recording of one call. Nothing in it is masked; `at` is seconds since `origin`.

    Args:
      call_id: of the call.
      origin: when it began, seconds on trio's clock.
      most_octets: the bound.
      keeps_audio: whether payloads are kept, or their digests alone.

    Attributes:
      random: what was drawn for this call, by name.
      rtp_port: ours.
      has_failed: an error was logged.
      missing, missing_from: as in `Flight`.
    """

    call_id: str
    origin: float
    most_octets: int
    keeps_audio: bool = False
    random: dict[str, int] = attrs.field(factory=dict, init=False)
    rtp_port: int | None = attrs.field(default=None, init=False)
    has_failed: bool = attrs.field(default=False, init=False)
    missing: int = attrs.field(default=0, init=False)
    missing_from: float | None = attrs.field(default=None, init=False)
    _last: float = attrs.field(default=0.0, init=False)
    _sessions: int = attrs.field(default=0, init=False)
    _peers: dict[Address, int] = attrs.field(factory=dict, init=False)
    _beginning: bytearray = attrs.field(factory=bytearray, init=False)
    _has_begun: bool = attrs.field(default=True, init=False)  # the beginning has room
    _ring: deque[Chunk] = attrs.field(factory=deque, init=False)
    _ring_octets: int = attrs.field(default=0, init=False)

    @property
    def octets(self) -> int:
        """What it takes."""
        return len(self._beginning) + self._ring_octets

    def at(self, now: float) -> float:
        """The time of an entry; never before the one before, which a clock's tick may have begun earlier than."""
        self._last = max(self._last, now - self.origin)
        return self._last

    def next_session(self) -> int:
        """The number of the next connection to the model."""
        self._sessions += 1
        return self._sessions

    def note(self, entry: Entry) -> None:
        """Any entry; RTP and appends have shorter ways of their own."""
        data = entry_line(entry)
        self._put(OTHER.pack(IS_OTHER, entry.at, len(data)) + data, entry.at)

    def note_packet(
        self,
        now: float,
        way: Way,
        peer: Address,
        payload_type: int,
        marker: bool,
        sequence: int,
        rtp_timestamp: int,
        ssrc: int,
        payload: bytes,
        is_voiced: bool,
    ) -> None:
        """One RTP packet."""
        at = self.at(now)
        index = self._peers.get(peer)
        if index is None:
            if len(self._peers) >= MOST_PEERS:
                self._miss(at)
                return
            index = self._peers[peer] = len(self._peers)
        flags = (way == "in") * IN | is_voiced * VOICED | marker * MARKER
        keeps = self.keeps_audio or len(payload) <= EVENT_OCTETS
        record = PACKET.pack(
            IS_PACKET,
            at,
            index,
            payload_type,
            flags,
            sequence,
            rtp_timestamp,
            ssrc,
            len(payload),
            keeps,
            short_digest(payload),
        )
        self._put(record + payload if keeps else record, at)

    def note_append(self, now: float, session: int, audio: bytes) -> None:
        """One `input_audio_buffer.append`."""
        at = self.at(now)
        record = APPEND.pack(IS_APPEND, at, min(session, 0xFFFF), len(audio), self.keeps_audio, short_digest(audio))
        self._put(record + audio if self.keeps_audio else record, at)

    def entries(self, *, media: bool = True) -> Iterator[Entry]:
        """All that is there, in order; without RTP and appends, if they are not wanted."""
        peers = list(self._peers)
        for chunk in (self._beginning, *(chunk.records for chunk in self._ring)):
            yield from entries_of(memoryview(chunk), peers, media)

    def _put(self, record: bytes, at: float) -> None:
        if self._has_begun and len(self._beginning) + len(record) <= self.most_octets // 2:
            self._beginning += record
            return
        self._has_begun = False  # what is shorter may not go before what is longer
        most = self.most_octets // 2
        if len(record) > most:
            self._miss(at)
            return
        ring = self._ring
        if not ring or len(ring[-1].records) + len(record) > most // CHUNKS:
            ring.append(Chunk(at))
        ring[-1].records += record
        ring[-1].count += 1
        self._ring_octets += len(record)
        while self._ring_octets > most:
            lost = ring.popleft()
            self._ring_octets -= len(lost.records)
            self._miss(lost.first_at, lost.count)

    def _miss(self, at: float, count: int = 1) -> None:
        self.missing += count
        self.missing_from = at if self.missing_from is None else min(at, self.missing_from)


@attrs.define(eq=False)
class Chunk:
    """A piece of the ring, given up as a whole."""

    first_at: float
    records: bytearray = attrs.field(factory=bytearray)
    count: int = 0


def entries_of(records: memoryview, peers: list[Address], media: bool) -> Iterator[Entry]:
    """What `Tape` has packed."""
    start = 0
    while start < len(records):
        kind = records[start]
        if kind == IS_PACKET:
            *_, octets, kept, _ = PACKET.unpack_from(records, start)
            end = start + PACKET.size + octets * kept
            if media:
                yield packet_of(records, start, end, peers)
        elif kind == IS_APPEND:
            _, at, session, octets, kept, digest = APPEND.unpack_from(records, start)
            end = start + APPEND.size + octets * kept
            if media:
                audio = bytes(records[start + APPEND.size : end])
                text = append_with(audio) if kept else append_without(digest.hex(), octets)
                yield RealtimeEvent(at, "out", session, text)
        else:
            _, _, octets = OTHER.unpack_from(records, start)
            end = start + OTHER.size + octets
            fields = json.loads(bytes(records[start + OTHER.size : end]))
            yield read_fields(KINDS[fields["kind"]], fields)
        start = end


def packet_of(records: memoryview, start: int, end: int, peers: list[Address]) -> RtpPacket:
    _, at, index, payload_type, flags, sequence, rtp_timestamp, ssrc, octets, kept, digest = PACKET.unpack_from(
        records, start
    )
    return RtpPacket(
        at=at,
        way="in" if flags & IN else "out",
        peer=peers[index],
        payload_type=payload_type,
        marker=bool(flags & MARKER),
        sequence=sequence,
        rtp_timestamp=rtp_timestamp,
        ssrc=ssrc,
        octets=octets,
        digest=digest.hex(),
        is_voiced=bool(flags & VOICED),
        payload=bytes(records[start + PACKET.size : end]) if kept else None,
    )
