"""A fifth of all packets is lost, others overtake each other: the signalling keeps what it promises all the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.sip.message import Response
from aivc.testing import CallTool, Say, SessionTimer, Transfers, VirtualNetwork, decided, open_phone, speech
from aivc.testing.registrar import open_registrar
from aivc.testing.script import Context, Part
from scenarios.conftest import Dialect
from scenarios.front_ends import FrontEndName
from scenarios.test_being_announced import DESK, DESK_HOST
from scenarios.test_being_announced import SETTINGS as ATTENDED
from scenarios.test_being_announced import talk as talk_attended
from scenarios.test_being_registered import PASSWORDS
from scenarios.test_being_registered import SETTINGS as REGISTERED
from scenarios.world import DELAY, NUMBER, REGISTRAR, SERVICE, changed, open_world

HELLO: Final = speech(0.6, pitch_hz=210.0, seed=91)
QUESTION: Final = speech(1.0, seed=92)
SUPPORT: Final = "sip:support@example.com"
BOB: Final = "192.0.2.31"
BOBS: Final = f"sip:bob@{BOB}:5060"
SEEDS: Final = pytest.mark.parametrize("seed", range(5))
PATIENT: Final = {"hang_up_seconds": 10.0}  # a BYE that is lost is sent again after 0.5, 1.5 and 3.5 s


def troubled(seed: int) -> VirtualNetwork:
    return VirtualNetwork(delay=DELAY, seed=seed, loss=0.2, jitter=0.004, reordering=0.1)


def talk(context: Context) -> list[Part]:
    return [] if context.turns else [Say("Hello.", audio=HELLO)]


def leave(context: Context) -> list[Part]:
    return [CallTool("terminate_call")] if context.turns else [Say("Hello.", audio=HELLO)]


def transfer(context: Context) -> list[Part]:
    return [] if context.responses else [CallTool("transfer_call")]


async def insist(ask: Callable[[], Awaitable[Response]], pause: float) -> int:
    """The status; 500 says that the ACK to an answer was lost, so that it must be asked again."""
    while (response := await ask()).status == 500:  # noqa: ASYNC110 - there is no event for it
        await trio.sleep(pause)
    return response.status


@SEEDS
async def test_a_call_with_everything_in_it(
    autojump_clock: MockClock, dialect: Dialect, front_end: FrontEndName, seed: int
) -> None:
    is_sip = front_end == "sip"
    # OpenSIPS knows no 100rel. It repeats a 500 for 30 s, whose ACK it takes for that to a 200 which waits for its own.
    reliable, pause = ("required", 1.0) if is_sip else ("off", 31.0)
    settings = changed(sip=PATIENT)
    async with (
        open_world(decided(talk), settings=settings, dialect=dialect, network=troubled(seed)) as world,
        world.dial(reliable=reliable) as call,
    ):
        assert [response.status for response in call.responses if response.status >= 200] == [200]
        for _ in range(3):
            assert await insist(call.hold, pause) == 200
            for ask in (
                partial(call.update, call.describe()),
                partial(call.info_digit, "5"),
                partial(call.ask, "OPTIONS"),
            ):
                # OpenSIPS waits for the ACK before it takes these, too
                assert ((await ask()).status if is_sip else await insist(ask, pause)) == 200
        await trio.sleep(5.0)
        assert call.hung_up_at is None
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert "".join(entry.digits for entry in world.record.digits) == "555"  # each once, however often it was sent


@SEEDS
async def test_the_model_hangs_up(autojump_clock: MockClock, dialect: Dialect, seed: int) -> None:
    settings = changed(sip=PATIENT)
    async with open_world(decided(leave), settings=settings, dialect=dialect, network=troubled(seed)) as world:
        async with world.dial() as call:
            await call.handset.wait_speech(1.0)
            call.handset.say(QUESTION)
            await call.wait_hung_up()
        assert len({request.cseq for request in call.requests}) == 1
    assert world.record.ending is Ending.MODEL_HUNG_UP


@SEEDS
async def test_a_transfer(autojump_clock: MockClock, dialect: Dialect, seed: int) -> None:
    settings = changed(sip=PATIENT, openai={"transfer_to": SUPPORT})
    async with open_world(decided(transfer), settings=settings, dialect=dialect, network=troubled(seed)) as world:
        async with world.dial(transfers=Transfers(progress=(100, 180, 200))) as call:
            await call.wait_hung_up()
        assert len(call.referrals) == 1
    assert world.record.ending is Ending.TRANSFERRED
    assert [run.status for run in world.record.transfers] == [200]


@SEEDS
async def test_an_attended_transfer(autojump_clock: MockClock, dialect: Dialect, seed: int) -> None:
    settings = changed(ATTENDED, sip=PATIENT, openai={"transfer_seconds": 60.0})
    async with open_world(decided(talk_attended), settings=settings, dialect=dialect, network=troubled(seed)) as world:
        async with (
            open_phone(DESK_HOST, 5060, user="desk", seed=1) as desk,
            desk.answering(ring_seconds=1.0, reliable=True) as calls,
            world.dial(transfers=Transfers()) as call,
        ):
            theirs = await calls.receive()
            await call.wait_hung_up()
            await theirs.wait_over()
            assert theirs.replaced_by is not None
            while world.service.calls:  # noqa: ASYNC110 - a fake clock makes polling cheap
                await trio.sleep(0.02)
        assert [referral.refer_to.partition("?")[0] for referral in call.referrals] == [DESK]
    assert world.record.ending is Ending.TRANSFERRED


@pytest.mark.sip_only("Replaces: OpenSIPS lets no session take the place of another")
@SEEDS
async def test_bob_takes_the_place_of_alice(autojump_clock: MockClock, dialect: Dialect, seed: int) -> None:
    settings = changed(sip=PATIENT)
    async with (
        open_world(decided(talk), settings=settings, dialect=dialect, network=troubled(seed)) as world,
        open_phone(BOB, 5060, user="bob", seed=2) as bob,
        world.dial() as alices,
    ):
        await alices.handset.wait_speech(0.2)
        async with bob.dial(NUMBER, replaces=alices.replaces) as bobs:
            await alices.wait_hung_up()
            bobs.handset.say(QUESTION)
            await world.session.wait_sent("input_audio_buffer.committed")
        assert bobs.hung_up_at is None
    assert world.record.ending is Ending.CALLER_HUNG_UP


@pytest.mark.sip_only("a REFER that is followed: behind OpenSIPS it is declined")
@SEEDS
async def test_we_follow_a_refer(autojump_clock: MockClock, dialect: Dialect, seed: int) -> None:
    settings = changed(sip=PATIENT | {"follow_refer": (BOBS,)})
    async with (
        open_world(decided(talk), settings=settings, dialect=dialect, network=troubled(seed)) as world,
        open_phone(BOB, 5060, user="bob", seed=2) as bob,
        bob.answering() as calls,
        world.dial() as call,
    ):
        await call.handset.wait_speech(0.2)
        assert (await call.ask_transfer(BOBS)).status == 202
        bobs = await calls.receive()
        await bobs.wait_answered()
        with trio.fail_after(20.0):
            told = await call.wait_notified(2)
        assert sorted(told) == ["100 Trying", "200 OK"]
        await call.wait_hung_up()
        assert not bobs.is_over
    assert world.record.ending is Ending.CALLER_HUNG_UP


@pytest.mark.sip_only("refreshes of ours: behind OpenSIPS they are all the caller's")
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("any_schedule", [0, 7], indirect=True)  # it takes long
async def test_the_call_is_refreshed(autojump_clock: MockClock, dialect: Dialect, seed: int) -> None:
    settings = changed(sip=PATIENT)
    timer = SessionTimer(expires=90, refresher="uas")
    async with open_world(decided(talk), settings=settings, dialect=dialect, network=troubled(seed)) as world:
        async with world.dial(ptime_ms=60, session_timer=timer) as call:
            await trio.sleep(140.0)
            assert call.hung_up_at is None
        assert len({request.cseq for request in call.requests}) >= 3
    assert world.record.ending is Ending.CALLER_HUNG_UP


@pytest.mark.sip_only("registration: OpenSIPS does it")
@SEEDS
async def test_a_registration(autojump_clock: MockClock, dialect: Dialect, seed: int) -> None:
    pbx = open_registrar(REGISTRAR, PASSWORDS)
    settings = changed(REGISTERED, sip=PATIENT)
    async with open_world(
        decided(talk), settings=settings, dialect=dialect, network=troubled(seed), registrar=pbx
    ) as world:
        assert world.registrar is not None
        with trio.fail_after(60.0):
            binding = await world.registrar.wait_registered("200")
        async with open_phone(REGISTRAR, 5080, user="bob", seed=1) as phone, phone.dial(binding.uri) as call:
            await call.handset.wait_speech(0.1)
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert world.record.dialled == "200"
    assert binding.source == (SERVICE, 5060)
