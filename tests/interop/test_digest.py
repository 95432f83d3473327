"""Callers with passwords (`[[sip.users]]`): the digests that real telephones compute, and what a thief can do."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest
import trio

from aivc.testing.model import FakeModel
from interop import baresip, wire
from interop.calls import Case, make_call
from interop.checks import check_call
from interop.conversing import Scene, needs, open_scene, phones
from interop.phone import DIALLED, Line, Make
from interop.wire import Wire

pytestmark = pytest.mark.interop

USERS = '[[sip.users]]\nname = "desk"\npassword = "DESK_PASSWORD"\n'
MD5 = f'[sip]\ndigest = "MD5"\n{USERS}'  # libre of 2020 gives up when it sees SHA-256
SHA256 = f'[sip]\ndigest = "SHA-256"\n{USERS}'
ENVIRON = {"DESK_PASSWORD": "open-sesame"}
RIGHT, WRONG = Line(credentials=("desk", "open-sesame")), Line(credentials=("desk", "guessed"))
HEARD_OCTETS = 9600
ANSWER_SECONDS = 2.0


@pytest.mark.parametrize(
    ("case", "algorithm"),
    [
        (Case("baresip", "PCMU", "caller", RIGHT, ENVIRON, MD5), "MD5"),
        (Case("linphone", "PCMA", "caller", RIGHT, ENVIRON, USERS), "SHA-256"),
        (
            Case("pjsip", "PCMU", "model", attrs.evolve(RIGHT, transport="tcp"), ENVIRON, USERS),
            "MD5",
        ),  # the last offered
        (Case("pjsip", "PCMA", "caller", RIGHT, ENVIRON, SHA256), "SHA-256"),
    ],
    ids=lambda argument: str(argument),
)
async def test_a_telephone_that_knows_the_password_is_served(tmp_path: Path, case: Case, algorithm: str) -> None:
    if (reason := case.make.missing()) is not None:
        pytest.skip(reason)
    call = await make_call(case, tmp_path)
    check_call(call)
    assert call.wire is not None
    assert algorithms_of(call.wire, call.port) == {algorithm}


def algorithms_of(captured: Wire, port: int) -> set[str]:
    """Of the answers to challenges."""
    invites = [datagram.payload.decode() for datagram in captured.sip(port, "INVITE ")]
    fields = re.findall(r"\r\nAuthorization: *(.*)\r\n", "".join(invites))
    return {found[1] if (found := re.search(r'algorithm="?([\w-]+)', field)) else "MD5" for field in fields}


@phones("baresip", "linphone", "pjsip")
async def test_a_telephone_with_a_wrong_password_is_not_served(tmp_path: Path, make: Make) -> None:
    listen = {"AIVC_SIP_LISTEN": f"udp:{make.host()}:0", "RTP_BIND_IP": make.host()}
    async with open_scene(FakeModel(), tmp_path, MD5 if make is baresip else USERS, **ENVIRON, **listen) as scene:
        uri = scene.service.uri(DIALLED)
        async with make.call(uri, "PCMU", tmp_path, hangs_up=True, line=WRONG):
            refusal = await scene.service.wait_log("sip.refused", status=401)
    assert refusal
    assert scene.model.sessions == []


@needs(wire)
@phones("baresip")
async def test_credentials_that_somebody_has_overheard_are_good_for_nothing(tmp_path: Path, make: Make) -> None:
    async with open_scene(FakeModel(), tmp_path, MD5, **ENVIRON) as scene:
        async with make.call(scene.service.uri(DIALLED), "PCMU", tmp_path, hangs_up=True, line=RIGHT) as phone:
            session = await scene.model.wait_session()
            await session.wait_until(lambda session: len(session.received_audio) >= HEARD_OCTETS)
            await phone.hang_up()
            await phone.wait_over()
        answer = await said_again(scene)
    assert answer.startswith(b"SIP/2.0 401 ")
    assert len(scene.model.sessions) == 1


async def said_again(scene: Scene) -> bytes:
    """The answer to another call with the credentials that were on the wire."""
    with_password = [
        d.payload for d in scene.wire.sip(scene.service.port, "INVITE ") if b"\r\nAuthorization:" in d.payload
    ]
    stolen = re.sub(rb"\r\nCall-ID: *", b"\r\nCall-ID: thief", with_password[-1])
    stolen = stolen.replace(b"branch=z9hG4bK", b"branch=z9hG4bKthief")
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as thief, trio.fail_after(ANSWER_SECONDS):
        await thief.bind(("127.0.0.1", 0))
        await thief.sendto(stolen, scene.service.address)
        while (answer := await thief.recv(65536)).startswith(b"SIP/2.0 1"):
            pass
    return answer
