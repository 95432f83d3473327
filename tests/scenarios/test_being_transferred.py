"""The model sends the caller to somebody else by REFER: announced, followed to its end, or told why it failed."""

from __future__ import annotations

import json
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from aivc import CallRecord, Ending
from aivc.nursery.leaving import JITTER_BUFFER
from aivc.testing import CallTool, Context, Part, PhoneCall, Say, Script, Session, Transfers, decided, scripted, speech
from scenarios.conftest import Dialect
from scenarios.world import DELAY, World, changed, open_world

ANNOUNCEMENT: Final = speech(1.0, pitch_hz=210.0, seed=21)
ANSWER: Final = speech(0.4, pitch_hz=210.0, seed=22)
WAIT: Final = speech(0.3, seed=23)
SALES: Final = "sip:sales@example.com"
SUPPORT: Final = "sip:support@example.com"
ALL_AT_ONCE: Final = 100.0  # speed of a model that has generated everything long before it is heard

SETTINGS: Final = changed(openai={"transfer_to": SUPPORT, "transfer_targets": {"sales": SALES}})


def transfer(target: str | None = None) -> CallTool:
    return CallTool("transfer_call", {} if target is None else {"target": target})


def announcing(*calls: CallTool) -> Script:
    """A model that announces what it does, and speaks again only when it did not come to that."""
    return scripted([[Say("I connect you.", audio=ANNOUNCEMENT), *calls], [Say("It failed.", audio=ANSWER)]])


def outputs(session: Session) -> list[str]:
    items = [event["item"] for event in session.received("conversation.item.create")]
    return [item["output"] for item in items if item["type"] == "function_call_output"]


def error(session: Session) -> str:
    """Why the only tool call failed, as the model was told."""
    (output,) = outputs(session)
    return str(json.loads(output)["error"])


def byes(call: PhoneCall) -> int:
    return len({request.header("CSeq") for request in call.requests if request.method == "BYE"})


def check_transferred(record: CallRecord, target: str = SUPPORT, status: int | None = 200) -> None:
    assert record.ending is Ending.TRANSFERRED
    (run,) = record.transfers
    assert (run.target, run.status, run.succeeded) == (target, status, status == 200)
    assert [(ran.name, ran.outcome, ran.output) for ran in record.tools] == [
        ("transfer_call", "ok", "The call was transferred.")
    ]


async def hear_failure(
    world: World, transfers: Transfers | None, why: str, *, referred: bool = True, patience: float = 3.0
) -> PhoneCall:
    """Be told by the model that the transfer failed, and hang up."""
    async with world.dial(transfers=transfers) as call:
        await call.handset.wait_speech(1.0)
        with trio.fail_after(patience):
            await world.session.wait_sent("response.done", count=2)
        await call.handset.wait_silence(1.0)
        assert error(world.session) == why
        assert call.handset.speech_heard() == ANNOUNCEMENT + ANSWER
        assert len(world.session.received("response.create")) == 2
        assert len(call.referrals) == (referred and transfers is not None)
    assert byes(call) == 0
    return call


