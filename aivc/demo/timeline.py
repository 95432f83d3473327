"""The call as a picture: a self-contained SVG with both voices over time and what happened between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from aivc.demo.annotations import (
    BOLD_FONT,
    CUT,
    DIMENSION,
    FONT,
    GAP_ROW,
    MARK_ROW,
    SPACE,
    TOOL,
    Axis,
    Label,
    cut_label,
    cut_line,
    dimension_line,
    gap_bar,
    part_colour,
    place_cuts,
    place_gaps,
    place_tools,
    stroke_path,
    tagged,
    tool_bar,
)
from aivc.demo.gaps import part_names
from aivc.demo.recording import CallRecording, Interruption, Speaker, Turn
from aivc.demo.svg import element, shorten, text, text_width, wrap
from aivc.demo.wav import channels
from aivc.demo.waveform import Column, envelope

WIDTH, HEIGHT = 1400, 620
LEFT, RIGHT = 112, 1376  # the time axis
LINES, LINE = 4, 15  # at most so many lines of transcript beside a lane; from one to the next
CLEARANCE = 6  # between a lane and its transcript
TRANSCRIPT_MIN = 100  # a short turn's transcript moves left rather than become narrower
HEAD, FOOT = 78, 84  # above the caller's transcript: title and flags; below the model's: time axis and legend
PITCH = 2  # from one bar of a waveform to the next
TICK_MIN = 56  # between two numbers on the time axis
QUIETEST = 0.05  # a call with no louder peak is drawn small, not blown up to full height

SPEAKERS: tuple[Speaker, Speaker] = ("caller", "model")
COLOUR: dict[Speaker, str] = {"caller": "#2563eb", "model": "#0d9488"}
STYLE = """
text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;fill:#1e293b}
.title{font-size:19px;font-weight:600}.facts{font-size:13px;fill:#475569}.side{font-size:14px;font-weight:600}
.part{font-size:10px;fill:#fff}.small{font-size:11px;fill:#64748b}.label{font-size:12px}.strong{font-weight:600}
.over{paint-order:stroke;stroke:#fff;stroke-width:4px;stroke-linejoin:round}
.caller{fill:#1d4ed8}.model{fill:#0f766e}.tool{fill:#b45309}.cut{fill:#dc2626}
"""


@attrs.frozen
class Layout:
    """What stands where, in pixels from the top."""

    caller: float  # the caller's lane
    band: float  # dimension lines and gaps
    tools: float
    cuts: float
    model: float  # the model's lane
    lane: float  # height of each lane

    @property
    def axis(self) -> float:
        return HEIGHT - FOOT

    def lane_top(self, speaker: Speaker) -> float:
        return self.caller if speaker == "caller" else self.model


@attrs.frozen
class Text:
    """What was said in one turn, broken into lines, and where it stands."""

    turn: Turn
    left: float
    width: float
    lines: list[str]


def draw_timeline(recording: CallRecording, title: str = "aivc demo call") -> str:
    """The call as an SVG document of 1400 by 620 pixels that needs no font, script or picture from elsewhere."""
    axis = Axis(LEFT, RIGHT, max(recording.duration, 0.1))
    gaps, tools, cuts = recording.gaps, recording.tools, recording.interruptions
    gap_labels, tool_labels, cut_labels = place_gaps(gaps, axis), place_tools(tools, axis), place_cuts(cuts, axis)
    texts = [*place_texts("caller", recording.turns, axis), *place_texts("model", recording.turns, axis)]
    layout = lay_out(texts, rows(gap_labels), rows(tool_labels), rows(cut_labels))
    top, bottom = layout.caller, layout.model + layout.lane
    drawn = [
        element("style", STYLE),
        element("rect", x=0.5, y=0.5, width=WIDTH - 1, height=HEIGHT - 1, rx=10, fill="#ffffff", stroke="#e2e8f0"),
        *head(recording, title),
        *lanes(layout),
        *time_axis(axis, layout),
        *(mark for turn in recording.turns for mark in turn_block(turn, axis, layout)),
        *(mark for cut in cuts for mark in unheard(cut, recording, axis, layout)),
        *voices(recording, layout),
        *(mark for placed in texts for mark in draw_text(placed, axis, layout)),
    ]
    drawn += [mark for cut in cuts for mark in cut_line(cut, axis, top - 4, bottom)]
    for gap, label in zip(gaps, gap_labels, strict=True):
        drawn += dimension_line(gap, label, gaps, axis, layout.band, layout.model)
    for gap, label in zip(gaps, gap_labels, strict=True):  # after all lines, which would cross the numbers
        drawn += gap_bar(gap, label, gaps, axis, layout.band)
    for tool, label in zip(tools, tool_labels, strict=True):
        drawn += tool_bar(tool, label, axis, layout.tools)
    for cut, label in zip(cuts, cut_labels, strict=True):
        drawn += cut_label(cut, label, layout.cuts)
    drawn += [*flags(recording.ending, axis, layout), *legend(part_names(gaps))]
    return element(
        "svg",
        "\n".join(drawn),
        xmlns="http://www.w3.org/2000/svg",
        width=WIDTH,
        height=HEIGHT,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
    )


def rows(labels: Sequence[Label]) -> int:
    return max((label.row + 1 for label in labels if label.row is not None), default=0)


def lay_out(texts: Sequence[Text], gap_rows: int, tool_rows: int, cut_rows: int) -> Layout:
    """Transcripts and the band between the lanes get what they need, the lanes share the rest."""
    above, below = (text_height(speaker, texts) for speaker in SPEAKERS)
    band_height = DIMENSION + GAP_ROW * gap_rows + MARK_ROW * (tool_rows + cut_rows) + 8
    lane = (HEIGHT - HEAD - above - band_height - below - FOOT) / 2
    caller = HEAD + above
    band = caller + lane
    tools = band + DIMENSION + GAP_ROW * gap_rows
    return Layout(caller, band, tools, tools + MARK_ROW * tool_rows, band + band_height, lane)


def text_height(speaker: Speaker, texts: Sequence[Text]) -> float:
    return CLEARANCE + LINE * max((len(t.lines) for t in texts if t.turn.speaker == speaker), default=0) + CLEARANCE


def head(recording: CallRecording, title: str) -> Iterator[str]:
    yield text(24, 36, title, "title")
    facts = f"{recording.codec} 8000 Hz · {recording.duration:.1f} s · {recording.ending}"
    yield text(24 + text_width(title, 19) + 28, 36, shorten(facts, 700, 13), "facts")
    packets = f"RTP packets: {recording.packets_sent} sent, {recording.packets_received} received, "
    yield text(RIGHT, 36, f"{packets}{recording.packets_lost} lost", "facts", anchor="end")


def lanes(layout: Layout) -> Iterator[str]:
    for speaker in SPEAKERS:
        top = layout.lane_top(speaker)
        yield element("rect", x=LEFT, y=top, width=RIGHT - LEFT, height=layout.lane, rx=4, fill="#f8fafc")
        yield text(24, top + layout.lane / 2 + 5, speaker.capitalize(), f"side {speaker}")
    if layout.tools > layout.band + DIMENSION:
        yield text(24, layout.band + DIMENSION + 16, "Answer gap", "small")
    if layout.cuts > layout.tools:
        yield text(24, layout.tools + 14, "Tool call", "small")
    if layout.model - 8 > layout.cuts:
        yield text(24, layout.cuts + 14, "Barge-in", "small")


def time_axis(axis: Axis, layout: Layout) -> Iterator[str]:
    y, top = layout.axis, layout.caller
    yield stroke_path(f"M{LEFT} {y}H{RIGHT}", "#cbd5e1", 1)
    step = tick_seconds(axis)
    count = int(axis.duration / step + 1e-6) + 1
    ticks = [index * step for index in range(count)]
    yield stroke_path("".join(f"M{axis.x(at):.1f} {top:.1f}V{y + 5:.1f}" for at in ticks), "#e2e8f0", 1)
    for at in ticks:
        yield text(axis.x(at), y + 18, f"{at:g} s", "small", anchor="middle")


def tick_seconds(axis: Axis) -> float:
    """The shortest round step that leaves room for the numbers."""
    steps = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0)
    return next((step for step in steps if axis.x(step) - LEFT >= TICK_MIN), axis.duration)


def turn_block(turn: Turn, axis: Axis, layout: Layout) -> Iterator[str]:
    left, right, top = axis.x(turn.start), axis.x(turn.end), layout.lane_top(turn.speaker)
    words = f"{turn.speaker}, {turn.start:.2f} s to {turn.end:.2f} s: {turn.text}"
    size = {"x": left, "y": top, "width": max(right - left, 1), "height": layout.lane, "rx": 4}
    yield tagged(words, element("rect", **size, fill=COLOUR[turn.speaker], fill_opacity="0.1"))


def unheard(cut: Interruption, recording: CallRecording, axis: Axis, layout: Layout) -> Iterator[str]:
    """The rest of an answer that barge-in cut: received, never spoken."""
    until = cut.at + (cut.received_ms - cut.heard_ms) / 1000
    following = (turn.start for turn in recording.turns if turn.speaker == "model" and turn.start > cut.at)
    left, right = axis.x(cut.at), axis.x(min([until, recording.duration, *following]))
    if right - left < 4:
        return
    size = {"x": left, "y": layout.model + 1, "width": right - left, "height": layout.lane - 2}
    mark = element("rect", **size, fill=CUT, fill_opacity="0.05", stroke=CUT, stroke_dasharray="4 3")
    yield tagged("received, never spoken", mark)


def voices(recording: CallRecording, layout: Layout) -> Iterator[str]:
    """Both waveforms to one scale, so that their loudness can be compared."""
    count = (RIGHT - LEFT) // PITCH
    caller, model = (envelope(octets, recording.codec, count) for octets in channels(recording))
    loudest = max(QUIETEST, *(column.peak for column in caller + model))
    yield from waveform("caller", caller, loudest, layout)
    yield from waveform("model", model, loudest, layout)


def waveform(speaker: Speaker, columns: Sequence[Column], loudest: float, layout: Layout) -> Iterator[str]:
    """The peaks light, the energy (RMS) dark, around a line of silence."""
    half, middle = layout.lane / 2 - 6, layout.lane_top(speaker) + layout.lane / 2
    yield stroke_path(f"M{LEFT} {middle:.1f}H{RIGHT}", COLOUR[speaker], 1)
    peaks = bars([column.peak / loudest * half for column in columns], middle)
    energy = bars([column.rms / loudest * half for column in columns], middle)
    yield element("path", d=peaks, stroke=COLOUR[speaker], stroke_width=1.5, stroke_opacity="0.45", fill="none")
    yield element("path", d=energy, stroke=COLOUR[speaker], stroke_width=1.5, fill="none")


def bars(heights: Sequence[float], middle: float) -> str:
    """A vertical bar for each column that is higher than the line of silence."""
    drawn = (
        f"M{LEFT + index * PITCH + PITCH / 2:g} {middle - height:.1f}v{2 * height:.1f}"
        for index, height in enumerate(heights)
        if height >= 0.5
    )
    return "".join(drawn) or "M0 0"


def place_texts(speaker: Speaker, turns: Sequence[Turn], axis: Axis) -> list[Text]:
    spoken = sorted((turn for turn in turns if turn.speaker == speaker), key=lambda turn: turn.start)
    return [
        Text(turn, left, right - left, wrap(turn.text, right - left - 5, FONT, LINES))
        for turn, (left, right) in zip(spoken, slots(spoken, axis), strict=True)
    ]


def draw_text(placed: Text, axis: Axis, layout: Layout) -> Iterator[str]:
    """The lines, with a pole to the turn's beginning; the inner `svg` clips what a wide font would spill."""
    if not placed.lines:
        return
    height, speaker = len(placed.lines) * LINE, placed.turn.speaker
    if speaker == "caller":
        top, edge, far, inwards = layout.caller - CLEARANCE - height, layout.caller - CLEARANCE, -height, CLEARANCE
    else:
        top = edge = layout.model + layout.lane + CLEARANCE
        far, inwards = height, -CLEARANCE
    pole = f"M{placed.left:.1f} {edge + far:.1f}V{edge:.1f}H{axis.x(placed.turn.start):.1f}v{inwards}"
    yield stroke_path(pole, COLOUR[speaker], 1)
    words = "".join(text(5, (row + 1) * LINE - 4, line, "label") for row, line in enumerate(placed.lines))
    yield element("svg", words, x=placed.left, y=top, width=placed.width, height=height)


def slots(turns: Sequence[Turn], axis: Axis) -> list[tuple[float, float]]:
    """From where to where each text may go: from its turn to the next one's, and further left if that is too narrow."""
    least = min(TRANSCRIPT_MIN, (RIGHT - LEFT) / max(len(turns), 1) - SPACE)
    found: list[tuple[float, float]] = []
    right = float(RIGHT)
    for turn in reversed(turns):
        needed = min(least, text_width(turn.text, FONT) + 6)
        left = max(float(LEFT), min(axis.x(turn.start), right - needed))
        found.append((left, right))
        right = left - SPACE
    return found[::-1]


def flags(ending: str, axis: Axis, layout: Layout) -> Iterator[str]:
    """Where the call begins and ends."""
    top = HEAD - 14
    for x, words, anchor, inwards in ((LEFT, "answered", "start", 6), (RIGHT, ending, "end", -6)):
        yield stroke_path(f"M{x} {top - 9}V{layout.axis}", "#334155", 1.5)
        yield element("circle", cx=x, cy=top - 9, r=3.5, fill="#334155")
        yield text(x + inwards, top, shorten(words, 400, BOLD_FONT), "label strong", anchor=anchor)


def legend(parts: Sequence[str]) -> Iterator[str]:
    """What the marks and colours mean."""
    marks = [
        (COLOUR["caller"], "caller's voice"),
        (COLOUR["model"], "model's voice (dark: energy, light: peak)"),
        (TOOL, "tool call"),
        (CUT, "barge-in: answer cut, the rest (dashed) never spoken"),
    ]
    yield from legend_row(HEIGHT - 38, "Marks", marks)
    if parts:
        named = [(part_colour(part, parts), part) for part in parts]
        yield from legend_row(
            HEIGHT - 16, "Answer gap", [*named, ("", "numbers in ms; all bars to one scale, magnified")]
        )


def legend_row(y: float, name: str, entries: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield text(24, y, name, "small strong")
    x = float(LEFT)
    for colour, words in entries:
        shown = shorten(words, 400, 11)
        width = (16 if colour else 0) + text_width(shown, 11)
        if x + width > RIGHT:
            return
        if colour:
            yield element("rect", x=x, y=y - 9, width=10, height=10, rx=2, fill=colour)
        yield text(x + (16 if colour else 0), y, shown, "small")
        x += width + 20
