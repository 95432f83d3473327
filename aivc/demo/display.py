"""The call as it happens: a live panel on a terminal, else a plain line for each moment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Literal, Protocol, TextIO

import attrs

from aivc.demo.transcript import elide, printable

LINE_COLUMNS = 400  # of one moment's words in the plain log: a whole answer, not a whole monologue

Kind = Literal["call", "caller", "model", "barge-in", "tool", "ending", "note"]


@attrs.frozen
class Moment:
    """Something worth a line."""

    at: float  # seconds since the call was answered
    kind: Kind
    text: str  # what happened; of `caller` and `model`, what was said


class Display(Protocol):
    """Where moments and levels are shown."""

    def show(self, moment: Moment) -> None:
        """Add a moment."""

    def level(self, caller: int, model: int) -> None:
        """How loud both are now, 0 to 100 each; cheap enough for every 20 ms."""


@contextmanager
def open_display(
    stream: TextIO, force_plain: bool = False, clock: Callable[[], float] = time.monotonic
) -> Iterator[Display]:
    """A display on `stream`: a live panel when that is a terminal and rich is installed, else a plain log.

    Args:
        stream: stays open; what it cannot encode is replaced.
        clock: seconds, for the elapsed time and to redraw seldom enough.
    """
    if force_plain or not can_draw(stream) or find_spec("rich") is None:  # rich comes with the extra `cli`
        yield PlainDisplay(stream)
        return
    from aivc.demo.panel import open_panel

    with open_panel(stream, clock) as panel:
        yield panel


def can_draw(stream: TextIO) -> bool:
    """Whether it is a terminal that can move its cursor and show the panel's characters."""
    unicode = (stream.encoding or "").lower().startswith("utf")
    return stream.isatty() and unicode and os.environ.get("TERM") not in ("dumb", "unknown")


@attrs.define
class PlainDisplay:
    """One line a moment: `  3.24s caller     "Hi, what are your opening hours?"`."""

    stream: TextIO

    def show(self, moment: Moment) -> None:
        line = f"{moment.at:6.2f}s {moment.kind:<10} {words(moment, LINE_COLUMNS)}"
        encoding = self.stream.encoding or "utf-8"
        print(line.encode(encoding, "replace").decode(encoding), file=self.stream, flush=True)

    def level(self, caller: int, model: int) -> None:
        """A log has no level."""


def words(moment: Moment, limit: int) -> str:
    """The moment's text on one line of at most `limit` columns, in quotes when it was said."""
    if moment.kind in ("caller", "model"):
        return f'"{elide(printable(moment.text), limit - 2)}"'
    return elide(printable(moment.text), limit)
