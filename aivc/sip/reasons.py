"""The Reason header field (RFC 3326): why a request is refused or a call is hung up, for people and for switches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aivc.sip.address import quote
from aivc.sip.leg import Fields

LONGEST_TEXT: Final = 200  # characters of a Reason or Warning: the message must fit into a datagram
NORMAL_CLEARING: Final = 16
INTERWORKING: Final = 127
# How a dialog hangs up by itself, as `aivc.nursery.ending.Ending` names it
ACK_MISSING: Final = "ack_missing"
SIGNALLING_FAILED: Final = "signalling_failed"
SESSION_EXPIRED: Final = "session_expired"
Q850: Final[Mapping[int, int]] = {  # SIP status -> cause of ITU-T Q.850: RFC 3398 section 8.2.6.1, for 488 7.2.4.1
    400: 41,
    401: 21,
    402: 21,
    403: 21,
    404: 1,
    405: 63,
    406: 79,
    407: 21,
    408: 102,
    410: 22,
    415: 79,
    480: 18,
    481: 41,
    482: 25,
    483: 25,
    484: 28,
    485: 1,
    486: 17,
    488: 65,
    500: 41,
    501: 79,
    502: 38,
    503: 41,
    504: 102,
    600: 17,
    603: 21,
    604: 1,
}


def q850_cause(status: int) -> int | None:
    """What a SIP status means in ISDN; None: it has no meaning there, since the caller ended the call."""
    if status < 300:
        return NORMAL_CLEARING
    return None if status == 487 else Q850.get(status, INTERWORKING)


def reason_fields(text: str, status: int = 200) -> Fields:
    """Reason twice, in lines of their own as most switches look for it: by SIP status with the text, and by Q.850 cause
    for gateways. RFC 3326 allows it in requests, RFC 6432 the latter in responses, too."""
    told = ("Reason", f"SIP;cause={status};text={quote(shortened(text))}")
    cause = q850_cause(status)
    return (told,) if cause is None else (told, ("Reason", f"Q.850;cause={cause}"))


def named(name: str, text: str) -> str:
    """A text that begins with its name in a closed list, for machines."""
    return f"{name}: {text}" if name else text


def shortened(text: str) -> str:
    """As much of a text for people as one header field is to hold."""
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 3]}..."
