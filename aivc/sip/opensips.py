"""The front end for OpenSIPS: it is the SIP element, and hands calls over as UA sessions (module b2b_entities).

    OpenSIPS --E_UA_SESSION, a datagram each--> event socket -> reception -> the leg of its key
    OpenSIPS <--commands-- management interface <-- legs, errands, census, subscription

Who may send events commands calls, so their source is checked. Nothing tells us of a restart of OpenSIPS or of a lost
event; the subscription and the census find out.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import attrs
import trio

from aivc.config.settings import Address, EngineSettings, OpenSipsSettings, SipSettings
from aivc.sip.address import format_host_port
from aivc.sip.census import Census
from aivc.sip.errands import RUNNERS, Errands
from aivc.sip.event_reception import EventReception, SessionTable
from aivc.sip.event_socket import EventSocket, open_event_socket
from aivc.sip.leg import Leg
from aivc.sip.mi import ManagementInterface, MiCounters, open_mi
from aivc.sip.negotiation import SrtpPolicy
from aivc.sip.reception import WAITING_LEGS
from aivc.sip.session_board import SessionBoard
from aivc.sip.subscribing import Subscription
from aivc.sip.transport import shelter
from aivc.sip.useragent import SYSTEM_RANDOMNESS
from aivc.sip.watching import SessionWatcher

LEAVE_SECONDS: Final = 2.0  # to take the subscription back, and for the last errands


@attrs.frozen(kw_only=True)
class OpenSipsStatistics:
    """Counts since the start, and what is alive now."""

    events: int  # datagrams that came from OpenSIPS
    foreign: int  # datagrams that did not: not read
    unreadable: int  # datagrams that are no event
    ignored: int  # new sessions for another instance, or not for us at all
    strays: int  # events of sessions that we do not have
    refused: int  # requests answered with a failure
    unanswered: int  # requests and sessions left to themselves because too much is to be said
    failures: int  # events that met a bug of ours
    lost: int  # sessions of ours that OpenSIPS did not have any more
    orphans: int  # sessions ended because nobody served them
    lapses: int  # how often OpenSIPS had forgotten our subscription
    legs: int  # sessions now


@attrs.define(eq=False, repr=False)
class OpenSips:
    """Built by `open_opensips`.

    Attributes:
      legs: incoming calls, each already answered 100 and waiting for `answer` or `reject`. Ends with the front end.
      accepting: of no effect on OpenSIPS, which cannot be told to go elsewhere; who takes the legs refuses them.
    """

    legs: trio.MemoryReceiveChannel[Leg]
    _events: EventSocket
    _reception: EventReception
    _subscription: Subscription
    _census: Census
    _commands: ManagementInterface
    accepting: bool = attrs.field(default=True, init=False)

    @property
    def event_address(self) -> Address:
        """Where OpenSIPS is told to send events; with `engine.event_ip` 0.0.0.0 that shows when it has answered."""
        return self._events.address

    @property
    def is_subscribed(self) -> bool:
        """Whether OpenSIPS sends us its calls, as far as we know."""
        return self._subscription.is_subscribed

    def watch(self, watcher: SessionWatcher) -> None:
        """Show it every event and command of a session from now on."""
        self._commands.watcher = self._reception.watcher = watcher

    async def withdraw(self) -> None:
        """Nothing: the calls in progress need their events, and new ones come with them."""
        await trio.lowlevel.checkpoint()

    def statistics(self) -> OpenSipsStatistics:
        reception, counts = self._reception, self._reception.board.counts
        return OpenSipsStatistics(
            events=self._events.received,
            foreign=self._events.foreign,
            unreadable=reception.unreadable,
            ignored=reception.ignored,
            strays=reception.strays + counts.stray,
            refused=reception.refused + counts.refused,
            unanswered=reception.errands.dropped + reception.errands.failed + counts.dropped,
            failures=reception.failures,
            lost=self._census.lost,
            orphans=self._census.orphans,
            lapses=self._subscription.lapses,
            legs=len(reception.table.live),
        )

    @property
    def refusals(self) -> Mapping[str, int]:
        """How often requests were refused, by `aivc.sip.refusals.Cause`."""
        return self._reception.board.refusals.counts

    def command_statistics(self) -> MiCounters:
        """Counts of the commands to OpenSIPS."""
        return self._commands.statistics()

    async def finish(self) -> None:
        """Refuse the calls that nobody has answered, and whoever calls from now on, while the calls that are over have
        their last words: they need their events. Use a deadline."""
        self._reception.turn_away()
        await self._reception.table.wait_freed()
        await self._reception.board.own.wait_settled()

    async def leave(self) -> None:
        """Say that we want no more events, and the last things to those that have come; use a deadline."""
        await self._subscription.end()
        await self._reception.errands.finish()

    def close(self) -> None:
        """End every session without a word, and the channel of legs."""
        for session in list(self._reception.table.live.values()):
            session.close()
        self._reception.waiting.close()


@asynccontextmanager
async def open_opensips(
    settings: OpenSipsSettings,
    engine: EngineSettings,
    sip: SipSettings,
    *,
    srtp: SrtpPolicy = "off",
    rtcp: bool = True,
    randomness: random.Random = SYSTEM_RANDOMNESS,
    wall_clock: Callable[[], float] = time.time,
) -> AsyncIterator[OpenSips]:
    """Take calls from an OpenSIPS until the block ends; one that does not answer is tried again for ever.

    Errors from the block arrive in an ExceptionGroup, as from any nursery.

    Args:
      engine: `event_ip` and `event_port` are used.
      sip: the session timer, `bye_headers`, `refer_headers` and `hang_up_seconds` are used.
      srtp, rtcp: the settings `rtp.srtp` and `rtp.rtcp`.
      randomness: for SDP and keys; tests give a seeded one.
      wall_clock: seconds since 1970, to know how old a session is.

    Raises:
      OSError: `engine.event_port` is taken, or `engine.event_ip` is not ours.
    """
    events = await open_event_socket(settings, engine)
    with events.socket:
        async with open_mi(settings) as commands, trio.open_nursery() as outer:
            # Sheltered, so that a cancellation does not cut off what the calls say last.
            tasks: trio.Nursery = await outer.start(shelter)
            own_socket = partial(socket_name, events, commands, settings)
            await own_socket()
            waiting, legs = trio.open_memory_channel[Leg](WAITING_LEGS)
            table = SessionTable()
            board = SessionBoard(
                commands, tasks, sip, srtp, rtcp, randomness, events.address, table.forget, table.live.__setitem__
            )
            errands = Errands(commands, board.unfreed)
            subscription = Subscription(commands, settings, own_socket)
            census = Census(commands, settings, table.live, subscription, wall_clock, board.own, board.unfreed)
            subscription.on_subscribed = census.wake
            reception = EventReception(board, settings, table, errands, waiting, subscription)
            front_end = OpenSips(legs, events, reception, subscription, census, commands)
            for task in (subscription.run, census.run, *[errands.run] * RUNNERS):
                tasks.start_soon(task)
            tasks.start_soon(events.receive, reception.take_untrusted)
            try:
                yield front_end
            finally:
                seconds = 2 * sip.hang_up_seconds  # a BYE may wait for the ACK before it, and for its answer
                with trio.move_on_after(seconds, shield=True):
                    await front_end.finish()
                with trio.move_on_after(LEAVE_SECONDS, shield=True):
                    await front_end.leave()
                tasks.cancel_scope.cancel()
                front_end.close()


async def socket_name(events: EventSocket, commands: ManagementInterface, settings: OpenSipsSettings) -> str:
    """Where OpenSIPS is to send events, in its own spelling; found out from the way that leads to it."""
    if commands.peer_ip is not None or settings.socket is not None:
        await events.locate(commands.peer_ip)
    return f"udp:{format_host_port(*events.address)}"
