"""Header fields that a tool puts on our REFER and BYE: checked, since a tool may have them from the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from aivc.config.rules import sip_header_name, sip_header_value
from aivc.realtime.toolerrors import ToolError

HeaderFields = tuple[tuple[str, str], ...]  # names and values, in order

MOST_FIELDS: Final = 16
LONGEST_FIELD: Final = 1000  # characters of a value: a request by UDP should stay below 1300 octets in all


class HeaderRefused(ToolError):
    """Nothing was sent; the message tells the model what is wrong with its header fields."""


def header_fields(headers: Mapping[str, str] | None) -> HeaderFields:
    """Return header fields for a request of ours.

    Raises:
        HeaderRefused: a name or value that could be taken for something else, or that is the protocol's own.
    """
    given: Sequence[tuple[object, object]] = tuple((headers or {}).items())  # a tool may say anything
    if len(given) > MOST_FIELDS:
        raise HeaderRefused(f"more than {MOST_FIELDS} header fields")
    fields: list[tuple[str, str]] = []
    for name, value in given:
        if not isinstance(name, str) or not isinstance(value, str):
            raise HeaderRefused("header fields are texts with the names of others")
        try:
            sip_header_name(name)
            sip_header_value(value)
        except ValueError as error:
            raise HeaderRefused(f"header field {name!r:.60}: {error}") from None
        if len(value) > LONGEST_FIELD:
            raise HeaderRefused(f"header field {name:.60}: longer than {LONGEST_FIELD} characters")
        fields.append((name, value))
    return tuple(fields)
