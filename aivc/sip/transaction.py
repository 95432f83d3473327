"""Transactions: RFC 3261 section 17 as corrected by RFC 6026. Tables, no I/O and no clock.

The owner says what happened and when, and gets back what to do. Every method that may change the state returns its
effects, so none can be left behind in a queue.

INVITE server (17.2.1, RFC 6026 section 7.1)

                 | INVITE
                 V
   1xx: send +-Proceeding-+ 2xx: send          3xx-6xx: send, G, H
             +---+    +---------> Accepted     +---------> Completed --ACK--> Confirmed
                      |            | L           |  | G: resend               | I
                      +------------V-------------+  +-H-> Terminated <--------+

INVITE client (17.1.1, RFC 6026 section 7.2)

   INVITE: send, A, B         300-699: ack, pass, D
   A: resend +-Calling----+------------> Completed --D--> Terminated    300-699 again: ack
             +--- |  | B, lost: report --> Terminated
              1xx |  |    |
                  V  |    | 2xx: pass, M
         Proceeding -+    +------------> Accepted ---M--> Terminated    every 2xx: pass
    more 1xx: pass

non-INVITE server (17.2.2)                        non-INVITE client (17.1.2)

   request --> Trying --1xx: send--> Proceeding     send, E, F --> Trying --1xx--> Proceeding   E: resend (both)
                 | final: send, J        |                           | final: pass, K  |        F: report (both)
                 +-----> Completed <-----+                           +--> Completed <--+
                           | J --> Terminated                               | K --> Terminated
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from math import inf
from typing import Final

import attrs

from aivc.sip.address import MAGIC_COOKIE
from aivc.sip.message import Headers, Request, Response

T1: Final = 0.5  # seconds: round-trip estimate, RFC 3261 table 4
T2: Final = 4.0  # seconds: longest interval between retransmissions
T4: Final = 5.0  # seconds: longest time a message stays in the network
TIMEOUT: Final = 64 * T1  # seconds: timers B, D, F, H, J, L and M


class State(enum.Enum):
    CALLING = enum.auto()
    TRYING = enum.auto()
    PROCEEDING = enum.auto()
    ACCEPTED = enum.auto()
    COMPLETED = enum.auto()
    CONFIRMED = enum.auto()
    TERMINATED = enum.auto()


class Input(enum.Enum):
    REQUEST = enum.auto()  # a retransmission: the first one created this machine
    ACK = enum.auto()
    SEND_1XX = enum.auto()
    SEND_2XX = enum.auto()
    SEND_FAILURE = enum.auto()  # 300 to 699
    RECEIVE_1XX = enum.auto()
    RECEIVE_2XX = enum.auto()
    RECEIVE_FAILURE = enum.auto()  # 300 to 699
    CONNECTION_LOST = enum.auto()  # what we send cannot arrive (17.1.4)
    GIVE_UP = enum.auto()  # a cancelled INVITE is not waited for any longer (9.1)
    TIMER_A = enum.auto()  # resend the INVITE
    TIMER_B = enum.auto()  # give up waiting for any response to it
    TIMER_D = enum.auto()  # stop acknowledging failures
    TIMER_E = enum.auto()  # resend the request
    TIMER_F = enum.auto()  # give up waiting for a final response
    TIMER_G = enum.auto()  # resend the failure
    TIMER_H = enum.auto()  # give up waiting for the ACK
    TIMER_I = enum.auto()  # stop absorbing ACKs
    TIMER_J = enum.auto()  # stop absorbing requests
    TIMER_K = enum.auto()  # stop absorbing responses
    TIMER_L = enum.auto()  # stop absorbing INVITEs after a 2xx
    TIMER_M = enum.auto()  # stop waiting for 2xx of other forks


class Do(enum.Enum):
    SEND = enum.auto()  # the last message of ours
    PASS = enum.auto()  # what came in goes to the transaction user
    SEND_ACK = enum.auto()  # for the failure that came in
    REPORT_TIMEOUT = enum.auto()  # to the transaction user: the peer fell silent
    REPORT_LOSS = enum.auto()  # to the transaction user: the peer cannot be reached
    START_AB = enum.auto()
    BACK_OFF_A = enum.auto()
    START_D = enum.auto()
    START_EF = enum.auto()
    BACK_OFF_E = enum.auto()
    SLOW_E = enum.auto()
    START_GH = enum.auto()
    BACK_OFF_G = enum.auto()
    START_I = enum.auto()
    START_J = enum.auto()
    START_K = enum.auto()
    START_L = enum.auto()
    START_M = enum.auto()


S, On, D = State, Input, Do
Table = Mapping[tuple[State, Input], tuple[State, tuple[Do, ...]]]

# Every legal transition stands in its table; a pair that is missing is absorbed without effect.
INVITE_SERVER: Final[Table] = {
    (S.PROCEEDING, On.REQUEST): (S.PROCEEDING, (D.SEND,)),
    (S.PROCEEDING, On.SEND_1XX): (S.PROCEEDING, (D.SEND,)),
    (S.PROCEEDING, On.SEND_2XX): (S.ACCEPTED, (D.SEND, D.START_L)),
    (S.PROCEEDING, On.SEND_FAILURE): (S.COMPLETED, (D.SEND, D.START_GH)),
    # RFC 6026 section 7.1: the transaction does not resend a 2xx on its own; its user does, through SEND_2XX
    (S.ACCEPTED, On.SEND_2XX): (S.ACCEPTED, (D.SEND,)),
    (S.ACCEPTED, On.ACK): (S.ACCEPTED, (D.PASS,)),
    (S.ACCEPTED, On.TIMER_L): (S.TERMINATED, ()),
    (S.COMPLETED, On.REQUEST): (S.COMPLETED, (D.SEND,)),
    (S.COMPLETED, On.TIMER_G): (S.COMPLETED, (D.SEND, D.BACK_OFF_G)),
    (S.COMPLETED, On.TIMER_H): (S.TERMINATED, (D.REPORT_TIMEOUT,)),
    (S.COMPLETED, On.ACK): (S.CONFIRMED, (D.START_I,)),
    (S.CONFIRMED, On.TIMER_I): (S.TERMINATED, ()),
}

INVITE_CLIENT: Final[Table] = {
    (S.CALLING, On.REQUEST): (S.CALLING, (D.SEND, D.START_AB)),  # the INVITE itself, from our side
    (S.CALLING, On.TIMER_A): (S.CALLING, (D.SEND, D.BACK_OFF_A)),
    (S.CALLING, On.TIMER_B): (S.TERMINATED, (D.REPORT_TIMEOUT,)),
    (S.CALLING, On.CONNECTION_LOST): (S.TERMINATED, (D.REPORT_LOSS,)),
    (S.CALLING, On.RECEIVE_1XX): (S.PROCEEDING, (D.PASS,)),
    (S.CALLING, On.RECEIVE_2XX): (S.ACCEPTED, (D.PASS, D.START_M)),
    (S.CALLING, On.RECEIVE_FAILURE): (S.COMPLETED, (D.SEND_ACK, D.PASS, D.START_D)),
    # No timer runs here: its user decides how long it rings. A lost connection is no end, the response may come by
    # another one (18.2.2).
    (S.PROCEEDING, On.GIVE_UP): (S.TERMINATED, (D.REPORT_TIMEOUT,)),
    (S.PROCEEDING, On.RECEIVE_1XX): (S.PROCEEDING, (D.PASS,)),
    (S.PROCEEDING, On.RECEIVE_2XX): (S.ACCEPTED, (D.PASS, D.START_M)),
    (S.PROCEEDING, On.RECEIVE_FAILURE): (S.COMPLETED, (D.SEND_ACK, D.PASS, D.START_D)),
    # RFC 6026 section 7.2: every 2xx of every fork goes to the user, who acknowledges it
    (S.ACCEPTED, On.RECEIVE_2XX): (S.ACCEPTED, (D.PASS,)),
    (S.ACCEPTED, On.TIMER_M): (S.TERMINATED, ()),
    (S.COMPLETED, On.RECEIVE_FAILURE): (S.COMPLETED, (D.SEND_ACK,)),
    (S.COMPLETED, On.CONNECTION_LOST): (S.TERMINATED, ()),  # its user has the failure already
    (S.COMPLETED, On.TIMER_D): (S.TERMINATED, ()),
}

NON_INVITE_SERVER: Final[Table] = {
    (S.TRYING, On.SEND_1XX): (S.PROCEEDING, (D.SEND,)),
    (S.TRYING, On.SEND_2XX): (S.COMPLETED, (D.SEND, D.START_J)),
    (S.TRYING, On.SEND_FAILURE): (S.COMPLETED, (D.SEND, D.START_J)),
    (S.PROCEEDING, On.REQUEST): (S.PROCEEDING, (D.SEND,)),
    (S.PROCEEDING, On.SEND_1XX): (S.PROCEEDING, (D.SEND,)),
    (S.PROCEEDING, On.SEND_2XX): (S.COMPLETED, (D.SEND, D.START_J)),
    (S.PROCEEDING, On.SEND_FAILURE): (S.COMPLETED, (D.SEND, D.START_J)),
    (S.COMPLETED, On.REQUEST): (S.COMPLETED, (D.SEND,)),
    (S.COMPLETED, On.TIMER_J): (S.TERMINATED, ()),
}

NON_INVITE_CLIENT: Final[Table] = {
    (S.TRYING, On.REQUEST): (S.TRYING, (D.SEND, D.START_EF)),  # the request itself, from our side
    (S.TRYING, On.TIMER_E): (S.TRYING, (D.SEND, D.BACK_OFF_E)),
    (S.TRYING, On.TIMER_F): (S.TERMINATED, (D.REPORT_TIMEOUT,)),
    (S.TRYING, On.RECEIVE_1XX): (S.PROCEEDING, (D.PASS, D.SLOW_E)),
    (S.TRYING, On.CONNECTION_LOST): (S.TERMINATED, (D.REPORT_LOSS,)),
    (S.TRYING, On.RECEIVE_2XX): (S.COMPLETED, (D.PASS, D.START_K)),
    (S.TRYING, On.RECEIVE_FAILURE): (S.COMPLETED, (D.PASS, D.START_K)),
    (S.PROCEEDING, On.TIMER_E): (S.PROCEEDING, (D.SEND, D.SLOW_E)),
    (S.PROCEEDING, On.TIMER_F): (S.TERMINATED, (D.REPORT_TIMEOUT,)),
    (S.PROCEEDING, On.RECEIVE_1XX): (S.PROCEEDING, (D.PASS,)),
    (S.PROCEEDING, On.CONNECTION_LOST): (S.TERMINATED, (D.REPORT_LOSS,)),
    (S.PROCEEDING, On.RECEIVE_2XX): (S.COMPLETED, (D.PASS, D.START_K)),
    (S.PROCEEDING, On.RECEIVE_FAILURE): (S.COMPLETED, (D.PASS, D.START_K)),
    (S.COMPLETED, On.TIMER_K): (S.TERMINATED, ()),
}

# Timers that belong to one state only; F outlives the step from Trying to Proceeding.
STATE_TIMERS: Final = {
    S.CALLING: frozenset({On.TIMER_A, On.TIMER_B}),
    S.TRYING: frozenset({On.TIMER_E, On.TIMER_F}),
    S.PROCEEDING: frozenset({On.TIMER_E, On.TIMER_F}),
    S.ACCEPTED: frozenset({On.TIMER_L, On.TIMER_M}),
    S.COMPLETED: frozenset({On.TIMER_D, On.TIMER_G, On.TIMER_H, On.TIMER_J, On.TIMER_K}),
    S.CONFIRMED: frozenset({On.TIMER_I}),
    S.TERMINATED: frozenset[Input](),
}
ENDING_TIMERS: Final = (On.TIMER_B, On.TIMER_F, On.TIMER_H)


@attrs.define
class Transaction:
    """One machine.

    Args:
      table: what it does.
      state: where it begins.
      reliable: True over TCP and TLS, where nothing is resent and nothing waits for stragglers.
    """

    table: Table
    state: State
    reliable: bool = False
    _timers: dict[Input, float] = attrs.field(factory=dict, init=False)  # due times, seconds on the owner's clock
    _interval: float = attrs.field(default=T1, init=False)  # of timer A, E or G

    @property
    def deadline(self) -> float:
        """When `expire` must next be called; inf when no timer runs."""
        return min(self._timers.values(), default=inf)

    def takes(self, event: Input) -> bool:
        """False when `event` would be absorbed without effect."""
        return (self.state, event) in self.table

    def handle(self, event: Input, now: float) -> list[Do]:
        """Take one event; return what the owner must do, in order."""
        move = self.table.get((self.state, event))
        if move is None:
            return []
        self.state, actions = move
        self._timers = {timer: due for timer, due in self._timers.items() if timer in STATE_TIMERS[self.state]}
        return [action for action in actions if not self._starts_timer(action, now)]

    def expire(self, now: float) -> list[Do]:
        """Fire every timer due at `now`, earliest first; of two at once the one that ends the transaction."""
        effects: list[Do] = []
        while self.deadline <= now:
            timer = min(self._timers, key=lambda name: (self._timers[name], name not in ENDING_TIMERS))
            del self._timers[timer]
            effects += self.handle(timer, now)
        return effects

    def _starts_timer(self, action: Do, now: float) -> bool:
        linger = 0.0 if self.reliable else 1.0
        match action:
            case Do.START_AB:
                self._start(On.TIMER_B, now + TIMEOUT)
                self._resend_at(On.TIMER_A, now + self._interval)
            case Do.BACK_OFF_A:
                self._interval *= 2  # 17.1.1.2: T2 is no limit here, timer B is
                self._resend_at(On.TIMER_A, now + self._interval)
            case Do.START_D:
                self._start(On.TIMER_D, now + TIMEOUT * linger)
            case Do.START_EF:
                self._start(On.TIMER_F, now + TIMEOUT)
                self._resend_at(On.TIMER_E, now + self._interval)
            case Do.BACK_OFF_E:
                self._interval = min(2 * self._interval, T2)
                self._resend_at(On.TIMER_E, now + self._interval)
            case Do.SLOW_E:
                self._resend_at(On.TIMER_E, now + T2)
            case Do.START_GH:
                self._start(On.TIMER_H, now + TIMEOUT)
                self._resend_at(On.TIMER_G, now + self._interval)
            case Do.BACK_OFF_G:
                self._interval = min(2 * self._interval, T2)
                self._resend_at(On.TIMER_G, now + self._interval)
            case Do.START_I:
                self._start(On.TIMER_I, now + T4 * linger)
            case Do.START_J:
                self._start(On.TIMER_J, now + TIMEOUT * linger)
            case Do.START_K:
                self._start(On.TIMER_K, now + T4 * linger)
            case Do.START_L:
                self._start(On.TIMER_L, now + TIMEOUT)
            case Do.START_M:
                self._start(On.TIMER_M, now + TIMEOUT)
            case Do.SEND | Do.PASS | Do.SEND_ACK | Do.REPORT_TIMEOUT | Do.REPORT_LOSS:
                return False
        return True

    def _start(self, timer: Input, due: float) -> None:
        self._timers[timer] = due

    def _resend_at(self, timer: Input, due: float) -> None:
        if not self.reliable:
            self._timers[timer] = due


def server_transaction(method: str, *, reliable: bool = False) -> Transaction:
    """The machine for a request that came in."""
    if method == "INVITE":
        return Transaction(INVITE_SERVER, State.PROCEEDING, reliable)
    return Transaction(NON_INVITE_SERVER, State.TRYING, reliable)


def client_transaction(method: str, *, reliable: bool = False) -> Transaction:
    """The machine for a request of ours; `handle(Input.REQUEST)` sends it first."""
    if method == "INVITE":
        return Transaction(INVITE_CLIENT, State.CALLING, reliable)
    return Transaction(NON_INVITE_CLIENT, State.TRYING, reliable)


def sending(status: int) -> Input:
    """The input that a response of ours is."""
    if status < 200:
        return Input.SEND_1XX
    return Input.SEND_2XX if status < 300 else Input.SEND_FAILURE


def receiving(status: int) -> Input:
    """The input that a peer's response is."""
    if status < 200:
        return Input.RECEIVE_1XX
    return Input.RECEIVE_2XX if status < 300 else Input.RECEIVE_FAILURE


