"""The picture that `aivc demo` draws of its call, of a recorded one: from what was on the wire, and the record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import attrs

from aivc.config.settings import Codec
from aivc.demo.measure import SHORTEST_MS, part_name
from aivc.demo.recording import AudioFrame, CallRecording, Gap, Interruption, ToolUse, Turn
from aivc.demo.timeline import draw_timeline
from aivc.demo.transcript import printable
from aivc.flight.entries import Entry, Flight, RealtimeEvent, RtpPacket, StateChange, ToolEntry
from aivc.media.g711 import LINEAR, OCTETS_PER_MS
from aivc.nursery.latency import PARTS
from aivc.replaying.alike import loaded
from aivc.replaying.entering import codec_of
from aivc.replaying.folding import AUDIO_TYPES, PacketRun, audio_octets, packet_runs

SHORTEST_TURN: Final = 0.1  # seconds
NEAR: Final = 1.0  # seconds from an utterance to what the model says of it
LOUDEST, QUIETEST, STEP = 9000, 2500, 500  # 16-bit units: how speech is drawn of which only digests are kept
TRUNCATIONS: Final = ("conversation.item.truncate", "conversation.item.delete")
AUDIO_DELTAS: Final = ("response.output_audio.delta", "response.audio.delta")
TRANSCRIPTS: Final = ("response.output_audio_transcript.done", "response.audio_transcript.done")
HEARD: Final = "conversation.item.input_audio_transcription.completed"


def picture(flight: Flight) -> str:
    """The call as an SVG document."""
    return draw_timeline(recording_of(flight), f"call {printable(flight.header.call_id)[:24]}")


@attrs.define
class Item:
    """What the model said in one piece, and what became of it."""

    item_id: str
    came_at: float
    octets: int = 0
    text: str = ""
    cut_at: float | None = None
    heard_ms: int = 0
    start: float = 0.0
    end: float = 0.0


def recording_of(flight: Flight) -> CallRecording:
    """What the picture is made of; times since the answer."""
    origin, codec = answered_at(flight.entries), codec_of(flight)
    sent, received = packets(flight.entries, "out"), packets(flight.entries, "in")
    events = [(entry, loaded(entry.text)) for entry in flight.entries if isinstance(entry, RealtimeEvent)]
    items = placed(items_of(events), sent)
    record = flight.record or {}
    until = max((entry.at for entry in (*sent, *received)), default=flight.entries[-1].at if flight.entries else 0.0)
    talk = [run for run in packet_runs(received) if run.what == "speech" and run.seconds >= SHORTEST_TURN]
    turns = sorted([*caller_turns(talk, events, origin), *model_turns(items, origin)], key=lambda turn: turn.start)
    runs = [*packet_runs(received)]
    return CallRecording(
        codec=codec,
        duration=max(until - origin, 0.1),
        caller=tuple(frames(received, codec, origin)),
        model=tuple(frames(sent, codec, origin)),
        turns=tuple(turns),
        tools=tuple(tools(flight.entries, origin)),
        interruptions=tuple(interruptions(items, talk, sent, origin)),
        gaps=tuple(gaps(record, origin, flight.header.began_at)),
        delays=(),
        ending=str(record.get("ending", "cut off")),
        packets_sent=len(sent),
        packets_received=len(received),
        packets_lost=sum(run.lost for run in runs),
    )


def answered_at(entries: Sequence[Entry]) -> float:
    """When the call was answered, or its first packet of ours left."""
    for entry in entries:
        if isinstance(entry, StateChange) and entry.what == "answered":
            return entry.at
        if isinstance(entry, RtpPacket) and entry.way == "out":
            return entry.at
    return 0.0


def packets(entries: Sequence[Entry], way: str) -> list[RtpPacket]:
    """Of audio, in one direction."""
    return [
        entry
        for entry in entries
        if isinstance(entry, RtpPacket) and entry.way == way and entry.payload_type in AUDIO_TYPES
    ]


# Sound


def frames(sent: Sequence[RtpPacket], codec: Codec, origin: float) -> Iterator[AudioFrame]:
    """What was kept, or something as loud as speech is where somebody spoke."""
    waves = [wave(level, codec) for level in range(QUIETEST, LOUDEST, STEP)]
    for packet in sent:
        octets = packet.payload
        if octets is None:
            octets = waves[int(packet.digest[:8], 16) % len(waves)] * (packet.octets // 2) if packet.is_voiced else b""
        yield AudioFrame(packet.at - origin, octets)


def wave(level: int, codec: Codec) -> bytes:
    """Two octets, up and down, nearest to this level."""
    samples = LINEAR[codec]
    up = min(range(256), key=lambda octet: abs(samples[octet] - level))
    down = min(range(256), key=lambda octet: abs(samples[octet] + level))
    return bytes((up, down))


# The model


def items_of(events: Sequence[tuple[RealtimeEvent, dict[str, Any]]]) -> list[Item]:
    items: dict[str, Item] = {}
    for entry, event in events:
        kind, item_id = event.get("type"), str(event.get("item_id", ""))
        if kind in AUDIO_DELTAS:
            item = items.setdefault(item_id, Item(item_id, entry.at))
            item.octets += audio_octets(event.get("delta"))
        elif item_id in items and kind in TRANSCRIPTS:
            items[item_id].text = str(event.get("transcript", ""))
        elif item_id in items and kind in TRUNCATIONS and entry.way == "out":
            items[item_id].cut_at = entry.at
            items[item_id].heard_ms = int(event.get("audio_end_ms", 0))
    return list(items.values())


def placed(items: Sequence[Item], sent: Sequence[RtpPacket]) -> list[Item]:
    """With the times in which they were spoken: one after the other, each from the first packet that could have it."""
    free = 0.0
    for item in items:
        earliest = max(item.came_at, free)
        item.start = next((packet.at for packet in sent if packet.at >= earliest and packet.is_voiced), earliest)
        whole = item.start + item.octets / (1000 * OCTETS_PER_MS)
        item.end = whole if item.cut_at is None else min(whole, max(item.cut_at, item.start))
        free = item.end
    return [item for item in items if item.end > item.start]


def model_turns(items: Sequence[Item], origin: float) -> Iterator[Turn]:
    for item in items:
        cut = None if item.cut_at is None else item.cut_at - origin
        yield Turn("model", item.start - origin, item.end - origin, item.text, cut)


def interruptions(
    items: Sequence[Item], talk: Sequence[PacketRun], sent: Sequence[RtpPacket], origin: float
) -> Iterator[Interruption]:
    for item in items:
        if item.cut_at is not None:
            began = max((run.at for run in talk if run.at <= item.cut_at), default=item.cut_at)
            last = max((p.at for p in sent if p.is_voiced and p.at <= item.cut_at + 0.1), default=began)
            received_ms = item.octets // OCTETS_PER_MS
            yield Interruption(item.cut_at - origin, item.heard_ms, received_ms, max(0.0, 1000 * (last - began)))


# The caller


def caller_turns(
    talk: Sequence[PacketRun], events: Sequence[tuple[RealtimeEvent, dict[str, Any]]], origin: float
) -> Iterator[Turn]:
    words = {str(event.get("item_id")): str(event.get("transcript", "")) for _, event in events if is_heard(event)}
    began = [
        (entry.at, str(event.get("item_id")))
        for entry, event in events
        if event.get("type") == "input_audio_buffer.speech_started"
    ]
    for run in talk:
        own = [item_id for at, item_id in began if run.at <= at <= run.until + NEAR]
        text = " ".join(words[item_id] for item_id in own if item_id in words)
        yield Turn("caller", run.at - origin, run.until - origin, text)


def is_heard(event: Mapping[str, Any]) -> bool:
    return event.get("type") == HEARD


# What happened between them


def tools(entries: Sequence[Entry], origin: float) -> Iterator[ToolUse]:
    called: dict[str, ToolEntry] = {}
    for entry in entries:
        if isinstance(entry, ToolEntry) and entry.what == "called":
            called[entry.call_id] = entry
        elif isinstance(entry, ToolEntry) and (began := called.pop(entry.call_id, None)) is not None:
            yield ToolUse(began.name, began.text, entry.text, began.at - origin, entry.at - origin)


def gaps(record: Mapping[str, Any], origin: float, call_began_at: float) -> Iterator[Gap]:
    """The silences before the answers, by the record; a part that is nothing in all of them is left out."""
    latencies = [latency for latency in record.get("latencies", ()) if isinstance(latency.get("parts"), dict)]
    told = [name for name in PARTS if any(latency["parts"].get(name, 0.0) >= SHORTEST_MS for latency in latencies)]
    for latency in latencies:
        start = datetime.fromisoformat(latency["began_at"]).timestamp() - call_began_at - origin
        yield Gap(start, tuple((part_name(name), float(latency["parts"].get(name, 0.0))) for name in told))
