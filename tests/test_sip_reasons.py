"""The Reason header field, and what a refusal tells of its cause."""

from __future__ import annotations

import pytest

from aivc.sip.inspection import Refusal
from aivc.sip.reasons import named, q850_cause, reason_fields
from aivc.sip.refusals import Cause, RefusalCounts


@pytest.mark.parametrize(
    ("status", "cause"),
    [(200, 16), (404, 1), (408, 102), (420, 127), (480, 18), (486, 17), (488, 65), (500, 41), (503, 41), (603, 21)],
)
def test_a_status_has_the_q850_cause_of_rfc_3398(status: int, cause: int) -> None:
    assert q850_cause(status) == cause


def test_reason_has_a_line_for_sip_and_one_for_gateways() -> None:
    assert reason_fields(named("drained", 'going "down"'), 503) == (
        ("Reason", 'SIP;cause=503;text="drained: going \\"down\\""'),
        ("Reason", "Q.850;cause=41"),
    )


def test_a_caller_who_gave_up_has_no_cause_in_isdn() -> None:
    assert reason_fields("over", 487) == (("Reason", 'SIP;cause=487;text="over"'),)


def test_a_text_of_any_length_makes_a_header_field_of_one_line() -> None:
    ((_, value), _) = reason_fields("x" * 10_000)
    assert len(value) < 230


def test_a_refusal_of_an_invite_tells_its_name_and_no_secret() -> None:
    refusal = Refusal(403, "too many wrong passwords of alice", name=Cause.WRONG_PASSWORDS.value)
    assert refusal.explained.headers == (
        ("Reason", 'SIP;cause=403;text="wrong_passwords: too many wrong passwords"'),
        ("Reason", "Q.850;cause=21"),
    )
    assert refusal.explained.explained == refusal.explained


def test_refusals_are_counted_by_the_names_that_are_known_from_the_start() -> None:
    counts = RefusalCounts()
    for name in ("glare", "glare", "what an embedder made up"):
        counts.add(name)
    assert counts.counts.keys() == {cause.value for cause in Cause}
    assert (counts.counts["glare"], sum(counts.counts.values())) == (2, 2)
