"""Callers whose clock, port and SSRC are not what they should be, paths that stall, and a bit of everything at once."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final, Literal

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.realtime.tools import tool
from aivc.testing import (
    CallTool,
    Chaos,
    Crossing,
    PhoneCall,
    Say,
    Script,
    Stall,
    Transfers,
    decided,
    scripted,
    speech,
)
from aivc.testing.script import Context, Part
from scenarios.behind import excuse
from scenarios.conftest import Dialect
from scenarios.world import World, changed, open_world

HELLO: Final = speech(0.5, pitch_hz=210.0, seed=1)
ANSWER: Final = speech(1.0, pitch_hz=210.0, seed=2)
QUESTION: Final = speech(0.6, seed=3)
MINUTES: Final = 10
RELATCH: Final = 3.0  # seconds, the default of rtp.relatch_seconds


def sent(call: PhoneCall) -> bytes:
    return b"".join(packet.payload for packet in call.handset.sent)


async def ask_and_hear(call: PhoneCall) -> None:
    """A question, and the whole answer."""
    call.handset.say(QUESTION)
    await call.handset.wait_said()
    await call.handset.wait_speech(0.5)
    await call.handset.wait_silence(1.0)


def answering() -> Script:
    """Greets, and answers."""
    return decided(lambda context: [Say("Well.", audio=ANSWER if context.turns else HELLO)])


# A clock that is wrong


@pytest.mark.parametrize(("ppm", "any_schedule"), [(200.0, 4), (-200.0, 15)], indirect=["any_schedule"])
async def test_ten_minutes_with_a_telephone_whose_clock_is_wrong(
    autojump_clock: MockClock, dialect: Dialect, ppm: float
) -> None:
    """It counts six packets more or less than we do. All are heard, none late, and a pause is as long as it was."""
    chaos, patience = Chaos(skew_ppm=ppm), 60.0 * MINUTES + 100
    async with open_world(answering(), dialect=dialect, chaos=chaos, patience=patience) as world:
        async with world.dial() as call:
            began, behind = trio.current_time(), set[int]()
            while trio.current_time() < began + 60.0 * MINUTES:
                await ask_and_hear(call)
                await trio.sleep(10.0)
                behind.add(len(sent(call)) - len(world.session.received_audio))
            assert max(behind) - min(behind) <= 160
            assert max(behind) <= 2 * 160
            packets = 50 * (trio.current_time() - began)
            assert len(call.handset.sent) == pytest.approx(packets * (1 + ppm / 1e6), abs=2)
            assert sent(call).startswith(world.session.received_audio)
            world.network.loss = 1.0
            await trio.sleep(0.300)
            world.network.loss = 0.0
            await trio.sleep(0.1)
        assert max(later.at - packet.at for packet, later in pairwise(call.handset.heard)) < 0.340
    rtp = world.record.rtp
    assert 9 <= rtp.filled <= 21  # 15 are right; our ledger is 120 ms ahead or behind by now, and forgives 100
    assert (rtp.heard_dropped, rtp.flooded, rtp.late, rtp.restarts, rtp.stalls) == (0, 0, 0, 0, 0)


# Other ports, other sources


async def test_a_caller_whose_ssrc_changes_is_heard_without_a_gap(autojump_clock: MockClock, dialect: Dialect) -> None:
    chaos = Chaos(ssrc_changes=(0.3, 2.0))
    async with open_world(answering(), dialect=dialect, chaos=chaos) as world, world.dial() as call:
        await ask_and_hear(call)
        await ask_and_hear(call)
        heard = world.session.received_audio
        assert sent(call).startswith(heard)
        assert len(sent(call)) - len(heard) <= 160
    assert world.record.rtp.restarts == 2
    assert world.record.rtp.foreign == 0


@pytest.mark.parametrize("ssrc_changes", [(), (2.0,)], ids=["NAT", "SBC"])
async def test_a_caller_who_comes_from_another_port_is_heard_again_when_the_old_one_has_been_silent(
    autojump_clock: MockClock, dialect: Dialect, ssrc_changes: tuple[float, ...]
) -> None:
    chaos = Chaos(port_changes=(2.0,), ssrc_changes=ssrc_changes)
    async with open_world(answering(), dialect=dialect, chaos=chaos) as world, world.dial() as call:
        await call.handset.wait_speech()
        await trio.sleep(2.0 + RELATCH + 0.5)
        heard = len(call.handset.heard)
        await ask_and_hear(call)
        assert call.handset.described != call.handset.socket.getsockname()
        assert len(call.handset.heard) - heard > 100
        assert call.handset.speech_heard() == HELLO + ANSWER
        assert (await call.hold()).status == 200  # its description names the old port, as it knows no other
        assert (await call.resume()).status == 200
        await ask_and_hear(call)
        assert call.handset.speech_heard() == HELLO + ANSWER + ANSWER
    assert world.record.rtp.foreign == pytest.approx(50 * RELATCH, abs=5)
    assert world.record.ending is Ending.CALLER_HUNG_UP


# A path that stalls


async def test_a_path_to_the_model_that_stalls_loses_nothing(autojump_clock: MockClock, dialect: Dialect) -> None:
    chaos = Chaos(model_delay=0.03, stalls=(Stall(1.5, 2.0, "to_model"),))
    async with open_world(answering(), dialect=dialect, chaos=chaos) as world, world.dial() as call:
        await call.handset.wait_speech(0.5)
        await trio.sleep(0.5)
        await ask_and_hear(call)
        await trio.sleep(1.0)
        assert sent(call).startswith(world.session.received_audio)
        assert call.handset.speech_heard() == HELLO + ANSWER
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_an_answer_that_stalls_on_its_way_is_heard_in_two_parts(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    chaos = Chaos(stalls=(Stall(0.55, 3.0, "from_model"),))
    script = scripted([[Say("A long story.", audio=speech(4.0, pitch_hz=210.0, seed=5))]])
    world_of_small_deltas = open_world(script, dialect=dialect, chaos=chaos, delta_ms=(60.0, 60.0))
    async with world_of_small_deltas as world, world.dial() as call:
        await call.handset.wait_speech(7.0)
        assert call.handset.speech_heard().replace(b"\xff", b"") == speech(4.0, pitch_hz=210.0, seed=5)
    assert world.record.ending is Ending.CALLER_HUNG_UP


# Messages that cross


def leaver(context: Context) -> list[Part]:
    return [Say("Hello.", audio=HELLO), CallTool("terminate_call")]


def transferrer(context: Context) -> list[Part]:
    return [Say("Hello.", audio=HELLO), CallTool("transfer_call")]


@pytest.mark.parametrize(
    "crossing",
    [Crossing("BYE", "BYE"), Crossing("INVITE", "BYE"), Crossing("UPDATE", "BYE")],
    ids=["BYE", "INVITE", "UPDATE"],
)
async def test_whatever_meets_our_bye_the_model_has_hung_up(
    autojump_clock: MockClock, dialect: Dialect, crossing: Crossing
) -> None:
    async with open_world(decided(leaver), dialect=dialect, chaos=Chaos(crossings=(crossing,))) as world:
        async with world.dial() as call:
            await call.wait_over()
            await trio.sleep(0.5)
        assert call.crossed == [crossing]
        assert call.handset.speech_heard() == HELLO
        excuse_crossing(world)
    assert world.record.ending is Ending.MODEL_HUNG_UP


async def test_a_cancel_that_meets_our_200_is_followed_by_a_bye(autojump_clock: MockClock, dialect: Dialect) -> None:
    crossing = Crossing("CANCEL", "200")
    async with open_world(answering(), dialect=dialect, chaos=Chaos(crossings=(crossing,))) as world:
        async with world.dial() as call:
            await call.wait_over()
            await trio.sleep(0.5)
        assert call.crossed == [crossing]
        excuse_crossing(world)
    assert world.record.ending is Ending.CALLER_HUNG_UP


@pytest.mark.parametrize("sends", ["BYE", "INVITE"])
async def test_whatever_meets_our_refer_the_call_is_transferred(
    autojump_clock: MockClock, dialect: Dialect, sends: Literal["BYE", "INVITE"]
) -> None:
    settings = changed(openai={"transfer_to": "sip:support@192.0.2.77"})
    chaos = Chaos(crossings=(Crossing(sends, "REFER"),))
    async with open_world(decided(transferrer), settings=settings, dialect=dialect, chaos=chaos) as world:
        async with world.dial(transfers=Transfers(progress=(200,), then_bye=False)) as call:
            await call.wait_over()
            await trio.sleep(0.5)
        assert len(call.crossed) == 1
        excuse_crossing(world)
    assert world.record.ending is Ending.TRANSFERRED  # the phone accepts what comes after its BYE


async def test_speech_that_meets_the_end_of_an_answer_interrupts_it_or_does_not(
    autojump_clock: MockClock, dialect: Dialect, schedule: int
) -> None:
    """The model's last words and the caller's first ones are both on their way: at most one of them is cut."""
    chaos = Chaos(model_delay=0.04)
    async with open_world(answering(), dialect=dialect, chaos=chaos, speed=1.0 + schedule / 20) as world:
        async with world.dial() as call:
            await world.session.wait_sent(is_last)
            call.handset.say(QUESTION)
            await call.handset.wait_said()
            await call.handset.wait_speech(0.5)
            await call.handset.wait_silence(1.0)
            heard = call.handset.speech_heard()
        assert heard.endswith(ANSWER)
        assert HELLO.startswith(heard.removesuffix(ANSWER))
    cuts = [cut.heard_ms for cut in world.record.cuts]
    assert cuts == ([] if heard == HELLO + ANSWER else [len(heard.removesuffix(ANSWER)) // 8])


def is_last(event: dict[str, Any]) -> bool:
    return event["type"] in ("response.output_audio.done", "response.audio.done")


def excuse_crossing(world: World) -> None:
    """OpenSIPS had dropped the session when some command of ours came."""
    if world.opensips is not None:
        excuse(world.opensips, "BYE", "INVITE 200", "UPDATE 200", "INVITE 481", "UPDATE 481", "REFER", "terminate")


# A bit of everything


@tool
async def opening_hours() -> str:
    """When the shop is open."""
    await trio.sleep(0.2)
    return "from nine until six"


def shop(context: Context) -> list[Part]:
    if context.outputs or not context.turns:
        return [Say("Hm.", audio=HELLO)]
    return [CallTool("opening_hours")]


async def test_a_call_with_a_bit_of_every_trouble_ends_as_it_should(
    autojump_clock: MockClock, dialect: Dialect, schedule: int
) -> None:
    chaos = Chaos.drawn(schedule, seconds=12.0)  # pytest shows it when the test fails
    async with open_world(decided(shop), dialect=dialect, tools=(opening_hours,), chaos=chaos) as world:
        async with world.dial() as call:
            for _ in range(2):
                call.handset.say(QUESTION)
                await trio.sleep(6.0)
            heard = call.handset.speech_heard()
        assert len(heard) > 0.5 * len(HELLO)
        if world.opensips is not None:
            world.opensips.was_troubled = True
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert world.record.rtp.heard_dropped == 0
