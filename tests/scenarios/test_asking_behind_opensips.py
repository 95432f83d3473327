"""What the caller asks for in a call behind OpenSIPS, which answers nothing by itself and waits for our answers."""

from __future__ import annotations

from typing import Final

import attrs
import pytest
import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.config.settings import DtmfSettings
from aivc.sip.message import Response
from aivc.testing import CallTool, PhoneCall, Say, Script, Transfers, open_phone, scripted, speech
from scenarios.behind import (
    FEW_SCHEDULES,
    HELLO,
    byes,
    check_pace,
    command,
    event,
    greeter,
    opensips_of,
    reason,
    told,
)
from scenarios.conftest import Dialect
from scenarios.world import SETTINGS, changed, open_world

pytestmark = pytest.mark.opensips_only

TABLE: Final = attrs.evolve(SETTINGS, dtmf=DtmfSettings(pause_seconds=0.5))
UNTIL_GIVEN_UP: Final = 20.0  # openai.transfer_seconds
ANSWER: Final = speech(0.4, pitch_hz=210.0, seed=72)
TRANSFER: Final = changed(openai={"transfer_to": "sip:support@example.com"})


async def check_hold(call: PhoneCall) -> None:
    """Nothing blocks a hold."""
    assert (await call.hold()).status == 200
    assert (await call.resume()).status == 200


# Requests


