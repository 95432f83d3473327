"""The 180 that must arrive: PRACK (RFC 3262) acknowledged, late, lost, and in a race with who gives up."""

from __future__ import annotations

import math
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.sip.message import Response
from aivc.testing import CallRefused, Faults, PhoneCall, Say, scripted, speech
from scenarios.conftest import Dialect
from scenarios.world import DELAY, World, changed, open_world

pytestmark = pytest.mark.sip_only("100rel: OpenSIPS has none")

GREETING: Final = speech(0.5, pitch_hz=210.0)
HELLO: Final = scripted([[Say("Hello.", audio=GREETING)]])
SLOW: Final = Faults(session_updated_seconds=2.0)  # so long it rings
LONG: Final = Faults(session_updated_seconds=8.0)
NEVER: Final = Faults(session_updated_seconds=math.inf)
REQUIRED: Final = changed(sip={"reliable_provisional": "required"})
PATIENT: Final = changed(openai={"configure_seconds": 60.0})
FEW_SCHEDULES: Final = pytest.mark.parametrize("any_schedule", [0, 6, 11, 17], indirect=True)


def statuses(call: PhoneCall) -> list[int]:
    return [response.status for response in call.responses]


async def ringing(call: PhoneCall) -> Response:
    """The first 180."""
    while not (found := [response for response in call.responses if response.status == 180]):  # noqa: ASYNC110 - no event tells of it
        await trio.sleep(0.001)
    return found[0]


def rack(response: Response) -> tuple[tuple[str, str], ...]:
    """What a PRACK for it says."""
    return (("RAck", f"{response.header('RSeq')} {response.cseq}"),)


async def refusal(world: World, **more: Any) -> Response:
    with pytest.raises(CallRefused) as caught:
        async with world.dial(**more):
            pass
    return caught.value.response


