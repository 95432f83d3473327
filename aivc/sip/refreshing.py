"""Our part in the session timer of one dialog (RFC 4028): UPDATE where the peer has it (RFC 3311), else re-INVITE."""

from __future__ import annotations

import logging
from typing import Any, Final, Protocol

import attrs
import trio

from aivc import logs
from aivc.sip.dialog_client import Asked, DialogClient
from aivc.sip.inspection import ACCEPT_HEADER, SDP_TYPE, Refusal, session_body
from aivc.sip.leg import Fields
from aivc.sip.message import Headers, Request, Response
from aivc.sip.offeranswer import OfferAnswer
from aivc.sip.scanner import AddressError
from aivc.sip.session_timer import (
    Due,
    SessionTimer,
    Terms,
    Wish,
    agree,
    answer_fields,
    is_too_short,
    read_wish,
    refresh_fields,
)
from aivc.sip.switchboard import Switchboard

log = logging.getLogger("aivc.sip")

BUSY_SECONDS: Final = 2.0  # a refresh that is due while the peer's INVITE is open waits so long
# RFC 3261 section 14.1: after 491 the owner of the Call-ID waits 2.1 to 4 s, the other side 0 to 2 s; steps of 10 ms
STEP_SECONDS: Final = 0.01
OWNER_STEPS: Final = (210, 400)
OTHER_STEPS: Final = (0, 200)
NOT_SERVED: Final = frozenset({405, 501})
GONE: Final = frozenset({408, 481})  # RFC 3261 section 12.2.1.2, RFC 4028 section 10


class Changeable(Protocol):
    """What a dialog has that whoever changes its session needs, from either side."""

    @property
    def board(self) -> Switchboard[Any]: ...

    @property
    def client(self) -> DialogClient: ...

    @property
    def media(self) -> OfferAnswer: ...


class Refreshed(Changeable, Protocol):
    """The dialog, as its refresher needs it."""

    @property
    def is_busy(self) -> bool:
        """Whether the peer's INVITE is open, so that none of ours may go out."""

    def take_answer(self, body: bytes) -> None:
        """The peer's answer to our offer has come."""

    def expire_session(self, cause: str) -> None:
        """The session is over."""


