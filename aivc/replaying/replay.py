"""Replay: a recorded call lived through again by the same code, under a fake clock and on a virtual network.

recording --inputs, at their times--> front end, RTP, model, tools of a service --outputs--> comparison
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio
import trio.testing

from aivc.config.loading import ConfigError
from aivc.flight.entries import Flight
from aivc.flight.flightfile import MAX_FILE_OCTETS, BadFlight, read_untrusted
from aivc.realtime.tools import ToolFileError
from aivc.replaying.comparing import Difference
from aivc.replaying.driving import Replay
from aivc.replaying.settings import NotReplayable

__all__ = ["Difference", "NotReplayable", "Outcome", "load_flight", "replay_flight", "replayed"]

TOLERANCE: Final = 0.050  # seconds: what a busy machine takes to answer, and the fake clock does not


@attrs.frozen
class Outcome:
    """What came of a replay."""

    difference: Difference | None
    compared: int  # outputs that were as recorded
    seconds: float  # of the call that were replayed


def replayed(path: str | Path, *, tolerance: float = TOLERANCE) -> Difference | None:
    """Replay a recording; the first difference, None when there is none. For tests: it runs trio by itself.

    Args:
      tolerance: seconds that an output may be early or late.

    Raises:
      NotReplayable: and the text says why.
      OSError: the file cannot be read.
    """
    return replay_flight(load_flight(path), tolerance=tolerance).difference


def load_flight(path: str | Path) -> Flight:
    """A recording. Raises NotReplayable for what is none, and OSError."""
    try:
        with open(path, "rb") as file:
            return read_untrusted(file.read(MAX_FILE_OCTETS + 1))  # whatever else there is need not be in memory
    except BadFlight as error:
        raise NotReplayable(str(error)) from None


def replay_flight(flight: Flight, *, tolerance: float = TOLERANCE) -> Outcome:
    """Replay what was read, or made. Raises NotReplayable."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    try:
        return trio.run(partial(run_replay, flight, tolerance=tolerance), clock=clock)
    except BaseExceptionGroup as group:
        if (error := only_leaf(group)) is None or not isinstance(error, (ConfigError, ToolFileError, OSError)):
            raise
        raise NotReplayable(f"no service can be made of its settings: {error}") from None


def only_leaf(error: BaseException) -> BaseException | None:
    """What is inside nested groups of one; None when there are several."""
    while isinstance(error, BaseExceptionGroup):
        if len(error.exceptions) > 1:
            return None
        error = error.exceptions[0]
    return error


async def run_replay(flight: Flight, *, tolerance: float = TOLERANCE) -> Outcome:
    """The same in a trio run of the caller's, whose clock is a `trio.testing.MockClock` that jumps by itself.

    It takes the run's socket factory for itself. Raises NotReplayable.
    """
    replay = Replay.of(flight, tolerance)
    await replay.run()
    return Outcome(replay.comparison.difference, replay.comparison.compared, replay.last)
