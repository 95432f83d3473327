"""What `bench.counted` has counted so far, and what of it fell into a window between two such moments."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

import attrs


@attrs.frozen
class Counts:
    """Since the program began, or in a window. What has to do with memory is counted from when that was asked for.

    Attributes:
      seconds: of the system's monotonic clock, or the length of the window.
      steps: task steps of trio, by the name of the task's function.
      allocations: how often the steps asked Python's allocators for memory, by the same names.
      passing_octets: of each step the most memory that it had at a time beyond what there was when it began, added up,
        by the same names.
      kept, kept_octets: blocks of memory in use that were allocated since, or how many came to be in use, by line.
      cycles: objects that only the collector could free.
    """

    seconds: float
    steps: Mapping[str, int] = attrs.field(factory=dict)
    allocations: Mapping[str, int] = attrs.field(factory=dict)
    passing_octets: Mapping[str, int] = attrs.field(factory=dict)
    kept: Mapping[str, int] = attrs.field(factory=dict)
    kept_octets: Mapping[str, int] = attrs.field(factory=dict)
    cycles: int = 0

    def since(self, earlier: Counts) -> Counts:
        """The window between the two."""
        return Counts(
            self.seconds - earlier.seconds,
            more(self.steps, earlier.steps),
            more(self.allocations, earlier.allocations),
            more(self.passing_octets, earlier.passing_octets),
            more(self.kept, earlier.kept),
            more(self.kept_octets, earlier.kept_octets),
            self.cycles - earlier.cycles,
        )

    def as_line(self) -> str:
        return json.dumps(attrs.asdict(self)) + "\n"

    @classmethod
    def of_line(cls, line: str) -> Counts:
        return cls(**json.loads(line))


def more(now: Mapping[str, int], before: Mapping[str, int]) -> Mapping[str, int]:
    """What came to each, or went from it."""
    difference = Counter(now)
    difference.subtract(before)
    return {name: count for name, count in difference.items() if count}
