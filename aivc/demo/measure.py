"""What one demo call was like, measured at its two ends: the phone and the model. The service is not asked.

Only the parts of each answer's latency come from the service's own record: nobody else sees them.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import attrs

from aivc.demo.caller import Spoken
from aivc.demo.recording import AudioFrame, CallRecording, Delay, Gap, Interruption, ToolUse, Turn
from aivc.media.g711 import FRAME_MS, FRAME_OCTETS, OCTETS_PER_MS, is_voiced
from aivc.nursery.latency import PARTS
from aivc.nursery.record import CallEvent, CallRecord, Ended, ModelAudible
from aivc.realtime.effects import ModelSaid
from aivc.testing.caller import PhoneCall
from aivc.testing.handset import Handset
from aivc.testing.session import Session

SHORTEST_MS: Final = 0.5  # of a part of a silence that is worth a column


@attrs.frozen
class ModelItem:
    """What the model sent of one item."""

    item_id: str
    first_delta_at: float  # seconds on trio's clock
    octets: bytes


def measured(call: PhoneCall, session: Session, said: Sequence[Spoken], events: Sequence[CallEvent]) -> CallRecording:
    """Put together a whole call, which has ended."""
    origin = call.answered_at or 0.0
    handset = call.handset
    record = next(event.what.record for event in events if isinstance(event.what, Ended))
    items = list(model_items(session))
    return CallRecording(
        codec=handset.codec,
        duration=record.duration_seconds,
        caller=tuple(AudioFrame(sent.at - origin, sent.payload) for sent in handset.sent),
        model=tuple(AudioFrame(heard.at - origin, heard.payload) for heard in handset.heard),
        turns=tuple(sorted([*caller_turns(said, origin), *model_turns(events, items, record, origin)], key=by_start)),
        tools=tuple(
            ToolUse(run.name, run.arguments, run.output, run.started_at - origin, run.ended_at - origin)
            for run in record.tools
        ),
        interruptions=tuple(interruptions(record, said, handset, origin)),
        gaps=tuple(gaps(record, origin)),
        delays=tuple(delays(handset, session, items)),
        ending=record.ending.value,
        packets_sent=len(handset.sent),
        packets_received=len(handset.heard),
        packets_lost=packets_lost(handset),
    )


def by_start(turn: Turn) -> float:
    return turn.start


def model_items(session: Session) -> Iterator[ModelItem]:
    """Each item's audio as the model sent it."""
    deltas: dict[str, list[tuple[float, bytes]]] = {}
    for seen in session.events_sent:
        if seen.event["type"] in ("response.output_audio.delta", "response.audio.delta"):
            octets = base64.b64decode(seen.event["delta"])
            deltas.setdefault(seen.event["item_id"], []).append((seen.at, octets))
    for item_id, parts in deltas.items():
        yield ModelItem(item_id, parts[0][0], b"".join(octets for _, octets in parts))


def caller_turns(said: Sequence[Spoken], origin: float) -> Iterator[Turn]:
    for spoken in said:
        yield Turn("caller", spoken.start - origin, spoken.end - origin, spoken.text)


def model_turns(
    events: Sequence[CallEvent], items: Sequence[ModelItem], record: CallRecord, origin: float
) -> Iterator[Turn]:
    """The items that became audible; a cut one ends where it was cut."""
    words = {event.what.item_id: event.what.transcript for event in events if isinstance(event.what, ModelSaid)}
    seconds = {item.item_id: len(item.octets) / OCTETS_PER_MS / 1000 for item in items}
    cuts = {cut.item_id: cut.at - origin for cut in record.cuts}
    for event in events:
        if isinstance(event.what, ModelAudible):
            item_id, start = event.what.item_id, event.what.at - origin
            end = cuts.get(item_id, start + seconds.get(item_id, 0.0))
            yield Turn("model", start, end, words.get(item_id, ""), cuts.get(item_id))


def gaps(record: CallRecord, origin: float) -> Iterator[Gap]:
    """The silences before the answers; a part that is nothing in all of them is left out."""
    told = [name for name in PARTS if any(getattr(turn.parts, name) >= SHORTEST_MS for turn in record.latencies)]
    for latency in record.latencies:
        parts = [(part_name(name), getattr(latency.parts, name)) for name in told]
        rest = latency.total_ms - sum(part_ms for _, part_ms in parts)  # what was left out: some microseconds
        if parts:
            parts[-1] = parts[-1][0], parts[-1][1] + rest
        yield Gap(latency.began_at - origin, tuple(parts))


def part_name(name: str) -> str:
    """What it is, and whose, such as `playout (us)`."""
    what, owner = name.removesuffix("_ms"), PARTS[name]
    return what if what == owner else f"{what} ({owner})"


def interruptions(
    record: CallRecord, said: Sequence[Spoken], handset: Handset, origin: float
) -> Iterator[Interruption]:
    """From the caller's first audible packet to the last one of the model."""
    for cut in record.cuts:
        began = max((spoken.start for spoken in said if spoken.start <= cut.at), default=cut.at)
        voiced = [sent.at for sent in handset.sent if sent.at >= began and is_voiced(sent.payload, handset.codec)]
        last = [p.at for p in handset.heard if p.at <= cut.at + 0.1 and is_voiced(p.payload, handset.codec)]
        stopped_after_ms = 1000 * (last[-1] - voiced[0]) if voiced and last else 0.0
        yield Interruption(cut.at - origin, cut.heard_ms, cut.received_ms, max(0.0, stopped_after_ms))


def delays(handset: Handset, session: Session, items: Sequence[ModelItem]) -> Iterator[Delay]:
    yield delay("added inwards", list(inward_ms(handset, session)))
    yield delay("added outwards", list(outward_ms(handset, items)))
    yield delay("pacing error", [abs(1000 * (b.at - a.at) - FRAME_MS) for a, b in pairwise(handset.heard)])


def inward_ms(handset: Handset, session: Session) -> Iterator[float]:
    """For every packet: from the phone's socket to the append that the model read, matched octet by octet."""
    sent = iter(handset.sent)
    for seen in session.events_received:
        if seen.event.get("type") == "input_audio_buffer.append":
            octets = base64.b64decode(seen.event["audio"])
            packet = next((packet for packet in sent if packet.payload == octets), None)
            if packet is not None:
                yield 1000 * (seen.at - packet.at)


def outward_ms(handset: Handset, items: Sequence[ModelItem]) -> Iterator[float]:
    """For every item: from its first delta to the packet with its first octets, which waits for the next 20 ms."""
    for item in items:
        first = item.octets[:FRAME_OCTETS]
        packet = next((p for p in handset.heard if p.at >= item.first_delta_at and p.payload == first), None)
        if packet is not None:
            yield 1000 * (packet.at - item.first_delta_at)


def delay(name: str, values_ms: list[float]) -> Delay:
    ordered = sorted(values_ms) or [0.0]
    return Delay(name, ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100], ordered[-1], count=len(values_ms))


def packets_lost(handset: Handset) -> int:
    """Gaps in the sequence of what the phone heard."""
    return sum((b.sequence - a.sequence - 1) & 0xFFFF for a, b in pairwise(handset.heard))
