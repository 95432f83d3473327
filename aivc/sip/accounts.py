"""Our passwords at servers, and to whom they are told: the client's side of RFC 3261 section 22."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

from aivc.config.rules import parse_sip_server
from aivc.config.settings import Address, SipRegister, SipSettings
from aivc.sip.address import SipUri
from aivc.sip.digest import (
    ALGORITHMS,
    Challenge,
    Credentials,
    Randomness,
    answer_challenge,
    known_algorithm,
    parse_challenge,
    parse_credentials,
)
from aivc.sip.ip import plain_ip
from aivc.sip.leg import Fields
from aivc.sip.message import Request, Response
from aivc.sip.scanner import AddressError, is_ip_address

FIELDS: Final = {401: ("WWW-Authenticate", "Authorization"), 407: ("Proxy-Authenticate", "Proxy-Authorization")}
MAX_CHALLENGES: Final = 8  # read of one response; real ones have one for each algorithm
MAX_NONCES: Final = 64  # whose use is counted
MAX_REPEATS: Final = 2  # of one request: for a proxy and for who is behind it, or for a nonce that was too old


@attrs.define(eq=False)
class Accounts:
    """The credentials of `[[sip.register]]`.

    Whoever talks to us could challenge a request of ours and try passwords on the answer at leisure
    (CVE-2021-41158), so an answer goes only to a server's own addresses.

    Args:
      randomness: for cnonce.
    """

    settings: SipSettings
    randomness: Randomness
    _addresses: dict[SipRegister, frozenset[str]] = attrs.field(factory=dict, init=False)
    _counts: dict[str, int] = attrs.field(factory=dict, init=False)  # nonce -> how often it was used

    def __attrs_post_init__(self) -> None:
        for register in self.settings.register:
            host, _ = parse_sip_server(register.server)
            if is_ip_address(host):
                self.learn(register, (host,))

    def learn(self, register: SipRegister, addresses: Iterable[str]) -> None:
        """Say which IP addresses the name of that server has now, in place of earlier ones."""
        self._addresses[register] = frozenset(plain_ip(address) for address in addresses)

    def is_server(self, ip: str) -> bool:
        """Whether any of the servers has that address."""
        return any(plain_ip(ip) in known for known in self._addresses.values())

    def answer(self, request: Request, response: Response, peer: Address) -> tuple[str, str] | None:
        """The header field with which to send a request again that got 401 or 407; None: it has failed.

        See `with_credentials`; the repeated request has a new CSeq number and branch (RFC 3261 section 22.2).

        Args:
          request: as it was sent, with the credentials that it had.
          peer: to whom it was sent and will be sent: the flow's.
        """
        if response.status not in FIELDS:
            return None
        asks, answers = FIELDS[response.status]
        account, challenge = self._account(request, peer), strongest(response.headers.lines(asks))
        if account is None or account.password is None or challenge is None:
            return None
        if is_final(challenge, request.headers.lines(answers)):
            return None
        credentials = answer_challenge(
            challenge,
            username=account.auth_user or account.user,
            password=account.password.reveal(),
            method=request.method,
            uri=request.target,
            body=request.body,
            cnonce=f"{self.randomness.getrandbits(64):016x}",
            nc=self._count(challenge.nonce),
        )
        return None if credentials is None else (answers, str(credentials))

    def _account(self, request: Request, peer: Address) -> SipRegister | None:
        """Of several at one server that in whose name the request is made."""
        address, uri = plain_ip(peer[0]), request.sender.uri
        here = [each for each, known in self._addresses.items() if address in known and each.password is not None]
        user = uri.userinfo if isinstance(uri, SipUri) else None
        return next((each for each in here if each.user == user), here[0] if here else None)

    def _count(self, nonce: str) -> int:
        count = self._counts.pop(nonce, 0) + 1
        if len(self._counts) == MAX_NONCES:
            del self._counts[next(iter(self._counts))]
        self._counts[nonce] = count
        return count


def strongest(values: list[str]) -> Challenge | None:
    """The first challenge of the best algorithm; what we cannot read or answer does not count."""
    found: list[tuple[int, Challenge]] = []
    for value in values[:MAX_CHALLENGES]:
        try:
            challenge = parse_challenge(value)
        except AddressError:
            continue
        algorithm = None if challenge is None else known_algorithm(challenge.algorithm)
        if challenge is not None and algorithm is not None and is_answerable(challenge):
            found.append((ALGORITHMS.index(algorithm), challenge))
    return min(found, key=lambda each: each[0])[1] if found else None


def is_answerable(challenge: Challenge) -> bool:
    return not challenge.qop or "auth" in challenge.qop or "auth-int" in challenge.qop


def is_final(challenge: Challenge, values: list[str]) -> bool:
    """Whether a request with these credentials is challenged in vain: rejected credentials are not tried again
    (RFC 3261 section 22.1), but for a nonce that was too old (RFC 7616 section 3.3), and that one never again."""
    for credentials in filter(None, map(read_credentials, values)):
        if credentials.realm == challenge.realm and (not challenge.stale or credentials.nonce == challenge.nonce):
            return True
    return False


def with_credentials(fields: Fields, field: tuple[str, str]) -> Fields:
    """The fields with those credentials, in place of earlier ones for the same realm. Each proxy on the way may want
    its own (RFC 3261 section 22.3)."""
    name, added = field[0].lower(), read_credentials(field[1])
    realm = None if added is None else added.realm
    return (*(each for each in fields if each[0].lower() != name or realm_of(each[1]) != realm), field)


def realm_of(value: str) -> str | None:
    credentials = read_credentials(value)
    return None if credentials is None else credentials.realm


def read_credentials(value: str) -> Credentials | None:
    """None: not of digest, or not to be read."""
    try:
        return parse_credentials(value)
    except AddressError:
        return None
