"""Both sides speak at the same time, and OpenSIPS is in between: CANCEL and the answer, BYE and BYE, BYE and REFER."""

from __future__ import annotations

from typing import Final, Literal

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.testing import CallTool, Faults, Say, Transfers, decided, scripted
from aivc.testing.refreshing import SessionTimer
from scenarios.behind import (
    FEW_SCHEDULES,
    HELLO,
    byes,
    check_pace,
    command,
    event,
    excuse,
    greeter,
    hear_refusal,
    opensips_of,
    reason,
    statuses,
    told,
    until_over,
)
from scenarios.conftest import Dialect
from scenarios.world import DELAY, changed, open_world

pytestmark = pytest.mark.opensips_only

SLOW: Final = Faults(session_updated_seconds=0.5)  # it rings meanwhile
FEW_PACKETS_MS: Final = 60  # in each, in long calls
GONE: Final = (Ending.CALLER_CANCELLED, Ending.CALLER_HUNG_UP)


# CANCEL


@pytest.mark.parametrize("mi_seconds", [0.0, 0.02])
@pytest.mark.parametrize("after_ms", [0, 5, 200, 500, 505, 510, 515, 520, 530, 540, 550, 600])
async def test_a_caller_may_give_up_at_any_moment(
    autojump_clock: MockClock, dialect: Dialect, after_ms: int, mi_seconds: float
) -> None:
    opensips_of_it = {"mi_seconds": mi_seconds}
    async with open_world(greeter(), dialect=dialect, faults=SLOW, opensips=opensips_of_it) as world:
        opensips = opensips_of(world)
        async with world.ring() as call:
            await trio.sleep(after_ms / 1000)
            await call.cancel()
            await trio.sleep(0.2)
        await until_over(world)
        await opensips.wait_empty()
        final = statuses(call)[-1]
        assert final in (200, 487)
        assert final == (487 if after_ms < 480 else 200 if after_ms > 540 else final)
        excuse(opensips, "INVITE 487", "terminate")
        assert byes(call) == [] or final == 200  # of an answered call it is hung up, by whoever is first
    assert world.record.ending in GONE


@pytest.mark.parametrize("event_seconds", [0.0, 0.05, 0.3])
async def test_the_event_of_a_cancel_may_come_long_after_our_answer(
    autojump_clock: MockClock, dialect: Dialect, event_seconds: float
) -> None:
    async with open_world(greeter(), dialect=dialect, faults=SLOW) as world:
        opensips = opensips_of(world)
        opensips.delay("event", event_seconds, event("TERMINATED", "CANCEL"))
        async with world.ring() as call:
            await opensips.wait_told("ua_session_reply", 1)
            await trio.sleep(0.4)
            while not call.is_over and 200 not in statuses(call):
                if opensips.told("ua_session_reply")[-1].params["code"] == 200:
                    break
                await trio.sleep(0.001)
            await call.cancel()  # our 200 has not arrived
            await trio.sleep(0.5)
        await opensips.wait_empty()
        assert statuses(call) == [100, 180, 200]
    assert world.record.ending in GONE


