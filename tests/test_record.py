"""A record as JSON, its documentation, and what its tokens cost."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivc.config.rules import TOKEN_KINDS
from aivc.media.reports import Quality
from aivc.media.stream import RtpCounters
from aivc.nursery.cost import cost
from aivc.nursery.ending import Ending
from aivc.nursery.latency import Parts, TurnLatency
from aivc.nursery.record import CallRecord, Cut, DigitEntry, ToolRun, TransferRun
from aivc.nursery.recordjson import iso_time, to_json
from aivc.nursery.summary import log_record
from aivc.realtime.history import Utterance
from aivc.realtime.usage import UsageTotals

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "records.md"
NOON: Final = 1_772_366_400.0  # 2026-03-01T12:00:00Z
USAGE: Final = UsageTotals(input_audio=900, input_text=100, input_cached=500, output_audio=300, output_text=50)

PARTS: Final = Parts(
    vad_ms=200.0, network_ms=30.02, detection_ms=20.02, creation_ms=20.0, generation_ms=330.0, playout_ms=15.0
)

RECORD: Final = CallRecord(
    call_id="call-1",
    caller="sip:alice@192.0.2.9",
    dialled="1000",
    codec="PCMU",
    ending=Ending.MODEL_HUNG_UP,
    detail="",
    started_at=100.0,
    answered_at=100.5,
    ended_at=130.25,
    rtp=RtpCounters(received=10),
    latencies=(TurnLatency("item_2", 103.0, 250.04, 20.0, 330.0, 15.0, PARTS, 80.04),),
    cuts=(Cut("item_2", 104.5, 1240, 5000),),
    tools=(ToolRun("fc_1", "clock", '{"zone": "UTC"}', "noon", 105.0, 105.25),),
    realtime_errors={"server_error": 1},
    protocol_violations=0,
    agent="sales",
    transcript=(Utterance("item_1", "caller", "What time is it?", None, None, False),),
    digits=(DigitEntry("4711", 106.0, "rtp"),),
    transfers=(TransferRun("sip:support@example.com", 110.0, 112.0, 486, "Busy Here"),),
    usage=USAGE,
    cost_usd=0.01234567,
    errors_by_kind={"other": 1},
    sessions=1,
    greeted_at=101.4,
    headers={"X-Customer": "ACME"},
    quality=Quality(1.25, 3, 0.0123456, None, 0.04, 1, 0.5, 4, 3, 0),
)


def as_json(record: CallRecord = RECORD, *, transcripts: bool = True) -> dict[str, Any]:
    return to_json(record, transcripts=transcripts, unix_offset=NOON - 100.0)


# The values


def test_a_tool_run_tells_its_duration_and_a_digest_of_its_arguments() -> None:
    (run,) = RECORD.tools
    assert run.outcome == "ok"
    assert run.duration_seconds == 0.25
    assert run.arguments_digest == "45468f743c09d632"  # printf '{"zone": "UTC"}' | sha256sum
    assert attrs.evolve(run, arguments='{"zone": "CET"}').arguments_digest != run.arguments_digest
    assert len(attrs.evolve(run, arguments="\ud800").arguments_digest) == 16  # a model may write anything


# As JSON


def test_times_are_utc_with_milliseconds() -> None:
    told = as_json()
    assert told["started_at"] == "2026-03-01T12:00:00.000Z"
    assert told["answered_at"] == "2026-03-01T12:00:00.500Z"
    assert told["ended_at"] == "2026-03-01T12:00:30.250Z"
    assert told["duration_seconds"] == 29.75
    assert iso_time(NOON + 0.9999) == "2026-03-01T12:00:00.999Z"  # never a second too early or a day too late


def test_what_happened_in_a_call_is_told() -> None:
    told = as_json()
    assert (told["agent"], told["ending"]) == ("sales", "model_hung_up")
    assert told["interruptions"] == [
        {
            "at": "2026-03-01T12:00:04.500Z",
            "since_answer_ms": 4000,
            "item_id": "item_2",
            "heard_ms": 1240,
            "received_ms": 5000,
        }
    ]
    (latency,) = told["latencies"]
    assert latency["total_ms"] == 615.0
    assert latency["endpointing_ms"] == 250.0
    assert sum(latency["parts"].values()) == pytest.approx(latency["total_ms"])
    assert (latency["parts"]["vad_ms"], latency["parts"]["tool_ms"], latency["caller_network_ms"]) == (200.0, 0.0, 80.0)
    assert told["greeting_ms"] == 900
    assert told["usage"]["input_cached"] == 500
    assert told["cost_usd"] == 0.012346
    assert told["headers"] == {"X-Customer": "ACME"}
    assert (told["quality"]["jitter_ms"], told["quality"]["lost_fraction"]) == (1.2, 0.0123)
    assert (told["quality"]["round_trip_ms"], told["quality"]["remote_jitter_ms"]) == (None, 0.0)
    assert told["transfers"][0]["text"] == "Busy Here"
    assert told["rtp"]["received"] == 10


def test_what_was_said_pressed_and_asked_of_tools_can_be_left_out() -> None:
    whole, private = as_json(), as_json(transcripts=False)
    assert whole["transcript"][0]["text"] == "What time is it?"
    assert whole["digits"][0]["digits"] == "4711"
    assert (whole["tools"][0]["arguments"], whole["tools"][0]["output"]) == ('{"zone": "UTC"}', "noon")
    line = json.dumps(private)
    assert [secret for secret in ("What time", "4711", "zone", "noon") if secret in line] == []
    assert sorted(keys_of(private)) == sorted(keys_of(whole))  # the schema is one
    assert private["tools"][0]["arguments_digest"] == RECORD.tools[0].arguments_digest


def test_a_call_that_was_never_answered_has_nulls() -> None:
    told = as_json(attrs.evolve(RECORD, answered_at=None, usage=None, cost_usd=None, agent=None))
    assert told["answered_at"] is told["usage"] is told["cost_usd"] is told["agent"] is None
    assert told["interruptions"][0]["since_answer_ms"] is None
    assert told["duration_seconds"] == 0


def test_a_key_in_a_failures_text_is_hidden() -> None:
    told = as_json(attrs.evolve(RECORD, detail="Incorrect API key provided: sk-abcdefghijkl"))
    assert told["detail"] == "Incorrect API key provided: sk-***"


def test_the_last_line_of_the_log_sums_up_the_silences(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="aivc.call"):
        log_record(RECORD)
        log_record(attrs.evolve(RECORD, latencies=()))
    measured, unmeasured = (vars(line)["fields"]["latency"] for line in caplog.records)
    assert measured == {
        "turns": 1,
        "gap_p50_ms": 615,
        "gap_max_ms": 615,
        "of_it": {"network": 30, "vad": 200, "model": 370, "tool": 0, "us": 15},
        "most": "model",
    }
    assert unmeasured is None


# The documentation


def keys_of(value: object, path: str = "") -> Iterator[str]:
    """Every key as docs/records.md writes it; those that are data themselves are left out."""
    if path in ("errors", "errors_by_kind", "headers"):
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            inner_path = f"{path}.{key}" if path else key
            yield inner_path
            yield from keys_of(inner, inner_path)
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner, f"{path}[]")


def documented(heading: str) -> list[str]:
    section = DOCUMENT.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)


def test_every_key_is_documented_in_its_order_and_no_other() -> None:
    assert sorted(documented("Fields")) == sorted(keys_of(as_json()))
    top = [key for key in documented("Fields") if "." not in key]
    assert top == list(as_json())


def test_every_ending_is_documented() -> None:
    assert documented("Endings") == [ending.value for ending in Ending]


# The cost


def test_without_prices_or_usage_there_is_no_cost() -> None:
    assert cost(USAGE, {}) is None
    assert cost(None, {"input_audio": 32.0}) is None
    assert cost(UsageTotals(), {"input_audio": 32.0}) == 0.0


@pytest.mark.parametrize(
    ("prices", "microdollars"),
    [
        ({"input_audio": 32.0}, 900 * 32),
        ({"output_audio": 64.0, "output_text": 24.0}, 300 * 64 + 50 * 24),
        ({"input_audio": 32.0, "input_text": 4.0}, 900 * 32 + 100 * 4),  # cached tokens at the full price
        ({"input_audio": 32.0, "input_text": 4.0, "input_cached": 0.4}, 450 * 32 + 50 * 4 + 500 * 0.4),
    ],
)
def test_tokens_are_priced_by_kind_and_cached_ones_taken_in_proportion(
    prices: dict[str, float], microdollars: float
) -> None:
    assert cost(USAGE, prices) == pytest.approx(microdollars / 1e6)


counts = st.integers(0, 10_000_000)


@given(st.builds(UsageTotals, *[counts] * 5), st.dictionaries(st.sampled_from(TOKEN_KINDS), st.floats(0, 1000)))
def test_a_cost_is_never_negative_and_a_free_cache_makes_nothing_dearer(
    usage: UsageTotals, prices: dict[str, float]
) -> None:
    full = {"input_audio": 1.0, **prices}
    dearest = {kind: price for kind, price in full.items() if kind != "input_cached"}
    whole, saved = cost(usage, dearest), cost(usage, {**dearest, "input_cached": 0.0})
    assert whole is not None
    assert saved is not None
    assert 0 <= saved <= whole
