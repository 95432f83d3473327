"""Values and names as messages, tables and rendered files spell them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping

from aivc.config.rules import NAME, shortened

TOML_NAMES = {
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "text",
    list: "an array",
    dict: "a table",
    type(None): "null",
}
LONGEST_HINTED = 64  # characters; near names of longer ones are not looked for, which takes long


def wrong_type(expected: str, raw: object, *, secret: bool = False) -> ValueError:
    """The error for a value of another type; it does not show the value if that is a secret or large."""
    got = TOML_NAMES.get(type(raw), type(raw).__name__)
    if secret or raw is None or isinstance(raw, (list, dict)):
        return ValueError(f"expected {expected}, got {got}")
    return ValueError(f"expected {expected}, got {got} {shortened(raw) if isinstance(raw, str) else as_toml(raw)[:60]}")


def as_toml(value: object) -> str:
    """A value in TOML's spelling, on one line."""
    match value:
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case tuple() | list():
            return "[" + ", ".join(as_toml(item) for item in value) + "]"
        case Mapping():
            pairs = ", ".join(f"{as_key(str(key))} = {as_toml(item)}" for key, item in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case bool():
            return str(value).lower()
        case None:
            return "null"  # which TOML lacks; only JSON can have given it
        case _:
            return str(value)


def as_key(name: str) -> str:
    """The name of a key, in quotes if TOML needs them."""
    return name if name and set(name) <= NAME else as_toml(name)


def did_you_mean(name: str, known: tuple[str, ...] | list[str]) -> str:
    """`; did you mean X?`, or nothing when no name is near."""
    near = difflib.get_close_matches(name.lower(), known, 1) if len(name) <= LONGEST_HINTED else []
    return f"; did you mean {near[0]}?" if near else ""
