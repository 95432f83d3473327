"""SIP as SIPp speaks it: refusals, CANCEL, requests without a dialog, and twenty calls at five a second."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest
import trio

from aivc.demo.simulator import open_simulator
from aivc.testing.faults import Faults
from aivc.testing.model import FakeModel
from aivc.testing.script import Say, decided
from aivc.testing.voice import silence
from interop import sipp
from interop.service_process import LogLine, serving
from interop.sipp import played
from interop.sipp_scenario import (
    ack_of_refusal,
    answered,
    cancel,
    expect,
    in_dialog,
    invite,
    offer,
    offer_of,
    pause,
    scenario,
    speak,
    without_dialog,
)
from interop.speech import caller_speech, model_speech

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(sipp.missing() is not None, reason=str(sipp.missing())),
]
LONGEST_SECONDS = 30.0
RING_SECONDS = 1.0  # enough for the model to be there
CALLS = 20
CALLS_A_SECOND = 5
TALK_SECONDS = 2.5  # of each

Log = list[LogLine]


async def play(steps: str, folder: Path, model: FakeModel, *options: str, user: str = "1000", **variables: str) -> Log:
    """Have SIPp play these steps against a service, all as they say; the service's log from start to end."""
    with trio.fail_after(LONGEST_SECONDS):
        async with open_simulator(model) as url, serving(url, **variables) as service:
            assert await played(service.uri(user), scenario(steps), folder, *options) == ""
    return service.log()


def endings(log: Log) -> list[object]:
    return [line["ending"] for line in log if line["event"] == "call.ended"]


def refused(status: int, **headers: str) -> str:
    return expect(status, **headers) + ack_of_refusal()


async def test_a_caller_who_gives_up_while_it_rings_gets_487_and_the_model_is_let_go(tmp_path: Path) -> None:
    model = FakeModel(faults=Faults(session_updated_seconds=inf))
    ringing = invite(offer("PCMU")) + expect(100) + expect(180) + pause(RING_SECONDS)
    log = await play(ringing + cancel() + expect(200) + refused(487), tmp_path, model)
    assert endings(log) == ["caller_cancelled"]
    assert [session.closed for session in model.sessions] == [1000]


async def test_a_number_that_is_not_ours_gets_404_and_costs_no_model(tmp_path: Path) -> None:
    model = FakeModel()
    await play(invite(offer("PCMU")) + refused(404), tmp_path, model, user="2000", AIVC_SIP_NUMBERS="1000")
    assert model.sessions == []


async def test_an_offer_without_g711_gets_488_with_the_reason(tmp_path: Path) -> None:
    model = FakeModel()
    await play(invite(offer_of((18, "G729"))) + refused(488, Warning="^ *30[45] "), tmp_path, model)
    assert model.sessions == []


async def test_options_gets_200_with_what_we_can_do(tmp_path: Path) -> None:
    steps = without_dialog("OPTIONS") + expect(200, Allow="INVITE.*BYE", Accept="application/sdp")
    await play(steps, tmp_path, FakeModel())


async def test_a_bye_outside_any_dialog_gets_481(tmp_path: Path) -> None:
    await play(without_dialog("BYE", to_tag="nobody") + expect(481), tmp_path, FakeModel())


async def test_the_second_bye_of_a_call_gets_481(tmp_path: Path) -> None:
    steps = answered("PCMU") + in_dialog("BYE", 2) + expect(200) + in_dialog("BYE", 3) + expect(481)
    log = await play(steps, tmp_path, FakeModel())
    assert endings(log) == ["caller_hung_up"]


async def test_a_model_that_refuses_is_a_503_that_says_why_and_when_to_try_again(tmp_path: Path) -> None:
    model = FakeModel(keys={"sk-of-somebody-else"})
    ringing = invite(offer("PCMU")) + expect(100) + expect(180)
    log = await play(ringing + refused(503, Retry_After="^ *10", Reason="SIP *; *cause=503"), tmp_path, model)
    assert endings(log) == ["realtime_refused"]


async def test_twenty_calls_at_five_a_second_all_succeed(tmp_path: Path) -> None:
    model = FakeModel(decided(lambda _: [Say("Goodbye.", audio=model_speech("PCMU"))]))
    audio = tmp_path / "caller.ulaw"
    audio.write_bytes(caller_speech("PCMU") + silence(TALK_SECONDS))
    talk = speak(audio, "PCMU") + pause(TALK_SECONDS) + in_dialog("BYE", 2) + expect(200)
    load = ("-m", f"{CALLS}", "-r", f"{CALLS_A_SECOND}", "-l", f"{CALLS}")
    variables = {"OPENAI_WELCOME_MSG": "Say goodbye.", "OPENAI_TURN_DETECT_TYPE": "none"}
    log = await play(answered("PCMU") + talk, tmp_path, model, *load, **variables)
    assert endings(log) == ["caller_hung_up"] * CALLS
    assert [session.errors for session in model.sessions] == [[]] * CALLS
    assert all(caller_speech("PCMU") in session.received_audio for session in model.sessions)
