"""Transfers while something else happens: tools of one's own, a service that goes down, a session that is lost."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending, ToolContext, tool
from aivc.realtime.tools import TransferFailed
from aivc.testing import CallTool, Context, Part, PhoneCall, Say, Transfers, decided
from scenarios.conftest import Dialect
from scenarios.test_being_transferred import (
    ANSWER,
    SALES,
    SETTINGS,
    SUPPORT,
    announcing,
    byes,
    check_transferred,
    error,
    transfer,
)
from scenarios.world import changed, open_world


@tool
async def to_somebody(context: ToolContext) -> str:
    """Transfer to whoever is there."""
    try:
        return await context.transfer("sales")
    except TransferFailed as failure:
        context.state["why"] = str(failure)
    return await context.transfer("support")


async def test_a_tool_of_ones_own_may_transfer_and_try_another_place(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    settings = changed(openai={"transfer_targets": {"sales": SALES, "support": SUPPORT}})
    script = announcing(CallTool("to_somebody"))
    async with open_world(script, settings=settings, dialect=dialect, tools=(to_somebody,)) as world:
        async with world.dial(transfers=Transfers(progress=(100, 486))) as call:
            await call.wait_referral()
            call.transfers = Transfers(progress=(100, 200))
            await call.wait_hung_up()
        assert [referral.refer_to for referral in call.referrals] == [SALES, SUPPORT]
    assert world.record.ending is Ending.TRANSFERRED
    assert [(run.target, run.status) for run in world.record.transfers] == [(SALES, 486), (SUPPORT, 200)]
    assert [(ran.name, ran.outcome) for ran in world.record.tools] == [("to_somebody", "ok")]


async def test_a_tool_whose_time_is_over_leaves_the_call_as_it_was(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(openai={"transfer_targets": {"sales": SALES, "support": SUPPORT}, "tool_seconds": 3.0})
    script = announcing(CallTool("to_somebody"))
    async with open_world(script, settings=settings, dialect=dialect, tools=(to_somebody,)) as world:
        async with world.dial(transfers=Transfers(progress=(100,), forget_end=True)) as call:
            await call.wait_referral()
            await trio.sleep(5.0)
        assert error(world.session) == "to_somebody did not finish within 3 seconds"
    assert world.record.ending is Ending.CALLER_HUNG_UP
    (run,) = world.record.transfers
    assert not run.succeeded


async def test_a_service_that_goes_down_hangs_up_on_a_transfer(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(SETTINGS, service={"drain_seconds": 1.0})
    calls: list[PhoneCall] = []
    async with open_world(announcing(transfer()), settings=settings, dialect=dialect, drains=True) as world:

        async def talk() -> None:
            async with world.dial(transfers=Transfers(delay=5.0)) as call:
                calls.append(call)
                await call.wait_hung_up()

        world.phone.nursery.start_soon(talk)
        while not calls:  # noqa: ASYNC110 - a fake clock makes polling cheap
            await trio.sleep(0.02)
        await calls[0].wait_referral()
    assert byes(calls[0]) == 1
    assert world.record.ending is Ending.DRAINED
    assert [run.succeeded for run in world.record.transfers] == [False]


async def test_a_transfer_may_end_while_the_service_drains(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with (
        open_world(announcing(transfer()), settings=SETTINGS, dialect=dialect) as world,
        world.dial(transfers=Transfers(delay=0.5)) as call,
    ):
        await call.wait_referral()
        world.service.drain()
        await call.wait_hung_up()
    check_transferred(world.record)


@pytest.mark.parametrize("reconnect", [True, False], ids=["replaced", "lost for good"])
async def test_a_session_lost_during_the_transfer_does_not_matter(
    autojump_clock: MockClock, dialect: Dialect, reconnect: bool
) -> None:
    settings = changed(SETTINGS, openai={"reconnect": reconnect})
    async with open_world(announcing(transfer("sales")), settings=settings, dialect=dialect) as world:
        async with world.dial(transfers=Transfers(delay=1.5)) as call:
            await call.wait_referral()
            world.session.drop()
            await call.wait_hung_up()
        assert [referral.refer_to for referral in call.referrals] == [SALES]
        assert len(world.model.sessions) == 1 + reconnect
    check_transferred(world.record, SALES)


async def test_the_new_session_is_told_that_a_transfer_failed(autojump_clock: MockClock, dialect: Dialect) -> None:
    def talk(context: Context) -> list[Part]:
        return [Say("It failed.", audio=ANSWER)] if context.outputs else [transfer()]

    async with (
        open_world(decided(talk), settings=SETTINGS, dialect=dialect) as world,
        world.dial(transfers=Transfers(progress=(100, 486), delay=1.5)) as call,
    ):
        await call.wait_referral()
        world.session.drop()
        second = await world.model.wait_session(2)
        await second.wait_sent("response.done")
        assert error(second).startswith("the transfer failed: 486 Busy Here")
        await call.handset.wait_silence(1.0)
        assert call.handset.speech_heard() == ANSWER
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_caller_whose_model_is_lost_and_whose_transfer_fails_is_sent_to_the_usual_place(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    settings = changed(SETTINGS, openai={"reconnect": False})
    async with open_world(announcing(transfer("sales")), settings=settings, dialect=dialect) as world:
        async with world.dial(transfers=Transfers(progress=(100, 486))) as call:
            await call.wait_referral()
            world.session.drop()
            call.transfers = Transfers()
            await call.wait_hung_up()
        assert [referral.refer_to for referral in call.referrals] == [SALES, SUPPORT]
    assert world.record.ending is Ending.TRANSFERRED
    assert [run.status for run in world.record.transfers] == [486, 200]
