"""Keys told by INFO: the bodies application/dtmf-relay and application/dtmf, which no RFC describes.

RFC 6086 section 2 calls this the legacy use of INFO. What is read here is what Cisco's gateways, Asterisk, PJSIP and
Linphone write; a key may be written as itself or as the event number of RFC 4733 section 3.2.
"""

from __future__ import annotations

from typing import Final

from aivc.sip.leg import DigitPressed
from aivc.sip.scanner import AddressError, parse_number

RELAY_TYPE: Final = "application/dtmf-relay"  # Signal= 5, Duration= 160
PLAIN_TYPE: Final = "application/dtmf"  # 5
DTMF_TYPES: Final = (RELAY_TYPE, PLAIN_TYPE)
MAX_BODY_OCTETS: Final = 256  # a real one has 26
MAX_DURATION_MS: Final = 60_000  # a key held down for a minute
DEFAULT_DURATION_MS: Final = 100  # of a key without one
KEYS: Final = "0123456789*#ABCD"  # in the order of RFC 4733 section 3.2
FLASH: Final = frozenset({"16", "!", "FLASH", "HF"})  # the hook: no key


class InfoError(ValueError):
    """The body tells of no key; the message says why, in our own words only."""


def parse_untrusted(body: bytes) -> DigitPressed | None:
    """Read the body of one INFO of the `DTMF_TYPES`; None for a flash of the hook.

    Raises:
      InfoError: and nothing else.
    """
    if len(body) > MAX_BODY_OCTETS:
        raise InfoError("DTMF body too long")
    text = body.decode("latin-1")
    if "=" not in text:
        return pressed(text, DEFAULT_DURATION_MS)
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            values.setdefault(name.strip().lower(), value.strip())
    if "signal" not in values:
        raise InfoError("DTMF body without Signal")
    return pressed(values["signal"], read_duration(values.get("duration")))


def pressed(signal: str, duration_ms: int) -> DigitPressed | None:
    """The key that a signal names."""
    name = signal.strip().upper()
    if name in FLASH:
        return None
    if len(name) == 1 and name in KEYS:
        return DigitPressed(name, duration_ms)
    try:
        return DigitPressed(KEYS[parse_number(name, len(KEYS) - 1, "DTMF signal")], duration_ms)
    except AddressError as error:
        raise InfoError("DTMF signal that is no key") from error


def read_duration(text: str | None) -> int:
    if not text:
        return DEFAULT_DURATION_MS
    try:
        return parse_number(text, MAX_DURATION_MS, "DTMF duration")
    except AddressError as error:
        raise InfoError(str(error)) from error
