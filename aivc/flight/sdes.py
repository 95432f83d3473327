"""The texts of an RTCP source description (RFC 3550 section 6.5), replaced by others of the same length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

DESCRIPTION: Final = 202
HEADER_OCTETS: Final = 4


def with_texts(compound: bytes, other: Callable[[bytes], bytes]) -> bytes:
    """The compound with CNAME, NAME, EMAIL and so on replaced by what `other` makes of them; rubbish stays as it is."""
    made, start = bytearray(compound), 0
    while start + HEADER_OCTETS <= len(made) and made[start] >> 6 == 2:
        end = start + 4 * (1 + int.from_bytes(made[start + 2 : start + 4], "big"))
        if end > len(made):
            break
        if made[start + 1] == DESCRIPTION:
            replace_chunks(made, start + HEADER_OCTETS, end, other)
        start = end
    return bytes(made)


def replace_chunks(made: bytearray, start: int, end: int, other: Callable[[bytes], bytes]) -> None:
    """Chunks of an SSRC and items of type, length and text; a null ends the items, and fills the last word."""
    while start + 4 < end:
        item = start + 4
        while item + 2 <= end and made[item]:
            text_end = item + 2 + made[item + 1]
            if text_end > end:
                return
            text = bytes(made[item + 2 : text_end])
            made[item + 2 : text_end] = other(text)[: len(text)].ljust(len(text), b"x")
            item = text_end
        start += 4 * ((item - start) // 4 + 1)
