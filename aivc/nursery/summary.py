"""What is told of a call when it is over: its record, and the one line of the log."""

from __future__ import annotations

import logging

import attrs
import trio

from aivc import logs
from aivc.media.stream import RtpCounters
from aivc.nursery.cost import cost
from aivc.nursery.ending import advice_for
from aivc.nursery.ground import Progress
from aivc.nursery.latency import summary
from aivc.nursery.performer import Announcer
from aivc.nursery.record import CallRecord
from aivc.sip.leg import Leg

log = logging.getLogger("aivc.call")


def make_record(leg: Leg, progress: Progress, announcer: Announcer) -> CallRecord:
    turns, performer = progress.turns, progress.performer
    conversation = performer.conversation if performer else None
    if performer is not None:  # what was not played will never be heard: the transcript must not have it
        performer.conversation.playout_cut(performer.playout.cut(), trio.current_time())
    usage = conversation.usage.with_totals(progress.announced) if conversation else None
    return CallRecord(
        call_id=leg.call_id,
        caller=leg.caller,
        dialled=leg.dialled,
        codec=leg.agreement.codec,
        ending=progress.over.ending,
        detail=progress.over.detail,
        started_at=progress.started_at,
        answered_at=progress.answered_at,
        ended_at=progress.ended_at,
        rtp=progress.stream.statistics() if progress.stream is not None else RtpCounters(),
        quality=progress.stream.quality() if progress.stream is not None else None,
        greeted_at=turns.greeted_at,
        latencies=tuple(turns.latencies),
        cuts=tuple(turns.cuts),
        tools=tuple(turns.tools),
        realtime_errors=dict(turns.errors),
        protocol_violations=turns.violations,
        refused_octets=performer.playout.refused_octets if performer else 0,
        late_deltas=conversation.dropped_deltas if conversation else 0,
        refused_requests=conversation.responses.refused_requests if conversation else 0,
        forgotten_tools=conversation.tools.forgotten if conversation else 0,
        agent=progress.agent,
        transcript=tuple(conversation.history.utterances) if conversation else (),
        digits=tuple(turns.digits),
        transfers=tuple(turns.transfers),
        usage=usage,
        cost_usd=cost(usage, progress.prices) if usage else None,
        errors_by_kind=dict(turns.errors_by_kind),
        sessions=turns.sessions,
        false_interruptions=conversation.false_interruptions if conversation else 0,
        headers=progress.headers,
        observer_missed=announcer.missed,
        dropped_keys=turns.dropped_keys,
        dropped_events=turns.dropped_events,
    )


def log_record(record: CallRecord) -> None:
    """The one line that says how a call ended."""
    rtp = {name: count for name, count in attrs.asdict(record.rtp).items() if count}
    seconds, detail = round(record.duration_seconds, 3), record.detail or None
    ending, advice = record.ending.value, advice_for(record.ending)
    latency = summary(record.latencies) or None
    logs.event(
        log, "call.ended", ending=ending, detail=detail, advice=advice, seconds=seconds, latency=latency, rtp=rtp
    )
