"""Results of the bench made by hand."""

from __future__ import annotations

import attrs

from bench.generator import Percentiles, Report
from bench.measuring import Result
from bench.results import Case, Trial

PERFECT = Report(
    seconds=10.0,
    calls=100,
    up=Percentiles(2.5, 4.5, 5.1, 5.6, 6.0, 50_000),
    down=Percentiles(10.0, 18.0, 20.3, 21.0, 22.0, 250),
    pacing=Percentiles(0.05, 0.12, 0.24, 0.5, 0.9, 50_000),
    sender_lag=Percentiles(0.05, 0.1, 0.2, 0.3, 0.4, 50_000),
    appends=50_000,
    deltas=3750,
    responses=250,
    sent_rtp=50_000,
    received_rtp=50_000,
    lost_up=0,
    duplicated_up=0,
    reordered_up=0,
    wrong_up=0,
    lost_down=0,
    duplicated_down=0,
    reordered_down=0,
    wrong_down=0,
    cut_down=0,
    underruns=0,
    silent_rtp=12_500,
    made_up_octets=0,
    timestamp_gaps=0,
    crosstalk=0,
    after_end=0,
    violations=0,
    first_violation="",
    sessions_open=100,
    sessions_opened=0,
    sessions_resumed=0,
    cpu_ms=800.0,
)


def report(calls: int = 100, *, pacing_ms: float = 0.24, lag_ms: float = 0.2, lost_up: int = 0) -> Report:
    """A window in which all went well, but for what is said; times are p99."""
    return attrs.evolve(
        PERFECT,
        calls=calls,
        pacing=attrs.evolve(PERFECT.pacing, p99=pacing_ms),
        sender_lag=attrs.evolve(PERFECT.sender_lag, p99=lag_ms),
        lost_up=lost_up,
    )


def result(of: Report, *, cpu_ms: float = 2.5, waited_ms: float = 3.0, rss_kib: int = 60_000) -> Result:
    """What `measure` makes of such a window."""
    return Result(
        target="aivc",
        calls=of.calls,
        seconds=of.seconds,
        cpu_ms=cpu_ms,
        cpu_share=cpu_ms * of.calls / 1000,
        setup=None,
        rss_kib=rss_kib,
        rss_kib_per_call=110.0,
        descriptors=2 * of.calls + 20,
        waited_ms=waited_ms,
        report=of,
        generator_cpu_ms=of.cpu_ms,
        ok=True,
    )


def trial(
    calls: int = 100,
    *,
    target: str = "aivc",
    append_ms: int = 20,
    cpu_ms: float = 2.5,
    waited_ms: float = 3.0,
    pacing_ms: float = 0.24,
    lag_ms: float = 0.2,
    lost_up: int = 0,
) -> Trial:
    window = report(calls, pacing_ms=pacing_ms, lag_ms=lag_ms, lost_up=lost_up)
    return Trial(
        Case(target, calls, append_ms),
        result(window, cpu_ms=cpu_ms, waited_ms=waited_ms, rss_kib=30_000 + 110 * calls),
    )
