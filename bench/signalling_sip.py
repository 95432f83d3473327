"""Hundreds of callers behind one UDP port: INVITE, ACK, BYE, with the retransmissions of RFC 3261. No I/O.

They have done nothing but what is needed to be in a call: no authentication, no provisional that must be acknowledged
(RFC 3262), and whatever the target asks for in a call is granted.
"""

from __future__ import annotations

import heapq
import itertools
import re
from collections.abc import Mapping, Sequence
from math import inf
from typing import Final

import attrs

from bench.signalling import HOST, Address, Answered, Effect, Ended, HungUp, Law, Ready, Refused, Send, offer, remote_of

T1: Final = 0.5  # RFC 3261 section 17.1.1.1
T2: Final = 4.0
PATIENCE: Final = 64 * T1  # timers B and F
PROBE_SECONDS: Final = 0.1  # between two OPTIONS at the start
COMPACT: Final = {"v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "l": "content-length"}
ALLOW: Final = "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, INFO, NOTIFY"


@attrs.frozen
class Message:
    """A request or response; names of fields are in small letters, long form."""

    start: str
    fields: Mapping[str, Sequence[str]]
    body: str

    def first(self, name: str) -> str:
        """The value of the first such field, empty without one."""
        return self.fields.get(name, [""])[0]

    @property
    def branch(self) -> str:
        """Of the topmost Via."""
        return parameter(self.first("via"), "branch")


@attrs.define(eq=False)
class Dialog:
    """One call, seen from its caller."""

    number: int
    call_id: str
    tag: str
    sdp: str
    target: str  # Request-URI of what comes next
    began: float
    cseq: int = 1
    to: str = ""
    routes: Sequence[str] = ()
    ack: bytes = b""  # the last one, sent again when the final answer comes again
    answered: bool = False
    given_up: bool = False


@attrs.define(eq=False)
class Transaction:
    """A request of ours that waits for its answer."""

    dialog: Dialog
    method: str
    data: bytes
    interval: float
    due: float
    given_up_at: float


class SipCallers:
    """The machine. Calls go to `sip:1000@target`.

    Args:
      target: where the target listens.
      port: our own, for Via and Contact.
      law: what is offered.
      life: tells apart the calls of two runs: part of every Call-ID, tag and branch.
    """

    def __init__(self, target: Address, port: int, law: Law = "PCMU", life: str = "0") -> None:
        self._target, self._port, self._law, self._life = target, port, law, life
        self._uri = f"sip:1000@{target[0]}:{target[1]}"
        self._dialogs: dict[str, Dialog] = {}
        self._calls: dict[int, Dialog] = {}
        self._waiting: dict[str, Transaction] = {}
        self._due: list[tuple[float, int, str]] = []  # a heap: when, order, branch
        self._names = itertools.count()
        self._probe_at = -inf
        self._probe = Dialog(-1, f"probe-{life}@bench", "probe", "", self._uri, 0.0)

    # The outside

    @property
    def deadline(self) -> float:
        return min(self._probe_at, self._due[0][0] if self._due else inf)

    def begin(self, number: int, rtp_port: int, now: float) -> list[Effect]:
        name = f"{self._life}-{next(self._names)}"
        dialog = Dialog(number, f"{name}@bench", f"f{name}", offer(number, rtp_port, self._law), self._uri, now)
        self._dialogs[dialog.call_id] = self._calls[number] = dialog
        return self._request(dialog, "INVITE", now, dialog.sdp)

    def end(self, number: int, now: float) -> list[Effect]:
        dialog = self._calls.get(number)
        if dialog is None or not dialog.answered:
            return []
        del self._calls[number]
        dialog.cseq += 1
        return self._request(dialog, "BYE", now)

    def receive(self, data: bytes, source: Address | None, now: float) -> list[Effect]:
        message = read_message(data)
        if message.start.startswith("SIP/2.0 "):
            return self._response(message, int(message.start.split()[1]), now)
        return self._asked(message, source)

    def expire(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        if now >= self._probe_at:
            self._probe_at = now + PROBE_SECONDS
            self._probe.cseq += 1
            effects.append(self._send(self._written(self._probe, "OPTIONS", f"z9hG4bKprobe{self._probe.cseq}")))
        while self._due and self._due[0][0] <= now:
            due, _, branch = heapq.heappop(self._due)
            transaction = self._waiting.get(branch)
            if transaction is not None and transaction.due == due:
                effects += self._repeat(branch, transaction, now)
        return effects

    # What we ask

    def _request(self, dialog: Dialog, method: str, now: float, body: str = "") -> list[Effect]:
        branch = f"z9hG4bK{self._life}-{next(self._names)}"
        data = self._written(dialog, method, branch, body)
        transaction = Transaction(dialog, method, data, T1, now + T1, now + PATIENCE)
        self._waiting[branch] = transaction
        self._wait(branch, transaction)
        return [self._send(data)]

    def _wait(self, branch: str, transaction: Transaction) -> None:
        heapq.heappush(self._due, (transaction.due, next(self._names), branch))

    def _repeat(self, branch: str, transaction: Transaction, now: float) -> list[Effect]:
        """Timers A and E; B and F at the end."""
        if now >= transaction.given_up_at:
            del self._waiting[branch]
            return self._give_up(transaction)
        is_invite = transaction.method == "INVITE"
        transaction.interval = 2 * transaction.interval if is_invite else min(T2, 2 * transaction.interval)
        transaction.due = min(now + transaction.interval, transaction.given_up_at)
        self._wait(branch, transaction)
        return [self._send(transaction.data)]

    def _give_up(self, transaction: Transaction) -> list[Effect]:
        dialog = transaction.dialog
        if transaction.method == "INVITE":
            dialog.given_up = True
            self._forget(dialog.number, dialog)
            return [Refused(dialog.number, "no final answer")]
        self._dialogs.pop(dialog.call_id, None)
        return [Ended(dialog.number, f"no answer to {transaction.method}")]

    def _forget(self, number: int, dialog: Dialog) -> None:
        """The number's call is over, unless it is another one already."""
        if self._calls.get(number) is dialog:
            del self._calls[number]

    def _written(self, dialog: Dialog, method: str, branch: str, body: str = "") -> bytes:
        lines = [
            f"{method} {dialog.target} SIP/2.0",
            f"Via: SIP/2.0/UDP {HOST}:{self._port};branch={branch};rport",
            *(f"Route: {route}" for route in dialog.routes),
            "Max-Forwards: 70",
            f'From: "Caller {dialog.number}" <sip:{10_000 + dialog.number}@{HOST}>;tag={dialog.tag}',
            f"To: {dialog.to or f'<sip:1000@{self._target[0]}>'}",
            f"Call-ID: {dialog.call_id}",
            f"CSeq: {dialog.cseq if method != 'ACK' else 1} {method}",
            f"Contact: <sip:{HOST}:{self._port}>",
            f"Allow: {ALLOW}",
            *content(body),
        ]
        return written(lines, body)

    def _send(self, data: bytes) -> Send:
        return Send(data, self._target)

    # What is answered

    def _response(self, message: Message, status: int, now: float) -> list[Effect]:
        method = message.first("cseq").partition(" ")[2].strip()
        if method == "OPTIONS":
            if status >= 500 or self._probe_at == inf:
                return []
            self._probe_at = inf
            return [Ready()]
        transaction = self._waiting.get(message.branch)
        if status < 200:
            if transaction is not None and method == "INVITE":  # timer A ends, timer B would, but callers hang up
                transaction.due = transaction.given_up_at
                self._wait(message.branch, transaction)
            return []
        self._waiting.pop(message.branch, None)
        if method == "INVITE":
            return self._invited(message, status, transaction, now)
        if transaction is None:
            return []
        self._dialogs.pop(transaction.dialog.call_id, None)
        return [Ended(transaction.dialog.number, "" if status < 300 else message.start)]

    def _invited(self, message: Message, status: int, transaction: Transaction | None, now: float) -> list[Effect]:
        """A final answer to an INVITE, the first or one of its copies (RFC 3261 section 13.2.2.4)."""
        dialog = self._dialogs.get(message.first("call-id"))
        if dialog is None:
            return []
        if dialog.ack:
            return [self._send(dialog.ack)]
        dialog.to = message.first("to")
        if status >= 300:
            dialog.ack = self._written(dialog, "ACK", message.branch)  # of the same transaction: section 17.1.1.3
            self._forget(dialog.number, dialog)
            told: list[Effect] = [] if dialog.given_up else [Refused(dialog.number, message.start)]
            return [self._send(dialog.ack), *told]
        contact = re.search(r"<([^>]+)>", message.first("contact"))
        dialog.target = contact[1] if contact else dialog.target
        dialog.routes = tuple(reversed(message.fields.get("record-route", [])))
        dialog.ack = self._written(dialog, "ACK", f"z9hG4bK{self._life}-{next(self._names)}")
        return [self._send(dialog.ack), *self._answered(dialog, message, now)]

    def _answered(self, dialog: Dialog, message: Message, now: float) -> list[Effect]:
        remote = remote_of(message.body)
        if remote is None or dialog.given_up:
            self._forget(dialog.number, dialog)
            dialog.cseq += 1
            bye = self._written(dialog, "BYE", f"z9hG4bK{self._life}-{next(self._names)}")
            told: list[Effect] = [] if dialog.given_up else [Refused(dialog.number, "an answer without audio")]
            return [self._send(bye), *told]
        dialog.answered = True
        return [Answered(dialog.number, remote, now - dialog.began)]

    # What we are asked

    def _asked(self, message: Message, source: Address | None) -> list[Effect]:
        method = message.start.partition(" ")[0]
        if method == "ACK":
            return []
        dialog = self._dialogs.get(message.first("call-id"))
        sdp = dialog.sdp if dialog is not None and (method == "INVITE" or (method == "UPDATE" and message.body)) else ""
        status = "481 Call/Transaction Does Not Exist" if dialog is None else "200 OK"
        lines = [f"SIP/2.0 {status}", *(f"Via: {via}" for via in message.fields.get("via", []))]
        lines += [f"{name}: {message.first(name.lower())}" for name in ("From", "To", "Call-ID", "CSeq")]
        lines += [f"Contact: <sip:{HOST}:{self._port}>", f"Allow: {ALLOW}", *content(sdp)]
        effects: list[Effect] = [Send(written(lines, sdp), source)]
        if method == "BYE" and dialog is not None and self._calls.get(dialog.number) is dialog:
            del self._calls[dialog.number]
            effects.append(HungUp(dialog.number))
        return effects


def read_message(data: bytes) -> Message:
    """One SIP message; whoever sends it is the program that is measured, so nothing is checked."""
    head, _, body = data.decode("utf-8", "replace").partition("\r\n\r\n")
    start, *lines = head.split("\r\n")
    fields: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name = name.strip().lower()
        fields.setdefault(COMPACT.get(name, name), []).append(value.strip())
    return Message(start, fields, body)


def content(body: str) -> list[str]:
    """The header fields of a body."""
    kind = ["Content-Type: application/sdp"] if body else []
    return [*kind, f"Content-Length: {len(body.encode())}"]


def written(lines: Sequence[str], body: str) -> bytes:
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def parameter(value: str, name: str) -> str:
    """Of a header field, empty without one."""
    found = re.search(rf";\s*{name}=([^;,\s]+)", value)
    return found[1] if found else ""
