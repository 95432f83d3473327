"""Figures as text: one kind of table, which is Markdown and lines up in a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def figure(number: float | None) -> str:
    """Three digits that mean something: 0.24, 2.98, 31.4, 1450; "-" for what was not measured."""
    if number is None or not math.isfinite(number):
        return "-"
    if number == 0:
        return "0"
    decimals = 2 - math.floor(math.log10(abs(number)))
    rounded = round(number, decimals)
    return f"{rounded:.{min(max(decimals, 0), 2)}f}"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with aligned columns: the first is text, the others are figures, to the right."""
    lines = [tuple(headings), *(tuple(row) for row in rows)]
    widths = [max(len(cell), 3) for cell in headings]
    for line in lines:
        widths = [max(width, len(cell)) for width, cell in zip(widths, line, strict=True)]

    def aligned(line: Sequence[str]) -> str:
        first, *others = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        return f"| {' | '.join([first, *others])} |"

    rule = "| " + " | ".join("-" * (width - 1) + (":" if column else "-") for column, width in enumerate(widths)) + " |"
    return "\n".join([aligned(lines[0]), rule, *map(aligned, lines[1:])])
