"""What the settings change that watch over how calls sound: none added while packets leave late, who blocks named."""

from __future__ import annotations

import logging
import time
from typing import Final

import pytest
import trio
from log_lines import lines_of
from scenarios.world import RTP_PORT, World, changed, open_world
from settings_shown import shows
from trio.testing import MockClock

from aivc import OpenAISettings, RtpSettings, Service, Settings, SipSettings, open_service, tool
from aivc.config.settings import ServiceSettings
from aivc.nursery.pacing import HINT
from aivc.realtime.tools import load_registry
from aivc.testing import CallRefused, CallTool, FakeModel, Say, open_phone, scripted, serve_port

SILENT: Final = scripted([[]])
PORTS: Final = {"max_port": RTP_PORT + 9}  # for more than one call
LATE: Final = 0.030  # seconds
BLOCKED: Final = 0.3  # seconds; far more than the limit, so that a busy machine cannot hide it


async def suffer(service: Service, seconds: float) -> None:
    """Twenty calls' packets leave late."""
    for _ in range(round(10 * seconds)):
        service.pacing.punctuality.note(LATE, 100, trio.current_time())
        await trio.sleep(0.1)


def is_accepting(world: World) -> bool:
    """What OPTIONS tells a dispatcher."""
    return world.service.agent.accepting


async def is_refused(world: World) -> tuple[int, str] | None:
    """Status and Retry-After of a call's refusal; None: it was answered."""
    try:
        async with world.dial():
            return None
    except CallRefused as refusal:
        return refusal.response.status, refusal.response.header("Retry-After")


@shows("service.max_pacing_ms")
@pytest.mark.parametrize(("max_pacing_ms", "refusal"), [(20.0, (503, "10")), (40.0, None), (0.0, None)])
async def test_no_call_is_taken_while_packets_leave_late(
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    max_pacing_ms: float,
    refusal: tuple[int, str] | None,
) -> None:
    settings = changed(service={"max_pacing_ms": max_pacing_ms}, rtp=PORTS)
    calls = 2 if refusal else 3
    with caplog.at_level(logging.INFO, "aivc"):
        async with open_world(SILENT, settings=settings, calls=calls) as world, world.dial():
            await suffer(world.service, 5.0)
            assert is_accepting(world) is (refusal is None)
            assert await is_refused(world) == refusal
            assert world.service.status().pacing_p99_ms == pytest.approx(1000 * LATE)
            await trio.sleep(7.0)
            assert is_accepting(world)
            assert await is_refused(world) is None
    assert len(lines_of(caplog, "pacing.late")) == len(lines_of(caplog, "pacing.good")) == (refusal is not None)
    if refusal:
        (late,), (refused,) = lines_of(caplog, "pacing.late"), lines_of(caplog, "call.refused")
        assert late == {"p99_ms": 30.0, "worst_ms": 30.0, "max_pacing_ms": 20.0, "hint": HINT}
        assert refused["cause"] == "packets leave late: service.max_pacing_ms = 20 is exceeded"
        assert refused["hint"] == HINT


async def test_when_the_last_call_has_ended_new_ones_are_taken_at_once(autojump_clock: MockClock) -> None:
    async with open_world(SILENT, settings=changed(rtp=PORTS), calls=2) as world:
        async with world.dial():
            await suffer(world.service, 5.0)
            assert not is_accepting(world)
        await trio.sleep(1.1)
        assert is_accepting(world)
        assert world.service.status().pacing_p99_ms is None
        assert await is_refused(world) is None


async def test_under_a_clock_that_is_never_late_every_packet_counts_as_in_time(autojump_clock: MockClock) -> None:
    async with open_world(SILENT) as world, world.dial():
        await trio.sleep(3.0)
        assert world.service.status().pacing_p99_ms == 0.0


@tool
async def look_up() -> str:
    """Ask an old database."""
    time.sleep(BLOCKED)  # noqa: ASYNC251 - the mistake that is to be found
    return "nothing"


def on_loopback(port: int, stall_ms: float) -> Settings:
    return Settings(
        openai=OpenAISettings(url=f"ws://127.0.0.1:{port}/v1/realtime", welcome_message="Hi."),
        sip=SipSettings(listen=("udp:127.0.0.1:0",)),
        rtp=RtpSettings(bind_ip="127.0.0.1"),
        service=ServiceSettings(drain_seconds=0.0, stall_ms=stall_ms),
    )


@shows("service.stall_ms")
@pytest.mark.parametrize("stall_ms", [20.0, 0.0])
async def test_a_tool_that_blocks_every_call_is_named(caplog: pytest.LogCaptureFixture, stall_ms: float) -> None:
    script = scripted([[CallTool("look_up")], [Say("Sorry.", seconds=0.1), CallTool("terminate_call")]])
    model = FakeModel(script, require_key=False, think_ms=50.0)
    with trio.fail_after(20), caplog.at_level(logging.INFO, "aivc"):
        async with trio.open_nursery() as nursery:
            port: int = await nursery.start(serve_port, model)
            settings = on_loopback(port, stall_ms)
            tools = load_registry(settings.openai, settings.tools.http)
            tools.add(look_up)
            async with open_service(settings, tools=tools) as service, open_phone() as phone:
                host, sip_port = service.listening[0]
                async with phone.dial(f"sip:1000@{host}:{sip_port}") as call:
                    await call.wait_hung_up()
                stalls = service.status().stalls
            nursery.cancel_scope.cancel()
    named = [line for line in lines_of(caplog, "loop.stalled") if line["place"].startswith(f"{__file__}:")]
    assert [line["place"].split()[-1] for line in named] == ["look_up"] * (stall_ms > 0)
    assert all(line["ms"] >= 1000 * BLOCKED for line in named)
    assert (stalls > 0) is (stall_ms > 0)


async def test_who_brings_a_clock_of_their_own_gets_no_thread(autojump_clock: MockClock) -> None:
    async with open_world(SILENT, settings=changed(service={"stall_ms": 1.0})) as world, world.dial():
        await trio.sleep(1.0)
        assert world.service.pacing.stall_ms == 0.0
