"""How the parts of answer gaps are named and counted, in the table as in the picture."""

from __future__ import annotations

from collections.abc import Iterable

from aivc.demo.recording import Gap


def part_names(gaps: Iterable[Gap]) -> list[str]:
    """The names of all parts: first those of the gap with the most parts, in its order, then what others add."""
    fullest_first = sorted(gaps, key=lambda gap: len(gap.parts), reverse=True)
    return list(dict.fromkeys(name for gap in fullest_first for name, _ in gap.parts))


def rounded_parts(gap: Gap) -> list[tuple[str, int]]:
    """The parts in whole milliseconds, rounded so that they sum to the rounded total."""
    rounded, passed = [], 0.0
    for name, part_ms in gap.parts:
        rounded.append((name, round(passed + part_ms) - round(passed)))
        passed += part_ms
    return rounded


def rounded_total_ms(gap: Gap) -> int:
    return sum(part_ms for _, part_ms in rounded_parts(gap))