@attrs.define(eq=False, repr=False)
class Refresher:
    """Keeps the session of one dialog alive, and tells when it is dead.

    Args:
      dialog: a weak reference: the dialog keeps its refresher, not the other way round.
      owns_call_id: whether the dialog's INVITE was ours.
    """

    dialog: Refreshed
    owns_call_id: bool
    _timer: SessionTimer = attrs.field(factory=SessionTimer, init=False)
    _open: Asked | None = attrs.field(default=None, init=False)
    _takes_update: bool = attrs.field(default=False, init=False)  # the peer, as it said last
    _failure: str = attrs.field(default="", init=False)  # how the last refresh failed

    @property
    def is_inviting(self) -> bool:
        """Whether a re-INVITE of ours is open, and with it our offer (RFC 3261 section 14.2, RFC 3311 section 5.2)."""
        return self._open is not None and self._open.request.method == "INVITE"

    @property
    def deadline(self) -> float:
        return self._timer.deadline

    def expire(self, now: float) -> None:
        match self._timer.expire(now):
            case Due.OVER:
                waited_for = "no refresh came" if self._open is None else "no answer to a refresh"
                self.dialog.expire_session(f"refreshes fail: {self._failure}" if self._failure else waited_for)
            case Due.REFRESH if self.dialog.is_busy or self._open is not None:
                self._timer.try_again(now + BUSY_SECONDS)
            case Due.REFRESH:
                self._refresh()
            case None:
                pass

    def stop(self) -> None:
        """The dialog is over. A re-INVITE that only rings would be waited for without an end."""
        if self._open is not None and self.is_inviting:
            self._open.cancel()
        self._timer.restart(None, 0.0)
        self._open = None
        self.watch()

    # The peer's requests

    def judge(self, request: Request) -> Terms | Refusal | None:
        """The terms of a 2xx to this INVITE or UPDATE; None: without a timer."""
        settings = self.dialog.board.settings
        return judge(request.headers, settings.session_expires_seconds, settings.min_se_seconds, self._timer.terms)

    def accept(self, message: Request | Response, terms: Terms | None) -> Fields:
        """A request of the peer is answered with a 2xx on these terms; what that says."""
        self.learn(message)
        self._failure = ""
        self._timer.restart(terms, trio.current_time())
        self.watch()
        return answer_fields(terms)

    def begin(self, response: Response) -> None:
        """Our own INVITE was answered: take what its 2xx says."""
        self.learn(response)
        self._timer.accepted(read_wish_or_none(response.headers), trio.current_time())
        self.watch()

    def learn(self, message: Request | Response) -> None:
        if message.headers.get("Allow") is not None:
            self._takes_update = "UPDATE" in message.headers.items("Allow")

    def watch(self) -> None:
        self.dialog.client.layer.timers.watch(self)

    # Our requests

    def _refresh(self) -> None:
        terms = self._timer.terms
        if terms is None:
            return
        board, client = self.dialog.board, self.dialog.client
        fields = (
            client.contact_field,
            *board.capabilities.fields,
            ACCEPT_HEADER,
            *refresh_fields(terms.seconds, self._timer.least),
        )
        if self._takes_update:
            asked = client.send("UPDATE", fields)
        else:
            asked = client.send("INVITE", (*fields, ("Content-Type", SDP_TYPE)), self.dialog.media.repeat())
        logs.event(log, "sip.refreshing", call_id=client.dialog.call_id, method=asked.request.method)
        self._open = asked
        asked.report = lambda response: self._take(client, asked, response)

    def _take(self, client: DialogClient, asked: Asked, response: Response | None) -> None:
        if self._open is not asked:  # the dialog is over, and maybe gone, or it is the 2xx of another fork
            if response is not None and response.status < 300 and asked.request.method == "INVITE":
                client.acknowledge(asked.request.cseq.number)
            return
        self._open, is_invite = None, asked.request.method == "INVITE"
        if response is not None and response.status < 300:
            self._accepted(response, is_invite)
        else:
            if is_invite:
                self.dialog.media.withdraw()
            self._failed(response, asked.request.method)
        self.watch()

    def _accepted(self, response: Response, is_invite: bool) -> None:
        client = self.dialog.client
        self._failure = ""
        self.learn(response)
        self._timer.accepted(read_wish_or_none(response.headers), trio.current_time())
        try:
            client.dialog.refresh_target(response)
        except AddressError as error:
            logs.event(log, "sip.bad_contact", call_id=client.dialog.call_id, cause=str(error))
        if is_invite:
            client.acknowledge(response.cseq.number)
            self.dialog.take_answer(session_body(response))

    def _failed(self, response: Response | None, method: str) -> None:
        now = trio.current_time()
        status = None if response is None else response.status
        self._failure = "no answer" if response is None else f"{response.status} to {method}"
        logs.event(log, "sip.refresh_failed", call_id=self.dialog.client.dialog.call_id, cause=self._failure)
        if response is None or status in GONE:
            cause = "no answer to a refresh" if response is None else f"the peer does not know the call: {status}"
            self.dialog.expire_session(cause)
        elif status == 491:
            self._timer.try_again(now + self._wait_after_glare())
        elif status in NOT_SERVED and method == "UPDATE":
            self._takes_update = False
            self._timer.try_again(now)
        elif status != 422 or not self._timer.too_short(read_wish_or_none(response.headers), now):
            self._timer.try_later(now)

    def _wait_after_glare(self) -> float:
        low, high = OWNER_STEPS if self.owns_call_id else OTHER_STEPS
        return (low + self.dialog.board.random() % (high - low + 1)) * STEP_SECONDS


def judge(headers: Headers, wanted: int, least: int, present: Terms | None = None) -> Terms | Refusal | None:
    """How a request with these headers fares: the terms of the 2xx, None for none, 422, or 400."""
    try:
        wish = read_wish(headers)
    except AddressError as error:
        return Refusal(400, str(error))
    if is_too_short(wish, least):
        return Refusal(422, f"Session-Expires below {least} s: sip.min_se_seconds", (("Min-SE", str(least)),))
    return agree(wish, wanted, present)


def read_wish_or_none(headers: Headers) -> Wish:
    """What a response says; one that cannot be read says nothing."""
    try:
        return read_wish(headers)
    except AddressError:
        return Wish()
