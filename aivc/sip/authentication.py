"""Who calls? The server's side of Digest, RFC 3261 section 22, RFC 7616 and RFC 8760.

A nonce proves itself: it says when it was made and, by an HMAC, that we made it for this source and algorithm. So
nothing is kept for those who only ask; a nonce enters our books when a right password came with it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from math import inf
from typing import Final

import attrs

from aivc.config.settings import SipSettings
from aivc.sip.address import SipUri, parse_uri, quote
from aivc.sip.digest import (
    Algorithm,
    Challenge,
    Credentials,
    Randomness,
    digest_response,
    known_algorithm,
    parse_credentials,
)
from aivc.sip.inspection import Refusal
from aivc.sip.ip import site_of
from aivc.sip.message import Request
from aivc.sip.refusals import Cause
from aivc.sip.scanner import AddressError

# What callers are asked for by `sip.digest`; RFC 8760 section 2.4: the one that we like best first.
OFFERED: Final[Mapping[str, tuple[Algorithm, ...]]] = {
    "both": ("SHA-256", "MD5"),
    "SHA-256": ("SHA-256",),
    "MD5": ("MD5",),
}
MAX_FIELDS: Final = 8  # Authorization fields read of one request; real ones have one for each realm
TIME_OCTETS: Final = 6  # milliseconds
SALT_OCTETS: Final = 6  # two callers behind one NAT must not count in one nonce
MAC_OCTETS: Final = 12  # 96 bits, as HMAC-SHA1-96 has: guessed online, if at all
MAKER_OCTETS: Final = 3  # of the salt, where several processes share the key: whose nonce it is
NONCE_CHARACTERS: Final = 32  # base64url of these: short, since a challenge must not amplify
MAX_NONCES: Final = 4096  # in use at a time, some 1 MB
NC_WINDOW: Final = 64  # UDP may turn the order of so many requests round
MAX_WRONG: Final = 10  # wrong passwords of one source in WRONG_SECONDS: more than a person mistypes
WRONG_SECONDS: Final = 60.0
SILENCE_SECONDS: Final = 60.0  # for which it is refused then: 10 passwords in two minutes find none that is worth it
MAX_SOURCES: Final = 4096  # whose wrong passwords are counted


@attrs.define
class Usage:
    """How far the nonce count of one nonce has come."""

    issued: float
    highest: int = 0
    seen: int = 0  # bit n: highest - n was there

    def take(self, count: int) -> bool:
        """False when that count was there, or may have been (RFC 7616 section 3.4)."""
        if count > self.highest:
            shift = min(count - self.highest, NC_WINDOW)
            self.seen = (self.seen << shift | 1) & ((1 << NC_WINDOW) - 1)
            self.highest = count
            return True
        age = self.highest - count
        if count == 0 or age >= NC_WINDOW or self.seen >> age & 1:
            return False
        self.seen |= 1 << age
        return True


@attrs.define
class Wrong:
    """Wrong passwords of one source."""

    since: float
    count: int = 0
    silent_until: float = 0.0


@attrs.define(eq=False)
class Authentication:
    """Asks callers for a name and password of `sip.users`.

    Args:
      randomness: of the key and the nonces.
      shared_key: of all processes that answer at one address; None: this one is alone. The nonce of another is known
        then, but not how often it was used: who has the right password is told to take a new one.
    """

    settings: SipSettings
    randomness: Randomness
    shared_key: bytes | None = attrs.field(default=None, repr=False)
    _key: bytes = attrs.field(init=False, repr=False)
    _maker: bytes = attrs.field(init=False, repr=False)  # what the salt of our own nonces begins with
    _passwords: dict[str, str] = attrs.field(init=False, repr=False)
    _decoy: str = attrs.field(init=False, repr=False)  # the password of users that there are not
    _realm: str = attrs.field(init=False)  # as it stands between quotes
    _offered: tuple[Algorithm, ...] = attrs.field(init=False)
    _usages: dict[str, Usage] = attrs.field(factory=dict, init=False)  # nonce -> its use, in the order of first use
    _forgotten: float = attrs.field(default=-inf, init=False)  # nonces up to then may have been used
    _wrong: dict[str, Wrong] = attrs.field(factory=dict, init=False)  # source -> its wrong passwords

    def __attrs_post_init__(self) -> None:
        self._key = self._octets(32) if self.shared_key is None else self.shared_key
        self._maker = b"" if self.shared_key is None else self._octets(MAKER_OCTETS)
        self._decoy = self._octets(16).hex()
        self._passwords = {user.name: user.password.reveal() for user in self.settings.users}
        self._realm = quote(self.settings.realm)[1:-1]
        self._offered = OFFERED[self.settings.digest]

    def challenge(self, request: Request, source_ip: str, now: float) -> Refusal | None:
        """Why a new request is not served; None when it is: its credentials are right, or none are needed.

        Not for ACK and CANCEL, which cannot be sent again (RFC 3261 section 22.1), nor for retransmissions, whose
        nonce count is used up. The cause is for the log: every refusal but 403 and 400 looks the same to the peer.
        """
        if not self._passwords:
            return None
        source = site_of(source_ip)
        wrong = self._wrong.get(source)
        if wrong is not None and now < wrong.silent_until:
            return Refusal(403, "too many wrong passwords", name=Cause.WRONG_PASSWORDS.value)
        try:
            credentials = self._ours(request)
            if credentials is None:
                return self._ask(source, now, "no credentials")
            if not same_user(credentials.uri, request):
                return Refusal(400, "digest for another URI")  # RFC 7616 section 3.4.6
        except AddressError as error:
            return Refusal(400, f"Bad Authorization: {error}")
        return self._judge(credentials, request, source, now)

    def _ours(self, request: Request) -> Credentials | None:
        """The credentials for our realm. Raises AddressError."""
        for value in request.headers.lines("Authorization")[:MAX_FIELDS]:
            credentials = parse_credentials(value)
            if credentials is not None and credentials.realm == self._realm:
                return credentials
        return None

    def _judge(self, given: Credentials, request: Request, source: str, now: float) -> Refusal | None:
        algorithm = known_algorithm(given.algorithm)
        issued = None if algorithm is None else self._issued(given.nonce, source, algorithm)
        if algorithm not in self._offered or issued is None:
            return self._ask(source, now, "nonce of somebody else, or for another algorithm or source")
        if given.qop != "auth" or given.nc is None or not given.cnonce:  # RFC 8760 section 2.6
            return self._ask(source, now, "digest without qop")
        password = self._passwords.get(given.username)
        wanted = digest_response(given, algorithm, self._decoy if password is None else password, request.method)
        right = hmac.compare_digest(wanted.encode(), given.response.encode("latin-1"))
        if not right or password is None:
            self._note_wrong(source, now)
            return self._ask(source, now, "wrong password" if password is not None else "unknown user")
        # Only who has proved himself is told that his nonce is no good any more (RFC 7616 section 3.3).
        if now - issued > self.settings.nonce_seconds or not self._is_own(given.nonce):
            return self._ask(source, now, "old nonce", stale=True)
        if not self._take(given.nonce, int(given.nc, 16), issued, now):
            return self._ask(source, now, "nonce count used before", stale=True)
        return None

    def _ask(self, source: str, now: float, cause: str, *, stale: bool = False) -> Refusal:
        challenges = [
            Challenge(
                realm=self._realm,
                nonce=self._nonce(source, algorithm, now),
                algorithm=algorithm,
                qop=("auth",),
                stale=stale,
            )
            for algorithm in self._offered
        ]
        return Refusal(401, cause, tuple(("WWW-Authenticate", str(each)) for each in challenges))

    # Nonces

    def _nonce(self, source: str, algorithm: Algorithm, now: float) -> str:
        salt = self._maker + self._octets(SALT_OCTETS - len(self._maker))
        stamp = int(now * 1000).to_bytes(TIME_OCTETS, "big") + salt
        return base64.urlsafe_b64encode(stamp + self._mac(stamp, source, algorithm)).decode()

    def _issued(self, nonce: str, source: str, algorithm: Algorithm) -> float | None:
        """When we made that nonce for that source and algorithm; None: we did not."""
        try:
            octets = base64.urlsafe_b64decode(nonce) if len(nonce) == NONCE_CHARACTERS else b""
        except (binascii.Error, ValueError):
            return None
        stamp, mac = octets[:-MAC_OCTETS], octets[-MAC_OCTETS:]
        if not hmac.compare_digest(mac, self._mac(stamp, source, algorithm)):
            return None
        return int.from_bytes(stamp[:TIME_OCTETS], "big") / 1000

    def _is_own(self, nonce: str) -> bool:
        return base64.urlsafe_b64decode(nonce)[TIME_OCTETS:].startswith(self._maker)

    def _mac(self, stamp: bytes, source: str, algorithm: Algorithm) -> bytes:
        text = stamp + f"{algorithm} {source}".encode("latin-1", "replace")
        return hmac.digest(self._key, text, hashlib.sha256)[:MAC_OCTETS]

    def _octets(self, count: int) -> bytes:
        return self.randomness.getrandbits(8 * count).to_bytes(count, "big")

    def _take(self, nonce: str, count: int, issued: float, now: float) -> bool:
        """Book one use of a nonce; False when that would be a replay."""
        usage = self._usages.get(nonce)
        if usage is None:
            if issued <= self._forgotten:
                return False
            self._forget(now)
            usage = self._usages[nonce] = Usage(issued)
        return usage.take(count)

    def _forget(self, now: float) -> None:
        """Make room. A nonce that is still good must not come back as if it had never been used."""
        while self._usages:
            nonce, oldest = next(iter(self._usages.items()))
            if now - oldest.issued <= self.settings.nonce_seconds and len(self._usages) < MAX_NONCES:
                return
            del self._usages[nonce]
            self._forgotten = max(self._forgotten, oldest.issued)

    # Wrong passwords

    def _note_wrong(self, source: str, now: float) -> None:
        """Count one; it came with a nonce that only that source has been told, so nobody can count for others."""
        wrong = self._wrong.pop(source, None)
        if wrong is None or now - wrong.since > WRONG_SECONDS:
            wrong = Wrong(now)
        wrong.count += 1
        if wrong.count >= MAX_WRONG:
            wrong = Wrong(now, silent_until=now + SILENCE_SECONDS)
        if len(self._wrong) == MAX_SOURCES:
            del self._wrong[next(iter(self._wrong))]
        self._wrong[source] = wrong


def same_user(digest_uri: str, request: Request) -> bool:
    """Whether credentials were made for whom the request is for.

    RFC 3261 section 22.4 lets a UAS be lenient, and it must: proxies and the gateways of NATs rewrite host, port and
    parameters of the Request-URI, and phones leave parameters out of the digest's. All of those only say which server
    is meant, and the nonce says that already. The user part says whom among ours, so it has to be the same; SIPp
    leaves it out unless told otherwise.

    Raises:
      AddressError: the digest has no URI.
    """
    uri, target = parse_uri(digest_uri), request.uri
    if isinstance(uri, SipUri) and isinstance(target, SipUri):
        return uri.user in (None, target.user)
    return str(uri).lower() == str(target).lower()
