"""SIP requests and responses: octets in, typed messages out, and back (RFC 3261 sections 7, 18.3 and 20).

Header values are latin-1 text of the octets on the wire: what came in goes out unchanged. A parsed message has been
checked for everything that a UAS relies on: one each of From, To, Call-ID and CSeq, and Vias, all well-formed.
`Content-Length` is no header of a message here: it is read once and written from the body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

import attrs

from aivc.sip.address import CSeq, NameAddr, Uri, Via, parse_cseq, parse_name_addr, parse_uri, parse_via
from aivc.sip.scanner import TOKEN, WHITESPACE, AddressError, parse_number, split_list

MAX_MESSAGE_OCTETS: Final = 65_535  # the largest UDP datagram
MAX_HEADERS: Final = 100  # header lines; RFC 4475's longest message has 44
MAX_VIAS: Final = 70  # a request may pass so many proxies (RFC 3261 section 8.1.1.6); 64 kB of them cost 50 ms
MAX_LINE_OCTETS: Final = 8192  # one header after unfolding; the limit of most HTTP and SIP servers
VERSION: Final = "SIP/2.0"
Parsed = TypeVar("Parsed")

COMPACT_FORMS: Final = {
    "a": "Accept-Contact",
    "b": "Referred-By",
    "c": "Content-Type",
    "d": "Request-Disposition",
    "e": "Content-Encoding",
    "f": "From",
    "i": "Call-ID",
    "j": "Reject-Contact",
    "k": "Supported",
    "l": "Content-Length",
    "m": "Contact",
    "o": "Event",
    "r": "Refer-To",
    "s": "Subject",
    "t": "To",
    "u": "Allow-Events",
    "v": "Via",
    "x": "Session-Expires",
    "y": "Identity",
}
ONCE: Final = ("From", "To", "Call-ID", "CSeq")  # mandatory, and a second one is an error
AT_MOST_ONCE: Final = ("Max-Forwards", "Content-Length", "Content-Type")

REASONS: Final = {
    100: "Trying",
    180: "Ringing",
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    421: "Extension Required",
    422: "Session Interval Too Small",
    423: "Interval Too Brief",
    469: "Bad Info Package",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    500: "Server Internal Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    600: "Busy Everywhere",
    603: "Decline",
    606: "Not Acceptable",
}


@attrs.frozen
class Headers:
    """Header fields in order; names compare without case, compact names are written out."""

    fields: tuple[tuple[str, str], ...] = ()

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.fields)

    def get(self, name: str) -> str | None:
        """The first value of that name."""
        return next(iter(self.lines(name)), None)

    def lines(self, name: str) -> list[str]:
        """Each line's value, comma lists uncut."""
        wanted = name.lower()
        return [value for key, value in self.fields if key.lower() == wanted]

    def items(self, name: str) -> list[str]:
        """Every value, comma lists cut; empty ones left out (RFC 3261 section 7.3.1)."""
        return [item for line in self.lines(name) for item in split_list(line) if item]

    def joined(self) -> dict[str, str]:
        """For people: values as UTF-8 text by lower-case name, those of a repeated one joined by ", "."""
        found: dict[str, list[str]] = {}
        for name, value in self.fields:
            text = value if value.isascii() else value.encode("latin-1").decode("utf-8", "replace")
            found.setdefault(name.lower(), []).append(text)
        return {name: ", ".join(values) for name, values in found.items()}


