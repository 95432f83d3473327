"""Header fields of ours that come from settings, tools and models: which may be sent, and which of two counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from aivc.config.rules import sip_header_name
from aivc.sip.leg import Fields
from aivc.sip.message import is_safe_line

MAX_FIELDS: Final = 32  # a message of ours must fit into one datagram
MAX_VALUE_OCTETS: Final = 1024


def checked_fields(fields: Fields) -> Fields:
    """The fields as they can be sent, values as latin-1 text of UTF-8 octets.

    Raises:
      ValueError: too many, a name that is none or that belongs to the protocol, a value that is too long or would
        smuggle another field.
    """
    if len(fields) > MAX_FIELDS:
        raise ValueError(f"more than {MAX_FIELDS} header fields")
    found: list[tuple[str, str]] = []
    for name, value in fields:
        sip_header_name(name)
        octets = value.encode("utf-8", "replace").decode("latin-1")
        if not is_safe_line(value) or len(octets) > MAX_VALUE_OCTETS:
            raise ValueError(f"the value of the header field {name} is too long, or not one line")
        found.append((name, octets))
    return tuple(found)


def sendable_fields(fields: Fields) -> Fields:
    """Those of the fields that can be sent: for a request that must leave whatever they are."""
    found: list[tuple[str, str]] = []
    for field in fields[:MAX_FIELDS]:
        try:
            found += checked_fields((field,))
        except ValueError:
            continue
    return tuple(found)


def overridden(fields: Iterable[tuple[str, str]], by: Fields) -> Fields:
    """Both, without those of the first that the second names again."""
    names = {name.lower() for name, _ in by}
    return (*(field for field in fields if field[0].lower() not in names), *by)
