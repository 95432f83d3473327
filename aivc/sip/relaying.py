"""The process that owns the sockets of several workers: it reads of each message whose it is, and passes it on.

Why not SO_REUSEPORT: the system would choose by address and port, so that all calls of one proxy, one connection or one
trunk came to one worker, and a request of a dialog that comes from another port, to one who does not know the dialog.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.config.settings import SipSettings
from aivc.sip.accounts import Accounts
from aivc.sip.amplification import MAX_AMPLIFICATION
from aivc.sip.connections import Connection
from aivc.sip.counters import Counters
from aivc.sip.datagrams import DatagramFlow, DatagramSocket
from aivc.sip.flow import Arrival, Flow, Transport
from aivc.sip.framing import read_untrusted_head
from aivc.sip.log_pace import LogPace
from aivc.sip.message import ParseError, Response, parse_untrusted
from aivc.sip.pool import ConnectionPool, Seldom
from aivc.sip.refusals import Cause, RefusalCounts
from aivc.sip.registrant import Registrant
from aivc.sip.registration import RegistrationStatus
from aivc.sip.relay import Closed, Datagram, Frame, Identities, Link, Open, Say, Streamed
from aivc.sip.sources import Sources
from aivc.sip.spreading import PARENT, NotSpreadable, Spreading, mark_of, read_untrusted_envelope
from aivc.sip.stateless import stateless_answer
from aivc.sip.timers import Timers
from aivc.sip.transaction_layer import TransactionLayer
from aivc.sip.transport import SocketTransports, open_transports, shelter
from aivc.sip.useragent import LEAVE_SECONDS, SYSTEM_RANDOMNESS, identity_of, random_token

log = logging.getLogger("aivc.sip")

NO_WORKER: Final = "no worker runs"
NEWS_SECONDS: Final = 1.0  # between two looks at who we are where


@attrs.define
class RelayCounters:
    """What became of messages beside those that were passed on."""

    relayed: int = 0
    unspreadable: int = 0  # no SIP, or a response without Via: dropped
    ownerless: int = 0  # nobody runs who could have them: requests are answered 503
    stray: int = 0  # responses to requests that none of us has made, or only one who is gone: dropped


@attrs.define(eq=False, repr=False)
class Line:
    """The way to one worker, and the numbers by which it knows connections."""

    link: Link
    connections: dict[int, Connection] = attrs.field(factory=dict, init=False)
    numbers: dict[Connection, int] = attrs.field(factory=dict, init=False)
    used: frozenset[int] = attrs.field(default=frozenset(), init=False)  # that its calls need
    _last: int = attrs.field(default=0, init=False)

    def number_of(self, connection: Connection) -> int:
        """A new number if it has none yet."""
        number = self.numbers.get(connection)
        if number is None:
            self._last += 1
            number = self._last
            self.keep(number, connection)
        return number

    def keep(self, number: int, connection: Connection) -> None:
        self.connections[number] = connection
        self.numbers.setdefault(connection, number)

    def forget(self, connection: Connection) -> list[int]:
        """The numbers that it had."""
        if self.numbers.pop(connection, None) is None:
            return []
        gone = [number for number, known in self.connections.items() if known is connection]
        for number in gone:
            del self.connections[number]
        return gone


@attrs.define(eq=False, repr=False)
class Relaying:
    """Messages between the sockets and the workers; a `Relay`. Never waits for a worker. Built by `open_relaying`.

    Attributes:
      refusals: how often requests were refused, by `Cause`.
      layer: of our own requests: REGISTER. Set when there are sockets.
    """

    spreading: Spreading = attrs.field(factory=Spreading)
    counters: RelayCounters = attrs.field(factory=RelayCounters)
    refusals: RefusalCounts = attrs.field(factory=RefusalCounts, init=False)
    lines: dict[int, Line] = attrs.field(factory=dict, init=False)
    layer: TransactionLayer | None = attrs.field(default=None, init=False)
    pool: ConnectionPool | None = attrs.field(default=None, init=False)
    sockets: list[DatagramSocket] = attrs.field(factory=list, init=False)
    identities: dict[str, tuple[str, tuple[str, ...]]] = attrs.field(factory=dict, init=False)
    _seldom: Seldom = attrs.field(factory=Seldom, init=False)
    _pace: LogPace = attrs.field(factory=LogPace, init=False)

    def join(self, number: int, link: Link, room: int) -> None:
        """That worker runs."""
        self.lines[number] = Line(link)
        self.spreading.join(number, room)
        link.put_nowait(Identities(self.identities))

    def leave(self, number: int) -> int:
        """It does not run any more; how many calls it had."""
        load = self.spreading.loads.get(number)
        self.lines.pop(number, None)
        self.spreading.leave(number)
        return 0 if load is None else load.busy

    def is_used(self, flow: Flow) -> bool:
        """Whether a call of any worker needs that connection."""
        return any(line.connections.get(number) is flow for line in self.lines.values() for number in line.used)

    def take_nowait(self, data: bytes, flow: Flow) -> None:
        """Pass one message on."""
        try:
            envelope = read_untrusted_envelope(data)
        except NotSpreadable:
            self.counters.unspreadable += 1
            return
        number = self.spreading.choose(envelope)
        if number == PARENT:
            self._keep(data)
        elif number is not None:
            self._pass(number, data, flow)
        elif envelope.method is None:
            self.counters.stray += 1
        else:
            self.counters.ownerless += 1
            self._refuse(data, flow, envelope.method)

    def note_closed(self, flow: Flow) -> None:
        """Tell the workers that know it."""
        if isinstance(flow, Connection):
            failed = self.pool is not None and self.pool.has_failed(flow.peer)
            for line in self.lines.values():
                for number in line.forget(flow):
                    line.link.put_nowait(Closed(number, failed))

    def obey(self, number: int, frame: Frame) -> None:
        """Do what a worker wants. Raises ValueError for what none may say."""
        line = self.lines[number]
        match frame:
            case Say(number=known, octets=octets):
                connection = line.connections.get(known)
                if connection is not None:  # else the news of its end crossed this
                    connection.send_nowait(octets)
            case Open():
                self._open(line, frame)
            case _:
                raise ValueError(f"{type(frame).__name__} is nothing that a worker says")

    def introduce(self, identities: dict[str, tuple[str, tuple[str, ...]]]) -> None:
        """Tell all workers who we are where, if that has changed."""
        if identities != self.identities:
            self.identities = identities
            for line in self.lines.values():
                line.link.put_nowait(Identities(identities))

    def _open(self, line: Line, wanted: Open) -> None:
        pool = self.pool
        assert pool is not None, "workers run while there are sockets"
        connection = pool.find(wanted.transport, wanted.peer, wanted.name) or pool.open_nowait(
            wanted.transport, wanted.peer, wanted.local, wanted.source, wanted.name
        )
        line.keep(wanted.number, connection)
        if not connection.is_open:
            for number in line.forget(connection):
                line.link.put_nowait(Closed(number, failed=False))

    def _pass(self, number: int, data: bytes, flow: Flow) -> None:
        line, given = self.lines[number], self.spreading.loads[number].given
        if isinstance(flow, DatagramFlow):
            frame: Frame = Datagram(self.sockets.index(flow.socket), flow.peer, data, given)
        else:
            assert isinstance(flow, Connection), "there are no other flows"
            frame = Streamed(line.number_of(flow), flow.transport, flow.peer, flow.local, data, given)
        if line.link.put_nowait(frame):
            self.counters.relayed += 1
        else:
            self._seldom.note("worker.behind", number=number, dropped=line.link.dropped)

    def _keep(self, data: bytes) -> None:
        """A response to a request of our own."""
        try:
            message = parse_untrusted(data)
        except ParseError:
            self.counters.unspreadable += 1
            return
        if isinstance(message, Response) and self.layer is not None:
            self.layer.receive_response(message)
        else:
            self.counters.stray += 1

    def _refuse(self, data: bytes, flow: Flow, method: str) -> None:
        """No worker runs: whoever asks should look elsewhere."""
        _, headers = read_untrusted_head(data.lstrip(b"\r\n").partition(b"\r\n\r\n")[0])
        found = None if method == "ACK" else stateless_answer(503, NO_WORKER, headers, flow.peer)
        if found is None:
            return
        self.refusals.add(Cause.NO_WORKER.value)
        level = self._pace.level_of(503, trio.current_time())
        told = partial(logs.event, log, "sip.refused", level=level, call_id=headers.get("Call-ID"), method=method)
        told(refusal=Cause.NO_WORKER.value, status=503, cause=NO_WORKER)
        answer, via = found
        if not isinstance(flow, DatagramFlow):
            flow.send_nowait(answer)
        elif len(answer) <= MAX_AMPLIFICATION * len(data):
            flow.socket.send_nowait(answer, via.response_address())


@attrs.frozen(eq=False)
class Exchange:
    """What `open_relaying` yields: the sockets, and the registrations, which outlive every worker."""

    relaying: Relaying
    transports: SocketTransports
    counters: Counters
    registrants: Sequence[Registrant]
    tasks: trio.Nursery

    def register(self) -> None:
        """Register, and stay registered: calls may come. Once."""
        for registrant in self.registrants:
            self.tasks.start_soon(registrant.run)

    @property
    def listening(self) -> tuple[tuple[Transport, tuple[str, int]], ...]:
        return self.transports.listening

    @property
    def registrations(self) -> tuple[RegistrationStatus, ...]:
        """How each `[[sip.register]]` stands."""
        return tuple(registrant.status for registrant in self.registrants)

    def reload_certificates(self) -> bool:
        """Read the files of `sip.tls_*` again; False when the old ones stay, as the log says."""
        return self.transports.reload_certificates()

    async def withdraw(self) -> None:
        """Take back the registrations: no more calls are to come from there. Returns within some seconds."""
        async with trio.open_nursery() as nursery:
            for registrant in self.registrants:
                nursery.start_soon(registrant.leave)

    async def introduce(self) -> None:
        """Task: keep the workers informed of who we are where."""
        while True:
            found: dict[str, tuple[str, tuple[str, ...]]] = {}
            for registrant in self.registrants:
                identity = identity_of(registrant)
                if identity is not None and registrant.flow is not None:
                    found.setdefault(registrant.flow.peer[0], (identity.uri, identity.route))
            self.relaying.introduce(found)
            await trio.sleep(NEWS_SECONDS)


@asynccontextmanager
async def open_relaying(settings: SipSettings) -> AsyncIterator[Exchange]:
    """Listen for workers, and be registered, until the block ends. Raises what `open_transports` does."""
    relaying, counters, sources, timers = Relaying(), Counters(), Sources(settings), Timers()
    unread, _nobody = trio.open_memory_channel[Arrival](0)  # nothing is read here
    opened = open_transports(settings, counters, sources.admits, unread, relaying.is_used, relaying)
    async with opened as transports, trio.open_nursery() as outer:
        tasks: trio.Nursery = await outer.start(shelter)
        assert isinstance(transports.pool, ConnectionPool), "those sockets are real"
        relaying.pool, relaying.sockets = transports.pool, list(transports.datagrams)
        new_token = partial(random_token, SYSTEM_RANDOMNESS)
        relaying.layer = layer = TransactionLayer(timers, new_token, transports, sources.is_proven, mark_of(PARENT))
        accounts = Accounts(settings, SYSTEM_RANDOMNESS)
        registrants = [
            Registrant(register, settings, accounts, layer, transports, SYSTEM_RANDOMNESS, sources)
            for register in settings.register
        ]
        exchange = Exchange(relaying, transports, counters, registrants, tasks)
        for task in (timers.run, exchange.introduce):
            tasks.start_soon(task)
        try:
            yield exchange
        finally:
            with trio.move_on_after(LEAVE_SECONDS, shield=True):
                await exchange.withdraw()
            tasks.cancel_scope.cancel()
