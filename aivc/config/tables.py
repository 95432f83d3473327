"""Values with others inside: copied, and refused if they are too large or hold what JSON cannot; and their text.

Such tables go to the model as JSON, so that a date, a number that is none and a key that is no text have no place.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import tomli

from aivc.config.rules import shortened
from aivc.config.spelling import wrong_type

DEEPEST = 32  # levels; a JSON schema takes two for each of its own, and Python's stack ends near a thousand
MOST_ENTRIES = 10_000  # keys and items of one value in all: more is a mistake, and would take long in every call


def copied(raw: object) -> object:
    """A copy of a value, of a size that was checked, as JSON has them; ValueError if it is none."""
    match raw:
        case dict():
            if not all(isinstance(key, str) for key in raw):
                raise ValueError("has a key that is no text")
            return {key: copied(item) for key, item in raw.items()}
        case list():
            return [copied(item) for item in raw]
        case float() if not math.isfinite(raw):
            raise ValueError(f"has the number {raw}, which JSON lacks")
        case str() | bool() | int() | float() | None:
            return raw
        case _:
            raise wrong_type("what JSON can say", raw)


def check_size(raw: object) -> None:
    """ValueError if there are more than MOST_ENTRIES keys and items in a value, or more than DEEPEST levels."""
    level, entries = [raw], 0
    for _ in range(DEEPEST + 2):
        level = [item for each in level for item in inside(each)]
        entries += len(level)
        if entries > MOST_ENTRIES:
            raise ValueError(f"has more than {MOST_ENTRIES} entries")
        if not level:
            return
    raise ValueError(f"is more than {DEEPEST} levels deep")


def check_text(raw: object) -> None:
    """ValueError if UTF-8 cannot have a text in a value of a size that was checked: JSON may say `\\ud800`, and a
    variable have octets that are no UTF-8."""
    if isinstance(raw, str):
        try:
            raw.encode()
        except UnicodeEncodeError:
            raise ValueError("has half of a character (a lone surrogate), which cannot be sent") from None
    keys = raw if isinstance(raw, dict) else ()
    for part in (*keys, *inside(raw)):
        check_text(part)


def inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def structured(text: str, expected: str) -> object:
    """What the text of a variable says: a TOML value or JSON; ValueError, with what was expected, if neither."""
    try:
        return json.loads(text, object_pairs_hook=without_doubles, parse_constant=no_constant)
    except (ValueError, RecursionError):  # ValueError: JSON's own, and numbers of thousands of digits
        pass
    try:
        table = tomli.loads(f"value = {text}")
    except (ValueError, RecursionError):
        table = {}
    if list(table) != ["value"]:
        raise ValueError(f"{shortened(text)} is neither {expected}")
    return table["value"]


def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key is given twice")
    return dict(pairs)


def no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
