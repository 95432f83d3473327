"""The process: admission, draining, and one whole call over real sockets."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import attrs
import pytest
import trio
from log_lines import lines_of
from paper_leg import paper_leg
from scenarios.world import SETTINGS, changed, open_world
from trio.testing import MockClock

from aivc import (
    CallRecord,
    Ending,
    Leg,
    OpenAISettings,
    Rejection,
    RtpSettings,
    Service,
    Settings,
    SipSettings,
    open_service,
    open_user_agent,
    run_service,
)
from aivc.config.settings import ServiceSettings
from aivc.media.clock import TaskClock
from aivc.nursery.front_ends import FrontEnds, user_agent
from aivc.nursery.record import OBSERVER_EVENTS, CallEvent, Ended
from aivc.nursery.routing import Route, load_routes
from aivc.nursery.service import answer_calls, shared_clock
from aivc.realtime.tools import ToolFileError
from aivc.testing import CallTool, FakeModel, Say, open_phone, scripted, serve_port, silence, speech

WORDS = speech(1.0, pitch_hz=210.0)


@asynccontextmanager
async def open_idle(**changes: object) -> AsyncIterator[Service]:
    """A service that nobody calls."""
    with trio.fail_after(10):
        async with open_user_agent(SipSettings(listen=())) as agent:
            yield Service(changed(service=changes), FrontEnds(agent))


# Admission


async def test_a_service_takes_calls_up_to_its_limit() -> None:
    async with open_idle(max_calls=2) as given:
        for _ in range(2):
            assert given.refusal() is None
            assert given.agent.accepting
            given.call_began()
        assert given.refusal() == Rejection(503, "service.max_calls = 2 is reached", 10, "max_calls")
        assert not given.agent.accepting  # OPTIONS tells a dispatcher to look elsewhere
        given.call_ended()
        assert given.refusal() is None
        assert given.agent.accepting


async def test_a_draining_service_takes_no_calls_and_tells_when_the_last_has_ended() -> None:
    async with open_idle() as given:
        given.call_began()
        given.call_began()
        given.drain()
        assert given.refusal() == Rejection(503, "the service is going down", 10, "draining")
        assert not given.agent.accepting
        given.call_ended()
        assert not given.idle.is_set()
        given.call_ended()
        assert given.idle.is_set()


async def test_a_service_without_calls_is_drained_at_once() -> None:
    async with open_idle() as given:
        given.call_began()
        given.call_ended()
        assert not given.idle.is_set()  # it is not draining
        given.drain()
        assert given.idle.is_set()


def test_a_user_agent_that_is_off_listens_nowhere_and_keeps_its_other_settings() -> None:
    settings = SipSettings(numbers=("100",))
    assert user_agent(settings) is settings
    off = attrs.evolve(settings, enabled=False)
    assert user_agent(off) == attrs.evolve(off, listen=())


async def test_a_bug_in_one_call_costs_that_call_alone(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    legs_send, legs = trio.open_memory_channel[Leg](4)
    served: list[str] = []
    late = paper_leg()

    async def serve(leg: Leg, _: Route) -> CallRecord:
        served.append(leg.call_id)
        if leg.call_id == "bug":
            raise LookupError("a shelf")
        await trio.sleep(1.0)
        raise AssertionError("nobody looks at it")

    with caplog.at_level(logging.ERROR, "aivc"):
        async with open_idle(max_calls=2) as given, trio.open_nursery() as nursery:
            given.agent.legs = legs  # the test brings the calls
            nursery.start_soon(answer_calls, given, given.agent, load_routes(given.settings).route, serve)
            for identity in ("bug", "good"):
                legs_send.send_nowait(attrs.evolve(paper_leg(), call_id=identity))
            await trio.sleep(0.5)
            assert (served, given.calls) == (["bug", "good"], 1)
            given.call_began()
            legs_send.send_nowait(late)
            await trio.sleep(0.1)
            assert late.did == [Rejection(503, "service.max_calls = 2 is reached", 10, "max_calls")]
            assert given.refused == 1
            nursery.cancel_scope.cancel()
    (bug,) = [record for record in caplog.records if record.exc_info and record.exc_info[0] is LookupError]
    assert bug.message == "call.bug"


async def test_a_call_for_nobody_is_refused_and_costs_no_place(autojump_clock: MockClock) -> None:
    legs_send, legs = trio.open_memory_channel[Leg](4)
    stray = attrs.evolve(paper_leg(), dialled="2000")

    async def serve(leg: Leg, _: Route) -> CallRecord:
        raise AssertionError(leg.dialled)

    async with open_idle() as given, trio.open_nursery() as nursery:
        given.agent.legs = legs
        settings = attrs.evolve(given.settings, openai=OpenAISettings(match=("1000",)))
        nursery.start_soon(answer_calls, given, given.agent, load_routes(settings).route, serve)
        legs_send.send_nowait(stray)
        await trio.sleep(0.1)
        assert stray.did == [Rejection(404, "no agent for this number", None, "no_agent")]
        assert (given.refused, given.calls) == (1, 0)
        nursery.cancel_scope.cancel()


# Subscribing


async def test_a_subscriber_hears_of_a_call_as_it_happens_and_of_the_services_end(autojump_clock: MockClock) -> None:
    kinds: list[str] = []

    async def listen(service: Service, ready: trio.Event) -> None:
        async with service.subscribe() as events:
            ready.set()
            async for event in events:
                kinds.append(type(event.what).__name__)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery, open_world(scripted([[Say("Hello.", seconds=0.5)]])) as world:
            ready = trio.Event()
            nursery.start_soon(listen, world.service, ready)
            await ready.wait()
            async with world.dial() as call:
                await call.handset.wait_speech(0.3)
                assert "ModelAudible" in kinds
                assert "Ended" not in kinds
    assert kinds == [type(event.what).__name__ for event in world.events]
    assert kinds[0] == "Answered"
    assert kinds[-1] == "Ended"


async def test_a_subscriber_that_sleeps_misses_events_and_delays_nobody(autojump_clock: MockClock) -> None:
    async with open_world(scripted([[Say("Hello.", seconds=0.5)]])) as world:
        async with world.service.subscribe(capacity=1) as events, world.dial() as call:
            await call.handset.wait_speech(0.3)
        assert events.missed > 0
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert world.record.observer_missed == 0  # those of the observer, which had room


# Opening and closing


async def test_a_port_that_is_taken_is_told_at_once(autojump_clock: MockClock) -> None:
    async with open_world(scripted([[]]), calls=0):
        with pytest.raises(OSError, match=r"cannot listen on udp:192\.0\.2\.1:5060"):
            async with open_service(SETTINGS, clock=TaskClock()):
                pass


async def test_tool_files_that_cannot_be_used_are_told_at_once() -> None:
    settings = changed(openai={"tools": ("/nowhere/tools.py",)})
    with trio.fail_after(1), pytest.raises(ToolFileError, match="no such file"):
        async with open_service(settings):
            pass


async def test_a_clock_that_is_given_is_used_and_left_alone() -> None:
    mine = TaskClock()
    with trio.fail_after(1):
        async with shared_clock(mine) as clock:
            assert clock is mine
        async with shared_clock(None) as clock:
            assert not isinstance(clock, TaskClock)  # one heartbeat for all calls


# Real sockets


def on_loopback(port: int) -> Settings:
    return Settings(
        openai=OpenAISettings(
            url=f"ws://127.0.0.1:{port}/v1/realtime", model="gpt-realtime-2.1", welcome_message="Hi."
        ),
        sip=SipSettings(listen=("udp:127.0.0.1:0",)),
        rtp=RtpSettings(bind_ip="127.0.0.1"),
        service=ServiceSettings(drain_seconds=0.0),
    )


async def test_a_phone_calls_over_real_sockets_with_a_heartbeat() -> None:
    script = scripted([[Say("Hello.", audio=WORDS)], [Say("Goodbye.", seconds=0.2), CallTool("terminate_call")]])
    model = FakeModel(script, require_key=False, think_ms=50.0)
    observer, observed = trio.open_memory_channel[CallEvent](OBSERVER_EVENTS)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            port: int = await nursery.start(serve_port, model)
            async with open_service(on_loopback(port), observer=observer) as running, open_phone() as phone:
                host, sip_port = running.listening[0]
                async with phone.dial(f"sip:1000@{host}:{sip_port}") as call:
                    await call.handset.wait_speech(1.1)
                    call.handset.say(speech(0.3) + silence(0.3))
                    await call.wait_hung_up()
                (session,) = model.sessions
                assert session.errors == []
                assert await session.wait_closed() == 1000
            nursery.cancel_scope.cancel()
    assert call.handset.speech_heard().startswith(WORDS)
    said = b"".join(packet.payload for packet in call.handset.sent)
    assert said.startswith(session.received_audio)
    events = [observed.receive_nowait() for _ in range(observed.statistics().current_buffer_used)]
    (record,) = [event.what.record for event in events if isinstance(event.what, Ended)]
    assert record.ending is Ending.MODEL_HUNG_UP
    assert record.rtp.sent == len(call.handset.heard)


async def test_sighup_has_the_certificates_read_again_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    usual = signal.getsignal(signal.SIGHUP)
    reloaded: list[str] = []
    try:
        with trio.fail_after(10), caplog.at_level(logging.INFO, "aivc.service"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(run_service, on_loopback(1)))
                while "service.ready" not in caplog.messages:  # noqa: ASYNC110 - there is no event for it
                    await trio.sleep(0.01)
                for _ in range(2):
                    os.kill(os.getpid(), signal.SIGHUP)
                    await trio.sleep(0.05)
                reloaded = [line for line in caplog.messages if line in ("service.reloaded", "service.draining")]
                os.kill(os.getpid(), signal.SIGTERM)
    finally:
        gc.unfreeze()
    assert reloaded == ["service.reloaded"] * 2
    assert signal.getsignal(signal.SIGHUP) is usual


async def test_the_log_says_where_the_service_listens_as_the_setting_is_written(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    listen = ("udp:192.0.2.1:5060", "tcp:192.0.2.1:5060", "udp:[2001:db8::1]:5060")
    with caplog.at_level(logging.INFO, "aivc.service"):
        async with open_world(scripted([[]]), settings=changed(sip={"listen": listen}), calls=0):
            pass
    (ready,) = lines_of(caplog, "service.ready")
    assert ready == {"listening": list(listen)}


async def test_a_signal_drains_the_service_and_ends_it() -> None:
    usual = signal.getsignal(signal.SIGTERM)
    try:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(run_service, on_loopback(1)))
                while signal.getsignal(signal.SIGTERM) is usual:  # noqa: ASYNC110 - there is no event for it
                    await trio.sleep(0.01)
                os.kill(os.getpid(), signal.SIGTERM)
    finally:
        gc.unfreeze()
    assert signal.getsignal(signal.SIGTERM) is usual
