"""Calls whose signalling goes over TCP or IPv6, connections that are lost meanwhile, and several ways in at once."""

from __future__ import annotations

from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.config.settings import Settings
from aivc.testing import CallRefused, CallTool, Context, Faults, Part, Phone, Say, decided, open_phone, scripted, speech
from aivc.testing.wording import media_address
from scenarios.conftest import Dialect
from scenarios.world import DELAY, NUMBER, PHONE6, RTP_PORT, SERVICE, SERVICE6, World, changed, open_world

pytestmark = pytest.mark.sip_only("our own TCP and IPv6 signalling: OpenSIPS has its own")

GREETING: Final = speech(0.5, pitch_hz=210.0)
QUESTION: Final = speech(0.3, seed=9)
CALLER: Final = "192.0.2.20"
NUMBER6: Final = f"sip:1000@[{SERVICE6}]:5060"

WAYS: Final = (f"udp:{SERVICE}:5060", f"tcp:{SERVICE}:5060", f"udp:[{SERVICE6}]:5060", f"tcp:[{SERVICE6}]:5060")
SETTINGS: Final = changed(sip={"listen": WAYS}, rtp={"bind_ipv6": SERVICE6})


def connections(world: World) -> int:
    """Ends of connections that the service holds."""
    return sum(1 for stream in world.network.streams if stream.is_at(SERVICE) and stream.connection is not None)


def agent(*then: Part) -> list[list[Part]]:
    return [[Say("Hello.", audio=GREETING)], [*then]]


