"""Who may ask what: networks, scanners, how fast, and who has shown that it gets what we send to it.

All by IP address, as the network layer tells it; on UDP it may be forged, and everything here takes that into account.
Every table is bounded, and every step takes the same time however many sources there are.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable
from typing import Final, TypeVar

import attrs

from aivc.config.settings import Address, SipSettings
from aivc.sip.ip import plain_ip, site_of
from aivc.sip.message import Request

MAX_SOURCES: Final = 4096  # in each table; the one unused for longest makes room
# How well-known scanners name themselves; the lists of Kamailio's and OpenSIPS's example configurations and of
# public honeypots agree on these. Lower case, compared with the beginning of User-Agent.
SCANNERS: Final = (
    "friendly-scanner",
    "friendly-request",
    "sipvicious",
    "sipcli",
    "sip-scan",
    "sipscan",
    "siparmyknife",
    "sivus",
    "sundayddr",
    "vaxsipuseragent",
    "vaxipuseragent",
    "pplsip",
    "iwar",
    "smap",
    "gulp",
)
LONGEST_SCANNER: Final = max(len(name) for name in SCANNERS)

Key = TypeVar("Key")
Value = TypeVar("Value")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Verdict(enum.Enum):
    """What to do with a request."""

    SERVE = enum.auto()
    DROP = enum.auto()  # silence
    FORBID = enum.auto()  # 403 without a transaction
    SLOW_DOWN = enum.auto()  # 503 with Retry-After, without a transaction


@attrs.define
class Bucket:
    """Token buckets of one source.

    Attributes:
      tokens: requests that may still be served at once.
      refusals: beyond those, requests that may still be answered 503.
      at: when both were right, seconds on the caller's clock.
    """

    tokens: float
    refusals: float
    at: float

    def fill(self, rate: float, burst: float, now: float) -> None:
        gained = max(0.0, now - self.at) * rate
        self.tokens = min(burst, self.tokens + gained)
        self.refusals = min(burst, self.refusals + gained)
        self.at = max(self.at, now)

    def take(self, rate: float, burst: float, now: float) -> bool:
        """Spend one token; False: there is none."""
        self.fill(rate, burst, now)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@attrs.define(repr=False)
class Sources:
    """All that is known of where messages come from.

    Args:
      settings: `allow`, `trusted`, `unwanted` and `requests_per_second` are used.
    """

    settings: SipSettings
    _allow: tuple[Network, ...] = attrs.field(init=False)
    _trusted: tuple[Network, ...] = attrs.field(init=False)
    _expected: dict[str, None] = attrs.field(factory=dict, init=False)  # IP addresses; here and below oldest first
    _buckets: dict[str, Bucket] = attrs.field(factory=dict, init=False)  # by IP address or IPv6 /64
    _proven: dict[Address, None] = attrs.field(factory=dict, init=False)
    _notes: dict[str, tuple[bool, bool]] = attrs.field(factory=dict, init=False)  # IP address: allowed, trusted

    def __attrs_post_init__(self) -> None:
        self._allow = tuple(ipaddress.ip_network(text) for text in self.settings.allow)
        self._trusted = tuple(ipaddress.ip_network(text) for text in self.settings.trusted)

    def admits(self, ip: str) -> bool:
        """False: what comes from there is dropped before it is read."""
        return self.settings.unwanted != "drop" or self._is_allowed(ip)

    def judge(self, request: Request, ip: str, now: float, in_dialog: bool) -> Verdict:
        """What to do with a request that is no retransmission.

        Args:
          in_dialog: it belongs to a call that we have: those are never slowed down.
        """
        if not self._is_allowed(ip):
            return self._unwanted(request, ip, now)
        if in_dialog or self.is_trusted(ip) or self.is_expected(ip):
            return Verdict.SERVE
        if is_of_a_scanner(request):
            return self._unwanted(request, ip, now)
        verdict = self._spend(ip, now)
        return Verdict.DROP if request.method == "ACK" and verdict is not Verdict.SERVE else verdict

    def is_trusted(self, ip: str) -> bool:
        """Whether `sip.trusted` has it."""
        return self._note(ip)[1]

    def expect(self, ip: str) -> None:
        """A server of ours (a registrar): admitted, and asked for no password, until `release`. May be repeated."""
        remember(self._expected, plain_ip(ip), None)

    def release(self, ip: str) -> None:
        """No server of ours any more."""
        self._expected.pop(plain_ip(ip), None)

    def is_expected(self, ip: str) -> bool:
        return plain_ip(ip) in self._expected

    def prove(self, source: Address) -> None:
        """That UDP source has shown that it gets our answers: it sent our tag, or the answer to our challenge."""
        remember(self._proven, source, None)

    def is_proven(self, source: Address) -> bool:
        """Whether an answer to a UDP packet from there may be long. Trunks and servers that we know of may get them."""
        return source in self._proven or self.is_trusted(source[0]) or self.is_expected(source[0])

    def _is_allowed(self, ip: str) -> bool:
        return self._note(ip)[0] or self.is_expected(ip)

    def _note(self, ip: str) -> tuple[bool, bool]:
        note = self._notes.get(ip)
        if note is None:
            trusted = contains(self._trusted, ip)
            note = trusted or not self._allow or contains(self._allow, ip), trusted
            remember(self._notes, ip, note)
        return note

    def _unwanted(self, request: Request, ip: str, now: float) -> Verdict:
        """Even a 403 has its rate, and an ACK is never answered."""
        if self.settings.unwanted == "drop" or request.method == "ACK":
            return Verdict.DROP
        return Verdict.FORBID if self._spend(ip, now) is Verdict.SERVE else Verdict.DROP

    def _spend(self, ip: str, now: float) -> Verdict:
        rate = self.settings.requests_per_second
        if not rate:
            return Verdict.SERVE
        burst, key = max(1.0, rate), site_of(ip)
        bucket = self._buckets.get(key) or Bucket(burst, burst, now)
        remember(self._buckets, key, bucket)
        bucket.fill(rate, burst, now)
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return Verdict.SERVE
        if bucket.refusals >= 1:
            bucket.refusals -= 1
            return Verdict.SLOW_DOWN
        return Verdict.DROP


def is_of_a_scanner(request: Request) -> bool:
    """Whether User-Agent begins with the name of a well-known scanner."""
    name = (request.headers.get("User-Agent") or "")[: LONGEST_SCANNER + 2].lstrip(' \t"').lower()
    return name.startswith(SCANNERS)


def contains(networks: Iterable[Network], ip: str) -> bool:
    """Whether one of the networks has the address; an IPv4 address mapped into IPv6 counts as what it is."""
    try:
        address = ipaddress.ip_address(plain_ip(ip))
    except ValueError:
        return False
    return any(address.version == network.version and address in network for network in networks)


def remember(table: dict[Key, Value], key: Key, value: Value) -> None:
    """Put it at the end, and forget the oldest when there are too many."""
    table.pop(key, None)
    table[key] = value
    if len(table) > MAX_SOURCES:
        del table[next(iter(table))]
