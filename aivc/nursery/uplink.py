"""The caller's audio on its way to the model, whichever session that is at the moment."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NoReturn, Protocol

import attrs
import trio

from aivc.media.g711 import OCTETS_PER_MS
from aivc.realtime.refusals import RealtimeClosed

MOST_OCTETS: Final = 1000 * OCTETS_PER_MS  # 1 s of audio: a model further behind has lost the thread


class Appending(Protocol):
    """What a `RealtimeSocket` has for audio."""

    def append_nowait(self, audio: bytes) -> bool: ...

    async def append_audio(self, audio: bytes) -> None: ...

    async def wait_flushed(self) -> None: ...


@attrs.define(eq=False)
class Uplink:
    """A `Heard` that passes on at once what it takes, while the session's socket takes it, too.

    A memory channel and a task behind it would cost a task switch for each packet: 15 % of all CPU at 120 calls. So the
    task, `write_to`, steps in only when the socket is full, or when there was no session for a while.

    Args:
      append_octets: how much makes a message, of `realtime.append_ms`; what is shorter waits for the rest. A caller who
        falls silent is made up for by the stream, so nothing waits for long.
    """

    append_octets: int = 20 * OCTETS_PER_MS
    _audible: Callable[[bytes], bytes] = attrs.field(default=bytes, init=False)
    _batch: bytearray = attrs.field(factory=bytearray, init=False)
    _waiting: deque[bytes] = attrs.field(factory=deque, init=False)
    _waiting_octets: int = attrs.field(default=0, init=False)
    _straight: Callable[[bytes], None] | None = attrs.field(default=None, init=False)

    def send_nowait(self, octets: bytes) -> None:
        """Pass on the caller's octets. Raises trio.WouldBlock when more than a second of them waits already."""
        octets = self._audible(octets)
        if self._batch or len(octets) < self.append_octets:
            self._batch += octets
            if len(self._batch) < self.append_octets:
                return
            octets = bytes(self._batch)
            self._batch.clear()
        if self._straight is not None:
            self._straight(octets)
        elif self._waiting_octets >= MOST_OCTETS:
            raise trio.WouldBlock
        else:
            self._waiting.append(octets)
            self._waiting_octets += len(octets)

    @contextmanager
    def heard_as(self, audible: Callable[[bytes], bytes]) -> Iterator[None]:
        """While the block runs, `audible` makes of what comes what the model is to hear."""
        self._audible = audible
        try:
            yield
        finally:
            self._audible = bytes

    async def write_to(self, socket: Appending) -> NoReturn:
        """Task: the session on this socket is to hear the caller; one at a time. Raises RealtimeClosed."""
        while True:
            while self._waiting:
                octets = self._waiting.popleft()
                self._waiting_octets -= len(octets)
                await socket.append_audio(octets)
            await self._pass_straight(socket)
            await socket.wait_flushed()

    async def _pass_straight(self, socket: Appending) -> None:
        """Until the socket is full. Raises RealtimeClosed."""
        full, lost = trio.Event(), list[RealtimeClosed]()

        def straight(octets: bytes) -> None:
            try:
                if socket.append_nowait(octets):
                    return
            except RealtimeClosed as error:  # for the call that it concerns: we are in the task of all media
                lost.append(error)
            self._straight = None
            full.set()

        self._straight = straight
        try:
            await full.wait()
        finally:
            self._straight = None
        for error in lost:
            raise error
