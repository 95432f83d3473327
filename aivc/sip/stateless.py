"""What a server does with a message before any transaction: stamp its top Via, or answer it without state."""

from __future__ import annotations

import hashlib

from aivc.config.settings import Address
from aivc.sip.address import Via, parse_via
from aivc.sip.message import Headers, Response, answer_to
from aivc.sip.scanner import AddressError, split_list


def stamp(headers: Headers, via: Via) -> Headers:
    """Replace the topmost Via value, leave out empty Via lines, and leave all others as they are."""
    fields: list[tuple[str, str]] = []
    done = False
    for name, value in headers:
        if name.lower() == "via" and not value.strip(" ,"):
            continue
        if not done and name.lower() == "via":
            value, done = ", ".join([str(via), *split_list(value)[1:]]), True
        fields.append((name, value))
    return Headers(tuple(fields))


def salvage_via(headers: Headers) -> Via | None:
    """The top Via, or what stands before its first broken parameter: enough to find the way back."""
    for top in headers.items("Via")[:1]:
        for text in (top, top.partition(";")[0]):
            try:
                return parse_via(text)
            except AddressError:
                continue
    return None


def stateless_tag(headers: Headers) -> str:
    """For To: the same for each copy of a request, without remembering any (RFC 3261 section 8.2.7)."""
    text = "\n".join(headers.get(name) or "" for name in ("From", "Call-ID", "CSeq", "Via"))
    return hashlib.sha256(text.encode("latin-1", "replace")).hexdigest()[:16]


def stateless_answer(status: int, reason: str, headers: Headers | None, source: Address) -> tuple[bytes, Via] | None:
    """The response to a broken request with these headers, and its stamped top Via; None when there can be none."""
    via = None if headers is None else salvage_via(headers)
    if headers is None or via is None:
        return None
    stamped = via.stamped(source)
    response: Response = answer_to(stamp(headers, stamped), status, reason, tag=stateless_tag(headers))
    try:
        return bytes(response), stamped
    except ValueError:  # a line that parses and yet must not be written
        return None
