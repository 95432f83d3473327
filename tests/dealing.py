"""In which order xdist's processes get the files: what waits beside what computes, and what takes long first."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from typing import Final

# Real telephones, proxies and processes of ours take their time, and hardly a processor's.
WAITING: Final = (
    "tests/interop/",
    "tests/test_bench_generator",
    "tests/test_bench_yardsticks",
    "tests/test_real_faults",
    "tests/test_serve_process",
    "tests/test_workers",
)
WAITING_PROCESSES: Final = 1  # of more, and of what computes, those that measure time would be late
EARLY: Final = 0.7  # the last file that waits is begun after this share of the tests: nobody waits for it in the end


def processes() -> int:
    """As many as can compute at the same time, and one that waits meanwhile."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + WAITING_PROCESSES


def places(files: Iterable[str]) -> dict[str, float]:
    """Where each file is to be, given the file of each test: those with most tests first, waiting ones in between."""
    counts = Counter(files).most_common()
    waiting = [each for each in counts if each[0].startswith(WAITING)]
    computing = [each for each in counts if not each[0].startswith(WAITING)]
    return spread(computing, 1.0) | spread(waiting, EARLY)


def spread(counts: list[tuple[str, int]], until: float) -> dict[str, float]:
    """The share of the tests that are before each file, of all that are spread between 0 and `until`."""
    whole, before, found = sum(count for _, count in counts), 0, {}
    for file, count in counts:
        found[file] = until * before / whole
        before += count
    return found
