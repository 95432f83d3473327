"""The live panel of a call, drawn with rich. Importing this file needs rich."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

import attrs
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from aivc.demo.display import LINE_COLUMNS, Kind, Moment, words
from aivc.demo.transcript import printable

REDRAW = 0.1  # seconds at least between two redraws for the levels: drawing shares the core with the audio
METER = 24  # cells
FEWEST, MOST = 3, 16  # lines of transcript: on the lowest terminal, on the highest (more would take too long to draw)
AROUND = 6  # lines of the panel that are not transcript
FRAME, LABEL, NARROWEST = 4, 19, 10  # columns: the panel's border, time and kind of a moment, its words
STYLES: dict[Kind, str] = {
    "call": "bold",
    "caller": "bright_blue",
    "model": "cyan",
    "barge-in": "bold red",
    "tool": "yellow",
    "ending": "bold",
    "note": "dim",
}


@contextmanager
def open_panel(stream: TextIO, clock: Callable[[], float]) -> Iterator[PanelDisplay]:
    """A panel that stays on the terminal as it was last. Drawn by its caller's task: rich starts no thread."""
    console = Console(file=stream)
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        display = PanelDisplay(console, live, clock)
        display.redraw()
        yield display
        display.caller = display.model = 0
        display.redraw()


@attrs.define
class PanelDisplay:
    """Level meters, transcript, last tool call, elapsed time."""

    console: Console
    live: Live
    clock: Callable[[], float]
    moments: deque[Moment] = attrs.field(factory=lambda: deque(maxlen=MOST))
    tool: str = ""
    ended: bool = False
    answered_at: float | None = None  # on `clock`
    caller: int = 0
    model: int = 0
    drawn_at: float = float("-inf")  # on `clock`

    def show(self, moment: Moment) -> None:
        self.moments.append(moment)
        if moment.kind == "tool":
            self.tool = printable(moment.text)
        self.ended = self.ended or moment.kind == "ending"
        self.answered_at = self.clock() - moment.at
        self.redraw()

    def level(self, caller: int, model: int) -> None:
        self.caller, self.model = caller, model
        if self.clock() >= self.drawn_at + REDRAW:
            self.redraw()

    def redraw(self) -> None:
        self.drawn_at = self.clock()
        self.live.update(self.picture(), refresh=True)

    def picture(self) -> Panel:
        body = Group(self.meters(), Text(), self.transcript())
        return Panel(body, title="aivc demo call", title_align="left", subtitle=self.status(), subtitle_align="left")

    def transcript(self) -> Text:
        """The latest lines that the terminal has room for."""
        width = max(self.console.width - FRAME - LABEL, NARROWEST)
        room = min(max(self.console.height - AROUND, FEWEST), MOST)
        lines: list[Text] = []
        for moment in reversed(self.moments):
            if len(lines) >= room:
                break
            lines = moment_lines(moment, width, self.console) + lines
        return Text("\n", no_wrap=True, overflow="crop").join(lines[-room:])

    def meters(self) -> Table:
        grid = Table.grid(padding=(0, 2))
        grid.add_row(Text("caller", STYLES["caller"]), meter(self.caller, STYLES["caller"]), speaking(self.caller))
        grid.add_row(Text("model", STYLES["model"]), meter(self.model, STYLES["model"]), speaking(self.model))
        return grid

    def status(self) -> Text:
        status = Text("waiting for the call", no_wrap=True, overflow="ellipsis")
        if self.answered_at is not None:
            elapsed = self.moments[-1].at if self.ended else self.clock() - self.answered_at
            status = Text(f"{elapsed:.1f} s", no_wrap=True, overflow="ellipsis")
        if self.tool:
            status.append(f"  last tool: {self.tool}", STYLES["tool"])
        return status


def meter(level: int, style: str) -> Text:
    filled = round(min(max(level, 0), 100) * METER / 100)
    return Text().append("█" * filled, style).append("·" * (METER - filled), "dim")


def moment_lines(moment: Moment, width: int, console: Console) -> list[Text]:
    """The moment's words wrapped into lines of `width` columns behind its time and kind."""
    wrapped = Text(words(moment, LINE_COLUMNS), STYLES[moment.kind]).wrap(console, width)
    label = Text().append(f"{moment.at:6.2f}s ", "dim").append(f"{moment.kind:<10} ", STYLES[moment.kind])
    return [(label if index == 0 else Text(" " * LABEL)) + line for index, line in enumerate(wrapped)]


def speaking(level: int) -> Text:
    return Text("speaking" if level > 10 else "", "dim")
