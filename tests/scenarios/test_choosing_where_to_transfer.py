"""Where the model may send a caller: to configured names, and to numbers that are allowed."""

from __future__ import annotations

from typing import Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Settings
from aivc.testing import Transfers, scripted
from scenarios.conftest import Dialect
from scenarios.test_being_transferred import (
    SALES,
    SETTINGS,
    SUPPORT,
    announcing,
    check_transferred,
    error,
    hear_failure,
    transfer,
)
from scenarios.world import changed, open_world

ALLOWING: Final = changed(SETTINGS, openai={"transfer_allow": ("[+]49[0-9]+", "sip:[0-9]{3}@example[.]com")})
PLACES: Final = [
    (SETTINGS, "sales", SALES),
    (SETTINGS, " Sales ", SALES),
    (SETTINGS, "", SUPPORT),
    (ALLOWING, "+49 (30) 123-45", "sip:+493012345@example.com"),
    (ALLOWING, "sip:123@example.com", "sip:123@example.com"),
]


@pytest.mark.parametrize("any_schedule", [0, 7, 12, 19], indirect=True)  # which place does not change the order
@pytest.mark.parametrize(("settings", "target", "uri"), PLACES)
async def test_the_model_may_say_where_to(
    autojump_clock: MockClock, dialect: Dialect, settings: Settings, target: str, uri: str
) -> None:
    async with open_world(announcing(transfer(target)), settings=settings, dialect=dialect) as world:
        async with world.dial(transfers=Transfers()) as call:
            await call.wait_hung_up()
        assert call.referrals[0].refer_to == uri
    check_transferred(world.record, uri)


NOWHERE: Final = "there is sales, the usual place, if you name none"
NO_NUMBER: Final = "that is not a telephone number or SIP URI"
REFUSED: Final = [
    (SETTINGS, "billing", f"'billing' is no place to transfer to; {NOWHERE}"),
    (SETTINGS, "+4930123", f"'+4930123' is no place to transfer to; {NOWHERE}"),
    (ALLOWING, "+1900123", f"'+1900123' may not be called; {NOWHERE}, some telephone numbers or SIP URIs"),
    (ALLOWING, "+4930123\r\nX: y", NO_NUMBER),
    (ALLOWING, "sip:123@example.com?Route=%3Csip:evil%3E", NO_NUMBER),
    (ALLOWING, "<sip:123@example.com>", NO_NUMBER),
    (ALLOWING, 'sip:"123"@example.com', NO_NUMBER),
]


@pytest.mark.parametrize("any_schedule", [0, 7, 12, 19], indirect=True)  # which place does not change the order
@pytest.mark.parametrize(("settings", "target", "why"), REFUSED)
async def test_the_model_may_not_send_the_caller_anywhere(
    autojump_clock: MockClock, dialect: Dialect, settings: Settings, target: str, why: str
) -> None:
    async with open_world(announcing(transfer(target)), settings=settings, dialect=dialect) as world:
        await hear_failure(world, Transfers(), why, referred=False)
    assert world.record.transfers == ()


async def test_nowhere_to_go_is_no_function_to_go_there(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(announcing(transfer("sales")), dialect=dialect) as world:
        async with world.dial(transfers=Transfers()) as call:
            await world.session.wait_sent("response.done", count=2)
        (update, *_) = world.session.received("session.update")
        assert "transfer_call" not in {tool["name"] for tool in update["session"]["tools"]}
        assert error(world.session).startswith("there is no tool 'transfer_call'")
        assert call.referrals == []


async def test_the_model_is_told_where_it_may_transfer_to(autojump_clock: MockClock, dialect: Dialect) -> None:
    async with open_world(scripted([[]]), settings=SETTINGS, dialect=dialect) as world:
        async with world.dial():
            await trio.sleep(0.5)
        (update, *_) = world.session.received("session.update")
        (schema,) = [tool["parameters"] for tool in update["session"]["tools"] if tool["name"] == "transfer_call"]
        assert schema["properties"]["target"]["enum"] == ["sales"]
        assert schema["required"] == []
