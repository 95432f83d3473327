"""What the settings change of who is served, and how fast."""

from __future__ import annotations

from typing import Literal

import pytest
from judging import judged, request
from settings_shown import shows

from aivc.config.settings import SipSettings
from aivc.sip.sources import Sources, Verdict


@shows("sip.allow")
@pytest.mark.parametrize(
    ("allow", "ip", "served"),
    [
        ((), "203.0.113.1", True),
        (("192.0.2.0/24", "2001:db8::/32"), "192.0.2.7", True),
        (("192.0.2.0/24", "2001:db8::/32"), "2001:db8:1::7", True),
        (("192.0.2.0/24", "2001:db8::/32"), "::ffff:192.0.2.7", True),
        (("192.0.2.0/24", "2001:db8::/32"), "203.0.113.1", False),
        (("192.0.2.0/24", "2001:db8::/32"), "2001:db9::1", False),
        (("192.0.2.7",), "192.0.2.8", False),
    ],
)
def test_only_networks_that_are_allowed_are_served(allow: tuple[str, ...], ip: str, served: bool) -> None:
    sources = Sources(SipSettings(allow=allow))
    assert sources.admits(ip) is served
    for in_dialog in (False, True):
        assert (sources.judge(request(), ip, 0.0, in_dialog) is Verdict.SERVE) is served


@shows("sip.trusted")
def test_trunks_that_are_trusted_are_admitted_and_never_slowed_down_nor_taken_for_scanners() -> None:
    settings = SipSettings(trusted=("198.51.100.0/28",), allow=("192.0.2.0/24",), requests_per_second=2)
    sources = Sources(settings)
    assert sources.admits("198.51.100.3")
    assert sources.is_trusted("198.51.100.3")
    assert judged(sources, 20, ip="198.51.100.3") == "E" * 20
    scan = request(user_agent="friendly-scanner")
    assert sources.judge(scan, "198.51.100.3", 0.0, in_dialog=False) is Verdict.SERVE
    assert not sources.is_trusted("192.0.2.10")
    assert judged(sources, 5, ip="192.0.2.10") == "EELLR"
    assert not sources.admits("198.51.100.16")


@shows("sip.unwanted")
@pytest.mark.parametrize(("unwanted", "verdict"), [("drop", Verdict.DROP), ("403", Verdict.FORBID)])
def test_the_unwanted_get_nothing_or_403(unwanted: Literal["drop", "403"], verdict: Verdict) -> None:
    sources = Sources(SipSettings(unwanted=unwanted, allow=("192.0.2.0/24",), requests_per_second=2))
    assert sources.admits("203.0.113.1") is (unwanted == "403")  # who gets an answer must be read
    stranger = [sources.judge(request(), "203.0.113.1", 0.0, in_dialog=False) for _ in range(3)]
    assert stranger == [verdict, verdict, Verdict.DROP]  # even a 403 has its rate
    assert sources.judge(request(user_agent="sipcli/v1.8"), "192.0.2.10", 0.0, in_dialog=False) is verdict


@shows("sip.requests_per_second")
@pytest.mark.parametrize(("rate", "verdicts"), [(0, "E" * 9), (3, "EEELLLRRR"), (100, "E" * 9)])
def test_more_requests_of_one_address_than_are_set_get_503_and_then_silence(rate: float, verdicts: str) -> None:
    assert judged(Sources(SipSettings(requests_per_second=rate)), 9) == verdicts
