"""From a typed Python function to the JSON schema that the model sees, and from the model's arguments to typed values.

Models obey simple schemas best, so only what can be said simply is supported: text, numbers, booleans, `Literal`,
enums, lists, `dict[str, ...]`, optional values, attrs classes of these, and `Annotated[..., "description"]`.
"""

from __future__ import annotations

import enum
import inspect
import math
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs
import cattrs
from cattrs.cols import list_structure_factory

Schema = dict[str, object]
Exact = TypeVar("Exact", str, bool)

PRIMITIVES: dict[object, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


def exactly(expected: type[Exact]) -> Callable[[object, object], Exact]:
    """Return a cattrs hook that takes this type only: by itself cattrs makes text of anything, and true of "no"."""

    def structure(value: object, _type: object) -> Exact:
        if not isinstance(value, expected):
            raise ValueError(f"expected {PRIMITIVES[expected]}, got {value!r:.60}")
        return value

    return structure


def integer(value: object, _type: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise ValueError(f"expected integer, got {value!r:.60}")
    return int(value)  # models write 3.0


def decimal(value: object, _type: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"expected number, got {value!r:.60}")  # a NaN passes every comparison that a tool makes
    return float(value)


def is_list(annotation: Any) -> bool:
    return get_origin(annotation) is list


def proper_list(annotation: Any, converter: cattrs.Converter) -> Callable[[object, object], object]:
    """Return a hook that takes no text for a list; a text has items too."""
    structure_items = list_structure_factory(annotation, converter)

    def structure(value: object, expected: Any) -> object:
        if not isinstance(value, list):
            raise ValueError(f"expected array, got {value!r:.60}")
        return structure_items(value, expected)

    return structure


def make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook(str, exactly(str))
    converter.register_structure_hook(bool, exactly(bool))
    converter.register_structure_hook(int, integer)
    converter.register_structure_hook(float, decimal)
    converter.register_structure_hook_factory(is_list, proper_list)
    return converter


CONVERTER = make_converter()


@attrs.frozen
class Parameter:
    """One parameter of a tool's function."""

    name: str
    type: Any  # the annotation, without Annotated's remarks
    required: bool
    description: str | None = None


def parameters_of(function: Callable[..., object]) -> tuple[Parameter, ...]:
    """Return the parameters of a function that can be called by keyword.

    Raises:
        TypeError: a parameter has no annotation, or takes positional or further arguments.
    """
    hints = get_type_hints(inspect.unwrap(function), include_extras=True)
    described = documented(inspect.getdoc(function) or "")[1]
    found = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"{function.__name__}: parameter {name} cannot be given by keyword")
        if name not in hints:
            raise TypeError(f"{function.__name__}: parameter {name} has no type annotation")
        bare, remark = unannotated(hints[name])
        required = parameter.default is parameter.empty
        found.append(Parameter(name, bare, required, remark or described.get(name)))
    return tuple(found)


def object_schema(parameters: tuple[Parameter, ...]) -> Schema:
    """Return the JSON schema of an object with these parameters as its members.

    Raises:
        TypeError: a type that has no simple schema; the message names the parameter.
    """
    properties: Schema = {}
    for parameter in parameters:
        try:
            member = type_schema(parameter.type, optional=not parameter.required)
        except TypeError as error:
            raise TypeError(f"parameter {parameter.name}: {error}") from None
        properties[parameter.name] = described_schema(member, parameter.description)
    return {
        "type": "object",
        "properties": properties,
        "required": [parameter.name for parameter in parameters if parameter.required],
        "additionalProperties": False,
    }


def type_schema(annotation: Any, *, optional: bool = False) -> Schema:
    """Return the JSON schema of one type; `optional` values need not say that they may be null."""
    annotation, remark = unannotated(annotation)
    if annotation in PRIMITIVES:
        return described_schema({"type": PRIMITIVES[annotation]}, remark)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return choice(arguments)
    if origin in (Union, types.UnionType):
        return union_schema(arguments, optional)
    if origin is list:
        return {"type": "array", "items": type_schema(arguments[0])}
    if origin is dict and arguments[0] is str:
        return {"type": "object", "additionalProperties": type_schema(arguments[1])}
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return choice(tuple(member.value for member in annotation))
    if isinstance(annotation, type) and attrs.has(annotation):
        return object_schema(members_of(annotation))
    raise TypeError(f"{annotation!r} has no JSON schema here; use text, numbers, booleans, lists or attrs classes")


def members_of(cls: type[attrs.AttrsInstance]) -> tuple[Parameter, ...]:
    """Return what structuring an attrs class needs."""
    hints = get_type_hints(cls, include_extras=True)
    found = []
    for field in attrs.fields(cls):
        if field.init:
            bare, remark = unannotated(hints[field.name])
            found.append(Parameter(field.name, bare, field.default is attrs.NOTHING, remark))
    return tuple(found)


def union_schema(members: tuple[Any, ...], optional: bool) -> Schema:
    """Return the schema of `X | None`; other unions are ambiguous to structure."""
    values = [member for member in members if member is not type(None)]
    if len(values) != 1 or len(values) == len(members):
        raise TypeError("only X | None is supported among unions")
    schema = type_schema(values[0])
    return schema if optional else {"anyOf": [schema, {"type": "null"}]}


def choice(values: tuple[object, ...]) -> Schema:
    kinds = {PRIMITIVES.get(type(value)) for value in values}
    if len(kinds) != 1 or None in kinds:
        raise TypeError("the values of a Literal or an enum must all be text, or all numbers")
    return {"type": kinds.pop(), "enum": list(values)}


def unannotated(annotation: Any) -> tuple[Any, str | None]:
    """Split `Annotated[X, "remark"]` into X and the remark."""
    if get_origin(annotation) is not Annotated:
        return annotation, None
    bare, *remarks = get_args(annotation)
    return bare, next((remark for remark in remarks if isinstance(remark, str)), None)


def described_schema(schema: Schema, description: str | None) -> Schema:
    return schema if description is None else {**schema, "description": description}


def documented(docstring: str) -> tuple[str, dict[str, str]]:
    """Return a docstring's text before its sections, and what its `Args:` section or `:param x:` lines say of each."""
    text: list[str] = []
    described: dict[str, str] = {}
    section = name = ""
    for line in docstring.splitlines():
        stripped = line.strip()
        if stripped in ("Args:", "Arguments:", "Returns:", "Raises:", "Yields:", "Example:", "Examples:"):
            section, name = stripped, ""
        elif stripped.startswith((":param ", ":return", ":raises ")):
            section, name = ":", ""
            head, _, rest = stripped[1:].partition(":")
            if head.startswith("param "):
                name, described[head.split()[-1]] = head.split()[-1], rest.strip()
        elif section in ("Args:", "Arguments:"):
            name = documented_argument(line, stripped, name, described)
        elif not section:
            text.append(stripped)
        elif name and stripped:
            described[name] += f" {stripped}"
    return paragraphs(text), described


def paragraphs(lines: list[str]) -> str:
    """Join the lines of each paragraph: a docstring is wrapped for people."""
    blocks = " ".join(line or "\0" for line in lines).split("\0")
    return "\n\n".join(block.strip() for block in blocks if block.strip())


def documented_argument(line: str, stripped: str, name: str, described: dict[str, str]) -> str:
    """Read one line of an `Args:` section; return the argument that it is about."""
    head, colon, rest = stripped.partition(":")
    argument = head.split("(")[0].strip()
    if colon and argument.isidentifier() and indent(line) <= 4:
        described[argument] = rest.strip()
        return argument
    if name and stripped:
        described[name] += f" {stripped}"
    return name


def indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def structure_arguments(parameters: tuple[Parameter, ...], given: Mapping[str, object]) -> dict[str, object]:
    """Return the arguments with the function's own types.

    Raises:
        ValueError: with every problem in one text that a model can act on.
    """
    problems: list[str] = []
    known = {parameter.name for parameter in parameters}
    problems += [f"unknown argument {name!r:.60}" for name in given if name not in known]
    arguments: dict[str, object] = {}
    for parameter in parameters:
        if parameter.name not in given:
            if parameter.required:
                problems.append(f"missing argument {parameter.name!r}")
            continue
        try:
            arguments[parameter.name] = CONVERTER.structure(given[parameter.name], parameter.type)
        except Exception as error:  # a converter, an enum or the class's own validator may raise anything
            problems += cattrs.transform_error(error, parameter.name, explained)
    if problems:
        raise ValueError("; ".join(problems))
    return arguments


def explained(error: BaseException, expected: type | None) -> str:
    if isinstance(error, ValueError) or type(error) is Exception:  # the latter: cattrs about a Literal
        return str(error)
    return cattrs.v.format_exception(error, expected)
