"""Every setting about attended transfers, header fields of the INVITE, and how many calls are taken and kept."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
import pytest
import trio
from call_parts import keep_within, rtp_stream
from consultation_parts import SETTINGS, Stage, a_while, play, stage
from paper_leg import PaperLeg, paper_consultation, paper_leg
from settings_shown import shows
from test_admission import brought, open_idle
from trio.testing import MockClock

from aivc import CallRecord, Ending, RtpSettings, Settings, SipSettings, serve_call
from aivc.media.clock import TaskClock
from aivc.nursery.causes import until_over
from aivc.nursery.watch import Limits
from aivc.sip.leg import HungUp, ReferOutcome
from aivc.testing import FakeModel, Say, VirtualNetwork, connect_to, scripted

JOINED = ReferOutcome(200, "OK", accepted=True)


def changed(**openai: Any) -> Settings:
    return attrs.evolve(SETTINGS, openai=attrs.evolve(SETTINGS.openai, **openai))


def consulted(here: Stage) -> bool:
    return any(isinstance(done, tuple) and done[0] == "consult" for done in here.leg.did)


@shows("openai.transfer_attended")
@pytest.mark.parametrize("attended", [True, False])
async def test_the_target_of_a_transfer_is_called_first_or_not(autojump_clock: MockClock, attended: bool) -> None:
    here = await play(stage(paper_consultation(), JOINED), a_while, settings=changed(transfer_attended=attended))
    assert here.over.ending is Ending.TRANSFERRED
    assert consulted(here) is (here.leg.replaced is not None) is attended
    assert len(here.model.sessions) == 1 + attended


@shows("openai.transfer_ring_seconds")
@pytest.mark.parametrize("seconds", [3.0, 12.0])
async def test_the_target_may_ring_for_so_long(autojump_clock: MockClock, seconds: float) -> None:
    here = await play(stage(None), a_while, settings=changed(transfer_ring_seconds=seconds))
    (run,) = here.over.transfers
    assert run.ended_at is not None
    assert run.ended_at - run.started_at == pytest.approx(seconds, abs=0.05)


@shows("openai.transfer_announcement")
async def test_the_target_is_told_what_the_setting_says(autojump_clock: MockClock) -> None:
    settings = changed(transfer_announcement="Say only: a call for you.")
    here = await play(stage(paper_consultation(), JOINED), a_while, settings=settings)
    (asked,) = here.model.sessions[1].received("response.create")
    assert asked["response"]["instructions"].startswith("Say only: a call for you.\n\n")


async def called(leg: PaperLeg, settings: Settings) -> tuple[CallRecord, FakeModel]:
    """A call of two seconds."""
    VirtualNetwork().enable()
    model = FakeModel(scripted([[Say("Hello.", seconds=1.0)]]), require_key=False)

    async def hang_up() -> None:
        await trio.sleep(2.0)
        leg.events.tell(HungUp())

    with trio.fail_after(30):
        async with model, trio.open_nursery() as nursery:
            nursery.start_soon(hang_up)
            record = await serve_call(leg, settings, connect=connect_to(model), clock=TaskClock())
    return record, model


@shows("sip.pass_headers")
@pytest.mark.parametrize("names", [(), ("X-Customer", "X-None")])
async def test_chosen_header_fields_are_in_the_record_and_in_what_the_model_is_told(
    autojump_clock: MockClock, names: tuple[str, ...]
) -> None:
    leg = paper_leg()
    leg.headers = {"x-customer": "Müller\x07\x1b[0m", "x-other": "secret"}
    text = "Caller {{caller}}, customer <{{header.X-Customer}}>, <{{header.X-None}}>, number {{dialled}}."
    openai = attrs.evolve(SETTINGS.openai, instructions=text, welcome_message="Hello {{header.X-Customer}}.")
    record, model = await called(leg, attrs.evolve(SETTINGS, openai=openai, sip=SipSettings(pass_headers=names)))
    (session,) = model.sessions
    (greeting,) = session.received("response.create")
    told = session.session["instructions"]
    assert told.startswith("Caller sip:alice@192.0.2.9, customer <")
    assert told.endswith(", number 1000.")
    assert ("customer <Müller[0m>, <>" in told) is bool(names)
    assert ("Hello Müller[0m." in greeting["response"]["instructions"]) is bool(names)
    assert record.headers == ({"X-Customer": "Müller[0m"} if names else {})


@shows("service.calls_per_second")
@pytest.mark.parametrize(("rate", "taken"), [(2.0, 2), (5.0, 5), (0.0, 50)])
async def test_so_many_calls_are_taken_at_once(autojump_clock: MockClock, rate: float, taken: int) -> None:
    legs = [attrs.evolve(paper_leg(), call_id=str(number)) for number in range(50)]
    settings = attrs.evolve(SETTINGS, service=attrs.evolve(SETTINGS.service, calls_per_second=rate))
    async with open_idle(settings) as service:
        await brought(service, legs)
        assert service.refused == 50 - taken
    assert [bool(leg.did) for leg in legs] == [False] * taken + [True] * (50 - taken)


@shows("rtp.hold_timeout_seconds")
@pytest.mark.parametrize("seconds", [0.0, 5.0, 90.0])
async def test_a_caller_on_hold_who_shows_no_sign_of_life_is_given_up(
    autojump_clock: MockClock, seconds: float
) -> None:
    rtp, began = RtpSettings(timeout_seconds=1.0, hold_timeout_seconds=seconds), trio.current_time()
    settings = attrs.evolve(SETTINGS, rtp=rtp, service=attrs.evolve(SETTINGS.service, max_call_seconds=200.0))
    stream = rtp_stream(began, rtp)
    stream.expects_audio = False
    with trio.fail_after(300):
        over = await until_over(partial(keep_within, Limits(stream, settings)))
    assert over is not None
    assert over.ending is (Ending.MEDIA_TIMEOUT if seconds else Ending.MAX_DURATION)
    assert trio.current_time() - began == pytest.approx(seconds or 200.0)
