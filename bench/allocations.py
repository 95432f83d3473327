"""How often this process asks Python's allocators for memory, by hooks in C (allocations.c)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.compiling import compiled

SOURCE: Final = Path(__file__).with_suffix(".c")


def allocation_counter() -> Callable[[], int]:
    """Counts from now on; the function says how many so far. Call it once in a process. Raises CompileError."""
    hooks = ctypes.PyDLL(str(hooks_in_c()))
    count = ctypes.c_ulonglong.in_dll(hooks, "allocations")
    hooks.count_allocations.restype = None
    hooks.count_allocations()
    return lambda: count.value


def hooks_in_c() -> Path:
    """The shared object, compiled or from the cache. Raises CompileError."""
    return compiled([SOURCE], flags=("-shared", "-fPIC"))
