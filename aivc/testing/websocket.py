"""A byte stream joined in memory: what a TCP connection is to a WebSocket, under a fake clock.

`memory_stream_pair()` gives two ends. Each is a `trio.abc.Stream`, so that `trio_websocket.wrap_client_stream` and
`wrap_server_stream` take it, and each also has what a connection that must never block its writer needs:
`write_nowait`, `backlog_octets` and `wait_flushed`.

    writer --write_nowait--> [ window: "in flight and in the kernel" | backlog: "not yet accepted" ] --> reader
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

import attrs
import trio

from aivc.testing.ranges import SECONDS

LARGEST_READ = 65536  # octets; what one receive_some() gives when the caller names no limit
STALLS = attrs.validators.deep_iterable(attrs.validators.deep_iterable(SECONDS))


@attrs.frozen(kw_only=True)
class Latency:
    """How long octets travel in one direction. Order is kept, as in TCP.

    Raises ValueError for seconds that are negative or no number.
    """

    seconds: float = attrs.field(default=0.0, validator=SECONDS)
    # uniformly 0 to so much on top, drawn for each write
    jitter_seconds: float = attrs.field(default=0.0, validator=SECONDS)
    seed: int = 0
    # (when, how long), seconds since the connection was opened: what would arrive meanwhile arrives at the end of it
    stalls: tuple[tuple[float, float], ...] = attrs.field(default=(), validator=STALLS)

    def arrival(self, opened_at: float, due: float) -> float:
        """When something arrives that would at `due`, but for the stalls."""
        for at, seconds in sorted(self.stalls):
            if opened_at + at <= due < opened_at + at + seconds:
                due = opened_at + at + seconds
        return due


class Pipe:
    """One direction: octets with their arrival times.

    Args:
        latency: how long every write travels.
        window_octets: how much the path accepts before the writer's backlog grows; None = everything.
    """

    def __init__(self, latency: Latency, window_octets: int | None) -> None:
        self.latency = latency
        self.window_octets = window_octets
        self.random = random.Random(latency.seed)
        self.chunks: deque[tuple[float, bytes]] = deque()
        self.octets = 0  # written and not yet read
        self.last_arrival = 0.0
        self.opened_at = trio.current_time() if latency.stalls else 0.0
        self.ended = False  # the writer closed: end of file after the last chunk
        self.broken = False  # the connection was cut
        self.reader_closed = False
        self.changed = trio.Event()

    @property
    def backlog_octets(self) -> int:
        return 0 if self.window_octets is None else max(0, self.octets - self.window_octets)

    def announce(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    def write(self, data: bytes) -> None:
        if self.broken or self.reader_closed:
            raise trio.BrokenResourceError("the connection was cut")
        if self.ended:
            raise trio.ClosedResourceError("this end is closed")
        if not data:
            return
        travel = self.latency.seconds + self.latency.jitter_seconds * self.random.random()
        due = trio.current_time() + travel
        self.last_arrival = max(
            self.last_arrival, self.latency.arrival(self.opened_at, due) if self.latency.stalls else due
        )
        self.chunks.append((self.last_arrival, bytes(data)))
        self.octets += len(data)
        self.announce()

    def take(self, max_octets: int) -> bytes:
        """What has arrived, at most `max_octets`; empty if nothing has."""
        taken: list[bytes] = []
        room = max_octets
        while self.chunks and room and self.chunks[0][0] <= trio.current_time():
            arrival, data = self.chunks.popleft()
            if len(data) > room:
                self.chunks.appendleft((arrival, data[room:]))
            taken.append(data[:room])
            room -= len(taken[-1])
        self.octets -= max_octets - room
        if taken:
            self.announce()
        return b"".join(taken)

    async def wait_changed(self) -> None:
        """Wait for a write, a read, an end, or for the next chunk to arrive."""
        if self.chunks and (arrival := self.chunks[0][0]) > trio.current_time():
            with trio.move_on_at(arrival):
                await self.changed.wait()
        else:
            await self.changed.wait()


class MemoryStream(trio.abc.Stream):
    """One end of a connection in memory; made by `memory_stream_pair()`."""

    def __init__(self, outgoing: Pipe, incoming: Pipe) -> None:
        self._outgoing = outgoing
        self._incoming = incoming
        self._closed = False
        self._stalled = False

    @property
    def backlog_octets(self) -> int:
        """Octets written here that the path has not accepted; always 0 without a window."""
        return self._outgoing.backlog_octets

    def write_nowait(self, data: bytes) -> bool:
        """Queue octets for the peer; never waits. Returns whether there is no backlog now.

        Raises:
            trio.ClosedResourceError: this end is closed.
            trio.BrokenResourceError: the connection was cut, or the peer closed it.
        """
        if self._closed:
            raise trio.ClosedResourceError("this end is closed")
        if not self._stalled:
            self._outgoing.write(data)
        return not self._outgoing.backlog_octets

    async def wait_flushed(self) -> None:
        """Wait until the backlog is empty.

        Raises:
            trio.ClosedResourceError: this end was closed meanwhile.
            trio.BrokenResourceError: the connection was cut, or the peer closed it.
        """
        await trio.lowlevel.checkpoint()
        while self._stalled or self._outgoing.backlog_octets:
            if self._closed:
                raise trio.ClosedResourceError("this end is closed")
            if self._outgoing.broken or self._outgoing.reader_closed:
                raise trio.BrokenResourceError("the connection was cut")
            await self._outgoing.wait_changed()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.write_nowait(bytes(data))
        await self.wait_flushed()

    async def wait_send_all_might_not_block(self) -> None:
        await self.wait_flushed()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None and max_bytes < 1:
            raise ValueError(f"max_bytes is {max_bytes}, expected 1 or more")
        await trio.lowlevel.checkpoint_if_cancelled()
        if (data := self._take(max_bytes or LARGEST_READ)) is not None:
            await trio.lowlevel.cancel_shielded_checkpoint()  # as in trio's own streams: not after having waited
        while data is None:
            await self._incoming.wait_changed()
            data = self._take(max_bytes or LARGEST_READ)
        return data

    def _take(self, max_octets: int) -> bytes | None:
        """What has arrived, empty at the end; None: nothing yet."""
        if self._closed:
            raise trio.ClosedResourceError("this end is closed")
        if self._incoming.broken:
            raise trio.BrokenResourceError("the connection was cut")
        if self._stalled:
            return None
        data = self._incoming.take(max_octets)
        return data if data or (self._incoming.ended and not self._incoming.chunks) else None

    async def receive_each(self, take: Callable[[bytes], bool]) -> None:
        while take(await self.receive_some()):
            pass

    async def aclose(self) -> None:
        """Close this end: the peer reads what is under way, then end of file."""
        self._closed = True
        self._outgoing.ended = True
        self._incoming.reader_closed = True
        self._outgoing.announce()
        self._incoming.announce()
        await trio.lowlevel.checkpoint()

    def drop(self) -> None:
        """Cut the connection, as a network failure would: both ends break at once and nothing under way arrives."""
        for pipe in (self._outgoing, self._incoming):
            pipe.broken = True
            pipe.announce()

    def stall(self) -> None:
        """Make this end half-open: it reads and sends nothing any more, and says so to nobody."""
        self._stalled = True


def memory_stream_pair(
    *,
    latency: Latency | tuple[Latency, Latency] | None = None,
    window_octets: int | None = None,
) -> tuple[MemoryStream, MemoryStream]:
    """Two ends of one connection.

    Args:
        latency: for both directions, or (first to second, second to first); None = none.
        window_octets: how many unread octets each direction accepts before its writer sees a backlog; None = all.
            A TCP connection over loopback accepts some hundred thousand.
    """
    forth, back = latency if isinstance(latency, tuple) else (latency or Latency(), latency or Latency())
    first, second = Pipe(forth, window_octets), Pipe(back, window_octets)
    return MemoryStream(first, second), MemoryStream(second, first)
