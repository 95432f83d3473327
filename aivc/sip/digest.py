"""Digest authentication, RFC 7616 as RFC 3261 section 22 and RFC 8760 use it: challenges and answers, no decisions.

Values are kept as they stand between the quotes, latin-1 text of the octets on the wire: `unq()` of RFC 7616 section
3.4.2 takes away the quotes and nothing else, so a backslash is hashed by both sides as it was written.
"""

from __future__ import annotations

import hashlib
import string
from typing import Final, Literal, Protocol

import attrs

from aivc.sip.scanner import MAX_PARAMETERS, AddressError, Scanner

Algorithm = Literal["SHA-256", "SHA-256-sess", "MD5", "MD5-sess"]
Qop = Literal["auth", "auth-int"]

# The strongest first. SHA-512-256 of RFC 7616 is left out: hashlib has it only where OpenSSL does, and SIP not at all.
ALGORITHMS: Final[tuple[Algorithm, ...]] = ("SHA-256", "SHA-256-sess", "MD5", "MD5-sess")
QOPS: Final[tuple[Qop, ...]] = ("auth", "auth-int")  # the one that proxies cannot break first
HEX: Final = frozenset(string.hexdigits)
NC_DIGITS: Final = 8  # nc-value = 8LHEX


class Randomness(Protocol):
    """What `random.Random` and `random.SystemRandom` have; the real user agent takes the latter."""

    def getrandbits(self, k: int, /) -> int: ...
    def random(self) -> float: ...


@attrs.frozen(kw_only=True)
class Challenge:
    """One Digest challenge: the value of WWW-Authenticate or Proxy-Authenticate, RFC 7616 section 3.3."""

    realm: str
    nonce: str
    algorithm: str = "MD5"  # as `known_algorithm` spells it, if it knows it
    qop: tuple[str, ...] = ()  # what is offered; empty in the manner of RFC 2069
    opaque: str | None = None
    stale: bool = False  # only the nonce was wrong: the same password is to be tried with this one

    def __str__(self) -> str:
        fields = [("realm", self.realm), ("nonce", self.nonce), ("opaque", self.opaque)]
        written = [f'{name}="{value}"' for name, value in fields if value is not None]
        written += ["stale=true"] if self.stale else []
        written += [f"algorithm={self.algorithm}"]
        written += [f'qop="{",".join(self.qop)}"'] if self.qop else []
        return f"Digest {', '.join(written)}"


