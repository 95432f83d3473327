"""What happens in a conversation besides talk, with real telephones: keys, hold, lost sessions, agents."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from aivc.testing.faults import Faults
from aivc.testing.handset import RtpHeard
from aivc.testing.model import FakeModel
from aivc.testing.phrases import phrase
from aivc.testing.script import CallTool, Context, Part, Say, decided
from aivc.testing.voice import SILENCE
from interop import http_service, sipp, tshark, wire
from interop.conversing import Scene, needs, open_scene, outputs_told, phones, texts_told
from interop.phone import DIALLED, Make, RealPhone
from interop.program import open_program
from interop.sipp import played
from interop.sipp_scenario import (
    ack_of_refusal,
    answered,
    expect,
    expect_request,
    in_dialog,
    info_key,
    invite,
    offer,
    pause,
    reinvite,
    scenario,
)
from interop.speech import encoded, frames_in_order, frames_of, read_wav, without_negative_zero, write_wav
from interop.tshark import dissected, is_true, write_capture
from interop.wire import Datagram

pytestmark = pytest.mark.interop

PRESSED, ANSWERED = "42", "19#"  # keys: the caller's without the one that ends the entry, the model's
TONE_MS = 160
TALK_SECONDS = 1.6  # by then the model is heard
HELD_SECONDS = 0.8
ON_ITS_WAY_SECONDS = 0.2  # a packet that had left when the re-INVITE was answered, on a busy machine
JITTER_BUFFER_FRAMES = 5
SECRET = "what-only-the-two-of-us-know"

needs_wire = needs(wire)
needs_sipp = needs(sipp)


def recorded(phrase_id: str) -> Say:
    """A recording that comes out of a telephone as it went in."""
    found = phrase(phrase_id)
    return Say(found.text, audio=without_negative_zero(found.octets, "PCMU"))


SORRY = recorded("model_go_on")


# Keys


def key_taker(context: Context) -> Sequence[Part]:
    """Waits for keys, answers them with others, then hangs up."""
    if context.outputs:
        return [Say("Thank you, goodbye.", seconds=0.4), CallTool("terminate_call")]
    return [CallTool("send_digits", {"digits": ANSWERED})] if context.texts else [Say("Your number?", seconds=0.4)]


def check_keys(scene: Scene, source: str) -> None:
    """The model was told what was pressed, and that its own keys were sent."""
    (session,) = scene.model.sessions
    assert [text for text in texts_told(session) if "keys" in text] == [
        f"[The caller pressed the keys {PRESSED} on the telephone's keypad.]"
    ]
    assert outputs_told(session)[0] == f"The keys {ANSWERED} were sent."
    assert session.errors == []
    assert [(entry["digits"], entry["source"]) for entry in scene.record["digits"]] == [(PRESSED, source)]
    assert scene.record["ending"] == "model_hung_up"


@phones("baresip", "pjsip")
async def test_a_telephone_and_the_model_press_keys(tmp_path: Path, make: Make) -> None:
    async with (
        open_scene(FakeModel(decided(key_taker)), tmp_path) as scene,
        make.call(scene.service.uri(DIALLED), "PCMU", tmp_path, hangs_up=False) as phone,
    ):
        await (await scene.model.wait_session()).wait_sent("response.done")
        await phone.press(f"{PRESSED}#")
        await phone.wait_keys(ANSWERED)
        assert await phone.wait_over() == 0
    check_keys(scene, "rtp")


@needs_wire
@needs_sipp
@needs(tshark)
async def test_keys_by_info_reach_the_model_and_tshark_reads_its_own(tmp_path: Path) -> None:
    keys = "".join(info_key(n, key) + expect(200) for n, key in enumerate(f"{PRESSED}#", 2))
    steps = scenario(answered("PCMU", keys=True), pause(1.0), keys, expect_request("BYE"))
    async with open_scene(FakeModel(decided(key_taker)), tmp_path) as scene:
        assert await played(scene.service.uri(), steps, tmp_path) == ""
    check_keys(scene, "info")
    write_capture(tmp_path / "call.pcap", scene.wire.datagrams)
    fields = ("rtpevent.event_id", "rtpevent.end_of_event", "rtpevent.duration", "rtp.timestamp", "rtp.marker")
    check_dissected_keys(dissected(tmp_path / "call.pcap", "rtpevent", fields))


def check_dissected_keys(packets: Sequence[Sequence[str]]) -> None:
    """Each key: one RTP timestamp, the marker first, durations that grow, three ends with the whole duration."""
    began = list(dict.fromkeys(packet[3] for packet in packets))
    assert len(began) == len(ANSWERED)
    for key, rtp_timestamp in zip(ANSWERED, began, strict=True):
        mine = [packet for packet in packets if packet[3] == rtp_timestamp]
        durations = [int(packet[2]) for packet in mine]
        assert {packet[0] for packet in mine} == {str("0123456789*#".index(key))}
        assert [is_true(packet[4]) for packet in mine] == [True] + [False] * (len(mine) - 1)
        assert [is_true(packet[1]) for packet in mine] == [False] * (len(mine) - 3) + [True] * 3
        assert durations == sorted(durations)
        assert durations[-3:] == [TONE_MS * 8] * 3


# Hold


def storyteller(_: Context) -> Sequence[Part]:
    return [Say("A long story.", seconds=20.0)]


def check_hold(scene: Scene) -> None:
    """Nothing goes to a telephone that holds us; before and after it there is speech."""
    holds, resumes = scene.invites_answered()[1:]
    packets = scene.rtp_to_phone()
    held = [p for p in packets if holds.at + ON_ITS_WAY_SECONDS < p.at < asked_before(scene, resumes)]
    assert asked_before(scene, resumes) - holds.at > HELD_SECONDS / 2
    assert held == []
    assert is_speech([packet for packet in packets if packet.at < holds.at])
    assert is_speech([packet for packet in packets if packet.at > resumes.at])
    assert len({packet.ssrc for packet in packets}) == 1
    assert scene.record["ending"] == "caller_hung_up"


def asked_before(scene: Scene, answer: Datagram) -> float:
    """When the last INVITE before this answer came, or its first copy."""
    return max(d.at for d in scene.wire.sip(scene.service.port, "INVITE ") if d.at < answer.at)


def is_speech(packets: Sequence[RtpHeard]) -> bool:
    return not set(b"".join(packet.payload for packet in packets)) <= {SILENCE["PCMU"]}


@needs_wire
@phones("baresip", "pjsip")
async def test_a_telephone_holds_the_call_and_resumes_it(tmp_path: Path, make: Make) -> None:
    async with (
        open_scene(FakeModel(decided(storyteller)), tmp_path) as scene,
        make.call(scene.service.uri(DIALLED), "PCMU", tmp_path, hangs_up=True) as phone,
    ):
        await (await scene.model.wait_session()).wait_sent("response.output_audio.delta")
        await trio.sleep(HELD_SECONDS)
        for line, answers in ((phone.hold_line, 2), (phone.resume_line, 3)):
            await phone.program.type(line)
            await scene.wait_invites_answered(answers)
            await trio.sleep(HELD_SECONDS)
        await phone.hang_up()
        assert await phone.wait_over() == 0
    check_hold(scene)


@needs_wire
@needs_sipp
async def test_nothing_is_sent_to_a_telephone_that_says_inactive(tmp_path: Path) -> None:
    steps = answered("PCMU") + pause(TALK_SECONDS) + reinvite(2, "PCMU", "inactive") + pause(HELD_SECONDS)
    steps += reinvite(3, "PCMU", "sendrecv") + pause(HELD_SECONDS) + in_dialog("BYE", 4) + expect(200)
    async with open_scene(FakeModel(decided(storyteller)), tmp_path) as scene:
        assert await played(scene.service.uri(), scenario(steps), tmp_path) == ""
    check_hold(scene)


# Lost sessions


def unlucky(context: Context) -> Sequence[Part]:
    """Goes on where another session was lost, and hangs up."""
    return [SORRY, CallTool("terminate_call")] if context.history else [Say("A story.", seconds=1.0), Say("Its end.")]


@phones("baresip")
async def test_a_telephone_hears_the_session_that_replaces_a_lost_one(tmp_path: Path, make: Make) -> None:
    async with (
        open_scene(FakeModel(decided(unlucky)), tmp_path) as scene,
        make.call(scene.service.uri(DIALLED), "PCMU", tmp_path, hangs_up=False) as phone,
    ):
        await lose_session(scene)
        assert await phone.wait_over() == 0
    check_heard(SORRY.audio, phone)
    assert [session.errors for session in scene.model.sessions] == [[], []]
    assert (scene.record["ending"], scene.record["sessions"]) == ("model_hung_up", 2)


@phones("pjsip")
async def test_a_telephone_hears_a_word_of_excuse_when_the_model_is_lost_for_good(tmp_path: Path, make: Make) -> None:
    failure = tmp_path / "failure.wav"
    write_wav(failure, SORRY.audio, "PCMU")
    model = FakeModel(decided(unlucky), later_faults=[Faults(refuse_upgrade=503)])
    async with (
        open_scene(model, tmp_path, AIVC_SOUNDS_FAILURE=str(failure)) as scene,
        make.call(scene.service.uri(DIALLED), "PCMU", tmp_path, hangs_up=False) as phone,
    ):
        await lose_session(scene)
        assert await phone.wait_over() == 0
    check_heard(SORRY.audio, phone)
    assert (scene.record["ending"], scene.record["sessions"]) == ("realtime_lost", 1)


async def lose_session(scene: Scene) -> None:
    """Cut the first session's connection while the model speaks.

    The reset may overtake what was sent last, so that nobody has read it; what came before it was read long ago.
    """
    first = await scene.model.wait_session()
    await first.wait_sent("response.output_audio.delta", count=3)
    first.drop()


def check_heard(said: bytes, phone: RealPhone) -> None:
    """All of it but what may have been in the telephone's jitter buffer when the BYE came."""
    assert phone.recording is not None
    frames, recording = frames_of(said), encoded(read_wav(phone.recording()), "PCMU")
    assert frames_in_order(frames, recording) >= len(frames) - JITTER_BUFFER_FRAMES


