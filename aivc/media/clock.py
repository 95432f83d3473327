"""Who waits for the network and for the next packet: tasks of each call, or one heartbeat for all calls.

Both kinds give a call one task for its RTP and RTCP, in and out, which lives and dies in the call's nursery.
`TaskClock` is plain trio: right for a few calls, for fake clocks and virtual networks. `Heartbeat` does the same for
hundreds of calls at far less CPU: one wake-up every 5 ms sends what is due and polls every RTP socket. Calls with
packets of 20 ms have slots of their own, a quarter of them each; the few with another length are looked at every time.
"""

from __future__ import annotations

import contextlib
import select
import socket as stdlib
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Final, Protocol

import attrs
import trio

from aivc.media.g711 import FRAME_MS, FRAME_SECONDS
from aivc.media.playout import unawaited
from aivc.media.polling import Polled
from aivc.media.punctuality import Punctuality
from aivc.media.reporting import FLOOD_PAUSE, keep_reporting, listen
from aivc.media.stream import RtpStream
from aivc.media.timer import OpenTimer, Timer, open_system_timer

SLOTS: Final = 4  # the calls' frames are spread over so many wake-ups
TICK: Final = FRAME_SECONDS / SLOTS  # seconds
READING: Final = TICK / 4  # seconds that reading the models may delay the packets of a beat
DRAINED: Final = 64  # datagrams taken at once from a socket that had some a tick ago too: a burst, or a flood
# Of the caller's the first 64 are heeded however fast they come: a second of audio that a network, or a stall of ours,
# has held back. In the long run 1600 a second are; a telephone sends 17 to 100.
HEEDED: Final = 8  # a tick
LARGEST_DATAGRAM_OCTETS: Final = 2048  # beyond an Ethernet frame; RTP audio is far below
LOOKED_BACK: Final = 200  # ticks, one second: of a longer stall no more is noted


class MediaClock(Protocol):
    """Runs the media of calls."""

    @property
    def punctuality(self) -> Punctuality:
        """How late packets leave."""

    async def carry(self, stream: RtpStream) -> None:
        """Task: the RTP and RTCP of one call, in and out. Does not return: cancel it to stop."""


@attrs.define
class TaskClock:
    """Each stream waits for itself."""

    punctuality: Punctuality = attrs.field(factory=Punctuality, eq=False)

    async def carry(self, stream: RtpStream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.receive, stream)
            nursery.start_soon(self.send, stream)
            if stream.rtcp is not None:
                nursery.start_soon(keep_reporting, stream, stream.rtcp, partial(listen, stream, stream.rtcp))

    async def receive(self, stream: RtpStream) -> None:
        """Task: RTP in."""
        while True:
            try:
                datagram, source = await stream.socket.recvfrom(LARGEST_DATAGRAM_OCTETS)
            except OSError:  # an ICMP error for something that we sent: the next datagram may be fine
                stream.counters.receive_errors += 1
            else:
                stream.received(datagram, source[:2], trio.current_time())

    async def send(self, stream: RtpStream) -> None:
        """Task: RTP out."""
        while True:
            due = stream.pacer.due
            await trio.sleep_until(due)
            now = trio.current_time()
            self.punctuality.note(now - due, 1, now)
            packet = stream.outgoing(now)
            if packet is not None:
                try:
                    await stream.socket.sendto(packet, stream.remote)
                except OSError:
                    stream.counters.send_errors += 1


@attrs.define(eq=False)
class Line:
    """One stream in the heartbeat's care; an error of its own ends its own call."""

    stream: RtpStream
    socket: stdlib.socket
    control: stdlib.socket | None = None  # for RTCP, where that has a port of its own
    deaf_until: float = 0.0  # nothing is read of a flood of RTCP; it waits, or is lost, in the system
    failed: trio.Event = attrs.field(factory=trio.Event)
    error: Exception | None = None
    ready_at: int = -2  # the last beat that found a datagram
    spare: int = DRAINED  # datagrams of the caller's that would be heeded now

    def fail(self, error: Exception) -> None:
        self.error = error
        self.failed.set()

    async def wait_failed(self) -> None:
        await self.failed.wait()
        assert self.error is not None
        raise self.error


