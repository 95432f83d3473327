"""Keys as real telephones send and take them: RFC 4733 events of baresip and PJSIP, INFO of PJSIP and SIPp."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from aivc.sip.leg import DigitPressed
from interop import baresip, pjsip, sipp
from interop.exchange import Answered, open_exchange
from interop.phone import GAP_SECONDS, Make, RealPhone
from interop.sipp import played
from interop.sipp_scenario import answered, expect, expect_request, info_key, of_dialog, scenario

pytestmark = pytest.mark.interop

LONGEST_SECONDS = 30.0
KEYS = "42#"
LONGEST_KEY_MS = 400
MAKES: Mapping[str, Make] = {"baresip": baresip, "pjsip": pjsip}


@pytest.mark.skipif(sipp.missing() is not None, reason=str(sipp.missing()))
async def test_sipp_tells_of_keys_by_info_and_hears_what_is_none(tmp_path: Path) -> None:
    steps = (
        answered("PCMU") + info_key(2, "4") + expect(200) + of_dialog("INFO", 3, "11", "application/dtmf") + expect(200)
    )
    steps += of_dialog("INFO", 4) + expect(200) + info_key(5, "no key") + expect(400)
    steps += of_dialog("INFO", 6, "x", "text/plain") + expect(415, Accept="application/dtmf") + expect_request("BYE")
    with trio.fail_after(LONGEST_SECONDS):
        async with open_exchange() as exchange:

            async def serve() -> None:
                call = await exchange.answer()
                assert await call.leg.events.receive() == DigitPressed("4", 160)
                assert await call.leg.events.receive() == DigitPressed("#", 100)
                await trio.sleep(GAP_SECONDS)
                await call.leg.hang_up("over")

            exchange.nursery.start_soon(serve)
            assert await played(exchange.uri, scenario(steps), tmp_path) == ""


@asynccontextmanager
async def talking(name: str, folder: Path) -> AsyncIterator[tuple[RealPhone, Answered]]:
    """A call of a telephone, with audio both ways."""
    make = MAKES[name]
    if (reason := make.missing()) is not None:
        pytest.skip(reason)
    with trio.fail_after(LONGEST_SECONDS):
        async with open_exchange() as exchange, make.call(exchange.uri, "PCMU", folder, hangs_up=True) as phone:
            call = await exchange.answer()
            await call.handset.wait_speech(0.5)
            yield phone, call
            await call.leg.hang_up("over")


@pytest.mark.parametrize("name", MAKES)
async def test_a_telephone_presses_keys_as_rtp_events(tmp_path: Path, name: str) -> None:
    async with talking(name, tmp_path) as (phone, call):
        assert call.leg.agreement.telephone_event is not None
        await phone.press(KEYS)
        await call.handset.wait_digits(len(KEYS))
        await trio.sleep(GAP_SECONDS)  # for the repeated ends of the last one
        heard = call.handset.digits_heard()
    assert [key.digit for key in heard] == list(KEYS)
    assert all(0 < key.duration_ms <= LONGEST_KEY_MS for key in heard)
    assert all(key.ends == 3 for key in heard)


async def test_pjsip_tells_of_keys_by_info(tmp_path: Path) -> None:
    async with talking("pjsip", tmp_path) as (phone, call):
        await phone.program.type(f"info {KEYS}")
        events = [await call.leg.events.receive() for _ in KEYS]
    assert [event.digit for event in events if isinstance(event, DigitPressed)] == list(KEYS)


@pytest.mark.parametrize("name", MAKES)
async def test_what_the_test_handset_presses_a_telephone_takes(tmp_path: Path, name: str) -> None:
    async with talking(name, tmp_path) as (phone, call):
        call.handset.press(KEYS)
        await phone.wait_keys(KEYS)
