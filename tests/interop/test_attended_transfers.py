"""Attended transfers with real telephones: ours to a target that is told first, and theirs between us and another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from aivc.testing.model import FakeModel
from aivc.testing.script import CallTool, Context, Part, Say, decided
from interop import pjsip, sipp
from interop.conversing import Scene, needs, open_scene, outputs_told, phones
from interop.phone import DIALLED, Make
from interop.sipp import open_target
from interop.sipp_scenario import refusing
from interop.speech import encoded, frames_in_order, frames_of, model_speech, read_wav

pytestmark = [pytest.mark.interop, needs(pjsip)]

ATTENDED = {"AIVC_OPENAI_TRANSFER_ATTENDED": "true"}
HEARD_OCTETS = 9600
JITTER_BUFFER_FRAMES = 5
ANNOUNCEMENT = model_speech("PCMU")


def operator(context: Context) -> Sequence[Part]:
    """Transfers the call at once, announces it to the target, says goodbye if it comes to nothing."""
    if "colleague" in str(context.session.get("instructions")):
        return [Say("Somebody for you.", audio=ANNOUNCEMENT)]
    if context.outputs:
        return [Say("Nobody is there. Goodbye.", seconds=0.6), CallTool("terminate_call")]
    return [Say("I connect you.", seconds=0.4), CallTool("transfer_call")]


def transfers(scene: Scene) -> list[tuple[int | None, bool, bool]]:
    return [(each["status"], each["succeeded"], each["attended"]) for each in scene.record["transfers"]]


@phones("pjsip", "baresip")  # baresip knows no Replaces: it calls the target anew, whom we have left by then
async def test_a_target_is_told_who_comes_and_takes_the_caller(tmp_path: Path, make: Make) -> None:
    async with (
        pjsip.target("PCMU", tmp_path / "target") as (uri, target),
        open_scene(FakeModel(decided(operator)), tmp_path, OPENAI_TRANSFER_TO=uri, **ATTENDED) as scene,
        make.call(scene.service.uri(DIALLED), "PCMU", tmp_path, hangs_up=True) as phone,
    ):
        await scene.service.wait_log("call.ended")
        await target.wait_output("replaced" if make is pjsip else "(?s)DISCONNECTED.*CONFIRMED")
        await target.type("quit")
        await phone.hang_up()  # of the call to the target
        assert await target.wait_exit() == 0
    assert scene.record["ending"] == "transferred"
    assert transfers(scene) == [(200, True, True)]
    frames, recording = frames_of(ANNOUNCEMENT), encoded(read_wav(tmp_path / "target" / "heard.wav"), "PCMU")
    assert frames_in_order(frames, recording) >= len(frames) - JITTER_BUFFER_FRAMES
    assert [session.errors for session in scene.model.sessions] == [[], []]


@needs(sipp)
@phones("pjsip", "baresip")
async def test_a_target_that_is_busy_leaves_the_caller_with_the_model(tmp_path: Path, make: Make) -> None:
    async with (
        open_target(refusing("486 Busy Here"), tmp_path) as (uri, target),
        open_scene(FakeModel(decided(operator)), tmp_path, OPENAI_TRANSFER_TO=uri, **ATTENDED) as scene,
        make.call(scene.service.uri(DIALLED), "PCMU", tmp_path, hangs_up=False) as phone,
    ):
        assert await target.wait_exit() == 0
        await scene.service.wait_log("call.ended")
        await phone.program.wait_output(phone.over)
    assert "486" in outputs_told(scene.model.sessions[0])[0]
    assert transfers(scene) == [(486, False, True)]
    assert scene.record["ending"] == "model_hung_up"


async def test_two_telephones_and_we_our_caller_joins_us_with_the_other(tmp_path: Path) -> None:
    """REFER to the other telephone: its INVITE with Replaces takes over the call with us."""
    async with (
        pjsip.target("PCMU", tmp_path / "other") as (uri, other),
        open_scene(FakeModel(), tmp_path) as scene,
        pjsip.call(scene.service.uri(DIALLED), "PCMU", tmp_path, hangs_up=True) as phone,
    ):
        await heard_more(scene)
        await phone.program.type(f"call {uri}")
        await other.wait_output("state CONFIRMED")
        await phone.program.type("join 1 0")
        await other.wait_output("transfer <sip:")
        await phone.program.wait_output("(?s)(state DISCONNECTED.*){2}")
        await heard_more(scene)  # from the other telephone now
        assert scene.service.log("call.ended") == []
        await other.type("hang up")
        await scene.service.wait_log("call.ended")
        await other.type("quit")
        assert await other.wait_exit() == 0
    assert scene.record["ending"] == "caller_hung_up"
    assert len(scene.model.sessions) == 1  # the talk went on


async def test_we_follow_a_refer_to_another_telephone_that_is_allowed(tmp_path: Path) -> None:
    """REFER to us: we call the other telephone with Replaces, and take our caller's place there."""
    async with (
        pjsip.target("PCMU", tmp_path / "other") as (uri, other),
        open_scene(FakeModel(), tmp_path, "[sip]\nfollow_refer = ['sip:.*@127[.]0[.]0[.]1:[0-9]+(;.*)?']\n") as scene,
        pjsip.call(scene.service.uri(DIALLED), "PCMU", tmp_path, hangs_up=True) as phone,
    ):
        await heard_more(scene)
        await phone.program.type(f"call {uri}")
        await other.wait_output("state CONFIRMED")
        await phone.program.type("join 0 1")
        await other.wait_output("replaced")
        await phone.program.wait_output("(?s)(state DISCONNECTED.*){2}")
        await heard_more(scene)
        assert scene.service.log("call.ended") == []
        await other.type("hang up")
        await scene.service.wait_log("call.ended")
        await other.type("quit")
        assert await other.wait_exit() == 0
    assert scene.record["ending"] == "caller_hung_up"
    assert len(scene.model.sessions) == 1


async def heard_more(scene: Scene) -> None:
    """Wait until the model has heard another stretch of the call."""
    session = await scene.model.wait_session()
    before = len(session.received_audio)
    await session.wait_until(lambda session: len(session.received_audio) >= before + HEARD_OCTETS)
