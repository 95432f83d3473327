"""Every way of ending, and how one is lived through under several orders of ready tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from aivc import CallEvent, Ending
from aivc.nursery.record import OBSERVER_EVENTS
from scenarios.arena import Dialect, live_through, open_arena
from scenarios.front_ends import FrontEndName
from scenarios.leftovers import noted_errors, uncollected
from scenarios.ways import Way
from scenarios.ways_of_callers import CALLERS
from scenarios.ways_of_models import MODELS
from scenarios.ways_of_services import SERVICES
from scenarios.ways_of_tasks import a_bug_in, tasks_of_a_call
from scenarios.ways_of_tools import TOOLS

# As `happens` of the ways that a bug in each task is: these are found out only when a call is there to be looked at.
ANY_TASK: Final = a_bug_in("aivc.nursery.alarm.Alarm.ring")
THE_READER: Final = a_bug_in("aivc.realtime.connection.hold_open")

WAYS: Final = (*CALLERS, *TOOLS, *MODELS, *SERVICES)


def in_order(ways: tuple[Way, ...]) -> list[Way]:
    """As the enumeration has their endings; those without a call last."""
    order = [*Ending, None]
    return sorted(ways, key=lambda way: order.index(way.ending))


def ways_with(front_end: FrontEndName) -> list[Way]:
    return [way for way in WAYS if way.makes_sense_with(front_end)]


def live_through_all(way: Way, front_end: FrontEndName, dialect: Dialect, schedules: int | None = None) -> None:
    """Live through it under each schedule; which one it was is told with the failure."""
    for number in range(schedules or way.schedules):
        try:
            with under_schedule(number), uncollected(), noted_errors() as errors:
                trio.run(live_through, way, front_end, dialect, clock=MockClock(autojump_threshold=0))
            assert errors == list(way.logged)
        except BaseException as error:
            error.add_note(f"{way.name}: under schedule {number}, front end {front_end}, dialect {dialect}")
            raise


@contextmanager
def under_schedule(number: int) -> Iterator[None]:
    """A known order of ready tasks; the two private names are those of trio's own test_scheduler_determinism.py."""
    dice = trio._core._run._r
    state = dice.getstate()
    dice.seed(number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", True)
        yield
    dice.setstate(state)


def bugs_in_each_task(front_end: FrontEndName, dialect: Dialect) -> list[Way]:
    """A way for every task that a call is found to have."""

    async def look() -> list[str]:
        observer, _ = trio.open_memory_channel[CallEvent](OBSERVER_EVENTS)
        async with open_arena(ANY_TASK, front_end, dialect, observer) as arena:
            names = await tasks_of_a_call(arena)
            await arena.stop()
        return names

    names: list[str] = trio.run(look, clock=MockClock(autojump_threshold=0))
    return [a_bug_in(name, number) for name, count in Counter(names).items() for number in range(count)]
