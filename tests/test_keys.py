"""The keys that a caller presses, collected to entries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import trio
from call_parts import Parts, parts
from trio.testing import MockClock

from aivc.config.settings import DtmfSettings
from aivc.nursery.keys import KEYS, LONGEST_ENTRY, Pressed, Source, collect_digits, press
from aivc.nursery.record import DigitEntry
from aivc.realtime.effects import Play
from aivc.realtime.events import ResponseCreated

PAUSE = 2.0  # seconds, the default
Key = tuple[float, str]  # when, since the beginning, and which


async def entered(keys: Iterable[Key], source: Source = "rtp", given: Parts | None = None, **dtmf: Any) -> Parts:
    """Press keys, and wait long enough for the last entry to be complete; `given.performer.turns` has them."""
    given = given or parts()
    began = trio.current_time()
    send, receive = trio.open_memory_channel[Pressed](KEYS)
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect_digits, receive, DtmfSettings(**dtmf), given.performer)
            for at, key in keys:
                await trio.sleep_until(began + at)
                press(key, source, send)
            await trio.sleep(10)
            nursery.cancel_scope.cancel()
    return given


async def entries(keys: Iterable[Key], **dtmf: Any) -> list[str]:
    given = await entered(keys, **dtmf)
    return [entry.digits for entry in given.performer.turns.digits]


def at_once(keys: str) -> list[Key]:
    return [(0.1 * number, key) for number, key in enumerate(keys)]


async def test_an_entry_ends_with_its_finishing_key_which_is_not_told(autojump_clock: MockClock) -> None:
    assert await entries(at_once("4711#")) == ["4711"]
    assert await entries(at_once("12#34#")) == ["12", "34"]
    assert await entries(at_once("12*34#"), finish="*#") == ["12", "34"]


async def test_the_finishing_key_alone_is_an_entry_too(autojump_clock: MockClock) -> None:
    assert await entries(at_once("#")) == ["#"]
    assert await entries(at_once("12##")) == ["12", "#"]


async def test_without_finishing_keys_only_a_pause_ends_an_entry(autojump_clock: MockClock) -> None:
    assert await entries(at_once("12#3"), finish="") == ["12#3"]


@pytest.mark.parametrize(("gap", "expected"), [(PAUSE - 0.1, ["12"]), (PAUSE + 0.1, ["1", "2"])])
async def test_an_entry_ends_with_a_pause(autojump_clock: MockClock, gap: float, expected: list[str]) -> None:
    assert await entries([(0.0, "1"), (gap, "2")]) == expected


async def test_an_entry_is_told_when_it_is_complete_with_the_time_of_its_first_key(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    given = await entered(at_once("12"), source="info")
    assert given.performer.turns.digits == [DigitEntry("12", began, "info")]
    (told,) = given.told
    assert told.at - began == pytest.approx(0.1 + PAUSE)


async def test_an_entry_has_an_end_and_what_follows_is_the_next(autojump_clock: MockClock) -> None:
    keys = [(0.05 * number, str(number % 10)) for number in range(LONGEST_ENTRY + 3)]
    first, second = await entries(keys)
    assert len(first) == LONGEST_ENTRY
    assert first + second == "".join(key for _, key in keys)


async def test_the_first_key_interrupts_the_model_and_the_others_do_not(autojump_clock: MockClock) -> None:
    given = parts()
    playout = given.performer.playout
    given.performer.handle(ResponseCreated("r1"))
    given.performer.perform([Play("r1", "i1", b"x" * 1600)])
    began, waiting = trio.current_time(), []
    send, receive = trio.open_memory_channel[Pressed](KEYS)
    with trio.move_on_after(1.0):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect_digits, receive, DtmfSettings(), given.performer)
            for key in "12":
                press(key, "rtp", send)
                await trio.sleep_until(trio.current_time() + 0.1)
                waiting.append(playout.waiting_octets)
                given.performer.perform([Play("r2", "i2", b"x" * 160)])
            nursery.cancel_scope.cancel()
    assert waiting == [0, 160]
    assert trio.current_time() - began == pytest.approx(0.2)


async def test_keys_are_nobodys_business_when_that_is_set(autojump_clock: MockClock) -> None:
    given = parts()
    given.performer.perform([Play("r1", "i1", b"x" * 1600)])
    await entered(at_once("4711#"), given=given, enabled=False)
    assert given.performer.turns.digits == []
    assert given.performer.playout.waiting_octets == 1600
    assert given.sent == []


def test_keys_that_nobody_collects_fill_no_memory() -> None:
    send, receive = trio.open_memory_channel[Pressed](KEYS)
    for _ in range(KEYS + 1):
        press("1", "rtp", send)
    assert receive.statistics().current_buffer_used == KEYS