async def test_the_caller_is_told_and_then_transferred(autojump_clock: MockClock, dialect: Dialect) -> None:
    script = announcing(transfer())
    async with open_world(script, settings=SETTINGS, dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial(transfers=Transfers(progress=(100, 180, 200), delay=0.5)) as call:
            referral = await call.wait_referral()
            assert call.handset.speech_heard() == ANNOUNCEMENT
            spoken_at = [packet.at for packet in call.handset.heard if call.handset.is_speech(packet)][-1]
            assert JITTER_BUFFER <= referral.at - spoken_at <= JITTER_BUFFER + 0.040
            hung_up_at = await call.wait_hung_up()
            assert hung_up_at - referral.at == pytest.approx(1.5 + 6 * DELAY)  # two NOTIFYs answered, one and the BYE
        await trio.sleep(0.1)  # our BYE may overtake the answer to the last NOTIFY
        assert referral.refer_to == SUPPORT
        assert referral.referred_by == "sip:1000@192.0.2.1:5060"
        assert [answer.status for answer in referral.answers] == [200] * 3
        assert byes(call) == 1
        meanwhile = [packet for packet in call.handset.heard if referral.at < packet.at < hung_up_at]
        assert len(meanwhile) == pytest.approx(76, abs=1)  # the line is silent, not dead
        assert outputs(world.session) == []
    check_transferred(world.record)
    (run,) = world.record.transfers
    assert run.ended_at == pytest.approx(hung_up_at - DELAY)
    assert run.text == "OK"


async def test_the_transfer_may_be_in_another_name(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(SETTINGS, openai={"transfer_by": "sip:desk@example.com"})
    async with open_world(announcing(transfer()), settings=settings, dialect=dialect) as world:
        async with world.dial(transfers=Transfers()) as call:
            await call.wait_hung_up()
        assert call.referrals[0].referred_by == "sip:desk@example.com"
    check_transferred(world.record)


FAILURES: Final = {
    "refused": (Transfers(answer=603), "the transfer failed: 603 Decline"),
    "busy": (Transfers(progress=(100, 180, 486)), "the transfer failed: 486 Busy Here"),
    "no phone that can": (None, "the transfer failed: 405 Method Not Allowed"),
    "ended without a word": (
        Transfers(progress=(100, 180)),
        "the transfer failed: the subscription ended: noresource",
    ),
    "forgets the end": (Transfers(progress=(100, 603), forget_end=True), "the transfer failed: 603 Decline"),
}


@pytest.mark.parametrize(("transfers", "why"), FAILURES.values(), ids=FAILURES)
async def test_a_transfer_that_fails_is_told_and_talked_about(
    autojump_clock: MockClock, dialect: Dialect, transfers: Transfers | None, why: str
) -> None:
    async with open_world(announcing(transfer()), settings=SETTINGS, dialect=dialect) as world:
        await hear_failure(world, transfers, f"{why}; the caller is still on the line")
    assert world.record.ending is Ending.CALLER_HUNG_UP
    (run,) = world.record.transfers
    assert not run.succeeded
    assert [ran.outcome for ran in world.record.tools] == ["error"]


@pytest.mark.parametrize("any_schedule", [0, 6, 11, 17], indirect=True)  # it takes long
@pytest.mark.parametrize(
    "transfers", [Transfers(answer=None, progress=()), Transfers(progress=(100,), forget_end=True)]
)
async def test_a_transfer_that_nobody_hears_of_again_fails_in_time(
    autojump_clock: MockClock, dialect: Dialect, transfers: Transfers
) -> None:
    async with open_world(announcing(transfer()), settings=SETTINGS, dialect=dialect) as world:
        call = await hear_failure(
            world, transfers, "the transfer failed: no answer; the caller is still on the line", patience=25.0
        )
    (run,) = world.record.transfers
    assert run.ended_at is not None
    assert run.ended_at - run.started_at == pytest.approx(20.0)
    assert (run.status, run.text) == (None, "no answer")
    assert call.handset.heard[-1].at > run.ended_at
    assert world.record.ending is Ending.CALLER_HUNG_UP


BYES: Final = {
    "at once, with no answer": Transfers(answer=None, progress=(), then_bye=True),
    "before any NOTIFY": Transfers(progress=(), then_bye=True),
    "after the first NOTIFY": Transfers(progress=(100,), forget_end=True, then_bye=True),
    "after a NOTIFY that came before the 202": Transfers(progress=(100,), early=1, forget_end=True, then_bye=True),
    "after the last NOTIFY": Transfers(progress=(100, 200), then_bye=True),
    "after a subscription that ended": Transfers(progress=(100, 180), then_bye=True),
}


@pytest.mark.parametrize("transfers", BYES.values(), ids=BYES)
async def test_a_caller_who_leaves_for_the_transfer_was_transferred(
    autojump_clock: MockClock, dialect: Dialect, transfers: Transfers
) -> None:
    async with open_world(announcing(transfer()), settings=SETTINGS, dialect=dialect) as world:
        async with world.dial(transfers=transfers) as call:
            referral = await call.wait_referral()
            while not call.is_over:  # noqa: ASYNC110 - a fake clock makes polling cheap
                await trio.sleep(0.02)
        assert trio.current_time() - referral.at < 1.0
        assert outputs(world.session) == []
    assert world.record.ending is Ending.TRANSFERRED
    (run,) = world.record.transfers
    assert (run.status, run.succeeded) == ((200, True) if 200 in transfers.progress else (None, False))
    assert [ran.output for ran in world.record.tools] == ["The call was transferred."]


async def test_a_caller_who_hangs_up_during_the_announcement_hung_up(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(announcing(transfer()), settings=SETTINGS, dialect=dialect) as world:
        async with world.dial(transfers=Transfers()) as call:
            await call.handset.wait_speech(0.5)
        assert call.referrals == []
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert world.record.transfers == ()


async def test_a_caller_who_hangs_up_after_a_failure_hung_up(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with (
        open_world(announcing(transfer()), settings=SETTINGS, dialect=dialect) as world,
        world.dial(transfers=Transfers(answer=603)) as call,
    ):
        await call.wait_referral()
        await trio.sleep(0.1)
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_of_two_transfers_at_once_one_goes(autojump_clock: MockClock, dialect: Dialect) -> None:
    script = announcing(transfer("sales"), transfer())
    async with open_world(script, settings=SETTINGS, dialect=dialect, speed=ALL_AT_ONCE) as world:
        async with world.dial(transfers=Transfers(delay=1.0)) as call:
            await call.wait_hung_up()
        (referral,) = call.referrals
        assert outputs(world.session) == []  # the other one has a sibling that is not answered
    assert world.record.ending is Ending.TRANSFERRED
    (run,) = world.record.transfers
    assert run.target == referral.refer_to
    (refused,) = [ran for ran in world.record.tools if ran.outcome == "error"]
    assert json.loads(refused.output)["error"] == "a transfer is under way already"


async def test_of_two_transfers_one_after_the_other_the_first_counts(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    def talk(context: Context) -> list[Part]:
        if context.outputs:
            return [Say("One moment.", audio=ANSWER)]
        return [transfer("sales" if not context.turns else None)]

    async with open_world(decided(talk), settings=SETTINGS, dialect=dialect) as world:
        async with world.dial(transfers=Transfers(delay=2.0)) as call:
            await call.wait_referral()
            call.handset.say(WAIT)
            await call.wait_hung_up()
        assert error(world.session) == "a transfer is under way already"
        assert call.handset.speech_heard() == ANSWER
        assert [referral.refer_to for referral in call.referrals] == [SALES]
    assert world.record.ending is Ending.TRANSFERRED


async def test_a_transfer_that_failed_may_be_tried_again(autojump_clock: MockClock, dialect: Dialect) -> None:
    script = scripted([[transfer("sales")], [transfer()], [Say("No luck.", audio=ANSWER)]])
    async with open_world(script, settings=SETTINGS, dialect=dialect) as world:
        async with world.dial(transfers=Transfers(answer=480)) as call:
            await call.handset.wait_speech(1.0)
        assert [referral.refer_to for referral in call.referrals] == [SALES, SUPPORT]
    assert [run.status for run in world.record.transfers] == [480, 480]
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_the_conversation_goes_on_until_the_target_answers(autojump_clock: MockClock, dialect: Dialect) -> None:
    script = scripted([[Say("I connect you.", audio=ANNOUNCEMENT), transfer()], [Say("Soon.", audio=ANSWER)]])
    async with open_world(script, settings=SETTINGS, dialect=dialect) as world:
        async with world.dial(transfers=Transfers(delay=1.5)) as call:
            await call.wait_referral()
            call.handset.say(WAIT)
            await call.wait_hung_up()
        assert call.handset.speech_heard() == ANNOUNCEMENT + ANSWER
        assert byes(call) == 1
    check_transferred(world.record)


async def test_a_caller_who_interrupts_the_announcement_is_transferred_at_once(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    script = scripted([[Say("I connect you, but first", audio=ANNOUNCEMENT * 5), transfer()]])
    async with (
        open_world(script, settings=SETTINGS, dialect=dialect, speed=ALL_AT_ONCE) as world,
        world.dial(transfers=Transfers()) as call,
    ):
        began = await call.handset.wait_speech(0.5)
        call.handset.say(WAIT)
        referral = await call.wait_referral()
        assert referral.at < began + 1.5
        await call.wait_hung_up()
    check_transferred(world.record)


async def test_an_announcement_without_end_is_not_waited_for(autojump_clock: MockClock, dialect: Dialect) -> None:
    script = scripted([[transfer(), Say("I connect you, but first", audio=ANNOUNCEMENT * 5)]])
    settings = changed(SETTINGS, openai={"farewell_seconds": 2.0})
    async with (
        open_world(script, settings=settings, dialect=dialect, speed=ALL_AT_ONCE) as world,
        world.dial(transfers=Transfers()) as call,
    ):
        began = await call.handset.wait_speech()
        assert (await call.wait_referral()).at == pytest.approx(began + 2.0, abs=0.1)
        await call.wait_hung_up()
    check_transferred(world.record)


async def test_a_transfer_has_its_own_deadlines_whatever_tools_have(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    settings = changed(SETTINGS, openai={"tool_seconds": 1.0})
    async with (
        open_world(announcing(transfer()), settings=settings, dialect=dialect) as world,
        world.dial(transfers=Transfers(delay=2.0)) as call,
    ):
        await call.wait_hung_up()
    check_transferred(world.record)
