"""An input taken apart: what a target needs besides octets to read, drawn from the octets themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import attrs

Item = TypeVar("Item")


@attrs.define
class Choices:
    """Reads an input from its beginning; after its end everything is zero."""

    data: bytes
    at: int = 0

    @property
    def is_over(self) -> bool:
        return self.at >= len(self.data)

    def number(self, below: int) -> int:
        """From 0 to `below` - 1, of one octet or two."""
        octets = 1 if below <= 256 else 2
        return int.from_bytes(self.take(octets), "big") % below

    def one_of(self, items: Sequence[Item]) -> Item:
        return items[self.number(len(items))]

    def take(self, octets: int) -> bytes:
        taken = self.data[self.at : self.at + octets]
        self.at += octets
        return taken

    def piece(self) -> bytes:
        """So many octets as the next one says."""
        return self.take(self.number(256))

    def rest(self) -> bytes:
        return self.take(len(self.data))