class ParseError(Exception):
    """The octets are no SIP message that we can serve.

    Attributes:
      status: the SIP status to answer with.
      reason: what is wrong, in our own words: safe in a reason phrase and a log.
      headers: what could be read of a request that may be answered; None when nothing must be sent (a response,
        an ACK, or no SIP at all).
    """

    def __init__(self, status: int, reason: str, headers: Headers | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers


class NotSipError(ParseError):
    """No SIP start line: nothing here can be answered."""


@attrs.frozen(kw_only=True)
class Message:
    """What requests and responses share. The properties raise AddressError in a hand-made message without them."""

    headers: Headers
    body: bytes = b""

    @property
    def call_id(self) -> str:
        return self.header("Call-ID")

    @property
    def cseq(self) -> CSeq:
        return parse_cseq(self.header("CSeq"))

    @property
    def sender(self) -> NameAddr:
        """From."""
        return parse_name_addr(self.header("From"))

    @property
    def to(self) -> NameAddr:
        return parse_name_addr(self.header("To"))

    @property
    def via(self) -> Via:
        """The topmost Via."""
        return parse_via(split_list(self.header("Via"))[0])

    def header(self, name: str) -> str:
        value = self.headers.get(name)
        if value is None:
            raise AddressError(f"Missing {name}")
        return value

    def start_line(self) -> str:
        raise NotImplementedError

    def __bytes__(self) -> bytes:
        """The octets to send.

        Raises:
          ValueError: a line break or NUL would smuggle a header; or text outside latin-1.
        """
        lines = [self.start_line(), *(f"{name}: {value}" for name, value in self.headers)]
        for line in lines:
            if not is_safe_line(line):
                raise ValueError(f"line break or NUL in {line[:60]!r}")
        lines.append(f"Content-Length: {len(self.body)}\r\n\r\n")
        return "\r\n".join(lines).encode("latin-1") + self.body


@attrs.frozen(kw_only=True)
class Request(Message):
    method: str
    target: str  # the Request-URI as written

    @property
    def uri(self) -> Uri:
        return parse_uri(self.target)

    def start_line(self) -> str:
        return f"{self.method} {self.target} {VERSION}"


@attrs.frozen(kw_only=True)
class Response(Message):
    status: int
    reason: str = ""

    def start_line(self) -> str:
        return f"{VERSION} {self.status} {self.reason}"


def parse_untrusted(data: bytes) -> Request | Response:
    """Read one datagram.

    Raises:
      ParseError: and nothing else.
    """
    head, blank_line, body = data.lstrip(b"\r\n").partition(b"\r\n\r\n")  # leading CRLFs: RFC 3261 section 7.5
    start, *lines = head.decode("latin-1").split("\r\n")
    headers, fault = read_headers(lines)
    if not blank_line:
        fault = fault or "No empty line after the headers"
    if start[:4].upper() == "SIP/":
        return read_response(start, headers, fault, body)
    method, target, version = split_request_line(start)
    answerable = None if method == "ACK" else headers
    if version.upper() != VERSION:
        raise ParseError(505, "Version Not Supported", answerable)
    if len(data) > MAX_MESSAGE_OCTETS:
        raise ParseError(513, "Message Too Large", answerable)
    if start != f"{method} {target} {version}":
        fault = "Extra space in the request line"
    try:
        if fault:
            raise AddressError(fault)
        checked("Request-URI", parse_uri, target)
        if check_headers(headers).method != method:
            raise AddressError("CSeq of another method")
        content = cut_body(headers, body)
    except AddressError as error:
        raise ParseError(400, str(error), answerable) from error
    return Request(method=method, target=target, headers=without_length(headers), body=content)


def read_response(start: str, headers: Headers, fault: str, body: bytes) -> Response:
    version, _, rest = start.partition(" ")
    status, _, reason = rest.partition(" ")
    try:
        if version.upper() != VERSION or fault or not is_safe_line(start):
            raise AddressError(fault or "Bad status line")
        if len(status) != 3 or parse_number(status, 699, "Status code") < 100:
            raise AddressError("Status code below 100")
        check_headers(headers)
        content = cut_body(headers, body)
    except AddressError as error:
        raise ParseError(400, str(error)) from error
    return Response(status=int(status), reason=reason, headers=without_length(headers), body=content)


def answer_to(
    headers: Headers,
    status: int,
    reason: str | None = None,
    *,
    tag: str | None = None,
    extra: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
) -> Response:
    """Build the response to a request with these headers, RFC 3261 section 8.2.6.

    Args:
      tag: added to To when it has none.
      extra: headers beyond those that every response copies.
    """
    copied = [(name, value) for name in ("Via", "From", "To", "Call-ID", "CSeq") for value in headers.lines(name)]
    if tag is not None:
        copied = [(name, with_tag(value, tag) if name == "To" else value) for name, value in copied]
    if status == 100:
        copied += [("Timestamp", value) for value in headers.lines("Timestamp")]
    phrase = REASONS.get(status, "") if reason is None else reason
    return Response(status=status, reason=phrase, headers=Headers((*copied, *extra)), body=body)


def with_tag(value: str, tag: str) -> str:
    """A To value with our tag, when it is well-formed and has none."""
    try:
        return value if parse_name_addr(value).tag is not None else f"{value};tag={tag}"
    except AddressError:
        return value


def is_safe_line(line: str) -> bool:
    """False when the line holds CR, LF, or a NUL that is no quoted-pair (RFC 3261 section 25.1 allows `\\` NUL)."""
    return not ("\r" in line or "\n" in line or "\0" in line.replace("\\\0", ""))


def split_request_line(line: str) -> tuple[str, str, str]:
    """Method, Request-URI and version, whatever spaces lie between.

    Raises:
      NotSipError: anything that is no request line at all.
    """
    parts = [part for part in line.split(" ") if part]
    if len(parts) < 3 or not TOKEN.issuperset(parts[0]) or parts[-1][:4].upper() != "SIP/" or not is_safe_line(line):
        raise NotSipError(400, "No SIP start line")
    return parts[0], " ".join(parts[1:-1]), parts[-1]


def read_headers(lines: list[str]) -> tuple[Headers, str]:
    """Unfold the lines; return every good header, and the first fault ("" when there is none)."""
    unfolded: list[list[str]] = []
    for line in lines:
        if line[:1] in (" ", "\t") and unfolded:
            unfolded[-1].append(line.strip(WHITESPACE))
        else:
            unfolded.append([line.strip(WHITESPACE)])
    fields: list[tuple[str, str]] = []
    fault = "" if len(unfolded) <= MAX_HEADERS else "Too many headers"
    for pieces in unfolded[:MAX_HEADERS]:
        line = " ".join(pieces)
        name, colon, value = line.partition(":")
        name = name.rstrip(WHITESPACE)
        if not (colon and name and TOKEN.issuperset(name) and len(line) <= MAX_LINE_OCTETS and is_safe_line(line)):
            fault = fault or "Bad header line"
            continue
        fields.append((COMPACT_FORMS.get(name.lower(), name), value.strip(WHITESPACE)))
    return Headers(tuple(fields)), fault


def check_headers(headers: Headers) -> CSeq:
    """Check what every message must have; return its CSeq. Raises AddressError."""
    for name in ONCE:
        if len(headers.lines(name)) != 1:
            raise AddressError(f"{'Missing' if headers.get(name) is None else 'Repeated'} {name}")
    for name in AT_MOST_ONCE:
        if len(headers.lines(name)) > 1:
            raise AddressError(f"Repeated {name}")
    vias = [item for line in headers.lines("Via") for item in split_list(line)]
    if not vias:
        raise AddressError("Missing Via")
    if len(vias) > MAX_VIAS:
        raise AddressError("Too many Vias")
    for via in vias:
        checked("Via", parse_via, via)
    for name in ("From", "To"):
        checked(name, parse_name_addr, headers.lines(name)[0])
    for hops in headers.lines("Max-Forwards"):
        parse_number(hops, 255, "Max-Forwards")
    call_id = headers.lines("Call-ID")[0]
    if not call_id or any(char <= " " or char == "\x7f" for char in call_id):
        raise AddressError("Bad Call-ID")
    return checked("CSeq", parse_cseq, headers.lines("CSeq")[0])


def checked(name: str, parse: Callable[[str], Parsed], text: str) -> Parsed:
    """Parse, and say in the error which part was at fault."""
    try:
        return parse(text)
    except AddressError as error:
        raise AddressError(f"Bad {name}: {error}") from error


def cut_body(headers: Headers, body: bytes) -> bytes:
    """The octets that Content-Length counts; the rest is noise (RFC 3261 section 18.3). Raises AddressError."""
    text = headers.get("Content-Length")
    if text is None:
        return body
    length = parse_number(text, MAX_MESSAGE_OCTETS, "Content-Length")
    if length > len(body):
        raise AddressError("Content-Length beyond the datagram")
    return body[:length]


def without_length(headers: Headers) -> Headers:
    return Headers(tuple(field for field in headers if field[0].lower() != "content-length"))
