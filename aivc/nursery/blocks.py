"""Blocks that last as long as a call. A generator under `contextlib.contextmanager` would take half a KiB for each."""

from __future__ import annotations

from collections.abc import Callable

import attrs


@attrs.frozen(eq=False)
class AtEnd:
    """A block at whose end, come what may, something is undone."""

    undo: Callable[[], None]

    def __enter__(self) -> None: ...

    def __exit__(self, *exception: object) -> None:
        self.undo()
