"""`python -m bench.counted FILE`: `aivc serve`, counting what its loop and its memory do, for `bench.budget`.

Nothing else in the bench imports aivc: trio's steps can be counted only in the process that takes them. What is counted
is the whole service, run as `aivc serve` runs it.

SIGUSR1 has it write what it has counted, a line of JSON, at the end of FILE; SIGUSR2 has it count memory from then on,
which makes every allocation about twice as slow.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.config.loading import load
from aivc.nursery.service import run_service
from bench import allocations
from bench.counts import Counts

OWN: Final = (__file__, allocations.__file__, tracemalloc.__file__)  # whose memory is not the service's
PR_SET_PTRACER: Final = 0x59616D61  # linux/prctl.h
PR_SET_PTRACER_ANY: Final = ctypes.c_ulong(-1)


@attrs.define(eq=False)
class Counting(trio.abc.Instrument):
    """Counts the steps of all tasks, and what they do to the memory once that is wanted.

    Args:
      count_allocations: has them counted from then on; what it returns says how many there were so far.
    """

    count_allocations: Callable[[], Callable[[], int]]
    steps: Counter[str] = attrs.field(factory=Counter)
    allocations: Counter[str] = attrs.field(factory=Counter)
    passing_octets: Counter[str] = attrs.field(factory=Counter)
    _allocated: Callable[[], int] | None = None
    _own: int = 0  # allocations of ours in each step
    _before: int = 0  # allocations as the step began
    _octets: int = 0  # in use then

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps[task.name] += 1
        if self._allocated is not None:
            self._mark(self._allocated)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._allocated is not None:
            allocations, octets = self._passed(self._allocated)
            self.allocations[task.name] += allocations - self._own
            self.passing_octets[task.name] += octets

    def count_memory(self) -> None:
        """From the next step on."""
        tracemalloc.start()
        self._allocated = self.count_allocations()
        self._mark(self._allocated)
        self._own, _ = self._passed(self._allocated)  # of a step that does nothing

    def counts(self) -> Counts:
        """So far. Garbage is collected first, so that what is in use is what somebody holds."""
        gc.collect()
        lines = traced_lines()
        return Counts(
            time.monotonic(),
            self.steps,
            self.allocations,
            self.passing_octets,
            {line: blocks for line, (blocks, _) in lines.items()},
            {line: octets for line, (_, octets) in lines.items()},
            sum(generation["collected"] for generation in gc.get_stats()),
        )

    def append_to(self, file: Path) -> None:
        """Append a line with the counts so far.

        A signal may ask for it in the middle of a step, whose allocations count from here on: to find what is in use
        takes as many of them as a thousand steps.
        """
        with file.open("a") as lines:
            lines.write(self.counts().as_line())
        if self._allocated is not None:
            self._mark(self._allocated)

    def _mark(self, allocated: Callable[[], int]) -> None:
        tracemalloc.reset_peak()
        self._octets, _ = tracemalloc.get_traced_memory()
        self._before = allocated()

    def _passed(self, allocated: Callable[[], int]) -> tuple[int, int]:
        """Allocations since the mark, and the most octets in use at a time beyond those then."""
        count = allocated() - self._before
        _, peak = tracemalloc.get_traced_memory()
        return count, peak - self._octets


def traced_lines() -> dict[str, tuple[int, int]]:
    """Blocks and octets in use that were allocated since memory is traced, by line of code."""
    if not tracemalloc.is_tracing():
        return {}
    others = [tracemalloc.Filter(inclusive=False, filename_pattern=file) for file in OWN]
    found = tracemalloc.take_snapshot().filter_traces(others).statistics("lineno")
    return {str(each.traceback): (each.count, each.size) for each in found}


def on_signal(number: int, act: Callable[[], None]) -> None:
    def handle(number: int, frame: FrameType | None) -> None:
        act()

    signal.signal(number, handle)


def allow_tracing() -> None:
    """Yama lets a program be traced by its parents alone, unless it says otherwise (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0)


def main(file: Path) -> None:
    settings = load(None, os.environ).settings
    logs.configure(settings.log, sys.stderr)
    allow_tracing()
    allocations.hooks_in_c()  # compiled now, not in the middle of calls
    counting = Counting(allocations.allocation_counter)
    on_signal(signal.SIGUSR1, partial(counting.append_to, file))
    on_signal(signal.SIGUSR2, counting.count_memory)
    trio.run(run_service, settings, instruments=[counting])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
