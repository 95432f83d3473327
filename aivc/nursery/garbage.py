"""Python's collector of cycles, kept away from calls: it stops the whole process while it works."""

from __future__ import annotations

import gc
from typing import Final

YOUNG: Final = 1_000  # new objects, those of one call, are looked at together: some 1.5 ms; 5000 took up to 20
OLDER: Final = 2_000  # such looks, about as many calls, before those that have stayed are looked at again: some 50 ms
OLDEST: Final = 10


def spare_startup_objects() -> None:
    """Start-up made tens of thousands of objects that live for ever: no collection need stop the media for them.

    A call in progress is some 900 objects, and all of them go with their last reference when it ends (a test holds
    this); so what is not garbage when it is young is hardly worth another look. With Python's own
    thresholds there is one of 10 ms each second while ten calls a second come and go among a hundred, and now and then
    one of 100 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, OLDER, OLDEST)
