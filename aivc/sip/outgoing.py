"""Calls of ours: the user of the INVITE client transaction, RFC 3261 sections 9.1, 13.2 and 22, and RFC 3262.

Nothing of what a call leaves behind needs a task: who stops waiting may go, and what still comes (a 2xx that crossed
the CANCEL, or of another fork) is acknowledged and hung up by the reports of the transaction.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import attrs
import trio

from aivc import logs
from aivc.sip.accounts import MAX_REPEATS, with_credentials
from aivc.sip.address import SipUri, format_host_port, parse_name_addr, parse_uri, quote
from aivc.sip.client_transaction import MAX_FORKS, InviteTransaction
from aivc.sip.dialog import FIRST_CSEQ, MAX_FORWARDS, Dialog
from aivc.sip.dialog_client import CHALLENGES, USER_AGENT_HEADER, Credentials, DialogClient, contact_of, via_of
from aivc.sip.flow import Flow
from aivc.sip.inspection import SDP_TYPE, session_body
from aivc.sip.leg import ConsultationFailed, Fields
from aivc.sip.message import REASONS, Headers, Request, Response
from aivc.sip.provisional import RELIABLE
from aivc.sip.reasons import reason_fields
from aivc.sip.referral import name_addr_of, readable
from aivc.sip.scanner import AddressError, parse_number
from aivc.sip.transaction_layer import TransactionLayer

log = logging.getLogger("aivc.sip")

MAX_RSEQ: Final = 2**32 - 1  # RFC 3262 section 7.1


@attrs.frozen(kw_only=True)
class Invitation:
    """What an INVITE of ours is to say, and which way it goes.

    Attributes:
      target: the sip, sips or tel URI to call.
      caller: our URI, for From.
      offer: the SDP.
      flow: whither it goes, whatever the host in `target`: an outbound proxy, or where a caller came from.
      route: Route values, the first one of `flow` (RFC 3608); all loose routers.
      fields: more header fields: Allow, Supported, Session-Expires, Referred-By, Replaces and the like.
    """

    target: str
    caller: str
    offer: bytes
    flow: Flow
    route: tuple[str, ...] = ()
    fields: Fields = ()
    display_name: str = ""


@attrs.frozen(eq=False)
class Answered:
    """A call of ours that was answered and is acknowledged."""

    dialog: Dialog
    client: DialogClient
    request: Request  # the INVITE as sent last
    response: Response  # the 2xx
    answer: bytes  # the SDP: of the 2xx, or of a provisional response before it


@attrs.define(eq=False)
class Early:
    """What one fork has said before its final response."""

    client: DialogClient
    rseq: int | None = None  # of its last reliable response
    answer: bytes = b""


async def call(
    layer: TransactionLayer, invitation: Invitation, seconds: float, credentials: Credentials | None = None
) -> Answered:
    """Call somebody and wait until they answer. Cancelling the wait gives the call up.

    Args:
      seconds: after so long it is cancelled.
      credentials: for challenges.

    Raises:
      ConsultationFailed: not answered in time, refused, redirected (which is not followed), or not to be reached.
      ValueError: a URI that cannot be called; nothing was sent.
    """
    outgoing = OutgoingCall(layer, invitation, credentials)
    outgoing.start()
    try:
        with trio.move_on_after(max(0.0, seconds)):
            await outgoing.settled.wait()
    except BaseException:
        outgoing.abandon("given up")
        raise
    if outgoing.outcome is None:
        outgoing.abandon(f"not answered in {seconds:g} s")
    return outgoing.take_over()


@attrs.define(eq=False)
class OutgoingCall:
    """One call of ours, until every fork of it is dealt with. Raises as `call`, when it is made.

    Attributes:
      outcome: None until `settled`.
    """

    layer: TransactionLayer
    invitation: Invitation
    credentials: Credentials | None = None
    outcome: Answered | ConsultationFailed | None = attrs.field(default=None, init=False)
    settled: trio.Event = attrs.field(factory=trio.Event, init=False)
    _request: Request = attrs.field(init=False)
    _transaction: InviteTransaction = attrs.field(init=False)
    _early: dict[str, Early] = attrs.field(factory=dict, init=False)  # by tag

    def __attrs_post_init__(self) -> None:
        self._request = first_invite(self.invitation, self.layer)

    def start(self) -> None:
        """Send the INVITE."""
        flow = self.invitation.flow
        self._log("sip.calling", target=self._request.target, to=format_host_port(*flow.peer))
        self._transaction = self.layer.invite(self._request, flow, self._take)

    def take_over(self) -> Answered:
        """Acknowledge the answer; raises the failure. Only now, so that no request of the callee's comes before who
        waited for the answer can take it."""
        assert self.outcome is not None
        if isinstance(self.outcome, ConsultationFailed):
            raise self.outcome
        self.outcome.client.acknowledge_in(self._transaction)
        return self.outcome

    def abandon(self, text: str) -> None:
        """Nobody waits any more: CANCEL, or ACK and BYE when it is answered already."""
        if isinstance(self.outcome, Answered):
            self.outcome.client.acknowledge_in(self._transaction)
            self._hang_up(self.outcome.client, text)
        elif self.outcome is None:
            self._settle(ConsultationFailed(None, text))
            self._transaction.cancel()

    def _take(self, response: Response | None) -> None:
        if response is None:
            text = "there is no connection" if self._transaction.lost else "no answer"
            self._settle(ConsultationFailed(None, text))
        elif response.status < 200:
            self._proceed(response)
        elif response.status < 300:
            self._accept(response)
        elif not self._repeat(response):
            self._settle(ConsultationFailed(response.status, failure_text(response)))

    def _repeat(self, response: Response) -> bool:
        """Send it again with credentials: the same call with another CSeq and branch (section 22.2)."""
        is_final = response.status not in CHALLENGES or self._request.cseq.number >= FIRST_CSEQ + MAX_REPEATS
        if is_final or self.outcome is not None or self.credentials is None:
            return False
        flow = self.invitation.flow
        field = self.credentials.answer(self._request, response, flow.peer)
        if field is None:
            return False
        self._early.clear()
        self._request = repeated(self._request, str(via_of(flow, self.layer.new_tag())), field)
        self._transaction = self.layer.invite(self._request, flow, self._take)
        return True

    def _proceed(self, response: Response) -> None:
        """An early dialog, and PRACK for a reliable response (RFC 3262 section 4)."""
        tag, is_reliable = response.to.tag, is_reliable_provisional(response)
        if response.status == 100 or not tag or not (is_reliable or response.body):
            return
        try:
            early = self._early.get(tag) or Early(self._client(Dialog.from_response(self._request, response)))
            rseq = parse_number(response.header("RSeq"), MAX_RSEQ, "RSeq") if is_reliable else None
        except AddressError as error:
            self._log("sip.unusable_provisional", status=response.status, cause=str(error))
            return
        if len(self._early) >= MAX_FORKS and tag not in self._early:
            return
        self._early[tag] = early
        if rseq is not None:
            if early.rseq is not None and rseq != early.rseq + 1:  # a copy, or one before it is missing
                return
            early.rseq = rseq
            early.client.send("PRACK", (("RAck", f"{rseq} {self._request.cseq}"),))
        early.answer = session_body(response) or early.answer

    def _accept(self, response: Response) -> None:
        """The first 2xx of a fork. All but the first fork are acknowledged and hung up (section 13.2.2.4)."""
        early = self._early.pop(response.to.tag or "", None)
        client, fault = self._confirmed(early, response)
        if self.outcome is None and not fault:
            answer = session_body(response) or (b"" if early is None else early.answer)
            self._settle(Answered(client.dialog, client, self._request, response, answer))
            return
        client.acknowledge_in(self._transaction)
        elsewhere = "answered elsewhere" if isinstance(self.outcome, Answered) else "given up"
        self._hang_up(client, fault or elsewhere)
        self._settle(ConsultationFailed(None, f"unusable answer: {fault}"))

    def _confirmed(self, early: Early | None, response: Response) -> tuple[DialogClient, str]:
        """The dialog of a 2xx; with what is wrong in it, and then the way of the INVITE for ACK and BYE."""
        try:
            if early is not None:
                early.client.dialog.confirm(response)
                return early.client, ""
            return self._client(Dialog.from_response(self._request, response)), ""
        except AddressError as error:
            dialog = self._stopgap(response)
            dialog.local_cseq = dialog.local_cseq if early is None else early.client.dialog.local_cseq
            return self._client(dialog), str(error)

    def _stopgap(self, response: Response) -> Dialog:
        uri = self._request.uri
        target = uri if isinstance(uri, SipUri) else SipUri(*self.invitation.flow.peer)
        kept = tuple(field for field in response.headers if field[0].lower() not in ("contact", "record-route"))
        mended = attrs.evolve(response, headers=Headers((*kept, ("Contact", f"<{target}>"))))
        return Dialog.from_response(self._request, mended)

    def _client(self, dialog: Dialog) -> DialogClient:
        return DialogClient(dialog, self.layer, self.invitation.flow, self.credentials)

    def _hang_up(self, client: DialogClient, text: str) -> None:
        self._log("sip.bye_sent", reason=text)
        client.send("BYE", reason_fields(text))

    def _settle(self, outcome: Answered | ConsultationFailed) -> None:
        if self.outcome is not None:
            return
        self.outcome = outcome
        self.settled.set()
        if isinstance(outcome, ConsultationFailed):
            self._log("sip.call_failed", status=outcome.status, cause=outcome.text)
        else:
            self._log("sip.call_answered")

    def _log(self, name: str, **fields: Any) -> None:
        logs.event(log, name, call_id=self._request.call_id, **fields)


def first_invite(invitation: Invitation, layer: TransactionLayer) -> Request:
    """The INVITE with a new Call-ID. Raises ValueError: a URI that must not be written."""
    flow, to, sender = invitation.flow, name_addr_of(invitation.target), name_addr_of(invitation.caller)
    uri = parse_uri(invitation.target)
    if uri.scheme == "sips" and flow.transport != "TLS":  # RFC 3261 section 26.2.2
        raise ValueError("a sips URI is called by TLS only")
    for value in invitation.route:
        parse_name_addr(value)  # AddressError is a ValueError
    name = f"{quote(invitation.display_name)} " if invitation.display_name else ""
    headers = [
        ("Via", str(via_of(flow, layer.new_tag()))),
        *(("Route", value) for value in invitation.route),
        ("Max-Forwards", str(MAX_FORWARDS)),
        ("From", f"{name}{sender};tag={layer.new_tag()}"),
        ("To", to),
        ("Call-ID", layer.new_token() + layer.new_token()),
        ("CSeq", f"{FIRST_CSEQ} INVITE"),
        ("Contact", f"<{contact_of(flow, secure=uri.scheme == 'sips')}>"),
        *invitation.fields,
        USER_AGENT_HEADER,
        ("Content-Type", SDP_TYPE),
    ]
    return Request(method="INVITE", target=str(uri), headers=Headers(tuple(headers)), body=invitation.offer)


def repeated(request: Request, via: str, field: tuple[str, str]) -> Request:
    """The same request with another branch, the next CSeq and credentials."""
    cseq = request.cseq
    changed = {"Via": via, "CSeq": f"{cseq.number + 1} {cseq.method}"}
    fields = tuple((name, changed.get(name, value)) for name, value in request.headers)
    return attrs.evolve(request, headers=Headers(with_credentials(fields, field)))


def is_reliable_provisional(response: Response) -> bool:
    """RFC 3262 section 4: 101 to 199 with Require: 100rel and RSeq."""
    required = {option.lower() for option in response.headers.items("Require")}
    return response.status > 100 and RELIABLE in required and response.headers.get("RSeq") is not None


def failure_text(response: Response) -> str:
    """Why the call failed, for people."""
    phrase = readable(response.reason) or REASONS.get(response.status, "")
    return f"{phrase} (redirections are not followed)".strip() if response.status < 400 else phrase
