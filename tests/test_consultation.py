"""Attended transfers: the target is called first and told who comes; whatever goes wrong, the caller gets the model."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from consultation_parts import (
    ANNOUNCED,
    ANSWERED_KEYS,
    BUSY,
    DESK,
    EXCUSED,
    JOINED,
    MUSIC,
    SETTINGS,
    Stage,
    a_while,
    play,
    stage,
)
from paper_leg import paper_consultation
from paper_stream import VOICE
from trio.testing import MockClock

from aivc import Ending
from aivc.config.settings import Settings
from aivc.nursery.record import TransferRun
from aivc.realtime.transfers import ANNOUNCEMENT_SECONDS
from aivc.sip.leg import ConsultationFailed, DigitPressed, HungUp, MediaChanged, ReferOutcome
from aivc.testing import Faults

BUSY_TARGET = ConsultationFailed(486, "Busy Here")


def changed(settings: Settings = SETTINGS, **openai: Any) -> Settings:
    return attrs.evolve(settings, openai=attrs.evolve(settings.openai, **openai))


def run_of(here: Stage) -> TransferRun:
    (run,) = here.over.transfers
    return run


def told(here: Stage) -> str:
    """What the model was told of the transfer."""
    (run,) = [run for run in here.over.tools if run.name == "transfer_call"]
    return run.output


async def test_the_target_is_called_and_told_and_then_gets_the_caller(autojump_clock: MockClock) -> None:
    target = paper_consultation()
    here = await play(stage(target, JOINED), a_while)
    assert here.over.ending is Ending.TRANSFERRED
    assert ("consult", DESK, 10.0) in here.leg.did
    assert here.referred == [("refer", DESK, "sip:1000@anonymous.invalid")]
    assert here.leg.replaced is target
    assert here.target.heard == ANNOUNCED
    assert ANNOUNCED not in here.caller.heard
    assert target.hung_up == ["the consultation is over"]
    run = run_of(here)
    assert (run.target, run.status, run.succeeded, run.attended) == (DESK, 200, True, True)


@pytest.mark.parametrize(
    ("supported", "joins"), [("timer, Replaces", True), ("", False), ("timer,path", False), (None, True)]
)
async def test_a_caller_whose_telephone_lacks_replaces_calls_a_target_that_we_have_left(
    autojump_clock: MockClock, supported: str | None, joins: bool
) -> None:
    target = paper_consultation()
    here = stage(target, JOINED)
    here.leg.headers = {} if supported is None else {"supported": supported}
    await play(here, a_while)
    assert here.over.ending is Ending.TRANSFERRED
    assert here.target.heard == ANNOUNCED
    assert here.leg.replaced is (target if joins else None)
    assert target.hung_up[0] == "the consultation is over"


async def test_the_announcer_knows_the_conversation_and_has_no_functions(autojump_clock: MockClock) -> None:
    here = await play(stage(paper_consultation(), JOINED), a_while)
    main, announcer = here.model.sessions
    session = announcer.session
    assert session["instructions"].startswith(SETTINGS.openai.transfer_announcement)
    assert "The caller is sip:alice@192.0.2.9, who dialled 1000." in session["instructions"]
    assert "You: One moment." in session["instructions"]
    assert session["tools"] == []
    assert session["audio"]["input"]["turn_detection"] is None
    assert announcer.received_audio == b""
    assert main.errors == announcer.errors == []
    assert await announcer.wait_closed() == 1000


async def test_the_cost_of_the_announcement_is_the_calls(autojump_clock: MockClock) -> None:
    here = await play(stage(paper_consultation(), JOINED), a_while)
    assert here.over.usage is not None
    assert here.over.usage.responses == 2


@pytest.mark.parametrize(
    ("target", "outcomes", "why"),
    [
        (BUSY_TARGET, (), "486 Busy Here"),
        (None, (), "no answer"),
        (ConsultationFailed(None, "there is no way to example.com"), (), "there is no way to example.com"),
        (ValueError("not a URI"), (), "not a URI"),
        ("answers", (BUSY,), "486 Busy Here"),
        ("answers", (ReferOutcome(603, "Decline"),), "603 Decline"),
        ("answers", (), "no answer"),
    ],
)
async def test_whatever_fails_the_caller_gets_the_model_which_knows_why(
    autojump_clock: MockClock, target: Any, outcomes: tuple[ReferOutcome, ...], why: str
) -> None:
    answered = paper_consultation()
    here = stage(answered if target == "answers" else target, *outcomes)
    await play(here, a_while)
    assert here.over.ending is Ending.CALLER_HUNG_UP
    assert told(here) == f'{{"error": "the transfer failed: {why}; the caller is still on the line"}}'
    assert here.caller.heard.endswith(EXCUSED)
    assert not run_of(here).succeeded
    assert run_of(here).attended
    assert answered.hung_up == (["the consultation is over"] if target == "answers" else [])
    assert len(here.referred) == (target == "answers")


async def test_a_target_that_hangs_up_during_the_announcement_does_not_get_the_caller(
    autojump_clock: MockClock,
) -> None:
    target = paper_consultation()

    async def leave(here: Stage) -> None:
        await here.wait_consulted()
        await trio.sleep(1.3)
        target.events.tell(HungUp())
        await trio.sleep(20)

    here = await play(stage(target, JOINED), leave)
    assert here.referred == []
    assert "the other side hung up before the caller was connected" in told(here)
    assert 0 < len(here.target.heard) < len(ANNOUNCED)
    assert here.caller.heard.endswith(EXCUSED)


async def test_a_target_that_hangs_up_when_it_is_replaced_is_no_failure(autojump_clock: MockClock) -> None:
    target = paper_consultation()

    async def replace(here: Stage) -> None:
        while not here.referred:  # noqa: ASYNC110 - no event tells of it
            await trio.sleep(0.01)
        target.events.tell(HungUp())
        await trio.sleep(20)

    here = stage(target)
    here.leg.refer_takes = 1.0
    here.leg.outcomes = [JOINED]
    await play(here, replace)
    assert here.over.ending is Ending.TRANSFERRED


@pytest.mark.parametrize("after", [0.2, 0.9, 1.4])
async def test_a_caller_who_hangs_up_meanwhile_takes_everything_down(autojump_clock: MockClock, after: float) -> None:
    target = paper_consultation()
    tasks = trio.lowlevel.current_statistics().tasks_living

    async def leave(here: Stage) -> None:
        await here.wait_consulted()
        await trio.sleep(after)

    here = await play(stage(target), leave)
    assert here.over.ending is Ending.CALLER_HUNG_UP
    assert here.referred == []
    assert target.hung_up == (["the consultation is over"] if after > here.leg.rings else [])
    assert run_of(here).ended_at is None
    for session in here.model.sessions:
        with trio.fail_after(5):
            await session.wait_closed()
    assert trio.lowlevel.current_statistics().tasks_living == tasks


async def test_a_bye_of_the_caller_while_the_refer_is_out_is_its_success(autojump_clock: MockClock) -> None:
    target = paper_consultation()

    async def leave(here: Stage) -> None:
        while not here.referred:  # noqa: ASYNC110 - no event tells of it
            await trio.sleep(0.01)

    here = await play(stage(target), leave)
    assert here.over.ending is Ending.TRANSFERRED
    assert target.hung_up == ["the consultation is over"]


# The caller waits


@pytest.mark.parametrize("music", [True, False])
async def test_the_caller_hears_the_hold_sound_meanwhile_and_not_after(autojump_clock: MockClock, music: bool) -> None:
    here = await play(stage(BUSY_TARGET), a_while, music=music)
    heard = here.caller.heard
    assert (MUSIC[:1] in heard) is music
    assert heard.endswith(EXCUSED)
    assert heard.count(MUSIC[:1]) / 8000 == pytest.approx(0.5 if music else 0.0, abs=0.05)


async def test_nothing_that_the_caller_does_meanwhile_makes_the_model_answer(autojump_clock: MockClock) -> None:
    async def press(here: Stage) -> None:
        await here.wait_consulted()
        here.leg.events.tell(DigitPressed("1", 100))
        here.leg.events.tell(DigitPressed("#", 100))
        await trio.sleep(30)

    here = await play(stage(None), press)
    assert [entry.digits for entry in here.over.digits] == ["1"]
    assert ANSWERED_KEYS[:160] not in here.caller.heard
    assert len(here.model.sessions[0].received("response.cancel")) == 1
    assert here.caller.heard.endswith(EXCUSED)


async def test_the_model_does_not_hear_the_caller_who_waits_not_even_after_a_hold(autojump_clock: MockClock) -> None:
    async def talk(here: Stage) -> None:
        await here.wait_consulted()
        await trio.sleep(0.1)
        (session, *_) = here.model.sessions
        before = len(session.received_audio)
        here.leg.events.tell(MediaChanged(attrs.evolve(here.leg.agreement, may_receive=False)))
        await trio.sleep(0.5)
        here.leg.events.tell(MediaChanged(here.leg.agreement))
        await trio.sleep(2.0)
        assert VOICE in session.received_audio[:before]
        assert len(session.received_audio) - before > 8 * 2000
        assert session.received_audio[before:].strip(b"\xff") == b""
        await trio.sleep(10.0)
        assert session.received_audio.endswith(VOICE)

    here = stage(None)
    here.caller.speaks = True
    await play(here, talk, settings=changed(turn_detection_type="none"))


# The announcement


async def test_without_an_announcer_the_transfer_goes_on(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    here = await play(stage(paper_consultation(), JOINED, announcer_faults=Faults(refuse_upgrade=503)), a_while)
    assert here.over.ending is Ending.TRANSFERRED
    assert here.target.heard == b""
    assert "transfer.unannounced" in caplog.text


@pytest.mark.parametrize("faults", [Faults(close_after_deltas=1), Faults(silent_upgrade=True)])
async def test_an_announcer_that_is_lost_or_never_comes_delays_the_transfer_only_for_so_long(
    autojump_clock: MockClock, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    here = await play(stage(paper_consultation(), JOINED, announcer_faults=faults), a_while)
    run = run_of(here)
    assert here.over.ending is Ending.TRANSFERRED
    assert run.ended_at is not None
    assert run.ended_at - run.started_at < here.leg.rings + ANNOUNCEMENT_SECONDS + 0.5
    assert "transfer.unannounced" in caplog.text


async def test_a_session_that_expires_does_not_cut_a_transfer_that_is_under_way(autojump_clock: MockClock) -> None:
    here = stage(paper_consultation(), JOINED, faults=Faults(expires_after_seconds=16.0))
    here.leg.rings = 8.0
    await play(here, a_while, settings=changed(reconnect=False, expiry_seconds=6.0))
    assert here.over.ending is Ending.TRANSFERRED
    assert here.target.heard == ANNOUNCED