@attrs.frozen(kw_only=True)
class Credentials:
    """The value of Authorization or Proxy-Authorization, RFC 7616 section 3.4."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str = ""
    algorithm: str | None = None  # None: not said, which means MD5
    qop: str | None = None
    cnonce: str | None = None
    nc: str | None = None  # 8 hexadecimal digits
    opaque: str | None = None

    def __str__(self) -> str:
        fields = [("username", self.username), ("realm", self.realm), ("nonce", self.nonce), ("uri", self.uri)]
        fields += [("response", self.response)]
        written = [f'{name}="{value}"' for name, value in fields]
        written += [f"algorithm={self.algorithm}"] if self.algorithm is not None else []
        written += [f'cnonce="{self.cnonce}"'] if self.cnonce is not None else []
        written += [f'opaque="{self.opaque}"'] if self.opaque is not None else []
        written += [f"qop={self.qop}"] if self.qop is not None else []
        written += [f"nc={self.nc}"] if self.nc is not None else []
        return f"Digest {', '.join(written)}"


def parse_challenge(text: str) -> Challenge | None:
    """Read one challenge of a peer; None when it is of another scheme than Digest.

    Raises:
      AddressError: it breaks the grammar, or has no realm or nonce.
    """
    found = parse_parameters(text)
    if found is None:
        return None
    return Challenge(
        realm=wanted(found, "realm"),
        nonce=wanted(found, "nonce"),
        algorithm=known_algorithm(found.get("algorithm", "MD5")) or found["algorithm"],
        qop=tuple(filter(None, (value.strip(" \t").lower() for value in found.get("qop", "").split(",")))),
        opaque=found.get("opaque"),
        stale=found.get("stale", "").lower() == "true",
    )


def parse_credentials(text: str) -> Credentials | None:
    """Read the credentials of a peer; None when they are of another scheme than Digest.

    Raises:
      AddressError: they break the grammar, or lack what every answer has.
    """
    found = parse_parameters(text)
    if found is None:
        return None
    nc, qop = found.get("nc"), found.get("qop")
    if nc is not None and not (len(nc) == NC_DIGITS and HEX.issuperset(nc)):
        raise AddressError("nc is not 8 hexadecimal digits")
    return Credentials(
        username=wanted(found, "username"),
        realm=wanted(found, "realm"),
        nonce=wanted(found, "nonce"),
        uri=wanted(found, "uri"),
        response=wanted(found, "response").lower(),
        algorithm=found.get("algorithm"),
        qop=None if qop is None else qop.lower(),
        cnonce=found.get("cnonce"),
        nc=nc,
        opaque=found.get("opaque"),
    )


def parse_parameters(text: str) -> dict[str, str] | None:
    """The parameters after "Digest", by their names in lower case; None after another scheme. Raises AddressError."""
    scanner = Scanner(text)
    if scanner.token().lower() != "digest":
        return None
    found: dict[str, str] = {}
    while True:
        name = scanner.token().lower()
        if name in found or len(found) == MAX_PARAMETERS:
            raise AddressError("repeated or too many digest parameters")
        scanner.expect("=")
        found[name] = scanner.quoted_string()[1:-1] if scanner.peek() == '"' else scanner.token()
        if not scanner.accept(","):
            scanner.expect_end()
            return found
        while scanner.accept(","):  # empty elements are met, RFC 9110 section 5.6.1
            pass
        if not scanner.peek():
            return found


def wanted(found: dict[str, str], name: str) -> str:
    value = found.get(name)
    if value is None:
        raise AddressError(f"no {name} in a digest")
    return value


def known_algorithm(text: str | None) -> Algorithm | None:
    """The algorithm of that name in any case, MD5 when there is none; None when we do not have it."""
    return next((each for each in ALGORITHMS if each.lower() == (text or "MD5").lower()), None)


def answer_challenge(
    challenge: Challenge, *, username: str, password: str, method: str, uri: str, body: bytes, cnonce: str, nc: int
) -> Credentials | None:
    """The credentials that a challenge asks for; None when it asks for what we do not have.

    A challenge without qop gets the answer of RFC 2069, which RFC 3261 section 22.4 has clients still give.

    Args:
      body: of the request; it counts with auth-int only.
      nc: how many requests have used the nonce, with this one.
    """
    algorithm = known_algorithm(challenge.algorithm)
    qop = next((each for each in QOPS if each in challenge.qop), None)
    if algorithm is None or (challenge.qop and qop is None):
        return None
    credentials = Credentials(
        username=username,
        realm=challenge.realm,
        nonce=challenge.nonce,
        uri=uri,
        algorithm=algorithm,
        qop=qop,
        cnonce=cnonce if qop or algorithm.endswith("-sess") else None,
        nc=f"{nc:08x}" if qop else None,
        opaque=challenge.opaque,
    )
    return attrs.evolve(credentials, response=digest_response(credentials, algorithm, password, method, body))


def digest_response(
    credentials: Credentials, algorithm: Algorithm, password: str, method: str, body: bytes = b""
) -> str:
    """`response` as it should be for what the credentials say, RFC 7616 section 3.4.1, in lower case."""
    given, sess = credentials, algorithm.endswith("-sess")
    secret = password.encode("utf-8", "surrogatepass").decode("latin-1")
    a1 = hashed(algorithm, f"{given.username}:{given.realm}:{secret}")
    if sess:
        a1 = hashed(algorithm, f"{a1}:{given.nonce}:{given.cnonce or ''}")
    a2 = f"{method}:{given.uri}"
    if given.qop == "auth-int":
        a2 += f":{hash_of(algorithm, body)}"
    between = f"{given.nonce}:{given.nc}:{given.cnonce}:{given.qop}" if given.qop else given.nonce
    return hashed(algorithm, f"{a1}:{between}:{hashed(algorithm, a2)}")


def hashed(algorithm: Algorithm, text: str) -> str:
    return hash_of(algorithm, text.encode("latin-1", "replace"))


def hash_of(algorithm: Algorithm, data: bytes) -> str:
    if algorithm.startswith("SHA-256"):
        return hashlib.sha256(data).hexdigest()
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
