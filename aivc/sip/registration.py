"""Being an extension of a PBX or a trunk's registrant: what REGISTER says and what its answer means.

RFC 3261 section 10.2, with what phones need besides: one binding for each instance (RFC 5626 section 4), the address
that the registrar sees in place of one behind a NAT (RFC 3581), and the Service-Route (RFC 3608). Pure: every step
returns after how many seconds the next REGISTER is due.
"""

from __future__ import annotations

import hashlib
from typing import Final, Literal

import attrs

from aivc.config.rules import parse_sip_server
from aivc.config.settings import Address, SipRegister
from aivc.sip.address import (
    MAGIC_COOKIE,
    CSeq,
    NameAddr,
    SipUri,
    Via,
    format_host_port,
    get_parameter,
    has_parameter,
    parse_name_addr,
)
from aivc.sip.digest import Randomness
from aivc.sip.flow import Flow
from aivc.sip.inspection import SOFTWARE
from aivc.sip.leg import Fields
from aivc.sip.message import Headers, Request, Response
from aivc.sip.scanner import AddressError, is_ip_address, parse_number, parse_port

FIRST_BACK_OFF: Final = 1.0  # seconds; doubled at each failure
LONGEST_BACK_OFF: Final = 120.0  # less up to a half by chance, so that not all come back at once (RFC 5626 4.5)
REFUSED_BACK_OFF: Final = 600.0  # after what only a person can set right; registrars lock out who asks oftener
LONGEST_RETRY_AFTER: Final = 3600.0  # a registrar that says "tomorrow" is back before that
STABLE_SECONDS: Final = 60.0  # a registration that lasted so long makes earlier failures forgotten
MARGIN_SECONDS: Final = 30.0  # before the end, as long as a REGISTER may take to be answered (timer F)
SHARE: Final = 0.9  # of a registration after which it is renewed, if that comes before the margin
SOONEST_REFRESH: Final = 1.0  # whatever the registrar grants
MAX_REPEATS: Final = 3  # REGISTERs sent at once because of what the last answer said: 423, 439, another address
MAX_EXPIRES: Final = 2**32 - 1  # RFC 3261 section 20.19
MAX_ROUTES: Final = 16  # of a Service-Route
PASSING: Final = frozenset({408, 429, 430, 480, 491})  # and all 5xx: worth another try soon
INSTANCE_NAMESPACE: Final = bytes.fromhex("6ba7b8129dad11d180b400c04fd430c8")  # of OIDs and the like, RFC 9562 6.6

ADVICE: Final = {
    401: "check password and auth_user of this sip.register",
    407: "check password and auth_user of this sip.register",
    403: "check user, password and domain of this sip.register, and whether the server lets us register",
    404: "the server knows no such user: check user and domain of this sip.register",
    423: "set expires_seconds of this sip.register to what the server allows",
}
NO_ANSWER: Final = "check server and transport of this sip.register, and firewalls between"
LOOK_THERE: Final = "see the log of the server"


@attrs.frozen(kw_only=True)
class RegistrationStatus:
    """How one `[[sip.register]]` stands.

    Attributes:
      state: "off" before the first attempt, after the last, and when `expires_seconds` is 0.
      since: when the state was entered; like `expires_at`, trio's clock.
      last_error: of the attempt that failed last, "" when none has since the state was "registered".
      advice: what to do about it.
    """

    user: str
    server: str
    state: Literal["off", "registering", "registered", "failed"]
    since: float
    expires_at: float | None = None
    last_error: str = ""
    advice: str = ""


