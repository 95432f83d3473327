"""What of a call is to be done in time, and its end with that of the service: one task for all of it.

A task for each of them would take 3 KiB a call.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import NoReturn, Protocol

import attrs
import trio

from aivc.nursery.blocks import AtEnd
from aivc.nursery.causes import raise_once
from aivc.nursery.ending import CallOver, Ending


class Timed(Protocol):
    """Something that waits for a moment."""

    @property
    def deadline(self) -> float:
        """When `expire` is wanted, on trio's clock; infinity: not at all."""

    def expire(self) -> None:
        """Do what is due."""


@attrs.define(eq=False)
class Alarm:
    """Wakes whatever of one call waits for a moment."""

    _watched: list[tuple[Timed, trio.Nursery]] = attrs.field(factory=list, init=False)
    _sleep: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)

    def watch(self, timed: Timed, nursery: trio.Nursery) -> None:
        """It is woken in time from now on; what it raises is raised in `nursery`, and it is woken no more."""
        self._watched.append((timed, nursery))
        self.sooner(timed.deadline)

    def watching(self, nursery: trio.Nursery, *several: Timed) -> AtEnd:
        """The same of each of them, while the block runs; `nursery` is to end with it."""
        for timed in several:
            self.watch(timed, nursery)
        return AtEnd(partial(self._forget, several))

    def _forget(self, several: tuple[Timed, ...]) -> None:
        self._watched = [entry for entry in self._watched if entry[0] not in several]

    def sooner(self, deadline: float) -> None:
        """Something is due then. To be told of what comes sooner than was known; what is put off need not be told."""
        if deadline < self._sleep.deadline:
            self._sleep.deadline = deadline

    async def ring(self, draining: trio.Event) -> NoReturn:
        """Task: wake them. Raises CallOver when the service ends."""
        try:
            while True:
                due = min((timed.deadline for timed, _ in self._watched), default=inf)
                with trio.CancelScope(deadline=due) as self._sleep:
                    await draining.wait()
                    raise CallOver(Ending.DRAINED)
                for entry in tuple(self._watched):
                    self._wake(*entry)
        finally:
            self._watched.clear()  # they know the call, which knows us

    def _wake(self, timed: Timed, nursery: trio.Nursery) -> None:
        if timed.deadline <= trio.current_time():
            try:
                timed.expire()
            except Exception as error:
                self._watched.remove((timed, nursery))
                nursery.start_soon(raise_once, error)
