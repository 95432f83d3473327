"""A caller who waits for a slow tool gets a sign of life: one, and not over the model's own words."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from paper_control import PaperControl
from trio.testing import MockClock

from aivc.config.settings import OpenAISettings
from aivc.nursery.ending import CallOver, Ending
from aivc.nursery.filler import NEXT_LOOK, Filler

SAID = ("say", OpenAISettings().filler_message)


@attrs.define
class Speaker:
    is_speaking: bool = False


@attrs.define(eq=False)
class TimedControl(PaperControl):
    """Notes when something is said, too."""

    times: list[float] = attrs.field(factory=list)

    def say(self, instructions: str) -> None:
        PaperControl.say(self, instructions)
        self.times.append(trio.current_time())


def filler(control: PaperControl, speaker: Speaker | None = None, **given: Any) -> Filler:
    return Filler(OpenAISettings(**{"filler_after_ms": 1500} | given), control, speaker or Speaker())


async def work(fillers: Filler, seconds: float, after: float = 0.0) -> None:
    """A tool that takes so long."""
    await trio.sleep(after)
    async with fillers.while_running():
        await trio.sleep(seconds)


async def together(fillers: Filler, *tools: tuple[float, float]) -> None:
    """Tools of (duration, start)."""
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for seconds, after in tools:
                nursery.start_soon(work, fillers, seconds, after)


async def test_a_slow_tool_gets_one_sentence_and_a_fast_one_none(autojump_clock: MockClock) -> None:
    control, began = TimedControl(), trio.current_time()
    fillers = filler(control)
    await together(fillers, (1.4, 0.0))
    assert control.done == []
    await together(fillers, (10.0, 0.0))
    assert control.done == [SAID]
    assert control.times == [pytest.approx(began + 1.4 + 1.5)]


async def test_tools_side_by_side_get_one_sentence_and_the_next_wait_another(autojump_clock: MockClock) -> None:
    control = PaperControl()
    fillers = filler(control)
    await together(fillers, (5.0, 0.0), (5.0, 0.0), (5.0, 2.0))
    assert control.done == [SAID]
    await together(fillers, (5.0, 0.0))
    assert control.done == [SAID, SAID]


async def test_it_waits_until_the_model_has_finished_speaking(autojump_clock: MockClock) -> None:
    control, speaker, began = TimedControl(), Speaker(True), trio.current_time()

    async def finish() -> None:
        await trio.sleep(3.0)
        speaker.is_speaking = False

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(finish)
            nursery.start_soon(work, filler(control, speaker), 5.0)
    assert control.times == [pytest.approx(began + 3.0, abs=NEXT_LOOK + 0.01)]
    control = TimedControl()
    await together(filler(control, Speaker(True)), (5.0, 0.0))
    assert control.done == []


async def test_the_hold_sound_lasts_while_any_slow_tool_runs(autojump_clock: MockClock) -> None:
    control, began = PaperControl(), trio.current_time()
    await together(filler(control, filler="sound"), (4.0, 0.0), (4.0, 1.0), (1.0, 0.0))
    assert control.done == [
        ("start_hold_sound", pytest.approx(began + 1.5)),
        ("stop_hold_sound", pytest.approx(began + 5.0)),
    ]


async def test_the_hold_sound_ends_when_the_tool_is_cancelled(autojump_clock: MockClock) -> None:
    control, began = PaperControl(), trio.current_time()
    with trio.move_on_after(2.0):
        await together(filler(control, filler="sound"), (10.0, 0.0))
    assert control.done[-1] == ("stop_hold_sound", pytest.approx(began + 2.0))


async def test_the_end_of_the_call_passes_through(autojump_clock: MockClock) -> None:
    class Stuck(PaperControl):
        def say(self, instructions: str) -> None:
            raise CallOver(Ending.REALTIME_STUCK)

    with pytest.RaisesGroup(pytest.RaisesExc(CallOver), flatten_subgroups=True):
        await together(filler(Stuck()), (10.0, 0.0))