@attrs.define(eq=False)
class Registration:
    """One binding at a registrar.

    Args:
      call_id, tag: the same in every REGISTER of one run (RFC 3261 section 10.2).
      instance: a URN that no other user agent has and that this one keeps over restarts (RFC 5626 section 4.1).
      has_external_ip: our address is what the configuration says, whatever the registrar sees.
      allow: the value of Allow.
    """

    register: SipRegister
    call_id: str
    tag: str
    instance: str
    has_external_ip: bool
    allow: str
    randomness: Randomness
    status: RegistrationStatus = attrs.field(init=False)
    service_route: tuple[str, ...] = attrs.field(default=(), init=False)  # for requests through there, RFC 3608
    cseq: int = attrs.field(default=0, init=False)
    public: Address | None = attrs.field(default=None, init=False)  # as the registrar sees us, if that is another
    _local: Address | None = attrs.field(default=None, init=False)  # for which `public` holds
    _bound: str | None = attrs.field(default=None, init=False)  # the Contact that the registrar has
    _asked: int = attrs.field(init=False)  # seconds
    _outbound: bool = attrs.field(default=True, init=False)  # whether reg-id is sent
    _is_outbound: bool = attrs.field(default=False, init=False)  # whether the registrar makes use of it
    _failures: int = attrs.field(default=0, init=False)
    _repeats: int = attrs.field(default=0, init=False)
    _moved: bool = attrs.field(default=False, init=False)  # `public` is new in the REGISTER on its way

    def __attrs_post_init__(self) -> None:
        self._asked = self.register.expires_seconds
        self.status = RegistrationStatus(user=self.register.user, server=self.register.server, state="off", since=0.0)

    @property
    def domain(self) -> str:
        """The host of our address of record, as a URI writes it."""
        return self.register.domain or format_host_port(parse_sip_server(self.register.server)[0], None)

    @property
    def may_be_bound(self) -> bool:
        """Whether the registrar may have a binding of ours, also if its answer was lost."""
        return self._bound is not None or self.status.state == "registering"

    def begin(self, now: float) -> None:
        """An attempt is made; a registration that is only renewed stays one."""
        if self.status.state == "off":
            self._enter("registering", now)

    def request(self, flow: Flow, token: str, credentials: Fields = (), *, withdraw: bool = False) -> Request:
        """The next REGISTER.

        Args:
          token: what makes its branch unique.
          withdraw: take the binding back.
        """
        if flow.local != self._local:
            self._local, self.public = flow.local, None
        self.cseq += 1
        expires = 0 if withdraw else self._asked
        aor = f"<sip:{self.register.user}@{self.domain}>"
        via = Via(*flow.local, flow.transport, (("branch", MAGIC_COOKIE + token), ("rport", None)))
        fields = [
            ("Via", str(via)),
            ("Max-Forwards", "70"),
            ("From", f"{aor};tag={self.tag}"),
            ("To", aor),
            ("Call-ID", self.call_id),
            ("CSeq", str(CSeq(self.cseq, "REGISTER"))),
            *(("Contact", contact) for contact in self._contacts(flow)),
            ("Expires", str(expires)),
            ("Supported", "path, outbound" if self._outbound else "path"),
            ("Allow", self.allow),
            ("User-Agent", SOFTWARE),
            *credentials,
        ]
        return Request(method="REGISTER", target=f"sip:{self.domain}", headers=Headers(tuple(fields)))

    def contact_uri(self, flow: Flow) -> str:
        """Where calls for us are to go."""
        host, port = self.public or flow.local
        parameters = () if flow.transport == "UDP" else (("transport", flow.transport.lower()),)
        return str(SipUri(host, port, self.register.user, parameters))

    def _contacts(self, flow: Flow) -> list[str]:
        """Ours, and the one that it takes the place of: a registrar without RFC 5626 would call both."""
        uri = self.contact_uri(flow)
        reg_id = ";reg-id=1" if self._outbound else ""
        contacts = [f'<{uri}>;+sip.instance="<{self.instance}>"{reg_id}']
        if self._bound not in (None, uri) and not self._is_outbound:
            contacts.append(f"<{self._bound}>;expires=0")
        return contacts

    # What comes of it

    def take(self, response: Response | None, flow: Flow, now: float) -> float:
        """The final response; None when none came. A 401 or 407 only when there is no answer to it."""
        if response is None:
            self.service_route = ()
            return self.unreachable("no answer", now)
        if 200 <= response.status < 300:
            return self._accepted(response, flow, now)
        if response.status == 423 and self._repeats < MAX_REPEATS:  # section 10.2.8
            least = read_seconds(response.headers.get("Min-Expires"))
            if least is not None and least > self._asked:
                self._asked = least
                return self._again()
        if response.status == 439 and self._outbound:  # a proxy between does not know RFC 5626: its section 6
            self._outbound = False
            return self._again()
        return self._refused(response, now)

    def unreachable(self, cause: str, now: float) -> float:
        """There is no way to the registrar, or no answer from it."""
        return self._failed(cause, NO_ANSWER, now)

    def flow_lost(self, now: float) -> float:
        """The connection over which calls for us come is closed. A registrar that does that all the time has to wait
        longer each time."""
        stable = self._is_stable(now)
        wait = self._failed("connection closed", NO_ANSWER, now)
        return 0.0 if stable else wait

    def withdrawn(self, now: float) -> None:
        """The binding is taken back, or left to expire."""
        self._bound, self.service_route = None, ()
        self._enter("off", now)

    def _accepted(self, response: Response, flow: Flow, now: float) -> float:
        self._bound = self.contact_uri(flow)
        self._is_outbound = self._outbound and "outbound" in (
            option.lower() for option in response.headers.items("Require")
        )
        self.service_route = read_routes(response.headers)
        seen = self._seen(response, flow)
        if seen is not None and not self._moved and self._repeats < MAX_REPEATS:
            self.public, self._moved = seen, True
            return self._again()
        self._moved, self._repeats = False, 0
        granted = self._granted(response)
        if granted == 0:
            return self._failed("the registrar has dropped the registration", LOOK_THERE, now)
        expires_at = now + granted
        if self.status.state == "registered":
            self.status = attrs.evolve(self.status, expires_at=expires_at)
            self._failures = 0
        else:
            self._enter("registered", now, expires_at=expires_at)
        return max(SOONEST_REFRESH, granted / 2, min(granted * SHARE, granted - MARGIN_SECONDS))

    def _granted(self, response: Response) -> int:
        """For how many seconds, section 10.2.4. A registrar that rewrites our Contact has only that one to tell of."""
        contacts = read_contacts(response.headers)
        ours = [each for each in contacts if self._is_ours(each)] or (contacts if len(contacts) == 1 else [])
        told = read_seconds(get_parameter(ours[0].parameters, "expires")) if ours else None
        if told is None:
            told = read_seconds(response.headers.get("Expires"))
        return self._asked if told is None else min(told, self._asked)

    def _is_ours(self, contact: NameAddr) -> bool:
        instance = get_parameter(contact.parameters, "+sip.instance")
        if instance is not None:
            return instance.strip('"<>') == self.instance
        return str(contact.uri) == self._bound

    def _seen(self, response: Response, flow: Flow) -> Address | None:
        """Our address as the registrar sees it, if calls could not come to the one that we gave."""
        via, contact = response.via, self.public or flow.local
        host, rport = via.received or contact[0], get_parameter(via.parameters, "rport")
        if self.has_external_ip or self._is_outbound or not is_ip_address(host):
            return None
        if host == contact[0] and flow.transport != "UDP":
            return None  # only the connection's port is another one, and calls may come to where we listen
        try:
            seen = host, parse_port(rport) if rport else contact[1]
        except AddressError:
            return None
        return None if seen == contact or seen[1] == 0 else seen

    def _again(self) -> float:
        self._repeats += 1
        return 0.0

    def _refused(self, response: Response, now: float) -> float:
        error = f"{response.status} {response.reason}".strip()
        advice = ADVICE.get(response.status, LOOK_THERE)
        if response.status in (401, 407) and self.register.password is None:
            advice = "the server wants a password: set that of this sip.register"
        passing = response.status in PASSING or 500 <= response.status < 600
        wait = self._failed(error, advice, now)
        if not passing:
            wait = self._by_chance(REFUSED_BACK_OFF)
        return max(wait, min(read_retry_after(response), LONGEST_RETRY_AFTER))

    def _failed(self, error: str, advice: str, now: float) -> float:
        if self._is_stable(now):
            self._failures = 0
        wait = self._by_chance(min(LONGEST_BACK_OFF, FIRST_BACK_OFF * 2**self._failures))
        self._failures = min(self._failures + 1, 16)
        self._repeats, self._moved = 0, False
        if (self.status.state, self.status.last_error) != ("failed", error):
            self._enter("failed", now, error=error, advice=advice)
        return wait

    def _by_chance(self, seconds: float) -> float:
        return seconds * (0.5 + self.randomness.random() / 2)

    def _is_stable(self, now: float) -> bool:
        return self.status.state == "registered" and now - self.status.since >= STABLE_SECONDS

    def _enter(
        self,
        state: Literal["off", "registering", "registered", "failed"],
        now: float,
        *,
        expires_at: float | None = None,
        error: str = "",
        advice: str = "",
    ) -> None:
        since = self.status.since if state == self.status.state else now
        self.status = RegistrationStatus(
            user=self.register.user,
            server=self.register.server,
            state=state,
            since=since,
            expires_at=expires_at,
            last_error=error,
            advice=advice,
        )


