"""Our requests in a dialog, whoever made it: whence they come, which way they go, and how challenges are answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import attrs
import trio

from aivc.config.settings import Address
from aivc.sip.accounts import MAX_REPEATS, with_credentials
from aivc.sip.address import MAGIC_COOKIE, Via, default_port, format_host_port
from aivc.sip.client_transaction import ClientTransaction, InviteTransaction, Report
from aivc.sip.dialog import Dialog, reachable_address
from aivc.sip.flow import Flow, NoFlow, Transport
from aivc.sip.inspection import SOFTWARE
from aivc.sip.ip import plain_ip
from aivc.sip.leg import Fields
from aivc.sip.message import Request, Response
from aivc.sip.transaction_layer import ServerTransaction, TransactionLayer

USER_AGENT_HEADER: Final = ("User-Agent", SOFTWARE)
CHALLENGES: Final = (401, 407)
CREDENTIALS: Final = frozenset({"authorization", "proxy-authorization"})
MAX_OPEN_INVITES: Final = 8  # of one dialog, whose 2xx may still come again


class Credentials(Protocol):
    """The passwords that we have: `aivc.sip.accounts.Accounts`."""

    def answer(self, request: Request, response: Response, peer: Address) -> tuple[str, str] | None:
        """The Authorization or Proxy-Authorization field for a request that was challenged; None: not for `peer`."""


@attrs.define(eq=False, repr=False)
class Asked:
    """One request of ours in a dialog, repeated with credentials when it is challenged, at most MAX_REPEATS times.

    Attributes:
      request: as sent last. The repetition has another CSeq.
      response: the final one, once `done` is set; None: there is none.
      report: called with it in the same step; of an INVITE with the first 2xx of each fork.
      provisional: called with each provisional response to an INVITE.
      repeated: called with the repetition before it is sent.
    """

    client: DialogClient
    fields: Fields
    body: bytes
    transaction: ClientTransaction = attrs.field(init=False)
    response: Response | None = attrs.field(default=None, init=False)
    report: Report | None = attrs.field(default=None, init=False)
    provisional: Callable[[Response], None] | None = attrs.field(default=None, init=False)
    repeated: Callable[[Request], None] | None = attrs.field(default=None, init=False)
    done: trio.Event = attrs.field(factory=trio.Event, init=False)
    request: Request = attrs.field(init=False)
    _repeats: int = attrs.field(default=0, init=False)

    def cancel(self, fields: Fields = ()) -> None:
        """Cancel an INVITE: `InviteTransaction.cancel`."""
        assert isinstance(self.transaction, InviteTransaction)
        self.transaction.cancel(fields)

    def begin(self, request: Request, flow: Flow) -> None:
        """Send it. For `DialogClient`."""
        self.request = request
        send = self.client.layer.invite if request.method == "INVITE" else self.client.layer.send
        self.transaction = send(request, flow, self._take)

    def _take(self, response: Response | None) -> None:
        if response is not None and response.status < 200:
            if self.provisional is not None:
                self.provisional(response)
            return
        if response is not None and response.status in CHALLENGES and self._repeat(response):
            return
        if not self.done.is_set():
            self.response = response
            self.done.set()
        if self.report is not None:
            self.report(response)

    def _repeat(self, response: Response) -> bool:
        """Answer the challenge of the peer that the request went to, when we have a password for it."""
        if self._repeats >= MAX_REPEATS or self._is_cancelled or self.client.credentials is None:
            return False
        flow = self.transaction.flow
        field = self.client.credentials.answer(self.request, response, flow.peer)
        if field is None:
            return False
        self._repeats += 1
        self.fields = with_credentials(self.fields, field)
        request = self.client.prepare(self.request.method, self.fields, self.body, flow)
        if self.repeated is not None:
            self.repeated(request)
        self.begin(request, flow)
        return True

    @property
    def _is_cancelled(self) -> bool:
        return isinstance(self.transaction, InviteTransaction) and self.transaction.is_cancelled


@attrs.define(eq=False, repr=False)
class DialogClient:
    """The client half of one dialog.

    Args:
      near: what the dialog's INVITE came by, or went by.
      credentials: for challenges; None: they are final.
      sent_by: the host in the Via of a peer's INVITE; None when the INVITE was ours.

    Attributes:
      origin: the peer's address when the dialog was made, where our tag went.
    """

    dialog: Dialog
    layer: TransactionLayer
    near: Flow
    credentials: Credentials | None = None
    sent_by: str | None = None
    origin: Address = attrs.field(init=False)
    _invites: dict[int, Asked] = attrs.field(factory=dict, init=False)  # by CSeq as sent last

    def __attrs_post_init__(self) -> None:
        self.origin = self.near.peer

    @classmethod
    def of_invite(
        cls, dialog: Dialog, transaction: ServerTransaction, credentials: Credentials | None = None
    ) -> DialogClient:
        """For the dialog that a peer's INVITE makes."""
        arrival = transaction.arrival
        return cls(dialog, transaction.layer, arrival.flow, credentials, transaction.via.host)

    def learn(self, transaction: ServerTransaction) -> None:
        """The peer has said anew where it is, or has come by another way: so do we go from now on."""
        self.near, self.sent_by = transaction.arrival.flow, transaction.via.host

    def send(self, method: str, fields: Fields = (), body: bytes = b"") -> Asked:
        """Send a request with these header fields beside those of the dialog.

        Of `fields`, Contact and Content-Type are the caller's to give. The 2xx of an INVITE wants `acknowledge`.
        """
        flow = self.flow
        asked = Asked(self, fields, body)
        asked.begin(self.prepare(method, fields, body, flow), flow)
        if method == "INVITE":
            while len(self._invites) >= MAX_OPEN_INVITES:
                del self._invites[next(iter(self._invites))]
            self._invites[asked.request.cseq.number] = asked
        return asked

    def acknowledge(self, cseq: int, body: bytes = b"", fields: Fields = ()) -> None:
        """Send the ACK for the 2xx to our INVITE with that CSeq, and again when the 2xx comes again.

        `body` is the answer to an offer in the 2xx; its Content-Type is one of `fields`.
        """
        asked = next((asked for asked in self._invites.values() if asked.request.cseq.number == cseq), None)
        if asked is None or not isinstance(asked.transaction, InviteTransaction):
            return
        self.acknowledge_in(asked.transaction, body, fields)

    def acknowledge_in(self, transaction: InviteTransaction, body: bytes = b"", fields: Fields = ()) -> None:
        """The same, of an INVITE that this object has not sent."""
        flow, invite = self.flow, transaction.request
        credentials = tuple(field for field in invite.headers if field[0].lower() in CREDENTIALS)  # 13.2.2.4
        extra = (*credentials, *fields, USER_AGENT_HEADER)
        ack = self.dialog.acknowledgement(invite.cseq.number, self._via(flow), extra, body)
        transaction.acknowledge(ack, flow)

    def prepare(self, method: str, fields: Fields, body: bytes, flow: Flow) -> Request:
        """The next request of the dialog, by that flow."""
        return self.dialog.request(method, self._via(flow), (*fields, USER_AGENT_HEADER), body)

    @property
    def host(self) -> str:
        return self.near.local[0]

    @property
    def address(self) -> Address:
        """Our own, as the peer must see it."""
        return self.near.local

    @property
    def contact(self) -> str:
        """The URI that the peer's requests in the dialog are to name."""
        return contact_of(self.near, secure=self.dialog.secure)

    @property
    def contact_field(self) -> tuple[str, str]:
        return "Contact", f"<{self.contact}>"

    @property
    def flow(self) -> Flow:
        """Which way our next request goes.

        A phone that names one host in Via and Contact and sends from another sits behind a NAT that it does not know
        of, and only the way back through that NAT reaches it (RFC 3581 section 1). A connection is used as long as it
        is open, unless the next hop is another host (RFC 3261 section 18): what is behind the peer's ephemeral port
        is behind its name, too.
        """
        hop, near = self.dialog.next_hop, self.near
        transport: Transport = self.dialog.next_transport or near.transport
        if transport == near.transport and near.is_open and self._is_behind_nat:
            return near
        if transport == near.transport != "UDP" and near.is_open and (hop.address or near.peer)[0] == near.peer[0]:
            return near
        otherwise = near.peer
        if near.transport != "UDP":  # where they listen, not whence they called
            otherwise = near.peer[0], hop.port or default_port(transport)
        try:
            return self.layer.transports.onward(transport, reachable_address(hop, otherwise, transport), near)
        except NoFlow:  # no socket of that kind: the way that they came is better than none
            return near

    @property
    def _is_behind_nat(self) -> bool:
        if self.dialog.route_set or self.sent_by is None:
            return False
        return plain_ip(self.dialog.next_hop.host) == plain_ip(self.sent_by) != self.near.peer[0]

    def _via(self, flow: Flow) -> Via:
        return via_of(flow, self.layer.new_tag())


def via_of(flow: Flow, token: str) -> Via:
    """Via of a request of ours that goes that way, with a new branch."""
    host, port = flow.local
    return Via(host, port, flow.transport, (("branch", MAGIC_COOKIE + token), ("rport", None)))


def contact_of(flow: Flow, *, secure: bool = False) -> str:
    """The URI by which a peer on that flow reaches us: sips only for who uses it, as PBXs expect."""
    where = format_host_port(*flow.local)
    if secure:
        return f"sips:{where}"
    return f"sip:{where}" if flow.transport == "UDP" else f"sip:{where};transport={flow.transport.lower()}"
