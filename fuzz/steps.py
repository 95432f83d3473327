"""How much work an input is, counted and not timed: the same on every machine."""

from __future__ import annotations

import sys
from types import FrameType

import attrs

from fuzz.target import Target


class TooManyCalls(AssertionError):
    """An input costs more function calls than one of its length may."""


@attrs.define
class Calls:
    """Counts calls of Python's functions and of C's."""

    most: int
    count: int = 0

    def note(self, frame: FrameType, event: str, argument: object) -> None:
        self.count += event in ("call", "c_call")
        if self.count > self.most:
            raise TooManyCalls(f"more than {self.most} calls")


BASE: int = 50_000  # calls of an empty input, at most: the user agent is opened and closed for one


def check_within_bounds(target: Target, data: bytes) -> int:
    """Run the target; how many calls that took. Raises TooManyCalls, and whatever the target finds."""
    calls, before = Calls(BASE + target.calls_per_octet * len(data)), sys.getprofile()
    sys.setprofile(calls.note)
    try:
        target.check(data)
    finally:
        sys.setprofile(before)
    return calls.count


def grown(data: bytes, at: int, length: int, octets: int) -> bytes:
    """The input with one piece of it so often that it has about so many octets: what is not linear shows."""
    piece = data[at : at + length]
    return data if not piece else data[:at] + piece * max(1, (octets - len(data)) // len(piece)) + data[at + length :]
