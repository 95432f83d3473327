"""An attended transfer: the target is called and told who comes, while the caller waits; then the two are joined."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import pytest
import trio
from trio.testing import MockClock

from aivc import CallRecord, Ending
from aivc.nursery.announcement import PICKING_UP
from aivc.nursery.leaving import JITTER_BUFFER
from aivc.testing import (
    CallTool,
    Faults,
    PhoneCall,
    ReceivedCall,
    Say,
    Transfers,
    decided,
    open_phone,
    speech,
)
from aivc.testing.script import Context, Part
from scenarios.conftest import Dialect
from scenarios.world import DELAY, RTP_PORT, SERVICE, World, changed, open_world

DESK_HOST: Final = "192.0.2.30"
DESK: Final = f"sip:desk@{DESK_HOST}:5060"
WELCOME: Final = speech(0.6, pitch_hz=210.0, seed=31)
ANNOUNCEMENT: Final = speech(1.4, pitch_hz=210.0, seed=32)
EXCUSE: Final = speech(0.8, pitch_hz=210.0, seed=33)
REPLY: Final = speech(0.4, pitch_hz=210.0, seed=34)
QUESTION: Final = speech(0.4, seed=35)
FROM_CALLER: Final = speech(0.4, seed=36)
FROM_DESK: Final = speech(0.4, seed=37)

SETTINGS: Final = changed(
    openai={"transfer_to": DESK, "transfer_attended": True, "transfer_seconds": 10.0, "transfer_ring_seconds": 20.0},
    rtp={"max_port": RTP_PORT + 3},
)


def talk(context: Context) -> Sequence[Part]:
    """One session transfers the call and excuses a failure; another, without functions, announces it."""
    if not context.tools:
        return [Say("Alice is calling.", audio=ANNOUNCEMENT)]
    if context.outputs:
        return [Say("Nobody is there.", audio=EXCUSE)]
    if context.turns:
        return [Say("Yes.", audio=REPLY)]
    return [Say("One moment.", audio=WELCOME), CallTool("transfer_call")]


@attrs.define(eq=False)
class Scene:
    world: World
    call: PhoneCall
    calls: trio.MemoryReceiveChannel[ReceivedCall]  # of the desk

    async def ring(self) -> ReceivedCall:
        """The desk's call from us."""
        return await self.calls.receive()

    async def hear_excuse(self) -> None:
        """The caller is told, and is heard again."""
        with trio.fail_after(30.0):
            await self.call.handset.wait_speech()
        await self.call.handset.wait_silence(0.5)
        assert self.call.handset.speech_heard() == WELCOME + EXCUSE
        self.call.handset.say(QUESTION)
        await self.call.handset.wait_speech()
        await self.call.handset.wait_silence(0.5)
        assert self.call.handset.speech_heard() == WELCOME + EXCUSE + REPLY
        assert QUESTION in self.world.model.sessions[0].received_audio

    @property
    def told(self) -> str:
        """What the model was told of the transfer."""
        events = self.world.model.sessions[0].received("conversation.item.create")
        (output,) = [event["item"]["output"] for event in events if event["item"]["type"] == "function_call_output"]
        return str(json.loads(output)["error"])


@asynccontextmanager
async def open_scene(dialect: Dialect, transfers: Transfers | None = None, **answering: Any) -> AsyncIterator[Scene]:
    """A caller who hears the welcome, and whose transfer begins; the desk answers calls as told."""
    async with (
        open_world(decided(talk), settings=SETTINGS, dialect=dialect, speed=100.0) as world,
        open_phone(DESK_HOST, 5060, user="desk", seed=1) as desk,
        desk.answering(**answering) as calls,
    ):
        async with world.dial(transfers=transfers or Transfers(then_bye=True)) as call:
            yield Scene(world, call, calls)
        await trio.sleep(3 * DELAY)


def check_failed(record: CallRecord, status: int | None, text: str) -> None:
    (run,) = record.transfers
    assert (run.target, run.status, run.text) == (DESK, status, text)
    assert (run.succeeded, run.attended) == (False, True)
    assert [ran.outcome for ran in record.tools] == ["error"]


def methods(call: PhoneCall | ReceivedCall) -> list[str]:
    """Of the requests that came in the call, copies not counted."""
    return [request.method for request in {str(request.cseq): request for request in call.requests}.values()]


