"""One raw value, from TOML, JSON or the environment, to what the setting's type says. Exact: nothing is coerced.

cattrs only chooses the hook by type. Its own hooks would take "5070" for 5070, 5 for "5" and "no" for True.
"""

from __future__ import annotations

import types
from collections import abc
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin

import cattrs

from aivc.config.catalogue import Setting
from aivc.config.rules import shortened
from aivc.config.settings import Secret
from aivc.config.spelling import as_key, as_toml, did_you_mean, wrong_type
from aivc.config.tables import check_size, check_text, copied, structured

NUMBERS = frozenset({bool, int, float})
EXPECTED = {bool: "true or false", int: "an integer", float: "a number", str: "text", Secret: "text"}
TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class Wrong(ValueError):
    """A value cannot be used: everything that is wrong with it."""

    def __init__(self, *found: tuple[str, str]) -> None:
        super().__init__("; ".join(f"{where}: {text}" if where else text for where, text in found))
        self.found = found  # where inside the value, such as `.name` or `[0].url` or nothing; and what


def read(setting: Setting, raw: object, environ: Mapping[str, str]) -> object:
    """The value of this setting that `raw` stands for.

    Args:
        setting: which; its type is not an array of tables.
        raw: a value of TOML or JSON.
        environ: where settings find their values that only name a variable.

    Raises:
        Wrong: wrong type, outside the range, or against the setting's rule; the text says which.
    """
    try:
        check_size(raw)
        check_text(raw)
        value: object = CONVERTER.structure(raw, setting.kind)
    except Wrong:
        raise
    except ValueError as error:
        raise Wrong(("", str(error))) from None
    if setting.about.indirect:
        value = looked_up(value, environ)
    if found := [*problems(setting, value)]:
        raise Wrong(*found)
    return value


def problems(setting: Setting, value: object) -> Iterator[tuple[str, str]]:
    """What is wrong with a value of the right type, and where in it."""
    if isinstance(value, tuple):
        if texts := [text for item in value for text in check(setting, item)]:
            yield "", "; ".join(texts)
    elif isinstance(value, Mapping) and get_args(setting.kind)[1:] == (object,):
        if setting.about.rule is not None:
            yield from (("", text) for text in against(setting.about.rule, value))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from (("", text) for text in against(setting.about.names, key))
            yield from ((f".{as_key(key)}", text) for text in check(setting, item))
    else:
        yield from (("", text) for text in check(setting, value))


def check(setting: Setting, item: object) -> Iterator[str]:
    """What is wrong with one text or number."""
    if isinstance(item, (str, Secret)):
        text = item.reveal() if isinstance(item, Secret) else item
        if text.strip():
            yield from against(setting.about.rule, text)
        elif not (setting.about.blank and text == ""):
            yield "is empty; leave it out instead"
    elif isinstance(item, (int, float)) and not isinstance(item, bool):
        outside = [*check_range(setting.about.low, setting.about.high, item)]
        yield from outside or against(setting.about.rule, item)


def check_range(low: float | None, high: float | None, value: float) -> Iterator[str]:
    # "not (low <= value)", because nan compares with nothing and must be refused
    if low is not None and high is not None and not low <= value <= high:
        yield f"{value} is outside {low:g} to {high:g}"
    elif low is not None and not low <= value:
        yield f"{value} is less than {low:g}"


def against(rule: Callable[[Any], object] | None, value: object) -> Iterator[str]:
    if rule is not None:
        try:
            rule(value)
        except ValueError as error:
            yield str(error)


def looked_up(value: object, environ: Mapping[str, str]) -> object:
    """Secrets that are names of variables, replaced by what the variables have."""
    if isinstance(value, Secret):
        if not environ.get(value.reveal()):  # not a key that was written here by mistake: its name may be shown
            raise Wrong(("", f"the environment variable {variable_named(value.reveal())} is not set"))
        return Secret(environ[value.reveal()])
    if not isinstance(value, Mapping):
        return value
    found: list[tuple[str, str]] = []
    ready: dict[str, object] = {}
    for key, item in value.items():
        try:
            ready[key] = looked_up(item, environ)
        except Wrong as wrong:
            found += [(f".{as_key(key)}", text) for _, text in wrong.found]
    if found:
        raise Wrong(*found)
    return ready


def variable_named(text: str) -> str:
    """The name of a variable, to be shown; something else could be the secret itself."""
    return text if text.replace("_", "a").isalnum() and text.isupper() else "named here (not shown: is it the value?)"


def from_text(kind: Any, text: str) -> object:
    """What a variable's text says for this type, as TOML would have given it; the text itself if it says nothing."""
    if kind is bool:
        return TRUTH.get(text.strip().lower(), text)
    if kind in (int, float):
        return number(kind, text)
    if get_origin(kind) is tuple:
        return items(text)
    if get_origin(kind) is abc.Mapping:
        return structured(text, "a TOML inline table nor a JSON object")
    if get_origin(kind) in (types.UnionType, Union):
        tried = (from_text(member, text) for member in get_args(kind))
        return next((value for value in tried if value != text), text)
    return text


def number_from_text(kind: Any, raw: object) -> object:
    """The number or truth value that a text says where one is wanted: scripts of OpenSIPS write `"$avp(silence)"`.
    Anything else as it is."""
    kinds = get_args(kind) if get_origin(kind) in (types.UnionType, Union) else (kind,)
    return from_text(kind, raw) if isinstance(raw, str) and not NUMBERS.isdisjoint(kinds) else raw


def number(kind: Callable[[str], object], text: str) -> object:
    try:
        return kind(text)
    except ValueError:
        return text


def items(text: str) -> object:
    """`a, b` or a TOML array."""
    if not text.lstrip().startswith("["):
        return [item.strip() for item in text.split(",")]
    return structured(text, "a list with commas nor a TOML array")


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


def table(raw: object, kind: Any) -> Mapping[str, object]:
    """`Mapping[str, T]`; with T = object anything that JSON can say."""
    if not isinstance(raw, dict):
        raise wrong_type("a table", raw)
    of = get_args(kind)[1]
    if of is object:
        whole = copied(raw)
        assert isinstance(whole, dict)
        return whole
    found: list[tuple[str, str]] = []
    read_items: dict[str, object] = {}
    for key, item in raw.items():
        try:
            read_items[key] = CONVERTER.structure(item, of)
        except ValueError as error:
            found.append((f".{as_key(key)}", str(error)))
    if found:
        raise Wrong(*found)
    return read_items


def converter() -> cattrs.Converter:
    made = cattrs.Converter(detailed_validation=False)
    for kind in (bool, int, str):
        # registered one by one: cattrs silently passes over a predicate hook for primitives
        made.register_structure_hook(kind, exact)
    made.register_structure_hook(float, exact_float)
    made.register_structure_hook(Secret, exact_secret)
    made.register_structure_hook_func(is_literal, one_of)
    made.register_structure_hook_func(is_tuple, texts)
    made.register_structure_hook_func(is_table, table)
    made.register_structure_hook_func(is_integer_or_word, integer_or_word)
    return made


def is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


def is_table(kind: Any) -> bool:
    return get_origin(kind) is abc.Mapping


def is_integer_or_word(kind: Any) -> bool:
    members = get_args(kind)
    return len(members) == 2 and members[0] is int and get_origin(members[1]) is Literal


CONVERTER = converter()
