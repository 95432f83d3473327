"""Code that keeps trio's loop from coming round: noticed by a thread, named in the log.

A tool that blocks (`time.sleep`, a database without `await`, a long computation in an `async def`) stops every call of
the process. Nothing in the loop can see who it is while it happens, so this is the one thread of ours: it looks at the
stack of the loop's thread when a pass of the loop has taken too long. What it found is logged by the loop itself,
afterwards, when the length of the stall is known. Code that is not ours comes first: the file of a tool.
"""

from __future__ import annotations

import gc
import logging
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final

import attrs
import trio

from aivc import logs

log = logging.getLogger("aivc.service")

TRIOS_LOOP: Final = "unrolled_run"  # the function in trio/_core/_run.py
FINEST: Final = 0.001  # seconds: the thread does not look more often
DEEPEST: Final = 60  # frames that are looked at
SHOWN: Final = 8  # frames in the log, the innermost first
SILENCE: Final = 60.0  # seconds between two lines about one place
PLACES: Final = 200  # that are remembered; beyond, all are forgotten
CLOSING: Final = 1.0  # seconds for the thread to end
OURS: Final = (
    str(Path(__file__).parents[1]),
    *{path for name, path in sysconfig.get_paths().items() if name in ("stdlib", "platstdlib", "purelib", "platlib")},
)
INSTALLED: Final = ("site-packages", "dist-packages")
HINT: Final = "await there instead, or make the tool a plain function (def): that one runs in a thread"


@attrs.frozen
class Frame:
    """Where in the code."""

    file: str
    line: int
    function: str

    @classmethod
    def of(cls, frame: FrameType) -> Frame:
        return cls(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.function}"

    @property
    def is_users(self) -> bool:
        """Not of Python, of an installed package, nor of this one."""
        return not (self.file.startswith((*OURS, "<")) or any(part in self.file for part in INSTALLED))


@attrs.define
class Places:
    """Which code has stalled the loop, to log each place once a minute."""

    _logged: dict[tuple[str, str], tuple[float, int]] = attrs.field(factory=dict)  # when, stalls since then

    def to_log(self, frame: Frame, now: float) -> int:
        """How many stalls of this function are to be logged now; 0: it was logged lately."""
        place = (frame.file, frame.function)
        logged_at, since = self._logged.get(place, (-SILENCE, 0))
        if now - logged_at < SILENCE:
            self._logged[place] = (logged_at, since + 1)
            return 0
        if len(self._logged) >= PLACES:
            self._logged.clear()
        self._logged[place] = (now, 0)
        return since + 1


