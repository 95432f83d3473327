"""A bounded memory of ids that the server gave or echoes: it decides how many there are, we how many we keep."""

from __future__ import annotations

from typing import Generic, TypeVar

import attrs

Value = TypeVar("Value")

REMEMBERED = 128  # a playout of minutes has a dozen items; an error follows its cause within a few events


@attrs.define
class Recent(Generic[Value]):
    """The last few keys that were added, each with a value."""

    limit: int = REMEMBERED
    _values: dict[str, Value] = attrs.field(factory=dict, init=False)  # in the order of their coming

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def add(self, key: str, value: Value) -> None:
        """Remember one more, and forget the oldest beyond the limit."""
        self._values[key] = value
        if len(self._values) > self.limit:
            del self._values[next(iter(self._values))]

    def clear(self) -> None:
        """Forget all."""
        self._values.clear()

    def get(self, key: str) -> Value | None:
        return self._values.get(key)

    def take(self, key: str | None) -> Value | None:
        """Return and forget a value; None when there is none."""
        return None if key is None else self._values.pop(key, None)

    def keys_of(self, value: Value) -> list[str]:
        """Return the keys with this value, oldest first."""
        return [key for key, held in self._values.items() if held == value]

    def items(self) -> list[tuple[str, Value]]:
        """Return all keys with their values, oldest first."""
        return list(self._values.items())
