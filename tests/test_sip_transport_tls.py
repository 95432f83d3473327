"""TLS: who is believed, what a bad file says, certificates that change while we run."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trustme
from cryptography.hazmat.primitives import serialization
from transport_world import PHONE, SERVER, World, dial, listen_at, read_one, request, world
from trio.testing import MockClock

from aivc.config.settings import SipSettings
from aivc.sip.message import Request, Response
from aivc.sip.tls import CertificateError, Certificates

VIA = "SIP/2.0/TLS 192.0.2.10:5071;branch=z9hG4bK1"
TLS = "tls:192.0.2.1:5061"


@attrs.frozen(eq=False)
class Pki:
    """An authority, and files with its certificate and ours."""

    folder: Path
    authority: trustme.CA

    def issue(self, *names: str) -> trustme.LeafCert:
        return self.authority.issue_cert(*names)

    def write(self, name: str, *blobs: trustme.Blob) -> str:
        path = self.folder / name
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        return str(path)

    def settings(self, ours: trustme.LeafCert) -> SipSettings:
        return SipSettings(
            listen=(TLS,),
            tls_certificate=self.write("cert.pem", *ours.cert_chain_pems),
            tls_key=self.write("key.pem", ours.private_key_pem),
            tls_ca=self.write("ca.pem", self.authority.cert_pem),
        )

    def client(self, own: trustme.LeafCert | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.authority.configure_trust(context)
        if own is not None:
            own.configure_cert(context)
        return context

    def server(self, own: trustme.LeafCert) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        own.configure_cert(context)
        return context


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path, trustme.CA())


async def secure(context: ssl.SSLContext, host: str = SERVER[0]) -> trio.SSLStream[trio.SocketStream]:
    return trio.SSLStream(await dial(to=(host, 5061)), context, server_hostname=host, https_compatible=True)


async def ask(at: World, stream: trio.SSLStream[trio.SocketStream]) -> Response:
    await stream.send_all(request(via=VIA))
    arrival = await at.arrival()
    assert arrival.flow.transport == "TLS"
    at.answer(arrival)
    response = await read_one(stream)
    assert isinstance(response, Response)
    return response


async def test_a_request_over_tls_is_answered_on_its_connection(autojump_clock: MockClock, pki: Pki) -> None:
    async with world(TLS, settings=pki.settings(pki.issue(SERVER[0]))) as at:
        async with await secure(pki.client()) as phone:
            assert (await ask(at, phone)).status == 200
            await phone.send_all(b"\r\n\r\n")
            assert await phone.receive_some() == b"\r\n"
        assert at.transports.listening == (("TLS", (SERVER[0], 5061)),)


async def test_versions_before_tls_1_2_are_refused(autojump_clock: MockClock, pki: Pki) -> None:
    settings = pki.settings(pki.issue(SERVER[0]))
    certificates = Certificates(settings)
    assert certificates.server is not None
    assert certificates.server.minimum_version == certificates.client.minimum_version == ssl.TLSVersion.TLSv1_2
    context = pki.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with world(TLS, settings=settings) as at, await secure(context) as phone:
        assert (await ask(at, phone)).status == 200


async def test_plain_text_on_a_tls_port_costs_its_connection(autojump_clock: MockClock, pki: Pki) -> None:
    async with world(TLS, settings=pki.settings(pki.issue(SERVER[0]))) as at:
        async with await dial(to=(SERVER[0], 5061)) as phone:
            await phone.send_all(request())
            assert await phone.receive_some() == b""
        assert (at.counters.handshakes_failed, at.counters.received, at.counters.closed) == (1, 0, 1)


async def test_a_handshake_has_to_be_complete_in_time(autojump_clock: MockClock, pki: Pki) -> None:
    settings = attrs.evolve(pki.settings(pki.issue(SERVER[0])), message_seconds=3.0)
    async with world(TLS, settings=settings) as at, await dial(to=(SERVER[0], 5061)) as silent:
        began = trio.current_time()
        assert await silent.receive_some() == b""
        assert trio.current_time() - began == pytest.approx(3)
        assert at.counters.slow == 1


async def test_an_answer_after_the_loss_of_the_connection_goes_to_a_peer_that_proves_its_name(
    autojump_clock: MockClock, pki: Pki
) -> None:
    async with world(TLS, settings=pki.settings(pki.issue(SERVER[0]))) as at:
        for name, status in (("phone.test", 200), ("other.test", None)):
            with await listen_at((PHONE[0], 5071)) as listener:
                async with await secure(pki.client()) as phone:
                    await phone.send_all(request(via=VIA.replace("192.0.2.10", "phone.test")))
                    arrival = await at.arrival()
                await trio.sleep(0.1)
                at.answer(arrival)
                context = pki.server(pki.issue(name))
                async with trio.SSLStream(
                    trio.SocketStream((await listener.accept())[0]), context, server_side=True
                ) as back:
                    if status is None:
                        with pytest.raises(trio.BrokenResourceError):
                            await back.receive_some()
                    else:
                        assert isinstance(await read_one(back), Response)
        assert (at.counters.handshakes_failed, at.counters.unsent) == (1, 1)


async def test_a_connection_of_ours_is_shared_by_those_who_want_the_same_name_only(
    autojump_clock: MockClock, pki: Pki
) -> None:
    async with world(TLS, settings=pki.settings(pki.issue(SERVER[0]))) as at:
        at.network.names |= {"a.test": PHONE[0], "b.test": PHONE[0]}
        with await listen_at((PHONE[0], 5061)) as listener:
            first = await at.transports.towards("TLS", "a.test", None)
            assert (first.peer, first.local) == ((PHONE[0], 5061), (SERVER[0], 5061))
            assert await at.transports.towards("TLS", "a.test", 5061) is first
            assert await at.transports.towards("TLS", "b.test", None) is not first
            (await listener.accept())[0].close()


async def test_a_server_without_a_tls_socket_of_its_own_can_be_a_client(autojump_clock: MockClock, pki: Pki) -> None:
    settings = SipSettings(tls_ca=pki.write("ca.pem", pki.authority.cert_pem))
    async with world(settings=settings) as at:
        at.network.names["pbx.test"] = PHONE[0]
        with await listen_at((PHONE[0], 5061)) as listener:
            flow = await at.transports.towards("TLS", "pbx.test", None)
            flow.send_nowait(request("REGISTER"))
            context = pki.server(pki.issue("pbx.test"))
            socket, source = await listener.accept()
            async with trio.SSLStream(trio.SocketStream(socket), context, server_side=True) as pbx:
                message = await read_one(pbx)
                assert isinstance(message, Request)
                assert flow.local == source


@pytest.mark.parametrize(
    ("setting", "content", "message"),
    [
        ("tls_certificate", None, r"cannot read the certificate .*bad\.pem \(sip\.tls_certificate\): No such file"),
        ("tls_certificate", "rubbish", r"cannot use the certificate .*bad\.pem \(sip\.tls_certificate\) with the key"),
        ("tls_key", None, r"cannot read the key .*bad\.pem \(sip\.tls_key\): No such file"),
        ("tls_key", "rubbish", r"with the key .*bad\.pem \(sip\.tls_key\)"),
        ("tls_client_ca", None, r"cannot read the authorities .*bad\.pem \(sip\.tls_client_ca\): No such file"),
        ("tls_client_ca", "rubbish", r"cannot use the authorities .*bad\.pem \(sip\.tls_client_ca\): no certificate"),
        ("tls_ca", "rubbish", r"cannot use the authorities .*bad\.pem \(sip\.tls_ca\): no certificate"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_setting_and_the_reason(
    pki: Pki, setting: str, content: str | None, message: str
) -> None:
    bad = pki.folder / "bad.pem"
    if content is not None:
        bad.write_text(content)
    changes: dict[str, Any] = {setting: str(bad)}
    settings = attrs.evolve(pki.settings(pki.issue(SERVER[0])), **changes)
    with pytest.raises(CertificateError, match=message):
        Certificates(settings)


def test_a_key_of_another_certificate_and_one_with_a_password_are_refused_without_a_question(pki: Pki) -> None:
    settings = pki.settings(pki.issue(SERVER[0]))
    pki.write("key.pem", pki.issue(SERVER[0]).private_key_pem)
    with pytest.raises(CertificateError, match="key values mismatch"):
        Certificates(settings)
    key = serialization.load_pem_private_key(pki.issue(SERVER[0]).private_key_pem.bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (pki.folder / "key.pem").write_bytes(key.private_bytes(pem, pkcs8, locked))
    with pytest.raises(CertificateError, match=r"key\.pem \(sip\.tls_key\): it is protected by a password"):
        Certificates(settings)


def test_listening_for_tls_needs_a_certificate() -> None:
    with pytest.raises(CertificateError, match=r"sip\.tls_certificate is not set"):
        Certificates(SipSettings(listen=(TLS,)))


async def test_new_connections_get_the_certificate_that_was_read_again(autojump_clock: MockClock, pki: Pki) -> None:
    first, second = pki.issue(SERVER[0]), pki.issue(SERVER[0])
    async with world(TLS, settings=pki.settings(first)) as at, await secure(pki.client()) as old:
        await ask(at, old)
        pki.settings(second)
        assert at.transports.reload_certificates()
        async with await secure(pki.client()) as new:
            await ask(at, new)
            serials = [stream.getpeercert()["serialNumber"] for stream in (old, new)]
            assert serials[0] != serials[1]
        assert (await ask(at, old)).status == 200  # what runs goes on


async def test_a_broken_file_keeps_the_old_certificate_and_says_so(
    autojump_clock: MockClock, pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(TLS, settings=pki.settings(pki.issue(SERVER[0]))) as at:
        (pki.folder / "cert.pem").write_text("rubbish")
        with caplog.at_level(logging.ERROR, "aivc.sip"):
            assert not at.transports.reload_certificates()
        [record] = caplog.records
        assert record.getMessage() == "sip.certificates_kept"
        assert "cert.pem (sip.tls_certificate)" in vars(record)["fields"]["cause"]
        async with await secure(pki.client()) as phone:
            assert (await ask(at, phone)).status == 200