# Settings of the call


AGENTS = """
[openai]
instructions = "You are the receptionist."
match = ["100"]

[agents.sales]
instructions = "You sell."
match = ["2[0-9]{2}"]
"""


@needs_sipp
async def test_each_number_has_its_agent_and_one_of_nobodys_gets_404(tmp_path: Path) -> None:
    talk = scenario(answered("PCMU"), in_dialog("BYE", 2), expect(200))
    nobody = scenario(invite(offer("PCMU")), expect(100), expect(404), ack_of_refusal())
    async with open_scene(FakeModel(), tmp_path, AGENTS) as scene:
        for number, steps in (("100", talk), ("234", talk), ("300", nobody)):
            assert await played(scene.service.uri(number), steps, tmp_path) == ""
    told = [session.session["instructions"] for session in scene.model.sessions]
    assert told == ["You are the receptionist.", "You sell."]
    assert [(record["dialled"], record["agent"]) for record in scene.records] == [("100", None), ("234", "sales")]


SERVICES = """
[engine]
api_url = "http://127.0.0.1:{port}/bots"

[[tools.http]]
name = "opening_hours"
description = "Tell when the shop is open."
url = "http://127.0.0.1:{port}/hours"
secret = "HOURS_SECRET"

[tools.http.schema]
type = "object"
properties = {{ day = {{ type = "string" }} }}
required = ["day"]
"""


