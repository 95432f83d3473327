"""Transfers by REFER as real telephones take them: SIPp by the letter, baresip and PJSIP by calling the target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import trio

from aivc.sip.leg import HungUp, ReferOutcome, Rejection
from interop import baresip, pjsip, sipp
from interop.exchange import open_exchange
from interop.phone import Make
from interop.sipp import played
from interop.sipp_scenario import answered, expect, expect_request, notify, of_dialog, pause, scenario

pytestmark = pytest.mark.interop

LONGEST_SECONDS = 30.0
REFER_SECONDS = 5.0
SILENCE_SECONDS = 1.5
TARGET, BY = "sip:200@127.0.0.1:5999", "sip:1000@127.0.0.1"
MAKES: Mapping[str, Make] = {"baresip": baresip, "pjsip": pjsip}

REFERRED = {  # what every REFER of ours must have; SIPp fails the call otherwise
    "Refer_To": "^ *.sip:200@127\\\\.0\\\\.0\\\\.1:5999.$",
    "Referred_By": "^ *.sip:1000@127\\\\.0\\\\.0\\\\.1.$",
    "Contact": "^ *.sip:127\\\\.0\\\\.0\\\\.1:[0-9]+.$",
    "CSeq": "^ *1 REFER$",
}
needs_sipp = pytest.mark.skipif(sipp.missing() is not None, reason=str(sipp.missing()))


def referred(status_line: str | None) -> str:
    return answered("PCMU") + expect_request("REFER", status_line, **REFERRED)


TRYING = notify(2, "100 Trying", "active;expires=60") + expect(200)
BYE_FROM_US = expect_request("BYE")
STILL_ALIVE = of_dialog("OPTIONS", 9) + expect(200)


@needs_sipp
@pytest.mark.parametrize(
    ("steps", "outcome"),
    [
        pytest.param(
            referred("202 Accepted") + TRYING + notify(3, "200 OK", "terminated;reason=noresource") + expect(200),
            ReferOutcome(200, "OK", True),
            id="success",
        ),
        pytest.param(
            referred("202 Accepted")
            + TRYING
            + notify(3, "486 Busy Here", "terminated;reason=noresource")
            + expect(200)
            + STILL_ALIVE,
            ReferOutcome(486, "Busy Here", True),
            id="busy",
        ),
        pytest.param(referred("603 Decline") + STILL_ALIVE, ReferOutcome(603, "Decline"), id="refused"),
        pytest.param(
            referred("202 Accepted") + pause(SILENCE_SECONDS) + STILL_ALIVE,
            ReferOutcome(None, "no answer", True),
            id="silence",
        ),
    ],
)
async def test_the_outcome_is_what_the_telephone_tells_and_then_we_hang_up(
    tmp_path: Path, steps: str, outcome: ReferOutcome
) -> None:
    seconds = SILENCE_SECONDS / 2 if outcome.text == "no answer" else REFER_SECONDS
    with trio.fail_after(LONGEST_SECONDS):
        async with open_exchange() as exchange:

            async def serve() -> None:
                call = await exchange.answer()
                assert await call.leg.refer(TARGET, BY, seconds) == outcome
                await trio.sleep(SILENCE_SECONDS)
                await call.leg.hang_up("over")

            exchange.nursery.start_soon(serve)
            assert await played(exchange.uri, scenario(steps + BYE_FROM_US), tmp_path) == ""


@needs_sipp
async def test_a_telephone_that_hangs_up_right_after_the_202_has_accepted(tmp_path: Path) -> None:
    steps = (
        referred("202 Accepted") + of_dialog("BYE", 2) + expect(200) + notify(3, "200 OK", "terminated") + expect(481)
    )
    with trio.fail_after(LONGEST_SECONDS):
        async with open_exchange() as exchange:

            async def serve() -> None:
                call = await exchange.answer()
                outcome = await call.leg.refer(TARGET, BY, REFER_SECONDS)
                assert outcome == ReferOutcome(None, "the caller hung up", True)
                assert [event async for event in call.leg.events] == [HungUp()]

            exchange.nursery.start_soon(serve)
            assert await played(exchange.uri, scenario(steps), tmp_path) == ""


@needs_sipp
async def test_a_notify_without_a_refer_and_a_refer_to_us_are_refused(tmp_path: Path) -> None:
    steps = answered("PCMU") + notify(2, "200 OK", "terminated") + expect(481)
    steps += of_dialog("REFER", 3, "", "", "Refer-To: <sip:x@127.0.0.1:5999>") + expect(603)
    steps += of_dialog("NOTIFY", 4, "", "", "Event: talk") + expect(489, Allow_Events="refer") + BYE_FROM_US
    with trio.fail_after(LONGEST_SECONDS):
        async with open_exchange() as exchange:

            async def serve() -> None:
                call = await exchange.answer()
                await trio.sleep(SILENCE_SECONDS)
                await call.leg.hang_up("over")

            exchange.nursery.start_soon(serve)
            assert await played(exchange.uri, scenario(steps), tmp_path) == ""


async def transferred(make: Make, folder: Path, *, busy: bool) -> ReferOutcome:
    """Have a telephone call us, send it to a target beside us, and hang up; how it went."""
    if (reason := make.missing()) is not None:
        pytest.skip(reason)
    with trio.fail_after(LONGEST_SECONDS):
        async with open_exchange() as exchange, open_exchange() as target:

            async def be_called() -> None:
                if busy:
                    await (await target.agent.legs.receive()).reject(Rejection(486, "busy"))
                else:
                    await (await target.answer()).handset.wait_speech()

            async with make.call(exchange.uri, "PCMU", folder, hangs_up=True):
                call = await exchange.answer()
                await call.handset.wait_speech(0.1)
                target.nursery.start_soon(be_called)
                outcome = await call.leg.refer(target.uri, BY, REFER_SECONDS)
                await call.leg.hang_up("over")
    return outcome


@pytest.mark.parametrize("name", MAKES)
async def test_a_telephone_calls_the_target_and_tells_of_its_answer(tmp_path: Path, name: str) -> None:
    assert await transferred(MAKES[name], tmp_path, busy=False) == ReferOutcome(200, "OK", True)


@pytest.mark.parametrize("name", MAKES)
async def test_a_telephone_tells_that_the_target_is_busy(tmp_path: Path, name: str) -> None:
    assert await transferred(MAKES[name], tmp_path, busy=True) == ReferOutcome(486, "Busy Here", True)
