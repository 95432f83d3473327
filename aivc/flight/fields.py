"""Values of a recording as JSON has them, checked: whoever wrote the file, what comes out has the type it says."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable
from typing import Any, Final

import attrs

from aivc.flight.entries import (
    Address,
    Datagram,
    Entry,
    Header,
    MiMessage,
    RealtimeEvent,
    RealtimeLine,
    SipMessage,
    StateChange,
    ToolEntry,
)

MOST_DIGITS: Final = 20
MAX_AT: Final = 1e7  # seconds: longer than any call

KINDS: Final[dict[str, type[Entry]]] = {
    "sip": SipMessage,
    "datagram": Datagram,
    "realtime": RealtimeEvent,
    "line": RealtimeLine,
    "mi": MiMessage,
    "tool": ToolEntry,
    "state": StateChange,
}  # and "media", which has a form of its own
KIND_OF: Final = {entry: kind for kind, entry in KINDS.items()}
NAMES: Final = {kind: tuple(field.name for field in attrs.fields(kind)) for kind in (Header, *KINDS.values())}


class Wrong(Exception):
    """What is wrong with the line that is being read."""


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def string(value: object) -> str:
    if not isinstance(value, str):
        raise Wrong(f"{shown(value)} is no string")
    return value


def number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise Wrong(f"{shown(value)} is no number")
    return float(value)


def moment(value: object) -> float:
    if not 0 <= (at := number(value)) <= MAX_AT:
        raise Wrong(f"{shown(value)} is no time of a call")
    return at


def natural(value: object) -> int:
    return up_to(2**63)(value)


def up_to(most: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            raise Wrong(f"{shown(value)} is no whole number from 0 to {most}")
        return value

    return read


def yes_or_no(value: object) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"{shown(value)} is neither true nor false")
    return value


def mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Wrong(f"{shown(value)} is no object")
    return value


def listed(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise Wrong(f"{shown(value)} is no list")
    return value


def address(value: object) -> Address:
    items = listed(value)
    if len(items) != 2:
        raise Wrong(f"{shown(value)} is not address and port")
    return string(items[0]), port(items[1])


port = up_to(2**16 - 1)


def whole(text: str) -> int:
    """Decimal digits, few enough for any field."""
    if not text.isascii() or not text.isdecimal() or len(text) > MOST_DIGITS:
        raise Wrong(f"{shown(text)} is no whole number")
    return int(text)


def decimal(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Wrong(f"{shown(text)} is no number") from None


def octets_of(value: object) -> bytes:
    try:
        return base64.b64decode(string(value), validate=True)
    except (binascii.Error, ValueError):
        raise Wrong(f"{shown(value)} is no base64") from None


def one_of(*words: str) -> Callable[[object], Any]:
    def read(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise Wrong(f"{shown(value)} is none of {', '.join(words)}")
        return value

    return read


def or_none(form: Callable[[object], Any]) -> Callable[[object], Any]:
    return lambda value: None if value is None else form(value)


FORMS: Final[dict[str, Callable[[object], Any]]] = {
    "at": moment,
    "way": one_of("in", "out"),
    "transport": string,
    "local": address,
    "peer": address,
    "text": string,
    "is_control": yes_or_no,
    "data": octets_of,
    "session": natural,
    "what": string,
    "detail": string,
    "channel": one_of("command", "event"),
    "call_id": string,
    "name": string,
    "outcome": string,
}  # by the name of the field; where a name has several meanings:
NARROWER: Final[dict[tuple[type[Entry], str], Callable[[object], Any]]] = {
    (RealtimeLine, "what"): one_of("opening", "open", "refused", "closing", "closed", "lost"),
    (ToolEntry, "what"): one_of("called", "returned"),
}


def form_of(kind: type[Entry], name: str) -> Callable[[object], Any]:
    """What reads this field of entries of this kind; raises Wrong when it is called."""
    return NARROWER.get((kind, name)) or FORMS[name]


def read_fields(kind: type[Entry], fields: dict[str, Any]) -> Entry:
    """An entry of this kind; raises Wrong."""
    found = {}
    for name in NAMES[kind]:
        if name not in fields:
            raise Wrong(f"{name} is missing")
        try:
            found[name] = form_of(kind, name)(fields[name])
        except Wrong as wrong:
            raise Wrong(f"{name}: {wrong}") from None
    return kind(**found)