async def test_a_caller_who_requires_it_acknowledges_one_180(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(HELLO, dialect=dialect, faults=SLOW) as world:
        async with world.dial(reliable="required") as call:
            await call.handset.wait_speech(0.1)
        assert statuses(call) == [100, 180, 200]
        ring = await ringing(call)
        assert ring.header("Require") == "100rel"
        assert 1 <= int(ring.header("RSeq")) < 2**31
        assert ring.header("Contact") == "<sip:192.0.2.1:5060>"
    assert world.record.ending is Ending.CALLER_HUNG_UP


@pytest.mark.parametrize("setting", ["off", "on", "required"])
async def test_a_caller_who_only_could_is_asked_only_if_the_settings_say_so(
    autojump_clock: MockClock, dialect: Dialect, setting: str
) -> None:
    settings = changed(sip={"reliable_provisional": setting})
    async with open_world(HELLO, settings=settings, dialect=dialect, faults=SLOW) as world:
        async with world.dial(reliable="supported") as call:
            pass
        is_reliable = (await ringing(call)).headers.get("RSeq") is not None
        assert is_reliable == (setting == "required")
        assert statuses(call) == [100, 180, 200]
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_caller_who_cannot_is_refused_where_it_is_required(autojump_clock: MockClock) -> None:
    async with open_world(HELLO, settings=REQUIRED, calls=0) as world:
        response = await refusal(world)
        assert (response.status, response.header("Require")) == (421, "100rel")
        assert world.media_sockets() == []
        assert world.model.sessions == []


async def test_a_caller_who_requires_what_is_off_is_told_so(autojump_clock: MockClock) -> None:
    async with open_world(HELLO, settings=changed(sip={"reliable_provisional": "off"}), calls=0) as world:
        response = await refusal(world, reliable="required")
        assert (response.status, response.header("Unsupported")) == (420, "100rel")
        assert world.model.sessions == []


@FEW_SCHEDULES
async def test_without_prack_the_180_is_repeated_and_the_call_refused_after_32_seconds(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(HELLO, settings=PATIENT, dialect=dialect, faults=NEVER) as world:
        began = trio.current_time()
        async with world.ring(reliable="required", prack=False) as call:
            with pytest.raises(CallRefused, match="504"):
                await call.wait_answer()
            assert trio.current_time() - began == pytest.approx(32.0 + 2 * DELAY)  # 64*T1
        assert statuses(call) == [100] + [180] * 7 + [504]  # after 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s
        assert len({response.header("RSeq") for response in call.responses if response.status == 180}) == 1
        assert world.session.closed == 1000
        assert world.media_sockets() == []
    assert (world.record.ending, world.record.detail) == (Ending.SIGNALLING_FAILED, "no PRACK came for the 180")
    assert world.record.answered_at is None


async def test_an_answer_does_not_wait_for_the_prack(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(HELLO, dialect=dialect, faults=SLOW) as world:
        async with world.dial(reliable="required", prack=False) as call:
            assert statuses(call) == [100, 180, 180, 180, 200]  # after 0.5 and 1.5 s
            await trio.sleep(5.0)
            late = await call.ask("PRACK", rack(await ringing(call)))
            assert late.status == 200  # it is good even now, RFC 3262 section 3
            assert (await call.ask("PRACK", rack(await ringing(call)))).status == 481
        assert statuses(call) == [100, 180, 180, 180, 200]  # and not repeated after the 200
        assert call.handset.speech_heard() == GREETING
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_prack_that_comes_late_ends_the_repetitions(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(HELLO, settings=PATIENT, dialect=dialect, faults=LONG) as world:
        async with world.ring(reliable="required", prack=False) as call:
            ring = await ringing(call)
            await trio.sleep(2.0)
            wrong = (("RAck", f"{int(ring.header('RSeq')) + 1} {ring.cseq}"),)
            assert (await call.ask("PRACK", wrong)).status == 481
            assert (await call.ask("PRACK", (("RAck", "one two"),))).status == 400
            assert (await call.ask("PRACK", rack(ring))).status == 200
            await call.wait_answer()
        assert statuses(call) == [100, 180, 180, 180, 200]
    assert world.record.ending is Ending.CALLER_HUNG_UP


async def test_a_network_that_loses_much_still_rings(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(HELLO, settings=PATIENT, dialect=dialect, faults=LONG) as world:
        async with world.ring(reliable="required") as call:
            await ringing(call)
            world.network.loss = 0.6  # of the PRACK, its 200, and the next 180s
            await trio.sleep(6.0)
            world.network.loss = 0.0
            await call.wait_answer()
        assert statuses(call)[-1] == 200
    assert world.record.ending is Ending.CALLER_HUNG_UP


@pytest.mark.parametrize("way", ["CANCEL", "BYE"])
@pytest.mark.parametrize("after", [0.0, DELAY, 2 * DELAY])
async def test_who_gives_up_as_the_phone_acknowledges_the_ringing_has_given_up(
    autojump_clock: MockClock, way: str, after: float
) -> None:
    async with open_world(HELLO, faults=NEVER) as world:
        async with world.ring(reliable="required") as call:
            await ringing(call)
            await trio.sleep(after)
            if way == "CANCEL":
                await call.cancel()
            else:
                assert (await call.ask("BYE")).status == 200
            with pytest.raises(CallRefused, match="487"):
                await call.wait_answer()
            await trio.sleep(3.0)
        assert statuses(call) == [100, 180, 487]
        assert world.media_sockets() == []
    assert world.record.ending is Ending.CALLER_CANCELLED


async def test_who_gives_up_without_any_prack_is_not_rung_any_more(autojump_clock: MockClock) -> None:
    async with open_world(HELLO, faults=NEVER) as world:
        async with world.ring(reliable="required", prack=False) as call:
            await trio.sleep(2.0)
            await call.cancel()
            with pytest.raises(CallRefused, match="487"):
                await call.wait_answer()
            await trio.sleep(8.0)
        assert statuses(call) == [100, 180, 180, 180, 487]
    assert world.record.ending is Ending.CALLER_CANCELLED


async def test_an_invite_without_an_offer_that_requires_it_rings_in_silence_and_is_answered(
    autojump_clock: MockClock, dialect: Dialect
) -> None:
    async with open_world(HELLO, dialect=dialect, faults=SLOW) as world:
        async with world.dial(reliable="required", late_offer=True) as call:
            await call.handset.wait_speech()
            await call.handset.wait_silence(0.3)
        assert statuses(call) == [100, 200]
        assert call.handset.speech_heard() == GREETING
    assert world.record.ending is Ending.CALLER_HUNG_UP
