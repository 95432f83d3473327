"""The session description among the parts of a multipart body, RFC 2046 section 5.1 and RFC 5621.

Trunks put ISUP parameters beside it, emergency networks a location: parts that are not understood are ignored, though
RFC 5621 would have a call refused for one that does not say that it is optional; everybody else ignores them, too.
"""

from __future__ import annotations

from typing import Final

from aivc.sip.address import get_parameter
from aivc.sip.scanner import AddressError, Scanner

MULTIPART: Final = "multipart/"
MAX_PARTS: Final = 16  # a real one has two or three
MAX_BOUNDARY: Final = 70  # characters, RFC 2046 section 5.1.1
MAX_HEADERS: Final = 16  # of one part


def find_part(content_type: str, body: bytes, wanted: str) -> bytes | None:
    """The first part of the type `wanted` (lower case) in a body of that Content-Type; None: there is none."""
    boundary = read_boundary(content_type)
    if boundary is None:
        return None
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary, MAX_PARTS + 1)
    for piece in pieces[1 : MAX_PARTS + 1]:
        if piece.startswith(b"--"):
            break
        head, _, content = piece.partition(b"\r\n\r\n")
        if part_type(head) == wanted:
            return content
    return None


def read_boundary(content_type: str) -> bytes | None:
    """The delimiter of the parts; None when this is no multipart type."""
    kind, semicolon, rest = content_type.partition(";")
    if not kind.strip(" \t").lower().startswith(MULTIPART):
        return None
    try:
        parameters = Scanner(semicolon + rest).parameters()
    except AddressError:
        return None
    text = (get_parameter(parameters, "boundary") or "").strip('"')
    return text.encode("latin-1") if 0 < len(text) <= MAX_BOUNDARY else None


def part_type(head: bytes) -> str:
    """Content-Type of a part with these header lines, in lower case and without parameters."""
    for line in head.split(b"\r\n", MAX_HEADERS)[1 : MAX_HEADERS + 1]:
        name, _, value = line.decode("latin-1").partition(":")
        if name.strip(" \t").lower() in ("content-type", "c"):
            return value.partition(";")[0].strip(" \t").lower()
    return "text/plain"  # RFC 2046 section 5.1
