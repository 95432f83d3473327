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
from interop.handed_over import POLL_SECONDS, Handover, open_handover

pytestmark = [pytest.mark.interop, needs(opensips)]

LONGEST_SECONDS: Final = 40.0
HEARD_SECONDS: Final = 0.3
HEARD_OCTETS: Final = 2000  # of the same, without the last packets, which may not have come
SEVERAL_LOOKS_SECONDS: Final = 5.0
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

    async def wait_ending(self) -> str:
        """Of our caller's call."""
        return str((await self.handover.service.wait_log("call.ended"))["ending"])


@asynccontextmanager
async def open_scene(folder: Path, *, uac_auth: bool = True, **answering: Any) -> AsyncIterator[Scene]:
    """A caller who is to be connected with the desk, which answers calls as told."""
    port = free_port()
    variables = {
        "OPENAI_WELCOME_MSG": "Connect everybody.",
        "OPENAI_TRANSFER_TO": f"sip:desk@{HOST}:{port}",
        "AIVC_OPENAI_TRANSFER_ATTENDED": "true",
        "AIVC_OPENAI_TRANSFER_RING_SECONDS": "3",  # less than OpenSIPS's own fr_inv_timeout here
    }
    with trio.fail_after(LONGEST_SECONDS):
        async with (
            open_handover(FakeModel(decided(operator)), folder, variables, uac_auth=uac_auth) as handover,
            open_phone(HOST) as phone,
            open_phone(HOST, port, user="desk", seed=1) as target,
            target.answering(**answering) as calls,
            phone.dial(handover.opensips.uri(), transfers=Transfers(then_bye=True)) as call,
        ):
            yield Scene(handover, call, calls)


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
            await trio.sleep(POLL_SECONDS)
        referral.call.handset.say(FROM_CALLER)
        joined.handset.say(FROM_DESK)
        await referral.call.handset.wait_speech(HEARD_SECONDS)
        await joined.handset.wait_speech(HEARD_SECONDS)
        assert joined.handset.speech_heard()[:HEARD_OCTETS] == FROM_CALLER[:HEARD_OCTETS]
        assert referral.call.handset.speech_heard()[:HEARD_OCTETS] == FROM_DESK[:HEARD_OCTETS]
        assert await scene.wait_ending() == "transferred"
        await scene.handover.wait_sessions(0)


@pytest.mark.parametrize("uac_auth", [True, False])
async def test_a_target_that_refuses_leaves_the_caller_with_the_model(tmp_path: Path, uac_auth: bool) -> None:
    """And the call that OpenSIPS cannot free, because it has rung, alone: to terminate it is of no use, and dangerous
    once its session timer has run out."""
    async with open_scene(tmp_path, uac_auth=uac_auth, ring_seconds=0.5, status=486) as scene:
        await scene.calls.receive()
        assert await scene.wait_ending() == "model_hung_up"
        await scene.handover.wait_sessions(1)
        await trio.sleep(SEVERAL_LOOKS_SECONDS)
        assert scene.handover.service.log("opensips.orphan") == []


async def test_a_target_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    async with open_scene(tmp_path, ring_seconds=20.0) as scene:
        theirs = await scene.calls.receive()
        await theirs.wait_over()
        assert theirs.is_cancelled
        assert await scene.wait_ending() == "model_hung_up"
        await scene.handover.wait_sessions(0)


@pytest.mark.parametrize("ring_seconds", [0.3, 2.0])
async def test_a_caller_who_hangs_up_meanwhile_lets_the_target_go(tmp_path: Path, ring_seconds: float) -> None:
    async with open_scene(tmp_path, ring_seconds=ring_seconds) as scene:
        theirs = await scene.calls.receive()
        await trio.sleep(1.0)
        await scene.call.hang_up()
        await theirs.wait_over()
        assert theirs.is_cancelled == (ring_seconds > 1.0)
        if not theirs.is_cancelled:
            assert theirs.requests[-1].header("Reason").startswith("SIP;cause=200")
        await scene.handover.wait_sessions(0)


async def test_a_target_that_hangs_up_before_the_caller_comes_does_not_get_them(tmp_path: Path) -> None:
    async with open_scene(tmp_path, ring_seconds=0.3) as scene:
        theirs = await scene.calls.receive()
        await theirs.handset.wait_speech(0.2)
        await theirs.hang_up()
        assert await scene.wait_ending() == "model_hung_up"
        assert scene.call.referrals == []
        await scene.handover.wait_sessions(0)


async def test_a_target_may_hold_and_resume(tmp_path: Path) -> None:
    async with open_scene(tmp_path, ring_seconds=0.3) as scene:
        theirs = await scene.calls.receive()
        await theirs.handset.wait_speech(0.2)
        assert (await theirs.hold()).status == 200
        assert (await theirs.resume()).status == 200
        assert await scene.wait_ending() == "transferred"
        await scene.handover.wait_sessions(0)
