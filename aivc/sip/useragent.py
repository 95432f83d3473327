"""The built-in SIP user agent: transports, transactions and dialogs joined; incoming calls come out as legs."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import attrs
import trio

from aivc.config.settings import Address, SipSettings
from aivc.sip.accounts import Accounts
from aivc.sip.authentication import Authentication
from aivc.sip.call_dialog import Board, CallDialog
from aivc.sip.counters import Counters
from aivc.sip.dialog import DialogId
from aivc.sip.digest import Randomness
from aivc.sip.flow import Arrival, Flow, Transport
from aivc.sip.leg import Leg
from aivc.sip.negotiation import SrtpPolicy
from aivc.sip.reception import WAITING_LEGS, Reception
from aivc.sip.registrant import Registrant
from aivc.sip.registration import RegistrationStatus
from aivc.sip.sources import Sources
from aivc.sip.statistics import UserAgentStatistics
from aivc.sip.switchboard import Identity, Switchboard
from aivc.sip.timers import Timers
from aivc.sip.transaction_layer import TransactionLayer
from aivc.sip.transport import ARRIVALS, OpenTransports, SocketTransports, open_transports, shelter
from aivc.sip.watching import MessageWatcher

SYSTEM_RANDOMNESS: Final = random.SystemRandom()
LEAVE_SECONDS: Final = 4.0  # for taking back the registrations


@attrs.frozen(eq=False)
class Place:
    """What makes a user agent one of several that share their addresses, each in a process of its own.

    Attributes:
      mark: what its tags and branches begin with, as nobody else's.
      nonce_key: the same for all of them.
      identity_at: who we are at the server with that IP address; it is not this user agent that registers.
    """

    mark: str
    nonce_key: bytes
    open_transports: OpenTransports
    identity_at: Callable[[str], Identity | None]


@attrs.define(eq=False, repr=False)
class UserAgent:
    """Built by `open_user_agent`.

    Attributes:
      legs: incoming calls, each already answered 100 and waiting for `answer` or `reject`. Ends with the user agent.
    """

    legs: trio.MemoryReceiveChannel[Leg]
    _transports: SocketTransports
    _reception: Reception
    _counters: Counters
    _registrants: Sequence[Registrant]

    @property
    def accepting(self) -> bool:
        """False makes OPTIONS answer 503, so that a dispatcher looks elsewhere; calls are refused by who takes the
        legs."""
        return self._reception.accepting

    @accepting.setter
    def accepting(self, value: bool) -> None:
        self._reception.accepting = value

    @property
    def listening(self) -> tuple[Address, ...]:
        """The bound addresses in the order of `sip.listen`, with the real ports."""
        return tuple(address for _, address in self._transports.listening)

    @property
    def transports(self) -> tuple[tuple[Transport, Address], ...]:
        """The same with their transports."""
        return self._transports.listening

    @property
    def registrations(self) -> tuple[RegistrationStatus, ...]:
        """How each `[[sip.register]]` stands."""
        return tuple(registrant.status for registrant in self._registrants)

    @property
    def refusals(self) -> Mapping[str, int]:
        """How often requests were refused, by `aivc.sip.refusals.Cause`."""
        return self._reception.board.refusals.counts

    def reload_certificates(self) -> bool:
        """Read the files of `sip.tls_*` again; False when the old ones stay, as the log says."""
        return self._transports.reload_certificates()

    def watch(self, watcher: MessageWatcher) -> None:
        """Show it every SIP message from now on, as `aivc.open_recorder` needs it."""
        self._transports.watch(watcher)

    async def withdraw(self) -> None:
        """Take back the registrations: no more calls are to come from there. Returns within some seconds."""
        async with trio.open_nursery() as nursery:
            for registrant in self._registrants:
                nursery.start_soon(registrant.leave)

    def statistics(self) -> UserAgentStatistics:
        reception, board = self._reception, self._reception.board
        return UserAgentStatistics(
            refused=board.refused,
            challenged=reception.challenged,
            dropped=reception.dropped,
            slowed=reception.slowed,
            stray_acks=reception.stray_acks,
            failures=reception.failures,
            amplifying=board.layer.amplifying,
            stray_responses=board.layer.stray_responses,
            server_transactions=len(board.layer.servers),
            client_transactions=len(board.layer.clients),
            legs=len(board.dialogs),
            **attrs.asdict(self._counters),
        )

    def close(self) -> None:
        """End every leg without a word, and the channel of legs."""
        for dialog in list(self._reception.board.dialogs.values()):
            dialog.close()
        self._reception.waiting.close()


@asynccontextmanager
async def open_user_agent(
    settings: SipSettings,
    *,
    srtp: SrtpPolicy = "off",
    rtcp: bool = True,
    randomness: random.Random = SYSTEM_RANDOMNESS,
    place: Place | None = None,
) -> AsyncIterator[UserAgent]:
    """Listen for calls until the block ends; then every socket is closed at once, and nothing lingers.

    Errors from the block arrive in an ExceptionGroup, as from any nursery.

    Args:
      settings: all of `[sip]`.
      srtp, rtcp: the settings `rtp.srtp` and `rtp.rtcp`; what is not done is not agreed to.
      randomness: for tags, branches, nonces and keys; tests give a seeded one.
      place: among several that share the addresses; None: it has them for itself.

    Raises:
      ValueError: a bad entry in `settings.listen`.
      OSError: a port is taken, an address is not ours, or a certificate cannot be used.
    """
    counters, sources, timers = Counters(), Sources(settings), Timers()
    arrived, arrivals = trio.open_memory_channel[Arrival](ARRIVALS)
    waiting, legs = trio.open_memory_channel[Leg](WAITING_LEGS)
    dialogs: dict[DialogId, CallDialog] = {}
    opened: OpenTransports = open_transports if place is None else place.open_transports
    mark, nonce_key = ("", None) if place is None else (place.mark, place.nonce_key)
    async with (
        opened(settings, counters, sources.admits, arrived, partial(is_way_of, dialogs)) as transports,
        trio.open_nursery() as outer,
    ):
        # Sheltered, so that a cancellation does not cut off what the calls and registrations say last.
        tasks: trio.Nursery = await outer.start(shelter)
        new_token = partial(random_token, randomness)
        layer = TransactionLayer(timers, new_token, transports, sources.is_proven, mark)
        accounts = Accounts(settings, randomness)
        registrants = [
            Registrant(register, settings, accounts, layer, transports, randomness, sources)
            for register in settings.register
        ]
        identities = partial(identity_at, registrants) if place is None else place.identity_at
        board: Board = Switchboard(settings, srtp, layer, sources, accounts, tasks, identities, rtcp, dialogs)
        reception = Reception(board, Authentication(settings, randomness, nonce_key), waiting)
        agent = UserAgent(legs, transports, reception, counters, registrants)
        for task in (timers.run, *(registrant.run for registrant in registrants)):
            tasks.start_soon(task)
        tasks.start_soon(reception.serve, arrivals)
        try:
            yield agent
        finally:
            with trio.move_on_after(LEAVE_SECONDS, shield=True):
                await agent.withdraw()
            tasks.cancel_scope.cancel()
            agent.close()


def random_token(randomness: Randomness) -> str:
    """16 random hexadecimal digits."""
    return f"{randomness.getrandbits(64):016x}"


def is_way_of(dialogs: Mapping[DialogId, CallDialog], flow: Flow) -> bool:
    """Whether a call came, or is made, over that flow: it is the only way back to a phone behind a NAT."""
    return any(dialog.client.near is flow for dialog in dialogs.values())


def identity_at(registrants: Sequence[Registrant], ip: str) -> Identity | None:
    """Who we are at the server that has this address, as far as we are registered there."""
    for registrant in registrants:
        flow = registrant.flow
        if flow is not None and flow.peer[0] == ip and (identity := identity_of(registrant)) is not None:
            return identity
    return None


def identity_of(registrant: Registrant) -> Identity | None:
    """Who we are at its server; None while we are not registered."""
    if registrant.status.state != "registered":
        return None
    uri = f"sip:{registrant.register.user}@{registrant.registration.domain}"
    return Identity(uri, registrant.service_route)
