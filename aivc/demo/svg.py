"""The few pieces of SVG that the timeline is drawn with."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from html import escape

from aivc.demo.transcript import char_columns, printable

# Widths in em of what is not as wide as `n` in DejaVu Sans, the widest of the common fonts.
WIDTHS = {
    char: width
    for width, chars in {0.32: "iIjl.,:;'| ", 0.42: 'frt()[]-/!"·', 0.56: "sczvxyk_?", 1.0: "mwMW@%—…<>=+~"}.items()
    for char in chars
}


def element(name: str, content: str = "", /, **attributes: str | float) -> str:
    """One element; `content` is markup already. `_` in attribute names becomes `-`, one at the end is dropped."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{number(value) if isinstance(value, (int, float)) else escape(value)}"'
        for key, value in attributes.items()
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def text(x: float, y: float, words: str, class_: str = "", anchor: str = "start") -> str:
    """One line of text. Its words may come from anybody."""
    return element("text", escape(printable(words)), x=x, y=y, class_=class_, text_anchor=anchor)


def tooltip(words: str) -> str:
    """What a browser shows when the pointer rests on the element that this is the first child of."""
    return element("title", escape(printable(words)))


def text_width(words: str, font_px: float) -> float:
    """An upper estimate of the width in pixels, in any common sans-serif font."""
    return font_px * sum(char_em(char) for char in words)


def char_em(char: str) -> float:
    if char in WIDTHS:
        return WIDTHS[char]
    if unicodedata.category(char) == "Lu":
        return 0.78
    return (0.0, 0.64, 1.05)[char_columns(char)]


def wrap(words: str, width: float, font_px: float, limit: int) -> list[str]:
    """At most `limit` lines no wider than `width`; what does not fit is elided. Words wider than a line are broken."""
    lines: list[str] = [""]
    for word in pieces(printable(words).split(), width, font_px):
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, font_px) <= width:
            lines[-1] = longer
        elif len(lines) < limit:
            lines.append(word)
        else:
            lines[-1] = shorten(f"{lines[-1]} {word} ", width, font_px)
            break
    return lines if lines != [""] else []


def pieces(words: Iterable[str], width: float, font_px: float) -> Iterable[str]:
    for word in words:
        piece = ""
        for char in word:
            if piece and text_width(piece + char, font_px) > width:
                yield piece
                piece = ""
            piece += char
        yield piece


def shorten(words: str, width: float, font_px: float) -> str:
    """The beginning of the words and an ellipsis, no wider than `width`; nothing when not even that fits."""
    if text_width(words, font_px) <= width:
        return words
    room = width - text_width("…", font_px)
    kept = ""
    for char in words:
        if text_width(kept + char, font_px) > room:
            break
        kept += char
    return kept.rstrip() + "…" if room >= 0 else ""
