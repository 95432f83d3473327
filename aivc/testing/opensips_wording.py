"""The SIP messages that the test OpenSIPS writes, with the faults of its module b2b_entities.

What a command gives as `extra_headers` and `content_type` goes into the message octet by octet, unread: that is why a
wrong one corrupts it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import attrs

from aivc.config.settings import Address
from aivc.sip.message import Request, Response, with_tag

SOFTWARE: Final = "OpenSIPS (3.6.8 (x86_64/linux))"
SDP_TYPE: Final = b"Content-Type: application/sdp\r\n"
CONTENT_TYPE: Final = re.compile(rb"^(?:content-type|c)[ \t]*:", re.IGNORECASE | re.MULTILINE)
LENGTH: Final = re.compile(r"^(?:content-length|l)[ \t]*:", re.IGNORECASE | re.MULTILINE)
GARBAGE: Final = b"7\0\0\0garbage \xc0\xa8"  # in place of what happens to lie in its memory
COPIED: Final = ("Via", "Record-Route", "To", "From", "Call-ID", "CSeq")  # into every response
ASKED: Final = ("Via", "To", "From", "CSeq", "Call-ID", "Route", "Max-Forwards")  # in every request


@attrs.frozen(eq=False)
class Received:
    """One message as it came.

    Attributes:
      message: the same, understood; the top Via of a request is stamped.
      lines: the header lines, octet by octet (latin-1), each with its CRLF.
    """

    message: Request | Response
    lines: str
    source: Address

    @property
    def body(self) -> str | None:
        """None without a Content-Length: then b2b_entities looks for no body."""
        return until_nul(self.message.body.decode("latin-1")) if LENGTH.search(self.lines) else None


def header_lines(data: bytes) -> str:
    """What stands between the start line and the empty line."""
    head = data.lstrip(b"\r\n").partition(b"\r\n\r\n")[0]
    return until_nul(head.decode("latin-1").partition("\r\n")[2] + "\r\n")


def until_nul(text: str) -> str:
    """What C takes for the whole string."""
    return text.partition("\0")[0]


def given_headers(body: bytes | None, content_type: bytes | None, extra_headers: bytes | None) -> bytes:
    """The header lines of a command (ua_build_hdrs in ua_api.c): without a body they are counted and not copied."""
    extra = extra_headers or b""
    if body is None:
        return garbage(len(extra))
    return (SDP_TYPE if content_type is None else content_type) + extra


def garbage(octets: int) -> bytes:
    return (GARBAGE * (octets // len(GARBAGE) + 1))[:octets]


def request_headers(given: bytes, body: bytes | None, contact: str) -> bytes:
    """The same with what every request gets besides: a body, even an empty one, always has a type."""
    lines = given + f"Contact: <{contact}>\r\n".encode()
    return lines + SDP_TYPE if body is not None and not CONTENT_TYPE.search(lines) else lines


def request_octets(request: Request, lines: bytes = b"") -> bytes:
    """A request as tm writes it; the given header lines are its last."""
    fields = [(name, value) for name in ASKED for value in request.headers.lines(name)]
    own = (("Content-Length", str(len(request.body))), ("User-Agent", SOFTWARE))
    return head_octets(request.start_line(), (*fields, *own)) + lines + b"\r\n" + request.body


def response_octets(request: Request, status: int, reason: str, tag: str, lines: bytes, body: bytes) -> bytes:
    """The response to a request; the given header lines stand before its last ones. `reason` is octets as latin-1."""
    fields = [(name, value) for name in COPIED for value in request.headers.lines(name)]
    tagged = [(name, with_tag(value, tag) if name == "To" and tag else value) for name, value in fields]
    ends = head_octets(f"Server: {SOFTWARE}", (("Content-Length", str(len(body))),))
    return head_octets(f"SIP/2.0 {status:03d} {reason}", tagged) + lines + ends + b"\r\n" + body


def head_octets(first: str, fields: Iterable[tuple[str, str]]) -> bytes:
    return "".join([f"{first}\r\n", *(f"{name}: {value}\r\n" for name, value in fields)]).encode("latin-1")
