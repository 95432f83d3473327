"""Being an extension of a PBX: Kamailio as the registrar, and calls that come through it."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from aivc.testing.model import FakeModel
from interop import kamailio, sipp
from interop.conversing import Scene, needs, open_scene, phones
from interop.kamailio import HOST, free_port, open_registrar
from interop.phone import Make
from interop.sipp import played
from interop.sipp_scenario import IN_DIALOG, ack_of_refusal, expect, expect_answer, invite, offer, request, scenario

pytestmark = [pytest.mark.interop, needs(kamailio), needs(sipp)]

PASSWORD = "let-me-in"
EXTENSION = """
[[sip.register]]
user = "200"
server = "127.0.0.1:{port}"
password = "PBX_PASSWORD"
transport = "{transport}"
expires_seconds = {seconds}
"""
LISTEN = {"AIVC_SIP_LISTEN": "udp:127.0.0.1:0,tcp:127.0.0.1:0"}
HEARD_OCTETS = 9600
RENEWED_SECONDS = 15.0
POLL_SECONDS = 0.5


def routed(method: str, sequence: int) -> str:
    """By the route that Kamailio recorded."""
    repeat = method != "ACK"
    return request(method, sequence, uri=IN_DIALOG, to="[last_To:]", fields=("[routes]",), repeat=repeat)


CALL = scenario(
    invite(offer("PCMU")) + '<recv response="100"></recv><recv response="180" optional="true"></recv>',
    expect_answer() + routed("ACK", 1) + routed("BYE", 2) + expect(200),
)
NOBODY = scenario(invite(offer("PCMU")) + expect(404) + ack_of_refusal())


def extension(port: int, transport: str, seconds: int = 600) -> str:
    return EXTENSION.format(port=port, transport=transport, seconds=seconds)


def at(port: int) -> str:
    return f"sip:200@{HOST}:{port}"


async def registered(scene: Scene, times: int = 1) -> None:
    await scene.service.program.wait_until(lambda _: len(scene.service.log("sip.registered")) >= times or None)


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_calls_come_by_the_registrar_and_no_more_when_the_service_has_stopped(
    tmp_path: Path, transport: str, algorithm: str
) -> None:
    port = free_port()
    async with open_registrar(tmp_path, port, PASSWORD, algorithm):
        settings = extension(port, transport)
        async with open_scene(FakeModel(), tmp_path, settings, PBX_PASSWORD=PASSWORD, **LISTEN) as scene:
            await registered(scene)
            assert await played(at(port), CALL, tmp_path / "call") == ""
        with trio.fail_after(RENEWED_SECONDS):
            assert await played(at(port), NOBODY, tmp_path / "nobody") == ""
    assert scene.record["ending"] == "caller_hung_up"
    assert scene.service.log("sip.unregistered")


@phones("baresip", "pjsip")
async def test_a_telephone_reaches_us_by_our_extension(tmp_path: Path, make: Make) -> None:
    port = free_port()
    async with (
        open_registrar(tmp_path, port, PASSWORD),
        open_scene(FakeModel(), tmp_path, extension(port, "udp"), PBX_PASSWORD=PASSWORD) as scene,
    ):
        await registered(scene)
        async with make.call(at(port), "PCMU", tmp_path, hangs_up=True) as phone:
            session = await scene.model.wait_session()
            await session.wait_until(lambda session: len(session.received_audio) >= HEARD_OCTETS)
            await phone.hang_up()
            assert await phone.wait_over() == 0
            await scene.service.wait_log("call.ended")
    assert scene.record["ending"] == "caller_hung_up"
    assert scene.record["dialled"] == "200"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_registrar_that_comes_back_knows_us_again(tmp_path: Path, transport: str) -> None:
    port, seconds = free_port(), 4  # over UDP only the renewal, at half time, finds out
    (tmp_path / "before").mkdir()
    async with open_scene(
        FakeModel(), tmp_path, extension(port, transport, seconds), PBX_PASSWORD=PASSWORD, **LISTEN
    ) as scene:
        async with open_registrar(tmp_path / "before", port, PASSWORD):
            await registered(scene)
        async with open_registrar(tmp_path, port, PASSWORD):
            with trio.fail_after(RENEWED_SECONDS):
                await registered(scene, 2 if transport == "tcp" else 1)
                while await played(at(port), CALL, tmp_path / "call"):  # noqa: ASYNC110 - each try is one
                    await trio.sleep(POLL_SECONDS)
        await scene.service.wait_log("call.ended")


async def test_a_wrong_password_is_told_of_with_what_to_do(tmp_path: Path) -> None:
    port = free_port()
    async with (
        open_registrar(tmp_path, port, PASSWORD),
        open_scene(FakeModel(), tmp_path, extension(port, "udp"), PBX_PASSWORD="wrong") as scene,
    ):
        failed = await scene.service.wait_log("sip.registration_failed")
    assert "401" in failed["error"]
    assert "password" in failed["advice"]
    assert failed["user"] == "200"
