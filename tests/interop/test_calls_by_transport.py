"""Whole calls of real telephones over TCP, TLS and IPv6, and in packets of other lengths."""

from __future__ import annotations

from pathlib import Path

import pytest

from interop.calls import Call, Case, make_call
from interop.checks import check_call
from interop.phone import Line

pytestmark = pytest.mark.interop

TCP, TLS = Line(transport="tcp"), Line(transport="tls")
WORKERS = {"AIVC_SERVICE_WORKERS": "2"}


async def called(case: Case, folder: Path) -> Call:
    if (reason := case.make.missing()) is not None:
        pytest.skip(reason)
    return await make_call(case, folder)


@pytest.mark.parametrize(
    "case",
    [
        Case("baresip", "PCMU", "caller", TCP),
        Case("linphone", "PCMA", "caller", TCP),
        Case("pjsip", "PCMU", "model", TCP),
        Case("sipp", "PCMA", "caller", TCP),
    ],
    ids=str,
)
async def test_a_telephone_calls_over_tcp(tmp_path: Path, case: Case) -> None:
    call = await called(case, tmp_path)
    check_call(call)
    if call.media is not None:
        assert (call.media.bye_from == call.media.service) == (case.ends == "model")


@pytest.mark.parametrize(
    "case",
    [
        Case("baresip", "PCMA", "model", TLS),
        Case("linphone", "PCMU", "caller", TLS),
        Case("pjsip", "PCMU", "caller", TLS),
    ],
    ids=str,
)
async def test_a_telephone_calls_over_tls(tmp_path: Path, case: Case) -> None:
    call = await called(case, tmp_path)
    check_call(call)
    if call.wire is not None:
        ours = [d for d in call.wire.segments if call.port in (d.source[1], d.destination[1])]
        assert ours
        assert [segment for segment in ours if b"sip:" in segment.payload] == []


@pytest.mark.parametrize("phone", ["baresip", "sipp"])
async def test_a_telephone_calls_over_ipv6(tmp_path: Path, phone: str) -> None:
    check_call(await called(Case(phone, "PCMU", "caller", host="::1"), tmp_path))


@pytest.mark.parametrize(
    "case",
    [
        Case("baresip", "PCMA", "model", TLS, WORKERS),
        Case("pjsip", "PCMU", "caller", TCP, WORKERS),
        Case("sipp", "PCMU", "caller", variables=WORKERS, host="::1"),
        Case("linphone", "PCMU", "caller", variables=WORKERS),
    ],
    ids=str,
)
async def test_a_telephone_calls_one_of_several_workers(tmp_path: Path, case: Case) -> None:
    call = await called(case, tmp_path)
    check_call(call)
    assert call.record["worker"] in (0, 1)


@pytest.mark.parametrize(("phone", "ptime_ms"), [("baresip", 10), ("baresip", 30), ("linphone", 60)])
async def test_a_telephone_has_packets_of_another_length(tmp_path: Path, phone: str, ptime_ms: int) -> None:
    call = await called(Case(phone, "PCMU", "caller", Line(ptime_ms=ptime_ms)), tmp_path)
    check_call(call)
    assert call.media is not None
    assert {len(packet.payload) for packet in call.media.to_phone} == {8 * ptime_ms}
