"""The service is an extension of a PBX: it registers, is called there, comes back after a loss, and takes its leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending, Secret
from aivc.config.settings import Address
from aivc.config.telephony import SipRegister, SipUser
from aivc.testing import (
    CallRefused,
    CallTool,
    Guard,
    Part,
    PhoneCall,
    Say,
    Script,
    SessionTimer,
    Transfers,
    VirtualNetwork,
    open_phone,
    scripted,
    speech,
)
from aivc.testing.registrar import Binding, Registrar, Trouble, open_registrar
from scenarios.conftest import Dialect
from scenarios.world import DELAY, REGISTRAR, SERVICE, World, changed, open_world

pytestmark = pytest.mark.sip_only("registration: OpenSIPS does it")

GREETING: Final = speech(0.5, pitch_hz=210.0)
QUESTION: Final = speech(0.3, seed=9)
PASSWORDS: Final = {"200": "s3cret"}
REGISTER: Final = SipRegister(user="200", server=REGISTRAR, password=Secret("s3cret"), expires_seconds=600)
OVER_TCP: Final = SipRegister(user="200", server=REGISTRAR, password=Secret("s3cret"), transport="tcp")
SETTINGS: Final = changed(sip={"register": (REGISTER,)})
FEW_SCHEDULES: Final = pytest.mark.parametrize("any_schedule", [0, 7, 12, 19], indirect=True)


def agent(*then: Part) -> Script:
    return scripted([[Say("Hello.", audio=GREETING)], [*then]])


def states(world: World) -> list[str]:
    return [status.state for status in world.service.registrations]


async def wait_state(world: World, state: str, seconds: float) -> None:
    with trio.fail_after(seconds):
        while states(world) != [state]:  # noqa: ASYNC110 - a fake clock makes polling cheap
            await trio.sleep(0.01)


def the_pbx(world: World) -> Registrar:
    assert world.registrar is not None
    return world.registrar


async def registered(world: World) -> Binding:
    with trio.fail_after(5.0):
        binding = await the_pbx(world).wait_registered("200")
    await wait_state(world, "registered", 1.0)
    return binding


async def call_through(world: World, binding: Binding, block: Callable[[PhoneCall], object]) -> None:
    """A call that the PBX passes on."""
    async with open_phone(REGISTRAR, 5080, user="bob", seed=1) as phone, phone.dial(binding.uri) as call:
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.3)
        block(call)


async def test_the_extension_is_called_at_its_registered_contact(autojump_clock: MockClock, dialect: Dialect) -> None:
    pbx = open_registrar(REGISTRAR, PASSWORDS)
    async with open_world(agent(), settings=SETTINGS, dialect=dialect, registrar=pbx) as world:
        binding = await registered(world)
        assert binding.uri == f"sip:200@{SERVICE}:5060"
        assert binding.source == (SERVICE, 5060)
        (status,) = world.service.registrations
        assert (status.user, status.server, status.last_error) == ("200", REGISTRAR, "")
        assert status.expires_at == pytest.approx(trio.current_time() + 600.0, abs=1.0)

        def check(call: PhoneCall) -> None:
            assert [response.status for response in call.responses] == [100, 180, 200]
            assert call.handset.speech_heard() == GREETING

        await call_through(world, binding, check)
        registrar = the_pbx(world)
    assert registrar.registered("200") == []  # taken back
    last = registrar.requests[-1]
    assert last.header("Contact").endswith(";expires=0") or last.header("Expires") == "0"
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert world.record.dialled == "200"
    assert world.record.caller == f"sip:bob@{REGISTRAR}"


async def test_calls_from_the_pbx_need_no_password_others_do(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(SETTINGS, sip={"users": (SipUser(name="desk", password=Secret("x")),)})
    pbx = open_registrar(REGISTRAR, PASSWORDS)
    async with open_world(agent(), settings=settings, dialect=dialect, registrar=pbx) as world:
        await call_through(world, await registered(world), lambda call: None)
        with pytest.raises(CallRefused, match="401"):
            async with world.dial():
                pass
    assert world.record.ending is Ending.CALLER_HUNG_UP


@FEW_SCHEDULES
async def test_a_registration_is_renewed_before_it_ends(autojump_clock: MockClock) -> None:
    settings = changed(
        sip={"register": (SipRegister(user="200", server=REGISTRAR, password=Secret("s3cret"), expires_seconds=60),)}
    )
    async with open_world(agent(), settings=settings, calls=0, registrar=open_registrar(REGISTRAR, PASSWORDS)) as world:
        await registered(world)
        for _ in range(18):
            await trio.sleep(10.0)
            assert len(the_pbx(world).registered("200")) == 1
        assert states(world) == ["registered"]
        assert 4 <= len(the_pbx(world).requests) <= 16


@FEW_SCHEDULES
async def test_a_registrar_that_was_down_is_registered_with_when_it_is_back(autojump_clock: MockClock) -> None:
    network = VirtualNetwork(delay=DELAY)
    async with open_world(
        agent(), settings=SETTINGS, network=network, registrar=open_registrar(REGISTRAR, PASSWORDS)
    ) as world:
        the_pbx(world).troubles += [Trouble(503), Trouble(503), Trouble(503)]
        await wait_state(world, "failed", 5.0)
        (status,) = world.service.registrations
        assert "503" in status.last_error
        await wait_state(world, "registered", 30.0)
        await call_through(world, the_pbx(world).registered("200")[-1], lambda call: None)
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_wrong_password_is_told_and_calls_from_elsewhere_go_on(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    pbx = open_registrar(REGISTRAR, {"200": "another"})
    async with open_world(agent(), settings=SETTINGS, dialect=dialect, registrar=pbx) as world:
        await wait_state(world, "failed", 5.0)
        (status,) = world.service.registrations
        assert "401" in status.last_error
        assert "password" in status.advice
        async with world.dial() as call:
            await call.handset.wait_speech(0.1)
        registrar = the_pbx(world)
        assert registrar.registered("200") == []
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_lost_connection_is_registered_anew_and_the_call_goes_on(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    settings = changed(sip={"register": (OVER_TCP,), "listen": (f"tcp:{SERVICE}:5060",)})
    pbx = open_registrar(REGISTRAR, PASSWORDS, transport="tcp")
    async with open_world(
        agent(Say("Yes.", audio=GREETING)), settings=settings, dialect=dialect, registrar=pbx
    ) as world:
        binding = await registered(world)
        async with open_phone(REGISTRAR, 5080, transport="tcp") as phone, phone.dial(f"sip:200@{SERVICE}:5060") as call:
            await call.handset.wait_speech()
            the_pbx(world).close_connections()
            await trio.sleep(3.0)
            again = the_pbx(world).registered("200")[-1]
            assert again.source != binding.source  # over a new connection
            assert again.instance == binding.instance
            assert len(the_pbx(world).registered("200")) == 1
            assert states(world) == ["registered"]
            call.handset.say(QUESTION)
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.3)
            assert call.handset.speech_heard() == GREETING * 2
        registrar = the_pbx(world)
    assert registrar.registered("200") == []
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_service_that_drains_takes_its_registration_back_before_its_calls_are_over(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    settings = changed(SETTINGS, service={"drain_seconds": 5.0})
    withdrawn: list[float] = []
    over: list[float] = []
    pbx = open_registrar(REGISTRAR, PASSWORDS)
    async with open_world(agent(), settings=settings, dialect=dialect, registrar=pbx, drains=True) as world:
        await registered(world)

        async def talk() -> None:
            async with world.dial() as call:
                await call.handset.wait_speech()
                over.append(await call.wait_hung_up())

        async def watch() -> None:
            while the_pbx(world).registered("200"):  # noqa: ASYNC110 - a fake clock makes polling cheap
                await trio.sleep(0.01)
            withdrawn.append(trio.current_time())

        world.phone.nursery.start_soon(talk)
        world.phone.nursery.start_soon(watch)
        await trio.sleep(1.0)
        left_at = trio.current_time()
    assert withdrawn[0] == pytest.approx(left_at + 3 * DELAY, abs=0.03)
    assert over[0] == pytest.approx(left_at + 5.0 + DELAY)
    assert world.record.ending is Ending.DRAINED


@FEW_SCHEDULES
async def test_a_registrar_that_never_answers_does_not_hold_up_the_end(autojump_clock: MockClock) -> None:
    async with open_world(agent(), settings=SETTINGS, calls=0) as world:
        await trio.sleep(1.0)
        assert states(world) == ["registering"]
        left_at = trio.current_time()
    assert trio.current_time() - left_at < 5.0


async def test_somebody_behind_the_registrars_nat_registers_what_the_registrar_sees(autojump_clock: MockClock) -> None:
    seen: Address = ("203.0.113.7", 62000)
    async with open_world(agent(), settings=SETTINGS, calls=0, registrar=open_registrar(REGISTRAR, PASSWORDS)) as world:
        the_pbx(world).sees = seen
        await trio.sleep(2.0)
        uris = [binding.uri for binding in the_pbx(world).registered("200")]
        assert uris == ["sip:200@203.0.113.7:62000"]


@pytest.mark.parametrize("way", ["REFER", "BYE"])
async def test_what_we_ask_of_the_pbx_in_a_call_is_answered_to_its_challenge(
    autojump_clock: MockClock, dialect: Dialect, way: str
) -> None:
    guard = Guard("200", "s3cret")
    settings = changed(SETTINGS, openai={"transfer_to": "sip:300@pbx.test"})
    script = agent(CallTool("transfer_call" if way == "REFER" else "terminate_call"))
    pbx = open_registrar(REGISTRAR, PASSWORDS)
    async with open_world(script, settings=settings, dialect=dialect, registrar=pbx) as world:
        binding = await registered(world)
        async with (
            open_phone(REGISTRAR, 5080, user="bob", seed=1) as phone,
            phone.dial(binding.uri, guard=guard, transfers=Transfers()) as call,
        ):
            await call.handset.wait_speech(0.6)
            call.handset.say(QUESTION)
            await call.wait_hung_up()
        assert guard.refused == (["REFER", "BYE"] if way == "REFER" else ["BYE"])
        proven = [request for request in call.requests if request.headers.get("Proxy-Authorization") is not None]
        assert [request.method for request in proven] == guard.refused
        assert all('username="200"' in request.header("Proxy-Authorization") for request in proven)
        assert len(call.referrals) == (way == "REFER")
    assert world.record.ending is (Ending.TRANSFERRED if way == "REFER" else Ending.MODEL_HUNG_UP)


async def test_whoever_else_asks_for_our_password_does_not_get_it(autojump_clock: MockClock, dialect: Dialect) -> None:
    guard = Guard("200", "s3cret")
    pbx = open_registrar(REGISTRAR, PASSWORDS)
    script = agent(CallTool("terminate_call"))
    async with open_world(script, settings=SETTINGS, dialect=dialect, registrar=pbx) as world:
        await registered(world)
        async with world.dial(guard=guard) as call:
            await call.handset.wait_speech(0.6)
            call.handset.say(QUESTION)
            while world.service.calls:  # noqa: ASYNC110 - a fake clock makes polling cheap
                await trio.sleep(0.02)
        assert guard.refused == ["BYE"]
        assert [request.headers.get("Proxy-Authorization") for request in call.requests] == [None]
    assert world.record.ending is Ending.MODEL_HUNG_UP


@pytest.mark.parametrize("password", ["s3cret", "wrong"])
async def test_a_refresh_that_the_pbx_challenges_keeps_the_call_or_costs_it(
    autojump_clock: MockClock, dialect: Dialect, password: str
) -> None:
    guard, timer = Guard("200", password), SessionTimer(expires=90, refresher="uas")
    pbx = open_registrar(REGISTRAR, PASSWORDS)
    async with open_world(agent(), settings=SETTINGS, dialect=dialect, registrar=pbx) as world:
        binding = await registered(world)
        async with (
            open_phone(REGISTRAR, 5080, user="bob", seed=1) as phone,
            phone.dial(binding.uri, guard=guard, session_timer=timer, ptime_ms=60) as call,
        ):
            await trio.sleep(70.0)
            assert (call.timed is not None and call.timed.since > (call.answered_at or 0.0)) == (password == "s3cret")
            assert world.service.calls == (password == "s3cret")
    assert world.record.ending is (Ending.CALLER_HUNG_UP if password == "s3cret" else Ending.SESSION_EXPIRED)
