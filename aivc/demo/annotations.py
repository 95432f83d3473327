"""What the timeline draws between the two voices: answer gaps, tool calls, interruptions.

Labels are placed first, because the number of rows that they need decides how much height is left for the voices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from aivc.demo.gaps import part_names, rounded_parts, rounded_total_ms
from aivc.demo.recording import Gap, Interruption, ToolUse
from aivc.demo.svg import element, shorten, text, text_width, tooltip

FONT, BOLD_FONT, PART_FONT = 12, 13.2, 10  # pixels; labels are of 12 and bold, which is a tenth wider
SPACE = 12  # pixels between two labels in one row
NAME_MAX = 240  # pixels: a tool's longer name is elided
MAX_ROWS = 3  # of each kind; with more, a mark stands without its label
DIMENSION, GAP_ROW, MARK_ROW = 14, 42, 20  # pixels of height: dimension lines, a row of magnified gaps, another row
BAR_NARROW, BAR_WIDE, BAR = 84, 180, 14  # pixels: the longest gap, magnified; the height of the bars
TOOL_BAR = 12
PART_COLOURS = ("#4f46e5", "#0284c7", "#c026d3", "#4d7c0f", "#64748b", "#be123c", "#92400e")
INK, TOOL, CUT = "#475569", "#d97706", "#dc2626"


@attrs.frozen
class Label:
    """Where a label stands: its row, and its place in it in pixels."""

    left: float
    width: float
    row: int | None  # None: no room in any row

    @property
    def middle(self) -> float:
        return self.left + self.width / 2


@attrs.define
class Rows:
    """Labels beside and below each other: each goes to the first row whose labels end before it begins."""

    ends: list[float] = attrs.field(factory=list)

    def place(self, left: float, right: float) -> int | None:
        """The row for a label from `left` to `right`, or None when it would touch another in each of `MAX_ROWS`."""
        for row, end in enumerate(self.ends):
            if end + SPACE <= left:
                self.ends[row] = right
                return row
        if len(self.ends) == MAX_ROWS:
            return None
        self.ends.append(right)
        return len(self.ends) - 1


@attrs.frozen
class Axis:
    """Time across the picture, in pixels."""

    left: float
    right: float
    duration: float

    def x(self, at: float) -> float:
        return self.left + (self.right - self.left) * min(max(at / self.duration, 0.0), 1.0)


def gap_end(gap: Gap) -> float:
    return gap.start + gap.total_ms / 1000


def place_gaps(gaps: Sequence[Gap], axis: Axis) -> list[Label]:
    """Each gap's magnified bar, centred under its dimension line; all bars have one scale."""
    rows, labels = Rows(), []
    for gap in gaps:
        width = max(bar_width(gap, gaps, axis), text_width(total_words(gap), BOLD_FONT))
        middle = (axis.x(gap.start) + axis.x(gap_end(gap))) / 2
        left = min(max(middle - width / 2, axis.left + 5), axis.right - 5 - width)  # off the lines at both ends
        labels.append(Label(left, width, rows.place(left, left + width)))
    return labels


def bar_width(gap: Gap, gaps: Sequence[Gap], axis: Axis) -> float:
    room = (axis.right - axis.left) / len(gaps) - SPACE
    longest = max(1.0, *(other.total_ms for other in gaps))
    return min(max(room, BAR_NARROW), BAR_WIDE) * gap.total_ms / longest


def total_words(gap: Gap) -> str:
    return f"{rounded_total_ms(gap)} ms"


def part_colour(name: str, names: Sequence[str]) -> str:
    return PART_COLOURS[names.index(name) % len(PART_COLOURS)]


def dimension_line(gap: Gap, label: Label, gaps: Sequence[Gap], axis: Axis, top: float, bottom: float) -> Iterator[str]:
    """The gap as it was in time, below the caller's lane, and the cone that magnifies it."""
    left, right, line = axis.x(gap.start), axis.x(gap_end(gap)), top + 7
    yield stroke_path(f"M{right:.1f} {line:.1f}V{bottom:.1f}", "#94a3b8", 1, dash="2 3")
    if label.row is not None:
        width, y = bar_width(gap, gaps, axis), bar_top(label, top)
        x = label.middle - width / 2
        cone = f"{left:.1f},{line:.1f} {right:.1f},{line:.1f} {x + width:.1f},{y:.1f} {x:.1f},{y:.1f}"
        yield element("polygon", points=cone, fill=INK, fill_opacity="0.12")
    parts = ", ".join(f"{name} {part_ms} ms" for name, part_ms in rounded_parts(gap))
    yield tagged(
        f"Answer gap {total_words(gap)}: {parts}",
        stroke_path(f"M{right:.1f} {line - 5:.1f}v10m0 -5H{left:.1f}m0 -5v10", INK, 1.4),
    )


