"""The commands that the test OpenSIPS takes: JSON-RPC 2.0 as its management interface (mi) and mi_datagram do it.

No I/O. A set of parameter names must be one of the command's recipes; errors are those of mi.c, texts included.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, Final

import attrs

from aivc.testing.schema import Json

PARSE_ERROR: Final = b"400 Parse_error"  # these two are no JSON
INTERNAL_ERROR: Final = b"500 Internal error"
LARGEST_OCTETS: Final = 65_457  # of a request and of an answer (datagram_fnc.h)
LARGEST_INT: Final = 2**31 - 1

INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
WRONG_COUNT: Final = "Too few or too many parameters"
WRONG_NAMES: Final = "Named parameters do not match"
AMBIGUOUS: Final = "Ambiguous call, use named parameters instead"

Recipe = tuple[str, ...]


class CommandError(Exception):
    """What a command is refused with."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(f"{code} {message}" + (f": {data}" if data else ""))
        self.code = code
        self.message = message
        self.data = data

    def as_json(self) -> Json:
        told: Json = {"code": self.code, "message": self.message}
        return told if self.data is None else {**told, "data": self.data}


def with_content(*mandatory: str) -> tuple[Recipe, ...]:
    """What may go with the mandatory parameters: a type only with a body."""
    contents: tuple[Recipe, ...] = (
        (),
        ("body",),
        ("extra_headers",),
        ("body", "content_type"),
        ("body", "extra_headers"),
        ("body", "content_type", "extra_headers"),
    )
    return tuple((*mandatory, *content) for content in contents)


def start_recipes() -> tuple[Recipe, ...]:
    """ua_session_client_start: a content type only with a body; four combinations are missing in b2b_entities.c."""
    optional = ("proxy", "body", "content_type", "extra_headers", "flags", "socket")
    sets = (chosen for count in range(len(optional) + 1) for chosen in combinations(optional, count))
    missing = {
        ("proxy", "body", "extra_headers", "flags"),
        ("proxy", "body", "extra_headers", "socket"),
        ("proxy", "body", "flags", "socket"),
        ("proxy", "body", "extra_headers", "flags", "socket"),
    }
    return tuple(
        ("ruri", "to", "from", *chosen)
        for chosen in sets
        if ("content_type" not in chosen or "body" in chosen) and chosen not in missing
    )


RECIPES: Final[Mapping[str, tuple[Recipe, ...]]] = {
    "event_subscribe": (("event", "socket"), ("event", "socket", "expire")),
    "subscribers_list": ((), ("event",), ("event", "socket")),
    "ua_session_client_start": start_recipes(),
    "ua_session_list": ((), ("key",)),
    "ua_session_reply": with_content("key", "method", "code", "reason"),
    "ua_session_terminate": (("key",), ("key", "extra_headers")),
    "ua_session_update": with_content("key", "method"),
    "version": ((),),
}


@attrs.frozen(eq=False)
class Parameters:
    """Those of one command, by name."""

    values: Mapping[str, object]

    def text(self, name: str) -> str:
        """Raises CommandError."""
        value = self.values[name]
        if isinstance(value, str):
            return value
        if is_number(value):
            return str(to_int(value))
        raise bad_type(name)

    def optional(self, name: str) -> bytes | None:
        return octets(self.text(name)) if name in self.values else None

    def integer(self, name: str) -> int:
        """A number, or a string of digits. Raises CommandError."""
        value = self.values[name]
        if is_number(value):
            return to_int(value)
        if isinstance(value, str) and value.removeprefix("-").isdecimal():
            return int(value)
        raise bad_type(name)


def bad_type(name: str) -> CommandError:
    return CommandError(INVALID_PARAMS, "Invalid params", f"Bad type for parameter '{name}'")


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def to_int(value: Any) -> int:
    """A number as cJSON has it in an int."""
    return int(max(-LARGEST_INT - 1, min(value, LARGEST_INT)))


@attrs.frozen(eq=False)
class Call:
    """One readable request.

    Attributes:
      has_id: False of a notification.
    """

    request: Json
    method: str
    id: object
    has_id: bool
    is_valid: bool


def read_call(data: bytes) -> Call | None:
    """One datagram; None if it is no JSON. What follows a JSON text is not looked at, octets need not be UTF-8."""
    try:
        text = data[:LARGEST_OCTETS].decode("utf-8", "surrogateescape").lstrip()
        request, _ = json.JSONDecoder(strict=False).raw_decode(text)
        octets(json.dumps(request, ensure_ascii=False))  # half a surrogate pair, escaped, is no JSON for cJSON
    except (ValueError, RecursionError):
        return None
    if not isinstance(request, dict):
        return Call({}, "", None, False, False)
    method, params = request.get("method"), request.get("params")
    is_valid = (
        request.get("jsonrpc") == "2.0"
        and isinstance(method, str)
        and ("params" not in request or is_structured(params))
    )
    is_valid = is_valid and is_id(request.get("id"))
    name = method if isinstance(method, str) else ""
    return Call(request, name, request.get("id"), "id" in request, is_valid)


def octets(text: str) -> bytes:
    """As they came, or the UTF-8 of what was escaped. Raises UnicodeEncodeError."""
    return text.encode("utf-8", "surrogateescape")


def is_structured(params: object) -> bool:
    return isinstance(params, (dict, list))


def is_id(value: object) -> bool:
    return value is None or isinstance(value, str) or is_number(value)


def match_parameters(method: str, params: object) -> Parameters:
    """The parameters by name, as get_cmd_recipe in mi.c finds them. Raises CommandError."""
    recipes = RECIPES[method]
    if not params:
        if () in recipes:
            return Parameters({})
        raise CommandError(INVALID_PARAMS, "Invalid params", WRONG_COUNT)
    fitting = [recipe for recipe in recipes if recipe and len(recipe) == len(params)]  # type: ignore[arg-type]  # list or dict
    if not fitting:
        raise CommandError(INVALID_PARAMS, "Invalid params", WRONG_COUNT)
    if isinstance(params, dict):
        if any(set(recipe) == set(params) for recipe in fitting):
            return Parameters(params)
        raise CommandError(INVALID_PARAMS, "Invalid params", WRONG_NAMES)
    if len(fitting) > 1:
        raise CommandError(INVALID_PARAMS, "Invalid params", AMBIGUOUS)
    assert isinstance(params, Sequence)
    return Parameters(dict(zip(fitting[0], params, strict=True)))


def answer_to(call: Call, perform: Callable[[str, Parameters], object]) -> tuple[Json, bytes | None]:
    """Carry a call out: what was answered, and the datagram; None: no answer at all.

    Args:
      perform: called with the command's name and parameters if both are right; returns the result or raises
        CommandError.
    """
    try:
        if not call.is_valid:
            raise CommandError(INVALID_REQUEST, "Invalid Request")
        if call.method not in RECIPES:
            raise CommandError(METHOD_NOT_FOUND, "Method not found")
        told: Json = {"result": perform(call.method, match_parameters(call.method, call.request.get("params")))}
    except CommandError as error:
        told = {"error": error.as_json()}
    if not call.has_id and told.get("error", {}).get("code") != INVALID_REQUEST:
        return told, None
    if not is_id(call.id):
        return told, INTERNAL_ERROR
    identity = to_int(call.id) if is_number(call.id) else call.id
    text = json.dumps({"jsonrpc": "2.0", **told, "id": identity}, ensure_ascii=False, separators=(",", ":"))
    data = octets(text)
    return told, data if len(data) < LARGEST_OCTETS else INTERNAL_ERROR
