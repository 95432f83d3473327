"""A status for people, as plain text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final

from aivc.nursery.latency import PARTS
from aivc.nursery.status import CallInProgress, Counts, Histogram, Json, Status, from_json
from aivc.nursery.tally import PART_SECONDS

MOST_CALLS: Final = 50  # lines; /status has them all
MEBI: Final = 2**20
RTP_SHOWN: Final = ("received", "sent", "lost", "late", "heard_dropped", "send_errors")  # the log has all, by call


def table(found: Json) -> str:
    """What `aivc.nursery.asking.fetch_status` returns, as lines."""
    total, workers = from_json(found), [from_json(worker) for worker in found["workers"]]
    rows = [(name, text) for name, text in facts(total) if text]
    width = max(len(name) for name, _ in rows)
    lines = [headline(total), *(f"  {name:<{width}}  {text}" for name, text in rows)]
    if len(workers) > 1:
        lines += ["", *aligned([("worker", "pid", "calls", "pacing", "memory", ""), *map(worker_row, workers)])]
    if total.in_progress:
        shown = total.in_progress[:MOST_CALLS]
        lines += ["", *aligned([("call", "state", "since", "caller", "agent"), *map(call_row, shown)])]
        lines += [f"  and {len(total.in_progress) - MOST_CALLS} more"] * (len(total.in_progress) > MOST_CALLS)
    return "".join(f"{line}\n" for line in map(printable, lines))


def headline(status: Status) -> str:
    takes = "takes calls" if status.accepting else f"takes no calls: {status.why_not}"
    return f"{status.version}, up {duration(status.uptime_seconds)}, {takes}"


def facts(status: Status) -> Iterator[tuple[str, str]]:
    """What there is to say, each with its name; "" when it is nothing."""
    answered = f"{status.answered} answered, {status.refused} refused"
    yield "calls", f"{status.calls} of {status.max_calls}, {answered}"
    yield "ended", counts(status.ended)
    yield "answer time", quantiles(status.histograms.get("answer_seconds"))
    yield "response time", quantiles(status.histograms.get("response_seconds"))
    yield "made of", owners(status.histograms)
    yield "pacing", ", ".join(filter(None, (pacing(status), f"{status.stalls} stalls" if status.stalls else "")))
    yield "rtp", counts({name: status.rtp.get(name, 0) for name in RTP_SHOWN})
    yield "dropped", counts(status.dropped)
    yield "model errors", counts(status.errors)
    yield "cost", f"{status.cost_usd:.2f} USD" if status.cost_usd else ""
    yield "opensips", {None: "", True: "subscribed", False: "not subscribed"}[status.is_subscribed]
    for one in status.registrations:
        why = ": ".join(filter(None, (one.last_error, one.advice)))
        yield "registration", f"{one.user} at {one.server}: {one.state}{why and f' ({why})'}"
    yield "records", counts({"written": status.records_written, "lost": status.records_lost})
    yield "recordings", counts(status.recordings)
    yield "process", resources(status)


def pacing(status: Status) -> str:
    return "" if status.pacing_p99_ms is None else f"p99 {status.pacing_p99_ms:.1f} ms"


def memory(status: Status) -> str:
    return "" if status.rss_octets is None else f"{status.rss_octets / MEBI:.0f} MiB"


def resources(status: Status) -> str:
    descriptors = "" if status.descriptors is None else f"{status.descriptors} descriptors"
    return ", ".join(filter(None, (memory(status), f"{status.tasks} tasks", descriptors)))


def worker_row(status: Status) -> tuple[str, ...]:
    calls = f"{status.calls} of {status.max_calls}"
    return status.worker, str(status.pid), calls, pacing(status), memory(status), status.why_not


def call_row(call: CallInProgress) -> tuple[str, ...]:
    return call.call_id, call.state, duration(call.seconds), call.caller, call.agent or ""


def counts(found: Counts) -> str:
    """Those that are not zero, the greatest first."""
    named = sorted(((name, count) for name, count in found.items() if count), key=lambda pair: -pair[1])
    return ", ".join(f"{name} {count}" for name, count in named)


def quantiles(found: Histogram | None) -> str:
    if found is None or not sum(found.counts):
        return ""
    return f"half {within(found, 0.5)}, 95 % {within(found, 0.95)}"


def owners(found: Mapping[str, Histogram]) -> str:
    """The average response time by whose it is, the greatest first."""
    turns = sum(found["response_seconds"].counts) if "response_seconds" in found else 0
    shares: Counter[str] = Counter()
    for name, owner in PARTS.items():
        part = found.get(PART_SECONDS + name.removesuffix("_ms"))
        shares[owner] += round(1000 * part.total / turns) if part and turns else 0
    return ", ".join(f"{owner} {milliseconds} ms" for owner, milliseconds in shares.most_common() if milliseconds)


def within(found: Histogram, share: float) -> str:
    """The smallest bound that so many values do not pass."""
    needed = share * sum(found.counts)
    passed: Mapping[float, int] = dict(zip(found.bounds, accumulate(found.counts), strict=False))
    bound = next((bound for bound, below in passed.items() if below >= needed), None)
    return f"not within {found.bounds[-1]:g} s" if bound is None else f"within {bound:g} s"


def duration(seconds: float) -> str:
    """In the largest two units."""
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 1:
        return f"{seconds // 1:.0f} s"
    if hours < 1:
        return f"{minutes // 1:.0f} min {seconds % 60 // 1:.0f} s"
    if hours < 24:
        return f"{hours // 1:.0f} h {minutes % 60 // 1:.0f} min"
    return f"{hours // 24:.0f} d {hours % 24 // 1:.0f} h"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def printable(line: str) -> str:
    """Call-IDs come from anybody, and a terminal obeys control characters."""
    return "".join(char if char.isprintable() else "?" for char in line)
