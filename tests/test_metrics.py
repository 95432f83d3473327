"""The counts of a process: taken from records, added up over workers, written as Prometheus reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
from paper_leg import paper_leg

from aivc.media.counters import RtpCounters
from aivc.nursery.ending import Ending
from aivc.nursery.latency import PARTS, Parts, TurnLatency
from aivc.nursery.metrics import METRICS, exposition
from aivc.nursery.record import Answered, CallEvent, CallRecord, Ended, ModelAudible
from aivc.nursery.status import Histogram, RegistrationState, Status, from_json, masked, to_json, total
from aivc.nursery.tally import PART_SECONDS, Tally
from aivc.realtime.usage import UsageTotals
from aivc.sip.mi import MiCounters
from aivc.sip.opensips import OpenSipsStatistics
from aivc.sip.refusals import Cause
from aivc.sip.statistics import UserAgentStatistics

RECORD: Final = CallRecord(
    call_id="call@phone",
    caller="sip:+15551234567@example.com",
    dialled="1000",
    codec="PCMU",
    ending=Ending.CALLER_HUNG_UP,
    detail="",
    started_at=10.0,
    answered_at=10.4,
    ended_at=70.4,
    rtp=RtpCounters(received=3000, sent=3001, lost=2, heard_dropped=1),
    latencies=(
        TurnLatency("item_1", 20.0, 300.0, 50.0, 350.0, 10.0, Parts(vad_ms=200.0, detection_ms=100.0, tool_ms=410.0)),
        TurnLatency("item_2", 30.0, 9e3, 50.0, 4e3, 9.0, Parts(vad_ms=200.0, generation_ms=12_859.0)),
    ),
    cuts=(),
    tools=(),
    realtime_errors={},
    protocol_violations=0,
    late_deltas=4,
    greeted_at=11.3,
    usage=UsageTotals(input_audio=100, output_audio=200, transcription_tokens=7),
    cost_usd=0.25,
    errors_by_kind={"other": 1, "realtime_lost": 1},
)


def counts_of(cls: type[attrs.AttrsInstance]) -> dict[str, int]:
    return {field.name: 1 for field in attrs.fields(cls)}


def full_status(worker: str = "0") -> Status:
    """A process of which everything is known."""
    tally = Tally()
    tally.send_nowait(CallEvent("call@phone", 10.4, Answered()))
    tally.send_nowait(CallEvent("call@phone", 70.4, Ended(RECORD)))
    failed = RegistrationState(user="100", server="pbx", state="failed", seconds=2.0, last_error="403", advice="look")
    return Status(
        version="aivc/1.0",
        worker=worker,
        pid=7,
        settings={"openai.model": "gpt-realtime", "agents": ["night"], "opensips.enabled": True},
        uptime_seconds=60.5,
        calls=2,
        max_calls=10,
        accepting=True,
        pacing_p99_ms=0.4,
        sip=counts_of(UserAgentStatistics),
        opensips=counts_of(OpenSipsStatistics),
        mi=counts_of(MiCounters),
        refusals={cause.value: 1 for cause in Cause},
        is_subscribed=False,
        registrations=(failed,),
        recordings={"written": 3, "lost": 1, "truncated": 2},
        rss_octets=50_000_000,
        descriptors=30,
        **tally.counted(),
    )


# Counting


def test_a_call_that_ends_is_in_every_count_and_histogram() -> None:
    tally = Tally()
    tally.send_nowait(CallEvent("call@phone", 10.4, Answered()))
    tally.send_nowait(CallEvent("call@phone", 11.0, ModelAudible("item_1", 11.0)))
    tally.send_nowait(CallEvent("call@phone", 70.4, Ended(RECORD)))
    counted = tally.counted()
    assert counted["answered"] == 1
    assert (counted["ended"]["caller_hung_up"], counted["ended"]["transferred"]) == (1, 0)
    assert (counted["rtp"]["received"], counted["rtp"]["lost"], counted["rtp"]["late"]) == (3000, 2, 0)
    assert (counted["dropped"]["heard"], counted["dropped"]["late_deltas"], counted["dropped"]["keys"]) == (1, 4, 0)
    assert (counted["errors"]["other"], counted["errors"]["realtime_lost"], counted["errors"]["fatal"]) == (1, 1, 0)
    assert (counted["tokens"]["input_audio"], counted["tokens"]["transcription"]) == (100, 7)
    assert counted["cost_usd"] == 0.25
    totals = {name: round(each.total, 3) for name, each in counted["histograms"].items()}
    parts = {name: totals.pop(f"{PART_SECONDS}{name.removesuffix('_ms')}") for name in PARTS}
    assert totals == {
        "answer_seconds": 0.4,
        "call_seconds": 60.0,
        "response_seconds": 13.769,
        "model_seconds": 4.45,
        "greeting_seconds": 0.9,
    }
    spent = {"vad_ms": 0.4, "detection_ms": 0.1, "generation_ms": 12.859, "tool_ms": 0.41}
    assert parts == {**dict.fromkeys(PARTS, 0.0), **spent}


def test_a_call_that_was_never_answered_is_in_no_histogram() -> None:
    tally = Tally()
    tally.add(attrs.evolve(RECORD, answered_at=None, greeted_at=None, latencies=(), usage=None, cost_usd=None))
    assert not any(sum(each.counts) for each in tally.counted()["histograms"].values())
    assert tally.counted()["ended"]["caller_hung_up"] == 1


def test_calls_in_progress_are_known_with_their_state_and_no_whole_number() -> None:
    tally, leg = Tally(), paper_leg()
    leg.caller = "sip:+15551234567"
    with tally.call(leg, "night", 5.0):
        (ringing,) = tally.in_progress(6.0)
        tally.send_nowait(CallEvent(leg.call_id, 7.0, Answered()))
        (answered,) = tally.in_progress(9.5)
    assert (ringing.state, ringing.seconds, ringing.agent) == ("ringing", 1.0, "night")
    assert (answered.state, answered.seconds, answered.caller) == ("answered", 2.5, "***567")
    assert tally.in_progress(10.0) == ()


@pytest.mark.parametrize(("caller", "shown"), [("+15551234567", "***567"), ("100", "***"), ("", "***")])
def test_of_a_caller_only_the_end_is_shown(caller: str, shown: str) -> None:
    assert masked(caller) == shown


def test_a_histogram_counts_a_value_at_the_first_bound_that_it_does_not_pass() -> None:
    found = Histogram.empty(1.0, 2.0)
    for value in (0.5, 1.0, 1.5, 2.5):
        found = found.with_values([value])
    assert (found.counts, found.total) == ((2, 1, 1), 5.5)


# Sending and adding


def test_a_status_survives_its_way_through_json() -> None:
    status = full_status()
    assert from_json(json.loads(json.dumps(to_json(status)))) == status


@pytest.mark.parametrize("value", [None, [], "x", {"calls": "many"}, {"in_progress": 5}, {"ended": [1]}])
def test_what_is_no_status_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^no status: "):
        from_json(value)


def test_a_total_adds_what_can_be_added_and_shows_the_worst_of_the_rest() -> None:
    one = full_status()
    two = attrs.evolve(one, worker="1", calls=3, pacing_p99_ms=2.0, uptime_seconds=9.0, accepting=False, why_not="full")
    found = total([one, two])
    assert (found.calls, found.max_calls, found.answered, found.rss_octets) == (5, 20, 2, 100_000_000)
    assert (found.pacing_p99_ms, found.uptime_seconds, found.is_subscribed) == (2.0, 60.5, False)
    assert (found.accepting, found.why_not) == (True, "")
    assert found.rtp["received"] == 6000
    assert found.histograms["answer_seconds"].counts == tuple(
        2 * count for count in one.histograms["answer_seconds"].counts
    )
    assert len(found.registrations) == 2
    assert found.settings == one.settings


def test_a_total_of_what_takes_no_calls_tells_why() -> None:
    full = Status(why_not="full", draining=True, pacing_p99_ms=None, rss_octets=None)
    found = total([full, attrs.evolve(full, why_not="pacing", draining=False)])
    assert (found.accepting, found.why_not, found.draining) == (False, "full", False)
    assert (found.pacing_p99_ms, found.rss_octets) == (None, None)
    assert total([]).why_not == "no worker runs"


# Prometheus


NAME: Final = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL: Final = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"'
SAMPLE: Final = re.compile(rf"({NAME})\{{({LABEL}(?:,{LABEL})*)\}} (-?[0-9.e+-]+)\n")
SUFFIXES: Final = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parse(text: str) -> dict[str, tuple[str, Samples]]:
    """Type and samples by metric, by the rules of the format and of its naming; AssertionError if one is broken."""
    found: dict[str, tuple[str, Samples]] = {}
    for block in re.split(r"(?m)^(?=# HELP )", text)[1:]:
        help_line, type_line, *samples = block.splitlines(keepends=True)
        header = re.fullmatch(rf"# HELP ({NAME}) [^\n]+\n", help_line)
        kind = re.fullmatch(rf"# TYPE ({NAME}) (counter|gauge|histogram)\n", type_line)
        assert header is not None
        assert kind is not None
        assert header[1] == kind[1]
        assert kind[1] not in found
        found[kind[1]] = kind[2], dict(parse_samples(kind[1], kind[2], samples))
        assert len(found[kind[1]][1]) == len(samples) > 0, "a sample stands twice"
        assert kind[1].endswith("_total") == (kind[2] == "counter")
    assert text.startswith("# HELP ")
    assert text.endswith("\n")
    return found


def parse_samples(
    name: str, kind: str, lines: list[str]
) -> Iterator[tuple[tuple[str, tuple[tuple[str, str], ...]], float]]:
    for line in lines:
        sample = SAMPLE.fullmatch(line)
        assert sample, line
        assert sample[1] in {name + suffix for suffix in SUFFIXES[kind]}
        labels = tuple(re.findall(LABEL, sample[2]))
        assert len(dict(labels)) == len(labels)
        yield (sample[1], labels), float(sample[sample.lastindex or 0])


def test_every_metric_is_written_by_the_rules() -> None:
    found = parse(exposition([full_status("0"), full_status("1")]))
    assert list(found) == [metric.name for metric in METRICS]
    for _, samples in found.values():
        assert {dict(labels)["worker"] for _, labels in samples} == {"0", "1"}


def test_the_values_are_those_of_the_status() -> None:
    found = parse(exposition([full_status()]))

    def value(name: str, **labels: str) -> float:
        return found[name][1][name, (("worker", "0"), *labels.items())]

    assert value("aivc_calls") == 2
    assert value("aivc_accepting") == 1
    assert value("aivc_opensips_subscribed") == 0
    assert value("aivc_pacing_p99_seconds") == 0.0004
    assert value("aivc_calls_ended_total", ending="caller_hung_up") == 1
    assert value("aivc_rtp_events_total", event="sent") == 3001
    assert value("aivc_sip_registrations", state="failed") == 1
    assert value("aivc_sip_registrations", state="registered") == 0
    assert value("aivc_mi_events_total", event="repeated") == 1
    assert value("aivc_info", version="aivc/1.0") == 1


def test_a_histogram_is_cumulative_and_ends_with_all() -> None:
    _, samples = parse(exposition([full_status()]))["aivc_response_seconds"]
    buckets = {dict(labels)["le"]: count for (name, labels), count in samples.items() if name.endswith("_bucket")}
    assert list(buckets)[-1] == "+Inf"
    assert list(buckets.values()) == sorted(buckets.values())
    assert (buckets["0.7"], buckets["1.0"], buckets["10.0"], buckets["+Inf"]) == (0, 1, 1, 2)
    assert samples["aivc_response_seconds_count", (("worker", "0"),)] == 2


def test_each_part_of_a_response_time_is_a_histogram_of_one_metric() -> None:
    kind, samples = parse(exposition([full_status()]))["aivc_turn_part_seconds"]
    assert kind == "histogram"
    counts = {dict(labels)["part"]: count for (name, labels), count in samples.items() if name.endswith("_count")}
    assert counts == {name.removesuffix("_ms"): 2 for name in PARTS}
    vad = {
        dict(labels)["le"]: count
        for (name, labels), count in samples.items()
        if ("part", "vad") in labels and "_b" in name
    }
    assert (vad["0.1"], vad["0.2"], vad["+Inf"]) == (0, 2, 2)


def test_what_nobody_counts_is_left_out() -> None:
    found = parse(exposition([Status(version="x")]))
    assert not {"aivc_opensips_subscribed", "aivc_mi_events_total", "process_open_fds"} & set(found)
    assert exposition([]) == ""


def test_odd_text_in_a_label_cannot_break_a_line() -> None:
    odd = 'a"b\\c\nd 1'
    text = exposition([Status(version=odd, worker=odd)])
    assert text.count(r'worker="a\"b\\c\nd 1"') == text.count("worker=")
    parse(text)


def test_the_documentation_has_every_key_of_a_status() -> None:
    page = (Path(__file__).parents[1] / "docs" / "admin.md").read_text()
    rows = [
        row.split("|")[1] for row in page.partition("## `/status`")[2].partition("\n## ")[0].splitlines() if "|" in row
    ]
    keys = [key for row in rows for key in re.findall(r"`(\w+)`", row)]
    assert sorted(keys) == sorted(field.name for field in attrs.fields(Status))


def test_the_documentation_has_every_metric_label_and_value() -> None:
    page = (Path(__file__).parents[1] / "docs" / "admin.md").read_text()
    rows = {row.split("`")[1]: row for row in page.splitlines() if row.startswith("| `")}
    assert [name for name in rows if name.startswith(("aivc_", "process_"))] == [metric.name for metric in METRICS]
    for metric in METRICS:
        assert f"| {metric.kind} | {f'`{metric.label}`' if metric.label else ''} |" in rows[metric.name], metric.name
    for name, group in parse(exposition([full_status()])).items():
        for _, labels in group[1]:
            values = set(dict(labels).items()) - {("worker", "0"), ("version", "aivc/1.0")}
            missing = [value for label, value in values if label != "le" and f"`{value}`" not in page]
            assert missing == [], name
