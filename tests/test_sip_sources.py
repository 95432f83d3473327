"""What is known of where messages come from: addresses, buckets, proofs, and that none of it grows without end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judging import judged, request

from aivc.config.settings import SipSettings
from aivc.sip.ip import plain_ip, site_of
from aivc.sip.sources import MAX_SOURCES, SCANNERS, Sources, Verdict


def test_a_burst_is_served_then_slowed_then_dropped_and_the_bucket_fills_again() -> None:
    sources = Sources(SipSettings(requests_per_second=4))
    assert judged(sources, 12) == "EEEELLLLRRRR"
    assert judged(sources, 4, now=0.5) == "EELL"
    assert judged(sources, 10, now=100.0) == "EEEELLLLRR"


def test_each_address_has_a_bucket_of_its_own_and_each_ipv6_site_one() -> None:
    sources = Sources(SipSettings(requests_per_second=1))
    assert judged(sources, 1, ip="192.0.2.10") == judged(sources, 1, ip="192.0.2.11") == "E"
    assert judged(sources, 1, ip="2001:db8:0:1::1") == judged(sources, 1, ip="2001:db8:0:2::1") == "E"
    assert judged(sources, 1, ip="2001:db8:0:1:ffff::2") == "L"
    assert judged(sources, 1, ip="::ffff:192.0.2.10") == "L"


def test_less_than_one_request_a_second_is_one_now_and_then() -> None:
    sources = Sources(SipSettings(requests_per_second=0.5))
    assert [judged(sources, 2, now) for now in (0.0, 1.0, 2.0)] == ["EL", "RR", "EL"]


def test_a_clock_that_steps_back_gives_nothing_away() -> None:
    sources = Sources(SipSettings(requests_per_second=1))
    assert [judged(sources, 1, now) for now in (10.0, 5.0, 10.0)] == ["E", "L", "R"]


def test_an_ack_is_never_answered() -> None:
    sources = Sources(SipSettings(requests_per_second=1, unwanted="403", allow=("192.0.2.0/24",)))
    assert judged(sources, 3, method="ACK") == "ERR"
    assert judged(sources, 1, method="ACK", ip="203.0.113.1") == "R"


def test_requests_of_calls_that_we_have_cost_nothing() -> None:
    sources = Sources(SipSettings(requests_per_second=1))
    for _ in range(5):
        assert sources.judge(request("BYE"), "192.0.2.10", 0.0, in_dialog=True) is Verdict.SERVE
    assert judged(sources, 1) == "E"


@pytest.mark.parametrize("name", [*SCANNERS, "SIPVicious 0.3", "VaxSIPUserAgent/3.5", ' "friendly-scanner"'])
def test_a_known_scanner_is_unwanted(name: str) -> None:
    for unwanted, verdict in (("drop", Verdict.DROP), ("403", Verdict.FORBID)):
        sources = Sources(SipSettings(unwanted=unwanted))  # type: ignore[arg-type]  # the pairs lose the literal
        assert sources.judge(request(user_agent=name), "192.0.2.10", 0.0, in_dialog=False) is verdict


@pytest.mark.parametrize("name", ["Asterisk PBX 20", "Linphone sipcli", "Siwarma", "x" * 8000])
def test_others_are_not(name: str) -> None:
    assert Sources(SipSettings()).judge(request(user_agent=name), "192.0.2.10", 0.0, in_dialog=False) is Verdict.SERVE


def test_a_server_of_ours_is_admitted_as_long_as_it_is_one() -> None:
    sources = Sources(SipSettings(allow=("192.0.2.0/24",), requests_per_second=1))
    assert not sources.admits("203.0.113.1")
    for _ in range(2):
        sources.expect("203.0.113.1")
    assert sources.admits("203.0.113.1")
    assert sources.is_expected("::ffff:203.0.113.1")
    assert not sources.is_trusted("203.0.113.1")
    assert judged(sources, 5, ip="203.0.113.1") == "EEEEE"
    sources.release("203.0.113.1")
    assert not sources.admits("203.0.113.1")
    sources.release("203.0.113.1")


def test_who_has_shown_that_it_gets_our_answers_is_known_by_address_and_port() -> None:
    sources = Sources(SipSettings(trusted=("198.51.100.0/24",)))
    sources.expect("203.0.113.1")
    sources.prove(("192.0.2.10", 5060))
    assert sources.is_proven(("192.0.2.10", 5060))
    assert not sources.is_proven(("192.0.2.10", 5061))
    assert sources.is_proven(("198.51.100.1", 5060))
    assert sources.is_proven(("203.0.113.1", 5060))


def test_every_table_forgets_who_has_not_been_seen_for_longest() -> None:
    sources = Sources(SipSettings(allow=("10.0.0.0/8",), requests_per_second=1))
    for number in range(MAX_SOURCES + 10):
        ip = f"10.0.{number >> 8}.{number & 255}"
        sources.judge(request(), ip, 0.0, in_dialog=False)
        sources.prove((ip, 5060))
        sources.prove(("10.0.0.0", 5060))
    for table in (sources._buckets, sources._proven, sources._notes):
        assert len(table) == MAX_SOURCES
    assert sources.is_proven(("10.0.0.0", 5060))
    assert not sources.is_proven(("10.0.0.1", 5060))
    for number in range(MAX_SOURCES + 1):
        sources.expect(f"10.1.{number >> 8}.{number & 255}")
    assert len(sources._expected) == MAX_SOURCES


@given(
    st.floats(0.5, 20),
    st.lists(st.floats(0, 3), max_size=60),
    st.sampled_from(["192.0.2.1", "2001:db8::1", "nonsense"]),
)
def test_however_they_come_no_more_are_served_or_answered_than_the_rate_allows(
    rate: float, pauses: list[float], ip: str
) -> None:
    sources, now, verdicts = Sources(SipSettings(requests_per_second=rate)), 0.0, list[Verdict]()
    for pause in pauses:
        now += pause
        verdicts.append(sources.judge(request(), ip, now, in_dialog=False))
    allowed = max(1.0, rate) + rate * now + 1e-6
    assert verdicts.count(Verdict.SERVE) <= allowed
    assert verdicts.count(Verdict.SLOW_DOWN) <= allowed
    assert not verdicts or verdicts[0] is Verdict.SERVE


@given(st.text(max_size=60))
def test_any_text_is_some_source(text: str) -> None:
    sources = Sources(SipSettings(allow=("192.0.2.0/24",), trusted=("2001:db8::/32",)))
    assert sources.admits(text) in (True, False)
    assert plain_ip(plain_ip(text)) == plain_ip(text)
    assert isinstance(site_of(text), str)
