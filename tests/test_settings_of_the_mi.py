"""The settings of the way to OpenSIPS's management interface change where commands go and how long they wait."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from mi_parts import ASK, OPENSIPS, REFER, SETTINGS, open_interface, outcome, silent, virtual
from settings_shown import shows
from trio.testing import MockClock

from aivc.config.settings import OpenSipsSettings
from aivc.sip.mi import MiUnanswered, open_mi


@shows("opensips.ip")
@pytest.mark.parametrize("ip", ["192.0.2.5", "192.0.2.6", "opensips.test"])
async def test_commands_go_to_that_address_or_name(autojump_clock: MockClock, ip: str) -> None:
    network = virtual()
    network.names["opensips.test"] = "192.0.2.7"
    address = ("192.0.2.7" if ip == "opensips.test" else ip, OPENSIPS[1])
    with trio.fail_after(10):
        async with open_interface(address=address) as opensips, open_mi(OpenSipsSettings(ip=ip)) as mi:
            assert await mi.perform(REFER) == "OK"
            assert mi.peer_ip == address[0]
    assert len(opensips.asked) == 1


@shows("opensips.port")
@pytest.mark.parametrize("port", [8080, 8888])
async def test_commands_go_to_that_port(autojump_clock: MockClock, port: int) -> None:
    virtual()
    settings = OpenSipsSettings(ip=OPENSIPS[0], port=port)
    with trio.fail_after(10):
        async with open_interface(address=(OPENSIPS[0], port)), open_mi(settings) as mi:
            assert await mi.perform(REFER) == "OK"


@shows("opensips.socket")
@pytest.mark.parametrize("name", ["one.sock", "other.sock"])
async def test_commands_go_to_that_unix_socket_instead(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    with trio.fail_after(10), trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_DGRAM) as opensips:
        await opensips.bind(path)
        async with open_mi(OpenSipsSettings(ip="opensips.invalid", socket=path)) as mi, trio.open_nursery() as nursery:
            nursery.start_soon(outcome, mi, REFER, 0.1)
            assert b"ua_session_update" in await opensips.recv(65_535)


@shows("opensips.command_seconds")
@pytest.mark.parametrize("seconds", [1.0, 3.5, 10.0])
async def test_a_command_waits_so_long_for_its_answer(autojump_clock: MockClock, seconds: float) -> None:
    virtual()
    settings = OpenSipsSettings(ip=SETTINGS.ip, command_seconds=seconds)
    with trio.fail_after(60):
        async with open_interface(silent), open_mi(settings) as mi:
            for command in (ASK, REFER):
                start = trio.current_time()
                assert isinstance(await outcome(mi, command), MiUnanswered)
                assert trio.current_time() - start == pytest.approx(seconds)
