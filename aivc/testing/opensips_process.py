"""One life of the test OpenSIPS: from its start to its stop, which loses everything."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Final, Protocol

import attrs
import trio

from aivc.config.settings import Address
from aivc.sip.message import ParseError, Request, parse_untrusted
from aivc.sip.stateless import stamp
from aivc.testing.opensips_commands import Commands
from aivc.testing.opensips_entities import Entities
from aivc.testing.opensips_faults import Fate, Kind
from aivc.testing.opensips_jsonrpc import PARSE_ERROR, Call, CommandError, Parameters, answer_to, read_call
from aivc.testing.opensips_judge import Judge
from aivc.testing.opensips_port import Port, open_port
from aivc.testing.opensips_subscribers import LARGEST_DATAGRAM, Subscribers, event_octets
from aivc.testing.opensips_transactions import Transactions
from aivc.testing.opensips_wording import Received, header_lines
from aivc.testing.schema import Json

EPOCH: Final = 4_102_444_800  # when trio's clock was 0, in seconds since 1970: to nobody are our sessions old
MI_QUEUE: Final = 1024  # datagrams that the one process of mi_datagram has not read yet


class Plan(Protocol):
    """What a test may change at any time: `FakeOpenSips`."""

    sip_address: Address
    mi_address: Address
    workers: int
    fr_timeout: float
    fr_inv_timeout: float
    uac_auth: bool
    advertised_contact: str | None
    mi_seconds: float
    judge: Judge

    def flags_for(self, request: Request) -> str: ...
    def extra_params_for(self, request: Request) -> str | None: ...
    def fate_of(self, kind: Kind, told: Json) -> Fate: ...
    def note_command(self, call: Call, outcome: Json) -> None: ...
    def note_event(self, params: Json) -> None: ...
    def note_freed(self) -> None: ...


@attrs.define(eq=False, repr=False)
class Process:
    """Built by `run_process`."""

    plan: Plan
    sip: Port
    mi: Port
    workers: list[Port]
    tasks: trio.Nursery
    dice: random.Random
    subscribers: Subscribers = attrs.field(factory=Subscribers)
    entities: Entities = attrs.field(init=False)
    commands: Commands = attrs.field(init=False)
    _transactions: Transactions = attrs.field(init=False)
    _arriving: trio.MemorySendChannel[tuple[bytes, Address]] = attrs.field(init=False)
    _arrived: trio.MemoryReceiveChannel[tuple[bytes, Address]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        plan = self.plan
        self._transactions = Transactions(self.sip, self.tasks, plan.fr_timeout, plan.fr_inv_timeout)
        self.entities = Entities(
            self.sip.address,
            self._transactions,
            self.tasks,
            self.dice,
            seconds_since_1970,
            self.raise_event,
            plan.note_freed,
            plan.judge.note_abandoned,
            plan.uac_auth,
        )
        self.commands = Commands(self.entities, self.subscribers, seconds_since_1970, plan.advertised_contact)
        self._arriving, self._arrived = trio.open_memory_channel[tuple[bytes, Address]](MI_QUEUE)

    def start(self) -> None:
        """Begin to serve."""
        for port in (self.sip, self.mi, *self.workers):
            self.tasks.start_soon(port.transmit)
        self.tasks.start_soon(self.sip.receive, self._take_sip)
        self.tasks.start_soon(self.mi.receive, self._take_command)
        self.tasks.start_soon(self._serve_commands)

    # SIP

    async def _take_sip(self, data: bytes, source: Address) -> None:
        if not data.strip(b"\r\n\0"):
            return
        try:
            message = parse_untrusted(data)
        except ParseError:
            return
        if isinstance(message, Request):
            stamped = attrs.evolve(message, headers=stamp(message.headers, message.via.stamped(source)))
            received = Received(stamped, header_lines(data), source)
            if not self.entities.take_request(received):
                self._run_script(stamped, received)
        else:
            self._transactions.receive_response(Received(message, header_lines(data), source))

    def _run_script(self, request: Request, received: Received) -> None:
        """What opensips.cfg does with a request of no session: calls become sessions, nothing else is wanted here."""
        if request.method == "ACK":
            self._transactions.acknowledge(request)
        elif request.method == "INVITE" and request.to.tag is None:
            plan = self.plan
            if not self.entities.open(received, plan.flags_for(request), plan.extra_params_for(request)):
                self._answer(received, 500, "Server Internal Error")
        elif request.method == "OPTIONS" and request.to.tag is None:
            self._answer(received, 200, "OK")
        elif request.to.tag is not None:
            self._answer(received, 481, "Call/Transaction Does Not Exist")
        elif request.method != "CANCEL":
            self._answer(received, 405, "Method Not Allowed")

    def _answer(self, received: Received, status: int, reason: str) -> None:
        request = received.message
        assert isinstance(request, Request)
        transaction = self._transactions.find(request) or self._transactions.begin(received)
        if transaction is not None:
            transaction.respond(status, reason, f"{self.dice.getrandbits(64):016x}")

    # Events

    def raise_event(self, params: Json) -> bool:
        """Send an event to all subscribers, from the socket of one worker; False if it is too large."""
        self.plan.judge.know(params["key"])
        data, subscribers = event_octets(params), self.subscribers.current(seconds_since_1970())
        self.plan.note_event(params)
        if subscribers and len(data) > LARGEST_DATAGRAM:
            return False
        worker, fate = self.dice.choice(self.workers), self.plan.fate_of("event", params)
        if subscribers and fate.copies:
            self.plan.judge.note_event(params)
        for subscriber in subscribers:
            self._send(worker, data, subscriber.address, fate)
        return True

    def _send(self, port: Port, data: bytes, to: Address, fate: Fate) -> None:
        for _ in range(fate.copies):
            if fate.delay:
                self.tasks.start_soon(later, fate.delay, port.send_nowait, data, to)
            else:
                port.send_nowait(data, to)

    # Commands

    async def _take_command(self, data: bytes, source: Address) -> None:
        call = read_call(data)
        fate = Fate() if call is None else self.plan.fate_of("command", call.request)
        for _ in range(fate.copies):
            if fate.delay:
                self.tasks.start_soon(later, fate.delay, self._arriving.send_nowait, (data, source))
            else:
                self._arriving.send_nowait((data, source))

    async def _serve_commands(self) -> None:
        """Task: carry commands out, strictly one after the other."""
        async for data, source in self._arrived:
            if self.plan.mi_seconds:
                await trio.sleep(self.plan.mi_seconds)
            call = read_call(data)
            if call is None:
                self.plan.judge.found.append(f"a command that is no JSON: {data[:60]!r}")
                self.mi.send_nowait(PARSE_ERROR, source)
            else:
                self._serve(call, source)

    def _serve(self, call: Call, source: Address) -> None:
        judge, is_repeat = self.plan.judge, self.plan.judge.is_repeat(call.request)
        given: list[Parameters] = []

        def perform(method: str, parameters: Parameters) -> object:
            given.append(parameters)
            if not is_repeat:
                judge.judge_parameters(method, parameters)
                if "key" in parameters.values:
                    judge.judge_key(method, parameters.text("key"), self.entities.sessions)
            return self._perform(method, parameters)

        existing = set(self.entities.sessions)
        told, answer = answer_to(call, perform)
        if "error" in told and not is_repeat:
            error = CommandError(told["error"]["code"], told["error"]["message"], told["error"].get("data"))
            parameters = given[0] if given else None
            exists = parameters is not None and str(parameters.values.get("key")) in existing
            judge.judge_failure(call.method, parameters, error, exists=exists)
        self.plan.note_command(call, told)
        if answer is not None:
            self._send(self.mi, answer, source, self.plan.fate_of("answer", call.request))

    def _perform(self, method: str, parameters: Parameters) -> object:
        session = self.entities.find(str(parameters.values.get("key")))
        result = self.commands.perform(method, parameters)
        if method == "ua_session_terminate" and session is not None and session.has_outlived_timer:
            fault = "the session outlived its timer unanswered: OpenSIPS reads freed memory now, and may crash"
            self.plan.judge.note(method, parameters, fault)
        if method == "ua_session_terminate":
            self.plan.judge.note_end(parameters.text("key"))
        elif method == "ua_session_client_start":
            self.plan.judge.know(str(result))
        return result


def seconds_since_1970() -> int:
    return EPOCH + int(trio.current_time())


async def later(seconds: float, function: Callable[..., object], *args: object) -> None:
    """Task: call a function after a while."""
    await trio.sleep(seconds)
    function(*args)


async def run_process(
    plan: Plan, dice: random.Random, task_status: trio.TaskStatus[Process] = trio.TASK_STATUS_IGNORED
) -> None:
    """Task: live until cancelled. Raises OSError before it has started, when an address is taken."""
    host = plan.sip_address[0]
    addresses: Iterable[Address] = [plan.sip_address, plan.mi_address, *((host, 0) for _ in range(plan.workers))]
    with ExitStack() as ports:
        opened: list[Port] = []
        for address in addresses:
            opened.append(await open_port(address))
            ports.callback(opened[-1].close)
        sip, mi, *workers = opened
        async with trio.open_nursery() as tasks:
            process = Process(plan, sip, mi, workers, tasks, dice)
            process.start()
            task_status.started(process)
