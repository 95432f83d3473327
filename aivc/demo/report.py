"""The figures of one call as a plain text table."""

from __future__ import annotations

from collections.abc import Sequence

from aivc.demo.gaps import part_names, rounded_parts, rounded_total_ms
from aivc.demo.recording import CallRecording, Delay, Gap, Interruption, ToolUse, Turn
from aivc.demo.transcript import columns, elide, printable

QUOTE = 32  # columns: what the caller said, elided
MARGIN = "  "


def latency_table(recording: CallRecording) -> str:
    """The silence before each answer and what it was made of, what the connector added, and what was cut.

    Every line of parts sums to its total although all are rounded to whole milliseconds.
    """
    blocks = [
        gap_lines(recording),
        delay_lines(recording.delays),
        [interruption_line(cut) for cut in recording.interruptions],
        [tool_line(tool) for tool in recording.tools],
        [packet_line(recording)],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def gap_lines(recording: CallRecording) -> list[str]:
    """One line a gap: when, after which words, each part, the total."""
    if not recording.gaps:
        return []
    names = part_names(recording.gaps)
    head = ["answer", "after", *(elide(printable(name), 24) for name in names), "total ms"]
    lines = [
        [f"{gap.start:.2f} s", said_before(gap, recording.turns), *part_cells(gap, names), f"{rounded_total_ms(gap)}"]
        for gap in recording.gaps
    ]
    return aligned([head, *lines], left=(1,))


def said_before(gap: Gap, turns: Sequence[Turn]) -> str:
    """The caller's last words before the gap."""
    earlier = [turn for turn in turns if turn.speaker == "caller" and turn.start < gap.start]
    if not earlier:
        return "(answered)"
    last = max(earlier, key=lambda turn: turn.start)
    return f'"{elide(printable(last.text), QUOTE)}"'


def part_cells(gap: Gap, names: Sequence[str]) -> list[str]:
    """A cell for each name, `-` for a part that this gap does not have."""
    found: dict[str, int] = {}
    for name, part_ms in rounded_parts(gap):
        found[name] = found.get(name, 0) + part_ms
    return [f"{found[name]}" if name in found else "-" for name in names]


def delay_lines(delays: Sequence[Delay]) -> list[str]:
    if not delays:
        return []
    head = ["", "p50 ms", "p99 ms", "max ms", "count"]
    lines = [[printable(d.name), f"{d.p50_ms:.2f}", f"{d.p99_ms:.2f}", f"{d.max_ms:.2f}", f"{d.count}"] for d in delays]
    return aligned([head, *lines], left=(0,))


def interruption_line(cut: Interruption) -> str:
    heard = f"the caller had heard {cut.heard_ms} of {cut.received_ms} ms"
    return (
        f"{MARGIN}interrupted at {cut.at:.2f} s: {heard}; silent {cut.stopped_after_ms:.0f} ms after the caller spoke"
    )


def tool_line(tool: ToolUse) -> str:
    return f"{MARGIN}tool at {tool.start:.2f} s: {printable(tool.name)}, {(tool.end - tool.start) * 1000:.0f} ms"


def packet_line(recording: CallRecording) -> str:
    sent, received, lost = recording.packets_sent, recording.packets_received, recording.packets_lost
    return f"{MARGIN}RTP packets: {sent} sent, {received} received, {lost} lost"


def aligned(lines: Sequence[Sequence[str]], left: Sequence[int]) -> list[str]:
    """The cells in columns: those in `left` to the left, all others to the right."""
    widths = [max(columns(cell) for cell in cells) for cells in zip(*lines, strict=True)]
    return [
        (MARGIN + "  ".join(pad(cell, widths[i], i in left) for i, cell in enumerate(line))).rstrip() for line in lines
    ]


def pad(cell: str, width: int, left: bool) -> str:
    blanks = " " * (width - columns(cell))
    return cell + blanks if left else blanks + cell
