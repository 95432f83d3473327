"""Session descriptions, RFC 8866: every line kept, in order, so that nothing is lost on the way through.

Lines that we give no meaning (b=, k=, i=, unknown attributes, ...) are carried and skipped, as section 5 asks.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import attrs

from aivc.sip.scanner import ALPHANUMERIC, AddressError, parse_number

MAX_SDP_OCTETS: Final = 16_384  # a WebRTC offer with its candidates stays below 8 kB
MAX_LINES: Final = 512
MAX_LINE_OCTETS: Final = 2048
MAX_MEDIA: Final = 16  # each refused one costs a line in our answer
MAX_FORMATS: Final = 128  # all RTP payload types there are

KEYED: Final = ("crypto:", "key-mgmt:", "clear:", "base64:", "uri:")  # RFC 4568, RFC 4567, k= of RFC 8866
DIRECTIONS: Final = ("sendrecv", "sendonly", "recvonly", "inactive")


class SdpError(ValueError):
    """The octets are no session description; the message says why, in our own words only."""


def without_keys(value: str) -> str:
    """For repr: a=crypto, a=key-mgmt and k= lines hold keys."""
    return repr(f"{value.partition(':')[0]}:..." if value.startswith(KEYED) else value)


@attrs.frozen
class Line:
    kind: str  # one letter
    value: str = attrs.field(repr=without_keys)

    def __str__(self) -> str:
        return f"{self.kind}={self.value}\r\n"


@attrs.frozen
class Connection:
    """c=, RFC 8866 section 5.7."""

    address_type: str  # "IP4" or "IP6"
    address: str  # IP address, or a host name, with the TTL and count of a multicast one


@attrs.frozen
class Media:
    """One m= line with the lines below it."""

    kind: str  # "audio", "video", ...
    port: int  # 0 = refused or removed
    protocol: str
    formats: tuple[str, ...]
    lines: tuple[Line, ...] = ()
    port_count: int | None = None  # "/2" after the port

    @property
    def connection(self) -> Connection | None:
        return connection_of(self.lines)

    @property
    def direction(self) -> str | None:
        return direction_of(self.lines)

    def attributes(self, name: str) -> list[str]:
        """The value of every `a=name:value`, "" for a flag."""
        return attributes_of(self.lines, name)

    def __str__(self) -> str:
        port = str(self.port) if self.port_count is None else f"{self.port}/{self.port_count}"
        head = f"m={self.kind} {port} {self.protocol} {' '.join(self.formats)}\r\n"
        return head + "".join(map(str, self.lines))


@attrs.frozen
class SessionDescription:
    lines: tuple[Line, ...]  # before the first m=
    media: tuple[Media, ...] = ()

    @property
    def connection(self) -> Connection | None:
        return connection_of(self.lines)

    @property
    def direction(self) -> str | None:
        return direction_of(self.lines)

    @property
    def timing(self) -> str:
        """The first t= value."""
        return next((line.value for line in self.lines if line.kind == "t"), "0 0")

    def connection_for(self, media: Media) -> Connection | None:
        """c= of that stream: its own beats the session's."""
        return media.connection or self.connection

    def direction_for(self, media: Media) -> str:
        """a=sendrecv and its kin: the stream's own beats the session's, none means sendrecv."""
        return media.direction or self.direction or "sendrecv"

    def attributes_for(self, media: Media, name: str) -> list[str]:
        """The value of every `a=name:value` of that stream, then of the session's."""
        return media.attributes(name) + attributes_of(self.lines, name)

    def __bytes__(self) -> bytes:
        return ("".join(map(str, self.lines)) + "".join(map(str, self.media))).encode("latin-1")


def parse_untrusted(data: bytes) -> SessionDescription:
    """Read a session description. Line ends may be bare LF (RFC 8866 section 5 asks for it).

    Raises:
      SdpError: and nothing else.
    """
    if len(data) > MAX_SDP_OCTETS:
        raise SdpError("SDP too large")
    texts = data.decode("latin-1").replace("\r\n", "\n").rstrip("\n").split("\n")
    if len(texts) > MAX_LINES:
        raise SdpError("SDP with too many lines")
    lines = [parse_line(text) for text in texts]
    if lines[0] != Line("v", "0") or [line.kind for line in lines[1:2]] != ["o"]:
        raise SdpError("SDP does not begin with v=0 and o=")
    if len(lines[1].value.split(" ")) != 6:
        raise SdpError("Bad o= line")
    bounds = [number for number, line in enumerate(lines) if line.kind == "m"] + [len(lines)]
    if len(bounds) > MAX_MEDIA + 1:
        raise SdpError("SDP with too many media")
    media = tuple(parse_media(lines[start], lines[start + 1 : end]) for start, end in pairwise(bounds))
    return SessionDescription(tuple(lines[: bounds[0]]), media)


def parse_line(text: str) -> Line:
    kind, equals, value = text.partition("=")
    if not equals or len(kind) != 1 or not ("a" <= kind <= "z"):
        raise SdpError("SDP line that is not x=value")
    if len(text) > MAX_LINE_OCTETS or "\0" in value or "\r" in value:
        raise SdpError("SDP line too long or with a control character")
    if kind == "c":
        parse_connection(value)
    return Line(kind, value)


def parse_media(line: Line, below: list[Line]) -> Media:
    words = line.value.rstrip(" ").split(" ")  # some phones leave a space at the end of a line
    if len(words) < 4 or not all(words) or len(words) > 3 + MAX_FORMATS:
        raise SdpError("Bad m= line")
    kind, port, protocol, *formats = words
    number, slash, count = port.partition("/")
    try:
        port_count = parse_number(count, 65535, "port count") if slash else None
        return Media(kind, parse_number(number, 65535, "port"), protocol, tuple(formats), tuple(below), port_count)
    except AddressError as error:
        raise SdpError(f"Bad m= line: {error}") from error


def parse_connection(value: str) -> Connection:
    words = value.rstrip(" ").split(" ")
    if len(words) != 3 or words[0] != "IN" or words[1] not in ("IP4", "IP6"):
        raise SdpError("Bad c= line")
    _, address_type, address = words
    if not address or not ALPHANUMERIC.union(".-:/_").issuperset(address):
        raise SdpError("Bad address in a c= line")
    return Connection(address_type, address)


def connection_of(lines: tuple[Line, ...]) -> Connection | None:
    return next((parse_connection(line.value) for line in lines if line.kind == "c"), None)


def direction_of(lines: tuple[Line, ...]) -> str | None:
    attributes = (line.value.rstrip(" ") for line in lines if line.kind == "a")
    return next((attribute for attribute in attributes if attribute in DIRECTIONS), None)


def attributes_of(lines: tuple[Line, ...], name: str) -> list[str]:
    found = [line.value.rstrip(" ").partition(":") for line in lines if line.kind == "a"]
    return [value for key, _, value in found if key == name]
