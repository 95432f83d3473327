"""An error event of every code that is known: which of them the caller notices, and what the record has of it."""

from __future__ import annotations

from typing import Final

import pytest
import trio
from trio.testing import MockClock

from aivc import Ending
from aivc.realtime.errors import CODES, ErrorKind
from aivc.testing import PhoneCall, Say, scripted, speech
from scenarios.barge_in import SHORT, requests
from scenarios.conftest import Dialect
from scenarios.patience import YES, hear_out
from scenarios.world import World, changed, open_world

WORDS: Final = speech(0.6, seed=5)


async def complain(world: World, call: PhoneCall, code: str) -> None:
    """An error about nothing that we sent, in the middle of a talk."""
    await hear_out(call)
    error = {"type": "invalid_request_error", "code": code, "message": "No.", "param": None, "event_id": None}
    world.session.send({"type": "error", "error": error})


FATAL: Final = CODES[ErrorKind.FATAL]
OTHERS: Final = [(kind, code) for kind, codes in CODES.items() if kind is not ErrorKind.FATAL for code in codes]
OTHERS_TOO: Final = [*OTHERS, (ErrorKind.OTHER, "never_heard_of"), (ErrorKind.BENIGN, "item_truncate_anything")]
TALK: Final = scripted([[Say("Hello.", audio=SHORT)], [Say("Yes?", audio=YES)]])
# Fifty codes: one order of tasks in each dialect.
pytestmark = pytest.mark.parametrize("any_schedule", [0, 1], indirect=True)


@pytest.mark.parametrize(("kind", "code"), OTHERS_TOO, ids=[code for _, code in OTHERS_TOO])
async def test_an_error_that_is_not_fatal_disturbs_nobody_and_is_counted(
    autojump_clock: MockClock, dialect: Dialect, kind: ErrorKind, code: str
) -> None:
    async with open_world(TALK, dialect=dialect) as world:
        async with world.dial() as call:
            await complain(world, call, code)
            call.handset.say(WORDS)
            await hear_out(call)
            await call.handset.wait_silence(1.0)
        assert call.handset.speech_heard() == SHORT + YES
        assert len(requests(world.session)) == 1
    assert world.record.ending is Ending.CALLER_HUNG_UP
    assert world.record.realtime_errors == {code: 1}
    assert world.record.errors_by_kind == {kind.value: 1}


@pytest.mark.parametrize("code", FATAL)
async def test_an_error_that_is_fatal_ends_the_call_and_is_counted(
    autojump_clock: MockClock, dialect: Dialect, code: str
) -> None:
    settings = changed(openai={"reconnect": False})
    async with open_world(TALK, settings=settings, dialect=dialect) as world, world.dial() as call:
        await complain(world, call, code)
        told_at = trio.current_time()
        assert await call.wait_hung_up() - told_at < 0.1
    expired = code == "session_expired"
    assert world.record.ending is (Ending.REALTIME_EXPIRED if expired else Ending.REALTIME_FATAL)
    assert world.record.realtime_errors == {code: 1}
    assert world.record.errors_by_kind == {ErrorKind.FATAL.value: 1}