@attrs.define(eq=False)
class StallWatch(trio.abc.Instrument):
    """What has kept the loop; `watched_stalls` makes one.

    Attributes:
      limit: seconds that a pass of the loop may take.
      stalls: passes that took longer and were caught at it.
      worst: the longest of them, seconds.
      wakes: how often the thread has looked.
    """

    limit: float
    stalls: int = attrs.field(default=0, init=False)
    worst: float = attrs.field(default=0.0, init=False)
    wakes: int = attrs.field(default=0, init=False)
    _watched: int = attrs.field(factory=threading.get_ident, init=False)  # the loop's thread
    _began: float = attrs.field(factory=time.perf_counter, init=False)  # the loop's present pass, or the last
    _waiting: bool = attrs.field(default=False, init=False)  # for I/O, which may last
    _caught: tuple[float, Sequence[Frame]] | None = attrs.field(default=None, init=False)  # when its pass began
    _collection: tuple[float, float] = attrs.field(default=(0.0, 0.0), init=False)  # the last one: beginning, seconds
    _dozing: bool = attrs.field(default=False, init=False)
    _closed: bool = attrs.field(default=False, init=False)
    _bell: threading.Event = attrs.field(factory=threading.Event, init=False)
    _places: Places = attrs.field(factory=Places, init=False)

    # In the loop: some 0.5 us a pass each.

    def after_io_wait(self, timeout: float) -> None:
        self._began, self._waiting = time.perf_counter(), False
        if self._dozing:
            self._dozing = False
            self._bell.set()

    def before_io_wait(self, timeout: float) -> None:
        self._waiting = True
        if self._caught is not None:
            caught, self._caught = self._caught, None
            if caught[0] == self._began:
                self._report(time.perf_counter() - self._began, caught[1])

    def collecting(self, phase: str, info: Mapping[str, int]) -> None:
        """One of `gc.callbacks`: a collection stalls whatever code it happens to run in."""
        now = time.perf_counter()
        self._collection = (now, 0.0) if phase == "start" else (self._collection[0], now - self._collection[0])

    def _report(self, seconds: float, frames: Sequence[Frame]) -> None:
        self.stalls, self.worst = self.stalls + 1, max(self.worst, seconds)
        found = next((frame for frame in frames if frame.is_users), frames[0])
        times = self._places.to_log(found, time.perf_counter())
        if times:
            logs.event(
                log,
                "loop.stalled",
                level=logging.WARNING,
                ms=round(1000 * seconds),
                place=str(found),
                stack=" < ".join(map(str, frames[:SHOWN])),
                times=times,
                collecting_ms=self._collecting_ms(),
                hint=HINT if found.is_users else None,
            )

    def _collecting_ms(self) -> int:
        began, seconds = self._collection
        return round(1000 * seconds) if began >= self._began else 0

    # In the thread.

    def run(self) -> None:
        """Look until `close`: once in `limit` seconds while the loop works, not at all while it only waits."""
        seen = 0.0
        while not self._closed:
            self.wakes += 1
            began = self._began
            if not self._waiting:
                time.sleep(self._look(began))  # one system call; a wait for the bell takes two
            elif began != seen:
                time.sleep(self.limit)
            else:
                self._doze(began)
                self._bell.clear()
            seen = began

    def close(self) -> None:
        self._closed = True
        self._bell.set()

    def _look(self, began: float) -> float:
        """Sample the stack if this pass has taken too long; returns after how many seconds to look again."""
        left = began + self.limit - time.perf_counter()
        if left > 0:
            return left
        if self._caught is None or self._caught[0] != began:
            frames = sampled(self._watched)
            if frames and self._began == began and not self._waiting:
                self._caught = (began, frames)
        return self.limit

    def _doze(self, began: float) -> None:
        """Sleep until the loop's next pass."""
        self._dozing = True
        if self._waiting and self._began == began and not self._closed:
            self._bell.wait()
        self._dozing = False


def sampled(thread: int) -> Sequence[Frame]:
    """Where another thread is just now, the innermost frame first; empty if it has ended."""
    return [Frame.of(frame) for frame in of_a_task(sys._current_frames().get(thread))]


def of_a_task(frame: FrameType | None) -> Iterator[FrameType]:
    """From the innermost frame outwards to trio's loop: the program that has started it is not to blame."""
    for _ in range(DEEPEST):
        if frame is None or frame.f_code.co_name == TRIOS_LOOP:
            return
        yield frame
        frame = frame.f_back


@contextmanager
def watched_stalls(stall_ms: float) -> Iterator[StallWatch]:
    """Watch the loop that this runs in while the block runs; 0 ms: nothing is watched, and no thread is there."""
    watch = StallWatch(max(stall_ms / 1000, FINEST))
    if not stall_ms:
        yield watch
        return
    thread = threading.Thread(target=watch.run, name="aivc stalls", daemon=True)
    trio.lowlevel.add_instrument(watch)
    gc.callbacks.append(watch.collecting)
    thread.start()
    try:
        yield watch
    finally:
        watch.close()
        gc.callbacks.remove(watch.collecting)
        with suppress(KeyError):  # trio has removed it if it failed, and logged why
            trio.lowlevel.remove_instrument(watch)
        thread.join(CLOSING)
