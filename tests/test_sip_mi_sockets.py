"""The way of commands to OpenSIPS: one that is down, names that lead elsewhere, real sockets."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import trio
from mi_parts import ASK, REFER, SETTINGS, done, open_interface, outcome, silent, virtual, willing
from trio.testing import MockClock, wait_all_tasks_blocked

from aivc.config.settings import OpenSipsSettings
from aivc.sip.jsonrpc import Command, Repeat
from aivc.sip.mi import ManagementInterface, MiUnanswered, open_mi


async def test_while_opensips_is_down_a_command_that_may_be_repeated_waits_for_its_return(
    autojump_clock: MockClock,
) -> None:
    virtual()
    results: list[object] = []

    async def ask(mi: ManagementInterface) -> None:
        results.append(await mi.perform(ASK))

    with trio.fail_after(10):
        async with open_mi(SETTINGS) as mi, trio.open_nursery() as nursery:
            nursery.start_soon(ask, mi)
            await trio.sleep(1)
            async with open_interface():
                await trio.sleep(1)
            assert results == ["OK"]
    assert mi.statistics().undelivered == 2


async def test_while_opensips_is_down_a_command_that_may_not_fails_at_once_and_says_why(
    autojump_clock: MockClock,
) -> None:
    virtual()
    with trio.fail_after(10):
        async with open_mi(SETTINGS) as mi:
            start = trio.current_time()
            error = await outcome(mi, REFER)
            assert trio.current_time() - start < 0.01
            assert isinstance(error, MiUnanswered)
            assert "refused" in str(error)
            assert "refused" in str(await outcome(mi, ASK, 1.6))
            async with open_interface():
                assert await mi.perform(REFER) == "OK"


async def test_a_name_is_looked_up_at_the_start_and_again_after_silence(autojump_clock: MockClock) -> None:
    network = virtual()
    network.names["opensips.test"] = "192.0.2.5"
    settings = attrs.evolve(SETTINGS, ip="opensips.test")
    with trio.fail_after(30):
        async with open_interface(silent), open_interface(willing, ("192.0.2.6", 8080)), open_mi(settings) as mi:
            assert mi.peer_ip == "192.0.2.5"
            network.names["opensips.test"] = "192.0.2.6"
            assert isinstance(await outcome(mi, ASK), MiUnanswered)
            await wait_all_tasks_blocked()
            assert mi.peer_ip == "192.0.2.6"
            assert await mi.perform(ASK) == "OK"


async def test_silence_changes_nothing_while_the_name_leads_to_the_same_address(autojump_clock: MockClock) -> None:
    virtual()
    with trio.fail_after(30):
        async with (
            open_interface(lambda number, asked: done(asked) if number == 1 else []) as opensips,
            open_mi(SETTINGS) as mi,
        ):
            assert isinstance(await outcome(mi, REFER), MiUnanswered)
            await trio.sleep(2)
            assert await mi.perform(ASK) == "OK"
    assert len(set(opensips.sources)) == 1


async def test_a_name_that_nobody_knows_yet_is_tried_until_somebody_does(autojump_clock: MockClock) -> None:
    network = virtual()
    settings = attrs.evolve(SETTINGS, ip="opensips.test")
    with trio.fail_after(30):
        async with open_interface(), open_mi(settings) as mi:
            assert mi.peer_ip is None
            error = await outcome(mi, REFER)
            assert isinstance(error, MiUnanswered)
            assert "opensips.test" in str(error)
            network.names["opensips.test"] = "192.0.2.5"
            assert await mi.perform(ASK) == "OK"
            assert mi.peer_ip == "192.0.2.5"


async def test_over_real_udp_sockets() -> None:
    with trio.fail_after(10):
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as free:
            await free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        async with open_mi(OpenSipsSettings(ip="127.0.0.1", port=port)) as mi:
            error = await outcome(mi, REFER, 5)
            assert isinstance(error, MiUnanswered)
            assert "refused" in str(error)
            assert "refused" in str(await outcome(mi, ASK, 0.3))
            big = "x" * 60_000
            async with open_interface(lambda _, asked: done(asked, big), ("127.0.0.1", port)):
                assert await mi.perform(Command("x", {"body": big}, Repeat.NEVER)) == big


async def test_over_real_unix_sockets_to_an_opensips_that_answers_from_another_one(tmp_path: Path) -> None:
    path = tmp_path / "mi.sock"
    kind = (trio.socket.AF_UNIX, trio.socket.SOCK_DGRAM)
    with trio.fail_after(10), trio.socket.socket(*kind) as listening, trio.socket.socket(*kind) as answering:
        async with open_mi(OpenSipsSettings(socket=str(path))) as mi, trio.open_nursery() as nursery:
            assert "No such file" in str(await outcome(mi, REFER))
            await listening.bind(str(path))

            async def serve() -> None:
                data, source = await listening.recvfrom(65_535)
                identity = data.partition(b'"id":"')[2].partition(b'"')[0]
                await answering.sendto(b'{"jsonrpc":"2.0","result":"OK","id":"%s"}' % identity, source)

            nursery.start_soon(serve)
            assert await mi.perform(REFER) == "OK"
            assert mi.peer_ip is None
            listening.close()
            assert "refused" in str(await outcome(mi, REFER))
    assert os.listdir(tmp_path) == ["mi.sock"]  # ours has left no file
