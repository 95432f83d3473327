"""The model's arguments where no Python signature checks them: JSON text against a JSON schema, lightly."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping

from aivc.realtime.toolerrors import ToolArgumentsError

TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def parse_untrusted(name: str, arguments_json: str) -> dict[str, object]:
    """Return the arguments of one call of the function `name`.

    Raises:
        ToolArgumentsError: they are no JSON object.
    """
    try:
        given = json.loads(arguments_json) if arguments_json.strip() else {}  # some models send nothing for {}
    except (ValueError, RecursionError):
        raise ToolArgumentsError(f"{name}: the arguments are not JSON") from None
    if not isinstance(given, dict):
        raise ToolArgumentsError(f"{name}: the arguments are not a JSON object")
    return given


def check(name: str, schema: Mapping[str, object], given: Mapping[str, object]) -> None:
    """Check the members of an object: those required are there, and each has its type. Nothing deeper.

    Raises:
        ToolArgumentsError: with every problem in one text that a model can act on.
    """
    if problems := list(problems_of(schema, given)):
        raise ToolArgumentsError(f"{name}: {'; '.join(problems)}")


def problems_of(schema: Mapping[str, object], given: Mapping[str, object]) -> Iterator[str]:
    required, properties = schema.get("required"), schema.get("properties")
    for name in required if isinstance(required, list | tuple) else ():
        if name not in given:
            yield f"missing argument {name!r}"
    known = properties if isinstance(properties, Mapping) else {}
    for name, value in given.items():
        member = known.get(name)
        if name not in known and schema.get("additionalProperties") is False:
            yield f"unknown argument {name!r:.60}"
        elif isinstance(member, Mapping) and not fits(member, value):
            yield f"{name}: expected {expected(member)}, got {value!r:.60}"


def fits(schema: Mapping[str, object], value: object) -> bool:
    kinds, choices = schema.get("type"), schema.get("enum")
    if isinstance(choices, list | tuple) and value not in choices:
        return False
    names = [kinds] if isinstance(kinds, str) else list(kinds) if isinstance(kinds, list | tuple) else []
    return not names or any(is_of(name, value) for name in names)


def is_of(kind: object, value: object) -> bool:
    if not isinstance(kind, str) or kind not in TYPES:
        return True  # a type that we do not know is not ours to judge
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, float) and not math.isfinite(value):
        return False  # Python's reader takes NaN for a number; JSON has none (RFC 8259 section 6)
    return isinstance(value, TYPES[kind]) or (kind == "integer" and isinstance(value, float) and value.is_integer())


def expected(schema: Mapping[str, object]) -> str:
    kinds, choices = schema.get("type"), schema.get("enum")
    if isinstance(choices, list | tuple):
        return f"one of {json.dumps(list(choices), ensure_ascii=False, default=str)}"
    return " or ".join(map(str, kinds)) if isinstance(kinds, list | tuple) else str(kinds)
