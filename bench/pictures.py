"""Figures as SVG: lines over a number of calls, and bars beside each other, on a panel that is light or dark.

The panel brings its own ground and follows `prefers-color-scheme`, so that ink and ground always fit, whatever page the
picture stands on. No script, no font from elsewhere: a picture in a README is shown as an image, which loads nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape

import attrs

from bench.tables import figure

WIDTH: Final = 760
HEIGHT: Final = 450
LEFT, RIGHT, TOP, BOTTOM = 68, 28, 92, 96  # between the panel's edge and the axes
BAR: Final = 30  # height of one bar and the gap below it
NAMES: Final = 220  # width of what stands left of the bars
TICKS: Final = 5
STEPS: Final = (1, 2, 2.5, 5, 10)

# Okabe and Ito's colours, which people with any colour vision tell apart, darkened or lightened for their ground.
LIGHT: Final = ("#0072b2", "#c44e00", "#007a5a", "#a3507f", "#8a6d00", "#555555")
DARK: Final = ("#56b4e9", "#ff8c42", "#2fc99b", "#e29cc6", "#e8c547", "#bbbbbb")
PALETTE: Final = [
    "\n".join(f".s{n} {{ stroke: {colour}; }} .f{n} {{ fill: {colour}; }}" for n, colour in enumerate(colours))
    for colours in (LIGHT, DARK)
]
STYLE: Final = f"""<style>
text {{ font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #24292f; }}
.title {{ font-size: 17px; font-weight: 600; }} .faint {{ font-size: 12px; fill: #57606a; }}
.panel {{ fill: #ffffff; stroke: #d0d7de; }} .grid {{ stroke: #e4e8ec; }} .axis {{ stroke: #57606a; }}
.limit {{ stroke: #b3261e; stroke-dasharray: 7 4; }} .limit-name {{ font-size: 12px; fill: #b3261e; }}
.line {{ fill: none; stroke-width: 2.4; stroke-linejoin: round; }} .dashed {{ stroke-dasharray: 3 4; }}
.bar {{ fill-opacity: 0.6; }} .whisker {{ stroke: #24292f; stroke-width: 1.4; }}
{PALETTE[0]}
@media (prefers-color-scheme: dark) {{
text {{ fill: #e6edf3; }} .faint {{ fill: #9ba5b0; }} .panel {{ fill: #11161d; stroke: #30363d; }}
.grid {{ stroke: #262d36; }} .axis {{ stroke: #9ba5b0; }} .whisker {{ stroke: #e6edf3; }}
.limit {{ stroke: #ff8078; }} .limit-name {{ fill: #ff8078; }}
{PALETTE[1]}
}}
</style>"""


@attrs.frozen
class Series:
    """One line: its points are in the order of x."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 0  # of LIGHT and DARK
    dashed: bool = False


@attrs.frozen
class Chart:
    """Lines over one axis; `limits` are levels that mean something, with their names."""

    title: str
    x_title: str
    y_title: str
    series: Sequence[Series]
    limits: Sequence[tuple[float, str]] = ()
    logarithmic: bool = False  # the y axis
    notes: Sequence[str] = ()  # lines at the foot: where and how it was measured


@attrs.frozen
class Bar:
    name: str
    value: float
    low: float  # of the runs whose median is `value`
    high: float
    colour: int = 0


@attrs.frozen
class Scale:
    """From values to pixels, along one axis."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, self.low))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values between the ends, about five; on a logarithmic axis 1, 2 and 5 of each decade."""
        if self.logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            marks = [round(digit * 10.0**decade, 9) for decade in decades for digit in (1, 2, 5)]
            return [mark for mark in marks if self.low <= mark <= self.high]
        step = round_up((self.high - self.low) / TICKS)
        return [self.low + step * n for n in range(math.floor((self.high - self.low) / step + 1e-9) + 1)]


def round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in STEPS if step * power >= value * (1 - 1e-9))


def text(x: float, y: float, words: str, *, of: str = "", anchor: str = "start", turned: bool = False) -> str:
    place = f'transform="translate({x:.1f} {y:.1f}) rotate(-90)"' if turned else f'x="{x:.1f}" y="{y:.1f}"'
    kind = f' class="{of}"' if of else ""
    return f'<text {place} text-anchor="{anchor}"{kind}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, of: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{of}"/>'


def panel(title: str, notes: Sequence[str], height: float, inside: Iterator[str]) -> str:
    """A whole picture round what is `inside` it."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}"'
            f' height="{height:.0f}" role="img">',
            f"<title>{escape(title)}</title>",
            STYLE,
            f'<rect class="panel" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="8"/>',
            text(24, 34, title, of="title"),
            *inside,
            *(text(24, height - 16 * up, note, of="faint") for up, note in enumerate(reversed(notes), 1)),
            "</svg>\n",
        ]
    )


def chart(drawn: Chart) -> str:
    """Lines as an SVG document."""
    return panel(drawn.title, drawn.notes, HEIGHT, chart_parts(drawn))


def chart_parts(drawn: Chart) -> Iterator[str]:
    xs = [x for series in drawn.series for x, _ in series.points]
    ys = [y for series in drawn.series for _, y in series.points] + [level for level, _ in drawn.limits]
    across = Scale(0, max(xs) * 1.04, LEFT, WIDTH - RIGHT)
    up = y_scale(ys, drawn.logarithmic)
    yield from axes(drawn, across, up)
    for level, name in drawn.limits:
        yield line(LEFT, up(level), WIDTH - RIGHT, up(level), "limit")
        yield text(WIDTH - RIGHT, up(level) - 5, name, of="limit-name", anchor="end")
    for series in drawn.series:
        yield from curve(series, across, up)
    yield from legend(drawn.series)


def y_scale(ys: Sequence[float], logarithmic: bool) -> Scale:
    """From nought, or from a 1, 2 or 5 below the lowest, to a round value above the highest."""
    highest = max(max(ys), 1e-3)
    if not logarithmic:
        step = round_up(highest * 1.05 / TICKS)
        return Scale(0, step * math.ceil(highest * 1.05 / step), HEIGHT - BOTTOM, TOP)
    lowest = max(min(ys), 1e-3)
    marks = [digit * 10.0**decade for decade in range(-4, 6) for digit in (1, 2, 5)]
    low = max(mark for mark in marks if mark <= lowest)
    high = min(mark for mark in marks if mark >= highest * 1.2)
    return Scale(low, high, HEIGHT - BOTTOM, TOP, logarithmic=True)


def axes(drawn: Chart, across: Scale, up: Scale) -> Iterator[str]:
    for level in up.ticks():
        yield line(LEFT, up(level), WIDTH - RIGHT, up(level), "grid")
        yield text(LEFT - 8, up(level) + 4, plain(level), of="faint", anchor="end")
    foot = HEIGHT - BOTTOM
    yield line(LEFT, foot, WIDTH - RIGHT, foot, "axis")
    for mark in across.ticks():
        yield line(across(mark), foot, across(mark), foot + 5, "axis")
        yield text(across(mark), foot + 19, plain(mark), of="faint", anchor="middle")
    yield text((LEFT + WIDTH - RIGHT) / 2, foot + 38, drawn.x_title, anchor="middle")
    yield text(20, (TOP + foot) / 2, drawn.y_title, anchor="middle", turned=True)


def plain(value: float) -> str:
    return f"{value:.4g}"


def curve(series: Series, across: Scale, up: Scale) -> Iterator[str]:
    places = [(across(x), up(y)) for x, y in series.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    yield f'<polyline class="line s{series.colour}{" dashed" if series.dashed else ""}" points="{path}"/>'
    for (x, y), (calls, value) in zip(places, series.points, strict=True):
        yield f'<circle class="f{series.colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.6">'
        yield f"<title>{escape(series.name)}, {plain(calls)}: {figure(value)}</title></circle>"


def legend(several: Sequence[Series]) -> Iterator[str]:
    """Sample and name of each line, in one row under the title; 7 pixels is a wide letter of 13."""
    x = float(LEFT)
    for series in several:
        yield line(x, 64, x + 26, 64, f"line s{series.colour}{' dashed' if series.dashed else ''}")
        yield text(x + 33, 68, series.name)
        x += 33 + 7 * len(series.name) + 24


def bars(title: str, unit: str, several: Sequence[Bar], notes: Sequence[str] = ()) -> str:
    """Bars beside each other as an SVG document; whiskers reach from the lowest run to the highest."""
    return panel(title, notes, 60 + BAR * len(several) + 56 + 16 * len(notes), bar_parts(unit, several))


def bar_parts(unit: str, several: Sequence[Bar]) -> Iterator[str]:
    highest = max(bar.high for bar in several)
    step = round_up(highest / TICKS)
    across = Scale(0, step * math.ceil(highest / step), NAMES, WIDTH - RIGHT - 60)
    foot = 60 + BAR * len(several)
    for mark in across.ticks():
        yield line(across(mark), 54, across(mark), foot, "grid")
        yield text(across(mark), foot + 16, plain(mark), of="faint", anchor="middle")
    yield text(across((across.high + across.low) / 2), foot + 34, unit, anchor="middle")
    for number, bar in enumerate(several):
        y = 60 + BAR * number
        yield text(NAMES - 10, y + 16, bar.name, anchor="end")
        size = f'width="{across(bar.value) - NAMES:.1f}" height="{BAR - 10}"'
        yield f'<rect class="bar f{bar.colour}" x="{NAMES}" y="{y + 2}" {size} rx="2"/>'
        yield line(across(bar.low), y + 12, across(bar.high), y + 12, "whisker")
        yield text(across(bar.high) + 8, y + 16, figure(bar.value))
