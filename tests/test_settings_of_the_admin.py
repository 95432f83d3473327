"""What `admin.listen` shows of a service that has calls, and what `aivc status` makes of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import pytest
import trio
from interop.program import open_program
from interop.service_process import ROOT, ServiceProcess, command, environment, serving
from paper_opensips import OPENSIPS
from scenarios.world import NO_FAULTS, SERVICE, SETTINGS, World, changed, open_world
from settings_shown import shows
from test_admin import Answer, ask
from trio.testing import MockClock

from aivc import EngineSettings, OpenSipsSettings, Settings, open_service
from aivc.cli import first_leaf
from aivc.config.catalogue import CATALOGUE
from aivc.config.settings import Address, AdminSettings
from aivc.demo.simulator import open_simulator
from aivc.media.clock import TaskClock
from aivc.nursery.asking import NoStatus, fetch_status
from aivc.nursery.lookout import TOLD
from aivc.nursery.statustable import table
from aivc.testing import CallRefused, FakeModel, Faults, Say, VirtualNetwork, scripted
from aivc.testing.caller import open_phone
from aivc.testing.opensips import open_fake_opensips

ADMIN: Final[Address] = (SERVICE, 9464)
LISTEN: Final = "{}:{}".format(*ADMIN)
SEEN: Final = attrs.evolve(SETTINGS, admin=AdminSettings(listen=LISTEN))
TALKS: Final = scripted([[Say("Well,", seconds=1.0)]])


async def status() -> Any:
    answer = await ask(ADMIN, "/status")
    assert answer.status == 200
    return answer.json


async def healthz() -> Answer:
    return await ask(ADMIN, "/healthz")


@asynccontextmanager
async def open_seen(*, faults: Faults = NO_FAULTS, **service: Any) -> AsyncIterator[World]:
    """A world with an admin view."""
    async with open_world(TALKS, settings=changed(SEEN, service=service), faults=faults) as world:
        yield world


@shows("admin.listen")
@pytest.mark.parametrize("settings", [SETTINGS, SEEN], ids=["not set", "set"])
async def test_the_service_can_be_looked_at_where_that_is_set(autojump_clock: MockClock, settings: Settings) -> None:
    async with open_world(TALKS, settings=settings, calls=0):
        if settings is SEEN:
            assert (await healthz()).body == b"ok\n"
        else:
            with pytest.raises(OSError, match="failed"):
                await healthz()


async def test_a_call_is_seen_ringing_answered_and_counted(autojump_clock: MockClock) -> None:
    async with open_seen(faults=Faults(session_updated_seconds=0.5)) as world:
        async with world.ring() as phone_call:
            await trio.sleep(0.1)
            (ringing,) = (await status())["in_progress"]
            await phone_call.wait_answer()
            await phone_call.handset.wait_speech(0.5)
            found = await status()
        (answered,) = found["in_progress"]
        assert (ringing["state"], answered["state"]) == ("ringing", "answered")
        assert ringing["call_id"] == answered["call_id"] == phone_call.call_id
        assert (found["calls"], found["answered"]) == (1, 1)
        assert 0.5 < answered["seconds"] < 1.0
        await trio.sleep(1.0)
        found = await status()
    assert (found["calls"], found["in_progress"]) == (0, [])
    assert {name: count for name, count in found["ended"].items() if count} == {"caller_hung_up": 1}
    assert found["rtp"]["sent"] == world.record.rtp.sent > 20
    assert sum(found["histograms"]["answer_seconds"]["counts"]) == 1
    assert found["sip"]["received"] > 2


async def test_a_full_service_says_so_and_counts_whom_it_refuses(autojump_clock: MockClock) -> None:
    async with open_seen(max_calls=1) as world:
        async with world.dial():
            full = await healthz()
            with pytest.raises(CallRefused, match="503"):
                async with world.dial():
                    pass
        await trio.sleep(1.0)
        found, fine = await status(), await healthz()
    assert (full.status, full.body) == (503, b"service.max_calls = 1 is reached\n")
    assert (found["refused"], fine.status) == (1, 200)


async def test_a_draining_service_can_still_be_looked_at(autojump_clock: MockClock) -> None:
    async with open_seen(drain_seconds=5.0) as world, world.dial():
        world.service.drain()
        answer, found = await healthz(), await status()
    assert (answer.status, answer.body) == (503, b"the service is going down\n")
    assert (found["draining"], found["calls"]) == (True, 1)


async def test_a_service_behind_opensips_counts_events_and_commands(autojump_clock: MockClock) -> None:
    VirtualNetwork(host=SERVICE).enable()
    settings = attrs.evolve(
        SEEN,
        opensips=OpenSipsSettings(enabled=True, ip=OPENSIPS[0]),
        engine=EngineSettings(event_ip=SERVICE, event_port=8090),
    )
    with trio.fail_after(30):
        async with open_fake_opensips(OPENSIPS[0]), open_service(settings, clock=TaskClock()):
            await trio.sleep(1.0)
            found = await status()
    assert found["is_subscribed"] is True
    assert found["mi"]["answered"] >= 1
    assert found["opensips"]["legs"] == 0


async def test_a_taken_address_is_an_error_at_the_start(autojump_clock: MockClock) -> None:
    VirtualNetwork(host=SERVICE).enable()
    (listener,) = await trio.open_tcp_listeners(ADMIN[1], host=SERVICE)
    with trio.fail_after(10), pytest.raises(ExceptionGroup) as refused:
        async with listener, open_service(SEEN, clock=TaskClock()):
            raise AssertionError("it has started")
    assert f"admin.listen: cannot listen on {LISTEN}: Address already in use" in str(first_leaf(refused.value))


def test_settings_that_are_shown_exist_and_hide_nothing_secret() -> None:
    known = {setting.path: setting for setting in CATALOGUE}
    assert [path for path in TOLD if known[path].secret] == []


# aivc status


async def test_the_table_shows_the_calls(autojump_clock: MockClock) -> None:
    async with open_seen() as world, world.dial() as call:
        await call.handset.wait_speech(0.5)
        lines = table(await fetch_status(LISTEN)).splitlines()
    assert lines[0].endswith(", takes calls")
    assert "1 of 100, 1 answered, 0 refused" in lines[1]
    assert lines[-1].split()[:2] == [call.call_id, "answered"]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
        b'HTTP/1.1 200 OK\r\n\r\n{"workers": [], "calls": "many"}',
        b'HTTP/1.1 200 OK\r\n\r\n{"workers": [5]}',
    ],
)
async def test_what_is_no_service_of_ours_is_told_in_a_line(autojump_clock: MockClock, answer: bytes) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some(1000)
        if answer:
            await stream.send_all(answer)
        await stream.aclose()

    VirtualNetwork(host=SERVICE).enable()
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, serve, await trio.open_tcp_listeners(ADMIN[1], host=SERVICE))
        with trio.fail_after(10), pytest.raises(NoStatus, match=f"what answers at {LISTEN} is no service of ours"):
            await fetch_status(LISTEN)
        nursery.cancel_scope.cancel()


async def test_a_service_that_does_not_answer_is_not_waited_for_long(autojump_clock: MockClock) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    VirtualNetwork(host=SERVICE).enable()
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, serve, await trio.open_tcp_listeners(ADMIN[1], host=SERVICE))
        with trio.fail_after(10), pytest.raises(NoStatus, match=f"no answer from {LISTEN} within 5 s"):
            await fetch_status(LISTEN)
        nursery.cancel_scope.cancel()


async def printed(*arguments: str, **variables: str) -> tuple[int, str]:
    """The exit status and the output of `aivc status`."""
    environ = environment(**variables)
    async with open_program(command("status", *arguments), folder=ROOT, environ=environ) as program:
        return await program.wait_exit(), program.output


async def admin_of(service: ServiceProcess) -> str:
    line = await service.wait_log("admin.ready")
    return str(line["url"]).removeprefix("http://")


async def test_the_command_asks_a_running_service() -> None:
    with trio.fail_after(30):
        async with open_simulator(FakeModel()) as url, serving(url, AIVC_ADMIN_LISTEN="127.0.0.1:0") as service:
            listen = await admin_of(service)
            async with open_phone() as phone, phone.dial(service.uri()) as call:
                shown, text = await printed(AIVC_ADMIN_LISTEN=listen)
                exit_status, raw = await printed("--json", AIVC_ADMIN_LISTEN=listen)
    assert (shown, exit_status) == (0, 0)
    assert "takes calls" in text.splitlines()[0]
    assert f"{call.call_id}  answered" in text
    assert json.loads(raw)["in_progress"][0]["call_id"] == call.call_id


async def test_without_a_service_or_a_setting_the_command_says_so() -> None:
    with trio.fail_after(30):
        nobody, not_set = await printed(AIVC_ADMIN_LISTEN="127.0.0.1:9"), await printed()
    assert nobody == (1, "aivc: nobody answers at 127.0.0.1:9 (admin.listen); does the service run?\n")
    assert not_set == (2, "admin.listen: not set, so that nobody can ask the service\n")
