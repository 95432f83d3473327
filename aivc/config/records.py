"""Arrays of tables, such as `[[tools.http]]`: every table a value of its class, with all that is wrong and where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from aivc.config.catalogue import Setting, fields_of, record_class
from aivc.config.rules import shortened
from aivc.config.settings import SipRegister
from aivc.config.spelling import did_you_mean, wrong_type
from aivc.config.values import Wrong, read

MOST_TABLES = 128  # as many functions as OpenAI allows a model
# The keys that are the name of a table, where it is not the first alone: two servers may each have a user 200.
IDENTITIES: Mapping[type[Any], tuple[str, ...]] = {SipRegister: ("user", "server")}


def read_value(setting: Setting, raw: object, environ: Mapping[str, str]) -> object:
    """The value of a setting of any type: `values.read`, or for an array of tables a tuple of its class.

    Raises:
        Wrong: with everything that is wrong.
    """
    cls = record_class(setting.kind)
    return read(setting, raw, environ) if cls is None else read_records(setting, cls, raw, environ)


def read_records(setting: Setting, cls: type[Any], raw: object, environ: Mapping[str, str]) -> tuple[object, ...]:
    if not isinstance(raw, list):
        error = wrong_type(f"an array of tables, [[{setting.path}]]", raw)
        raise Wrong(("", str(error)))
    if len(raw) > MOST_TABLES:
        raise Wrong(("", f"has more than {MOST_TABLES} tables"))
    found: list[tuple[str, str]] = []
    records: list[object] = []
    for index, item in enumerate(raw):
        try:
            records.append(read_record(cls, item, environ))
        except Wrong as wrong:
            found += [(f"[{index}]{where}", text) for where, text in wrong.found]
    found += doubles(cls, raw)
    if found:
        raise Wrong(*found)
    return tuple(records)


def read_record(cls: type[Any], raw: object, environ: Mapping[str, str]) -> object:
    """One table of an array."""
    if not isinstance(raw, dict):
        raise Wrong(("", str(wrong_type("a table", raw))))
    keys = {key.name: key for key in fields_of(cls, "")}
    found = [(f".{name}", "missing") for name, key in keys.items() if key.required and name not in raw]
    values: dict[str, object] = {}
    for name, item in raw.items():
        if name not in keys:
            found.append((f".{shortened(name)[1:-1]}", f"unknown key{did_you_mean(name, list(keys))}"))
            continue
        try:
            values[name] = read(keys[name], item, environ)
        except Wrong as wrong:
            found += [(f".{name}{where}", text) for where, text in wrong.found]
    if found:
        raise Wrong(*found)
    return cls(**values)


def doubles(cls: type[Any], raw: list[Any]) -> Iterator[tuple[str, str]]:
    """What is wrong when two tables have the same name."""
    keys = IDENTITIES.get(cls, (attrs.fields(cls)[0].name,))
    first: dict[tuple[str, ...], int] = {}
    for index, item in enumerate(raw):
        given = tuple(str(item[key]) for key in keys if key in item) if isinstance(item, dict) else ()
        if len(given) == len(keys) and first.setdefault(given, index) != index:
            yield f"[{index}].{keys[0]}", f"{shortened(' at '.join(given))} is the name of [{first[given]}], too"
