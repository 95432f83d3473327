"""Statuses as Prometheus reads them: its text exposition format 0.0.4, one sample a worker.

To show something more, add a line to `METRICS` and to docs/admin.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from operator import attrgetter
from typing import Final, Literal

import attrs

from aivc.nursery.status import Histogram, Status
from aivc.nursery.tally import MEASURES, PART_SECONDS

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Number = int | float
Reading = Number | Mapping[str, Number] | Mapping[str, Histogram] | Histogram | None

NOW: Final = ("server_transactions", "client_transactions", "legs")  # of the front ends' statistics: no counts


@attrs.frozen
class Metric:
    """One metric.

    Attributes:
      text: its HELP.
      read: its value in one process; None: there is none, such as what another system counts.
      label: the name of the label under which the keys of a mapping stand.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    read: Callable[[Status], Reading]
    label: str | None = None


def only(name: str, *kept: str) -> Callable[[Status], Reading]:
    """Of the counts of that name these."""
    return lambda status: {key: count for key, count in getattr(status, name).items() if key in kept}


def events(name: str) -> Callable[[Status], Reading]:
    """The counts of that name, without what is alive just now."""
    return lambda status: {key: count for key, count in getattr(status, name).items() if key not in NOW}


def one_of(name: str, key: str) -> Callable[[Status], Reading]:
    return lambda status: getattr(status, name).get(key)


def histogram(name: str, status: Status) -> Reading:
    return status.histograms.get(name)


def turn_parts(status: Status) -> Reading:
    return {
        name.removeprefix(PART_SECONDS): found
        for name, found in status.histograms.items()
        if name.startswith(PART_SECONDS)
    }


def pacing_seconds(status: Status) -> Reading:
    return None if status.pacing_p99_ms is None else status.pacing_p99_ms / 1000


def registrations(status: Status) -> Reading:
    states = [registration.state for registration in status.registrations]
    return {state: states.count(state) for state in ("off", "registering", "registered", "failed")} if states else None


count, gauge = partial(Metric, kind="counter"), partial(Metric, kind="gauge")

