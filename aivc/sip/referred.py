"""A REFER that a peer sends to us: whom it has us call, whether we may, and how we tell of it (RFC 3515)."""

from __future__ import annotations

from typing import Final

import attrs

from aivc.config.patterns import matches_any
from aivc.sip.address import NameAddr, SipUri, get_parameter, parse_name_addr
from aivc.sip.inspection import Refusal
from aivc.sip.leg import Fields
from aivc.sip.message import VERSION, Request
from aivc.sip.referral import EVENT, MAX_URI_OCTETS, SIPFRAG_TYPE
from aivc.sip.replacing import Replaces, parse_replaces, unescape_header
from aivc.sip.scanner import ALPHANUMERIC, AddressError

# How long a target of a peer's choice may ring; the subscription lives as long (RFC 3515 section 2.4.4).
RING_SECONDS: Final = 60
UNRESERVED: Final = ALPHANUMERIC | frozenset("-_.!~*'()")


@attrs.frozen
class Order:
    """A REFER that we follow."""

    target: SipUri  # canonical and without headers: exactly what a pattern has matched
    replaces: Replaces | None
    referred_by: str | None  # as written, for the INVITE (RFC 3892 section 2)
    cseq: int
    is_told: bool  # False: the peer wants no NOTIFY (RFC 4488)


def read_refer(request: Request, patterns: tuple[str, ...]) -> Order | Refusal:
    """Whether a REFER in a dialog is followed.

    Whoever may have us call anywhere may commit toll fraud, so one of `patterns` must match the whole canonical URI,
    and no header of the URI but Replaces goes into the INVITE.
    """
    if not patterns:
        return Refusal(603, "REFER is not followed: sip.follow_refer is empty")
    try:
        target, headers = read_target(request)
        replaces = read_headers(headers)
    except AddressError as error:
        return Refusal(400, f"Bad Refer-To: {error}")
    if target is None or not matches_any(patterns, str(target)):
        return Refusal(603, "REFER is not followed: no pattern of sip.follow_refer matches the URI")
    if isinstance(replaces, Refusal):
        return replaces
    is_told = (request.headers.get("Refer-Sub") or "").partition(";")[0].strip(" \t").lower() != "false"
    return Order(target, replaces, read_referred_by(request), request.cseq.number, is_told)


def read_target(request: Request) -> tuple[SipUri | None, str]:
    """The canonical URI of Refer-To, None when it is nothing that we can call, and its headers. Raises AddressError."""
    values = request.headers.items("Refer-To")
    if len(values) != 1:
        raise AddressError("one URI expected")
    if len(values[0]) > MAX_URI_OCTETS:
        raise AddressError("too long")
    uri = parse_name_addr(values[0]).uri
    if not isinstance(uri, SipUri):
        return None, ""
    method = get_parameter(uri.parameters, "method")
    return (canonical(uri) if method is None or method == "INVITE" else None), uri.headers


def canonical(uri: SipUri) -> SipUri:
    """The one way to write it that patterns are matched with: no needless escape, the host in lower case, no headers
    (RFC 3261 section 19.1.4)."""
    userinfo = None if uri.userinfo is None else plain_escapes(uri.userinfo)
    return attrs.evolve(uri, userinfo=userinfo, host=uri.host.lower(), headers="")


def plain_escapes(text: str) -> str:
    """Escapes that hide unreserved characters are undone, the others written in capitals."""
    head, *pieces = text.split("%")
    for number, piece in enumerate(pieces):
        char = chr(int(piece[:2], 16))
        pieces[number] = (char if char in UNRESERVED else f"%{piece[:2].upper()}") + piece[2:]
    return head + "".join(pieces)


def read_headers(text: str) -> Replaces | Refusal | None:
    """The headers of a Refer-To URI. Raises AddressError."""
    replaces: Replaces | None = None
    for header in text.split("&") if text else ():
        name, _, value = header.partition("=")
        unescaped = unescape_header(value)
        if name.lower() == "replaces" and replaces is None:
            replaces = parse_replaces(unescaped)
        elif (name.lower(), unescaped.strip().lower()) != ("require", "replaces"):  # which RFC 5589 adds to Replaces
            return Refusal(603, "REFER is not followed: Refer-To with other headers than Replaces")
    return replaces


def read_referred_by(request: Request) -> str | None:
    """Referred-By when it is one plain name-addr."""
    text = request.headers.get("Referred-By")
    try:
        parsed: NameAddr | None = None if text is None else parse_name_addr(text)
    except AddressError:
        parsed = None
    return None if parsed is None else text


def notify_fields(order: Order, *, seconds: float, is_last: bool) -> Fields:
    """The header fields of a NOTIFY; `seconds` is the life of the subscription that is left."""
    state = "terminated;reason=noresource" if is_last else f"active;expires={max(1, round(seconds))}"
    return (
        ("Event", f"{EVENT};id={order.cseq}"),
        ("Subscription-State", state),
        ("Content-Type", f"{SIPFRAG_TYPE};version=2.0"),
    )


def sipfrag(status: int, phrase: str) -> bytes:
    """The status line that tells of a call's progress (RFC 3420)."""
    line = "".join(char if " " <= char <= "~" else " " for char in phrase)
    return f"{VERSION} {status} {line}\r\n".encode("latin-1")
