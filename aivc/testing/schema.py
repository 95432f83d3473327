"""A strict reader for what a client sent: unknown fields, missing ones, types, enumerations and ranges.

A `Check` looks at one value and raises `Refusal` for the first thing that is wrong, as the Realtime API reports one
error per event. Checks are built from the functions here; `rules.py` writes the API down with them.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any

Json = dict[str, Any]  # a JSON object, as decoded
Check = Callable[[Any, str], None]  # value, dotted path such as session.tools[0].name


class Refusal(Exception):
    """What the server answers with an `error` event.

    Attributes:
        code: machine-readable, None for the few errors that have none.
        param: dotted path of the offending field, or None.
    """

    def __init__(self, code: str | None, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.type = "invalid_request_error"


def kind(value: object) -> str:
    """How error messages name a JSON value's type."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def wrong_type(value: object, path: str, expected: str) -> Refusal:
    message = f"Invalid type for '{path}': expected {expected}, but got {kind(value)} instead."
    return Refusal("invalid_type", message, path)


def anything(value: object, path: str) -> None:
    """No check: free-form JSON."""


def boolean(value: object, path: str) -> None:
    if not isinstance(value, bool):
        raise wrong_type(value, path, "a boolean")


def check_range(noun: str, value: float, path: str, lowest: float, highest: float | None) -> None:
    """Ends included; `noun` is `integer` or `decimal`, and begins the error code."""
    start = f"Invalid '{path}': {noun}"
    if value < lowest:
        message = f"{start} below minimum value. Expected a value >= {lowest}, but got {value} instead."
        raise Refusal(f"{noun}_below_min_value", message, path)
    if highest is not None and value > highest:
        message = f"{start} above maximum value. Expected a value <= {highest}, but got {value} instead."
        raise Refusal(f"{noun}_above_max_value", message, path)


def integer(lowest: int, highest: int | None = None) -> Check:
    """An integer in a range, ends included; a quoted number or a float is refused."""

    def check(value: object, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(value, path, "an integer")
        check_range("integer", value, path, lowest, highest)

    return check


def decimal(lowest: float, highest: float) -> Check:
    """A number in a range, ends included."""

    def check(value: object, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_type(value, path, "a decimal")
        check_range("decimal", value, path, lowest, highest)

    return check


def text(longest: int | None = None, *, pattern: str | None = None) -> Check:
    """A string, of at most `longest` characters, matching `pattern` from end to end."""

    def check(value: object, path: str) -> None:
        if not isinstance(value, str):
            raise wrong_type(value, path, "a string")
        if longest is not None and len(value) > longest:
            message = f"Invalid '{path}': string too long. Expected a string with maximum length {longest}."
            raise Refusal("string_above_max_length", message, path)
        if pattern is not None and not re.fullmatch(pattern, value):
            raise Refusal("invalid_value", f"Invalid '{path}': string does not match pattern '{pattern}'.", path)

    return check


def base64_text(value: object, path: str) -> None:
    """Standard base64 with padding, nothing else in it."""
    text()(value, path)
    assert isinstance(value, str)
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        message = f"Invalid '{path}'. Expected base64-encoded audio bytes, but got an invalid value."
        raise Refusal("invalid_value", message, path) from None


def one_of(*values: str) -> Check:
    """One of these strings."""

    def check(value: object, path: str) -> None:
        if not isinstance(value, str):
            raise wrong_type(value, path, f"one of {quoted(values)}")
        if value not in values:
            raise Refusal("invalid_value", f"Invalid value: '{value}'. Supported values are: {quoted(values)}.", path)

    return check


def quoted(values: tuple[str, ...]) -> str:
    return ", ".join(f"'{value}'" for value in values)


def nullable(check: Check) -> Check:
    def check_or_null(value: object, path: str) -> None:
        if value is not None:
            check(value, path)

    return check_or_null


def text_or(check: Check, literal: Check) -> Check:
    """`literal` for a string, `check` for anything else."""

    def either(value: object, path: str) -> None:
        (literal if isinstance(value, str) else check)(value, path)

    return either


def array_of(check: Check, *, longest: int = 1024) -> Check:
    def check_array(value: object, path: str) -> None:
        if not isinstance(value, list):
            raise wrong_type(value, path, "an array")
        if len(value) > longest:
            message = f"Invalid '{path}': array too long. Expected an array with maximum length {longest}."
            raise Refusal("array_above_max_length", message, path)
        for index, element in enumerate(value):
            check(element, f"{path}[{index}]")

    return check_array


def exactly(*allowed: list[str]) -> Check:
    """An array with the same members as one of these, in any order."""

    def check(value: object, path: str) -> None:
        array_of(text())(value, path)
        assert isinstance(value, list)
        if sorted(value) not in [sorted(choice) for choice in allowed]:
            choices = ", ".join(str(choice) for choice in allowed)
            raise Refusal("invalid_value", f"Invalid value: {value}. Supported combinations are: {choices}.", path)

    return check


def fields(known: Mapping[str, Check], *, required: tuple[str, ...] = ()) -> Check:
    """An object with these fields and no others."""

    def check(value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise wrong_type(value, path, "an object")
        prefix = f"{path}." if path else ""
        for name, member in value.items():
            if name not in known:
                raise Refusal("unknown_parameter", f"Unknown parameter: '{prefix}{name}'.", f"{prefix}{name}")
            known[name](member, f"{prefix}{name}")
        for name in required:
            if name not in value:
                message = f"Missing required parameter: '{prefix}{name}'."
                raise Refusal("missing_required_parameter", message, f"{prefix}{name}")

    return check


def mapping(*, most: int, longest_key: int, longest_value: int) -> Check:
    """Free string keys with string values."""

    def check(value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise wrong_type(value, path, "an object")
        if len(value) > most:
            message = f"Invalid '{path}': too many properties. Expected at most {most}."
            raise Refusal("object_above_max_properties", message, path)
        for name, member in value.items():
            text(longest_key)(name, f"{path}.{name[:longest_key]}")
            text(longest_value)(member, f"{path}.{name}")

    return check


def tagged(tag: str, variants: Mapping[str, Check], *, default: str | None = None) -> Check:
    """An object whose field `tag` says which check it gets; without a `default` the tag is required."""

    def check(value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise wrong_type(value, path, "an object")
        where = f"{path}.{tag}" if path else tag
        if tag not in value and default is None:
            raise Refusal("missing_required_parameter", f"Missing required parameter: '{where}'.", where)
        name = value.get(tag, default)
        one_of(*variants)(name, where)
        variants[str(name)](value, path)

    return check
