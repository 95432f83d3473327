"""Files in want of descriptors: calls have taken them all, and give them back when they end."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import Final

import trio

LONGEST_WANT: Final = 60.0  # seconds without a descriptor after which a file is lost
WANT_PAUSE: Final = 0.25  # seconds between two attempts meanwhile


async def when_descriptors(write: Callable[[], Awaitable[None]]) -> None:
    """Write; without descriptors try again and again, from the beginning. Raises OSError."""
    deadline = trio.current_time() + LONGEST_WANT
    while True:
        try:
            return await write()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or trio.current_time() > deadline:
                raise
        await trio.sleep(WANT_PAUSE)
