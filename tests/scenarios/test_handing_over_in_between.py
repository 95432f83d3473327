"""A call is handed over while something else is under way: a transfer, a REFER, a session that is lost, the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.testing import CallTool, Phone, ReceivedCall, Say, Session, Transfers, decided, open_phone, speech
from aivc.testing.script import Context, Part
from scenarios.conftest import Dialect
from scenarios.world import NUMBER, RTP_PORT, changed, open_world

pytestmark = pytest.mark.sip_only("Replaces: OpenSIPS does not let one session take the place of another")

BOB: Final = "192.0.2.31"
CAROL: Final = "192.0.2.32"
CAROLS: Final = f"sip:carol@{CAROL}:5060"
SUPPORT: Final = "sip:support@example.com"
WELCOME: Final = speech(0.6, pitch_hz=210.0, seed=81)
ANNOUNCEMENT: Final = speech(1.0, pitch_hz=210.0, seed=82)
EXCUSE: Final = speech(0.6, pitch_hz=210.0, seed=83)
ANSWER: Final = speech(0.6, pitch_hz=210.0, seed=84)
QUESTION: Final = speech(0.4, seed=85)
FOLLOWING: Final = changed(sip={"follow_refer": ("sip:.*",)})
TRANSFERRING: Final = changed(openai={"transfer_to": SUPPORT, "transfer_seconds": 8.0})
ATTENDED: Final = changed(
    openai={"transfer_to": CAROLS, "transfer_attended": True, "transfer_seconds": 8.0}, rtp={"max_port": RTP_PORT + 3}
)


def talk(context: Context) -> Sequence[Part]:
    return [Say("Yes.", audio=ANSWER)] if context.turns else [Say("Hello.", audio=WELCOME)]


def transfer_at_once(context: Context) -> Sequence[Part]:
    if not context.tools:
        return [Say("Alice is calling.", audio=ANNOUNCEMENT)]
    if context.outputs:
        return [Say("It failed.", audio=EXCUSE)]
    return [Say("Yes.", audio=ANSWER)] if context.turns else [Say("Hello.", audio=WELCOME), CallTool("transfer_call")]


def transfer_when_asked(context: Context) -> Sequence[Part]:
    return [CallTool("transfer_call")] if context.turns else [Say("Hello.", audio=WELCOME)]


def open_bob(**more: Any) -> AbstractAsyncContextManager[Phone]:
    return open_phone(BOB, 5060, user="bob", seed=2, **more)


def open_carol(**more: Any) -> AbstractAsyncContextManager[Phone]:
    return open_phone(CAROL, 5060, user="carol", seed=3, **more)


def methods(call: Any) -> list[str]:
    return [request.method for request in {str(request.cseq): request for request in call.requests}.values()]


def failure(session: Session) -> str:
    events = session.received("conversation.item.create")
    (output,) = [event["item"]["output"] for event in events if event["item"]["type"] == "function_call_output"]
    return str(json.loads(output)["error"])


async def answered(calls: trio.MemoryReceiveChannel[ReceivedCall]) -> ReceivedCall:
    call = await calls.receive()
    await call.wait_answered()
    return call


async def test_the_model_transfers_whoever_it_talks_to_now(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with (
        open_world(decided(transfer_when_asked), settings=TRANSFERRING, dialect=dialect) as world,
        open_bob() as bob,
        world.dial(transfers=Transfers()) as alices,
    ):
        await alices.handset.wait_speech(0.7)
        async with bob.dial(NUMBER, replaces=alices.replaces, transfers=Transfers()) as bobs:
            bobs.handset.say(QUESTION)
            await bobs.wait_hung_up()
        assert [referral.refer_to for referral in bobs.referrals] == [SUPPORT]
        assert alices.referrals == []
        assert methods(alices) == ["BYE"]
    assert world.record.ending is Ending.TRANSFERRED


async def test_a_transfer_of_alice_is_void_when_bob_takes_the_call(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with (
        open_world(decided(transfer_at_once), settings=TRANSFERRING, dialect=dialect) as world,
        open_bob() as bob,
        world.dial(transfers=Transfers(progress=(100,), delay=0.1, forget_end=True)) as alices,
    ):
        await alices.wait_referral()
        await trio.sleep(0.3)
        async with bob.dial(NUMBER, replaces=alices.replaces) as bobs:
            with trio.fail_after(3.0):
                await bobs.handset.wait_speech()
            await bobs.handset.wait_silence(0.5)
            assert bobs.handset.speech_heard() == EXCUSE
            assert failure(world.session).startswith("the transfer failed: ")
            bobs.handset.say(QUESTION)
            await bobs.handset.wait_speech()
            await bobs.handset.wait_silence(0.5)
            assert bobs.handset.speech_heard() == EXCUSE + ANSWER
            assert bobs.hung_up_at is None
        assert methods(alices) == ["REFER", "BYE"]
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert [run.succeeded for run in world.record.transfers] == [False]


async def test_bob_who_comes_while_the_target_rings_is_the_one_who_is_announced(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with (
        open_world(decided(transfer_at_once), settings=ATTENDED, dialect=dialect) as world,
        open_bob() as bob,
        open_carol() as carol,
        carol.answering(ring_seconds=3.0) as calls,
        world.dial(transfers=Transfers()) as alices,
    ):
        theirs = await calls.receive()
        async with bob.dial(NUMBER, replaces=alices.replaces, transfers=Transfers()) as bobs:
            await theirs.wait_answered()
            joined = await calls.receive()
            assert joined.source[0] == BOB
            assert theirs.handset.speech_heard() == ANNOUNCEMENT
            await theirs.wait_over()
            await bobs.wait_hung_up()
        assert alices.referrals == []
    assert world.record.ending is Ending.TRANSFERRED


async def test_carol_whom_we_call_for_alice_is_let_go_when_bob_comes(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    """Alice has asked us to call Carol, and handed her own call to Bob meanwhile: who is there counts."""
    async with (
        open_world(decided(talk), settings=FOLLOWING, dialect=dialect) as world,
        open_bob() as bob,
        open_carol() as carol,
        carol.answering(ring_seconds=2.0) as calls,
        world.dial() as alices,
    ):
        await alices.handset.wait_speech(0.7)
        assert (await alices.ask_transfer(CAROLS)).status == 202
        carols = await calls.receive()
        async with bob.dial(NUMBER, replaces=alices.replaces) as bobs:
            await alices.wait_hung_up()
            with trio.fail_after(0.5):
                await carols.wait_over()
            assert carols.is_cancelled
            await trio.sleep(4.0)
            bobs.handset.say(QUESTION)
            await bobs.handset.wait_speech()
            await bobs.handset.wait_silence(0.4)
            assert bobs.handset.speech_heard().endswith(ANSWER)
            assert bobs.hung_up_at is None
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_session_that_is_lost_while_bob_takes_over_is_replaced(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with (
        open_world(decided(talk), dialect=dialect) as world,
        open_bob() as bob,
        world.dial() as alices,
    ):
        await alices.handset.wait_speech(0.7)
        world.session.drop()
        async with bob.dial(NUMBER, replaces=alices.replaces) as bobs:
            await world.model.wait_session(2)
            await trio.sleep(1.0)
            bobs.handset.say(QUESTION)
            await bobs.handset.wait_speech()
            await bobs.handset.wait_silence(0.5)
            assert bobs.handset.speech_heard().endswith(ANSWER)
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert world.record.sessions == 2


async def test_a_service_that_goes_down_lets_everybody_go(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(FOLLOWING, service={"drain_seconds": 0.5})
    async with open_world(decided(talk), settings=settings, dialect=dialect, drains=True) as world:
        over: list[str] = []

        async def talk_with_us(ringing: trio.Event) -> None:
            async with open_carol() as carol, carol.answering(ring_seconds=20.0) as calls, world.dial() as call:
                await call.ask_transfer(CAROLS)
                carols = await calls.receive()
                ringing.set()
                await call.wait_hung_up()
                over.append("alice")
                with trio.fail_after(2.0):
                    await carols.wait_over()
                assert carols.is_cancelled
                over.append("carol")

        ringing = trio.Event()
        world.phone.nursery.start_soon(talk_with_us, ringing)
        await ringing.wait()
    assert over == ["alice", "carol"]
    assert world.record.ending is Ending.DRAINED
