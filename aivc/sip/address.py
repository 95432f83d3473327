"""SIP addresses and the header values built on them, RFC 3261 section 25, scanned by hand in linear time.

Text is latin-1 of the octets on the wire, so that every octet survives a round trip. What is echoed to a peer is kept
as it was written; only what we decide on is taken apart.
"""

from __future__ import annotations

import string
from functools import lru_cache
from typing import Final

import attrs

from aivc.config.settings import Address
from aivc.sip.ip import plain_ip
from aivc.sip.scanner import (
    ALPHANUMERIC,
    MAX_PARAMETERS,
    TOKEN,
    WHITESPACE,
    AddressError,
    Parameters,
    Scanner,
    is_ip_address,
    parse_number,
    parse_port,
)

# A message's addresses are asked for ten times on its way; taken apart each time they are a tenth of a call's set-up.
REMEMBERED: Final = 128  # texts; each of MAX_LINE_OCTETS at most
NOT_IN_URIS: Final = '<>"\\^`{|}'  # the delimiters around URIs and what else RFC 3986 leaves out of them
DEFAULT_PORT: Final = 5060  # RFC 3261 section 19.1.2, UDP and TCP
DEFAULT_TLS_PORT: Final = 5061  # RFC 3261 section 19.1.2, TLS
MAGIC_COOKIE: Final = "z9hG4bK"  # RFC 3261 section 8.1.1.7
MAX_CSEQ: Final = 2**32 - 1  # RFC 3261 section 8.1.1.5: a 32-bit unsigned integer

UNRESERVED: Final = ALPHANUMERIC | frozenset("-_.!~*'()%")  # "%" begins an escape, checked apart
USER_INFO: Final = UNRESERVED | frozenset("&=+$,;?/:")
URI_PARAMETER: Final = UNRESERVED | frozenset("[]/:&+$")
URI_HEADER: Final = UNRESERVED | frozenset("[]/?:+$&=")
HEX: Final = frozenset(string.hexdigits)


@attrs.frozen
class SipUri:
    """A sip or sips URI, RFC 3261 section 19.1."""

    host: str  # name or IP address, IPv6 without its brackets
    port: int | None = None
    userinfo: str | None = None  # as written: escapes kept, with the password when there is one
    parameters: Parameters = ()
    headers: str = ""  # what follows "?", as written; never turned into headers
    scheme: str = "sip"  # lower case

    @property
    def user(self) -> str | None:
        """The user part, unescaped once."""
        return None if self.userinfo is None else unescape(self.userinfo.partition(":")[0])

    @property
    def address(self) -> Address | None:
        """Where to send; None when the host is a name."""
        return (plain_ip(self.host), self.port or DEFAULT_PORT) if is_ip_address(self.host) else None

    @property
    def is_loose_router(self) -> bool:
        return has_parameter(self.parameters, "lr")

    def __str__(self) -> str:
        user = "" if self.userinfo is None else f"{self.userinfo}@"
        headers = f"?{self.headers}" if self.headers else ""
        return (
            f"{self.scheme}:{user}{format_host_port(self.host, self.port)}{format_parameters(self.parameters)}{headers}"
        )


@attrs.frozen
class OtherUri:
    """A URI of another scheme (tel, http, ...): carried, not understood."""

    scheme: str  # lower case
    rest: str  # what follows the colon

    def __str__(self) -> str:
        return f"{self.scheme}:{self.rest}"


Uri = SipUri | OtherUri


@attrs.frozen
class NameAddr:
    """The value of From, To, Contact, Route and Record-Route."""

    uri: Uri
    display_name: str = ""  # as written, with its quotes
    parameters: Parameters = ()

    @property
    def tag(self) -> str | None:
        return get_parameter(self.parameters, "tag")

    def __str__(self) -> str:
        name = f"{self.display_name} " if self.display_name else ""
        return f"{name}<{self.uri}>{format_parameters(self.parameters)}"


@attrs.frozen
class Via:
    """One Via value, RFC 3261 section 20.42."""

    host: str  # sent-by
    port: int | None = None
    transport: str = "UDP"
    parameters: Parameters = ()
    version: str = "2.0"

    @property
    def branch(self) -> str | None:
        return get_parameter(self.parameters, "branch")

    @property
    def received(self) -> str | None:
        value = get_parameter(self.parameters, "received")
        return None if value is None else value.strip("[]")

    def stamped(self, source: Address) -> Via:
        """The same Via as a server must pass it up: `received` and `rport` are ours to say, whatever the peer wrote.

        RFC 3261 section 18.2.1 and RFC 3581 section 4.
        """
        host, port = source
        wants_rport = has_parameter(self.parameters, "rport")
        kept = tuple(pair for pair in self.parameters if pair[0].lower() not in ("received", "rport"))
        if wants_rport:
            kept += (("rport", str(port)),)
        if wants_rport or plain_ip(host) != plain_ip(self.host):
            kept += (("received", f"[{host}]" if ":" in host else host),)
        return attrs.evolve(self, parameters=kept)

    def response_address(self) -> Address:
        """Where the response goes: RFC 3261 section 18.2.2 and RFC 3581 section 4, for a stamped Via.

        `maddr` is ignored on purpose: it would let anybody aim our answers at a third party.
        """
        rport = get_parameter(self.parameters, "rport")
        port = int(rport) if rport is not None else self.port or DEFAULT_PORT
        return self.received or self.host, port

    def __str__(self) -> str:
        sent_by = format_host_port(self.host, self.port)
        return f"SIP/{self.version}/{self.transport} {sent_by}{format_parameters(self.parameters)}"


