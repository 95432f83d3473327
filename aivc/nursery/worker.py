"""One of several processes that share the calls: a whole service, but for the sockets of SIP, which the parent has."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket as stdlib
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import islice
from typing import BinaryIO, Final

import attrs
import trio

from aivc.config.loading import ConfigError
from aivc.config.settings import Address, Settings
from aivc.nursery.garbage import spare_startup_objects
from aivc.nursery.service import Service, open_service
from aivc.nursery.status import CallInProgress, to_json
from aivc.realtime.toolerrors import ToolFileError
from aivc.sip.flow import Transport
from aivc.sip.relay import Beat, Failed, Link
from aivc.sip.relayed import Owner
from aivc.sip.spreading import mark_of
from aivc.sip.useragent import Place

STATUS_SECONDS: Final = 1.0  # between two reports of all that the admin view shows
MOST_TOLD: Final = 500  # calls in one report, which is to fit into a packet,
TOLD_OCTETS: Final = 100_000  # and so long together: half of it; callers choose their Call-IDs, of up to 8 kB
CALL_OCTETS: Final = 200  # of one, but for its Call-ID and agent
HANDOVER: Final = 0.25  # seconds from the news that no more calls are wanted until those on their way are refused
PARTING: Final = 2.0  # seconds for BYEs by UDP when the parent is gone; its addresses are needed by the next one


@attrs.frozen
class Start:
    """What the parent gives a worker on its standard input: nothing of it can be read in a list of processes.

    Attributes:
      number: from 0.
      settings: its share of them.
      link, sockets: descriptors that it has inherited: of the socket pair, and of the UDP sockets in the order of
        `listening`.
    """

    number: int
    settings: Settings
    listening: tuple[tuple[Transport, Address], ...]
    link: int
    sockets: tuple[int, ...]
    nonce_key: bytes = attrs.field(repr=False)

    def __bytes__(self) -> bytes:
        return pickle.dumps(self)


class NoStart(Exception):
    """What started this process is no parent of workers."""


def read_start(stream: BinaryIO) -> Start:
    """From nobody but our parent. Raises NoStart."""
    try:
        start = pickle.load(stream)
    except (EOFError, pickle.UnpicklingError, AttributeError, ImportError, LookupError, TypeError, ValueError) as error:
        raise NoStart(str(error)) from error
    if not isinstance(start, Start):
        raise NoStart("another object")
    return start


@attrs.define(eq=False)
class Reporting:
    """What the parent hears of the service, some times a second.

    Attributes:
      service: None until it is ready.
      leaving: it still takes what is on its way to it, but wants no more.
    """

    service: Service | None = None
    leaving: bool = False
    _next_status: float = 0.0

    def beat(self) -> Beat | None:
        service = self.service
        if service is None:
            return None
        accepting, status, now = not self.leaving and service.refusal() is None, None, trio.current_time()
        if now >= self._next_status:
            self._next_status = now + STATUS_SECONDS
            told = service.status()  # but for the registrations, which are the parent's
            status = to_json(attrs.evolve(told, registrations=(), in_progress=tuple(fitting(told.in_progress))))
        return Beat(service.calls, accepting, service.draining.is_set(), status=status)


def fitting(calls: Iterable[CallInProgress]) -> Iterator[CallInProgress]:
    """The first of them, as many as may be told."""
    room = TOLD_OCTETS
    for call in islice(calls, MOST_TOLD):
        room -= CALL_OCTETS + len(json.dumps([call.call_id, call.agent]))
        if room < 0:
            return
        yield call


async def run_worker(start: Start) -> None:
    """Serve the parent's calls until it or SIGTERM says to drain; a second word ends at once, as does its death.

    What keeps it from starting goes to the parent.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTTOU):  # the parent tells us what to do, no terminal
        signal.signal(number, signal.SIG_IGN)
    with ExitStack() as stack, trio.open_signal_receiver(signal.SIGTERM) as signals:
        link = Link(stack.enter_context(inherited(start.link)))
        sockets = tuple(stack.enter_context(inherited(descriptor)) for descriptor in start.sockets)
        reporting = Reporting()
        owner = Owner(link, start.listening, sockets, reporting.beat)
        try:
            await serve(start, owner, reporting, signals)
        except* (ConfigError, ToolFileError, OSError) as group:
            await tell_failure(link, group)


async def serve(start: Start, owner: Owner, reporting: Reporting, signals: AsyncIterator[int]) -> None:
    place = Place(mark_of(start.number), start.nonce_key, owner.open_transports, owner.identity_at)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(obey_signals, signals, owner, reporting)
        nursery.start_soon(stop, owner, nursery.cancel_scope)
        async with open_service(start.settings, place=place) as service:
            spare_startup_objects()
            reporting.service = service
            owner.tell_soon()
            await owner.drain.wait()
            service.drain()
            owner.tell_soon()
        nursery.cancel_scope.cancel()


async def obey_signals(signals: AsyncIterator[int], owner: Owner, reporting: Reporting) -> None:
    """SIGTERM is for this worker alone: the others take its calls, so none need be refused."""
    async for _ in signals:
        if not owner.drain.is_set():
            reporting.leaving = True
            owner.tell_soon()
            with trio.move_on_after(HANDOVER):
                await owner.drain.wait()
            owner.drain.set()
        else:
            owner.stop.set()


async def stop(owner: Owner, scope: trio.CancelScope) -> None:
    """End at once when told so; calls say goodbye. Without the parent the kernel sees to it that we do end."""
    await owner.stop.wait()
    if owner.gone.is_set():
        signal.setitimer(signal.ITIMER_REAL, PARTING)  # SIGALRM ends the process, whatever it is doing
    scope.cancel()


async def tell_failure(link: Link, group: BaseExceptionGroup[BaseException]) -> None:
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    link.put_nowait(Failed(str(leaf), usable=isinstance(leaf, OSError)))
    with trio.move_on_after(PARTING):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.transmit)
            await link.wait_empty()
            nursery.cancel_scope.cancel()


def inherited(descriptor: int) -> trio.socket.SocketType:
    """A socket of the parent's; our own children, such as those of tools, must not have it."""
    os.set_inheritable(descriptor, False)
    return trio.socket.from_stdlib_socket(stdlib.socket(fileno=descriptor))


def main(start: Start) -> None:
    """The whole process."""
    trio.run(partial(run_worker, start))