async def test_who_cancels_while_our_answer_is_on_its_way_to_opensips_has_cancelled(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(greeter(), dialect=dialect, faults=SLOW) as world:
        opensips = opensips_of(world)
        opensips.delay("command", 0.1, command("reply", "INVITE", 200))
        async with world.ring() as call:
            await trio.sleep(0.53)
            await call.cancel()
            await call.wait_hung_up()
            await opensips.wait_empty()
        assert statuses(call) == [100, 180, 200]  # as if it had come before the CANCEL
        assert told(opensips) == ["INVITE 180", "INVITE 200", "INVITE 487", "terminate"]
        excuse(opensips, "INVITE 487")
    assert world.record.ending is Ending.CALLER_CANCELLED


# BYE


@pytest.mark.parametrize("after_ms", [0, 2, 4, 5, 6, 8, 10, 12])
async def test_both_may_hang_up_at_once(autojump_clock: MockClock, dialect: Dialect, after_ms: int) -> None:
    script = scripted([[Say("Goodbye.", audio=HELLO), CallTool("terminate_call")]])
    async with open_world(script, dialect=dialect) as world:
        opensips = opensips_of(world)
        async with world.dial() as call:
            while "BYE" not in told(opensips):  # noqa: ASYNC110 - a fake clock makes polling cheap
                await trio.sleep(0.0005)
            await trio.sleep(after_ms / 1000)
            await call.hang_up()
        await opensips.wait_empty()
        assert len(byes(call)) == 1
        assert told(opensips)[:3] == ["INVITE 180", "INVITE 200", "BYE"]
        assert told(opensips)[3:] in ([], ["terminate"])
    assert world.record.ending is Ending.MODEL_HUNG_UP


@pytest.mark.parametrize("then_bye", [False, True])
@pytest.mark.parametrize("progress", [(), (100,), (100, 200)])
async def test_a_caller_who_hangs_up_during_the_transfer_was_transferred(
    autojump_clock: MockClock, dialect: Dialect, progress: tuple[int, ...], then_bye: bool
) -> None:
    settings = changed(openai={"transfer_to": "sip:support@example.com"})
    script = decided(lambda context: [] if context.outputs else [CallTool("transfer_call")])
    async with open_world(script, settings=settings, dialect=dialect) as world:
        opensips = opensips_of(world)
        transfers = Transfers(progress=progress, forget_end=True, delay=0.02, then_bye=then_bye)
        async with world.dial(transfers=transfers) as call:
            await call.wait_referral()
            await trio.sleep(0.05)
            await call.hang_up()
        await opensips.wait_empty()
        assert told(opensips).count("REFER") == 1
        excuse(opensips, "NOTIFY 200", "terminate")  # both may hang up at once
        assert byes(call) == [] or 200 in progress
    assert world.record.ending is Ending.TRANSFERRED


# The ACK


@FEW_SCHEDULES
@pytest.mark.parametrize("flags", ["abh", "bh", "drbh"])
async def test_a_call_that_is_never_acknowledged_ends_in_time(
    autojump_clock: MockClock, dialect: Dialect, flags: str
) -> None:
    async with open_world(greeter(), dialect=dialect, opensips={"flags": flags}) as world:
        opensips = opensips_of(world)
        async with world.dial(acknowledge=False) as call:
            assert call.answered_at is not None
            # OpenSIPS has given up resending the 200 before
            assert (await call.wait_hung_up()) - call.answered_at == pytest.approx(32.0, abs=1.0)
            check_pace(call)
            await opensips.wait_empty()
        assert reason(call) == 'SIP;cause=408;text="ack_missing: no ACK received"'
        assert told(opensips) == ["INVITE 180", "INVITE 200", "BYE"]
    assert world.record.ending is Ending.ACK_MISSING


@FEW_SCHEDULES
@pytest.mark.parametrize("flags", ["bh", "drbh"])
async def test_without_being_told_of_acknowledgements_a_call_works(
    autojump_clock: MockClock, dialect: Dialect, flags: str
) -> None:
    async with open_world(greeter(), dialect=dialect, opensips={"flags": flags}) as world, world.dial() as call:
        await call.handset.wait_speech()
        assert (await call.hold()).status == 200
        assert (await call.resume()).status == 200
        await call.handset.wait_silence(0.3)
        assert call.handset.speech_heard() == HELLO
        await trio.sleep(36.0)  # longer than 64*T1
        assert call.hung_up_at is None
    assert world.record.ending is Ending.CALLER_HUNG_UP


@pytest.mark.parametrize("flags", ["ab", "ah", "a", ""])
async def test_without_headers_or_bodies_a_call_is_refused_and_the_operator_is_told(
    autojump_clock: MockClock, dialect: Dialect, flags: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world(greeter(), dialect=dialect, calls=0, opensips={"flags": flags}) as world:
        opensips = opensips_of(world)
        async with world.ring() as call:
            assert await hear_refusal(call) == [100, 500]
            await opensips.wait_empty()
        assert told(opensips) == ["INVITE 500", "terminate"]
    assert "opensips.flags" in {record.message for record in caplog.records}


# The INVITE has no offer


async def test_a_call_without_an_offer_is_answered_with_ours(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(greeter(), dialect=dialect) as world, world.dial(late_offer=True) as call:
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.3)
        assert call.handset.speech_heard() == HELLO
        assert (await call.hold()).status == 200
        assert (await call.resume()).status == 200
    assert world.record.ending is Ending.CALLER_HUNG_UP


@FEW_SCHEDULES
@pytest.mark.parametrize("flags", ["bh", "drbh"])
async def test_without_being_told_of_the_answer_in_the_ack_such_a_call_ends_with_the_cause(
    autojump_clock: MockClock, dialect: Dialect, flags: str
) -> None:
    async with open_world(greeter(), dialect=dialect, opensips={"flags": flags}) as world:
        async with world.dial(late_offer=True) as call:
            assert call.answered_at is not None
            assert (await call.wait_hung_up()) - call.answered_at < 5.0
            await opensips_of(world).wait_empty()
        assert reason(call).startswith("SIP;cause=488;")
    assert world.record.ending is Ending.SIGNALLING_FAILED
    assert 'needs the flag "a"' in world.record.detail


# The session timer


@FEW_SCHEDULES
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
async def test_a_caller_who_refreshes_the_session_keeps_the_call(
    autojump_clock: MockClock, dialect: Dialect, method: Literal["INVITE", "UPDATE"]
) -> None:
    timer = SessionTimer(expires=90, refresher="uac", method=method)
    async with (
        open_world(greeter(), dialect=dialect) as world,
        world.dial(ptime_ms=FEW_PACKETS_MS, session_timer=timer) as call,
    ):
        assert call.answered is not None
        assert call.answered.header("Session-Expires") == "90;refresher=uac"
        await trio.sleep(125.0)
        assert call.hung_up_at is None
    assert world.record.ending is Ending.CALLER_HUNG_UP


@FEW_SCHEDULES
async def test_a_caller_who_does_not_refresh_the_session_is_hung_up_on(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    timer = SessionTimer(expires=90, refresher="uac", refreshes=False)
    async with open_world(greeter(), dialect=dialect) as world:
        async with world.dial(ptime_ms=FEW_PACKETS_MS, session_timer=timer) as call:
            assert call.answered_at is not None
            assert 55 < (await call.wait_hung_up()) - call.answered_at < 90 + DELAY
            await opensips_of(world).wait_empty()
        assert reason(call) == 'SIP;cause=408;text="session_expired: no refresh came"'
    assert world.record.ending is Ending.SESSION_EXPIRED
