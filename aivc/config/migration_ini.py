"""An INI file as Python's configparser reads it with its usual settings: so does the OpenSIPS AI Voice Connector CE.

There are no comments behind values, `%` refers to other keys, and [DEFAULT] holds for every section.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

LARGEST: Final = 1 << 20  # octets of a file, and characters one value may grow to; a configuration has thousands
DEEPEST: Final = configparser.MAX_INTERPOLATION_DEPTH
MOST_FAULTS: Final = 20  # lines that are named: a file of another kind has nothing else
BLANKS: Final = re.compile(r"\S[^\S\n]{1000}")  # configparser's time for a line grows with the square of them
REFERENCE: Final = re.compile(r"%\(([^)]+)\)s")
DEFAULT: Final = "DEFAULT"


class IniError(Exception):
    """The file cannot be read; each line of the text begins with the place, `FILE:LINE: `."""


@attrs.frozen
class Value:
    """What a section says about one key."""

    key: str  # as it is spelled there, in lower case
    text: str
    fault: str | None = None  # why configparser cannot read it; then the text is as it stands in the file


@attrs.frozen
class Ini:
    """What a service was told: the sections of its file, in their order, and what [DEFAULT] gives to all, be they in
    the file or not."""

    own: Mapping[str, Mapping[str, str]]  # values as they stand in the file
    defaults: Mapping[str, str]
    variables: Mapping[str, str] = attrs.field(factory=dict)  # its environment; what the file says won

    def get(self, section: str, *keys: str) -> Value | None:
        """The value of the first of these keys that the section has."""
        values = {**self.defaults, **self.own.get(section, {})}
        for key in keys:
            if key in values:
                try:
                    return Value(key, Expansion(values).of(values[key]))
                except ValueError as error:
                    return Value(key, values[key], str(error))
        return None

    def text(self, section: str, *keys: str) -> str:
        """The same, as text alone; nothing if there is no such key."""
        value = self.get(section, *keys)
        return "" if value is None else value.text


@attrs.define
class Expansion:
    """Puts the values of other keys in the place of `%(key)s`, as configparser's BasicInterpolation does."""

    values: Mapping[str, str]
    spent: int = 0  # characters looked at: ten keys that name each other a hundred times would fill any memory

    def of(self, text: str, depth: int = 1) -> str:
        """Raises ValueError where configparser would, and when it takes too long."""
        self.spent += len(text) + 1
        if depth > DEEPEST or self.spent > LARGEST:
            raise ValueError("%(...)s leads to too much text, or back to itself")
        parts: list[str] = []
        place = 0
        while (found := text.find("%", place)) >= 0:
            parts.append(text[place:found])
            reference = REFERENCE.match(text, found)
            if text.startswith("%%", found):
                parts.append("%")
                place = found + 2
            elif reference is None:
                raise ValueError("a % stands alone: configparser wants %% for it")
            else:
                parts.append(self.of(self.named(reference[1].lower()), depth + 1))
                place = reference.end()
        return "".join([*parts, text[place:]])

    def named(self, key: str) -> str:
        if key not in self.values:
            raise ValueError("%(...)s names a key that there is not")
        return self.values[key]


def read_ini(data: bytes, source: str) -> Ini:
    """The file's sections.

    Args:
        data: its octets, UTF-8; a byte order mark is passed over.
        source: what messages call it.

    Raises:
        IniError: it is too large, no UTF-8, or no INI. No message shows what the file has: there may be keys in it.
    """
    if len(data) > LARGEST:
        raise IniError(f"{source}:1: has more than {LARGEST} octets: this is no configuration")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise IniError(f"{source}:{line}: is not UTF-8 text") from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if (blanks := BLANKS.search(text)) is not None:
        line = text.count("\n", 0, blanks.start()) + 1
        raise IniError(f"{source}:{line}: has a thousand blanks: this is no configuration")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise IniError("\n".join(f"{source}:{line}: {what}" for line, what in faults(error))) from None
    defaults = dict(parser.defaults())
    return Ini({name: own_keys(parser[name], defaults) for name in parser.sections()}, defaults)


def own_keys(section: Mapping[str, str], defaults: Mapping[str, str]) -> dict[str, str]:
    """A section without what it has from [DEFAULT]."""
    return {key: text for key, text in section.items() if defaults.get(key) != text}


def faults(error: configparser.Error) -> Sequence[tuple[int, str]]:
    """The lines that configparser does not take, and why."""
    match error:
        case configparser.MissingSectionHeaderError():
            return [(error.lineno, "is no INI: something stands before the first [section]")]
        case configparser.DuplicateSectionError():
            return [(error.lineno or 1, f"[{error.section}] is there for the second time")]
        case configparser.DuplicateOptionError():
            return [(error.lineno or 1, f"{error.option} is there for the second time in [{error.section}]")]
        case configparser.ParsingError():
            return [(line, "is neither `key = value` nor a [section]") for line, _ in error.errors[:MOST_FAULTS]]
        case _:
            return [(1, "is no INI")]