def ack_of_failure(invite: Request, response: Response) -> Request:
    """The ACK for a 300 to 699: a part of the INVITE's transaction, RFC 3261 section 17.1.1.3."""
    return of_the_transaction(invite, "ACK", to=response.header("To"))


def cancel_of(invite: Request, extra: Iterable[tuple[str, str]] = ()) -> Request:
    """The CANCEL for an INVITE of ours, RFC 3261 section 9.1."""
    return of_the_transaction(invite, "CANCEL", to=invite.header("To"), extra=extra)


def of_the_transaction(invite: Request, method: str, *, to: str, extra: Iterable[tuple[str, str]] = ()) -> Request:
    """A request with the branch, the CSeq number and the route of an INVITE of ours."""
    headers = [
        ("Via", str(invite.via)),
        ("Max-Forwards", invite.header("Max-Forwards")),
        ("From", invite.header("From")),
        ("To", to),
        ("Call-ID", invite.call_id),
        ("CSeq", f"{invite.cseq.number} {method}"),
        *(("Route", value) for value in invite.headers.lines("Route")),
        *extra,
    ]
    return Request(method=method, target=invite.target, headers=Headers(tuple(headers)))


def server_key(request: Request, method: str | None = None) -> tuple[str, ...]:
    """What tells server transactions apart, RFC 3261 section 17.2.3; an ACK has the key of its INVITE.

    Args:
      method: look for a transaction of this method instead (CANCEL looks for INVITE).
    """
    method = method or ("INVITE" if request.method == "ACK" else request.method)
    via = request.via
    sent_by = f"{via.host.lower()}:{via.port}"
    if via.branch and via.branch.startswith(MAGIC_COOKIE) and via.branch != MAGIC_COOKIE:
        return via.branch, sent_by, method
    # RFC 2543 peers and a branch that is the bare cookie: the branch alone proves nothing
    number, tag = str(request.cseq.number), request.sender.tag or ""
    return via.branch or "", sent_by, method, request.target, tag, request.call_id, number


def merge_key(request: Request) -> tuple[str, ...] | None:
    """What two copies of one request share that took different ways (RFC 3261 section 8.2.2.2)."""
    tag = request.sender.tag
    if tag is None or request.to.tag is not None:
        return None
    return tag, request.call_id, str(request.cseq)
