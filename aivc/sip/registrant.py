"""One task for each `[[sip.register]]`: finds the server, keeps registered there, and keeps the way back open."""

from __future__ import annotations

import logging
import socket as stdlib
from functools import partial
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.config.rules import parse_sip_server
from aivc.config.settings import SipRegister, SipSettings
from aivc.sip.accounts import Accounts
from aivc.sip.address import format_host_port
from aivc.sip.digest import Randomness
from aivc.sip.flow import TRANSPORTS, Flow, NoFlow, Transports
from aivc.sip.inspection import Capabilities
from aivc.sip.ip import plain_ip
from aivc.sip.leg import Fields
from aivc.sip.message import Request, Response
from aivc.sip.registration import Registration, RegistrationStatus, instance_urn
from aivc.sip.scanner import is_ip_address
from aivc.sip.sources import Sources
from aivc.sip.transaction_layer import TransactionLayer

log = logging.getLogger("aivc.sip")

CHALLENGES: Final = 4  # REGISTERs for one answer: a proxy and a registrar may each ask, and each find a nonce too old
LOOKUP_SECONDS: Final = 10.0  # for one look at the name service
LOOKUP_INTERVAL: Final = 300.0  # seconds between two of them where nothing is registered
MAX_ADDRESSES: Final = 32  # of one name
FLOW_CHECK: Final = 0.5  # seconds between two looks whether a connection is still there
KEEP_ALIVE: Final = b"\r\n\r\n"  # RFC 5626 section 3.5.1; over UDP it only has to pass the NAT
# RFC 5626 section 4.4.1 has 95 to 120 s for connections; bindings of home routers last 30 s (RFC 4787 wants 120).
KEEP_ALIVE_SECONDS: Final = {"UDP": (25.0, 29.0), "TCP": (28.0, 30.0), "TLS": (28.0, 30.0)}
GOODBYE: Final = 2.0  # seconds for taking the registration back
BUG_PAUSE: Final = 60.0  # seconds after an error of ours


