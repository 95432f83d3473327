"""A call's record as one JSON object. docs/records.md tells every field; within a version none changes its meaning."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import attrs

from aivc import logs
from aivc.media.reports import Quality
from aivc.nursery.ending import advice_for
from aivc.nursery.latency import PARTS, TurnLatency, in_tenths
from aivc.nursery.record import CallRecord, Cut, DigitEntry, ToolRun, TransferRun

VERSION: Final = 1

Json = dict[str, Any]


def to_json(record: CallRecord, *, transcripts: bool, unix_offset: float) -> Json:
    """Return an object of JSON's own types. All its keys are always there.

    Args:
      transcripts: whether what was said, the digits, and the arguments and outputs of tools are in it; else null.
      unix_offset: seconds since 1970 less trio's clock, at any moment of the call.
    """

    def moment(at: float | None) -> str | None:
        return None if at is None else iso_time(at + unix_offset)

    def since_answer(at: float | None) -> int | None:
        return None if at is None or record.answered_at is None else milliseconds(at - record.answered_at)

    def private(text: str) -> str | None:
        return text if transcripts else None

    def latency(turn: TurnLatency) -> Json:
        phases = (turn.endpointing_ms, turn.response_ms, turn.first_audio_ms, turn.playout_ms)
        names = ("endpointing_ms", "response_ms", "first_audio_ms", "playout_ms")
        return {
            "item_id": turn.item_id,
            "began_at": moment(turn.began_at),
            "total_ms": round(turn.total_ms, 1),
            **dict(zip(names, in_tenths(phases), strict=True)),
            "parts": dict(zip(PARTS, in_tenths(attrs.astuple(turn.parts)), strict=True)),
            "caller_network_ms": None if turn.caller_network_ms is None else round(turn.caller_network_ms, 1),
        }

    def cut(item: Cut) -> Json:
        return {"at": moment(item.at), "since_answer_ms": since_answer(item.at), **without(item, "at")}

    def tool(run: ToolRun) -> Json:
        return {
            "call_id": run.call_id,
            "name": run.name,
            "outcome": run.outcome,
            "started_at": moment(run.started_at),
            "duration_ms": milliseconds(run.duration_seconds),
            "arguments_digest": run.arguments_digest,
            "arguments": private(run.arguments),
            "output": private(run.output),
        }

    def entry(keys: DigitEntry) -> Json:
        return {"at": moment(keys.at), "source": keys.source, "digits": private(keys.digits)}

    def transfer(run: TransferRun) -> Json:
        times = {"started_at": moment(run.started_at), "ended_at": moment(run.ended_at)}
        return {"target": run.target, **times, **without(run, "target", "started_at", "ended_at")}

    return {
        "version": VERSION,
        "call_id": record.call_id,
        "agent": record.agent,
        "caller": record.caller,
        "dialled": record.dialled,
        "headers": dict(record.headers),
        "codec": record.codec,
        "started_at": moment(record.started_at),
        "answered_at": moment(record.answered_at),
        "ended_at": moment(record.ended_at),
        "duration_seconds": round(record.duration_seconds, 3),
        "ending": record.ending.value,
        "detail": logs.redacted(record.detail),
        "advice": advice_for(record.ending),
        "sessions": record.sessions,
        "transcript": [{**without(line, "text"), "text": private(line.text)} for line in record.transcript],
        "greeting_ms": since_answer(record.greeted_at),
        "latencies": [latency(turn) for turn in record.latencies],
        "interruptions": [cut(item) for item in record.cuts],
        "false_interruptions": record.false_interruptions,
        "tools": [tool(run) for run in record.tools],
        "digits": [entry(keys) for keys in record.digits],
        "transfers": [transfer(run) for run in record.transfers],
        "usage": None if record.usage is None else attrs.asdict(record.usage),
        "cost_usd": None if record.cost_usd is None else round(record.cost_usd, 6),
        "errors": dict(record.realtime_errors),
        "errors_by_kind": dict(record.errors_by_kind),
        "rtp": attrs.asdict(record.rtp),
        "quality": None if record.quality is None else rounded(record.quality),
        "dropped": {
            "protocol_violations": record.protocol_violations,
            "refused_octets": record.refused_octets,
            "late_deltas": record.late_deltas,
            "refused_requests": record.refused_requests,
            "forgotten_tools": record.forgotten_tools,
            "observer_missed": record.observer_missed,
            "keys": record.dropped_keys,
            "events": record.dropped_events,
        },
    }


def iso_time(unix_time: float) -> str:
    """UTC to the millisecond, as RFC 3339 writes it: `2026-03-01T12:00:00.000Z`."""
    return datetime.fromtimestamp(unix_time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def rounded(quality: Quality) -> Json:
    """Milliseconds to a tenth, fractions to a ten thousandth."""
    digits = {"ms": 1, "fraction": 4}
    return {
        name: round(value, digits.get(name.rpartition("_")[2], 0)) if isinstance(value, float) else value
        for name, value in attrs.asdict(quality).items()
    }


def without(value: attrs.AttrsInstance, *names: str) -> Json:
    """The fields of a value but for these."""
    return attrs.asdict(value, filter=lambda field, _: field.name not in names)
