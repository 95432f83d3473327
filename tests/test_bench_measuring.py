"""A measurement of a stand-in for a target: calls at a rate, ends, failures; and the figures that are made of them."""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
from collections.abc import Mapping

import pytest

from aivc.config.loading import load
from bench import targets
from bench.generator import Load
from bench.measuring import Cores, measure, percentiles, running
from bench.processes import TargetError
from bench.targets import Target

THERE = sorted(os.sched_getaffinity(0))
CORES = Cores(THERE[0], THERE[-1])
LINES = """
import sys
for line in sys.stdin:
    match line.split():
        case ["call", "13", *_]: print("ended 13", flush=True)
        case ["call", number, *_]: print("ready", number, 9, flush=True)
        case ["end", number]: print("ended", number, flush=True)
print("no more lines", file=sys.stderr)
"""  # it takes calls, but not number 13, and has no media at all

needs_a_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="the generator needs a C compiler")


def taker(code: str = LINES) -> Target:
    return Target("taker", (sys.executable, "-c", code))


# Figures


def test_percentiles_are_values_that_were_seen() -> None:
    found = percentiles([float(value) for value in range(1000, 0, -1)])
    assert (found.p50, found.p90, found.p99, found.p999, found.max, found.count) == (500, 900, 990, 999, 1000, 1000)
    alone = percentiles([7.5])
    assert (alone.p50, alone.p999, alone.max, alone.count) == (7.5, 7.5, 7.5, 1)


def test_a_core_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2})
    assert Cores(0, 2).placed() == (Cores(0, 2), "")
    with pytest.raises(TargetError, match="no core 1 here, but 0, 2"):
        Cores(0, 1).placed()
    with pytest.raises(TargetError, match="no core 7 here"):
        Cores(0, 2, (7,)).placed()


def test_one_core_is_shared_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "shares a core" in Cores(0, THERE[-1], (THERE[-1],)).placed()[1] or THERE[-1] == 0
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3})
    assert Cores().placed() == (Cores(3, 3), "there is one core: the target shares it with what measures it")


# Targets


def test_the_places_of_a_target_are_filled_in() -> None:
    target = Target("it", ("it", "--url", "{ws_url}"), {"PORT": "{sip_port}", "BRACES": "{{}}"})
    filled = target.filled({"ws_url": "wss://x", "sip_port": "5060"})
    assert filled.command == ("it", "--url", "wss://x")
    assert filled.environ == {"PORT": "5060", "BRACES": "{}"}


@pytest.mark.parametrize("target", [targets.aivc("sip"), targets.aivc("mi"), targets.plain_trio(), targets.uvloop()])
def test_every_target_names_only_places_that_are_filled_in(target: Target) -> None:
    names = ("ws_url", "cafile", "sip_port", "rtp_min", "rtp_max", "mi_port", "event_port")
    places = {name: f"<{name}>" for name in names}
    filled = target.filled(places)
    text = " ".join([*filled.command, *filled.environ.values()])
    assert "{" not in text
    assert "<ws_url>" in text
    assert "<cafile>" in text


def settings_of(environ: Mapping[str, str]) -> object:
    places = {"ws_url": "wss://127.0.0.1:1/v1/realtime", "cafile": "/x", "rtp_min": "10000", "rtp_max": "29999"}
    places |= {"sip_port": "5070", "mi_port": "5071", "event_port": "5072"}
    return load(None, {name: text.format_map(places) for name, text in environ.items()}).settings


@pytest.mark.parametrize("signalling", ["sip", "mi"])
def test_aivc_is_started_with_settings_that_it_knows(signalling: str) -> None:
    by_sip = signalling == "sip"
    workers = 2 if by_sip else 1  # several cannot share one OpenSIPS
    target = targets.aivc("sip" if by_sip else "mi", workers=workers, AIVC_REALTIME_APPEND_MS="40")
    settings = settings_of(target.environ)
    for path, value in {
        "service.max_pacing_ms": 0.0,
        "service.calls_per_second": 0.0,
        "service.workers": workers,
        "realtime.append_ms": 40,
        "sip.requests_per_second": 0.0,
        "sip.enabled": by_sip,
        "opensips.enabled": not by_sip,
        "records.directory": None,
    }.items():
        section, _, key = path.partition(".")
        assert getattr(getattr(settings, section), key) == value, path


# Measurements


@needs_a_compiler
def test_calls_begin_at_a_rate_and_end() -> None:
    with running(taker(), Load(12), CORES) as calls:
        began = time.monotonic()
        calls.begin(range(10), per_second=50)
        assert time.monotonic() - began >= 9 / 50
        assert calls.in_progress == set(range(10))
        calls.end(range(5))
        assert calls.in_progress == set(range(5, 10))
        calls.begin(range(7))
        assert calls.in_progress == set(range(10))
        found = calls.window(0.1)
    assert found.setup is not None
    assert found.setup.count == 15  # nobody has called twice at a time


@needs_a_compiler
def test_a_window_counts_the_seconds_of_calls_and_who_was_set_up() -> None:
    with running(taker(), Load(14), CORES) as calls:
        calls.begin(range(14))
        first = calls.window(0.2)
        assert first.setup is not None
        assert (first.calls, first.setup.count, first.failed, first.ok) == (13, 13, 1, False)
        assert first.first_failure == "ended before it was ready"
        calls.end(range(12))
        calls.open_window()
        calls.serve(0.2)
        calls.end([12])
        calls.serve(0.2)
        second = calls.close_window()
    assert (second.calls, second.failed, second.setup) == (0, 0, None)
    assert 0.4 <= second.seconds < 5.0
    assert second.cpu_ms >= 0.0
    assert math.isnan(second.rss_kib_per_call)


@needs_a_compiler
def test_calls_come_and_go_at_a_rate() -> None:
    with running(taker(), Load(10), CORES) as calls:
        calls.begin(range(2))
        calls.open_window()
        calls.churn(range(2, 10), per_second=40, hold=0.1, seconds=0.5)
        calls.end(range(2, 10))
        found = calls.close_window()
        assert calls.in_progress == {0, 1}
    assert found.setup is not None
    assert 12 <= found.setup.count <= 22  # the first two, and some 20: fewer where the machine was slow


@needs_a_compiler
def test_a_target_that_dies_in_between_is_told_with_its_last_words() -> None:
    code = "import sys; sys.stdin.readline(); sys.exit('out of coffee')"

    with running(taker(code), Load(1), CORES) as calls, pytest.raises(TargetError, match="out of coffee"):
        calls.begin([0])


@needs_a_compiler
def test_a_measurement_without_any_call_is_an_error() -> None:
    code = LINES.replace('"13"', '"0"').replace("ended 13", "ended 0")
    with pytest.raises(TargetError, match="has no call in progress; the end of"):
        measure(taker(code), Load(1), seconds=0.1, warm_up=0.0, cores=CORES)


@needs_a_compiler
def test_memory_of_a_call_is_what_comes_after_the_first() -> None:
    code = LINES.replace("import sys", "import sys; kept = []").replace(
        'print("ready"', 'kept.append(b"x" * 10_000_000); print("ready"'
    )
    result = measure(taker(code), Load(5), seconds=0.1, warm_up=0.0, cores=CORES)
    assert 9_000 < result.rss_kib_per_call < 11_000
    assert not result.failed
