"""The keys that a caller presses, collected to entries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import pytest
import trio
from call_parts import Parts, parts
from trio.testing import MockClock

from aivc.config.settings import DtmfSettings
from aivc.nursery.entries import LONGEST_ENTRY, Entries, Source
from aivc.nursery.ground import Progress
from aivc.nursery.keys import KEYS, KEYS_PER_SECOND, Keypad
from aivc.nursery.record import DigitEntry, DigitsEntered
from aivc.realtime.effects import Play
from aivc.realtime.events import ResponseCreated

PAUSE = 2.0  # seconds, the default
Key = tuple[float, str]  # when, since the beginning, and which

# how long after the one before, which key, by what: the second is an echo, the others were pressed
KEYS_BOTH_WAYS: Final[tuple[tuple[float, str, Source], ...]] = (
    (0.0, "1", "info"),
    (0.05, "1", "rtp"),
    (0.1, "1", "rtp"),
    (0.2, "2", "info"),
    (1.0, "3", "rtp"),
)


async def entered(keys: Iterable[Key], source: Source = "rtp", given: Parts | None = None, **dtmf: Any) -> Parts:
    """Press keys, and wait long enough for the last entry to be complete; `given.performer.turns` has them."""
    given = given or parts()
    began = trio.current_time()
    given.performer.entries = Entries(DtmfSettings(**dtmf))
    keypad = keypad_of(given)
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(given.performer.alarm.ring, trio.Event())
            with given.performer.alarm.watching(nursery, given.performer):
                for at, key in keys:
                    await trio.sleep_until(began + at)
                    keypad.press(key, source)
                await trio.sleep(10)
            nursery.cancel_scope.cancel()
    return given


def keypad_of(given: Parts) -> Keypad:
    return Keypad(Progress(0.0, turns=given.performer.turns, performer=given.performer))


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
    (told,) = [each for each in given.told if isinstance(each.what, DigitsEntered)]
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
    waiting, keypad = [], keypad_of(given)
    for key in "12":
        keypad.press(key, "rtp")
        waiting.append(playout.waiting_octets)
        given.performer.perform([Play("r2", "i2", b"x" * 160)])
    assert waiting == [0, 160]


async def test_keys_are_nobodys_business_when_that_is_set(autojump_clock: MockClock) -> None:
    given = parts()
    given.performer.perform([Play("r1", "i1", b"x" * 1600)])
    await entered(at_once("4711#"), given=given, enabled=False)
    assert given.performer.turns.digits == []
    assert given.performer.playout.waiting_octets == 1600
    assert given.sent == []


async def test_keys_that_nobody_collects_fill_no_memory_and_are_counted(autojump_clock: MockClock) -> None:
    given, progress = parts(), Progress(0.0)
    keypad = Keypad(progress)
    for _ in range(KEYS + 1):
        await trio.sleep(1)
        keypad.press("1", "rtp")
    assert (len(keypad.waiting), progress.turns.dropped_keys) == (KEYS, 1)
    progress.performer = given.performer
    keypad.pass_on()
    assert keypad.waiting == []
    assert given.performer.turns.digits == [DigitEntry("1" * KEYS, trio.current_time(), "rtp")]


@pytest.mark.parametrize("source", ["rtp", "info"])
async def test_a_flood_of_keys_is_cut_off_and_counted(autojump_clock: MockClock, source: Source) -> None:
    """Each key may be an entry, and so a response that somebody pays for."""
    seconds, flood = 4, 1000
    keys = [(second, "1") for second in range(seconds + 1) for _ in range(flood)]
    turns = (await entered(keys, source)).performer.turns
    passed = KEYS + round(KEYS_PER_SECOND * seconds)
    assert sum(len(entry.digits) for entry in turns.digits) == passed
    assert turns.dropped_keys == flood * (seconds + 1) - passed


async def test_a_memory_of_the_telephones_may_press_an_entry_in_no_time(autojump_clock: MockClock) -> None:
    given = await entered([(0.0, key) for key in "0123456789" * 6 + "#"])
    assert [entry.digits for entry in given.performer.turns.digits] == ["0123456789" * 6]
    assert given.performer.turns.dropped_keys == 0


async def test_a_key_that_comes_by_info_and_then_by_rtp_is_one_key(mock_clock: MockClock) -> None:
    keypad = Keypad(Progress(0.0))
    for wait, digit, source in KEYS_BOTH_WAYS:
        mock_clock.jump(wait)
        keypad.press(digit, source)
    assert "".join(digit for digit, _ in keypad.waiting) == "1123"
