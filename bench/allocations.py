"""How often this process asks Python's allocators for memory, by hooks in C (allocations.c)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.compiling import COMPILER, FLAGS, build, cache_folder, fingerprint

SOURCE: Final = Path(__file__).with_suffix(".c")


def allocation_counter() -> Callable[[], int]:
    """Counts from now on; the function says how many so far. Call it once in a process. Raises CompileError."""
    hooks = ctypes.PyDLL(str(library()))
    count = ctypes.c_ulonglong.in_dll(hooks, "allocations")
    hooks.count_allocations.restype = None
    hooks.count_allocations()
    return lambda: count.value


def library() -> Path:
    """Compiled, or from the cache."""
    command = [COMPILER, *FLAGS, "-shared", "-fPIC", str(SOURCE)]
    made = cache_folder() / f"{SOURCE.stem}-{fingerprint([SOURCE], command)}.so"
    if not made.exists():
        build(command, made)
    return made
