"""From INVITE to the first words: the phone rings until the model is ready, or hears why it cannot be."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.sip.message import Response
from aivc.testing import CallRefused, Faults, Say, scripted, speech
from scenarios.conftest import Dialect
from scenarios.world import DELAY, World, changed, open_world

GREETING = speech(0.5, pitch_hz=210.0)
HELLO = scripted([[Say("Hello.", audio=GREETING)], [Say("Yes.", audio=GREETING)]])


async def refused(world: World) -> Response:
    """Call, and return the failure."""
    with pytest.raises(CallRefused) as caught:
        async with world.dial():
            pass
    return caught.value.response


def check_unavailable(response: Response) -> None:
    """503 with the cause, and when to try again: RFC 3261 sections 20.33 and 20.43, RFC 3326."""
    assert response.status == 503
    assert response.header("Retry-After") == "10"
    assert response.header("Reason") == 'SIP;cause=503;text="realtime_refused: the model is not available"'
    assert response.header("Warning") == '399 192.0.2.1 "the model is not available"'


async def test_the_welcome_message_is_asked_for_once_and_heard_first(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    settings = changed(openai={"welcome_message": "Good morning!", "instructions": "Be kind."})
    async with open_world(HELLO, settings=settings, dialect=dialect) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(1.0)
        (request,) = world.session.received("response.create")
        assert "Good morning!" in request["response"]["instructions"]
        assert "Be kind." in request["response"]["instructions"]  # a response's instructions replace the session's
        assert call.handset.speech_heard() == GREETING


async def test_without_a_welcome_message_the_model_waits_for_the_caller(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(HELLO, settings=changed(openai={"welcome_message": None}), dialect=dialect) as world:
        async with world.dial() as call:
            await call.handset.wait_silence(1.0)
            assert call.handset.speech_heard() == b""
            call.handset.say(speech(0.3))
            await call.handset.wait_speech(1.0)
        assert world.session.received("response.create") == []
        assert call.handset.speech_heard() == GREETING


async def test_the_phone_rings_until_the_formats_are_agreed_and_no_audio_goes_either_way_before(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    slow = Faults(session_updated_seconds=2.0)
    async with open_world(HELLO, dialect=dialect, faults=slow) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.1)
        assert [response.status for response in call.responses] == [100, 180, 200]
        (updated,) = (seen.at for seen in world.session.events_sent if seen.event["type"] == "session.updated")
        after = [seen for seen in world.session.events_received if seen.at >= updated]
        assert len(world.session.events_received) == len(after) + 1  # before it there is only our session.update
        assert call.answered_at == pytest.approx(updated + DELAY)
        assert all(packet.at >= updated + DELAY for packet in call.handset.heard)
    assert world.record.answered_at == updated


async def test_a_server_that_echoes_another_format_is_not_answered_with(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(HELLO, dialect=dialect, faults=Faults(echo_format="audio/pcm")) as world:
        check_unavailable(await refused(world))
        assert world.session.received("input_audio_buffer.append") == []
    assert world.record.ending is Ending.REALTIME_REFUSED
    assert world.record.detail.startswith("wrong_format: asked for PCMU")
    assert world.record.answered_at is None


async def test_a_bad_key_refuses_the_call(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(HELLO, dialect=dialect, keys={"sk-another"}, blunders=True) as world:
        check_unavailable(await refused(world))
    assert world.record.ending is Ending.REALTIME_REFUSED
    assert world.record.detail.startswith("invalid_api_key: Incorrect API key provided")


async def test_a_server_without_our_dialect_refuses_the_call(autojump_clock: MockClock) -> None:
    async with open_world(HELLO, dialect="beta", blunders=True) as world:
        world.model.dialect = "ga"
        check_unavailable(await refused(world))
    assert world.record.detail.startswith("beta_api_shape_disabled: ")


@pytest.mark.parametrize("status", [401, 429, 503])
async def test_a_refused_upgrade_refuses_the_call(autojump_clock: MockClock, status: int) -> None:
    async with open_world(HELLO, faults=Faults(refuse_upgrade=status)) as world:
        check_unavailable(await refused(world))
    assert world.record.ending is Ending.REALTIME_REFUSED
    assert world.record.detail == f"http_{status}: Refused by a fault of the test server."


@pytest.mark.parametrize(
    ("faults", "seconds", "missing"),
    [
        (Faults(silent_upgrade=True), 2.0, "no WebSocket upgrade by model.test"),
        (Faults(no_session_created=True), 2.0, "no session.created from the server"),
        (Faults(session_updated_seconds=math.inf), 3.0, "no session.updated from the server"),
    ],
    ids=["upgrade", "session.created", "session.updated"],
)
async def test_a_model_that_is_too_slow_refuses_the_call_at_the_deadline(
    autojump_clock: MockClock, faults: Faults, seconds: float, missing: str
) -> None:
    settings = changed(openai={"connect_seconds": 2.0, "configure_seconds": 3.0})
    async with open_world(HELLO, settings=settings, faults=faults) as world:
        began = trio.current_time()
        check_unavailable(await refused(world))
        assert trio.current_time() - began == pytest.approx(seconds + 2 * DELAY)
    assert world.record.detail == f"timeout: {missing}"


async def test_a_caller_who_gives_up_while_it_rings_gets_487_and_the_model_is_let_go(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(HELLO, dialect=dialect, faults=Faults(session_updated_seconds=math.inf)) as world:
        async with world.ring() as call:
            await trio.sleep(0.5)
            await call.cancel()
            with pytest.raises(CallRefused, match="487"):
                await call.wait_answer()
            assert world.session.closed == 1000
        assert [response.status for response in call.responses] == [100, 180, 487]
    assert world.record.ending is Ending.CALLER_CANCELLED
    assert world.record.duration_seconds == 0.0


async def test_a_call_beyond_the_limit_is_refused_and_the_running_one_unharmed(autojump_clock: MockClock) -> None:
    async with open_world(HELLO, settings=changed(service={"max_calls": 1, "retry_after_seconds": 7})) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(0.2)
            response = await refused(world)
            assert (response.status, response.header("Retry-After")) == (503, "7")
            assert "service.max_calls = 1 is reached" in response.header("Warning")
            assert (world.service.calls, world.service.refused) == (1, 1)
            await call.handset.wait_silence(0.1)
        assert call.handset.speech_heard() == GREETING
        assert {(other.sequence - one.sequence) % 2**16 for one, other in pairwise(call.handset.heard)} == {1}


async def test_a_freed_port_rests_before_the_next_call_gets_it(autojump_clock: MockClock) -> None:
    async with open_world(HELLO, settings=changed(rtp={"quarantine_seconds": 3.0}), calls=3) as world:
        async with world.dial():
            await trio.sleep(0.1)
        response = await refused(world)
        assert (response.status, response.header("Retry-After")) == (503, "10")
        assert response.header("Reason") == 'SIP;cause=503;text="no_rtp_port: no RTP port is free"'
        await trio.sleep(3.0)
        async with world.dial() as call:
            await call.handset.wait_speech(0.1)
    assert [record.ending for record in world.records] == [
        Ending.CALLER_HUNG_UP,
        Ending.NO_RTP_PORT,
        Ending.CALLER_HUNG_UP,
    ]
