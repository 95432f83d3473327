"""Words of callers and models, made safe to show: they may hold anything, from line feeds to terminal escapes."""

from __future__ import annotations

import unicodedata

# Bidirectional overrides and isolates can reorder the text around them, not only their own.
BIDI_CONTROLS = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
UNPRINTABLE = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})  # Unicode general categories
INVISIBLE = frozenset({"Mn", "Me", "Cf"})  # take no column of their own


def printable(text: str) -> str:
    """The text on one line, without control characters, bidirectional controls, lone surrogates and noncharacters."""
    return " ".join("".join(" " if char.isspace() else char for char in text if shows(char)).split())


def shows(char: str) -> bool:
    if char.isspace():
        return True
    return char not in BIDI_CONTROLS and unicodedata.category(char) not in UNPRINTABLE


def columns(text: str) -> int:
    """How many terminal columns the text takes: 2 for East Asian wide characters, 0 for combining ones."""
    return sum(char_columns(char) for char in text)


def char_columns(char: str) -> int:
    if unicodedata.category(char) in INVISIBLE:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def elide(text: str, limit: int) -> str:
    """The text if it fits into `limit` columns, else its beginning and an ellipsis."""
    if columns(text) <= limit:
        return text
    kept, used = [], 1  # the ellipsis takes a column
    for char in text:
        used += char_columns(char)
        if used > limit:
            break
        kept.append(char)
    return "".join(kept).rstrip() + "…"