def bar_top(label: Label, top: float) -> float:
    return top + DIMENSION + (label.row or 0) * GAP_ROW + 8


def gap_bar(gap: Gap, label: Label, gaps: Sequence[Gap], axis: Axis, top: float) -> Iterator[str]:
    """What the gap was made of, and how long it was."""
    if label.row is None:
        return
    width, y, names = bar_width(gap, gaps, axis), bar_top(label, top), part_names(gaps)
    x = label.middle - width / 2
    for (name, part_ms), (_, rounded_ms) in zip(gap.parts, rounded_parts(gap), strict=True):
        part, words = width * part_ms / max(gap.total_ms, 1e-9), f"{rounded_ms}"
        bar = element("rect", x=x, y=y, width=part, height=BAR, fill=part_colour(name, names))
        yield tagged(f"{name} {words} ms", bar)
        if text_width(words, PART_FONT) + 4 <= part:
            yield text(x + part / 2, y + BAR - 3.5, words, "part", anchor="middle")
        x += part
    yield text(label.middle, y + BAR + 13, total_words(gap), "label over strong", anchor="middle")


def tool_words(tool: ToolUse) -> str:
    return f"{shorten(tool.name, NAME_MAX, BOLD_FONT)} · {(tool.end - tool.start) * 1000:.0f} ms"


def place_tools(tools: Sequence[ToolUse], axis: Axis) -> list[Label]:
    rows = Rows()
    return [place_beside(tool_words(tool), axis.x(tool.start), axis.x(tool.end), axis, rows) for tool in tools]


def place_beside(words: str, left: float, right: float, axis: Axis, rows: Rows) -> Label:
    """A label to the right of a mark, or to the left when the picture ends there; the row is free for both."""
    width = text_width(words, BOLD_FONT)
    if right + 6 + width <= axis.right:
        return Label(right + 6, width, rows.place(left, right + 6 + width))
    return Label(left - 6 - width, width, rows.place(left - 6 - width, right))


def tool_bar(tool: ToolUse, label: Label, axis: Axis, top: float) -> Iterator[str]:
    """A bar as long as the call took."""
    left, right = axis.x(tool.start), axis.x(tool.end)
    y = top + (label.row or 0) * MARK_ROW + (MARK_ROW - TOOL_BAR) / 2
    bar = element("rect", x=left, y=y, width=max(right - left, 3), height=TOOL_BAR, rx=2, fill=TOOL)
    yield tagged(f"{tool.name}({tool.arguments}) = {tool.output}", bar)
    if label.row is not None:
        yield text(label.left, y + TOOL_BAR - 2, tool_words(tool), "label over tool strong")


def cut_words(cut: Interruption) -> str:
    return f"cut: heard {cut.heard_ms} of {cut.received_ms} ms · silent after {cut.stopped_after_ms:.0f} ms"


def place_cuts(cuts: Sequence[Interruption], axis: Axis) -> list[Label]:
    rows = Rows()
    return [place_beside(cut_words(cut), axis.x(cut.at), axis.x(cut.at), axis, rows) for cut in cuts]


def cut_line(cut: Interruption, axis: Axis, top: float, bottom: float) -> Iterator[str]:
    """A line through both lanes, from `top` to `bottom`."""
    x = axis.x(cut.at)
    yield tagged(cut_words(cut), stroke_path(f"M{x:.1f} {top:.1f}V{bottom:.1f}", CUT, 1.8))
    yield element("path", d=f"M{x - 5:.1f} {top:.1f}h10l-5 7z", fill=CUT)


def cut_label(cut: Interruption, label: Label, top: float) -> Iterator[str]:
    if label.row is not None:
        yield text(label.left, top + label.row * MARK_ROW + 14, cut_words(cut), "label over cut strong")


def tagged(words: str, *marks: str) -> str:
    """Marks with a tooltip."""
    return element("g", tooltip(shorten(words, 4000, FONT)) + "".join(marks))


def stroke_path(d: str, colour: str, width: float, dash: str = "none") -> str:
    return element("path", d=d, stroke=colour, stroke_width=width, stroke_dasharray=dash, fill="none")
