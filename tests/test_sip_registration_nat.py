"""Registrations from behind a NAT."""

from __future__ import annotations

import logging
import random

import pytest
import trio
from registration_parts import HOST, PASSWORDS, REGISTRAR, events, gaps, open_client
from trio.testing import MockClock

from aivc.testing.network import VirtualNetwork
from aivc.testing.registrar import open_registrar

CONTACT = f"sip:200@{HOST}:5060"


@pytest.fixture
def network() -> VirtualNetwork:
    return VirtualNetwork()


async def test_behind_a_nat_the_public_address_is_registered_in_place_of_the_own(
    autojump_clock: MockClock, network: VirtualNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aivc.sip")
    network.enable()
    with trio.fail_after(600):
        async with open_registrar(REGISTRAR, PASSWORDS) as registrar:
            registrar.sees = ("203.0.113.7", 61000)
            async with open_client() as client:
                await trio.sleep(1)
                assert [each.uri for each in registrar.registered("200")] == ["sip:200@203.0.113.7:61000"]
                removed = registrar.requests[-1].headers.items("Contact")[1]
                assert removed == f"<{CONTACT}>;expires=0"
                assert client.state == "registered"
                assert [each["contact"] for each in events(caplog, "sip.behind_nat")] == ["203.0.113.7:61000"]
            assert registrar.registered("200") == []


async def test_an_address_that_always_differs_is_not_chased(autojump_clock: MockClock, network: VirtualNetwork) -> None:
    network.enable()
    with trio.fail_after(600):
        async with open_registrar(REGISTRAR) as registrar:
            dice = random.Random(1)

            def see(*_: object) -> None:
                registrar.sees = ("203.0.113.7", dice.randrange(1024, 65536))

            network.on_packet = see
            async with open_client() as client:
                await trio.sleep(60)
                assert len(registrar.requests) == 2
                assert client.state == "registered"


async def test_an_address_that_was_configured_stays(autojump_clock: MockClock, network: VirtualNetwork) -> None:
    network.enable()
    with trio.fail_after(600):
        async with open_registrar(REGISTRAR) as registrar:
            registrar.sees = ("203.0.113.7", 61000)
            async with open_client(external_ip="203.0.113.9"):
                await trio.sleep(1)
                assert [each.uri for each in registrar.registered("200")] == ["sip:200@203.0.113.9:5060"]


async def test_the_binding_of_a_nat_is_kept_alive(autojump_clock: MockClock, network: VirtualNetwork) -> None:
    network.enable()
    with trio.fail_after(600):
        async with open_registrar(REGISTRAR) as registrar, open_client() as client:
            times: list[float] = []

            def note(source: object, to: object, data: bytes) -> None:
                if data == b"\r\n\r\n":
                    times.append(trio.current_time())

            network.on_packet = note
            await trio.sleep(300)
            assert 10 <= registrar.keep_alives <= 12
            assert all(25 <= gap <= 29 for gap in gaps(times))
            await client.registrant.leave()
            assert client.state == "off"
            before = registrar.keep_alives
            await trio.sleep(60)
            assert registrar.keep_alives >= before + 2, "calls may go on"
