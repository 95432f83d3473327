"""Attended transfers through OpenSIPS: it calls the target for us, and the caller takes our place in that call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio

from aivc.testing import CallTool, Context, PhoneCall, ReceivedCall, Say, Transfers, decided, open_phone, speech
from aivc.testing.model import FakeModel
from aivc.testing.script import Part
from interop import opensips
from interop.conversing import needs
from interop.dispatchers import HOST, free_port
from interop.handed_over import Handover, open_handover

pytestmark = [pytest.mark.interop, needs(opensips)]

LONGEST_SECONDS: Final = 40.0
ANNOUNCEMENT: Final = speech(1.0, pitch_hz=210.0, seed=41)
FROM_CALLER: Final = speech(0.4, seed=42)
FROM_DESK: Final = speech(0.4, seed=43)


def operator(context: Context) -> Sequence[Part]:
    """Transfers the call at once, announces it to the target, says goodbye if it comes to nothing."""
    if not context.tools:
        return [Say("Somebody for you.", audio=ANNOUNCEMENT)]
    if context.outputs:
        return [Say("Nobody is there. Goodbye.", seconds=0.4), CallTool("terminate_call")]
    return [Say("I connect you.", seconds=0.4), CallTool("transfer_call")]


@attrs.define(eq=False)
class Scene:
    handover: Handover
    call: PhoneCall
    calls: trio.MemoryReceiveChannel[ReceivedCall]  # of the desk
    desk: str

    @property
    def record(self) -> dict[str, Any]:
        (record,) = [each for each in self.handover.service.lines if each["message"] == "call.ended"]
        return record


@asynccontextmanager
async def open_scene(folder: Path, transfers: Transfers | None = None, **answering: Any) -> AsyncIterator[Scene]:
    port = free_port()
    desk = f"sip:desk@{HOST}:{port}"
    variables = {
        "OPENAI_WELCOME_MSG": "Connect everybody.",
        "OPENAI_TRANSFER_TO": desk,
        "AIVC_OPENAI_TRANSFER_ATTENDED": "true",
        "AIVC_OPENAI_TRANSFER_RING_SECONDS": "3",
    }
    with trio.fail_after(LONGEST_SECONDS):
        async with (
            open_handover(FakeModel(decided(operator)), folder, variables) as handover,
            open_phone(HOST) as phone,
            open_phone(HOST, port, user="desk", seed=1) as target,
            target.answering(**answering) as calls,
            phone.dial(handover.opensips.uri(), transfers=transfers or Transfers(then_bye=True)) as call,
        ):
            yield Scene(handover, call, calls, desk)


async def test_the_target_is_told_who_comes_and_takes_the_caller(tmp_path: Path) -> None:
    async with open_scene(tmp_path, ring_seconds=1.0) as scene:
        theirs = await scene.calls.receive()
        assert str(theirs.invite.sender.uri) == scene.handover.opensips.uri()
        joined = await scene.calls.receive()
        assert ANNOUNCEMENT in theirs.handset.speech_heard()
        (referral,) = scene.call.referrals
        assert referral.replaces == f"{theirs.call_id};to-tag={theirs.local_tag};from-tag={theirs.remote_tag}"
        assert joined.invite.header("Replaces") == referral.replaces
        await theirs.wait_over()
        assert theirs.replaced_by is joined
        while not isinstance(referral.call, PhoneCall):  # noqa: ASYNC110 - the phone's answer is on its way
            await trio.sleep(0.01)
        referral.call.handset.say(FROM_CALLER)
        joined.handset.say(FROM_DESK)
        await joined.handset.wait_speech(0.3)
        record = await scene.handover.service.wait_log("call.ended")
        await scene.handover.wait_sessions(0)
    assert record["ending"] == "transferred"
    print(record)


@pytest.mark.parametrize("status", [486, 603])
async def test_a_target_that_refuses_leaves_the_caller_with_the_model(tmp_path: Path, status: int) -> None:
    async with open_scene(tmp_path, ring_seconds=0.5, status=status) as scene:
        await scene.calls.receive()
        record = await scene.handover.service.wait_log("call.ended")
        print(record)
        assert record["ending"] == "model_hung_up"
        print(await scene.handover.sessions())


async def test_a_target_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    async with open_scene(tmp_path, ring_seconds=20.0) as scene:
        theirs = await scene.calls.receive()
        await theirs.wait_over()
        assert theirs.is_cancelled
        record = await scene.handover.service.wait_log("call.ended")
        print(record)
        await scene.handover.wait_sessions(0)


async def test_a_caller_who_hangs_up_meanwhile_lets_the_target_go(tmp_path: Path) -> None:
    async with open_scene(tmp_path, ring_seconds=0.3) as scene:
        theirs = await scene.calls.receive()
        await theirs.wait_answered()
        await theirs.handset.wait_speech(0.2)
        await scene.call.hang_up()
        await theirs.wait_hung_up()
        assert theirs.requests[-1].headers.get("Reason")
        await scene.handover.wait_sessions(0)
