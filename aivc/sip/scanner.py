"""Reading one header value from left to right: the lexical rules of RFC 3261 section 25.1."""

from __future__ import annotations

import ipaddress
import string
from typing import Final

import attrs

MAX_PARAMETERS: Final = 32  # per URI or header value; real ones stay below ten, the rest is an attack on the scanner

ALPHANUMERIC: Final = frozenset(string.ascii_letters + string.digits)
TOKEN: Final = ALPHANUMERIC | frozenset("-.!%*_+`'~")
PARAMETER_VALUE: Final = TOKEN | frozenset(
    "[]:"
)  # `received=2001:db8::1` is met without brackets, RFC 5118 section 4.5
HOST: Final = ALPHANUMERIC | frozenset("-._")  # "_" is no host name character, but is met in the field
WHITESPACE: Final = " \t"

Parameters = tuple[tuple[str, str | None], ...]


class AddressError(ValueError):
    """The text breaks the grammar; the message says what was expected, in our own words only."""


@attrs.define
class Scanner:
    """A position in one header value. Each method moves forward only, so a whole scan is linear."""

    text: str
    position: int = 0

    def peek(self) -> str:
        """The next character after white space, "" at the end."""
        while self.text[self.position : self.position + 1] in (" ", "\t"):
            self.position += 1
        return self.text[self.position : self.position + 1]

    def accept(self, char: str) -> bool:
        """Step over `char` (with white space before it) when it is next."""
        if self.peek() != char:
            return False
        self.position += 1
        return True

    def expect(self, char: str) -> None:
        if not self.accept(char):
            raise AddressError(f"{char!r} expected")

    def expect_end(self) -> None:
        if self.peek():
            raise AddressError("text after the end of a value")

    def take(self, allowed: frozenset[str]) -> str:
        """The longest run of `allowed` characters, after white space; may be empty."""
        self.peek()
        start = self.position
        while self.position < len(self.text) and self.text[self.position] in allowed:
            self.position += 1
        return self.text[start : self.position]

    def take_until(self, stops: str) -> str:
        """What comes before any of `stops`, or all the rest."""
        self.peek()
        start = self.position
        while self.position < len(self.text) and self.text[self.position] not in stops:
            self.position += 1
        return self.text[start : self.position]

    def until(self, stop: str) -> str:
        """What comes before `stop`, which must follow."""
        end = self.text.find(stop, self.position)
        if end < 0:
            raise AddressError(f"{stop!r} expected")
        start, self.position = self.position, end
        return self.text[start:end]

    def token(self) -> str:
        value = self.take(TOKEN)
        if not value:
            raise AddressError("token expected")
        return value

    def quoted_string(self) -> str:
        """A quoted string as written, quotes and backslashes included."""
        start = self.position
        self.expect('"')
        while self.position < len(self.text) and self.text[self.position] != '"':
            self.position += 2 if self.text[self.position] == "\\" else 1
        if self.position >= len(self.text):
            raise AddressError("quoted string without its end")
        self.position += 1
        return self.text[start : self.position].strip(WHITESPACE)

    def display_name(self) -> str:
        """The display name before "<"; "" (and no step) when the value is a bare URI."""
        if self.peek() == '"':
            return self.quoted_string()
        start = self.position
        while self.take(TOKEN):
            pass
        if self.peek() == "<":
            return self.text[start : self.position].strip(WHITESPACE)
        self.position = start
        return ""

    def host_port(self) -> tuple[str, int | None]:
        if self.accept("["):
            host = self.until("]")
            self.expect("]")
            if ":" not in host or "%" in host or not is_ip_address(host):
                raise AddressError("bad IPv6 address")
        else:
            host = self.take(HOST)
            if not host:
                raise AddressError("host expected")
        return host, parse_port(self.take(ALPHANUMERIC)) if self.accept(":") else None

    def parameters(self) -> Parameters:
        """Header parameters: every `;name` or `;name=value` from here."""
        found: list[tuple[str, str | None]] = []
        while self.accept(";"):
            if len(found) == MAX_PARAMETERS:
                raise AddressError("too many parameters")
            name = self.token()
            found.append((name, self.parameter_value() if self.accept("=") else None))
        return tuple(found)

    def parameter_value(self) -> str:
        value = self.quoted_string() if self.peek() == '"' else self.take(PARAMETER_VALUE)
        if not value:
            raise AddressError("parameter without its value")
        return value


def split_list(text: str) -> list[str]:
    """Cut a comma list, RFC 3261 section 7.3.1; commas in quotes and angle brackets do not count."""
    parts: list[str] = []
    start = position = 0
    quoted = bracketed = False
    while position < len(text):
        char = text[position]
        if quoted:
            position += char == "\\"
            quoted = char != '"'
        elif char == '"':
            quoted = True
        elif char in "<>":
            bracketed = char == "<"
        elif char == "," and not bracketed:
            parts.append(text[start:position].strip(WHITESPACE))
            start = position + 1
        position += 1
    parts.append(text[start:].strip(WHITESPACE))
    return parts


def parse_number(text: str, maximum: int, name: str) -> int:
    """Read digits as a number from 0 to `maximum`; `int()` would also take signs, underscores and foreign digits.

    Raises:
      AddressError: anything else.
    """
    digits = text.lstrip("0") or text[-1:]
    if not (text.isascii() and text.isdigit()) or len(digits) > len(str(maximum)) or int(digits) > maximum:
        raise AddressError(f"{name} is not a number from 0 to {maximum}")
    return int(digits)


def parse_port(text: str) -> int:
    """Read a port. Raises AddressError when it is not 0 to 65535."""
    return parse_number(text, 65535, "port")


def is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