def shop_assistant(context: Context) -> Sequence[Part]:
    if context.outputs:
        return [Say(context.outputs[0].output, seconds=0.4), CallTool("terminate_call")]
    return [CallTool("opening_hours", {"day": "Monday"})]


@needs_sipp
async def test_a_web_server_gives_the_settings_of_a_call_and_checks_the_signature_of_a_tool(tmp_path: Path) -> None:
    steps = scenario(answered("PCMU"), expect_request("BYE"))
    command: list[str | Path] = [sys.executable, Path(http_service.__file__), SECRET]
    async with open_program(command, folder=tmp_path) as server:
        port = (await server.wait_output(r"listening (\d+)"))[1]
        toml = SERVICES.format(port=port)
        async with open_scene(FakeModel(decided(shop_assistant)), tmp_path, toml, HOURS_SECRET=SECRET) as scene:
            assert await played(scene.service.uri(), steps, tmp_path) == ""
    (session,) = scene.model.sessions
    bots, hours = [json.loads(line) for line in server.output.splitlines()[1:]]
    assert bots["body"]["bot"] == DIALLED
    assert bots["body"]["call_id"] == hours["headers"]["X-Aivc-Call-Id"] == scene.record["call_id"]
    assert session.session["instructions"] == http_service.INSTRUCTIONS
    assert hours["body"] == {"day": "Monday"}
    assert outputs_told(session)[0] == http_service.HOURS
    assert scene.record["ending"] == "model_hung_up"
