"""A recording for reading: what comes fifty times a second made into runs, everything else as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

import attrs

from aivc.flight.entries import Datagram, Entry, RealtimeEvent, RtpPacket, Way
from aivc.media.g711 import OCTETS_PER_MS
from aivc.replaying.alike import loaded
from aivc.replaying.appends import is_append

PAUSE: Final = 0.5  # seconds without a voiced packet that end an utterance
GAP: Final = 0.2  # seconds without any packet that end a run
WORTH_TELLING: Final = 0.060  # seconds between two packets
SILENT_EVENTS: Final = 2.0  # seconds without one of its kind that end a run of events
TOGETHER: Final = 0.050  # seconds in which events are told as one
HALF: Final = 1 << 15
# What an answer is made of is told by its audio, words and function calls, and by `response.done`.
PROGRESS: Final = frozenset(
    {f"response.{part}.{what}" for part in ("output_item", "content_part") for what in ("added", "done")}
    | {f"conversation.item.{what}" for what in ("added", "done", "created")}
    | {"response.output_audio.done", "response.audio.done", "rate_limits.updated", "input_audio_buffer.committed"}
)
AUDIO_TYPES: Final = (0, 8)
TYPES: Final = {0: "PCMU", 8: "PCMA", 13: "CN"}

What = Literal["speech", "silence", "keys", "other"]


@attrs.define
class PacketRun:
    """Packets of RTP in one direction, one after the other, all of them speech or none."""

    first: RtpPacket
    at: float
    way: Way
    what: What
    payload_type: int
    until: float
    packets: int = 0
    lost: int = 0
    out_of_order: int = 0
    longest_gap: float = 0.0

    @property
    def seconds(self) -> float:
        return self.until - self.at


@attrs.define
class EventRun:
    """Events of one type in one direction: audio, or the words of one item."""

    first: RealtimeEvent
    at: float
    way: Way
    session: int
    type: str
    item_id: str
    until: float
    events: int = 0
    octets: int = 0  # of audio
    text: str = ""


@attrs.define
class ControlRun:
    """All RTCP of one direction, or all that was no RTP."""

    first: Datagram
    at: float
    way: Way
    is_control: bool
    datagrams: int = 0


@attrs.define
class EventGroup:
    """Events that only say how far an answer has come, one right after the other."""

    first: RealtimeEvent
    at: float
    way: Way
    types: list[str] = attrs.field(factory=list)


Run = PacketRun | EventRun | EventGroup | ControlRun


def folded(entries: Sequence[Entry]) -> list[Entry | Run]:
    """The entries and runs in the order of their beginning."""
    packets = [entry for entry in entries if isinstance(entry, RtpPacket)]
    found: list[Entry | Run] = [
        *packet_runs([packet for packet in packets if packet.way == "in"]),
        *packet_runs([packet for packet in packets if packet.way == "out"]),
        *control_runs([entry for entry in entries if isinstance(entry, Datagram)]),
        *event_runs([entry for entry in entries if isinstance(entry, RealtimeEvent)]),
        *(entry for entry in entries if not isinstance(entry, (RtpPacket, Datagram, RealtimeEvent))),
    ]
    place = {id(entry): number for number, entry in enumerate(entries)}
    return grouped(sorted(found, key=lambda each: place[id(each.first if isinstance(each, Run) else each)]))


def grouped(found: Sequence[Entry | Run]) -> list[Entry | Run]:
    """With `EventGroup`s for events that are neighbours."""
    made: list[Entry | Run] = []
    for each in found:
        kind = str(loaded(each.text).get("type")) if isinstance(each, RealtimeEvent) else ""
        if not isinstance(each, RealtimeEvent) or kind not in PROGRESS:
            made.append(each)
            continue
        last = made[-1] if made else None
        if not (isinstance(last, EventGroup) and each.at - last.at <= TOGETHER):
            last = EventGroup(each, each.at, each.way)
            made.append(last)
        last.types.append(kind)
    return made


# RTP


def packet_runs(packets: Sequence[RtpPacket]) -> Iterator[PacketRun]:
    """Runs of the packets of one direction, which are in their order."""
    spoken = speech_at(packets)
    run: PacketRun | None = None
    before: RtpPacket | None = None
    for packet in packets:
        what = what_of(packet, spoken)
        is_same = run is not None and (run.what, run.payload_type) == (what, packet.payload_type)
        if run is None or not is_same or before is None or packet.at - before.at > GAP or packet.ssrc != before.ssrc:
            if run is not None:
                yield run
            run = PacketRun(packet, packet.at, packet.way, what, packet.payload_type, packet.at)
        add(run, packet, before if before is not None and before.ssrc == packet.ssrc else None)
        before = packet
    if run is not None:
        yield run


def add(run: PacketRun, packet: RtpPacket, before: RtpPacket | None) -> None:
    run.packets += 1
    run.until = packet.at + packet.octets / (1000 * OCTETS_PER_MS) * (run.what != "keys")
    if before is None:
        return
    step = (packet.sequence - before.sequence) & 0xFFFF
    if step == 0 or step >= HALF:
        run.out_of_order += 1
        run.lost = max(0, run.lost - 1)
    else:
        run.lost += step - 1
    if run.packets > 1:
        run.longest_gap = max(run.longest_gap, packet.at - before.at)


def what_of(packet: RtpPacket, spoken: set[int]) -> What:
    if packet.payload_type not in AUDIO_TYPES:
        return "keys" if packet.payload_type >= 96 else "other"  # RFC 3551 section 6: dynamic from there on
    return "speech" if id(packet) in spoken else "silence"


def speech_at(packets: Sequence[RtpPacket]) -> set[int]:
    """Which packets, by `id`, belong to utterances: voiced ones, and those between them."""
    found: set[int] = set()
    between: list[RtpPacket] = []
    last: float | None = None
    for packet in packets:
        between.append(packet)
        if packet.is_voiced:
            if last is not None and packet.at - last <= PAUSE:
                found.update(map(id, between))
            found.add(id(packet))
            between.clear()
            last = packet.at
    return found


# Events


def event_runs(events: Sequence[RealtimeEvent]) -> Iterator[RealtimeEvent | EventRun]:
    """Runs of appends and deltas; all other events as they are."""
    runs: dict[tuple[Way, int, str, str], EventRun] = {}
    for entry in events:
        event = loaded(entry.text)
        kind = str(event.get("type", ""))
        if not (is_append(entry.text) or kind.endswith(".delta")):
            yield entry
            continue
        key = (entry.way, entry.session, kind, str(event.get("item_id", "")))
        run = runs.get(key)
        if run is None or entry.at - run.until > SILENT_EVENTS:
            run = runs[key] = EventRun(entry, entry.at, *key, entry.at)
            yield run
        take(run, entry, event)


def take(run: EventRun, entry: RealtimeEvent, event: dict[str, Any]) -> None:
    run.events += 1
    run.until = entry.at
    if "audio" in event or run.type in ("response.audio.delta", "response.output_audio.delta"):
        run.octets += audio_octets(event.get("audio", event.get("delta")))
    elif isinstance(event.get("delta"), str):
        run.text += event["delta"]


def audio_octets(value: object) -> int:
    """Octets of audio, whether it was kept or not."""
    if isinstance(value, dict):
        octets = value.get("octets")
        return octets if isinstance(octets, int) else 0
    return len(value) * 3 // 4 - value.endswith("=") - value.endswith("==") if isinstance(value, str) else 0


def control_runs(datagrams: Sequence[Datagram]) -> list[ControlRun]:
    runs: dict[tuple[Way, bool], ControlRun] = {}
    for entry in datagrams:
        key = entry.way, entry.is_control or is_report(entry.data)
        runs.setdefault(key, ControlRun(entry, entry.at, *key)).datagrams += 1
    return list(runs.values())


def is_report(data: bytes) -> bool:
    """Whether it is RTCP (RFC 5761 section 4)."""
    return len(data) >= 2 and 192 <= data[1] <= 223
