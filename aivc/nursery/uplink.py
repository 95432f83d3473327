"""The caller's audio on its way to the model, whichever session that is at the moment."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final, Protocol

import attrs
import trio

from aivc.config.settings import Codec
from aivc.media.g711 import OCTETS_PER_MS, is_voiced, silence_frame
from aivc.nursery.blocks import AtEnd
from aivc.nursery.causes import raise_once
from aivc.realtime.refusals import RealtimeClosed

MOST_OCTETS: Final = 1000 * OCTETS_PER_MS  # 1 s of audio: a model further behind has lost the thread
NEVER: Final = -inf


def never() -> float:
    """When something was heard that never was."""
    return NEVER


class Appending(Protocol):
    """What a `RealtimeSocket` has for audio."""

    def append_nowait(self, audio: bytes) -> bool: ...

    async def append_audio(self, audio: bytes) -> None: ...

    async def wait_flushed(self) -> None: ...


@attrs.define(eq=False)
class Uplink:
    """A `Heard` that passes on at once what it takes, while the session's socket takes it, too.

    A memory channel and a task behind it would cost a task switch for each packet: 15 % of all CPU at 120 calls. So a
    task steps in only when the socket is full, or when there was no session for a while; and one that always waited for
    that would take 3 KiB a call.

    Args:
      append_octets: how much makes a message, of `realtime.append_ms`; what is shorter waits for the rest. A caller who
        falls silent is made up for by the stream, so nothing waits for long.
      codec: of the octets.
    """

    append_octets: int = 20 * OCTETS_PER_MS
    codec: Codec = "PCMU"
    withheld: bool = attrs.field(default=False, init=False)  # the model hears silence in the place of the caller
    _last_voiced: Callable[[], float] = attrs.field(default=never, init=False)
    _batch: bytes = attrs.field(default=b"", init=False)
    # With when the newest audible packet in it was heard, NEVER: there is none.
    _waiting: list[tuple[bytes, float]] = attrs.field(factory=list, init=False)
    _waiting_octets: int = attrs.field(default=0, init=False)
    _append: Callable[[bytes], bool] | None = attrs.field(default=None, init=False)  # None: a task has its turn
    _nursery: trio.Nursery | None = attrs.field(default=None, init=False)  # of the session that hears the caller
    _socket: Appending | None = attrs.field(default=None, init=False)  # likewise
    _lost: RealtimeClosed | None = attrs.field(default=None, init=False)
    _batched: float = attrs.field(default=NEVER, init=False)  # when the newest audible one was heard, at the last batch
    _stuck: float = attrs.field(default=NEVER, init=False)  # when one was heard that the socket has not taken
    _left: tuple[float, float] = attrs.field(default=(NEVER, NEVER), init=False)  # when it was heard, and when taken

    def send_nowait(self, octets: bytes) -> None:
        """Pass on the caller's octets. Raises trio.WouldBlock when more than a second of them waits already."""
        if self.withheld:
            octets = silence_frame(self.codec, len(octets))
        in_parts = bool(self._batch) or len(octets) < self.append_octets
        if in_parts:
            self._batch += octets
            if len(self._batch) < self.append_octets:
                return
            octets, self._batch = self._batch, b""
        try:
            if self._append is not None and self._append(octets):
                if in_parts:
                    self._taken(self._newest_in_batch())
                return
        except RealtimeClosed as error:  # for the call that it concerns: we are in the task of all media
            self._lost = error
        self._delay(octets, self._newest_in_batch() if in_parts else self._voiced_in(octets))

    def appended_at(self, heard_at: float) -> float:
        """When the caller's newest audible packet, heard at that time, was taken by the session's socket.

        Of what leaves at once nothing is written down. Infinity: it still waits.
        """
        voiced, taken_at = self._left
        if voiced == heard_at:
            return taken_at
        waits = heard_at == self._stuck or any(voiced == heard_at for _, voiced in self._waiting)
        return inf if waits or (self._batch and heard_at > self._batched) else heard_at

    def timed_by(self, last_voiced: Callable[[], float]) -> AtEnd:
        """While the block runs, what is audible is timed by when the caller's newest such packet was heard.

        Args:
          last_voiced: tells it, in seconds; the packet is passed on right after.
        """
        self._last_voiced = last_voiced
        return AtEnd(self._untimed)

    def _untimed(self) -> None:
        self._last_voiced = never

    def written_to(self, socket: Appending, nursery: trio.Nursery) -> AtEnd:
        """While the block runs, the session on this socket hears the caller; one at a time.

        RealtimeClosed is raised in `nursery`, which is to end with the block.
        """
        self._socket, self._nursery = socket, nursery
        if self._waiting:
            nursery.start_soon(self._catch_up, socket)
        else:
            self._append = socket.append_nowait
        return AtEnd(self._keep_waiting)

    def _keep_waiting(self) -> None:
        self._socket = self._nursery = self._append = self._lost = None

    async def _catch_up(self, socket: Appending) -> None:
        """Task: what waits is written before anything else. Raises RealtimeClosed."""
        while self._waiting and self._socket is socket:
            octets, self._stuck = self._waiting.pop(0)
            self._waiting_octets -= len(octets)
            await socket.append_audio(octets)
            self._taken(self._stuck)
        if self._socket is socket:
            self._append = socket.append_nowait

    async def _wait_flushed(self, socket: Appending) -> None:
        """Task: the socket is full. Raises RealtimeClosed."""
        await socket.wait_flushed()
        self._taken(self._stuck)
        await self._catch_up(socket)

    def _delay(self, octets: bytes, voiced: float) -> None:
        """These wait: here, or in the socket, which is full now."""
        if self._append is not None and self._socket is not None and self._nursery is not None:
            self._append, self._stuck = None, voiced
            if self._lost is None:
                self._nursery.start_soon(self._wait_flushed, self._socket)
            else:
                self._nursery.start_soon(raise_once, self._lost)
        elif self._waiting_octets >= MOST_OCTETS:
            raise trio.WouldBlock
        else:
            self._waiting.append((octets, voiced))
            self._waiting_octets += len(octets)

    def _newest_in_batch(self) -> float:
        before, self._batched = self._batched, self._last_voiced()
        return self._batched if self._batched > before else NEVER

    def _voiced_in(self, octets: bytes) -> float:
        return self._last_voiced() if is_voiced(octets, self.codec) else NEVER

    def _taken(self, voiced: float) -> None:
        if voiced > self._left[0]:
            self._left = voiced, trio.current_time()
