"""SRTP with keys in the SDP (RFC 4568): whole calls of real telephones, and callers that have none."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

from aivc.testing.model import FakeModel
from interop import sipp
from interop.calls import Call, Case, make_call
from interop.checks import check_call
from interop.conversing import needs, open_scene
from interop.phone import Line
from interop.sipp import played
from interop.sipp_scenario import ack_of_refusal, expect, invite, offer, scenario
from interop.speech import caller_speech, frames_of
from interop.wire import Wire

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(find_spec("pylibsrtp") is None, reason="needs the extra `srtp`"),
]

REQUIRED: Mapping[str, str] = {"AIVC_RTP_SRTP": "required"}
MIXED: Mapping[str, str] = {"AIVC_RTP_SRTP": "optional"}


async def called(case: Case, folder: Path) -> Call:
    if (reason := case.make.missing()) is not None:
        pytest.skip(reason)
    return await make_call(case, folder)


def plain_on_the_wire(call: Call) -> int:
    """Frames of what either has said that passed unencrypted."""
    assert call.wire is not None
    spoken = {*frames_of(call.answer), *frames_of(caller_speech(call.case.codec))}
    return sum(any(frame in datagram.payload for frame in spoken) for datagram in call.wire.datagrams)


def answer(wire: Wire) -> str:
    (first, *_) = [
        d.payload.decode() for d in wire.datagrams if d.payload.startswith(b"SIP/2.0 200") and b"a=crypto" in d.payload
    ]
    return first


@pytest.mark.parametrize(
    "case",
    [
        Case("baresip", "PCMU", "caller", Line(srtp="80"), REQUIRED),
        Case("baresip", "PCMA", "model", Line(srtp="80", transport="tls"), REQUIRED),
        Case("linphone", "PCMA", "caller", Line(srtp="80"), REQUIRED),
        Case("linphone", "PCMU", "caller", Line(srtp="32"), REQUIRED),
        Case("pjsip", "PCMU", "model", Line(srtp="80"), REQUIRED),
        Case("pjsip", "PCMA", "caller", Line(srtp="32", transport="tls"), MIXED),
    ],
    ids=lambda case: f"{case}-{case.line.srtp}-{case.line.transport}",
)
async def test_a_telephone_talks_in_secret(tmp_path: Path, case: Case) -> None:
    call = await called(case, tmp_path)
    check_call(call)
    if call.wire is not None:
        assert plain_on_the_wire(call) == 0
        if case.line.transport == "udp":
            assert f"a=crypto:1 AES_CM_128_HMAC_SHA1_{case.line.srtp} " in answer(call.wire)


async def test_where_srtp_is_optional_a_plain_telephone_is_served(tmp_path: Path) -> None:
    check_call(await called(Case("baresip", "PCMU", "caller", variables=MIXED), tmp_path))


@needs(sipp)
async def test_where_srtp_is_required_a_plain_telephone_gets_488(tmp_path: Path) -> None:
    steps = scenario(invite(offer("PCMU")), expect(488, Warning="SRTP|rtp\\.srtp"), ack_of_refusal())
    async with open_scene(FakeModel(), tmp_path, **REQUIRED) as scene:
        assert await played(scene.service.uri(), steps, tmp_path) == ""
    assert scene.model.sessions == []
