"""Requests of the test OpenSIPS in its UA sessions, and what their answers do (_b2b_send_request, b2b_tm_cback)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final, Protocol

import attrs
import trio

from aivc.config.settings import Address
from aivc.sip.address import MAGIC_COOKIE, Via
from aivc.sip.dialog import Dialog, reachable_address
from aivc.sip.message import Headers, Request, Response
from aivc.testing.opensips_session import State, UaSession
from aivc.testing.opensips_transactions import ClientTransaction, Transactions
from aivc.testing.opensips_wording import Received, request_headers, request_octets

EARLY_METHODS: Final = ("UPDATE", "PRACK", "CANCEL", "INVITE")  # what an entity without a 2xx may send


class Keeper(Protocol):
    """Who has the sessions: `Entities`."""

    @property
    def sessions(self) -> Mapping[str, UaSession]: ...
    def notify(self, session: UaSession, event_type: str, received: Received) -> bool: ...
    def delete(self, session: UaSession) -> None: ...


@attrs.define(eq=False, repr=False)
class Requests:
    """Sends them.

    Args:
      uac_auth: whether the module of this name is loaded; without it a refused INVITE of ours leaves its entity behind.
        One that has rung leaves it behind in any case.
    """

    address: Address
    transactions: Transactions
    dice: random.Random
    keeper: Keeper
    uac_auth: bool

    def send(self, session: UaSession, method: str, given: bytes, body: bytes | None, *, is_told: bool = True) -> bool:
        """Send a request in the session (_b2b_send_request); the answer to it is told unless `is_told` is False."""
        if session.state is State.TERMINATED:
            return method in ("BYE", "CANCEL")
        if session.state < State.CONFIRMED:
            if method == "BYE" and session.entity_type == "UAC":
                method = "CANCEL"
            elif method not in EARLY_METHODS:
                return False
        elif session.state is State.CONFIRMED and method != "ACK" and session.last_method == "INVITE":
            self._send_in_dialog(session, "ACK", given, body, is_told=is_told)
            session.move(State.ESTABLISHED, trio.current_time())
        session.last_method = method
        if method == "CANCEL":
            if session.uac is None:
                return False
            session.uac.cancel()
        elif not self._send_in_dialog(session, method, given, body, is_told=is_told):
            return False
        session.step(method, trio.current_time())
        return True

    def _send_in_dialog(
        self, session: UaSession, method: str, given: bytes, body: bytes | None, *, is_told: bool
    ) -> bool:
        dialog = session.dialog
        if dialog is None:
            return False
        lines, via = request_headers(given, body, session.contact), self.new_via()
        to = reachable_address(dialog.next_hop, session.peer)
        if method == "ACK":
            ack = request_octets(dialog.acknowledgement(session.last_invite_cseq, via, body=body or b""), lines)
            self.transactions.port.send_nowait(ack, to)
            return True
        request = dialog.request(method, via, body=body or b"")
        self.ask(session, request, to, lines, is_told=is_told)
        return True

    def new_via(self) -> Via:
        """For a new request of ours; OpenSIPS does not ask for rport."""
        return Via(*self.address, "UDP", (("branch", f"{MAGIC_COOKIE}{self.dice.getrandbits(64):016x}"),))

    def ask(self, session: UaSession, request: Request, to: Address, lines: bytes, *, is_told: bool = True) -> None:
        """Send a request of this session."""
        transaction: ClientTransaction

        def report(received: Received | None) -> None:
            self._take_answer(session, transaction, received)

        transaction = self.transactions.ask(request, to, request_octets(request, lines), report if is_told else None)
        if request.method == "INVITE":
            session.uac = transaction
            if session.dialog is not None:
                session.last_invite_cseq = request.cseq.number

    # What the other side answers

    def _take_answer(self, session: UaSession, transaction: ClientTransaction, received: Received | None) -> None:
        """A response to a request of ours, or silence (b2b_tm_cback in dlg.c)."""
        is_invite = transaction.request.method == "INVITE"
        if session.key not in self.keeper.sessions or (is_invite and session.uac is not transaction):
            return
        answer = timeout_of(transaction.request, received)
        response = answer.message
        assert isinstance(response, Response)
        if is_invite and response.status >= 200:
            session.uac = None
        must_acknowledge = is_invite and self._take_invite_answer(session, transaction, answer, response)
        event_type = "EARLY" if response.status < 200 else "ANSWERED" if response.status < 300 else "REJECTED"
        self.keeper.notify(session, event_type, answer)
        if must_acknowledge and "d" not in session.flags:
            self.send(session, "ACK", b"", None)
        if session.state is State.TERMINATED:
            self.keeper.delete(session)

    def _take_invite_answer(
        self, session: UaSession, transaction: ClientTransaction, answer: Received, response: Response
    ) -> bool:
        """What it does to the session; True when the ACK is due."""
        now = trio.current_time()
        is_first = session.state in (State.NEW, State.EARLY)
        if response.status >= 200:
            session.last_invite_cseq = response.cseq.number
        if response.status >= 300:
            if session.state is State.NEW and self.uac_auth:
                session.move(State.TERMINATED, now)
            return False
        if is_first or session.dialog is None:  # an answer may cross the end of the call
            session.dialog = Dialog.from_response(transaction.request, with_contact(response, transaction.request))
            session.peer = answer.source
        if is_first:
            session.move(State.EARLY if response.status < 200 else State.CONFIRMED, now)
            return response.status >= 200
        if session.state is State.MODIFIED and response.status >= 200:
            session.move(State.CONFIRMED, now)
            return True
        if session.state is State.TERMINATED and response.status >= 200:
            self._send_in_dialog(session, "ACK", b"", None, is_told=False)
            self._send_in_dialog(session, "BYE", b"", None, is_told=False)
        return False


def with_contact(response: Response, request: Request) -> Response:
    """A response that need not have a Contact, as a 180, names whom was asked."""
    if response.headers.get("Contact") is not None:
        return response
    headers = Headers((*response.headers, ("Contact", f"<{request.target}>")))
    return attrs.evolve(response, headers=headers)


def timeout_of(request: Request, received: Received | None) -> Received:
    """The response, or what b2b_entities makes up when there is none: its only header is From."""
    if received is not None:
        return received
    headers = request.headers
    made_up = Response(status=408, reason="Timeout", headers=headers)
    return Received(made_up, f"From: {request.header('From')}\r\n", ("", 0))
