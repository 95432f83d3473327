"""IP addresses as they are compared: one spelling for each, and which of them are one host's."""

from __future__ import annotations

import ipaddress
from typing import Final

IPV6_SITE_BITS: Final = 64  # one host has at least so many addresses (RFC 4291 section 2.5.4, RFC 8981)


def plain_ip(text: str) -> str:
    """One spelling for each address; an IPv4 one on an IPv6 socket is the IPv4 one. Other text as it is."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    return str(getattr(address, "ipv4_mapped", None) or address)


def site_of(ip: str) -> str:
    """Whom an address counts for: an IPv4 address itself, of an IPv6 one its /64. Other text as it is."""
    plain = plain_ip(ip.partition("%")[0])
    if ":" not in plain:
        return plain
    try:
        return str(ipaddress.IPv6Network((plain, IPV6_SITE_BITS), strict=False))
    except ValueError:
        return plain
