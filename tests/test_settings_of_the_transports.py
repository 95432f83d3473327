"""What the settings of `sip` for TCP and TLS change."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio
import trustme
from settings_shown import shows
from test_sip_transport_tls import TLS, Pki, ask, secure
from transport_world import PHONE, SERVER, dial, listen_at, read_one, request, world
from trio.testing import MockClock

from aivc.config.settings import SipSettings
from aivc.sip.message import Request, Response


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path, trustme.CA())


@shows("sip.tls_certificate")
async def test_the_certificate_is_the_one_that_callers_see(autojump_clock: MockClock, pki: Pki) -> None:
    ours = pki.issue(SERVER[0], "aivc.test")
    async with world(TLS, settings=pki.settings(ours)) as at, await secure(pki.client()) as phone:
        await ask(at, phone)
        assert ("DNS", "aivc.test") in phone.getpeercert()["subjectAltName"]


@shows("sip.tls_key")
async def test_the_key_may_be_in_a_file_of_its_own_or_in_the_certificates(autojump_clock: MockClock, pki: Pki) -> None:
    ours = pki.issue(SERVER[0])
    apart = pki.settings(ours)
    together = attrs.evolve(
        apart, tls_certificate=pki.write("both.pem", ours.private_key_and_cert_chain_pem), tls_key=None
    )
    for settings in (apart, together):
        async with world(TLS, settings=settings) as at, await secure(pki.client()) as phone:
            assert (await ask(at, phone)).status == 200


async def is_refused(phone: trio.SSLStream[trio.SocketStream]) -> bool:
    """In TLS 1.3 the caller learns it after its first message."""
    try:
        await phone.send_all(request())
        return await phone.receive_some() == b""
    except trio.BrokenResourceError:
        return True


@shows("sip.tls_client_ca")
async def test_callers_need_a_certificate_of_the_given_authority(autojump_clock: MockClock, pki: Pki) -> None:
    settings = pki.settings(pki.issue(SERVER[0]))
    settings = attrs.evolve(settings, tls_client_ca=settings.tls_ca)
    async with world(TLS, settings=settings) as at:
        async with await secure(pki.client(pki.issue("trunk.test"))) as trunk:
            assert (await ask(at, trunk)).status == 200
        for stranger in (pki.client(), pki.client(trustme.CA().issue_cert("trunk.test"))):
            async with await secure(stranger) as phone:
                assert await is_refused(phone)
        assert (at.counters.handshakes_failed, at.counters.received) == (2, 1)


@shows("sip.tls_ca")
@pytest.mark.parametrize("is_known", [True, False])
async def test_servers_are_believed_that_the_given_authority_knows(
    autojump_clock: MockClock, pki: Pki, is_known: bool
) -> None:
    other = trustme.CA()
    known = pki.authority if is_known else other
    settings = SipSettings(tls_ca=pki.write("known.pem", known.cert_pem))
    async with world(settings=settings) as at:
        with await listen_at((PHONE[0], 5061)) as listener:
            flow = await at.transports.towards("TLS", PHONE[0], None)
            flow.send_nowait(request("REGISTER"))
            context = pki.server(pki.issue(PHONE[0]))
            accepted = trio.SocketStream((await listener.accept())[0])
            async with trio.SSLStream(accepted, context, server_side=True) as pbx:
                if is_known:
                    assert isinstance(await read_one(pbx), Request)
                else:
                    with pytest.raises(trio.BrokenResourceError):
                        await pbx.receive_some()
                    await trio.sleep(0.1)
            assert at.counters.handshakes_failed == (not is_known)
            assert at.counters.unsent == (not is_known)


@shows("sip.max_connections")
@pytest.mark.parametrize("limit", [1, 2])
async def test_further_connections_are_closed_at_once(autojump_clock: MockClock, limit: int) -> None:
    settings = SipSettings(max_connections=limit)
    async with world(settings=settings) as at, await dial() as first, await dial(("192.0.2.11", 0)) as second:
        await first.send_all(request())
        at.answer(await at.arrival())
        assert isinstance(await read_one(first), Response)
        with trio.move_on_after(1) as waiting:
            assert await second.receive_some() == b""
        assert waiting.cancelled_caught == (limit == 2)
        assert at.counters.full == (limit == 1)


@shows("sip.idle_seconds")
@pytest.mark.parametrize("seconds", [30.0, 90.0])
async def test_a_silent_connection_is_closed(autojump_clock: MockClock, seconds: float) -> None:
    async with world(settings=SipSettings(idle_seconds=seconds)) as at, await dial() as phone:
        began = trio.current_time()
        assert await phone.receive_some() == b""
        assert trio.current_time() - began == pytest.approx(seconds)
        assert at.counters.idle == 1


@shows("sip.message_seconds")
@pytest.mark.parametrize("seconds", [1.0, 20.0])
async def test_a_message_has_to_be_complete_in_time(autojump_clock: MockClock, seconds: float) -> None:
    async with world(settings=SipSettings(message_seconds=seconds)) as at, await dial() as phone:
        await phone.send_all(request()[:-1])
        began = trio.current_time()
        assert await phone.receive_some() == b""
        assert trio.current_time() - began == pytest.approx(seconds)
        assert at.counters.slow == 1
