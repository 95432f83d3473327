"""Which settings have a test that shows their effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

Test = TypeVar("Test", bound=Callable[..., object])

SHOWN: Final[set[str]] = set()  # paths


def shows(path: str) -> Callable[[Test], Test]:
    """Mark a test as the one that shows the effect of a setting."""

    def note(test: Test) -> Test:
        SHOWN.add(path)
        return test

    return note
