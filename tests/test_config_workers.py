"""What several workers make of the settings."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import attrs
import pytest

from aivc.config.settings import AdminSettings, Settings, SipRegister
from aivc.config.telephony_checks import even_ports
from aivc.config.workers import share, worker_contradictions

WORKERS = (2, 3, 7, 64)


def settings(workers: int, **sections: dict[str, Any]) -> Settings:
    made = Settings()
    for name, values in {**sections, "service": {"workers": workers, **sections.get("service", {})}}.items():
        made = attrs.evolve(made, **{name: attrs.evolve(getattr(made, name), **values)})
    return made


def shares(whole: Settings) -> list[Settings]:
    return [share(whole, number) for number in range(whole.service.workers)]


@pytest.mark.parametrize("workers", WORKERS)
def test_limits_are_those_of_all_together(workers: int) -> None:
    whole = settings(workers, service={"max_calls": 101}, realtime={"prewarm": 5})
    parts = shares(whole)
    assert sum(part.service.max_calls for part in parts) == 101
    assert sum(part.realtime.prewarm for part in parts) == 5
    assert sum(part.service.calls_per_second for part in parts) == pytest.approx(whole.service.calls_per_second)
    assert sum(part.sip.requests_per_second for part in parts) == pytest.approx(whole.sip.requests_per_second)
    assert {part.service.workers for part in parts} == {1}


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize(("low", "high"), [(35000, 65000), (35001, 65000), (40000, 40129), (40001, 40131)])
def test_no_two_workers_have_a_port_in_common_and_no_pair_is_wasted(workers: int, low: int, high: int) -> None:
    ranges = [part.rtp for part in shares(settings(workers, rtp={"min_port": low, "max_port": high}))]
    assert low <= ranges[0].min_port
    assert ranges[-1].max_port <= high
    for one, other in pairwise(ranges):
        assert one.min_port < one.max_port < other.min_port
    pairs = [even_ports(each.min_port, each.max_port) for each in ranges]
    assert sum(pairs) == even_ports(low, high)
    assert max(pairs) - min(pairs) <= 1


def test_only_the_parent_registers_and_shows_itself() -> None:
    register = SipRegister(server="192.0.2.5", user="100")
    whole = settings(2, sip={"register": (register,)}, admin={"listen": "127.0.0.1:9464"})
    for part in shares(whole):
        assert [each.expires_seconds for each in part.sip.register] == [0]
        assert part.admin == AdminSettings()


@pytest.mark.parametrize(
    ("changed", "paths"),
    [
        ({}, []),
        ({"opensips": {"enabled": True}}, [("service.workers", "opensips.enabled")]),
        ({"service": {"max_calls": 3}}, [("service.workers", "service.max_calls")]),
        ({"rtp": {"min_port": 40000, "max_port": 40005}}, [("service.workers", "rtp.min_port", "rtp.max_port")]),
    ],
)
def test_what_cannot_be_shared_is_refused(changed: dict[str, Any], paths: list[tuple[str, ...]]) -> None:
    assert [finding.paths for finding in worker_contradictions(settings(4, **changed))] == paths
    assert list(worker_contradictions(settings(1, **changed))) == []
