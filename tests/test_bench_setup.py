"""`python -m bench setup` and `smoke`: what they say about what they found."""

from __future__ import annotations

import attrs
import pytest
from bench_result_parts import PERFECT, trial

from bench.burst import HEADINGS, Moment
from bench.conditions import warnings
from bench.generator import Percentiles
from bench.ramp import Load, Yardstick
from bench.smoke import verdict


def test_a_moment_tells_how_many_calls_were_answered_how_fast_and_the_pacing_meanwhile() -> None:
    quiet = trial(150)
    setup = Percentiles(12.0, 20.0, 31.0, 31.0, 31.0, 50)
    moment = Moment("50 at once", attrs.evolve(quiet, result=attrs.evolve(quiet.result, setup=setup)))
    assert moment.cells == ("50 at once", "50", "5.00", "12.0", "31.0", "0.24", "0.90", "37.5", "none")
    assert len(moment.cells) == len(HEADINGS)


def test_a_moment_without_new_calls_has_no_set_up_time() -> None:
    assert Moment("alone", trial(100)).cells[:5] == ("alone", "0", "0", "-", "-")


def test_a_moment_that_was_spoilt_is_named_as_in_the_table() -> None:
    assert "  50 at once: the target waited" in warnings([("50 at once", trial(waited_ms=300))])


@pytest.mark.parametrize(
    ("loads", "best"),
    [
        ([Load(10, 50, 0, 0, 5.0), Load(20, 100, 0, 4, 5.0), Load(40, 200, 1, 0, 5.0)], 20),
        ([Load(10, 50, 0, 0, 5.0), Load(20, 100, 0, 5, 5.0)], 10),
        ([Load(10, 50, 1, 0, 5.0), Load(20, 100, 0, 0, 5.0)], None),
    ],
    ids=["a call failed", "too much sent again", "none"],
)
def test_a_server_carries_what_comes_before_a_rate_that_is_too_much(loads: list[Load], best: int | None) -> None:
    found = Yardstick("aivc", loads).best
    assert (found and found.rate) == best


def test_the_smoke_test_tells_what_went_by_and_what_was_wrong() -> None:
    quiet = trial(20)
    assert verdict(quiet) == (
        "aivc, 20 calls by sip: 50000 packets in, 50000 out, 50000 appends, 3750 deltas; not exact: none"
    )
    broken = attrs.evolve(PERFECT, calls=20, violations=1, first_violation="an unmasked frame")
    faulty = attrs.evolve(quiet, result=attrs.evolve(quiet.result, report=broken, ok=False))
    assert verdict(faulty).endswith("not exact: 1 against the rules (an unmasked frame)")
    assert not faulty.whole
