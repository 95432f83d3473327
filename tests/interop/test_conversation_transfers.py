"""Transfers that the model asks for, through the whole service: the telephone follows, or the talk goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from aivc.testing.model import FakeModel
from aivc.testing.schema import Json
from aivc.testing.script import CallTool, Context, Part, Say, decided
from interop import kamailio, sipp, wire
from interop.conversing import needs, open_scene, outputs_told, phones
from interop.kamailio import open_kamailio
from interop.phone import DIALLED, Make
from interop.sipp import open_target, played
from interop.sipp_scenario import (
    answered,
    answering,
    expect,
    expect_request,
    notify,
    of_dialog,
    refusing,
    scenario,
)
from interop.wire import Datagram, Wire

pytestmark = [
    pytest.mark.interop,
    needs(sipp),
]

needs_wire = needs(wire)
needs_kamailio = needs(kamailio)

TARGET = "sip:200@127.0.0.1:5999"  # nobody's: SIPp as the caller only tells of the call to it
HEARD_OCTETS = 9600  # baresip does not tell of the end of a call that lasted less than a second
FINAL = "terminated;reason=noresource"


def operator(context: Context) -> Sequence[Part]:
    """Transfers the call at once; says goodbye and hangs up if it comes to nothing."""
    if context.outputs:
        return [Say("Nobody is there. Goodbye.", seconds=0.6), CallTool("terminate_call")]
    return [Say("I connect you.", seconds=0.4), CallTool("transfer_call")]


def model() -> FakeModel:
    return FakeModel(decided(operator))


def transfer_of(record: Json) -> dict[str, Any]:
    """The only one of a record, without its times; the target was not asked."""
    (transfer,) = record["transfers"]
    assert not transfer["attended"]
    return {key: value for key, value in transfer.items() if key != "attended" and not key.endswith("_at")}


def sipfrags(wire: Wire, port: int) -> list[str]:
    """The statuses of which NOTIFYs told, in their order, each once."""
    bodies = [datagram.payload.decode().partition("\r\n\r\n")[2] for datagram in wire.sip(port, "NOTIFY ")]
    return list(dict.fromkeys(body.splitlines()[0] for body in bodies))


def has_field(datagram: Datagram, line: str) -> bool:
    return any(found.startswith(line) for found in datagram.payload.decode().split("\r\n"))


# A telephone and a second one


@phones("baresip", "pjsip")
async def test_a_telephone_follows_the_transfer_to_a_second_one(tmp_path: Path, make: Make) -> None:
    async with (
        open_target(answering("PCMU"), tmp_path) as (uri, target),
        open_scene(model(), tmp_path, OPENAI_TRANSFER_TO=uri) as scene,
        make.call(scene.service.uri(DIALLED), "PCMU", tmp_path, hangs_up=True) as phone,
    ):
        await scene.service.wait_log("call.ended")
        await phone.hang_up()  # of the second call
        assert await target.wait_exit() == 0  # called, acknowledged and hung up on
    assert scene.record["ending"] == "transferred"
    assert transfer_of(scene.record) == {"target": uri, "status": 200, "text": "OK", "succeeded": True}
    if scene.captured is not None:
        assert sipfrags(scene.wire, scene.service.port)[-1].startswith("SIP/2.0 200")
        assert scene.wire.sip(scene.service.port, "BYE ")[0].source == scene.service.address


@phones("baresip", "pjsip")
async def test_a_telephone_stays_with_the_model_when_the_second_one_is_busy(tmp_path: Path, make: Make) -> None:
    async with (
        open_target(refusing("486 Busy Here"), tmp_path) as (uri, target),
        open_scene(model(), tmp_path, OPENAI_TRANSFER_TO=uri) as scene,
        make.call(scene.service.uri(DIALLED), "PCMU", tmp_path, hangs_up=False) as phone,
    ):
        assert await target.wait_exit() == 0
        await scene.service.wait_log("call.ended")
        await phone.program.wait_output(phone.over)
    (session,) = scene.model.sessions
    assert "486 Busy Here; the caller is still on the line" in outputs_told(session)[0]
    assert session.errors == []
    assert [line["text"] for line in scene.record["transcript"]] == ["I connect you.", "Nobody is there. Goodbye."]
    assert transfer_of(scene.record) == {"target": uri, "status": 486, "text": "Busy Here", "succeeded": False}
    assert scene.record["ending"] == "model_hung_up"


# SIPp by the letter


def referred(status_line: str) -> str:
    return answered("PCMU") + expect_request("REFER", status_line, Refer_To="^ *.sip:200@127\\\\.0\\\\.0\\\\.1:5999.$")


TRYING = notify(2, "100 Trying", "active;expires=60") + expect(200)
ANSWERED = {"target": TARGET, "status": 200, "text": "OK", "succeeded": True}
DECLINED = {"target": TARGET, "status": 603, "text": "Decline", "succeeded": False}
SILENCE = {"target": TARGET, "status": None, "text": "no answer", "succeeded": False}
LEFT = {"target": TARGET, "status": None, "text": "the caller hung up", "succeeded": False}


@pytest.mark.parametrize(
    ("steps", "transfer", "ending", "told"),
    [
        pytest.param(
            referred("202 Accepted") + TRYING + notify(3, "200 OK", FINAL) + expect(200) + expect_request("BYE"),
            ANSWERED,
            "transferred",
            None,
            id="success",
        ),
        pytest.param(
            referred("603 Decline") + expect_request("BYE"), DECLINED, "model_hung_up", "603 Decline", id="refused"
        ),
        pytest.param(
            referred("202 Accepted") + expect_request("BYE"), SILENCE, "model_hung_up", "no answer", id="silence"
        ),
        pytest.param(
            referred("202 Accepted") + of_dialog("BYE", 2) + expect(200), LEFT, "transferred", None, id="left"
        ),
    ],
)
async def test_the_call_ends_or_goes_on_as_the_telephone_tells(
    tmp_path: Path, steps: str, transfer: Json, ending: str, told: str | None
) -> None:
    variables = {"OPENAI_TRANSFER_TO": TARGET, "AIVC_OPENAI_TRANSFER_SECONDS": "1"}
    async with open_scene(model(), tmp_path, **variables) as scene:
        assert await played(scene.service.uri(), scenario(steps), tmp_path) == ""
    (session,) = scene.model.sessions
    assert scene.record["ending"] == ending
    assert transfer_of(scene.record) == transfer
    assert [told in output for output in outputs_told(session)[:1] if told is not None] == [True] * (told is not None)
    assert session.errors == []


# A proxy between


@needs_wire
@needs_kamailio
@phones("pjsip")
async def test_refer_and_bye_go_through_the_proxy_that_recorded_its_route(tmp_path: Path, make: Make) -> None:
    async with (
        open_target(answering("PCMU"), tmp_path) as (uri, target),
        open_scene(model(), tmp_path, OPENAI_TRANSFER_TO=uri) as scene,
        open_kamailio(scene.service, tmp_path) as proxy,
        make.call(f"sip:{DIALLED}@127.0.0.1:{proxy}", "PCMU", tmp_path, hangs_up=True) as phone,
    ):
        await scene.service.wait_log("call.ended")
        await phone.hang_up()
        assert await target.wait_exit() == 0
    assert scene.record["ending"] == "transferred"
    assert transfer_of(scene.record) == {"target": uri, "status": 200, "text": "OK", "succeeded": True}
    for method in ("REFER ", "BYE "):
        ours = [d for d in scene.wire.sip(proxy, method) if d.source == scene.service.address]
        assert ours
        assert all(d.destination[1] == proxy and has_field(d, f"Route: <sip:127.0.0.1:{proxy};lr") for d in ours)
    assert {d.source[1] for d in scene.wire.sip(scene.service.port, "NOTIFY ")} == {proxy}


@needs_wire
@needs_kamailio
@phones("baresip")
async def test_a_caller_hangs_up_through_the_proxy(tmp_path: Path, make: Make) -> None:
    async with (
        open_scene(FakeModel(), tmp_path) as scene,
        open_kamailio(scene.service, tmp_path) as proxy,
        make.call(f"sip:{DIALLED}@127.0.0.1:{proxy}", "PCMU", tmp_path, hangs_up=True) as phone,
    ):
        await (await scene.model.wait_session()).wait_until(lambda session: len(session.received_audio) >= HEARD_OCTETS)
        await phone.hang_up()
        assert await phone.wait_over() == 0
        await scene.service.wait_log("call.ended")
    assert scene.record["ending"] == "caller_hung_up"
    assert {d.source[1] for d in scene.wire.sip(scene.service.port, "BYE ")} == {proxy}
