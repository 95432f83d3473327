"""The settings of a call, as a recording has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from aivc.config.effective import without_secrets
from aivc.config.secret import Secret
from aivc.config.settings import Settings

URLS: Final = ("url", "api_url", "server_url")  # may have a token in the query


def described(settings: Settings) -> dict[str, dict[str, Any]]:
    """By section and key, as JSON has them; secrets are left out, and so are the agents that others are answered by."""
    return {
        section.name: plain(getattr(settings, section.name))
        for section in attrs.fields(Settings)
        if section.name != "agents"
    }


def plain(value: Any, name: str = "") -> Any:
    match value:
        case str() if name in URLS:
            return without_secrets(value)
        case tuple() | list():
            return [plain(item) for item in value]
        case Mapping():
            return {key: plain(item) for key, item in value.items() if not isinstance(item, Secret)}
        case _ if attrs.has(type(value)):
            return {
                field.name: plain(item, field.name)
                for field in attrs.fields(type(value))
                if not isinstance(item := getattr(value, field.name), Secret)
            }
        case _:
            return value


def secrets_of(value: Any) -> Iterator[str]:
    """Every secret in settings, in the clear."""
    match value:
        case Secret():
            yield value.reveal()
        case tuple() | list():
            for item in value:
                yield from secrets_of(item)
        case Mapping():
            for item in value.values():
                yield from secrets_of(item)
        case _ if attrs.has(type(value)):
            for field in attrs.fields(type(value)):
                yield from secrets_of(getattr(value, field.name))
        case _:
            return
