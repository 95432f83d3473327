"""Calls of real telephones, recorded by `aivc serve` and replayed at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from aivc.demo.simulator import open_simulator
from aivc.testing.model import FakeModel
from aivc.testing.script import CallTool, Context, Part, Say, decided
from interop import sipp
from interop.program import open_program
from interop.service_process import command, environment, serving
from interop.sipp import played
from interop.sipp_scenario import (
    answered,
    expect,
    in_dialog,
    info_key,
    pause,
    reinvite,
    scenario,
    speak,
)
from interop.speech import caller_audio, model_speech

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(sipp.missing() is not None, reason=str(sipp.missing())),
]
LONGEST_SECONDS = 60.0
RECORDED = {"AIVC_RECORDER_MODE": "always", "OPENAI_WELCOME_MSG": "Hello, this is the shop."}


def talkative(context: Context) -> Sequence[Part]:
    """Greets at length, so that it can be interrupted; answers; hangs up at the end."""
    if context.turns > 1:
        return [Say("Goodbye.", audio=model_speech("PCMU")[:6400]), CallTool("terminate_call")]
    return [Say("Hello, this is the shop.", audio=model_speech("PCMU") * 2)]


async def told(folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit status and output of `aivc` with these arguments."""
    async with open_program(command(*arguments), folder=folder, environ=environment()) as program:
        status = await program.wait_exit()
    return status, program.output


async def recorded_by(folder: Path, steps: str, **variables: str) -> Path:
    """The only recording of a call that SIPp has made by these steps."""
    flights = folder / "flights"
    where = RECORDED | {"AIVC_RECORDER_DIRECTORY": str(flights)} | variables
    async with open_simulator(FakeModel(decided(talkative))) as url, serving(url, **where) as service:
        assert await played(service.uri(), scenario(steps), folder) == ""
    (flight,) = flights.iterdir()
    return flight


def steps_of(audio: Path, *between: str) -> str:
    audio.write_bytes(caller_audio("PCMU"))
    return answered("PCMU") + pause(0.8) + speak(audio, "PCMU") + pause(2.0) + "".join(between)


BYE = in_dialog("BYE", 9) + expect(200)

CALLS = {
    "hangs up": BYE,
    "holds": reinvite(2, "PCMU", "sendonly") + pause(1.0) + reinvite(3, "PCMU", "sendrecv") + pause(1.0) + BYE,
    "presses a key": info_key(2, "5") + expect(200) + pause(2.5) + BYE,
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("audio", ["hash", "keep"])
async def test_a_call_of_sipp_is_replayed_as_it_was(tmp_path: Path, name: str, audio: str) -> None:
    with trio.fail_after(LONGEST_SECONDS):
        steps = steps_of(tmp_path / "caller.raw", CALLS[name])
        flight = await recorded_by(tmp_path, steps, AIVC_RECORDER_AUDIO=audio, AIVC_RECORDER_MASK="numbers")
        status, output = await told(tmp_path, "replay", str(flight))
        assert (status, output[:6]) == (0, "Equal:"), output


async def test_a_recorded_call_of_sipp_is_shown_in_a_hundred_columns(tmp_path: Path) -> None:
    with trio.fail_after(LONGEST_SECONDS):
        flight = await recorded_by(tmp_path, steps_of(tmp_path / "caller.raw", BYE))
        status, output = await told(tmp_path, "show", str(flight), "--picture", str(tmp_path / "call.svg"))
        assert status == 0
        assert max(map(len, output.splitlines())) <= 100
        assert (tmp_path / "call.svg").read_text().startswith("<svg")
