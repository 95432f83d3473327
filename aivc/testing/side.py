"""The test phone's side of a dialog: who and where both are, and what the phone says of its audio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Protocol, TypedDict

import attrs
import trio

from aivc.config.settings import Address, Codec
from aivc.sip.address import SipUri, parse_name_addr, parse_uri
from aivc.sip.message import Message, Request, Response
from aivc.testing.chaos import Crossing
from aivc.testing.ciphers import KEY_OCTETS, open_cipher
from aivc.testing.credentials import Credentials, Guard
from aivc.testing.handset import Handset
from aivc.testing.refreshing import SessionTimer, Timed
from aivc.testing.transfers import Dialler, Referral, Transfers
from aivc.testing.wording import (
    ALLOW,
    MIRRORED,
    SDP,
    Audio,
    Fields,
    Heard,
    Rtcp,
    Suite,
    describe,
    in_uri,
    read_description,
    request_text,
)

T1: Final = 0.5  # seconds, RFC 3261 section 17.1.1.1
T2: Final = 4.0  # seconds
GIVE_UP: Final = 64 * T1
FINAL: Final = 200  # the lowest final status


class Telephone(Dialler, Protocol):
    """What a dialog needs of its phone."""

    @property
    def user(self) -> str: ...
    @property
    def address(self) -> Address: ...
    @property
    def transport(self) -> Literal["UDP", "TCP"]: ...
    @property
    def nursery(self) -> trio.Nursery: ...
    @property
    def credentials(self) -> Credentials | None: ...
    def token(self, prefix: str) -> str: ...
    async def send(self, message: bytes, to: Address, otherwise: Address | None = None) -> None: ...


class DialogOptions(TypedDict, total=False):
    """What calls both ways have in common; see `Side`."""

    acknowledge: bool
    sdp: str | None
    transfers: Transfers | None
    headers: Sequence[tuple[str, str]]
    reoffer_status: int
    session_timer: SessionTimer | None
    crypto: Suite | None
    allow: str
    guard: Guard | None


@attrs.define(eq=False, kw_only=True, repr=False)
class Side:
    """One call of a phone: what it knows of it, for the test to look at.

    Args:
      acknowledge: False never sends the ACK of a 2xx.
      sdp: its description; None describes the handset's codec and its keys.
      transfers: what it does with a REFER; None refuses it with 405.
      headers: more of them, for the INVITE or the 2xx.
      reoffer_status: its answer to INVITE and UPDATE of the other side in the call; may be changed at any time. While
        an INVITE of its own is under way it is 491 in any case.
      session_timer: what it asks for (RFC 4028); None: nothing.
      crypto: the suite of SDES, and so of SRTP; None: RTP in the clear. Needs the extra `srtp`.
      rtcp: where its handset expects reports.
      guard: asks for a password for each request of the other side in the call.
      allow: the methods that it says it serves; UPDATE gets 405 when it is not among them.
    """

    phone: Telephone
    handset: Handset
    acknowledge: bool = True
    sdp: str | None = None
    transfers: Transfers | None = None
    headers: Sequence[tuple[str, str]] = ()
    reoffer_status: int = 200
    session_timer: SessionTimer | None = None
    crypto: Suite | None = None
    rtcp: Rtcp = "off"
    allow: str = ALLOW
    guard: Guard | None = None
    call_id: str
    local_tag: str
    remote_tag: str | None = None
    local_party: str  # From of our requests, without its tag
    remote_party: str  # To of our requests, without its tag
    remote: Address = ("", 0)  # where requests go
    target: str  # the Request-URI of our requests: the other side's Contact, once it is known
    routes: list[str] = attrs.field(factory=list, init=False)  # RFC 3261 section 12.1
    responses: list[Response] = attrs.field(factory=list, init=False)  # to INVITE, in order, all copies
    requests: list[Request] = attrs.field(factory=list, init=False)  # of the other side, in order
    acknowledgements: list[Request] = attrs.field(factory=list, init=False)  # the other side's ACKs
    referrals: list[Referral] = attrs.field(factory=list, init=False)
    answered: Response | None = attrs.field(default=None, init=False)  # the first 2xx to an INVITE of ours
    answered_at: float | None = attrs.field(default=None, init=False)
    hung_up_at: float | None = attrs.field(default=None, init=False)  # when the other side's BYE came
    crossed: list[Crossing] = attrs.field(factory=list, init=False)  # those that have been
    remote_media: Address | None = attrs.field(default=None, init=False)
    remote_direction: str = attrs.field(default="sendrecv", init=False)
    timed: Timed | None = attrs.field(default=None, init=False)  # the session timer that was agreed
    _key: bytes = attrs.field(init=False, repr=False)  # of what we encrypt
    _crypto_tag: int = attrs.field(default=1, init=False)
    _ended: bool = attrs.field(default=False, init=False)
    _cseq: int = attrs.field(default=0, init=False)  # of the last request but ACK and CANCEL
    _sdp_version: int = attrs.field(default=1, init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self.handset.is_secure = self.crypto is not None
        self._key = self.phone.token("").ljust(KEY_OCTETS, "k").encode() if self.crypto else b""

    @property
    def is_over(self) -> bool:
        """Whether either side has hung up, or the call never came about."""
        return self._ended

    @property
    def codec(self) -> Codec:
        return self.handset.codec

    @property
    def replaces(self) -> str:
        """The value of Replaces that names this dialog to the other side (RFC 3891 section 3)."""
        return f"{self.call_id};to-tag={self.remote_tag};from-tag={self.local_tag}"

    @property
    def contact(self) -> str:
        """Our Contact."""
        host, port = self.phone.address
        transport = ";transport=tcp" if self.phone.transport == "TCP" else ""
        return f"<sip:{self.phone.user}@{in_uri(host)}:{port}{transport}>"

    def request(
        self, method: str, number: int, branch: str, body: str = "", fields: Fields = (), content_type: str = SDP
    ) -> bytes:
        """A request of ours in the dialog, or before there is one."""
        return self.request_to(self.target, self.remote_tag, method, number, branch, body, fields, content_type)

    def request_to(
        self,
        target: str,
        remote_tag: str | None,
        method: str,
        number: int,
        branch: str,
        body: str = "",
        fields: Fields = (),
        content_type: str = SDP,
    ) -> bytes:
        """A request of ours with this Request-URI and tag of To."""
        host, port = self.phone.address
        known = self.phone.credentials
        credentials = None if known is None else known.field(method, target, self.phone.token("cnonce"))
        all_fields = [
            ("Via", f"SIP/2.0/{self.phone.transport} {in_uri(host)}:{port};branch={branch};rport"),
            ("Max-Forwards", "70"),
            ("From", f"{self.local_party};tag={self.local_tag}"),
            ("To", self.remote_party + (f";tag={remote_tag}" if remote_tag else "")),
            ("Call-ID", self.call_id),
            ("CSeq", f"{number} {method}"),
            ("Contact", self.contact),
            *(("Route", route) for route in (self.routes if target == self.target else ())),
            *([credentials] if credentials is not None else []),
            *fields,
            *([("Content-Type", content_type)] if body and content_type else []),
        ]
        return request_text(method, target, all_fields, body)

    async def send(self, message: bytes) -> None:
        """Send a request of ours: to where the other side was met, else to its Contact."""
        contact = parse_uri(self.target)
        await self.phone.send(message, self.remote, contact.address if isinstance(contact, SipUri) else None)

    # Audio

    def describe(self, direction: str = "sendrecv", host: str | None = None, *, secure: bool | None = None) -> str:
        """Our session description.

        Args:
          host: what c= says in place of the handset's address.
          secure: with our key; None: if `crypto` says so.
        """
        handset = self.handset
        own: Address = handset.described or handset.socket.getsockname()[:2]
        reports = own[1] if handset.rtcp_socket is None else handset.rtcp_socket.getsockname()[1]
        audio = Audio(
            own=own,
            codec=handset.codec,
            telephone_event=handset.telephone_event,
            ptime_ms=handset.ptime_ms,
            version=self._sdp_version,
            direction=direction,
            host=host,
            crypto=(self.crypto, self._key) if self.crypto is not None and secure is not False else None,
            crypto_tag=self._crypto_tag,
            rtcp_port=None if self.rtcp == "off" else reports,
        )
        return describe(audio)

    def answer_sdp(self, offer: bytes) -> str:
        """Our answer to an offer, which is taken."""
        heard = read_description(offer.decode())
        if heard.crypto is not None and self.crypto is not None:
            self._crypto_tag, self.crypto = heard.crypto[0], heard.crypto[1]
        if heard.telephone_event is not None and self.handset.telephone_event is not None:
            self.handset.telephone_event = heard.telephone_event
        self.take_description(heard)
        self._sdp_version += 1
        direction = MIRRORED.get(heard.direction, heard.direction)
        return self.sdp if self.sdp is not None else self.describe(direction, secure=heard.crypto is not None)

    def take_description(self, heard: Heard) -> None:
        """Send audio to where the other side wants it."""
        handset = self.handset
        self.remote_media, self.remote_direction = heard.address, heard.direction
        if handset.remote is not None:
            handset.remote = heard.address
        reports = heard.address[1] if heard.rtcp_mux and self.rtcp == "mux" else heard.rtcp_port
        handset.rtcp_remote = None if reports is None else (heard.address[0], reports)
        handset.is_secure = heard.crypto is not None and self.crypto is not None
        if heard.crypto is not None and self.crypto is not None:
            handset.cipher = open_cipher(heard.crypto[1], self._key, heard.crypto[2])

    def take_media(self, body: bytes) -> None:
        """The same for the octets of a description; nothing if there are none."""
        if body:
            self.take_description(read_description(body.decode()))

    def note_dialog(self, message: Message, party: str) -> None:
        """Learn the other side's tag, Contact and route set from the message that makes the dialog."""
        self.remote_tag = parse_name_addr(message.header(party)).tag
        contact = message.headers.get("Contact")
        if contact is not None:
            self.target = str(parse_name_addr(contact).uri)
        self.routes = message.headers.items("Record-Route")
        if party == "To":
            self.routes.reverse()

    def capabilities(self) -> list[tuple[str, str]]:
        """Allow, and what of RFC 4028 it supports."""
        return [("Allow", self.allow), *([("Supported", "timer")] if self.session_timer is not None else [])]

    def next_cseq(self) -> int:
        self._cseq += 1
        return self._cseq

    def notify(self) -> None:
        """Let all who wait for a change look again."""
        self._changed.set()
        self._changed = trio.Event()
