from __future__ import annotations

import logging

import attrs
import pytest
import trio
from registration_parts import HOST, PASSWORDS, PBX, REGISTRAR, events, gaps, open_client
from trio.testing import MockClock

from aivc.sip.message import Request
from aivc.testing.network import VirtualNetwork
from aivc.testing.registrar import Trouble, open_registrar

CONTACT = f"sip:200@{HOST}:5060"


@pytest.fixture
def network() -> VirtualNetwork:
    return VirtualNetwork()


@pytest.fixture(autouse=True)
def info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "aivc.sip")


async def test_an_extension_registers_with_its_password_and_takes_that_back_at_the_end(
    autojump_clock: MockClock, network: VirtualNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    network.enable()
    with trio.fail_after(60):
        async with open_registrar(REGISTRAR, PASSWORDS) as registrar:
            async with open_client() as client:
                binding = await registrar.wait_registered("200")
                assert (binding.uri, binding.source) == (CONTACT, (HOST, 5060))
                await trio.sleep(1)
                status = client.registrant.status
                assert (status.state, status.expires_at, status.last_error) == ("registered", 600.0, "")
                first, second = registrar.requests
                assert (first.target, str(first.to)) == (f"sip:{REGISTRAR}", f"<sip:200@{REGISTRAR}>")
                assert first.call_id == second.call_id
                assert (first.cseq.number, second.cseq.number) == (1, 2)
                assert first.via.branch != second.via.branch
                assert first.headers.get("Authorization") is None
                assert "algorithm=SHA-256" in second.header("Authorization")
                assert ";reg-id=1" in second.header("Contact")
                assert second.header("Supported") == "path, outbound"
                assert client.sources.is_expected(REGISTRAR)
            assert registrar.registered("200") == []
            assert client.state == "off"
    assert [each["expires_seconds"] for each in events(caplog, "sip.registered")] == [600]
    assert len(events(caplog, "sip.unregistered")) == 1


async def test_a_registration_is_renewed_well_before_its_end(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    network.enable()
    with trio.fail_after(6000):
        async with open_registrar(REGISTRAR, PASSWORDS) as registrar, open_client() as client:
            times = []
            for number in range(1, 4):
                await registrar.wait_requests(2 * number)
                times.append(trio.current_time())
                assert client.state in ("registering", "registered")
                assert len(registrar.registered("200")) == 1
            assert gaps(times) == [540.0, 540.0]
            assert len({request.call_id for request in registrar.requests}) == 1
            assert [request.cseq.number for request in registrar.requests] == [1, 2, 3, 4, 5, 6]
            assert client.registrant.status.since == 0.0


@pytest.mark.parametrize(("granted", "renewed"), [(3600, 540.0), (120, 90.0), (60, 30.0), (20, 10.0), (1, 1.0)])
async def test_the_registrar_says_how_long_it_lasts(
    autojump_clock: MockClock, network: VirtualNetwork, granted: int, renewed: float
) -> None:
    network.enable()
    with trio.fail_after(6000):
        async with open_registrar(REGISTRAR) as registrar, open_client():
            registrar.longest = granted
            await registrar.wait_registered("200")
            await registrar.wait_requests(2)
            assert trio.current_time() == renewed


async def test_a_registrar_that_wants_longer_registrations_gets_them(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    network.enable()
    with trio.fail_after(60):
        async with open_registrar(REGISTRAR, PASSWORDS) as registrar, open_client() as client:
            registrar.shortest = 900
            await registrar.wait_registered("200")
            await trio.sleep(1)
            assert [request.header("Expires") for request in registrar.requests] == ["600"] * 2 + ["900"] * 2
            assert client.registrant.status.expires_at == 900.0


async def test_a_proxy_may_ask_for_the_password_too(autojump_clock: MockClock, network: VirtualNetwork) -> None:
    network.enable()
    with trio.fail_after(60):
        async with open_registrar(REGISTRAR, PASSWORDS) as registrar, open_client():
            registrar.proxy, registrar.algorithms = True, ("MD5",)
            await registrar.wait_registered("200")
            assert "algorithm=MD5" in registrar.requests[-1].header("Proxy-Authorization")


async def test_a_nonce_that_is_too_old_is_replaced(autojump_clock: MockClock, network: VirtualNetwork) -> None:
    network.delay = 0.01
    network.enable()
    with trio.fail_after(60):
        async with open_registrar(REGISTRAR, PASSWORDS) as registrar, open_client():
            registrar.nonce_uses = 0
            await registrar.wait_requests(2)
            registrar.nonce_uses = 1
            await registrar.wait_registered("200")
            assert len(registrar.requests) == 3


async def test_a_registrar_that_finds_every_nonce_too_old_is_given_up(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    network.enable()
    with trio.fail_after(60):
        async with open_registrar(REGISTRAR, PASSWORDS) as registrar:
            registrar.nonce_uses = 0
            async with open_client() as client:
                await trio.sleep(1)
                assert client.state == "failed"
                assert len(registrar.requests) == 4


async def test_a_wrong_password_is_not_tried_again_soon(
    autojump_clock: MockClock, network: VirtualNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    network.enable()
    with trio.fail_after(6000):
        async with open_registrar(REGISTRAR, {"200": "another"}) as registrar, open_client() as client:
            await trio.sleep(299)
            assert len(registrar.requests) == 2
            assert client.registrant.status.last_error == "401 Unauthorized"
            (failure,) = events(caplog, "sip.registration_failed")
            assert failure["advice"] == "check password and auth_user of this sip.register"
            await trio.sleep(302)
            assert len(registrar.requests) == 4
            assert len(events(caplog, "sip.registration_failed")) == 1


async def test_a_missing_password_is_named(autojump_clock: MockClock, network: VirtualNetwork) -> None:
    network.enable()
    with trio.fail_after(60):
        async with (
            open_registrar(REGISTRAR, PASSWORDS) as registrar,
            open_client(attrs.evolve(PBX, password=None)) as client,
        ):
            await registrar.wait_requests(1)
            await trio.sleep(1)
            assert client.registrant.status.advice == "the server wants a password: set that of this sip.register"


@pytest.mark.parametrize(("status", "word"), [(403, "domain"), (404, "no such user"), (302, "log"), (603, "log")])
async def test_a_refusal_is_left_alone_for_minutes(
    autojump_clock: MockClock, network: VirtualNetwork, status: int, word: str
) -> None:
    network.enable()
    with trio.fail_after(6000):
        async with open_registrar(REGISTRAR) as registrar:
            registrar.troubles.append(Trouble(status))
            async with open_client() as client:
                await trio.sleep(1)
                assert client.state == "failed"
                assert word in client.registrant.status.advice
                await registrar.wait_registered("200")
                assert 300 <= trio.current_time() <= 600
                await trio.sleep(1)
                assert (client.state, client.registrant.status.last_error) == ("registered", "")


async def test_failures_of_the_server_are_waited_out_longer_each_time(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    network.enable()
    with trio.fail_after(6000):
        async with open_registrar(REGISTRAR) as registrar:
            registrar.troubles += [Trouble(500)] * 12
            async with open_client():
                times = [0.0]
                for number in range(2, 13):
                    await registrar.wait_requests(number)
                    times.append(trio.current_time())
    for number, gap in enumerate(gaps(times)):
        longest = min(120.0, 2.0**number)
        assert longest / 2 <= gap <= longest


async def test_retry_after_is_honoured(autojump_clock: MockClock, network: VirtualNetwork) -> None:
    network.enable()
    with trio.fail_after(9000):
        async with open_registrar(REGISTRAR) as registrar:
            registrar.troubles.append(Trouble(503, (("Retry-After", "90 (soon);duration=60"),)))
            registrar.troubles.append(Trouble(503, (("Retry-After", "99999999"),)))
            async with open_client():
                await registrar.wait_requests(2)
                assert trio.current_time() == 90.0
                await registrar.wait_requests(3)
                assert trio.current_time() == 90.0 + 3600.0


async def test_silence_is_asked_again_and_told_with_what_to_do(
    autojump_clock: MockClock, network: VirtualNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    network.enable()
    with trio.fail_after(900):
        async with open_client() as client:
            await trio.sleep(40)
            assert client.state == "failed"
            (failure,) = events(caplog, "sip.registration_failed")
            assert (failure["error"], failure["server"]) == ("no answer", REGISTRAR)
            assert "firewalls" in str(failure["advice"])
            async with open_registrar(REGISTRAR) as registrar:
                await registrar.wait_registered("200")
                await trio.sleep(1)
                assert client.state == "registered"


async def test_a_lost_answer_to_a_renewal_does_not_end_the_registration(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    network.enable()
    with trio.fail_after(6000):
        async with open_registrar(REGISTRAR) as registrar, open_client() as client:
            await registrar.wait_registered("200")
            await trio.sleep(539)
            registrar.troubles += [Trouble(None)] * 3
            await trio.sleep(10)
            assert client.state == "registered"
            assert client.registrant.status.expires_at == pytest.approx(543.5 + 600)
            assert len(registrar.requests) == 5


async def test_a_name_is_looked_up_again_when_its_server_fails(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    network.names["pbx.example.com"] = "192.0.2.99"
    network.enable()
    with trio.fail_after(6000):
        async with (
            open_registrar(REGISTRAR, PASSWORDS) as registrar,
            open_client(attrs.evolve(PBX, server="pbx.example.com")) as client,
        ):
            await trio.sleep(20)
            assert client.sources.is_expected("192.0.2.99")
            network.names["pbx.example.com"] = (REGISTRAR, "2001:db8::50")
            await registrar.wait_registered("200")
            await trio.sleep(1)
            assert client.state == "registered"
            assert registrar.requests[-1].target == "sip:pbx.example.com"
            assert [client.accounts.is_server(ip) for ip in (REGISTRAR, "2001:db8::50", "192.0.2.99")] == [
                True,
                True,
                False,
            ]
            assert [client.sources.is_expected(ip) for ip in (REGISTRAR, "2001:db8::50", "192.0.2.99")] == [
                True,
                True,
                False,
            ]


async def test_a_name_service_that_fails_does_not_end_a_registration(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    network.names["pbx.example.com"] = REGISTRAR
    network.enable()
    with trio.fail_after(6000):
        async with (
            open_registrar(REGISTRAR) as registrar,
            open_client(attrs.evolve(PBX, server="pbx.example.com")) as client,
        ):
            await registrar.wait_registered("200")
            del network.names["pbx.example.com"]
            await registrar.wait_requests(3)
            assert client.state == "registered"


async def test_a_name_that_does_not_exist_is_told(autojump_clock: MockClock, network: VirtualNetwork) -> None:
    network.enable()
    with trio.fail_after(60):
        async with open_client(attrs.evolve(PBX, server="nowhere.example.com")) as client:
            await trio.sleep(1)
            assert client.state == "failed"
            assert client.registrant.status.last_error.startswith("nowhere.example.com cannot be looked up")


# The end


async def test_taking_a_registration_back_does_not_wait_for_a_dead_server(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    network.enable()
    with trio.fail_after(600):
        async with open_registrar(REGISTRAR) as registrar, open_client() as client:
            await registrar.wait_registered("200")
            await trio.sleep(1)
            registrar.troubles += [Trouble(None)] * 100
            before = trio.current_time()
            await client.registrant.leave()
            assert trio.current_time() == before + 2.0
            assert registrar.requests[-1].header("Expires") == "0"


async def test_nothing_is_taken_back_that_never_was(autojump_clock: MockClock, network: VirtualNetwork) -> None:
    network.enable()
    with trio.fail_after(600):
        async with open_registrar(REGISTRAR) as registrar:
            registrar.troubles.append(Trouble(403))
            async with open_client():
                await trio.sleep(1)
            assert len(registrar.requests) == 1


async def test_a_service_route_is_kept(autojump_clock: MockClock, network: VirtualNetwork) -> None:
    network.enable()
    with trio.fail_after(600):
        async with open_registrar(REGISTRAR) as registrar:
            good = "<sip:edge.example.com;lr>"
            registrar.extra = (
                ("Service-Route", f"{good}, <sip:strict.example.com>, nonsense"),
                ("Service-Route", good),
            )
            async with open_client() as client:
                await trio.sleep(1)
                assert client.registrant.service_route == (good, good)
            assert not client.registrant.service_route, "none without a registration"


async def test_a_first_hop_without_outbound_is_registered_through_without(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    network.enable()
    with trio.fail_after(600):
        async with open_registrar(REGISTRAR) as registrar:
            registrar.troubles.append(Trouble(439))
            async with open_client():
                await registrar.wait_registered("200")
                last: Request = registrar.requests[-1]
                assert last.header("Supported") == "path"
                assert "reg-id" not in last.header("Contact")
