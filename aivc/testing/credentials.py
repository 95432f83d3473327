"""The test phone's side of digest authentication (RFC 7616, RFC 8760), with the mistakes that clients make."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Final, Literal

import attrs

from aivc.sip.message import Request, Response

HASHES: Final[dict[str, Callable[[bytes], hashlib._Hash]]] = {"SHA-256": hashlib.sha256, "MD5": hashlib.md5}
PARAMETER: Final = re.compile(r'([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
ATTEMPTS: Final = 2  # a stale nonce is answered once more
Mistake = Literal["wrong password", "unknown user", "forged nonce", "repeated nc", "other uri", "without qop"]


@attrs.define(eq=False)
class Credentials:
    """Answers challenges, and goes on with a nonce that was accepted.

    Args:
      user, password: of the account.
      algorithm: the only one that it knows; None: SHA-256 before MD5.
      mistake: what it does wrong, always.
    """

    user: str
    password: str = attrs.field(repr=False)
    algorithm: Literal["SHA-256", "MD5"] | None = None
    mistake: Mistake | None = None
    challenge: dict[str, str] | None = None  # that is in force
    _field: str = "Authorization"
    _count: int = 0  # of requests with its nonce

    def accept(self, response: Response) -> bool:
        """Take the challenge of a 401 or 407; False when there is none that it can answer."""
        name, self._field = (
            ("WWW-Authenticate", "Authorization")
            if response.status == 401
            else ("Proxy-Authenticate", "Proxy-Authorization")
        )
        offered = [read_challenge(line) for line in response.headers.lines(name)]
        known = [self.algorithm] if self.algorithm else list(HASHES)
        for algorithm in known:
            for challenge in offered:
                if challenge.get("algorithm", "MD5").upper() == algorithm:
                    self.challenge, self._count = challenge, 0
                    return True
        return False

    def field(self, method: str, uri: str, cnonce: str) -> tuple[str, str] | None:
        """The header field for a request; None before any challenge."""
        if self.challenge is None:
            return None
        self._count += 1
        count = f"{1 if self.mistake == 'repeated nc' else self._count:08x}"
        user = "nobody" if self.mistake == "unknown user" else self.user
        uri = "sip:else@elsewhere.test" if self.mistake == "other uri" else uri
        password = self.password + ("?" if self.mistake == "wrong password" else "")
        realm, nonce = self.challenge["realm"], self.challenge["nonce"]
        nonce = "f" * len(nonce) if self.mistake == "forged nonce" else nonce
        algorithm = self.challenge.get("algorithm", "MD5").upper()
        qop = "" if self.mistake == "without qop" or "qop" not in self.challenge else "auth"
        secret, asked = digest(algorithm, f"{user}:{realm}:{password}"), digest(algorithm, f"{method}:{uri}")
        middle = f"{nonce}:{count}:{cnonce}:{qop}" if qop else nonce
        values = {"username": user, "realm": realm, "nonce": nonce, "uri": uri}
        values["response"] = digest(algorithm, f"{secret}:{middle}:{asked}")
        values |= {"opaque": self.challenge["opaque"]} if "opaque" in self.challenge else {}
        values |= {"cnonce": cnonce} if qop else {}
        quoted = [f'{name}="{value}"' for name, value in values.items()]
        bare = [f"algorithm={algorithm}", *([f"qop={qop}", f"nc={count}"] if qop else [])]
        return self._field, "Digest " + ", ".join([*quoted, *bare])


@attrs.define(eq=False)
class Guard:
    """Asks whoever sends requests for a password, as a proxy does.

    Args:
      user, password: the right ones.

    Attributes:
      refused: the methods of the requests that came without them.
    """

    user: str
    password: str = attrs.field(repr=False)
    realm: str = "phone.test"
    nonce: str = "5c0ffee5"
    refused: list[str] = attrs.field(factory=list)

    @property
    def challenge(self) -> tuple[str, str]:
        """The header field of a 407."""
        text = f'Digest realm="{self.realm}", nonce="{self.nonce}", qop="auth", algorithm=SHA-256'
        return "Proxy-Authenticate", text

    def accepts(self, request: Request) -> bool:
        """Whether the request has the right answer (RFC 7616 section 3.4.1); it is noted if not."""
        given = read_challenge(request.headers.get("Proxy-Authorization") or "")
        secret = digest("SHA-256", f"{self.user}:{self.realm}:{self.password}")
        asked = digest("SHA-256", f"{request.method}:{given.get('uri')}")
        middle = f"{self.nonce}:{given.get('nc')}:{given.get('cnonce')}:auth"
        is_right = given.get("response") == digest("SHA-256", f"{secret}:{middle}:{asked}")
        if not is_right:
            self.refused.append(request.method)
        return is_right


def read_challenge(text: str) -> dict[str, str]:
    """The parameters of a Digest challenge by lower-case name; none of another scheme."""
    scheme, _, rest = text.strip().partition(" ")
    if scheme.lower() != "digest":
        return {"algorithm": "none"}
    return {name.lower(): quoted or bare for name, quoted, bare in PARAMETER.findall(rest)}


def digest(algorithm: str, text: str) -> str:
    return HASHES[algorithm](text.encode()).hexdigest()