METRICS: Final = (
    gauge("aivc_info", text="1, with the version", read=lambda status: {status.version: 1}, label="version"),
    gauge("aivc_uptime_seconds", text="Since the start", read=attrgetter("uptime_seconds")),
    gauge("aivc_accepting", text="1 while new calls are taken, else 0", read=attrgetter("accepting")),
    gauge("aivc_draining", text="1 while the process is going down", read=attrgetter("draining")),
    gauge("aivc_calls", text="Calls in progress, ringing included", read=attrgetter("calls")),
    gauge("aivc_calls_max", text="service.max_calls", read=attrgetter("max_calls")),
    count("aivc_calls_answered_total", text="Calls answered", read=attrgetter("answered")),
    count("aivc_calls_refused_total", text="Calls refused before they began", read=attrgetter("refused")),
    count("aivc_refusals_total", text="Requests refused, by why", read=attrgetter("refusals"), label="cause"),
    count("aivc_calls_ended_total", text="Calls ended, by why", read=attrgetter("ended"), label="ending"),
    *(
        Metric(f"aivc_{measure.name}", "histogram", measure.text, partial(histogram, measure.name))
        for measure in MEASURES
    ),
    Metric("aivc_turn_part_seconds", "histogram", "What response_seconds is made of", turn_parts, label="part"),
    gauge("aivc_pacing_p99_seconds", text="How late the latest hundredth of RTP packets leaves", read=pacing_seconds),
    count("aivc_stalls_total", text="Code that kept the process from everything else", read=attrgetter("stalls")),
    count("aivc_rtp_events_total", text="RTP of the ended calls", read=attrgetter("rtp"), label="event"),
    count("aivc_dropped_total", text="Dropped for want of room or sense", read=attrgetter("dropped"), label="queue"),
    count("aivc_realtime_errors_total", text="Errors of the model's side", read=attrgetter("errors"), label="kind"),
    count("aivc_tokens_total", text="Tokens of the ended calls", read=attrgetter("tokens"), label="kind"),
    count("aivc_cost_usd_total", text="What they cost, by openai.prices", read=attrgetter("cost_usd")),
    count("aivc_sip_events_total", text="What the SIP sockets have seen", read=events("sip"), label="event"),
    gauge("aivc_sip_dialogs", text="SIP dialogs of calls", read=one_of("sip", "legs")),
    gauge(
        "aivc_sip_transactions",
        text="SIP transactions",
        read=only("sip", "server_transactions", "client_transactions"),
        label="side",
    ),
    gauge("aivc_sip_registrations", text="sip.register by state", read=registrations, label="state"),
    gauge("aivc_opensips_subscribed", text="1 while OpenSIPS sends its calls", read=attrgetter("is_subscribed")),
    gauge("aivc_opensips_sessions", text="Sessions of OpenSIPS that are ours", read=one_of("opensips", "legs")),
    count("aivc_opensips_events_total", text="Events of OpenSIPS", read=events("opensips"), label="event"),
    count("aivc_mi_events_total", text="Commands to OpenSIPS", read=events("mi"), label="event"),
    count("aivc_records_written_total", text="Call records on the disk", read=attrgetter("records_written")),
    count("aivc_records_lost_total", text="Call records that could not be written", read=attrgetter("records_lost")),
    count("aivc_recordings_total", text="Files of the flight recorder", read=attrgetter("recordings"), label="outcome"),
    gauge("aivc_prewarmed_connections", text="Connections to the model without a call", read=attrgetter("prewarmed")),
    gauge("aivc_tasks", text="Tasks of the process", read=attrgetter("tasks")),
    gauge("process_resident_memory_bytes", text="Resident memory", read=attrgetter("rss_octets")),
    gauge("process_open_fds", text="Open file descriptors", read=attrgetter("descriptors")),
)


def exposition(statuses: Sequence[Status]) -> str:
    """All metrics of all workers. A metric that no worker has is left out."""
    lines = []
    for metric in METRICS:
        samples = [line for status in statuses for line in samples_of(metric, status)]
        if samples:
            lines += [f"# HELP {metric.name} {escaped_help(metric.text)}", f"# TYPE {metric.name} {metric.kind}"]
            lines += samples
    return "".join(f"{line}\n" for line in lines)


def samples_of(metric: Metric, status: Status) -> Iterator[str]:
    worker = {"worker": status.worker}
    match metric.read(status):
        case None:
            return
        case Histogram() as found:
            yield from samples_of_histogram(metric.name, worker, found)
        case Mapping() as found:
            for key, value in found.items():
                labels = worker | {metric.label or "key": key}
                if isinstance(value, Histogram):
                    yield from samples_of_histogram(metric.name, labels, value)
                else:
                    yield sample(metric.name, labels, value)
        case value:
            yield sample(metric.name, worker, value)


def samples_of_histogram(name: str, labels: Mapping[str, str], found: Histogram) -> Iterator[str]:
    """Prometheus counts what is at most each bound, those below it included."""
    bounds = (*map(number, found.bounds), "+Inf")
    cumulative = list(accumulate(found.counts))
    for bound, below in zip(bounds, cumulative, strict=True):
        yield sample(f"{name}_bucket", {**labels, "le": bound}, below)
    yield sample(f"{name}_sum", labels, found.total)
    yield sample(f"{name}_count", labels, cumulative[-1])


def sample(name: str, labels: Mapping[str, str], value: Number) -> str:
    inside = ",".join(f'{label}="{escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{inside}}} {number(value)}"


def number(value: Number) -> str:
    """As Go's ParseFloat reads it."""
    return repr(float(value)) if isinstance(value, float) else str(int(value))


def escaped(text: str) -> str:
    return escaped_help(text).replace('"', '\\"')


def escaped_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