async def test_the_target_hears_who_comes_and_then_talks_with_the_caller(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_scene(dialect, ring_seconds=2.0) as scene:
        world, call = scene.world, scene.call
        theirs = await scene.ring()
        rung_at = trio.current_time()
        assert theirs.invite.sender.uri is not None
        assert str(theirs.invite.sender.uri) == f"sip:1000@{SERVICE}:5060"
        await theirs.wait_answered()
        answered_at = theirs.answered_at
        assert answered_at == pytest.approx(rung_at + 2.0)
        assert call.handset.speech_heard() == WELCOME
        assert call.referrals == []
        first_word = await theirs.handset.wait_speech()
        assert PICKING_UP < first_word - (answered_at or 0.0) < PICKING_UP + 0.5  # the model thinks, too
        joined = await scene.ring()  # the caller's own call, in place of ours
        assert theirs.handset.speech_heard() == ANNOUNCEMENT
        last_word = [packet.at for packet in theirs.handset.heard if theirs.handset.is_speech(packet)][-1]
        (referral,) = call.referrals
        assert JITTER_BUFFER <= referral.at - last_word <= JITTER_BUFFER + 0.05
        assert referral.refer_to.partition("?")[0] == DESK
        assert referral.replaces == f"{theirs.call_id};to-tag={theirs.local_tag};from-tag={theirs.remote_tag}"
        assert joined.invite.header("Replaces") == referral.replaces
        assert joined.source[0] == world.phone.address[0]
        await theirs.wait_over()
        assert theirs.replaced_by is joined
        await call.wait_over()
        while referral.call is None:  # noqa: ASYNC110 - the phone's answer is on its way
            await trio.sleep(0.01)
        made = referral.call
        assert isinstance(made, PhoneCall)
        made.handset.say(FROM_CALLER)
        joined.handset.say(FROM_DESK)
        await made.handset.wait_speech(1.0)
        assert (made.handset.speech_heard(), joined.handset.speech_heard()) == (FROM_DESK, FROM_CALLER)
        await trio.sleep(1.0)
        assert world.service.calls == 0  # we are out of it
        assert not made.is_over
        assert [answer.status for answer in referral.answers] == [200, 200]
        assert call.handset.speech_heard() == WELCOME
        main, announcer = world.model.sessions
        assert announcer.received_audio == b""
        assert (main.closed, announcer.closed) == (1000, 1000)
        assert methods(call) == ["REFER", "BYE"]  # which crosses the caller's own
    record = scene.world.record
    assert record.ending is Ending.TRANSFERRED
    (run,) = record.transfers
    assert (run.target, run.status, run.succeeded, run.attended) == (DESK, 200, True, True)
    assert record.usage is not None
    assert record.usage.responses == 2


async def test_whoever_does_not_hang_up_is_hung_up_on(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_scene(dialect, Transfers()) as scene:
        await scene.call.wait_hung_up()
        assert methods(scene.call) == ["REFER", "BYE"]
    assert scene.world.record.ending is Ending.TRANSFERRED


async def test_meanwhile_neither_the_caller_nor_the_model_hears_the_other(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_scene(dialect, ring_seconds=4.0) as scene:
        theirs = await scene.ring()
        await trio.sleep(0.1)
        main = scene.world.model.sessions[0]
        before, before_at, seen = len(main.received_audio), trio.current_time(), len(scene.call.handset.heard)
        scene.call.handset.say(QUESTION * 3)
        await theirs.wait_answered()
        await scene.call.wait_referral()
        audio = main.received_audio[before:]
        assert not audio.strip(b"\xff")
        assert len(audio) / 8000 == pytest.approx(trio.current_time() - before_at, abs=0.1)
        heard = scene.call.handset.heard[seen:]
        assert len(heard) == pytest.approx((trio.current_time() - before_at) * 50, abs=2)  # silent, not dead
        assert not any(scene.call.handset.is_speech(packet) for packet in heard)
        await scene.call.wait_over()
    assert scene.world.record.ending is Ending.TRANSFERRED


REFUSALS: Final = {486: "Busy Here", 603: "Decline", 480: "Temporarily Unavailable"}


@pytest.mark.parametrize("status", REFUSALS)
async def test_a_target_that_refuses_is_told_of_and_the_call_goes_on(
    autojump_clock: MockClock, dialect: Dialect, status: int
) -> None:
    async with open_scene(dialect, ring_seconds=1.0, status=status) as scene:
        await scene.ring()
        await scene.hear_excuse()
        assert scene.told == f"the transfer failed: {status} {REFUSALS[status]}; the caller is still on the line"
        assert scene.call.referrals == []
        assert len(scene.world.media_sockets()) == 2  # the target's are closed
    assert scene.world.record.ending is Ending.CALLER_HUNG_UP
    check_failed(scene.world.record, status, REFUSALS[status])


@pytest.mark.parametrize("any_schedule", [0, 5, 10, 15], indirect=True)  # it takes long
async def test_a_target_that_does_not_answer_is_given_up(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_scene(dialect, ring_seconds=60.0) as scene:
        theirs = await scene.ring()
        rung_at = trio.current_time()
        await theirs.wait_over()
        assert trio.current_time() - rung_at == pytest.approx(20.0, abs=0.05)
        assert theirs.is_cancelled
        await scene.hear_excuse()
    assert scene.world.record.ending is Ending.CALLER_HUNG_UP
    (run,) = scene.world.record.transfers
    assert not run.succeeded
    assert run.status in (None, 408, 487)


@pytest.mark.parametrize("after", [0.1, 1.2], ids=["before a word", "in the announcement"])
async def test_a_target_that_hangs_up_does_not_get_the_caller(
    autojump_clock: MockClock, dialect: Dialect, after: float
) -> None:
    async with open_scene(dialect) as scene:
        theirs = await scene.ring()
        await theirs.wait_answered()
        await trio.sleep(after)
        await theirs.hang_up()
        await scene.hear_excuse()
        assert scene.call.referrals == []
        why = "the other side hung up before the caller was connected"
        assert scene.told == f"the transfer failed: {why}; the caller is still on the line"
    assert scene.world.record.ending is Ending.CALLER_HUNG_UP
    check_failed(scene.world.record, None, why)


@pytest.mark.parametrize("moment", ["it rings", "they pick up", "the announcement"])
async def test_a_caller_who_hangs_up_meanwhile_lets_the_target_go(
    autojump_clock: MockClock, dialect: Dialect, moment: str
) -> None:
    async with open_scene(dialect, ring_seconds=2.0) as scene:
        theirs = await scene.ring()
        if moment != "it rings":
            await theirs.wait_answered()
            await trio.sleep(0.1 if moment == "they pick up" else PICKING_UP + 0.5)
        await scene.call.hang_up()
        with trio.fail_after(1.0):
            await theirs.wait_over()
        assert theirs.is_cancelled == (moment == "it rings")
        assert methods(theirs) == ([] if moment == "it rings" else ["BYE"])
        assert scene.call.referrals == []
    assert scene.world.record.ending is Ending.CALLER_HUNG_UP
    (run,) = scene.world.record.transfers
    assert not run.succeeded


@pytest.mark.parametrize(
    ("transfers", "status", "text"),
    [
        (Transfers(answer=603), 603, "Decline"),
        (None, 405, "Method Not Allowed"),
        (Transfers(calls="never", progress=(100, 481)), 481, "Call/Transaction Does Not Exist"),
    ],
    ids=["declined", "not understood", "Replaces that finds nothing"],
)
async def test_a_caller_whose_telephone_cannot_be_referred_keeps_the_model(
    autojump_clock: MockClock, dialect: Dialect, transfers: Transfers | None, status: int, text: str
) -> None:
    async with open_scene(dialect, transfers or Transfers()) as scene:
        if transfers is None:
            scene.call.transfers = None
        theirs = await scene.ring()
        await theirs.wait_answered()
        await theirs.wait_hung_up()
        assert theirs.handset.speech_heard() == ANNOUNCEMENT
        await scene.hear_excuse()
        assert scene.told.startswith(f"the transfer failed: {status}")
    assert scene.world.record.ending is Ending.CALLER_HUNG_UP
    (run,) = scene.world.record.transfers
    assert (run.status, run.text, run.succeeded) == (status, text, False)


async def test_a_target_is_joined_unannounced_when_there_is_no_voice_for_it(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_scene(dialect) as scene:
        scene.world.model.later_faults = [Faults(refuse_upgrade=503)]
        theirs = await scene.ring()
        await scene.call.wait_over()
        assert theirs.handset.speech_heard() == b""
        assert [referral.replaces is not None for referral in scene.call.referrals] == [True]
    assert scene.world.record.ending is Ending.TRANSFERRED


async def test_a_target_that_asks_for_reliable_ringing_is_acknowledged(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_scene(dialect, ring_seconds=2.0, reliable=True) as scene:
        theirs = await scene.ring()
        await theirs.wait_answered()
        assert len(theirs.pracks) == (1 if "100rel" in theirs.invite.headers.items("Supported") else 0)
        await scene.call.wait_over()
    assert scene.world.record.ending is Ending.TRANSFERRED


async def test_a_target_that_holds_during_the_announcement_hears_the_rest_of_it(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_scene(dialect) as scene:
        theirs = await scene.ring()
        await theirs.wait_answered()
        await theirs.handset.wait_speech(0.4)
        assert (await theirs.hold()).status == 200
        await trio.sleep(1.0)
        assert (await theirs.resume()).status == 200
        await scene.call.wait_over()
        assert theirs.handset.speech_heard() == ANNOUNCEMENT
    assert scene.world.record.ending is Ending.TRANSFERRED


async def test_without_a_second_port_there_is_no_transfer(autojump_clock: MockClock, dialect: Dialect) -> None:
    settings = changed(SETTINGS, rtp={"max_port": RTP_PORT + 1})
    async with (
        open_world(decided(talk), settings=settings, dialect=dialect) as world,
        open_phone(DESK_HOST, 5060, user="desk", seed=1) as desk,
        desk.answering() as calls,
    ):
        async with world.dial(transfers=Transfers()) as call:
            await call.handset.wait_speech(0.65)
            await Scene(world, call, calls).hear_excuse()
        assert calls.statistics().current_buffer_used == 0
    assert world.record.ending is Ending.CALLER_HUNG_UP
    (run,) = world.record.transfers
    assert (run.status, run.attended) == (None, True)
