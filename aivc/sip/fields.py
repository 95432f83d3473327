"""Header fields of ours that come from settings, tools and models: which may be sent, and which of two counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aivc.config.rules import sip_header_fields
from aivc.sip.leg import Fields


def checked_fields(fields: Fields) -> Fields:
    """The fields as they can be sent, values as latin-1 text of UTF-8 octets.

    Raises:
      ValueError: too many or too long, a name that is none or that belongs to the protocol, a value that would smuggle
        another field.
    """
    sip_header_fields(fields)
    return tuple((name, value.encode("utf-8", "replace").decode("latin-1")) for name, value in fields)


def sendable_fields(fields: Fields) -> Fields:
    """Those of the fields that can be sent: for a request that must leave whatever they are."""
    found: Fields = ()
    for field in fields:
        try:
            sip_header_fields((*found, field))
        except ValueError:
            continue
        found += (field,)
    return checked_fields(found)


def overridden(fields: Iterable[tuple[str, str]], by: Fields) -> Fields:
    """Both, without those of the first that the second names again."""
    names = {name.lower() for name, _ in by}
    return (*(field for field in fields if field[0].lower() not in names), *by)


def sent_fields(own: Fields, supported: Fields, configured: Mapping[str, str], more: Fields) -> Fields:
    """The fields of a REFER: all but the first of our own may be replaced by what is configured, and that by `more`.

    Raises ValueError as `checked_fields` does for `more`.
    """
    by = overridden(sendable_fields(tuple(configured.items())), checked_fields(more))
    return (*overridden((*own[1:], *supported), by), own[0])