def instance_urn(name: str) -> str:
    """A URN that is always the same for that name: a UUID of version 5, RFC 9562 section 5.5."""
    octets = bytearray(hashlib.sha1(INSTANCE_NAMESPACE + name.encode(), usedforsecurity=False).digest()[:16])
    octets[6] = octets[6] & 0x0F | 0x50
    octets[8] = octets[8] & 0x3F | 0x80
    text = octets.hex()
    return f"urn:uuid:{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def read_seconds(text: str | None) -> int | None:
    """A number of seconds that a registrar says; None when it says none that could be one."""
    try:
        return None if text is None else parse_number(text.strip(" \t"), MAX_EXPIRES, "seconds")
    except AddressError:
        return None


def read_retry_after(response: Response) -> float:
    """Retry-After, section 20.33, without its comment and parameters; 0 when there is none."""
    text = (response.headers.get("Retry-After") or "").partition(";")[0].partition("(")[0]
    return float(read_seconds(text) or 0)


def read_contacts(headers: Headers) -> list[NameAddr]:
    """The bindings of a 200, without those that cannot be read."""
    return [contact for contact in map(read_name_addr, headers.items("Contact")) if contact is not None]


def read_routes(headers: Headers) -> tuple[str, ...]:
    """Service-Route, RFC 3608 section 5; strict routers and what is no route are left out, as is all beyond 16."""
    found = []
    for text in headers.items("Service-Route")[:MAX_ROUTES]:
        route = read_name_addr(text)
        if route is not None and isinstance(route.uri, SipUri) and has_parameter(route.uri.parameters, "lr"):
            found.append(text)
    return tuple(found)


def read_name_addr(text: str) -> NameAddr | None:
    try:
        return parse_name_addr(text)
    except AddressError:
        return None
