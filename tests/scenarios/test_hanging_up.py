"""Every way in which a call ends: who says goodbye to whom, when, and what the record says."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from aivc import CallEvent, Ending, UserAgent, open_user_agent, serve_call
from aivc.media.clock import TaskClock
from aivc.nursery.leaving import JITTER_BUFFER
from aivc.nursery.record import OBSERVER_EVENTS, Ended
from aivc.testing import (
    CallTool,
    FakeModel,
    Faults,
    PhoneCall,
    Say,
    VirtualNetwork,
    connect_to,
    open_phone,
    scripted,
    speech,
)
from scenarios.conftest import Dialect
from scenarios.front_ends import FrontEndName
from scenarios.world import DELAY, NUMBER, PHONE, SETTINGS, changed, open_world, received

WORDS = speech(1.0, pitch_hz=210.0)
ONE_SESSION = changed(openai={"reconnect": False})
TALK = scripted([[Say("Well,", audio=WORDS * 5)]])


def reason(call: PhoneCall) -> str:
    """What the BYE said, RFC 3326."""
    (bye,) = {request.header("CSeq"): request for request in call.requests}.values()
    assert bye.method == "BYE"
    return bye.header("Reason")


async def test_the_caller_hangs_up_and_the_model_is_let_go(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(TALK, dialect=dialect) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.5)
        await trio.sleep(0.1)
        assert world.session.closed == 1000
        assert world.service.calls == 0
        assert world.media_sockets() == []
        assert call.requests == []
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_the_model_hangs_up_only_when_its_last_words_were_heard(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    script = scripted([[Say("Goodbye.", audio=WORDS), CallTool("terminate_call")]])
    async with open_world(script, dialect=dialect, speed=100.0) as world:
        async with world.dial() as call:
            hung_up_at = await call.wait_hung_up()
        assert call.handset.speech_heard() == WORDS
        last_spoken = [packet.at for packet in call.handset.heard if set(packet.payload) != {0xFF}][-1]
        assert JITTER_BUFFER <= hung_up_at - last_spoken <= JITTER_BUFFER + 0.020
        assert reason(call) == 'SIP;cause=200;text="model_hung_up: the agent ended the call"'
        assert len(world.session.received("response.create")) == 1  # nothing more is asked of the model
    assert world.record.ending is Ending.MODEL_HUNG_UP
    assert [run.name for run in world.record.tools] == ["terminate_call"]


async def test_last_words_without_end_are_cut(autojump_clock: MockClock) -> None:
    script = scripted([[Say("Goodbye, and", audio=WORDS * 5), CallTool("terminate_call")]])
    settings = changed(openai={"farewell_seconds": 1.0})
    async with open_world(script, settings=settings, speed=100.0) as world, world.dial() as call:
        began = await call.handset.wait_speech()
        assert (await call.wait_hung_up()) - began == pytest.approx(1.0, abs=0.2)
    assert world.record.ending is Ending.MODEL_HUNG_UP


@pytest.mark.parametrize(
    "faults", [Faults(close_after_deltas=3), Faults(drop_after_deltas=3)], ids=["closed", "dropped"]
)
async def test_a_lost_model_ends_the_call_at_once(autojump_clock: MockClock, faults: Faults, dialect: Dialect) -> None:
    async with open_world(TALK, settings=ONE_SESSION, dialect=dialect, faults=faults) as world:
        async with world.dial() as call:
            hung_up_at = await call.wait_hung_up()
            last = [seen.at for seen in world.session.events_sent][-1]
            assert hung_up_at == pytest.approx(last + DELAY)
        assert reason(call) == 'SIP;cause=503;text="realtime_lost: the connection to the model was lost"'
    assert world.record.ending is Ending.REALTIME_LOST
    assert world.record.detail == ("1011" if faults.close_after_deltas else "1006")


async def test_a_half_open_connection_is_noticed_by_our_ping(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(ONE_SESSION, openai={"ping_seconds": 2.0, "pong_seconds": 1.0, "close_seconds": 0.5})
    stalling = open_world(TALK, settings=settings, dialect=dialect, faults=Faults(stall_after_deltas=3))
    async with stalling as world, world.dial() as call:
        assert call.answered_at is not None
        assert (await call.wait_hung_up()) - call.answered_at == pytest.approx(3.0)
    assert world.record.ending is Ending.REALTIME_LOST
    assert world.record.detail == "1006 no pong within 1 s"
    assert world.record.duration_seconds == pytest.approx(3.0 + 2 * DELAY)


async def test_a_model_that_only_reports_errors_is_given_up(autojump_clock: MockClock) -> None:
    async with open_world(TALK, faults=Faults(error_storm=30)) as world, world.dial() as call:
        await call.wait_hung_up()
    assert world.record.ending is Ending.REALTIME_FATAL
    assert world.record.realtime_errors == {"server_error": 20}


async def test_a_caller_whose_audio_stops_coming_is_hung_up_on(autojump_clock: MockClock) -> None:
    async with open_world(TALK, settings=changed(rtp={"timeout_seconds": 1.5})) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            call.handset.muted = True
            last = call.handset.sent[-1].at
            assert (await call.wait_hung_up()) == pytest.approx(last + 1.5 + 2 * DELAY)
        assert reason(call) == 'SIP;cause=408;text="media_timeout: no RTP came from the caller"'
    assert world.record.ending is Ending.MEDIA_TIMEOUT


async def test_the_longest_call_ends(autojump_clock: MockClock) -> None:
    async with open_world(TALK, settings=changed(service={"max_call_seconds": 2.0})) as world:
        async with world.dial() as call:
            assert call.answered_at is not None
            assert (await call.wait_hung_up()) == pytest.approx(call.answered_at + 2.0)
        assert reason(call) == 'SIP;cause=200;text="max_duration: the call reached its maximum duration"'
    assert world.record.ending is Ending.MAX_DURATION


async def test_a_call_may_end_by_itself_while_the_service_drains(autojump_clock: MockClock) -> None:
    async with open_world(TALK) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            world.service.drain()
            async with world.ring() as late:
                await trio.sleep(0.1)
            assert [response.status for response in late.responses] == [100, 503]
            await call.handset.wait_speech(0.5)
            assert call.hung_up_at is None
            assert not world.service.idle.is_set()
        with trio.fail_after(0.2):
            await world.service.idle.wait()
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_call_that_outlasts_the_grace_is_hung_up_on(autojump_clock: MockClock) -> None:
    calls: list[PhoneCall] = []
    async with open_world(TALK, settings=changed(service={"drain_seconds": 1.0}), drains=True) as world:

        async def talk() -> None:
            async with world.dial() as call:
                calls.append(call)
                await call.wait_hung_up()

        world.phone.nursery.start_soon(talk)
        await trio.sleep(0.5)
        drained_at = trio.current_time() + 1.0
    (call,) = calls
    assert call.hung_up_at == pytest.approx(drained_at + DELAY)
    assert reason(call) == 'SIP;cause=503;text="drained: the service is going down"'
    assert world.record.ending is Ending.DRAINED


@pytest.mark.parametrize("any_schedule", [0, 6, 12, 18], indirect=True)  # it takes long
async def test_a_call_whose_answer_is_never_acknowledged_ends_after_32_seconds(
    autojump_clock: MockClock, front_end: FrontEndName
) -> None:
    async with open_world(scripted([[]])) as world:
        async with world.dial(acknowledge=False) as call:
            assert call.answered_at is not None
            assert (await call.wait_hung_up()) == pytest.approx(call.answered_at + 32.0)  # 64*T1
        repeated = 11 if front_end == "sip" else 10  # timers G and H; OpenSIPS gives up after its fr_timeout of 30 s
        assert [response.status for response in call.responses] == [100, 180] + [200] * repeated
        assert reason(call) == 'SIP;cause=408;text="ack_missing: no ACK received"'
    assert world.record.ending is Ending.ACK_MISSING
    assert ("sip:192.0.2.1:5060" if front_end == "sip" else "OpenSIPS") in world.record.detail


async def test_an_embedder_who_cancels_the_call_hangs_up_within_a_second(autojump_clock: MockClock) -> None:
    VirtualNetwork(delay=DELAY).enable()
    observer, observed = trio.open_memory_channel[CallEvent](OBSERVER_EVENTS)
    scope = trio.CancelScope()

    async def answer(agent: UserAgent, model: FakeModel) -> None:
        leg = await agent.legs.receive()
        with scope:
            await serve_call(leg, SETTINGS, connect=connect_to(model), clock=TaskClock(), observer=observer)

    with trio.fail_after(10):
        async with FakeModel(TALK) as model, open_phone(PHONE) as phone, open_user_agent(SETTINGS.sip) as agent:
            phone.nursery.start_soon(answer, agent, model)
            async with phone.dial(NUMBER) as call:
                await call.handset.wait_speech(0.5)
                scope.cancel()
                cancelled_at = trio.current_time()
                assert (await call.wait_hung_up()) == pytest.approx(cancelled_at + DELAY)
                await model.sessions[
                    0
                ].wait_closed()  # with no handshake: its reader is cancelled together with the call
                assert trio.current_time() - cancelled_at < 1.0
            assert reason(call) == 'SIP;cause=503;text="embedder_cancelled: the service stopped"'
    ended = [event.what.record.ending for event in received(observed) if isinstance(event.what, Ended)]
    assert ended == [Ending.EMBEDDER_CANCELLED]
