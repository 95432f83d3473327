"""A caller whose model is lost: a sound in place of dead air, then the transfer or the hang-up."""

from __future__ import annotations

import time
from typing import Any

import attrs
import pytest
import trio
from call_parts import Parts, parts
from paper_leg import PaperLeg, paper_leg
from trio.testing import MockClock

from aivc.config.settings import OpenAISettings, Settings
from aivc.media.clock import TaskClock
from aivc.media.ports import PortPool
from aivc.media.sounds import Sound, parse_sound
from aivc.nursery.control import BYE_BEHIND
from aivc.nursery.ending import CallOver, Ending
from aivc.nursery.ground import Ground, Lines, Means, Progress
from aivc.nursery.leaving import JITTER_BUFFER
from aivc.nursery.prompts import Prompts
from aivc.nursery.rescue import HELD_UP, MODEL_LOST, rescue
from aivc.realtime.connection import open_realtime
from aivc.realtime.effects import Play
from aivc.realtime.tools import ToolRegistry
from aivc.sip.leg import ReferOutcome

SORRY = parse_sound(b"\x10" * 8000, "PCMU")  # 1 s
DESK = "sip:desk@example.com"
LOST = CallOver(Ending.REALTIME_LOST, "1006")
FRAME = 0.021  # seconds


@attrs.define(eq=False)
class Rescued:
    """How it went."""

    leg: PaperLeg
    given: Parts
    over: CallOver
    seconds: float
    played: bytes  # without silence


async def rescued(
    over: CallOver, prompt: Sound | None, *outcomes: ReferOutcome, held: bool = False, said: bytes = b"", **openai: Any
) -> Rescued:
    """Rescue a call; the model had said `said`, which still waits."""
    leg, given = paper_leg(), parts()
    leg.outcomes = list(outcomes)
    settings = Settings(openai=OpenAISettings(**openai))
    stream, played = given.performer.stream, list[bytes]()
    stream.may_send, stream.pacer.due = not held, trio.current_time()
    if said:
        given.performer.perform([Play("r1", "i1", said)])

    async def play_frames() -> None:
        while True:
            await trio.sleep_until(stream.pacer.due)
            played.append((stream.outgoing(trio.current_time()) or b"")[12:])

    began = trio.current_time()
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            ground = ground_of(leg, given, settings, nursery)
            nursery.start_soon(play_frames)
            cause = await rescue(ground, over, prompt, stream)
            seconds = trio.current_time() - began
            nursery.cancel_scope.cancel()
    return Rescued(leg, given, cause, seconds, b"".join(played).replace(b"\xff", b""))


def ground_of(leg: PaperLeg, given: Parts, settings: Settings, nursery: trio.Nursery) -> Ground:
    performer = given.performer
    progress = Progress(0.0, turns=performer.turns, leaving=performer.leaving, performer=performer)
    means = Means(
        open_realtime, None, TaskClock(), PortPool(settings.rtp), trio.Event(), Prompts(), time.time, prepare=None
    )
    lines = Lines(sockets=nursery, finishing=nursery)
    return Ground(leg, settings, means, ToolRegistry(), lines, progress, performer.announcer)


async def test_without_a_sound_and_a_place_to_go_nothing_is_done(autojump_clock: MockClock) -> None:
    call = await rescued(LOST, None)
    assert (call.over, call.seconds, call.leg.did, call.played) == (LOST, 0.0, [], b"")


@pytest.mark.parametrize("ending", sorted(set(Ending) - MODEL_LOST, key=str))
async def test_other_ends_of_a_call_need_no_excuse(autojump_clock: MockClock, ending: Ending) -> None:
    over = CallOver(ending)
    call = await rescued(over, SORRY, ReferOutcome(200, "OK", accepted=True), transfer_to=DESK)
    assert (call.over, call.seconds, call.leg.did, call.played) == (over, 0.0, [], b"")


@pytest.mark.parametrize("ending", sorted(MODEL_LOST, key=str))
async def test_the_sound_is_heard_whole_before_the_hang_up(autojump_clock: MockClock, ending: Ending) -> None:
    over = CallOver(ending)
    call = await rescued(over, SORRY)
    assert call.over is over
    assert call.played == SORRY.octets("PCMU")
    assert call.seconds == pytest.approx(SORRY.seconds + JITTER_BUFFER, abs=FRAME)


async def test_what_the_model_had_said_already_is_heard_before_the_excuse(autojump_clock: MockClock) -> None:
    call = await rescued(LOST, SORRY, said=b"\x11" * 4000)
    assert call.played == b"\x11" * 4000 + SORRY.octets("PCMU")


async def test_a_caller_who_holds_us_hears_no_excuse_and_is_not_waited_for_long(autojump_clock: MockClock) -> None:
    call = await rescued(LOST, SORRY, held=True)
    assert call.played == b""
    assert call.seconds == pytest.approx(SORRY.seconds + HELD_UP)


async def test_the_call_is_transferred_after_the_excuse_and_the_record_keeps_both_causes(
    autojump_clock: MockClock,
) -> None:
    call = await rescued(LOST, SORRY, ReferOutcome(200, "OK", accepted=True), transfer_to=DESK)
    assert (call.over.ending, call.over.detail) == (Ending.TRANSFERRED, f"{DESK}, after realtime_lost: 1006")
    assert call.leg.did == [("refer", DESK, "sip:1000@anonymous.invalid")]
    (run,) = call.given.performer.turns.transfers
    assert run.succeeded
    assert call.played == SORRY.octets("PCMU")


@pytest.mark.parametrize("outcome", [ReferOutcome(486, "Busy Here", accepted=True), None])
async def test_a_transfer_that_fails_leaves_the_first_cause(
    autojump_clock: MockClock, outcome: ReferOutcome | None
) -> None:
    outcomes = () if outcome is None else (outcome,)
    call = await rescued(LOST, None, *outcomes, transfer_to=DESK, transfer_seconds=7.0)
    assert call.over is LOST
    assert call.seconds == pytest.approx(0.0 if outcome else 7.0 + BYE_BEHIND)
    assert len(call.given.performer.turns.transfers) == 1


async def test_a_call_that_had_its_farewell_needs_no_excuse(autojump_clock: MockClock) -> None:
    leg, given = paper_leg(), parts()
    given.performer.leaving.ask(Ending.REALTIME_EXPIRED)
    expired = CallOver(Ending.REALTIME_EXPIRED)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            ground = ground_of(leg, given, Settings(openai=OpenAISettings(transfer_to=DESK)), nursery)
            assert await rescue(ground, expired, SORRY, given.performer.stream) is expired
    assert leg.did == []
