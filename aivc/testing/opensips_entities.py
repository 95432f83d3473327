"""The UA sessions of the test OpenSIPS: its module b2b_entities (dlg.c, ua_api.c), with all that it gets wrong.

One request at a time and direction, no default answers, a CANCEL that leaves the INVITE unanswered, entities that stay
after a refusal: what looks like a mistake here is one of OpenSIPS 3.6.8.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from math import floor
from typing import Final

import attrs
import trio

from aivc.config.settings import Address
from aivc.sip.dialog import Dialog
from aivc.sip.message import Request, Response
from aivc.sip.scanner import AddressError
from aivc.testing.opensips_requests import Requests
from aivc.testing.opensips_session import State, UaSession, read_key
from aivc.testing.opensips_transactions import ServerTransaction, Transactions
from aivc.testing.opensips_wording import Received
from aivc.testing.schema import Json

HASH_SIZE: Final = 512  # modparam server_hsize
INDEX_SIZE: Final = 1 << 23
DEFAULT_SESSION_SECONDS: Final = 43_200  # modparam ua_default_timeout


@attrs.define(eq=False, repr=False)
class Entities:
    """All sessions.

    Args:
      now: seconds since 1970.
      raise_event: sends the members of one event to all subscribers; False if it is too large to be sent.
      freed: called after a session was deleted.
      abandoned: called with a request that OpenSIPS must answer by itself because the connector has not.
      uac_auth: see `Requests`.

    Attributes:
      requests: what goes the other way.
    """

    address: Address
    transactions: Transactions
    tasks: trio.Nursery
    dice: random.Random
    now: Callable[[], int]
    raise_event: Callable[[Json], bool]
    freed: Callable[[], None]
    abandoned: Callable[[UaSession, ServerTransaction], None]
    uac_auth: bool = True
    sessions: dict[str, UaSession] = attrs.field(factory=dict)  # by key
    requests: Requests = attrs.field(init=False)
    _timers: dict[str, trio.CancelScope] = attrs.field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self.requests = Requests(self.address, self.transactions, self.dice, self, self.uac_auth)

    @property
    def contact(self) -> str:
        return f"sip:{self.address[0]}:{self.address[1]}"

    def find(self, key: str) -> UaSession | None:
        """By the two numbers of a key that count."""
        index = read_key(key)
        return next((each for each in self.sessions.values() if each.index == index), None)

    # New sessions

    def open(self, received: Received, flags: str, extra: str | None) -> bool:
        """ua_session_server_init: make an entity of an INVITE and tell of it. False when that failed."""
        request = received.message
        assert isinstance(request, Request)
        transaction = self.transactions.begin(received)
        if transaction is None:
            return True
        letters, seconds = read_flags(flags)
        key = self.new_key(request.call_id, request.sender.tag or "")
        try:
            dialog = Dialog.from_invite(request, key)
        except AddressError:
            return False
        dialog.local_cseq = 1
        session = UaSession(
            key=key,
            entity_type="UAS",
            flags=letters,
            call_id=request.call_id,
            caller=request.sender,
            callee=request.to,
            contact=self.contact,
            peer=received.source,
            opened_at=trio.current_time(),
            dialog=dialog,
            ruri=request.target,
            last_invite_cseq=request.cseq.number,
            uas=transaction,
        )
        self.add(session, seconds)
        if "n" not in letters and not self.notify(session, "NEW", received, extra):
            self.delete(session)
            return False
        return True

    def new_key(self, *texts: str) -> str:
        place = zlib.crc32("".join(texts).encode("latin-1")) % HASH_SIZE
        return f"B2B.{place}.{self.dice.randrange(INDEX_SIZE)}.{self.now()}.{self.dice.randrange(1 << 30)}"

    def add(self, session: UaSession, seconds: int) -> None:
        """Keep it, for so many seconds at most."""
        self.sessions[session.key] = session
        self._timers[session.key] = timer = trio.CancelScope(deadline=floor(session.opened_at) + seconds)
        self.tasks.start_soon(self._expire, session, timer)

    async def _expire(self, session: UaSession, timer: trio.CancelScope) -> None:
        """Task: the session timer, which ends in a BYE and in no event. An unanswered session survives it."""
        with timer:
            await trio.sleep_forever()
        if session.key not in self.sessions:
            return
        if self.requests.send(session, "BYE", b"", None, is_told=False):
            self.delete(session)
        else:
            session.has_outlived_timer = True

    def delete(self, session: UaSession) -> None:
        """Free it; requests that wait for an answer get 408."""
        self.sessions.pop(session.key, None)
        if (timer := self._timers.pop(session.key, None)) is not None:
            timer.cancel()
        for transaction in session.waiting:
            self.abandoned(session, transaction)
            tag = transaction.request.to.tag or f"{self.dice.getrandbits(64):016x}"  # not the key: tm makes one up
            transaction.respond(408, "Request Timeout", tag)
        session.uas = session.update = session.uac = None
        self.freed()

    def notify(self, session: UaSession, event_type: str, received: Received, extra: str | None = None) -> bool:
        """Raise E_UA_SESSION; False when it is too large."""
        message = received.message
        params: Json = {
            "key": session.key,
            "event_type": event_type,
            "entity_type": session.entity_type,
            "status": message.status if isinstance(message, Response) else 0,
            "reason": message.reason if isinstance(message, Response) else None,
            "method": message.cseq.method,
            "body": received.body if "b" in session.flags else None,
            "headers": received.lines if "h" in session.flags else None,
            "extra_params": extra,
        }
        return self.raise_event(params)

    # What the other side asks

    def take_request(self, received: Received) -> bool:
        """Serve a request of a session; False when it is none: it is for the script."""
        request = received.message
        assert isinstance(request, Request)
        if request.method == "CANCEL":
            return self._take_cancel(received)
        tag = request.to.tag
        key = next((text for text in (tag, request.call_id) if text is not None and read_key(text) is not None), None)
        if tag is None or key is None:
            return False
        session = self._find_dialog(key, request)
        if session is None:
            self._refuse_stray(received)
        elif request.method == "PRACK":
            self._answer(received, 200, "OK")
        elif session.state < State.CONFIRMED and request.method != "UPDATE":
            pass  # dropped without a word: the caller sends it again
        elif request.method == "ACK":
            self._take_ack(session, received)
        else:
            self._take_in_dialog(session, received)
        return True

    def _find_dialog(self, key: str, request: Request) -> UaSession | None:
        session = self.find(key)
        if session is None or session.call_id != request.call_id or session.dialog is None:
            return None
        is_same = (session.dialog.local_tag, session.dialog.remote_tag) == (request.to.tag, request.sender.tag or "")
        return session if is_same else None

    def _refuse_stray(self, received: Received) -> None:
        """A tag of ours, but no such session: a BYE is swallowed, and nobody told."""
        request = received.message
        assert isinstance(request, Request)
        if request.method == "ACK":
            self.transactions.acknowledge(request)
        elif request.method == "BYE":
            self._answer(received, 200, "OK")
        else:
            self._answer(received, 481, "Call/Transaction Does Not Exist")

    def _answer(self, received: Received, status: int, reason: str) -> None:
        transaction = self.transactions.begin(received)
        if transaction is not None:
            transaction.respond(status, reason, transaction.request.to.tag or "")

    def _take_cancel(self, received: Received) -> bool:
        request = received.message
        assert isinstance(request, Request)
        invite = self.transactions.find(request, "INVITE")
        session = next((each for each in self.sessions.values() if is_cancelled(each, request, invite)), None)
        if invite is None or session is None:
            return False
        transaction = self.transactions.begin(received)
        if transaction is not None:
            transaction.respond(200, "canceling", session.key)
            self._end_by(session, received)
        return True

    def _take_ack(self, session: UaSession, received: Received) -> None:
        if session.state is State.ESTABLISHED:
            return
        request = received.message
        assert isinstance(request, Request)
        self.transactions.acknowledge(request)
        pending = session.uas
        if pending is not None and pending.status >= 200 and pending.request.cseq.number == request.cseq.number:
            session.uas = None
        session.step("ACK", trio.current_time())
        if "a" in session.flags:
            self.notify(session, "UPDATED", received)
        self._free_if_terminated(session)

    def _take_in_dialog(self, session: UaSession, received: Received) -> None:
        transaction = self.transactions.begin(received)
        if transaction is None:
            return
        method, tag = transaction.method, transaction.request.to.tag or ""
        if method == "UPDATE":
            session.update = transaction
        elif session.uac is not None:
            transaction.respond(491, "Request Pending", tag)
            return
        elif session.uas is None:
            session.uas = transaction
        elif method != "BYE":
            retry = f"Retry-After: {self.dice.randrange(10)}\r\n".encode()
            transaction.respond(500, "Overlapping Requests", tag, retry)
            return
        else:
            transaction.respond(200, "OK", tag)
            self._give_up_pending(session, session.uas, tag)
        if method == "BYE":
            self._end_by(session, received)
            return
        session.step(method, trio.current_time())
        if self.notify(session, "UPDATED", received):
            self._free_if_terminated(session)

    def _give_up_pending(self, session: UaSession, pending: ServerTransaction, tag: str) -> None:
        """A BYE has come: nobody will answer what came before."""
        if pending.status >= 200:
            pending.acknowledged = True  # no ACK is waited for any longer
        else:
            self.abandoned(session, pending)
            pending.respond(487, "Request Terminated", tag)
        session.uas = None

    def _end_by(self, session: UaSession, received: Received) -> None:
        """BYE or CANCEL."""
        session.step("BYE", trio.current_time())
        if self.notify(session, "TERMINATED", received):
            self._free_if_terminated(session)

    def _free_if_terminated(self, session: UaSession) -> None:
        """Answer a BYE and delete the session; where something else waits to be answered, that fails and it stays."""
        if session.state is State.TERMINATED and self.reply(session, "BYE", 200, "OK", b"", None):
            self.delete(session)

    # What the connector answers

    def reply(self, session: UaSession, method: str, code: int, reason: str, given: bytes, body: bytes | None) -> bool:
        """ua_session_reply (_b2b_send_reply in dlg.c). True is no proof that anything was sent."""
        transaction = session.update if method == "UPDATE" else session.uas
        if transaction is not None and transaction.method != method:
            return False
        if transaction is None:
            return session.last_reply_code == code
        if method == "INVITE" and session.state in (State.CONFIRMED, State.ESTABLISHED):
            return True
        self._note_reply(session, method, code)
        lines = given + f"Contact: <{session.contact}>\r\n".encode()
        tag = transaction.request.to.tag or session.key
        return transaction.respond(code, reason, tag, lines, body or b"")

    def _note_reply(self, session: UaSession, method: str, code: int) -> None:
        session.last_reply_code = code
        if code >= 200 and method == "INVITE":
            if code < 300:
                session.move(State.CONFIRMED, trio.current_time())
            elif session.uac is None and session.state is not State.MODIFIED:
                session.move(State.TERMINATED, trio.current_time())
        elif code >= 200 and method == "UPDATE":
            session.update = None
        elif code >= 200:
            session.uas = None
        if method == "BYE":
            session.move(State.TERMINATED, trio.current_time())


def is_cancelled(session: UaSession, cancel: Request, invite: ServerTransaction | None) -> bool:
    """Whether a CANCEL is for this session; one whose INVITE is over is meant, too."""
    is_same = session.call_id == cancel.call_id and session.caller.tag == cancel.sender.tag
    return is_same and session.entity_type == "UAS" and session.uas in (None, invite)


def read_flags(text: str) -> tuple[frozenset[str], int]:
    """The letters, and the seconds of t."""
    letters, seconds, digits = set(), "", False
    for char in text:
        if char.isdecimal() and digits:
            seconds += char
            continue
        digits = char == "t"
        if digits:
            seconds = ""
        letters.add(char)
    return frozenset(letters - {"t"}), int(seconds or 0) or DEFAULT_SESSION_SECONDS
