"""SDP security descriptions, RFC 4568: the keys of SRTP in a=crypto lines, which only TLS keeps secret.

We do two suites, one key each, no MKI and none of the session parameters that change what is encrypted. A line that
asks for more cannot be used and is passed over, as section 5.1.2 asks. A lifetime is read, but no call of ours comes
near the 2^31 packets that SRTCP allows, and those who write less (2^20 is in every example) do not mean it.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable
from typing import Final

import attrs

from aivc.sip.leg import SrtpSuite
from aivc.sip.scanner import AddressError, parse_number
from aivc.sip.sdp import Line

SUITES: Final[dict[str, SrtpSuite]] = {  # in the order of our offers
    "AES_CM_128_HMAC_SHA1_80": "AES_CM_128_HMAC_SHA1_80",
    "AES_CM_128_HMAC_SHA1_32": "AES_CM_128_HMAC_SHA1_32",
}
KEY_OCTETS: Final = 30  # 16 of the master key and 14 of the salt, section 6.2.1
KEY_CHARACTERS: Final = 40  # of base64, which needs no padding for 30 octets
MAX_TAG: Final = 999_999_999  # nine digits, section 9.1
MAX_LIFETIME_BITS: Final = 48  # packets under one key, RFC 3711 section 9.2
MAX_CRYPTO_LINES: Final = 32  # all suites that have been registered, twice; later lines are not looked at
INLINE: Final = "inline:"
WINDOW_SIZE_HINT: Final = "WSH="  # section 6.3.5: a hint about replay, good to know at most


class SdesError(ValueError):
    """The line cannot be used; the message says why, without a word of the line."""


@attrs.frozen
class Crypto:
    """One a=crypto line: one suite and the key of whoever wrote it."""

    tag: int
    suite: SrtpSuite
    key: bytes = attrs.field(repr=False)  # 30 octets: master key and salt

    def line(self) -> Line:
        encoded = binascii.b2a_base64(self.key, newline=False).decode("ascii")
        return Line("a", f"crypto:{self.tag} {self.suite} {INLINE}{encoded}")


def usable(values: Iterable[str]) -> tuple[Crypto, ...]:
    """Those of the a=crypto values that we can do, in the writer's order of preference; at least one.

    Raises:
      SdesError: there is none; the message says what the first one lacks.
    """
    found: dict[int, Crypto] = {}
    fault: SdesError | None = None
    for value, _ in zip(values, range(MAX_CRYPTO_LINES), strict=False):
        try:
            crypto = parse_untrusted(value)
            found.setdefault(crypto.tag, crypto)  # tags are unique, section 4.1
        except SdesError as error:
            fault = fault or error
    if not found:
        raise fault or SdesError("there is none")
    return tuple(found.values())


def parse_untrusted(value: str) -> Crypto:
    """Read `TAG SUITE inline:KEY|LIFETIME SESSION-PARAMETERS`.

    Raises:
      SdesError: and nothing else.
    """
    words = value.split()
    if len(words) < 3:
        raise SdesError("tag, suite and key expected")
    tag, suite, keys, *parameters = words
    if suite.upper() not in SUITES:
        raise SdesError("suite not supported")
    if any(is_binding(parameter) for parameter in parameters):
        raise SdesError("session parameter not supported")
    return Crypto(parse_tag(tag), SUITES[suite.upper()], parse_key(keys))


def is_binding(parameter: str) -> bool:
    """Whether a session parameter must be obeyed: all but hints and what is marked as optional (section 6.3.7)."""
    return not parameter.startswith("-") and not parameter.upper().startswith(WINDOW_SIZE_HINT)


def parse_tag(text: str) -> int:
    if text.startswith("0") and text != "0":  # section 4.1 wants no leading zeros, so that an echo is exact
        raise SdesError("bad tag")
    try:
        return parse_number(text, MAX_TAG, "tag")
    except AddressError:
        raise SdesError("bad tag") from None


def parse_key(text: str) -> bytes:
    """Read `inline:KEY`, perhaps with `|LIFETIME`. With an MKI, or several keys, every packet would carry one."""
    if text[: len(INLINE)].lower() != INLINE:
        raise SdesError("bad key method")
    if ";" in text:
        raise SdesError("several keys not supported")
    key, *extras = text[len(INLINE) :].split("|")
    if any(":" in extra for extra in extras):
        raise SdesError("MKI not supported")
    if len(extras) > 1 or not all(map(is_lifetime, extras)):
        raise SdesError("bad lifetime")
    if len(key) != KEY_CHARACTERS or "=" in key:
        raise SdesError("key of another length")
    try:
        return binascii.a2b_base64(key, strict_mode=True)
    except ValueError:  # its text could quote the key
        raise SdesError("bad key") from None


def is_lifetime(text: str) -> bool:
    """Whether it is a number of packets that one key is good for, written 2^N or plainly."""
    power = text.startswith("2^")
    try:
        number = parse_number(text.removeprefix("2^"), MAX_LIFETIME_BITS if power else 2**MAX_LIFETIME_BITS, "lifetime")
    except AddressError:
        return False
    return power or number > 0