@attrs.define(eq=False, repr=False)
class Registrant:
    """Keeps one registration while `run` runs.

    Args:
      sources: told the IP addresses of the server, as they are looked up.
    """

    register: SipRegister
    settings: SipSettings
    accounts: Accounts
    layer: TransactionLayer
    transports: Transports
    randomness: Randomness
    sources: Sources
    registration: Registration = attrs.field(init=False)
    flow: Flow | None = attrs.field(default=None, init=False)  # over which the last REGISTER went and calls come
    _addresses: set[str] = attrs.field(factory=set, init=False)  # of the server
    _registering: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _left: trio.Event = attrs.field(factory=trio.Event, init=False)
    _is_running: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.registration = Registration(
            self.register,
            call_id=self.layer.new_token(),
            tag=self.layer.new_tag(),
            instance=instance_urn(self._own_name()),
            has_external_ip=self.settings.external_ip is not None,
            allow=", ".join(Capabilities.of(self.settings).allowed),
            randomness=self.randomness,
        )

    @property
    def status(self) -> RegistrationStatus:
        return self.registration.status

    @property
    def service_route(self) -> tuple[str, ...]:
        """The Route fields of calls that are made through the server (RFC 3608)."""
        return self.registration.service_route

    async def run(self) -> None:
        """Register and stay registered until `leave`; then go on with the keep-alives alone, for calls that are not
        over yet, until cancelled."""
        self._is_running = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_alive)
            with self._registering:
                await self._follow()
            await self._withdraw()
            self._left.set()

    async def leave(self) -> None:
        """Take the registration back, within 2 s: no more calls are to come from there. `run` must be running."""
        self._registering.cancel()
        if self._is_running:
            with trio.move_on_after(GOODBYE + 1):
                await self._left.wait()

    async def _follow(self) -> None:
        while True:
            before, public = self.status, self.registration.public
            try:
                wait = await (self._attempt() if self.register.expires_seconds else self._look_up())
            except Exception as error:  # a bug of ours may cost this registration, never the calls
                logs.event(log, "sip.bug", level=logging.ERROR, exc_info=error)
                wait = BUG_PAUSE
            self._tell(before)
            now = self.registration.public
            if now is not None and now != public:
                logs.event(log, "sip.behind_nat", user=self.register.user, contact=format_host_port(*now))
            await self._pause(wait)

    async def _attempt(self) -> float:
        """REGISTER once; for how long to wait then."""
        self.registration.begin(trio.current_time())
        try:
            self.flow = await self._find()
        except NoFlow as error:
            return self.registration.unreachable(str(error), trio.current_time())
        response = await self._ask(self.flow)
        return self.registration.take(response, self.flow, trio.current_time())

    async def _ask(self, flow: Flow, *, withdraw: bool = False) -> Response | None:
        """The final response, to credentials if it wants some and there are any; None: there was none."""
        response: Response | None = None
        credentials: Fields = ()
        for _ in range(CHALLENGES):
            request = self.registration.request(flow, self.layer.new_tag(), credentials, withdraw=withdraw)
            response = await self._send(request, flow)
            answer = None if response is None else self.accounts.answer(request, response, flow.peer)
            if answer is None:
                break
            credentials = (*(field for field in credentials if field[0] != answer[0]), answer)
        return response

    async def _send(self, request: Request, flow: Flow) -> Response | None:
        transaction = self.layer.send(request, flow)
        await transaction.done.wait()  # ends with timer F at the latest
        return transaction.response

    async def _find(self) -> Flow:
        """The flow that is in use, while it works and leads to the server; else a new one. Raises NoFlow."""
        host, port = parse_sip_server(self.register.server)
        is_good = self.flow is not None and self.flow.is_open and self.status.state != "failed"
        current = self.flow if is_good else None
        try:
            addresses = await look_up(host)
        except NoFlow:
            if current is None:
                raise
            return current  # the name service is down, the registrar need not be
        if current is None or plain_ip(current.peer[0]) not in addresses:
            current = await self.transports.towards(TRANSPORTS[self.register.transport], host, port)
        self._learn({*addresses, plain_ip(current.peer[0])})
        return current

    async def _look_up(self) -> float:
        """Only learn where the server is."""
        try:
            self._learn(await look_up(parse_sip_server(self.register.server)[0]))
        except NoFlow as error:
            return self.registration.unreachable(str(error), trio.current_time())
        if self.status.state != "off":
            self.registration.withdrawn(trio.current_time())
        return LOOKUP_INTERVAL

    def _learn(self, addresses: set[str]) -> None:
        self.accounts.learn(self.register, addresses)
        gone, self._addresses = self._addresses - addresses, addresses
        for address in sorted(addresses):
            self.sources.expect(address)
        for address in gone:
            if not self.accounts.is_server(address):
                self.sources.release(address)

    async def _pause(self, seconds: float) -> None:
        """Wait for the next REGISTER; it is due at once when the connection is gone."""
        deadline = trio.current_time() + seconds
        while (rest := deadline - trio.current_time()) > 0:
            await trio.sleep(min(rest, FLOW_CHECK) if self._hangs_on_connection else rest)
            if self._hangs_on_connection and self.flow is not None and not self.flow.is_open:
                before = self.status
                deadline = trio.current_time() + self.registration.flow_lost(trio.current_time())
                self._tell(before)
        await trio.lowlevel.checkpoint()

    @property
    def _hangs_on_connection(self) -> bool:
        return self.status.state == "registered" and self.flow is not None and self.flow.transport != "UDP"

    async def _keep_alive(self) -> None:
        """Keep the bindings of NATs from being forgotten."""
        while True:
            shortest, longest = KEEP_ALIVE_SECONDS["UDP" if self.flow is None else self.flow.transport]
            await trio.sleep(shortest + (longest - shortest) * self.randomness.random())
            if self.flow is not None and self.flow.is_open:
                self.flow.send_nowait(KEEP_ALIVE)

    async def _withdraw(self) -> None:
        before = self.status
        if self.flow is not None and self.flow.is_open and self.registration.may_be_bound:
            with trio.move_on_after(GOODBYE):
                await self._ask(self.flow, withdraw=True)
        self.registration.withdrawn(trio.current_time())
        self._tell(before)

    def _tell(self, before: RegistrationStatus) -> None:
        """Log a change."""
        now = self.status
        if (now.state, now.last_error) == (before.state, before.last_error):
            return
        tell = partial(logs.event, log, user=now.user, server=now.server)
        if now.state == "registered":
            tell("sip.registered", expires_seconds=round((now.expires_at or 0.0) - trio.current_time()))
        elif now.state == "failed":
            tell("sip.registration_failed", level=logging.WARNING, error=now.last_error, advice=now.advice)
        elif before.state == "registered":
            tell("sip.unregistered")

    def _own_name(self) -> str:
        """What tells us from every other user agent and does not change."""
        listening = ",".join(self.settings.listen)
        return f"{self.register.user}@{self.register.server} {stdlib.gethostname()} {listening}"


async def look_up(host: str) -> set[str]:
    """The IP addresses of a server. Raises NoFlow."""
    if is_ip_address(host):
        return {plain_ip(host)}
    try:
        with trio.fail_after(LOOKUP_SECONDS):
            found = await trio.socket.getaddrinfo(host, None, type=stdlib.SOCK_STREAM)
    except (OSError, UnicodeError, trio.TooSlowError) as error:
        raise NoFlow(f"{host} cannot be looked up: {str(error) or 'no answer'}") from error
    return {plain_ip(str(address[0])) for *_, address in found[:MAX_ADDRESSES]}