@attrs.define(eq=False)
class Heartbeat:
    """One wake-up every 5 ms for all calls of the process; none while there is no call. Use `open_heartbeat()`."""

    _epoll: select.epoll
    _polled: Polled
    _open_timer: OpenTimer
    punctuality: Punctuality = attrs.field(factory=Punctuality)
    _lines: dict[int, Line] = attrs.field(factory=dict)  # by the descriptor of RTP
    _controls: dict[int, Line] = attrs.field(factory=dict)  # by that of RTCP
    _slots: tuple[list[Line], ...] = attrs.field(factory=lambda: tuple([] for _ in range(SLOTS)))
    _others: list[Line] = attrs.field(factory=list)  # with packets of another length than 20 ms
    _wanted: trio.Event = attrs.field(factory=trio.Event)
    _origin: float = 0.0  # of the ticks, seconds on trio's clock
    _ticks: int = 0
    _beats: int = 0

    async def carry(self, stream: RtpStream) -> None:
        rtcp = stream.rtcp
        own_port = contextlib.nullcontext() if rtcp is None or rtcp.socket is None else twin_socket(rtcp.socket)
        with twin_socket(stream.socket) as sock, own_port as control:
            line = Line(stream, sock, control)
            self._open(line)
            self._wanted.set()
            try:
                if rtcp is None:
                    await line.wait_failed()
                else:
                    await keep_reporting(stream, rtcp, line.wait_failed)
            finally:
                self._close(line)

    def _open(self, line: Line) -> None:
        self._epoll.register(line.socket.fileno(), select.EPOLLIN)
        self._lines[line.socket.fileno()] = line
        if line.control is not None:
            self._epoll.register(line.control.fileno(), select.EPOLLIN)
            self._controls[line.control.fileno()] = line
        self._seat(line)
        line.stream.repaced = partial(self._seat, line)

    def _close(self, line: Line) -> None:
        line.stream.repaced = unawaited
        self._unseat(line)
        self._epoll.unregister(line.socket.fileno())
        del self._lines[line.socket.fileno()]
        if line.control is not None:
            self._epoll.unregister(line.control.fileno())
            del self._controls[line.control.fileno()]

    def _seat(self, line: Line) -> None:
        """Give a stream its place, by the length of its packets; one that has a place keeps its next due time.

        A new one gets the slot with the fewest. By its own time calls that come at even intervals would all share one.
        """
        had_place = self._unseat(line)
        pacer = line.stream.pacer
        tick = round((pacer.due - self._origin) / TICK)
        if line.stream.ptime_ms != FRAME_MS:
            self._others.append(line)
            pacer.due = self._origin + max(tick, self._ticks + 1) * TICK
        elif had_place and tick > self._ticks:
            self._slots[tick % SLOTS].append(line)
        else:
            slot = min(range(SLOTS), key=lambda n: len(self._slots[n]))
            self._slots[slot].append(line)
            pacer.due = self._next_tick(slot)

    def _unseat(self, line: Line) -> bool:
        """Whether it had a place."""
        for lines in (*self._slots, self._others):
            if line in lines:
                lines.remove(line)
                return True
        return False

    def watch(self, descriptor: int, look: Callable[[], None]) -> None:
        """Read this one, too, before sending what is due: what comes just in time is to leave; see `Polled.watch`."""
        self._polled.watch(descriptor, look)
        self._wanted.set()

    def unwatch(self, descriptor: int) -> None:
        """Not any more; to be told before the descriptor is closed."""
        self._polled.unwatch(descriptor)

    async def run(self) -> None:
        """Beat for ever; cancel to stop."""
        while True:
            await self._wanted.wait()
            with self._open_timer(TICK) as timer:
                self._origin, self._ticks = trio.current_time(), 0
                for slot, lines in enumerate(self._slots):
                    for line in lines:
                        line.stream.pacer.due = self._next_tick(slot)
                for line in self._others:
                    line.stream.pacer.due = self._origin + TICK
                while self._lines or self._polled:
                    await self._beat(timer)
            self._wanted = trio.Event()

    async def _beat(self, timer: Timer) -> None:
        missed = await timer.wait()
        self._polled.look(trio.current_time() + READING)
        now = trio.current_time()
        for tick in range(self._ticks + max(1, missed - SLOTS + 1), self._ticks + missed + 1):
            for line in self._slots[tick % SLOTS]:
                send_due(line, now)
        for line in self._others:
            send_due(line, now)
        self._note(missed)
        self._ticks += missed
        self._beats += 1
        for descriptor, _ in self._epoll.poll(0):
            if (ready := self._lines.get(descriptor)) is not None:
                receive_ready(ready, self._beats, now)
            else:
                receive_control(self._controls[descriptor], now)

    def _note(self, missed: int) -> None:
        """How late the last packet of each of these ticks was: our wake-up, the ticks behind it, and the sending.

        Those of ticks that a stall made us skip never left, and count as well.
        """
        now, packets = trio.current_time(), len(self._lines) / SLOTS  # about so many in each tick
        for behind in range(min(missed, LOOKED_BACK)):
            due = self._origin + (self._ticks + missed - behind) * TICK
            self.punctuality.note(now - due, packets, now)

    def _next_tick(self, slot: int) -> float:
        return self._origin + (self._ticks + 1 + (slot - self._ticks - 1) % SLOTS) * TICK


