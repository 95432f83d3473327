"""What must not be left of a call: tasks, objects, descriptors, lines at error level.

with noted_errors() as errors, uncollected():
    before = survey(task)
    ...
    assert survey(task) == before
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs
import trio

ROOMS: Final = ("aivc.nursery.", "aivc.media.", "aivc.realtime.", "aivc.sip.")
# What the test telephone and the test OpenSIPS work with as well, which both remember all that they have seen.
SHARED: Final = frozenset({"aivc.sip.address", "aivc.sip.dialog", "aivc.sip.message", "aivc.sip.headers"})
# Of the calls' records, which the test keeps.
KEPT: Final = frozenset({"aivc.nursery.record", "aivc.nursery.ending", "aivc.realtime.history", "aivc.realtime.usage"})
KEPT_AS_WELL: Final = frozenset({"RtpCounters", "Quality"})
# A front end knows the last message until the next one comes, and for a while how fast each source asks and which
# sessions of OpenSIPS are over; and it looks at OpenSIPS's list of them now and then.
PASSING: Final = frozenset({"Arrival", "DatagramFlow", "Bucket", "Over", "Look", "Waiting", "Command"})
OWN_DESCRIPTORS: Final = Path("/proc/self/fd")
# With these versions of Python every cancel scope of trio's that was cancelled leaves a cycle, and so do our timeouts:
#     with trio.move_on_after(0): await trio.sleep(1)
# 3.11 and 3.14 leave none.
CANCELLING_LEAVES_CYCLES: Final = (3, 12) <= sys.version_info < (3, 14)


@attrs.frozen
class Survey:
    """What there is at one moment.

    Attributes:
      tasks: how many of each name.
      objects: how many of each class of ours that the test does not keep itself.
      descriptors: of the process; 0 where the system does not tell.
    """

    tasks: Counter[str]
    objects: Counter[str]
    descriptors: int


class ErrorNotes(logging.Handler):
    """Keeps the name of every event at error level, whoever logs it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.events: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.events.append(str(getattr(record, "event", record.getMessage())))


@contextmanager
def noted_errors() -> Iterator[list[str]]:
    """The names of the events that are logged at error level meanwhile.

    Ours are told to nobody else: who keeps a line keeps the frames of its traceback.
    """
    notes, root, ours = ErrorNotes(), logging.getLogger(), logging.getLogger("aivc")
    for logger in (root, ours):
        logger.addHandler(notes)
    ours.propagate = False
    try:
        yield notes.events
    finally:
        ours.propagate = True
        for logger in (root, ours):
            logger.removeHandler(notes)


@contextmanager
def uncollected() -> Iterator[None]:
    """No collector of cycles meanwhile: what is gone is gone because nothing refers to it.

    What is there already is not looked at by `survey`, so that one costs next to nothing.
    """
    was_on = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()


def survey(task: trio.lowlevel.Task) -> Survey:
    """Of the tasks, those in the nurseries of this one."""
    if CANCELLING_LEAVES_CYCLES:
        gc.collect()
    tasks = Counter(child.name for child in tasks_below(task))
    return Survey(tasks, Counter(names_of_objects()), descriptors())


def tasks_below(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    """The tasks of its nurseries, and of theirs, in the order in which they were started as far as trio tells."""
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield child
            yield from tasks_below(child)


def names_of_objects() -> Iterator[str]:
    for found in gc.get_objects():
        kind: type[object] = type(found)
        module = str(kind.__module__)
        if is_looked_at(module, kind.__name__):
            yield f"{module}.{kind.__qualname__}"


def is_looked_at(module: str, name: str) -> bool:
    return module.startswith(ROOMS) and module not in SHARED | KEPT and name not in KEPT_AS_WELL | PASSING


def descriptors() -> int:
    return len(os.listdir(OWN_DESCRIPTORS)) if OWN_DESCRIPTORS.is_dir() else 0


def added(now: Counter[str], before: Counter[str]) -> dict[str, int]:
    """What there is more of."""
    return dict(now - before)