async def test_a_call_over_tcp_goes_over_the_callers_own_connection(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(scripted(agent()), settings=SETTINGS, dialect=dialect) as world:
        async with open_phone(CALLER, transport="tcp") as phone:
            async with phone.dial(NUMBER) as call:
                assert [response.status for response in call.responses] == [100, 180, 200]
                assert call.answered is not None
                assert call.answered.header("Contact") == f"<sip:{SERVICE}:5060;transport=tcp>"
                assert connections(world) == 1
                await call.handset.wait_speech(0.1)
                assert (await call.hold()).status == 200
                assert (await call.resume()).status == 200
                await call.handset.wait_silence(0.2)
            assert call.handset.speech_heard() == GREETING
        await trio.sleep(3 * DELAY)
        assert connections(world) == 0  # the phone is gone, and so is our end
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_call_outlives_its_connection(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(scripted(agent()), settings=SETTINGS, dialect=dialect) as world:
        async with open_phone(CALLER, transport="tcp") as phone, phone.dial(NUMBER) as call:
            await call.handset.wait_speech(0.2)
            assert world.network.cut(CALLER) == 1
            await call.handset.wait_silence(0.3)
            assert call.handset.speech_heard() == GREETING
            steps = {(later.sequence - one.sequence) % 2**16 for one, later in pairwise(call.handset.heard)}
            assert steps == {1}
            assert (await call.hold()).status == 200  # over another one
            assert (await call.resume()).status == 200
            assert connections(world) == 1
            call.handset.say(QUESTION)
            await call.handset.wait_said()
            await trio.sleep(2 * DELAY)
        assert call.hung_up_at is None
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert QUESTION in world.session.received_audio


async def test_we_hang_up_over_a_connection_of_our_own_when_the_callers_is_lost(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    script = scripted(agent(CallTool("terminate_call")))
    async with (
        open_world(script, settings=SETTINGS, dialect=dialect) as world,
        open_phone(CALLER, transport="tcp") as phone,
        phone.dial(NUMBER) as call,
    ):
        await call.handset.wait_speech(0.2)
        world.network.cut(CALLER)
        await call.handset.wait_silence(0.3)
        call.handset.say(QUESTION)
        await call.wait_hung_up()
        assert [request.method for request in call.requests] == ["BYE"]
        assert connections(world) == 1
    assert world.record.ending is Ending.MODEL_HUNG_UP


@pytest.mark.parametrize("way", ["refuses", "stalls"])
async def test_a_caller_who_cannot_be_reached_any_more_does_not_hold_up_the_end(
    autojump_clock: MockClock, dialect: Dialect, way: str
) -> None:
    script = scripted(agent(CallTool("terminate_call")))
    async with (
        open_world(script, settings=SETTINGS, dialect=dialect) as world,
        open_phone(CALLER, transport="tcp") as phone,
        phone.dial(NUMBER) as call,
    ):
        await call.handset.wait_speech(0.2)
        if way == "refuses":
            world.network.refuse(CALLER)
            world.network.cut(CALLER)
        else:
            world.network.stall(CALLER)
        call.handset.say(QUESTION)
        await world.session.wait_sent("response.done", count=2)
        over_at = trio.current_time()
        while world.service.calls:  # noqa: ASYNC110 - a fake clock makes polling cheap
            await trio.sleep(0.02)
        assert trio.current_time() - over_at < 3.5  # the last words, and sip.hang_up_seconds
        assert call.hung_up_at is None
        world.network.resume(CALLER)
    assert world.record.ending is Ending.MODEL_HUNG_UP


async def test_the_answer_comes_over_a_new_connection_when_the_callers_is_lost_while_it_rings(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    faults = Faults(session_updated_seconds=2.0)
    async with (
        open_world(scripted(agent()), settings=SETTINGS, dialect=dialect, faults=faults) as world,
        open_phone(CALLER, transport="tcp") as phone,
        phone.ring(NUMBER) as call,
    ):
        await trio.sleep(0.5)
        assert world.network.cut(CALLER) == 1
        await call.wait_answer()  # RFC 3261 section 18.2.2: to the sent-by of Via
        assert [response.status for response in call.responses] == [100, 180, 200]
        await call.handset.wait_speech(0.1)
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_caller_whose_connection_is_lost_while_it_rings_may_give_up_over_another(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    faults = Faults(session_updated_seconds=9.0)
    async with (
        open_world(scripted(agent()), settings=SETTINGS, dialect=dialect, faults=faults) as world,
        open_phone(CALLER, transport="tcp") as phone,
        phone.ring(NUMBER) as call,
    ):
        await trio.sleep(0.5)
        world.network.cut(CALLER)
        await trio.sleep(0.1)
        await call.cancel()
        with pytest.raises(CallRefused, match="487"):
            await call.wait_answer()
    assert world.record.ending is Ending.CALLER_CANCELLED


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_call_over_ipv6_has_its_audio_there_too(
    autojump_clock: MockClock, dialect: Dialect, transport: str
) -> None:
    async with open_world(scripted(agent()), settings=SETTINGS, dialect=dialect) as world:
        async with open_phone(PHONE6, transport="tcp" if transport == "tcp" else "udp") as phone:
            async with phone.dial(NUMBER6) as call:
                assert call.answered is not None
                parameter = ";transport=tcp" if transport == "tcp" else ""
                assert call.answered.header("Contact") == f"<sip:[{SERVICE6}]:5060{parameter}>"
                assert b"c=IN IP6 2001:db8::1\r\n" in call.answered.body
                assert media_address(call.answered.body.decode()) == (SERVICE6, RTP_PORT)
                await call.handset.wait_speech()
                await call.handset.wait_silence(0.3)
                call.handset.say(QUESTION)
                await call.handset.wait_said()
            assert call.handset.speech_heard() == GREETING
            assert {packet.source for packet in call.handset.heard} == {(SERVICE6, RTP_PORT)}
        assert QUESTION in world.session.received_audio
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert world.record.caller == f"sip:alice@[{PHONE6}]"


def everybody(settings: Settings = SETTINGS) -> Settings:
    """Room for four calls."""
    return changed(settings, rtp={"max_port": RTP_PORT + 7})


async def test_callers_come_in_every_way_at_once(autojump_clock: MockClock, dialect: Dialect) -> None:
    def talk(context: Context) -> list[Part]:
        return [Say("Yes." if context.turns else "Hello.", audio=GREETING)]

    questions = [speech(0.3, seed=seed) for seed in (11, 12, 13, 14)]
    heard: list[bytes] = []
    async with open_world(decided(talk), settings=everybody(), dialect=dialect, calls=4) as world:

        async def live(phone: Phone, number: str, question: bytes, over: trio.Event) -> None:
            async with phone.dial(number) as call:
                await call.handset.wait_speech()
                await call.handset.wait_silence(0.3)
                call.handset.say(question)
                await call.handset.wait_speech()
                await call.handset.wait_silence(0.3)
            heard.append(call.handset.speech_heard())
            over.set()

        async with AsyncExitStack() as phones:
            ends = []
            for number, (host, transport) in enumerate(
                [(CALLER, "udp"), (CALLER, "tcp"), (PHONE6, "udp"), (PHONE6, "tcp")]
            ):
                phone = await phones.enter_async_context(
                    open_phone(host, transport="tcp" if transport == "tcp" else "udp", seed=number)
                )
                ends.append(trio.Event())
                dialled = NUMBER6 if ":" in host else NUMBER
                phone.nursery.start_soon(live, phone, dialled, questions[number], ends[-1])
            for end in ends:
                await end.wait()
            assert world.service.listening == ((SERVICE, 5060), (SERVICE, 5060), (SERVICE6, 5060), (SERVICE6, 5060))
        said = [session.received_audio for session in world.model.sessions]
        assert [sum(question in audio for audio in said) for question in questions] == [1] * 4
        assert all(sum(question in audio for question in questions) == 1 for audio in said)
    assert heard == [GREETING * 2] * 4
    assert [record.ending for record in world.records] == [Ending.CALLER_HUNG_UP] * 4