def send_due(line: Line, now: float) -> None:
    """Send every frame of one stream that is due: one, or a few after a short stall."""
    stream, pacer, soon = line.stream, line.stream.pacer, now + TICK / 2
    try:
        while pacer.due <= soon:
            packet = stream.outgoing(now)
            if packet is not None:
                line.socket.sendto(packet, stream.latch.remote)
    except OSError:  # a full socket buffer or an unreachable peer loses this packet, as a network would
        stream.counters.send_errors += 1
    except Exception as error:
        line.fail(error)


def receive_ready(line: Line, beat: int, now: float) -> None:
    """Take one datagram; more when the last beat left some, so that a stranger's flood cannot bury the caller."""
    passed = beat - line.ready_at
    line.ready_at = beat
    if line.spare < DRAINED:
        line.spare = min(DRAINED, line.spare + HEEDED * passed)
    try:
        if passed == 1:
            receive_burst(line, now)
        else:
            datagram, source = line.socket.recvfrom(LARGEST_DATAGRAM_OCTETS)
            line.stream.received(datagram, source[:2], now)
    except BlockingIOError:
        pass
    except OSError:
        line.stream.counters.receive_errors += 1
    except Exception as error:
        line.fail(error)


def receive_burst(line: Line, now: float) -> None:
    """Take up to 64 datagrams, and read what a telephone might have sent of them."""
    stream = line.stream
    for _ in range(DRAINED):
        datagram, source = line.socket.recvfrom(LARGEST_DATAGRAM_OCTETS)
        if source[:2] == stream.latch.pinned:
            if not line.spare:
                stream.counters.flooded += 1
                continue
            line.spare -= 1
        stream.received(datagram, source[:2], now)


def receive_control(line: Line, now: float) -> None:
    """Take one datagram of RTCP."""
    stream, control = line.stream, line.stream.rtcp
    if control is None or line.control is None or now < line.deaf_until:
        return
    try:
        datagram, source = line.control.recvfrom(LARGEST_DATAGRAM_OCTETS)
        stream.control_received(datagram, source[:2], now)
    except BlockingIOError:
        pass
    except OSError:  # an ICMP error for a report of ours
        control.unsent += 1
    except Exception as error:
        line.fail(error)
    if control.is_flooded:
        line.deaf_until = now + FLOOD_PAUSE


@contextlib.contextmanager
def twin_socket(sock: trio.socket.SocketType) -> Iterator[stdlib.socket]:
    """The same descriptor as a non-blocking standard socket, without trio's checkpoints; it stays open afterwards."""
    twin = stdlib.socket(fileno=sock.fileno())
    twin.setblocking(False)
    try:
        yield twin
    finally:
        twin.detach()


@contextlib.asynccontextmanager
async def open_heartbeat(open_timer: OpenTimer | None = None) -> AsyncIterator[MediaClock]:
    """A heartbeat for all calls of this process; plain tasks where the system has no epoll.

    Args:
      open_timer: what it beats by; None: timerfd. `open_sleep_timer` beats by trio's clock, which may be a fake one.
    """
    if not hasattr(select, "epoll"):
        yield TaskClock()
        return
    with select.epoll() as epoll, select.epoll() as others:
        async with trio.open_nursery() as nursery:
            heartbeat = Heartbeat(epoll, Polled(others), open_timer or open_system_timer)
            nursery.start_soon(heartbeat.run)
            yield heartbeat
            nursery.cancel_scope.cancel()
