"""Registrations over connections, and over sockets of the system."""

from __future__ import annotations

from typing import Literal

import attrs
import pytest
import trio
from registration_parts import HOST, PASSWORDS, PBX, REGISTRAR, open_client
from trio.testing import MockClock

from aivc.testing.network import VirtualNetwork
from aivc.testing.registrar import open_registrar

TCP = attrs.evolve(PBX, transport="tcp")
LISTEN = f"tcp:{HOST}:5060"


async def test_an_extension_registers_over_tcp(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    with trio.fail_after(600):
        async with open_registrar(REGISTRAR, PASSWORDS, transport="tcp") as registrar:
            async with open_client(TCP, LISTEN):
                binding = await registrar.wait_registered("200")
                assert binding.uri == f"sip:200@{HOST}:5060;transport=tcp"
                assert registrar.requests[0].via.transport == "TCP"
                await trio.sleep(300)
                assert 10 <= registrar.keep_alives <= 11
            assert registrar.registered("200") == []


async def test_a_lost_connection_is_made_again_at_once(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    with trio.fail_after(600):
        async with open_registrar(REGISTRAR, transport="tcp") as registrar, open_client(TCP, LISTEN) as client:
            first = await registrar.wait_registered("200")
            await trio.sleep(100)
            registrar.bindings.clear()
            registrar.close_connections()
            second = await registrar.wait_registered("200")
            assert trio.current_time() <= 101
            assert first.source != second.source
            await trio.sleep(1)
            assert client.state == "registered"


async def test_a_registrar_that_always_closes_the_connection_is_not_pestered(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    with trio.fail_after(6000):
        async with open_registrar(REGISTRAR, transport="tcp") as registrar, open_client(TCP, LISTEN):
            for number in range(1, 12):
                await registrar.wait_requests(number)
                await trio.sleep(0.01)
                registrar.close_connections()
            assert trio.current_time() > 240


async def test_behind_a_nat_the_address_of_the_connection_is_registered(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    with trio.fail_after(600):
        async with open_registrar(REGISTRAR, PASSWORDS, transport="tcp") as registrar, open_client(TCP, LISTEN):
            registrar.sees = ("203.0.113.7", 61000)
            await trio.sleep(1)
            assert [each.uri for each in registrar.registered("200")] == ["sip:200@203.0.113.7:61000;transport=tcp"]


async def test_a_server_that_cannot_be_connected_to_is_tried_again(autojump_clock: MockClock) -> None:
    VirtualNetwork().enable()
    with trio.fail_after(600):
        async with open_client(TCP, LISTEN) as client:
            await trio.sleep(10)
            assert client.state == "failed"
            async with open_registrar(REGISTRAR, transport="tcp") as registrar:
                await registrar.wait_registered("200")
                await trio.sleep(1)
                assert client.state == "registered"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_registering_works_on_sockets_of_the_system(transport: Literal["udp", "tcp"]) -> None:
    with trio.fail_after(10):
        async with open_registrar("127.0.0.1", PASSWORDS, port=0, transport=transport) as registrar:
            register = attrs.evolve(PBX, server=f"localhost:{registrar.address[1]}", transport=transport)
            async with open_client(register, f"{transport}:127.0.0.1:0") as client:
                binding = await registrar.wait_registered("200")
                assert binding.uri.startswith("sip:200@127.0.0.1:")
                assert client.accounts.is_server("127.0.0.1")
            assert registrar.registered("200") == []
