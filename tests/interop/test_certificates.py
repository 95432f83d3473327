"""Certificates as real telephones see them: asked for, refused, and changed while a call is up."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trio
import trustme

from aivc.testing.model import FakeModel
from interop import baresip
from interop.certificates import write_certificate, write_certificates
from interop.conversing import needs, open_scene, phones
from interop.phone import DIALLED, Line, Make

pytestmark = pytest.mark.interop

HOST = "127.0.0.1"
HEARD_OCTETS = 9600
SHOWN_SECONDS = 5.0


def secured(folder: Path) -> dict[str, str]:
    """The service's settings for TLS."""
    certificates = folder / "certificates"
    write_certificates(certificates, HOST)
    return {
        "AIVC_SIP_LISTEN": f"tls:{HOST}:0",
        "AIVC_SIP_TLS_CERTIFICATE": str(certificates / "service.pem"),
    }


@phones("baresip", "pjsip")
async def test_a_telephone_shows_its_certificate(tmp_path: Path, make: Make) -> None:
    asked = secured(tmp_path) | {"AIVC_SIP_TLS_CLIENT_CA": str(tmp_path / "certificates" / "ca.pem")}
    line = Line(transport="tls", certificates=tmp_path / "certificates")
    async with open_scene(FakeModel(), tmp_path, **asked) as scene:
        uri = scene.service.uri(DIALLED, "tls")
        async with make.call(uri, "PCMU", tmp_path, hangs_up=True, line=line) as phone:
            session = await scene.model.wait_session()
            await session.wait_until(lambda session: len(session.received_audio) >= HEARD_OCTETS)
            await phone.hang_up()
            assert await phone.wait_over() == 0
            await scene.service.wait_log("call.ended")
    assert scene.record["ending"] == "caller_hung_up"


@phones("baresip", "pjsip")
async def test_a_telephone_of_another_authority_cannot_connect(tmp_path: Path, make: Make) -> None:
    asked = secured(tmp_path) | {"AIVC_SIP_TLS_CLIENT_CA": str(tmp_path / "certificates" / "ca.pem")}
    stranger = tmp_path / "certificates" / "telephone.pem"
    write_certificate(stranger, trustme.CA(), "telephone.example.com")
    line = Line(transport="tls", certificates=tmp_path / "certificates")
    async with open_scene(FakeModel(), tmp_path, **asked) as scene:
        uri = scene.service.uri(DIALLED, "tls")
        async with make.call(uri, "PCMU", tmp_path, hangs_up=True, line=line):
            failed = await scene.service.wait_log("sip.handshake_failed")
    assert "certificate" in failed["cause"].lower()
    assert scene.model.sessions == []


@needs(baresip)
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_new_certificate_is_shown_from_sighup_on_and_the_call_goes_on(tmp_path: Path, workers: int) -> None:
    settings = secured(tmp_path) | {"AIVC_SERVICE_WORKERS": f"{workers}"}
    line = Line(transport="tls", certificates=tmp_path / "certificates")
    async with open_scene(FakeModel(), tmp_path, **settings) as scene:
        uri = scene.service.uri(DIALLED, "tls")
        async with baresip.call(uri, "PCMU", tmp_path, hangs_up=True, line=line) as phone:
            session = await scene.model.wait_session()
            await session.wait_until(lambda session: len(session.received_audio) >= HEARD_OCTETS)
            before = await shown(scene.service.address)
            write_certificate(tmp_path / "certificates" / "service.pem", trustme.CA(), HOST)
            scene.service.reload()
            await scene.service.wait_log("service.reloaded")
            assert await shown(scene.service.address) != before
            heard = len(session.received_audio)
            await session.wait_until(lambda session: len(session.received_audio) >= heard + HEARD_OCTETS)
            await phone.hang_up()  # over the connection that began with the old one
            assert await phone.wait_over() == 0
            await scene.service.wait_log("call.ended")
    assert scene.record["ending"] == "caller_hung_up"


async def shown(address: tuple[str, int]) -> bytes:
    """The certificate that whoever connects now gets to see."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with trio.fail_after(SHOWN_SECONDS):
        stream = await trio.open_ssl_over_tcp_stream(*address, ssl_context=context, https_compatible=True)
        async with stream:
            await stream.do_handshake()
            certificate = stream.getpeercert(binary_form=True)
    assert isinstance(certificate, bytes)
    return certificate