@pytest.mark.parametrize(
    ("method", "status"),
    [
        ("OPTIONS", 200),
        ("UPDATE", 200),
        ("INFO", 200),
        ("MESSAGE", 405),
        ("REFER", 603),
        ("NOTIFY", 489),
        ("SUBSCRIBE", 405),
        ("PUBLISH", 405),
        ("PRACK", 200),  # by OpenSIPS itself
        ("FOO", 501),
    ],
)
async def test_every_request_is_answered_and_blocks_nothing(
    autojump_clock: MockClock, dialect: Dialect, method: str, status: int
) -> None:
    async with open_world(greeter(), dialect=dialect) as world:
        async with world.dial() as call:
            await call.handset.wait_speech()
            for _ in range(2):
                answer = await call.ask(method)
                assert answer.status == status
                assert status not in (405, 501) or answer.headers.get("Allow")
                await check_hold(call)
            await call.handset.wait_silence(0.3)
            assert call.handset.speech_heard() == HELLO
            assert byes(call) == []
        assert [each for each in told(opensips_of(world)) if each.startswith(method)] == (
            [f"{method} {status}"] * 2 if method != "PRACK" else []
        )
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_keys_in_a_burst_are_all_read(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(greeter(), settings=TABLE, dialect=dialect) as world, world.dial() as call:
        await call.handset.wait_speech(0.2)
        for key in "0123456789*":
            assert (await call.info_digit(key)).status == 200
        await check_hold(call)
        await trio.sleep(1.0)
    assert [entry.digits for entry in world.record.digits] == ["0123456789*"]


async def test_requests_all_at_once_are_answered_one_way_or_the_other(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    """OpenSIPS takes one at a time, and refuses the others itself."""
    answers: list[Response] = []
    async with open_world(greeter(), dialect=dialect) as world:
        opensips_of(world).mi_seconds = 0.02
        async with world.dial() as call:

            async def ask(method: str) -> None:
                answers.append(await call.ask(method))

            async with trio.open_nursery() as nursery:
                for method in ("OPTIONS", "INFO", "MESSAGE", "UPDATE", "FOO", "NOTIFY"):
                    nursery.start_soon(ask, method)
            assert len(answers) == 6
            assert {answer.status for answer in answers} <= {200, 405, 489, 500, 501}
            await check_hold(call)
    assert world.record.ending is Ending.CALLER_HUNG_UP


@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.0])
async def test_a_slow_opensips_delays_a_hold_and_not_the_audio(
    autojump_clock: MockClock, dialect: Dialect, seconds: float
) -> None:
    async with open_world(greeter(), dialect=dialect) as world:
        opensips = opensips_of(world)
        async with world.dial() as call:
            await call.handset.wait_speech(0.2)
            opensips.mi_seconds = seconds
            began_at = trio.current_time()
            call.phone.nursery.start_soon(call.hold, "inactive")
            await opensips.wait_event("UPDATED", "INVITE")
            await trio.sleep(seconds)
            opensips.mi_seconds = 0.0
            await trio.sleep(3.0)
            heard = [packet.at for packet in call.handset.heard if packet.at >= began_at]
            assert heard == [] or heard[-1] < began_at + 0.1  # we hold from our answer on
            assert (await call.resume()).status == 200
            resumed_at = trio.current_time()
            await trio.sleep(2.0)
            check_pace(call, resumed_at)
        assert call.handset.speech_heard() == HELLO
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_caller_may_move_to_another_address(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(greeter(), dialect=dialect) as world, open_phone("192.0.2.77", seed=9) as elsewhere:
        opensips_of(world).mi_seconds = 0.1
        async with world.dial() as call:
            await call.handset.wait_speech(0.2)
            async with elsewhere._open_handset("PCMU", 20, "off") as other:
                before = call.handset.socket
                call.handset.socket = other.socket
                assert (await call.reinvite(call.describe())).status == 200
                moved_at = trio.current_time()
                await trio.sleep(1.0)
                call.handset.socket = before
                assert [packet for packet in other.heard if packet.at > moved_at]
                assert len(other.heard) == pytest.approx(50, abs=8)
    assert world.record.ending is Ending.CALLER_HUNG_UP


# Transfers


def transferring() -> Script:
    return scripted([[CallTool("transfer_call")], [Say("It failed.", audio=ANSWER)]])


OUTCOMES: Final = {
    "405": (Transfers(answer=405), 405),
    "403": (Transfers(answer=403), 403),
    "486": (Transfers(answer=486), 486),
    "603": (Transfers(answer=603), 603),
    "NOTIFY 100, 180, 200": (Transfers(progress=(100, 180, 200)), 200),
    "NOTIFY 200 alone": (Transfers(progress=(200,)), 200),
    "NOTIFY 486": (Transfers(progress=(100, 486)), 486),
    "NOTIFY 503": (Transfers(progress=(100, 180, 503)), 503),
    "NOTIFY before the 202": (Transfers(progress=(100, 200), early=1), 200),
    "no id": (Transfers(progress=(100, 200), name_id=False), 200),
    "no final": (Transfers(progress=(100, 180)), None),
}


@pytest.mark.parametrize("any_schedule", [6, 13], indirect=True)  # there are many variants
@pytest.mark.parametrize(("transfers", "status"), OUTCOMES.values(), ids=OUTCOMES)
@pytest.mark.parametrize("trouble", ["none", "answer lost", "events late"])
async def test_a_transfer_is_followed_to_its_end(
    autojump_clock: MockClock, dialect: Dialect, transfers: Transfers, status: int | None, trouble: str
) -> None:
    async with open_world(transferring(), settings=TRANSFER, dialect=dialect) as world:
        opensips = opensips_of(world)
        if trouble == "answer lost":
            opensips.lose("answer", command("update", "REFER"))
        elif trouble == "events late":
            opensips.delay("event", 0.15, event("ANSWERED", "REFER"))
            opensips.delay("event", 0.15, event("REJECTED", "REFER"))
        async with world.dial(transfers=transfers) as call:
            referral = await call.wait_referral()
            if status == 200:
                await call.wait_hung_up()
                assert reason(call) == 'SIP;cause=200;text="transferred: the call was transferred"'
            else:
                await call.handset.wait_speech()
                await call.handset.wait_silence(0.3)
                assert call.handset.speech_heard() == ANSWER
                assert byes(call) == []
                await check_hold(call)
            await trio.sleep(0.1)
            assert len(call.referrals) == 1
            assert {answer.status for answer in referral.answers} <= {200}
        assert told(opensips).count("REFER") == 1
    (run,) = world.record.transfers
    assert (run.status, run.succeeded) == (status, status == 200)
    assert world.record.ending is (Ending.TRANSFERRED if status == 200 else Ending.CALLER_HUNG_UP)


@FEW_SCHEDULES
@pytest.mark.parametrize("kind", ["no NOTIFY", "no answer", "lost"])
async def test_a_transfer_that_nobody_hears_of_again_fails_in_time(
    autojump_clock: MockClock, dialect: Dialect, kind: str
) -> None:
    async with open_world(transferring(), settings=TRANSFER, dialect=dialect) as world:
        opensips = opensips_of(world)
        if kind == "lost":
            opensips.lose("command", command("update", "REFER"))
        transfers = Transfers(progress=()) if kind == "no NOTIFY" else Transfers(answer=None, progress=())
        async with world.dial(transfers=transfers) as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.3)
            check_pace(call)
            assert len(call.referrals) == (kind != "lost")
            await check_hold(call)
    (run,) = world.record.transfers
    assert run.ended_at is not None
    assert run.ended_at - run.started_at == pytest.approx(UNTIL_GIVEN_UP, abs=0.1)
    assert world.record.ending is Ending.CALLER_HUNG_UP
