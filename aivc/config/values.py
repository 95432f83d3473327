"""One raw value, from TOML or from the environment, to what the setting's type says. Exact: nothing is coerced.

cattrs only chooses the hook by type. Its own hooks would take "5070" for 5070, 5 for "5" and "no" for True.
"""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Callable, Iterator
from typing import Any, Literal, Union, get_args, get_origin

import cattrs
import tomli

from aivc.config.catalogue import Setting
from aivc.config.rules import shortened
from aivc.config.settings import Secret

TOML_NAMES = {bool: "a boolean", int: "an integer", float: "a number", str: "text", list: "an array", dict: "a table"}
EXPECTED = {bool: "true or false", int: "an integer", float: "a number", str: "text", Secret: "text"}
TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def read(setting: Setting, raw: object) -> object:
    """The value of this setting that `raw` stands for.

    Raises:
        ValueError: wrong type, outside the range, or against the setting's rule; the text says which.
    """
    kind = setting.kind
    value: object = CONVERTER.structure(raw, kind)
    problems = [
        problem for item in (value if isinstance(value, tuple) else (value,)) for problem in check(setting, item)
    ]
    if problems:
        raise ValueError("; ".join(problems))
    return value


def check(setting: Setting, item: object) -> Iterator[str]:
    """What is wrong with a value of the right type."""
    if isinstance(item, (str, Secret)):
        yield from check_text(setting, item.reveal() if isinstance(item, Secret) else item)
    elif isinstance(item, (int, float)) and not isinstance(item, bool):
        yield from check_range(setting.about.low, setting.about.high, item)


def check_range(low: float | None, high: float | None, value: float) -> Iterator[str]:
    # "not (low <= value)", because nan compares with nothing and must be refused
    if low is not None and high is not None and not low <= value <= high:
        yield f"{value} is outside {low:g} to {high:g}"
    elif low is not None and not low <= value:
        yield f"{value} is less than {low:g}"


def check_text(setting: Setting, text: str) -> Iterator[str]:
    if not text.strip():
        yield "is empty; leave it out instead"
    elif setting.about.rule is not None:
        try:
            setting.about.rule(text)
        except ValueError as error:
            yield str(error)


def from_text(kind: Any, text: str) -> object:
    """What a variable's text says for this type, as TOML would have given it; the text itself if it says nothing."""
    if kind is bool:
        return TRUTH.get(text.strip().lower(), text)
    if kind in (int, float):
        return number(kind, text)
    if get_origin(kind) is tuple:
        return items(text)
    if get_origin(kind) in (types.UnionType, Union):
        tried = (from_text(member, text) for member in get_args(kind))
        return next((value for value in tried if value != text), text)
    return text


def number(kind: Callable[[str], object], text: str) -> object:
    try:
        return kind(text)
    except ValueError:
        return text


def items(text: str) -> object:
    """`a, b` or a TOML array."""
    if not text.lstrip().startswith("["):
        return [item.strip() for item in text.split(",")]
    try:
        table = tomli.loads(f"items = {text}")
    except (ValueError, RecursionError):  # ValueError: TOML's own, and numbers of thousands of digits
        table = {}
    if list(table) != ["items"]:
        raise ValueError(f"{shortened(text)} is neither a list with commas nor a TOML array")
    return table["items"]


def wrong_type(expected: str, raw: object, *, secret: bool = False) -> ValueError:
    got = TOML_NAMES.get(type(raw), type(raw).__name__)
    if secret or isinstance(raw, (list, dict)):
        return ValueError(f"expected {expected}, got {got}")
    return ValueError(f"expected {expected}, got {got} {shortened(raw) if isinstance(raw, str) else as_toml(raw)[:60]}")


def as_toml(value: object) -> str:
    """A value in TOML's spelling, on one line."""
    match value:
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case tuple() | list():
            return "[" + ", ".join(as_toml(item) for item in value) + "]"
        case bool():
            return str(value).lower()
        case _:
            return str(value)


def exact(raw: object, kind: type[Any]) -> object:
    if type(raw) is not kind:
        raise wrong_type(EXPECTED[kind], raw)
    return raw


def exact_float(raw: object, _kind: type[float]) -> float:
    if isinstance(raw, bool) or not isinstance(raw, (int, float)):
        raise wrong_type(EXPECTED[float], raw)
    try:
        return float(raw)
    except OverflowError:
        raise ValueError("is too large for a number") from None


def exact_secret(raw: object, _kind: type[Secret]) -> Secret:
    if type(raw) is not str:
        raise wrong_type(EXPECTED[Secret], raw, secret=True)
    return Secret(raw)


def one_of(raw: object, kind: Any) -> object:
    choices = get_args(kind)
    if type(raw) is str and raw in choices:
        return raw
    listed = ", ".join(as_toml(choice) for choice in choices)
    if not isinstance(raw, str):
        raise wrong_type(f"one of {listed}", raw)
    raise ValueError(f"{shortened(raw)} is none of {listed}{did_you_mean(raw, choices)}")


def integer_or_word(raw: object, kind: Any) -> object:
    """`int | Literal["inf"]`."""
    words = [word for member in get_args(kind) for word in get_args(member)]
    if type(raw) is int or raw in words:
        return raw
    raise wrong_type(f"an integer or {' or '.join(as_toml(word) for word in words)}", raw)


def texts(raw: object, _kind: Any) -> tuple[str, ...]:
    """`tuple[str, ...]`; a list of one may be written without its brackets."""
    listed = [raw] if isinstance(raw, str) else raw
    if not isinstance(listed, list):
        raise wrong_type("a list of texts", raw)
    for item in listed:
        if not isinstance(item, str):
            raise wrong_type("a list of texts", item)
    return tuple(listed)


def did_you_mean(name: str, known: tuple[str, ...] | list[str]) -> str:
    """`; did you mean X?`, or nothing when no name is near."""
    near = difflib.get_close_matches(name.lower(), known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def converter() -> cattrs.Converter:
    made = cattrs.Converter(detailed_validation=False)
    for kind in (bool, int, str):
        # registered one by one: cattrs silently passes over a predicate hook for primitives
        made.register_structure_hook(kind, exact)
    made.register_structure_hook(float, exact_float)
    made.register_structure_hook(Secret, exact_secret)
    made.register_structure_hook_func(is_literal, one_of)
    made.register_structure_hook_func(is_tuple, texts)
    made.register_structure_hook_func(is_integer_or_word, integer_or_word)
    return made


def is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


def is_integer_or_word(kind: Any) -> bool:
    members = get_args(kind)
    return len(members) == 2 and members[0] is int and get_origin(members[1]) is Literal


CONVERTER = converter()
