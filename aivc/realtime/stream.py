"""A byte stream over a non-blocking socket, plain or TLS, with one backlog for everybody who writes.

Two writers share a Realtime connection: trio-websocket, and the audio that is framed by hand. Each write is whole
frames, appended to one backlog, so frames never mix; and a write that was cancelled stays in the backlog and is
completed by the next one, so a frame is never cut in half. `ssl.SSLSocket` in non-blocking mode spares what
`trio.SSLStream` spends on memory buffers and locks.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Protocol

import attrs
import trio

TLS_RECORD = 16384  # octets: the most that one TLS read returns (RFC 8446 section 5.1)
MOST_IN_A_ROW = 8  # reads without a turn for anybody else
MAX_BACKLOG = 16 * 1024 * 1024  # octets: the largest message the API takes; a peer that far behind reads nothing


class SocketWatch(Protocol):
    """Looks at many sockets at once, again and again, in place of tasks that each wait for one of them."""

    def watch(self, descriptor: int, look: Callable[[], None]) -> None:
        """From now on call `look`, which raises nothing, each time that there is something to read."""

    def unwatch(self, descriptor: int) -> None:
        """Not any more."""


class ByteStream(Protocol):
    """A `trio.abc.Stream` that can also be written to without waiting."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data`; when cancelled, the rest goes out with later writes."""

    async def wait_send_all_might_not_block(self) -> None: ...

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what has arrived, empty at the end of the stream."""

    async def receive_each(self, take: Callable[[bytes], bool]) -> None:
        """Give what arrives to `take` where and when it is read, empty at the end, until that returns False.

        Raises as `receive_some`, and what `take` raises.
        """

    async def aclose(self) -> None: ...

    def write_nowait(self, data: bytes) -> bool:
        """Write `data` behind what still waits, as far as the peer takes it now; the rest joins the backlog.

        Returns whether there is no backlog now.

        Raises:
            trio.BrokenResourceError: the connection is gone, or the backlog is full.
            trio.ClosedResourceError: this stream was closed.
        """

    @property
    def backlog_octets(self) -> int:
        """What waits to be written."""

    async def wait_flushed(self) -> None:
        """Write out the backlog; raises as `write_nowait` does."""


@attrs.define
class Direction:
    """Waits until a socket is readable, or until it is writable, for any number of tasks; trio itself allows one."""

    wait: Callable[[socket.socket], Awaitable[None]]
    is_waited_for: bool = attrs.field(default=False, init=False)  # by one task, and those that wait for it
    _left: trio.Event | None = attrs.field(default=None, init=False)  # for which others wait, if there are others

    async def ready(self, sock: socket.socket) -> None:
        """Return when it may be worth trying again: ready, or because another task that waited has left."""
        if self.is_waited_for:
            if self._left is None:
                self._left = trio.Event()
            await self._left.wait()
            return
        self.is_waited_for = True
        try:
            await self.wait(sock)
        finally:
            self.is_waited_for = False
            if self._left is not None:
                self._left.set()
                self._left = None


@attrs.define(eq=False)
class Watched:
    """A socket that a `SocketWatch` reads in place of a task."""

    sock: socket.socket
    watch: SocketWatch
    take: Callable[[bytes], bool]
    context: Context
    over: trio.Event = attrs.field(factory=trio.Event)
    is_enough: bool = False  # as `take` says
    failure: Exception | None = None

    def look(self) -> None:
        try:
            data = self.sock.recv(TLS_RECORD)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except ssl.SSLWantWriteError:  # TLS 1.2 renegotiation: the task reads on, and waits for what it needs
            self.end()
            return
        except OSError as error:
            self.failure = trio.BrokenResourceError("the connection is gone")
            self.failure.__cause__ = error
            self.end()
            return
        try:
            self.is_enough = not self.context.run(self.take, data)
        except Exception as error:  # for the task that we read for: others' sockets wait for us
            self.failure = error
        if self.is_enough or self.failure is not None:
            self.end()

    def end(self) -> None:
        """At once: nothing may be read that `take` will not see."""
        if not self.over.is_set():
            self.over.set()
            self.watch.unwatch(self.sock.fileno())


@attrs.define(eq=False)
class SocketByteStream(trio.abc.Stream):
    """A `ByteStream` over a connected, non-blocking socket, which it owns.

    Args:
        watch: what reads it during `receive_each`; None: the task itself.
    """

    sock: socket.socket
    watch: SocketWatch | None = attrs.field(default=None, repr=False)
    _backlog: bytearray = attrs.field(factory=bytearray, init=False, repr=False)
    _closed: bool = attrs.field(default=False, init=False)
    _in_a_row: int = attrs.field(default=0, init=False)  # reads since others had their turn
    _watched: Watched | None = attrs.field(default=None, init=False, repr=False)
    _readable: Direction = attrs.field(factory=lambda: Direction(trio.lowlevel.wait_readable), init=False, repr=False)
    _writable: Direction = attrs.field(factory=lambda: Direction(trio.lowlevel.wait_writable), init=False, repr=False)

    @property
    def backlog_octets(self) -> int:
        return len(self._backlog)

    def write_nowait(self, data: bytes) -> bool:
        # straight from `data`: copying all to and fro costs 2 % of all CPU; what is refused is not half written
        if not self._backlog and len(data) <= MAX_BACKLOG:
            try:
                sent = self.sock.send(data)
            except OSError:
                pass  # who tries again meets it, too
            else:
                if sent == len(data):
                    return True
                data = data[sent:]
        if len(self._backlog) + len(data) > MAX_BACKLOG:
            raise trio.BrokenResourceError(f"{len(self._backlog)} octets wait already: the peer does not read")
        self._backlog += data
        return self._try_write() is None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()  # not begun is not half written
        self.write_nowait(bytes(data))
        await self.wait_flushed()

    async def wait_flushed(self) -> None:
        await trio.lowlevel.checkpoint()
        while (blocked := self._try_write()) is not None:
            await blocked.ready(self.sock)

    async def wait_send_all_might_not_block(self) -> None:
        await self.wait_flushed()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        # Events come in bursts, audio and its transcript at least: reading until nothing is left, without a turn of the
        # loop each time, spares 4 % of all system calls.
        if 0 < self._in_a_row < MOST_IN_A_ROW:
            await trio.lowlevel.checkpoint_if_cancelled()
            with contextlib.suppress(OSError):  # nothing is there yet; what else is wrong shows below, too
                data = self.sock.recv(max_bytes or TLS_RECORD)
                self._in_a_row += 1
                return data
        self._in_a_row = 0
        blocked = self._readable
        while True:
            if self._is_pending():
                await trio.lowlevel.checkpoint()
            else:
                self._check_open()
                await blocked.ready(self.sock)
            try:
                data = self.sock.recv(max_bytes or TLS_RECORD)
                self._in_a_row = 1
                return data
            except (BlockingIOError, ssl.SSLWantReadError):
                blocked = self._readable
            except ssl.SSLWantWriteError:
                blocked = self._writable
            except OSError as error:
                raise self._failure() from error

    async def receive_each(self, take: Callable[[bytes], bool]) -> None:
        while self.watch is None or not await self._have_read(self.watch, take):
            if not take(await self.receive_some()):
                return

    async def _have_read(self, watch: SocketWatch, take: Callable[[bytes], bool]) -> bool:
        """Have `watch` read until `take` has enough; False if the task is to read itself next."""
        self._check_open()
        if self._readable.is_waited_for or self._is_pending():  # by a writer, see `_try_write`
            return False
        # In the context of this task, whose call the log is to name, though another one reads.
        watched = Watched(self.sock, watch, take, trio.lowlevel.current_task().context)
        watch.watch(self.sock.fileno(), watched.look)
        self._watched = watched
        try:
            await watched.over.wait()
        finally:
            watched.end()
            self._watched = None
            failure, watched.failure = watched.failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # its traceback knows this frame
        return watched.is_enough

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            if self._watched is not None:
                self._watched.end()
            if isinstance(self.sock, ssl.SSLSocket) and not self._backlog:
                with contextlib.suppress(OSError, ValueError):  # a courtesy: close_notify, RFC 8446 section 6.1
                    self.sock.unwrap()
            trio.lowlevel.notify_closing(self.sock)
            self.sock.close()
            self._backlog.clear()
        await trio.lowlevel.checkpoint()

    async def handshake(self) -> None:
        """Complete the TLS handshake of an `ssl.SSLSocket` that was wrapped without it.

        Raises:
            ssl.SSLError: including `ssl.SSLCertVerificationError`.
            OSError: the connection broke.
        """
        if not isinstance(self.sock, ssl.SSLSocket):
            return
        while True:
            try:
                self.sock.do_handshake()
            except ssl.SSLWantReadError:
                blocked = self._readable
            except ssl.SSLWantWriteError:
                blocked = self._writable
            else:
                await trio.lowlevel.checkpoint()
                return
            self._check_open()
            await blocked.ready(self.sock)

    def _try_write(self) -> Direction | None:
        """Write what the socket takes; return what to wait for when something is left."""
        self._check_open()
        try:
            while self._backlog:
                del self._backlog[: self.sock.send(self._backlog)]
        except (BlockingIOError, ssl.SSLWantWriteError):
            return self._writable
        except ssl.SSLWantReadError:  # TLS 1.2 renegotiation, which needs the peer's answer first
            if self._watched is not None:
                self._watched.end()  # what it reads in another's place would wake nobody who waits for that answer
            return self._readable
        except OSError as error:
            raise self._failure() from error
        return None

    def _is_pending(self) -> bool:
        """Whether something is decrypted already: the socket itself may stay silent."""
        return isinstance(self.sock, ssl.SSLSocket) and not self._closed and self.sock.pending() > 0

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")

    def _failure(self) -> trio.ClosedResourceError | trio.BrokenResourceError:
        if self._closed:
            return trio.ClosedResourceError("this stream was closed")
        return trio.BrokenResourceError("the connection is gone")
