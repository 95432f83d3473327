"""Requests of ours until they are answered: RFC 3261 section 17.1, with section 9.1 for an INVITE that is cancelled."""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf
from typing import Final, Protocol

import attrs
import trio

from aivc import logs
from aivc.sip.address import format_host_port
from aivc.sip.flow import Flow
from aivc.sip.message import Request, Response
from aivc.sip.timers import Timers
from aivc.sip.transaction import TIMEOUT, Do, Input, State, Transaction, ack_of_failure, cancel_of, receiving

log = logging.getLogger("aivc.sip")

FLOW_CHECK: Final = 0.5  # seconds between two looks at a connection: T1, what an unreliable request is resent after
MAX_FORKS: Final = 32  # of one INVITE that may be answered with 2xx; a proxy that forks further takes its own care

Report = Callable[[Response | None], None]


class Owner(Protocol):
    """The transaction layer, as a client transaction needs it."""

    @property
    def timers(self) -> Timers: ...

    def settle(self, transaction: ClientTransaction) -> None: ...

    def send(self, request: Request, flow: Flow) -> ClientTransaction: ...


@attrs.define(eq=False, repr=False)
class ClientTransaction:
    """One request of ours. `done` is set by the final response, by silence and by the loss of the connection.

    Attributes:
      response: the final one; None until then, and when none came.
      lost: it could not be delivered: there is no connection.
      report: called with it in the same step, so that what the peer sends next finds it known.
    """

    request: Request
    flow: Flow
    machine: Transaction
    layer: Owner
    report: Report | None = None
    response: Response | None = attrs.field(default=None, init=False)
    lost: bool = attrs.field(default=False, init=False)
    done: trio.Event = attrs.field(factory=trio.Event, init=False)
    key: tuple[str, str] = attrs.field(init=False)
    _octets: bytes = attrs.field(init=False)
    _flow_check: float = attrs.field(default=inf, init=False)  # when to look next whether the connection is there

    def __attrs_post_init__(self) -> None:
        self.key = self.request.via.branch or "", self.request.method
        self._octets = bytes(self.request)

    @property
    def deadline(self) -> float:
        check = self._flow_check if self.machine.takes(Input.CONNECTION_LOST) else inf
        return min(self.machine.deadline, check)

    def start(self) -> None:
        """Send it first."""
        if self.flow.transport != "UDP":
            self._flow_check = trio.current_time()
        self._handle(Input.REQUEST)

    def receive(self, response: Response) -> None:
        self._handle(receiving(response.status), response)

    def expire(self, now: float) -> None:
        effects: list[Do] = []
        if now >= self._flow_check:
            self._flow_check = now + FLOW_CHECK
            if not self.flow.is_open:
                effects += self.machine.handle(Input.CONNECTION_LOST, now)
        self._perform([*effects, *self.machine.expire(now)])

    def _handle(self, event: Input, response: Response | None = None) -> None:
        self._perform(self.machine.handle(event, trio.current_time()), response)

    def _perform(self, effects: list[Do], response: Response | None = None) -> None:
        self.layer.settle(self)
        for effect in effects:
            if effect is Do.SEND:
                self.flow.send_nowait(self._octets)
            elif effect is Do.SEND_ACK and response is not None:
                self.flow.send_nowait(bytes(ack_of_failure(self.request, response)))
            elif effect is Do.PASS and response is not None:
                self._pass(response)
            elif effect in (Do.REPORT_TIMEOUT, Do.REPORT_LOSS):
                self.lost = effect is Do.REPORT_LOSS
                event, to = "sip.unreachable" if self.lost else "sip.unanswered", format_host_port(*self.flow.peer)
                logs.event(log, event, call_id=self.request.call_id, method=self.request.method, to=to)
                self._finish(None)

    def _pass(self, response: Response) -> None:
        if response.status >= 200:
            self._finish(response)

    def _finish(self, response: Response | None) -> None:
        self.response = response
        self.done.set()
        self._tell(response)
        self.report = None  # nothing comes after it; and who asked knows us

    def _tell(self, response: Response | None) -> None:
        if self.report is not None:
            self.report(response)


@attrs.define(eq=False, repr=False)
class InviteTransaction(ClientTransaction):
    """An INVITE of ours, and what is owed to its responses for 64*T1 after the first 2xx (RFC 6026 section 7.2).

    `report` is called with every provisional response, with the first 2xx of every fork, and with the failure; with
    None when there is no final response to come. `done` and `response` tell of the first final response.
    """

    _acks: dict[str, tuple[Flow, bytes] | None] = attrs.field(factory=dict, init=False)  # by To tag of the 2xx
    _cancelled: tuple[tuple[str, str], ...] | None = attrs.field(default=None, init=False)  # fields of the CANCEL
    _gives_up: float = attrs.field(default=inf, init=False)

    @property
    def deadline(self) -> float:
        return min(super().deadline, self._gives_up if self.machine.takes(Input.GIVE_UP) else inf)

    @property
    def is_cancelled(self) -> bool:
        return self._cancelled is not None

    def acknowledge(self, ack: Request, flow: Flow) -> None:
        """Send the ACK for a 2xx, and again each time that the 2xx comes again (RFC 3261 section 13.2.2.4)."""
        data = bytes(ack)
        self._acks[ack.to.tag or ""] = flow, data
        flow.send_nowait(data)

    def cancel(self, fields: tuple[tuple[str, str], ...] = ()) -> None:
        """Send CANCEL, as soon as there is a provisional response; no effect after a final one (section 9.1).

        A 2xx may still come and be reported. Without any final response it is over 64*T1 after the CANCEL.
        """
        if self._cancelled is None:
            self._cancelled = fields
            self._send_cancel()

    def expire(self, now: float) -> None:
        if now >= self._gives_up:
            self._gives_up = inf
            self._perform(self.machine.handle(Input.GIVE_UP, now))
        super().expire(now)

    def _send_cancel(self) -> None:
        if self._cancelled is None or self._gives_up < inf or self.machine.state is not State.PROCEEDING:
            return
        self._gives_up = trio.current_time() + TIMEOUT
        self.layer.send(cancel_of(self.request, self._cancelled), self.flow)
        self.layer.timers.watch(self)

    def _pass(self, response: Response) -> None:
        if response.status < 200:
            self._send_cancel()
            self._tell(response)
        elif response.status >= 300:
            self._finish(response)
        else:
            self._accept(response)

    def _accept(self, response: Response) -> None:
        tag = response.to.tag or ""
        if tag not in self._acks:
            if len(self._acks) >= MAX_FORKS:
                logs.event(log, "sip.too_many_forks", level=logging.WARNING, call_id=self.request.call_id)
                return
            self._acks[tag] = None
            if not self.done.is_set():
                self.response = response
                self.done.set()
            self._tell(response)
            return
        acknowledged = self._acks[tag]
        if acknowledged is not None:
            flow, data = acknowledged
            flow.send_nowait(data)
