"""Writing files beside the calls: private ones, in a thread, and again when the calls have taken all descriptors."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TypeVar

import trio

LONGEST_WANT: Final = 60.0  # seconds without a descriptor after which a file is lost
WANT_PAUSE: Final = 0.25  # seconds between two attempts meanwhile
PRIVATE_FOLDER: Final = 0o700  # what callers said is nobody else's business
PRIVATE_FILE: Final = 0o600

T = TypeVar("T")


class InThread(Protocol):
    """Runs what blocks, and returns what it returns."""

    async def __call__(self, work: Callable[[], T], /) -> T: ...


async def in_thread(work: Callable[[], T], /) -> T:
    """Run what blocks in a thread; being cancelled leaves it to itself."""
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True)


async def when_descriptors(write: Callable[[], T], in_thread: InThread) -> T:
    """Write; without descriptors try again and again, from the beginning. Raises OSError."""
    deadline = trio.current_time() + LONGEST_WANT
    while True:
        try:
            return await in_thread(write)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or trio.current_time() > deadline:
                raise
        await trio.sleep(WANT_PAUSE)


def make_folder(path: Path) -> None:
    """Make it, unless it is there; blocks. Raises OSError."""
    path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
