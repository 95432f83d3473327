"""What this process takes of the machine, where the system tells (Linux's /proc)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

STATM = Path("/proc/self/statm")  # in pages: size, resident, ...
DESCRIPTORS = "/proc/self/fd"


def resident_octets() -> int | None:
    """The memory that is really there."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


def open_descriptors() -> int | None:
    """Files and sockets. Linux 6.2 and later know the number; others are asked for the list, which takes longer."""
    with contextlib.suppress(OSError):
        return os.stat(DESCRIPTORS).st_size or len(os.listdir(DESCRIPTORS)) - 1  # one is the list's own
    return None
