"""C programs of the bench: compiled when they are needed, kept in a cache for the next time."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

COMPILER: Final = "cc"
FLAGS: Final = ("-std=gnu11", "-O2", "-g", "-Wall", "-Wextra")
COMPILE_SECONDS: Final = 120.0


class CompileError(Exception):
    """A program could not be compiled; the text says what to install, or what the compiler said."""


def compiled(sources: Sequence[Path], *, libraries: Sequence[str] = (), flags: Sequence[str] = ()) -> Path:
    """The program made of these C files and the headers beside them.

    The cache is keyed by the text of all of them and by the command, so a changed line is a new program. `libraries`
    are names for `-l`, `flags` further ones for the compiler. Raises CompileError.
    """
    compiler = shutil.which(COMPILER)
    if compiler is None:
        raise CompileError(f"no C compiler ({COMPILER}): install gcc and libssl-dev (apt install gcc libssl-dev)")
    command = [compiler, *FLAGS, *flags, *map(str, sources), *(f"-l{each}" for each in libraries)]
    program = cache_folder() / f"{sources[0].stem}-{fingerprint(sources, command)}"
    if not program.exists():
        build(command, program)
    return program


def cache_folder() -> Path:
    """Where programs are kept: $XDG_CACHE_HOME/aivc-bench, else ~/.cache, else a folder for temporary files."""
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "aivc-bench"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(tempfile.gettempdir()) / f"aivc-bench-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def fingerprint(sources: Sequence[Path], command: Sequence[str]) -> str:
    """Of everything that makes the program what it is."""
    headers = {header for source in sources for header in source.parent.glob("*.h")}
    digest = hashlib.sha256("\0".join(command).encode())
    for path in (*sources, *sorted(headers)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def build(command: Sequence[str], program: Path) -> None:
    """Compile beside its final name and move there: two runs at once do not meet."""
    with tempfile.TemporaryDirectory(dir=program.parent) as folder:
        made = Path(folder) / program.name
        done = subprocess.run(
            [*command, "-o", str(made)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMPILE_SECONDS,
        )
        if done.returncode:
            raise CompileError(explanation(done.stderr))
        made.replace(program)


def explanation(said: str) -> str:
    """What to do about a failed compilation."""
    if "openssl/" in said or "-lssl" in said or "-lcrypto" in said:
        return f"OpenSSL's headers are missing: install gcc and libssl-dev\n{said}"
    return f"the C compiler failed:\n{said}"
