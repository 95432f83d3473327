"""Dialogs from either side, RFC 3261 section 12, and the 2xx that waits for its ACK (section 13.3.1.4)."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from math import inf
from typing import Final

import attrs

from aivc.config.settings import Address
from aivc.sip.address import NameAddr, SipUri, Via, default_port, get_parameter, parse_name_addr
from aivc.sip.flow import TRANSPORTS, Transport
from aivc.sip.message import Headers, Request, Response
from aivc.sip.scanner import AddressError
from aivc.sip.transaction import T1, T2, TIMEOUT

MAX_FORWARDS: Final = 70  # RFC 3261 section 8.1.1.6
MAX_ROUTES: Final = 32  # no path has so many proxies; each is sent back in our requests
FIRST_CSEQ: Final = 1
NO_CSEQ: Final = -1  # of a peer that has sent no request yet

DialogId = tuple[str, str, str]  # Call-ID, local tag, remote tag


class Acknowledgement(enum.Enum):
    """What a 2xx without its ACK asks for."""

    RESEND = enum.auto()
    GIVE_UP = enum.auto()


@attrs.define
class AwaitedAck:
    """Resends a 2xx after T1, 2*T1, ... T2, T2, and gives up after 64*T1.

    Args:
      sent: when the 2xx went out first, seconds on the owner's clock.
    """

    sent: float
    _interval: float = attrs.field(default=T1, init=False)
    _resend: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._resend = self.sent + self._interval

    @property
    def deadline(self) -> float:
        """When `expire` must next be called."""
        return min(self._resend, self.sent + TIMEOUT)

    def expire(self, now: float) -> Acknowledgement | None:
        if now >= self.sent + TIMEOUT:
            self._resend = inf
            return Acknowledgement.GIVE_UP
        if now < self._resend:
            return None
        self._interval = min(2 * self._interval, T2)
        self._resend = now + self._interval
        return Acknowledgement.RESEND


@attrs.define
class Dialog:
    """One dialog, whoever made it.

    Built by `from_invite` and `from_response`. URIs and name-addrs stay text: they go back as they came.
    """

    call_id: str
    local: str  # From of our requests, with our tag
    remote: str  # To of our requests
    local_tag: str
    remote_tag: str
    remote_target: SipUri
    remote_cseq: int = NO_CSEQ
    route_set: tuple[NameAddr, ...] = ()
    local_cseq: int = FIRST_CSEQ - 1
    secure: bool = False  # made by a sips URI: our Contact is one, too (section 12.1.1)

    @classmethod
    def from_invite(cls, request: Request, local_tag: str) -> Dialog:
        """The dialog that a response of ours to a peer's INVITE makes, RFC 3261 section 12.1.1.

        Raises:
          AddressError: no usable Contact or Record-Route.
        """
        target, routes = contact_uri(request), read_routes(request)
        deciding = routes[0].uri if routes else target
        return cls(
            call_id=request.call_id,
            local=f"{request.header('To')};tag={local_tag}",
            remote=request.header("From"),
            local_tag=local_tag,
            remote_tag=request.sender.tag or "",
            remote_target=target,
            remote_cseq=request.cseq.number,
            route_set=routes,
            secure="sips" in (request.uri.scheme, deciding.scheme),
        )

    @classmethod
    def from_response(cls, request: Request, response: Response) -> Dialog:
        """The dialog that a peer's response to our INVITE makes, early or not, RFC 3261 section 12.1.2.

        Raises:
          AddressError: no usable Contact or Record-Route.
        """
        return cls(
            call_id=request.call_id,
            local=request.header("From"),
            remote=response.header("To"),
            local_tag=request.sender.tag or "",
            remote_tag=response.to.tag or "",  # a peer after RFC 2543 may have none
            remote_target=contact_uri(response),
            route_set=read_routes(response)[::-1],
            local_cseq=request.cseq.number,
            secure=request.uri.scheme == "sips",
        )

    @property
    def id(self) -> DialogId:
        return self.call_id, self.local_tag, self.remote_tag

    def confirm(self, response: Response) -> None:
        """The 2xx of an early dialog has come: the way is learnt anew (section 13.2.2.4). Raises AddressError."""
        target, routes = contact_uri(response), read_routes(response)
        self.remote_target, self.route_set = target, routes[::-1]

    def refresh_target(self, message: Request | Response) -> None:
        """Take the Contact of an INVITE or UPDATE in the dialog, or of its 2xx, if there is one (section 12.2).

        Raises:
          AddressError: a Contact that cannot be used.
        """
        if message.headers.get("Contact") is not None:
            self.remote_target = contact_uri(message)

    def takes_in_order(self, request: Request) -> bool:
        """False when the CSeq is lower than one seen before: answer 500 (section 12.2.2)."""
        number = request.cseq.number
        if number < self.remote_cseq:
            return False
        self.remote_cseq = number
        return True

    @property
    def next_hop(self) -> SipUri:
        """Where our requests go first: section 12.2.1.1."""
        first = self.route_set[0].uri if self.route_set else self.remote_target
        assert isinstance(first, SipUri)  # read_routes takes no other
        return first

    @property
    def next_transport(self) -> Transport | None:
        """What the next hop asks for; None: it leaves that to us."""
        return asked_transport(self.next_hop)

    def request(self, method: str, via: Via, extra: Iterable[tuple[str, str]] = (), body: bytes = b"") -> Request:
        """The next request of ours in this dialog."""
        self.local_cseq += 1
        return self._request(method, self.local_cseq, via, extra, body)

    def acknowledgement(self, cseq: int, via: Via, extra: Iterable[tuple[str, str]] = (), body: bytes = b"") -> Request:
        """The ACK for a 2xx to our INVITE with that CSeq (section 13.2.2.4)."""
        return self._request("ACK", cseq, via, extra, body)

    def _request(self, method: str, cseq: int, via: Via, extra: Iterable[tuple[str, str]], body: bytes) -> Request:
        """With loose or strict routing (section 12.2.1.1)."""
        target, routes = self.remote_target, self.route_set
        if routes and not self.next_hop.is_loose_router:
            target = attrs.evolve(self.next_hop, headers="")
            routes = (*routes[1:], NameAddr(self.remote_target))
        headers = [
            ("Via", str(via)),
            ("Max-Forwards", str(MAX_FORWARDS)),
            ("From", self.local),
            ("To", self.remote),
            ("Call-ID", self.call_id),
            ("CSeq", f"{cseq} {method}"),
            *(("Route", str(route)) for route in routes),
            *extra,
        ]
        return Request(method=method, target=str(target), headers=Headers(tuple(headers)), body=body)


def dialog_id(request: Request) -> DialogId:
    """The dialog that a request names, from our side."""
    return request.call_id, request.to.tag or "", request.sender.tag or ""


def contact_uri(message: Request | Response) -> SipUri:
    """The one SIP URI in Contact. Raises AddressError."""
    contacts = message.headers.items("Contact")
    if len(contacts) != 1:
        raise AddressError("Missing Contact" if not contacts else "Repeated Contact")
    try:
        uri = parse_name_addr(contacts[0]).uri
    except AddressError as error:
        raise AddressError(f"Bad Contact: {error}") from error
    if not isinstance(uri, SipUri):
        raise AddressError("Contact without a SIP URI")
    return attrs.evolve(uri, headers="")  # "?Route=..." must never become a header of ours


def read_routes(message: Request | Response) -> tuple[NameAddr, ...]:
    """Record-Route, in order (section 12.1.1). Raises AddressError."""
    texts = message.headers.items("Record-Route")
    if len(texts) > MAX_ROUTES:
        raise AddressError("Too many Record-Routes")
    try:
        routes = tuple(parse_name_addr(text) for text in texts)
    except AddressError as error:
        raise AddressError(f"Bad Record-Route: {error}") from error
    if not all(isinstance(route.uri, SipUri) for route in routes):
        raise AddressError("Record-Route without a SIP URI")
    return routes


def record_routes(request: Request) -> tuple[tuple[str, str], ...]:
    """Copied in order into what makes a dialog (section 12.1.1)."""
    return tuple(("Record-Route", value) for value in request.headers.lines("Record-Route"))


def asked_transport(uri: SipUri) -> Transport | None:
    """The transport that a URI demands; None when it names none, or one that is unknown here.

    RFC 3261 section 26.2.2: sips is TLS; `;transport=tls` is what PBXs write instead, though it was deprecated.
    """
    if uri.scheme == "sips":
        return "TLS"
    return TRANSPORTS.get((get_parameter(uri.parameters, "transport") or "").lower())


def reachable_address(uri: SipUri, otherwise: Address, transport: Transport = "UDP") -> Address:
    """Where to send a request for that hop. `maddr` is ignored: it would let a peer aim our requests.

    A host name goes to `otherwise`, the place that the INVITE came from: it is the same host in all but exotic cases,
    and a peer cannot make us ask the DNS.
    """
    if uri.address is None:
        return otherwise
    return uri.address[0], uri.port or default_port(transport)
