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

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(find_spec("pylibsrtp") is None, reason="needs the extra `srtp`"),
]

SOME = 100  # packets: two seconds one way
REQUIRED: Mapping[str, str] = {"AIVC_RTP_SRTP": "required"}
MIXED: Mapping[str, str] = {"AIVC_RTP_SRTP": "optional"}


async def called(case: Case, folder: Path) -> Call:
    if (reason := case.make.missing()) is not None:
        pytest.skip(reason)
    return await make_call(case, folder)


def plain_on_the_wire(call: Call) -> tuple[int, int]:
    """Datagrams of the call's media, and those of them with what either has said unencrypted."""
    assert call.wire is not None
    (answered,) = [line for line in call.log if line["event"] == "sip.answered"]
    ends = [(f"{d.source[0]}:{d.source[1]}", f"{d.destination[0]}:{d.destination[1]}", d) for d in call.wire.datagrams]
    media = [datagram for source, destination, datagram in ends if answered["media"] in (source, destination)]
    spoken = {*frames_of(call.answer), *frames_of(caller_speech(call.case.codec))}
    return len(media), sum(any(frame in datagram.payload for frame in spoken) for datagram in media)


def answer(call: Call) -> str:
    """The 200 to the INVITE of this call."""
    assert call.wire is not None
    answers = [datagram.payload.decode() for datagram in call.wire.sip(call.port, "SIP/2.0 200")]
    return next(answer for answer in answers if " INVITE\r\n" in answer)


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
        media, plain = plain_on_the_wire(call)
        assert media > SOME
        assert plain == 0
        if case.line.transport == "udp":
            assert f"a=crypto:1 AES_CM_128_HMAC_SHA1_{case.line.srtp} " in answer(call)


async def test_where_srtp_is_optional_a_plain_telephone_is_served(tmp_path: Path) -> None:
    call = await called(Case("baresip", "PCMU", "caller", variables=MIXED), tmp_path)
    check_call(call)
    if call.wire is not None:
        assert plain_on_the_wire(call)[1] > SOME  # so the check of the others can fail


@needs(sipp)
async def test_where_srtp_is_required_a_plain_telephone_gets_488(tmp_path: Path) -> None:
    steps = scenario(invite(offer("PCMU")), expect(488, Warning="SRTP|rtp\\.srtp"), ack_of_refusal())
    async with open_scene(FakeModel(), tmp_path, **REQUIRED) as scene:
        assert await played(scene.service.uri(), steps, tmp_path) == ""
    assert scene.model.sessions == []
