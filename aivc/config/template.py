"""`{{caller}}`, `{{dialled}}` and `{{header.NAME}}` in what the model is told, filled from the INVITE of each call.

The values come from strangers: a caller may well write "Ignore your instructions" into a header field. So each is one
short line, and who uses them says in the instructions that they are data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import attrs

from aivc.config.settings import OpenAISettings

PLACE: Final = re.compile(r"\{\{([^{}\n]{1,160})\}\}")  # no repetition inside another: linear
HALF_A_PLACE: Final = re.compile(r"(?<!\{)\{ *(?:caller|dialled|header\.[^{}\n]{1,128})\}(?!\})", re.IGNORECASE)
HEADER: Final = "header."
KNOWN: Final = ("caller", "dialled")
TEMPLATES: Final = ("instructions", "welcome_message")  # the settings of `[openai]` that may have places
LONGEST_VALUE: Final = 256  # characters
SECRET_FIELDS: Final = frozenset({"authorization", "proxy-authorization"})  # nobody beyond the user agent needs them


def passed_headers(names: Iterable[str], headers: Mapping[str, str]) -> dict[str, str]:
    """The chosen header fields that are there, cleaned, by their names as the settings write them.

    Args:
        names: of `sip.pass_headers`.
        headers: of the INVITE, by lower-case name.
    """
    return {name: cleaned(headers[name.lower()]) for name in names if name.lower() in headers}


def without_secrets(headers: Mapping[str, str]) -> dict[str, str]:
    """The header fields but for credentials."""
    return {name: value for name, value in headers.items() if name not in SECRET_FIELDS}


def cleaned(text: str, longest: int = LONGEST_VALUE) -> str:
    """One line without control characters, at most so many characters of it."""
    return "".join(char for char in text[: 4 * longest] if char.isprintable()).strip()[:longest]


def in_call(
    openai: OpenAISettings, caller: str, dialled: str, names: Iterable[str], headers: Mapping[str, str]
) -> OpenAISettings:
    """The settings with the values of one call in the places of `instructions` and `welcome_message`.

    A header field that is missing is nothing; a place that is not known stays as it is.
    """
    values = {"caller": cleaned(caller), "dialled": cleaned(dialled)}
    values |= {f"{HEADER}{name.lower()}": cleaned(headers.get(name.lower(), "")) for name in names}
    texts: dict[str, Any] = {name: filled(text, values) for name, text in texts_of(openai)}
    if all(text == getattr(openai, name) for name, text in texts.items()):
        return openai  # one for all calls: a copy would take each 2 KiB
    return attrs.evolve(openai, **texts)


def texts_of(openai: OpenAISettings) -> Iterator[tuple[str, str]]:
    """The templates that are set, by name."""
    for name in TEMPLATES:
        text = getattr(openai, name)
        if text:
            yield name, text


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with each place that has a value replaced by it; values are not looked into."""
    return PLACE.sub(lambda found: values.get(found[1].strip().lower(), found[0]), text)


def strange_places(text: str, names: Iterable[str]) -> list[str]:
    """The places that no call can fill, as they are written, each once."""
    known = {*KNOWN, *(f"{HEADER}{name.lower()}" for name in names)}
    unknown = (found[0] for found in PLACE.finditer(text) if found[1].strip().lower() not in known)
    return [*dict.fromkeys((*unknown, *HALF_A_PLACE.findall(text)))]
