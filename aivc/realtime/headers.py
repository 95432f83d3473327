"""Header fields that a tool puts on our REFER and BYE: checked, since a tool may have them from the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aivc.config.rules import sip_header_fields
from aivc.realtime.toolerrors import ToolError

HeaderFields = tuple[tuple[str, str], ...]  # names and values, in order


class HeaderRefused(ToolError):
    """Nothing was sent; the message tells the model what is wrong with its header fields."""


def header_fields(headers: Mapping[str, str] | None) -> HeaderFields:
    """Return header fields for a request of ours.

    Raises:
        HeaderRefused: a name or value that could be taken for something else, or that is the protocol's own; too many.
    """
    given: Sequence[tuple[object, object]] = tuple((headers or {}).items())  # a tool may say anything
    fields = tuple((name, value) for name, value in given if isinstance(name, str) and isinstance(value, str))
    if len(fields) < len(given):
        raise HeaderRefused("header fields are texts with the names of others")
    try:
        sip_header_fields(fields)
    except ValueError as error:
        raise HeaderRefused(str(error)) from None
    return fields