@attrs.frozen
class CSeq:
    number: int
    method: str

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


@lru_cache(REMEMBERED)
def parse_uri(text: str) -> Uri:
    """Read an absolute URI.

    Raises:
      AddressError: not a URI, or a sip URI that breaks section 19.1.1.
    """
    if not all("!" <= char <= "~" and char not in NOT_IN_URIS for char in text):
        raise AddressError("character that no URI may have")
    scheme, colon, rest = text.partition(":")
    if not (colon and rest and scheme[0:1].isalpha() and ALPHANUMERIC.union("+-.").issuperset(scheme)):
        raise AddressError("URI without a scheme")
    if scheme.lower() not in ("sip", "sips"):
        return OtherUri(scheme.lower(), rest)
    userinfo, at, location = rest.partition("@")
    if not at:
        location = rest
    elif not userinfo or not is_escaped(userinfo, USER_INFO):
        raise AddressError("bad user part in a URI")
    location, question, headers = location.partition("?")
    if (question and not headers) or not is_escaped(headers, URI_HEADER):
        raise AddressError("bad headers in a URI")
    host_port, *parameters = location.split(";")
    scanner = Scanner(host_port)
    host, port = scanner.host_port()
    scanner.expect_end()
    return SipUri(host, port, userinfo if at else None, uri_parameters(parameters), headers, scheme.lower())


@lru_cache(REMEMBERED)
def parse_name_addr(text: str) -> NameAddr:
    """Read one name-addr or addr-spec with its header parameters.

    Raises:
      AddressError: the value breaks section 20.10; an addr-spec with "?" or "," needs angle brackets.
    """
    scanner = Scanner(text)
    display_name = scanner.display_name()
    if display_name or scanner.peek() == "<":
        scanner.expect("<")
        uri = parse_uri(scanner.until(">").strip(WHITESPACE))
        scanner.expect(">")
    else:
        uri = parse_uri(scanner.take_until(";,? \t"))
    parameters = scanner.parameters()
    scanner.expect_end()
    return NameAddr(uri, display_name, parameters)


@lru_cache(REMEMBERED)
def parse_via(text: str) -> Via:
    """Read one Via value (not a comma list).

    Raises:
      AddressError: the value breaks section 20.42.
    """
    scanner = Scanner(text)
    protocol = scanner.token()
    scanner.expect("/")
    version = scanner.token()
    scanner.expect("/")
    transport = scanner.token()
    if protocol.upper() != "SIP":
        raise AddressError("Via of another protocol")
    host, port = scanner.host_port()
    parameters = scanner.parameters()
    scanner.expect_end()
    rport = get_parameter(parameters, "rport")
    if rport is not None:
        parse_port(rport)
    return Via(host, port, transport, parameters, version)


def parse_cseq(text: str) -> CSeq:
    """Read a CSeq value.

    Raises:
      AddressError: no number below 2**32, or no method.
    """
    number, *methods = text.replace("\t", " ").split(" ", 1)
    method = methods[0].strip(WHITESPACE) if methods else ""
    if not method or not TOKEN.issuperset(method):
        raise AddressError("CSeq without a method")
    return CSeq(parse_number(number, MAX_CSEQ, "CSeq"), method)


def quote(text: str) -> str:
    """Write any text as a quoted-string on one line; control characters become spaces."""
    octets = text.encode("utf-8", "replace").decode("latin-1")
    safe = "".join(" " if char < " " or char == "\x7f" else char for char in octets)
    return '"' + safe.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unescape(text: str) -> str:
    """Undo %-escapes once, where they hide a printable ASCII character; others (%00, %0d) stay as written."""
    head, *pieces = text.split("%")
    for number, piece in enumerate(pieces):
        code = int(piece[:2], 16) if len(piece) >= 2 and HEX.issuperset(piece[:2]) else 0
        pieces[number] = chr(code) + piece[2:] if 0x20 < code < 0x7F else "%" + piece
    return head + "".join(pieces)


def is_escaped(text: str, allowed: frozenset[str]) -> bool:
    """True when `text` has only `allowed` characters, and each % begins an escape."""
    return allowed.issuperset(text) and all(
        len(piece) >= 2 and HEX.issuperset(piece[:2]) for piece in text.split("%")[1:]
    )


def get_parameter(parameters: Parameters, name: str) -> str | None:
    return next((value for key, value in parameters if key.lower() == name), None)


def has_parameter(parameters: Parameters, name: str) -> bool:
    return any(key.lower() == name for key, _ in parameters)


def format_parameters(parameters: Parameters) -> str:
    return "".join(f";{name}" if value is None else f";{name}={value}" for name, value in parameters)


def default_port(transport: str) -> int:
    """The port of a host that is named without one."""
    return DEFAULT_TLS_PORT if transport == "TLS" else DEFAULT_PORT


def format_host_port(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


def uri_parameters(texts: list[str]) -> Parameters:
    if len(texts) > MAX_PARAMETERS:
        raise AddressError("too many URI parameters")
    found: list[tuple[str, str | None]] = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not (is_escaped(name, URI_PARAMETER) and is_escaped(value, URI_PARAMETER)):
            raise AddressError("bad URI parameter")
        found.append((name, value if equals else None))
    return tuple(found)
