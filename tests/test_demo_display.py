"""The live view of a demonstration call."""

from __future__ import annotations

import io
import re
import sys

import pytest

from aivc.demo.display import Display, Moment, PlainDisplay, open_display

CONVERSATION = (
    Moment(0.0, "call", "answered"),
    Moment(3.236, "caller", "Hi, what are your opening hours?"),
    Moment(12.9, "tool", "opening_hours, 214 ms"),
    Moment(24.0, "ending", "caller hung up"),
)


class Terminal(io.StringIO):
    """A terminal without a device."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return Terminal()


def play(display: Display) -> None:
    for moment in CONVERSATION:
        display.show(moment)
        display.level(10, 90)


def last_picture(terminal: Terminal) -> str:
    written = terminal.getvalue()
    return written[written.rindex("╭") :]


def test_a_file_gets_one_plain_line_a_moment() -> None:
    stream = io.StringIO()

    with open_display(stream) as display:
        play(display)

    assert stream.getvalue().splitlines() == [
        "  0.00s call       answered",
        '  3.24s caller     "Hi, what are your opening hours?"',
        " 12.90s tool       opening_hours, 214 ms",
        " 24.00s ending     caller hung up",
    ]


def test_control_characters_never_reach_the_log() -> None:
    stream = io.StringIO()

    with open_display(stream) as display:
        display.show(Moment(1.0, "model", "one\r\ntwo\x1b[2J\x07\u202e" + "x" * 9000))

    line = stream.getvalue()
    assert line.startswith('  1.00s model      "one two[2Jxxx')
    assert line.count("\n") == 1
    assert len(line) < 450


def test_an_ascii_stream_gets_replacements_not_an_error() -> None:
    octets = io.BytesIO()
    stream = io.TextIOWrapper(octets, encoding="ascii")

    with open_display(stream) as display:
        display.show(Moment(1.0, "caller", "Zürich?"))

    assert octets.getvalue() == b'  1.00s caller     "Z?rich?"\n'


def test_a_terminal_gets_a_plain_log_when_asked_to(terminal: Terminal) -> None:
    with open_display(terminal, force_plain=True) as display:
        play(display)

    assert "\x1b" not in terminal.getvalue()


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_draw_gets_a_plain_log(
    terminal: Terminal, term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)

    with open_display(terminal) as display:
        assert isinstance(display, PlainDisplay)


def test_without_rich_a_terminal_gets_a_plain_log(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)

    with open_display(terminal) as display:
        play(display)

    assert terminal.getvalue().startswith("  0.00s call       answered\n")


def test_a_terminal_shows_levels_transcript_tool_and_time_in_a_panel(terminal: Terminal) -> None:
    pytest.importorskip("rich")

    with open_display(terminal, clock=Clock()) as display:
        play(display)

    picture = last_picture(terminal)
    assert '"Hi, what are your opening hours?"' in picture
    assert "last tool: opening_hours, 214 ms" in picture
    assert "24.0 s" in picture
    assert "█" in terminal.getvalue()
    assert "█" not in picture  # nobody speaks after the end


def test_the_panel_keeps_the_newest_lines_and_fits_the_terminal(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    rich_cells = pytest.importorskip("rich.cells")
    monkeypatch.setenv("COLUMNS", "44")
    monkeypatch.setenv("LINES", "14")
    monkeypatch.setenv("NO_COLOR", "1")

    with open_display(terminal, clock=Clock()) as display:
        for at in range(60):
            display.show(Moment(float(at), "model", f"line {at} こんにちは [bold]\x1b[31m {'long ' * 12}"))

    lines = without_escapes(last_picture(terminal)).splitlines()
    assert "line 59" in "".join(lines)
    assert "line 0 " not in "".join(lines)
    assert len(lines) <= 15
    assert max(rich_cells.cell_len(line) for line in lines) <= 44


def test_levels_redraw_the_panel_ten_times_a_second_at_most(terminal: Terminal) -> None:
    pytest.importorskip("rich")
    clock = Clock()

    with open_display(terminal, clock=clock) as display:
        before = terminal.getvalue().count("╭")
        for _ in range(100):
            clock.now += 0.02
            display.level(50, 0)
        drawn = terminal.getvalue().count("╭") - before

    assert 10 <= drawn <= 20


def without_escapes(written: str) -> str:
    """Without what moves the cursor or changes the style."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
