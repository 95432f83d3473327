"""What an INVITE says besides its offer: who calls, from where and for how long; and what a rejection of it says."""

from __future__ import annotations

import ipaddress
from typing import Final

from aivc.config.settings import Address
from aivc.sip.address import NameAddr, SipUri, parse_name_addr, parse_via
from aivc.sip.inspection import Refusal, retry_after_header, warning_header
from aivc.sip.ip import plain_ip
from aivc.sip.leg import Fields, Rejection
from aivc.sip.message import Request
from aivc.sip.negotiation import WARN_OTHER
from aivc.sip.reasons import named, reason_fields
from aivc.sip.referral import name_addr_of
from aivc.sip.scanner import AddressError, is_ip_address, parse_number

ANONYMOUS: Final = "sip:anonymous@anonymous.invalid"  # RFC 3323 section 4.1.1.3
ASSERTED: Final = "P-Asserted-Identity"
MAX_EXPIRES: Final = 2**32 - 1  # RFC 3261 section 20.19
LONGEST_RINGING: Final = 300  # seconds: no call of ours is answered later, and a timer keeps it in memory


def asserted_identity(request: Request) -> str | None:
    """The URI of P-Asserted-Identity (RFC 3325 section 9.1), of two the sip one; None: there is none."""
    found: list[NameAddr] = []
    for text in request.headers.items(ASSERTED)[:2]:
        try:
            found.append(parse_name_addr(text))
        except AddressError:
            continue
    found.sort(key=lambda each: not isinstance(each.uri, SipUri))
    return str(found[0].uri) if found else None


def addressee(request: Request) -> str:
    """The user part of To, unescaped, or the number of a tel URI; "" when there is none."""
    uri = request.to.uri
    if isinstance(uri, SipUri):
        return uri.user or ""
    return uri.rest.partition(";")[0] if uri.scheme == "tel" else ""


def own_uri(to: str) -> str:
    """Who we are in calls of ours: whom the caller called.

    Args:
      to: the To of their INVITE.
    """
    try:
        uri = str(parse_name_addr(to).uri)
        name_addr_of(uri)
    except ValueError:
        return ANONYMOUS
    return uri


def read_expires(request: Request) -> int | None:
    """The seconds after which the caller wants no answer any more (RFC 3261 section 13.3.1); None: they are not told,
    cannot be read, or are more than anything rings for."""
    try:
        seconds = parse_number(request.headers.get("Expires") or "", MAX_EXPIRES, "Expires")
    except AddressError:
        return None
    return seconds if seconds <= LONGEST_RINGING else None


def rejected(rejection: Rejection, host: str) -> Refusal:
    """The final failure that says what a rejection says.

    Args:
      host: ours, for Warning.
    """
    reason = reason_fields(named(rejection.name, rejection.cause), rejection.status)
    fields: Fields = (warning_header(WARN_OTHER, host, rejection.cause), *reason)
    if rejection.retry_after_seconds is not None:
        fields += (retry_after_header(rejection.retry_after_seconds),)
    counted = not rejection.ended_call
    return Refusal(rejection.status, rejection.cause, fields, rejection.name, is_counted=counted)


def origin_of(request: Request) -> Address | None:
    """Where an INVITE came from that others have passed on: the first public address among its Vias and its Contact,
    else the topmost one that is an address at all; None: there is none."""
    found = [address for address in (*via_addresses(request), *contact_addresses(request)) if is_ip_address(address[0])]
    public = [address for address in found if ipaddress.ip_address(address[0]).is_global]
    return next(iter(public or found), None)


def via_addresses(request: Request) -> list[Address]:
    """Of each Via, topmost first, where its sender was seen, or says that it is (RFC 3261 section 18.2, RFC 3581)."""
    found: list[Address] = []
    for text in request.headers.items("Via"):
        try:
            via = parse_via(text)
            host, port = via.response_address()
            found.append((plain_ip(host), port))
        except AddressError:
            continue
    return found


def contact_addresses(request: Request) -> list[Address]:
    try:
        uri = parse_name_addr(next(iter(request.headers.items("Contact")), "")).uri
    except AddressError:
        return []
    address = uri.address if isinstance(uri, SipUri) else None
    return [] if address is None else [(plain_ip(address[0]), address[1])]
