"""A registrar for tests, over UDP or TCP: it asks for passwords, remembers who is where, and can be difficult.

async with open_registrar("192.0.2.50", {"200": "secret"}) as registrar:
    binding = await registrar.wait_registered("200")
    ...  # a phone calls binding.uri at binding.source
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, Literal

import attrs
import trio

from aivc.config.settings import Address
from aivc.sip.address import NameAddr, SipUri, get_parameter, parse_name_addr
from aivc.sip.message import Headers, ParseError, Request, Response, answer_to, parse_untrusted
from aivc.testing.credentials import digest, read_challenge
from aivc.testing.transports import DatagramLine, StreamLine, open_line

Algorithm = Literal["SHA-256", "MD5"]
FOREVER: Final = 2**32 - 1
REASONS: Final = {
    200: "OK",
    401: "Unauthorized",
    403: "Forbidden",
    423: "Interval Too Brief",
    503: "Service Unavailable",
}
Fields = tuple[tuple[str, str], ...]


@attrs.frozen
class Binding:
    """Where one user agent of a user is."""

    uri: str  # of its Contact
    source: Address  # from where it registered: what reaches it behind a NAT
    expires_at: float  # trio's clock
    instance: str | None = None  # its URN, RFC 5626
    path: Fields = ()


@attrs.frozen
class Trouble:
    """What a REGISTER gets instead of being served; the status None is silence."""

    status: int | None
    headers: Fields = ()


@attrs.define(eq=False)
class Registrar:
    """Serves REGISTER while `open_registrar` is open. The attributes may be changed at any time.

    Attributes:
      passwords: by user; empty: everybody is let in without one.
      algorithms: of the challenges, in their order.
      nonce_uses: how often a nonce is good; then the answer is another one with stale=true.
      shortest, longest: seconds that it grants; who asks for less gets 423.
      troubles: taken one by one, each by the REGISTER that comes next.
      sees: the address that it believes every client to have, as if a NAT stood between; None: the true one.
      extra: header fields of every 200.
      requests: all REGISTERs, in order, with retransmissions.
      keep_alives: that came.
      bindings: by user, the latest last.
    """

    line: DatagramLine | StreamLine
    passwords: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    realm: str = "registrar.test"
    algorithms: tuple[Algorithm, ...] = ("SHA-256", "MD5")
    proxy: bool = False  # challenges with 407
    nonce_uses: int = FOREVER
    shortest: int = 0
    longest: int = FOREVER
    troubles: list[Trouble] = attrs.field(factory=list)
    sees: Address | None = None
    extra: Fields = ()
    requests: list[Request] = attrs.field(factory=list)
    bindings: dict[str, list[Binding]] = attrs.field(factory=dict)
    _uses: dict[str, int] = attrs.field(factory=dict)  # nonce -> highest nc that was right
    _dice: random.Random = attrs.field(factory=lambda: random.Random(5060))
    _datagram_pings: int = 0
    _changed: trio.Event = attrs.field(factory=trio.Event)

    @property
    def address(self) -> Address:
        return self.line.address

    @property
    def keep_alives(self) -> int:
        return self.line.pings if isinstance(self.line, StreamLine) else self._datagram_pings

    def registered(self, user: str) -> list[Binding]:
        """The bindings of a user that have not expired."""
        now = trio.current_time()
        return [each for each in self.bindings.get(user, []) if each.expires_at > now]

    async def wait_registered(self, user: str) -> Binding:
        """The latest binding of a user, as soon as there is one."""
        while not (found := self.registered(user)):
            await self._changed.wait()
        return found[-1]

    async def wait_requests(self, count: int) -> list[Request]:
        """All REGISTERs, as soon as there are so many."""
        while len(self.requests) < count:
            await self._changed.wait()
        return self.requests

    def close_connections(self) -> None:
        """Cut every TCP connection off."""
        if isinstance(self.line, StreamLine):
            for stream in self.line.connections.values():
                stream.socket.close()
            self.line.connections.clear()

    async def take(self, data: bytes, source: Address) -> None:
        """Serve one message."""
        if not data.strip(b"\r\n"):
            self._datagram_pings += 1
            return
        try:
            request = parse_untrusted(data)
        except ParseError:
            return
        if not isinstance(request, Request):
            return
        if request.method == "REGISTER":
            self.requests.append(request)
        response = self._answer(request, source)
        self._changed.set()
        self._changed = trio.Event()
        if response is not None:
            await self.line.send(bytes(response), source)

    def _answer(self, request: Request, source: Address) -> Response | None:
        """The answer, with the top Via stamped as this registrar sees the client."""
        fields: Fields
        if request.method != "REGISTER":
            status, fields = (200, ()) if request.method == "OPTIONS" else (405, (("Allow", "REGISTER, OPTIONS"),))
        elif self.troubles:
            trouble = self.troubles.pop(0)
            if trouble.status is None:
                return None
            status, fields = trouble.status, trouble.headers
        else:
            status, fields = self._register(request, source)
        stamped = request.via.stamped(self.sees or source)
        vias = [("Via", str(stamped)), *(("Via", line) for line in request.headers.lines("Via")[1:])]
        others = [field for field in request.headers if field[0] != "Via"]
        headers = Headers((*vias, *others))
        return answer_to(headers, status, REASONS.get(status), tag="registrar", extra=fields)

    def _register(self, request: Request, source: Address) -> tuple[int, Fields]:
        user = user_of(request.to)
        refusal = self._doubt(request, user)
        if refusal is not None:
            return refusal
        wanted = int(request.headers.get("Expires") or 3600)
        contacts = [parse_name_addr(text) for text in request.headers.items("Contact")]
        times = [int(get_parameter(each.parameters, "expires") or wanted) for each in contacts]
        if any(0 < seconds < self.shortest for seconds in times):
            return 423, (("Min-Expires", str(self.shortest)),)
        for contact, seconds in zip(contacts, times, strict=True):
            self._bind(user, contact, min(seconds, self.longest), source, request)
        now = trio.current_time()
        told = [self._contact(each, round(each.expires_at - now)) for each in self.registered(user)]
        return 200, (*(("Contact", text) for text in told), *self.extra)

    def _bind(self, user: str, contact: NameAddr, seconds: int, source: Address, request: Request) -> None:
        uri, instance = str(contact.uri), get_parameter(contact.parameters, "+sip.instance")
        path = tuple(("Path", text) for text in request.headers.items("Path"))
        kept = [each for each in self.bindings.get(user, []) if each.uri != uri]
        if seconds:
            kept.append(Binding(uri, source, trio.current_time() + seconds, instance, path))
        self.bindings[user] = kept

    def _contact(self, binding: Binding, seconds: int) -> str:
        instance = f";+sip.instance={binding.instance}" if binding.instance else ""
        return f"<{binding.uri}>;expires={seconds}{instance}"

    def _doubt(self, request: Request, user: str) -> tuple[int, Fields] | None:
        """What a request gets that has not proved to be of that user."""
        if not self.passwords:
            return None
        for line in request.headers.lines("Proxy-Authorization" if self.proxy else "Authorization"):
            given = read_challenge(line)
            if given.get("realm") != self.realm or given.get("nonce") not in self._uses:
                continue
            if not self._is_right(given, user):
                return self._challenge(stale=False)
            count = int(given["nc"], 16)
            if count != self._uses[given["nonce"]] + 1 or count > self.nonce_uses:
                return self._challenge(stale=True)
            self._uses[given["nonce"]] = count
            return None
        return self._challenge(stale=False)

    def _is_right(self, given: dict[str, str], user: str) -> bool:
        """RFC 7616 section 3.4.1."""
        password, algorithm = self.passwords.get(user), given.get("algorithm", "MD5").upper()
        if (
            not given.keys() >= {"username", "uri", "nc", "cnonce", "response"}
            or password is None
            or algorithm not in self.algorithms
            or given.get("qop") != "auth"
        ):
            return False
        secret = digest(algorithm, f"{given['username']}:{self.realm}:{password}")
        asked = digest(algorithm, f"REGISTER:{given['uri']}")
        middle = f"{given['nonce']}:{given['nc']}:{given['cnonce']}:auth"
        return given["response"] == digest(algorithm, f"{secret}:{middle}:{asked}")

    def _challenge(self, *, stale: bool) -> tuple[int, Fields]:
        nonce = f"{self._dice.getrandbits(96):024x}"
        self._uses[nonce] = 0
        name = "Proxy-Authenticate" if self.proxy else "WWW-Authenticate"
        text = f'Digest realm="{self.realm}", nonce="{nonce}", qop="auth"{", stale=true" if stale else ""}'
        return 407 if self.proxy else 401, tuple(
            (name, f"{text}, algorithm={algorithm}") for algorithm in self.algorithms
        )


def user_of(address: NameAddr) -> str:
    return (address.uri.user or "") if isinstance(address.uri, SipUri) else ""


@asynccontextmanager
async def open_registrar(
    host: str,
    passwords: Mapping[str, str] | None = None,
    *,
    port: int = 5060,
    transport: Literal["udp", "tcp"] = "udp",
) -> AsyncIterator[Registrar]:
    """A registrar at that address, port 0: any; see `Registrar` for what it can be told."""
    async with open_line(transport, host, port) as line, trio.open_nursery() as nursery:
        registrar = Registrar(line, passwords or {})
        nursery.start_soon(line.run, registrar.take)
        yield registrar
        nursery.cancel_scope.cancel()
