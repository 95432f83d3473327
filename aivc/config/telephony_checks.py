"""What is wrong or doubtful about `[sip]` and `[rtp]`: addresses, certificates, who is trusted, timers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import combinations
from typing import Final

from aivc.config.agent_checks import Finding
from aivc.config.rules import parse_listen, sip_header_fields
from aivc.config.settings import Settings, SipSettings

REPORTED_WITHIN: Final = 15.0  # seconds: telephones send RTCP every 5 s or so, and a report may be lost
EVERYBODY: Final = ("0.0.0.0/0", "::/0")


def telephony_contradictions(settings: Settings) -> Iterator[Finding]:
    """Why these settings, each fine by itself, cannot work together."""
    rtp, sip = settings.rtp, settings.sip
    if rtp.min_port >= rtp.max_port:
        yield Finding(("rtp.min_port", "rtp.max_port"), f"{rtp.min_port} is not below rtp.max_port, {rtp.max_port}")
    elif even_ports(rtp.min_port, rtp.max_port) == 0:
        yield Finding(("rtp.min_port", "rtp.max_port"), "no even port with an odd one after it lies in this range")
    if sip.enabled:
        yield from listening_faults(sip)
        yield from registration_faults(sip)
    for name, fields in (("sip.refer_headers", sip.refer_headers), ("sip.bye_headers", sip.bye_headers)):
        try:
            sip_header_fields(tuple(fields.items()))
        except ValueError as error:
            yield Finding((name,), str(error))
    if 0 < sip.session_expires_seconds < sip.min_se_seconds:
        text = f"{sip.session_expires_seconds} is less than sip.min_se_seconds, {sip.min_se_seconds}"
        yield Finding(("sip.session_expires_seconds", "sip.min_se_seconds"), text)


def even_ports(low: int, high: int) -> int:
    """How many calls the range has room for: an even port for RTP and the next for RTCP (RFC 3550 section 11)."""
    return max(0, (high - (low + low % 2) + 1) // 2)


def listening_faults(sip: SipSettings) -> Iterator[Finding]:
    """About the addresses."""
    if not sip.listen:
        yield Finding(("sip.listen", "sip.enabled"), "is empty; give an address, or set sip.enabled = false")
    if uses_tls(sip) and sip.tls_certificate is None:
        yield Finding(("sip.tls_certificate", "sip.listen"), "missing: tls: in sip.listen needs a certificate")
    for one, other in combinations(sip.listen, 2):
        if collide(parse_listen(one), parse_listen(other)):
            text = f"{one} is there twice" if one == other else f"{one} and {other} would be the same address"
            yield Finding(("sip.listen",), text)


def collide(one: tuple[str, str, int], other: tuple[str, str, int]) -> bool:
    """Whether the system gives only one of the two; `tcp:` and `tls:` share the ports."""
    same_kind = (one[0] == "udp") is (other[0] == "udp") and (":" in one[1]) is (":" in other[1])
    here, there = ip_address(one[1]), ip_address(other[1])
    same_host = here == there or here.is_unspecified or there.is_unspecified
    return same_kind and same_host and one[2] == other[2] != 0


def registration_faults(sip: SipSettings) -> Iterator[Finding]:
    """A datagram leaves from where we listen; connections we can make without."""
    listens = {parse_listen(entry)[0] for entry in sip.listen}
    for index, register in enumerate(sip.register):
        if register.transport == "udp" and sip.listen and "udp" not in listens:
            text = f"[{index}].transport: there is no udp: in sip.listen that it could be sent from"
            yield Finding(("sip.register", "sip.listen"), text)


def uses_tls(sip: SipSettings) -> bool:
    return any(parse_listen(entry)[0] == "tls" for entry in sip.listen)


def telephony_doubts(settings: Settings, sources: Mapping[str, str]) -> Iterator[str]:
    """What will work otherwise than its writer may think."""
    sip, rtp = settings.sip, settings.rtp
    ports, calls = even_ports(rtp.min_port, rtp.max_port), settings.service.max_calls
    if ports < calls:
        yield (
            f"rtp.min_port: the range has room for {ports} calls, service.max_calls allows {calls};"
            " calls beyond the range are refused"
        )
    if sip.enabled:
        yield from trust_doubts(sip)
        yield from address_doubts(sip)
        yield from number_doubts(sip)
        if rtp.srtp != "off" and not uses_tls(sip) and not any(one.transport == "tls" for one in sip.register):
            yield "rtp.srtp: the keys can be read on their way: there is no tls: in sip.listen"
    if rtp.hold_timeout_seconds and not rtp.rtcp:
        yield (
            "rtp.hold_timeout_seconds: with rtp.rtcp = false nothing tells that a caller on hold is there, unless they"
            " send music"
        )
    elif 0 < rtp.hold_timeout_seconds < REPORTED_WITHIN:
        yield (
            f"rtp.hold_timeout_seconds: {rtp.hold_timeout_seconds:g}: telephones report every 5 s or so, and some are"
            " lost: callers on hold may be taken to be gone"
        )
    for names, works, why in EFFECTIVE_IF:
        if not works(settings):
            yield from (f"{name}: has no effect {why}" for name in names if sources.get(name, "default") != "default")


def trust_doubts(sip: SipSettings) -> Iterator[str]:
    """About networks that say more, or less, than they seem to."""
    trusted = [(text, ip_network(text)) for text in sip.trusted]
    for text in EVERYBODY:
        if text in sip.trusted:
            yield f"sip.trusted: {text}: everybody is trusted: nobody is asked for a password, nor slowed down"
    for allowed in sip.allow:
        for text, network in trusted:
            if is_within(ip_network(allowed), network):
                yield f"sip.allow: {allowed} lies in {text} of sip.trusted, which is served anyway"
    if not sip.requests_per_second and not sip.allow:
        yield "sip.requests_per_second: 0: whoever floods the service is not slowed down; sip.allow would keep them out"


def is_within(inner: IPv4Network | IPv6Network, outer: IPv4Network | IPv6Network) -> bool:
    same = inner.version == outer.version and inner.prefixlen >= outer.prefixlen
    return same and inner.network_address in outer


def address_doubts(sip: SipSettings) -> Iterator[str]:
    """About an address of another family than all sockets."""
    if sip.external_ip is not None:
        version = "IPv6" if ":" in sip.external_ip else "IPv4"
        if all((":" in parse_listen(entry)[1]) is (version == "IPv4") for entry in sip.listen):
            yield f"sip.external_ip: has no effect: no address of sip.listen is {version}"


def number_doubts(sip: SipSettings) -> Iterator[str]:
    """About calls that come by a registration and are refused."""
    for index, register in enumerate(sip.register):
        if sip.numbers and register.expires_seconds and register.user not in sip.numbers:
            yield f"sip.register[{index}].user: calls for {register.user} get 404: it is not in sip.numbers"


# settings; whether they have an effect; why they have none
EFFECTIVE_IF: Final[tuple[tuple[tuple[str, ...], Callable[[Settings], bool], str], ...]] = (
    (
        ("sip.tls_certificate", "sip.tls_key", "sip.tls_client_ca"),
        lambda settings: uses_tls(settings.sip) or not settings.sip.enabled,
        "without tls: in sip.listen",
    ),
    (
        ("sip.realm", "sip.digest", "sip.nonce_seconds"),
        lambda settings: bool(settings.sip.users) or not settings.sip.enabled,
        "without sip.users: nobody is asked for a password",
    ),
    (("rtp.rtcp_seconds",), lambda settings: settings.rtp.rtcp, "with rtp.rtcp = false"),
)
