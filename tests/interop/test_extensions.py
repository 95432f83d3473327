"""What telephones ask for beyond a plain call: reliable provisional responses, session timers, UPDATE, RTCP."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from aivc.testing.faults import Faults
from aivc.testing.model import FakeModel
from interop import baresip, pjsip, tshark, wire
from interop.conversing import Scene, needs, open_scene, phones
from interop.phone import DIALLED, PLAIN, Line, Make, RealPhone
from interop.tshark import dissected, is_true, write_capture

pytestmark = [pytest.mark.interop, needs(wire)]

REPORTS = {"AIVC_RTP_RTCP_SECONDS": "1"}
SENDER_REPORT, RECEIVER_REPORT, DESCRIPTION, BYE = "200", "201", "202", "203"  # packet types, RFC 3550 section 12.1
LOOPBACK_MS = 50
SESSION_SECONDS = 90
POLL_SECONDS = 0.05


@asynccontextmanager
async def talking(
    make: Make, folder: Path, line: Line = PLAIN, *, faults: Faults | None = None, seconds: float = 1.5
) -> AsyncIterator[tuple[Scene, RealPhone]]:
    """A call that is up for a while, and hung up by the telephone at the end of the block."""
    model = FakeModel(faults=faults or Faults())
    listen = {"AIVC_SIP_LISTEN": f"udp:{make.host()}:0", "RTP_BIND_IP": make.host()}
    async with open_scene(model, folder, **REPORTS, **listen) as scene:
        uri = scene.service.uri(DIALLED)
        async with make.call(uri, "PCMU", folder, hangs_up=True, line=line) as phone:
            session = await model.wait_session()
            await session.wait_until(lambda session: len(session.received_audio) >= 8000 * seconds)
            yield scene, phone
            await phone.hang_up()
            assert await phone.wait_over() == 0
            await scene.service.wait_log("call.ended")
    assert scene.record["ending"] == "caller_hung_up"


def sip(scene: Scene, start: str) -> list[str]:
    return [datagram.payload.decode() for datagram in scene.wire.sip(scene.service.port, start)]


@needs(pjsip)
async def test_pjsip_acknowledges_the_180_that_it_requires_to_be_reliable(tmp_path: Path) -> None:
    slow = Faults(session_updated_seconds=0.3)
    async with talking(pjsip, tmp_path, Line(reliable=True), faults=slow) as (scene, _):
        pass
    (ringing, *_) = sip(scene, "SIP/2.0 180")
    (prack, *_) = sip(scene, "PRACK ")
    number = re.search(r"\r\nRSeq: *(\d+)\r\n", ringing)
    assert number is not None
    assert re.search(rf"\r\nRAck: *{number[1]} \d+ INVITE\r\n", prack)
    assert [answer for answer in sip(scene, "SIP/2.0 200") if re.search(r"\r\nCSeq: *\d+ PRACK\r\n", answer)]


@phones("pjsip", "linphone")
async def test_a_telephone_and_we_agree_on_a_session_timer(tmp_path: Path, make: Make) -> None:
    async with talking(make, tmp_path, Line(session_seconds=SESSION_SECONDS)) as (scene, _):
        pass
    (answer,) = {a for a in sip(scene, "SIP/2.0 200") if " INVITE\r\n" in a}
    assert re.search(rf"\r\nSession-Expires: *{SESSION_SECONDS};refresher=ua[cs]\r\n", answer)
    assert "\r\nRequire: timer\r\n" in answer


@needs(pjsip)
async def test_a_telephone_that_asks_for_too_short_a_session_asks_again(tmp_path: Path) -> None:
    strict = {"AIVC_SIP_MIN_SE_SECONDS": "300", "AIVC_SIP_LISTEN": "udp:127.0.0.1:0"}
    async with open_scene(FakeModel(), tmp_path, **strict) as scene:
        line = Line(session_seconds=SESSION_SECONDS)
        async with pjsip.call(scene.service.uri(DIALLED), "PCMU", tmp_path, hangs_up=True, line=line) as phone:
            await scene.service.wait_log("call.answered")
            await phone.hang_up()
            assert await phone.wait_over() == 0
            await scene.service.wait_log("call.ended")
    (refusal, *_) = sip(scene, "SIP/2.0 422")
    assert "\r\nMin-SE: 300\r\n" in refusal
    assert any("\r\nSession-Expires: 300" in answer for answer in sip(scene, "SIP/2.0 200"))


def updates_answered(scene: Scene) -> list[str]:
    return [a for a in sip(scene, "SIP/2.0 200") if re.search(r"\r\nCSeq: *\d+ UPDATE\r\n", a)]


@needs(pjsip)
async def test_pjsip_renews_its_description_by_update(tmp_path: Path) -> None:
    async with talking(pjsip, tmp_path) as (scene, phone):
        await phone.program.type("update")
        with trio.fail_after(5):
            while not updates_answered(scene):  # noqa: ASYNC110 - packets are only noted as they pass
                await trio.sleep(POLL_SECONDS)
        (session,) = scene.model.sessions
        heard = len(session.received_audio)
        await session.wait_until(lambda session: len(session.received_audio) >= heard + 4000)
    assert scene.record["ending"] == "caller_hung_up"


# RTCP


@needs(tshark)
@phones("baresip", "pjsip", "linphone")
async def test_tshark_reads_our_reports_and_our_goodbye(tmp_path: Path, make: Make) -> None:
    async with talking(make, tmp_path, seconds=3.0) as (scene, _):
        pass
    write_capture(tmp_path / "call.pcap", scene.wire.datagrams)
    _, (host, port) = scene.wire.media_of(scene.service.port)
    packets = scene.rtp_to_phone()
    fields = ("rtcp.pt", "rtcp.senderssrc", "rtcp.sender.packetcount", "rtcp.length_check", "frame.number")
    ours = f"rtcp && ip.src=={host} && udp.srcport=={port + 1}"
    reports = dissected(tmp_path / "call.pcap", ours, fields, f"udp.port=={port + 1},rtcp")
    assert len(reports) >= 2
    assert {int(report[1], 16) for report in reports} == {packets[0].ssrc}
    assert {is_true(report[3]) for report in reports} == {True}
    counted = 0
    for kinds, _, count, _, number in reports:
        at = scene.wire.datagrams[int(number) - 1].at
        before, counted = counted, sum(packet.at < at for packet in packets)
        anew = counted > before  # a busy machine may owe two reports at once: RFC 3550 section 6.4 wants RR then
        assert kinds.split(",")[:2] == [SENDER_REPORT if anew else RECEIVER_REPORT, DESCRIPTION]
        assert count == (str(counted) if anew else "")
    assert counted == scene.record["rtp"]["sent"]
    assert [BYE in report[0].split(",") for report in reports] == [False] * (len(reports) - 1) + [True]


@phones("baresip", "pjsip")
async def test_what_the_telephone_reports_is_in_the_record(tmp_path: Path, make: Make) -> None:
    async with talking(make, tmp_path, seconds=7.0) as (scene, phone):  # they report every 5 s
        if make is pjsip:
            await phone.program.type("count")
            figures = json.loads((await phone.program.wait_output(r"figures (\{.*\})"))[1])
            assert figures["reports"] >= 2  # of ours
            assert figures["round_trips"] >= 1
            assert (figures["lost"], figures["lost_there"]) == (0, 0)
    quality = scene.record["quality"]
    assert quality["reports_received"] >= 1
    assert quality["reports_ignored"] <= 2 * (make is baresip)  # its streams begin with an APP packet alone
    assert (quality["lost"], quality["remote_lost"]) == (0, 0)
    assert 0 <= quality["round_trip_ms"] < LOOPBACK_MS
    if make is baresip:  # packets sent and received, and lost each way, as baresip sums it up
        summary = re.search(r"PR=(\d+);PS=(\d+);PL=0,0;", phone.program.output)
        assert summary is not None
        assert int(summary[1]) > 0
