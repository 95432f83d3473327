"""The WebSocket to the model: opened, kept alive, closed within bounds.

trio-websocket does the upgrade, ping and pong, and closing; the audio of the caller is framed by hand and written to
the same stream, and the server's messages are taken out of it before trio-websocket sees them (tap.py). Its reader
runs in the nursery that the caller gives, in a task of ours that owns the stream: a refused upgrade or a broken reader
becomes an error here and never an exception in that nursery. Let that nursery be outside the one of the call, so that
the reader is still alive for the closing handshake.
"""

from __future__ import annotations

import logging
import math
import os
import ssl
from array import array
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import chain
from typing import NoReturn, cast

import attrs
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream

from aivc import logs
from aivc.config.settings import OpenAISettings
from aivc.realtime.dialects import ProtocolViolation
from aivc.realtime.dialling import close_now, dial, why_unreachable
from aivc.realtime.framing import KEY_OCTETS, append_frame
from aivc.realtime.inbox import Inbox, Message
from aivc.realtime.refusals import RealtimeClosed, RealtimeRefused, refused_by_http
from aivc.realtime.sieve import MessageSieve
from aivc.realtime.stream import TLS_RECORD, ByteStream, SocketByteStream
from aivc.realtime.tap import MessageTap
from aivc.realtime.target import Target, target

__all__ = ["RealtimeClosed", "RealtimeRefused", "RealtimeSocket", "open_realtime", "wrap_realtime"]

log = logging.getLogger("aivc.realtime")

MAX_MESSAGE = 16 * 1024 * 1024  # octets: session.created repeats prompt and tools, a delta may be hundreds of kilobytes
MESSAGE_QUEUE = 64  # messages: while it is full the reader answers no ping
POOLED_KEYS = 32  # mask keys drawn at once: a system call for each frame costs as much as the frame
ABNORMAL = 1006  # no close frame came, RFC 6455 section 7.4.1


def draw_keys() -> array[int]:
    return array("I", os.urandom(KEY_OCTETS * POOLED_KEYS))


def mask_keys() -> Iterator[int]:
    """Unpredictable mask keys (RFC 6455 section 5.3) without end, drawn from the system in large pieces."""
    return chain.from_iterable(iter(draw_keys, None))


@attrs.define(eq=False)
class RealtimeSocket:
    """One open WebSocket. One task may receive; any number may send."""

    websocket: WebSocketConnection = attrs.field(repr=False)
    tap: MessageTap = attrs.field(repr=False)
    messages: Inbox = attrs.field(repr=False)
    connect_deadline: float = math.inf  # until when session.created must be here
    round_trip: float | None = attrs.field(default=None, init=False)  # of the fastest ping so far, seconds
    _mask_keys: Iterator[int] = attrs.field(factory=mask_keys, init=False, repr=False)

    @property
    def stream(self) -> ByteStream:
        """The connection under the WebSocket."""
        return self.tap.stream

    async def receive(self) -> str:
        """Return the next message; what came before a close is still returned before the close is reported.

        Returns without a checkpoint while messages wait, at most `MESSAGE_QUEUE` of them.

        Raises:
            RealtimeClosed: the connection is over.
            ProtocolViolation: a binary message, which the API does not have; the connection is still good.
        """
        message = await self.messages.receive()
        return text_of(await self._rest() if message is None else message)

    async def receive_each(self, take: Callable[[Message], None]) -> NoReturn:
        """Give every message to `take` where and when it is read: a channel and a task behind it take 3 % of all CPU.

        Raises RealtimeClosed, or what `take` raises; what comes after that waits to be received.
        """
        await self.messages.receive_each(take)
        while True:
            take(await self._rest())

    async def send(self, text: str) -> None:
        """Send one message.

        Raises:
            RealtimeClosed: the connection is over.
        """
        try:
            await self.websocket.send_message(text)
        except ConnectionClosed:
            raise self._closed() from None

    def append_nowait(self, audio: bytes) -> bool:
        """Append the caller's audio, in the session's format, to the server's input buffer.

        Returns whether the peer reads as fast as we write; if not, `wait_flushed` is to be next.

        Raises:
            RealtimeClosed: the connection is over, or closing: nothing may follow a close frame.
        """
        tap = self.tap
        if tap.is_closing:
            raise self._closed()
        try:
            return tap.stream.write_nowait(append_frame(audio, next(self._mask_keys)))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise self._broken() from None

    async def append_audio(self, audio: bytes) -> None:
        """The same, and wait until it is written; at once, without a checkpoint, if it can be."""
        if not self.append_nowait(audio):
            await self.wait_flushed()

    async def wait_flushed(self) -> None:
        """Wait until the peer has taken what was appended. Raises RealtimeClosed."""
        try:
            await self.stream.wait_flushed()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise self._broken() from None

    async def ping(self, pong_seconds: float) -> None:
        """Ask whether the peer is still there, and how far away it is.

        Raises:
            RealtimeClosed: the connection is over, or a pong did not come within `pong_seconds`.
        """
        asked_at = trio.current_time()
        with trio.move_on_after(pong_seconds):
            try:
                await self.websocket.ping()
            except ConnectionClosed:
                raise self._closed() from None
            took = trio.current_time() - asked_at
            self.round_trip = took if self.round_trip is None else min(took, self.round_trip)
            return
        if self.websocket.closed is not None:
            raise self._closed()
        raise RealtimeClosed(ABNORMAL, f"no pong within {pong_seconds:g} s")

    async def close(self, seconds: float) -> bool:
        """Close politely even when cancelled, never for longer than `seconds`; say whether the peer answered."""
        self.messages.close()  # else those that nobody receives would keep the peer's close from being read
        with trio.move_on_after(seconds, shield=True) as grace:
            await self.websocket.aclose()
        # Not `cancelled_caught`: called while an exception is in flight, trio-websocket's aclose() swallows the
        # Cancelled of our own scope.
        answered = not grace.cancel_called
        await close_now(self.stream)  # after a close by the peer, aclose() leaves the TCP connection to the peer
        return answered

    async def _rest(self) -> Message:
        """The next message after the inbox has ended."""
        try:
            return await self.websocket.get_message()
        except ConnectionClosed:
            raise self._closed() from None

    def _broken(self) -> RealtimeClosed:
        is_closed = self.websocket.closed is not None
        return self._closed() if is_closed else RealtimeClosed(ABNORMAL, "the connection is gone")

    def _closed(self) -> RealtimeClosed:
        """Why the connection is over."""
        reason = self.websocket.closed
        return RealtimeClosed(ABNORMAL, "") if reason is None else RealtimeClosed(reason.code, reason.reason or "")


def text_of(message: Message) -> str:
    """Raises ProtocolViolation for a binary message, which the API does not have; the connection is still good."""
    if isinstance(message, bytes):
        raise ProtocolViolation(f"a binary message of {len(message)} octets")
    return message


async def open_realtime(
    nursery: trio.Nursery,
    settings: OpenAISettings,
    *,
    ssl_context: ssl.SSLContext | None = None,
    connect: Callable[[Target], Awaitable[SocketByteStream]] | None = None,
) -> RealtimeSocket:
    """Connect to the endpoint of these settings; takes at most `openai.connect_seconds`.

    Args:
        nursery: holds the reader; cancel it, or close the socket, to end it. The connection is closed with it.
        ssl_context: make one for the whole process, it takes 20 ms; None makes a default one when TLS is needed.
        connect: gives the connection that is to be upgraded; None connects to the target, with this `ssl_context`.

    Raises:
        RealtimeRefused: no such host, no connection, bad certificate, upgrade refused, too slow; or settings that no
            connection can be made with.
    """
    try:
        place = target(settings)
    except ValueError as error:
        raise RealtimeRefused("bad_target", str(error)) from None
    deadline = trio.current_time() + settings.connect_seconds
    try:
        with trio.fail_at(deadline):
            stream = await (dial(place, ssl_context) if connect is None else connect(place))
    except trio.TooSlowError:
        raise RealtimeRefused("timeout", f"no connection to {place.authority}", retryable=True) from None
    except ssl.SSLError as error:
        cause = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else error.reason
        raise RealtimeRefused("tls", f"TLS with {place.authority} failed: {cause}") from None
    except UnicodeError:  # a label of 64 characters, an empty one: no IDNA form
        raise RealtimeRefused("bad_target", f"{place.authority}: not a host name") from None
    except OSError as error:
        raise RealtimeRefused("unreachable", f"{place.authority}: {why_unreachable(error)}", retryable=True) from None
    return await wrap_realtime(
        nursery, stream, place.authority, place.resource, place.headers, connect_deadline=deadline
    )


async def wrap_realtime(
    nursery: trio.Nursery,
    stream: ByteStream,
    host: str,
    resource: str,
    headers: Sequence[tuple[str, str]],
    *,
    connect_deadline: float = math.inf,
) -> RealtimeSocket:
    """Upgrade a connected stream, which is owned from now on and closed whatever happens.

    Args:
        host: the Host header, with the port where it is not the scheme's own.
        resource: path and query.
        connect_deadline: trio time by which the upgrade, and later session.created, must be done.

    Raises:
        RealtimeRefused: the server refused the upgrade, hung up, spoke no WebSocket or took too long.
    """
    messages = Inbox(MESSAGE_QUEUE)
    tap = MessageTap(stream, messages, MessageSieve(MAX_MESSAGE))
    reader = Reader(nursery, tap)
    try:
        with trio.fail_at(connect_deadline), reader.upgrading:
            websocket = await wrap_client_stream(
                cast("trio.Nursery", reader),  # nothing of a nursery is used but `start_soon`
                cast("trio.SocketStream", tap),  # typed narrowly, takes any stream
                host,
                resource,
                extra_headers=[(name.encode("ascii"), value.encode("ascii")) for name, value in headers],
                message_queue_size=MESSAGE_QUEUE,
                max_message_size=MAX_MESSAGE,
                receive_buffer_size=TLS_RECORD,
            )
            reader.is_upgraded = True
            return RealtimeSocket(websocket, tap, messages, connect_deadline)
    except trio.TooSlowError:
        raise RealtimeRefused("timeout", f"no WebSocket upgrade by {host}", retryable=True) from None
    finally:
        if not reader.is_upgraded:
            messages.close()
            await close_now(stream)  # which ends the reader
    raise why_not_upgraded(reader.failure, dict(headers).get("Authorization", "").removeprefix("Bearer "))


@attrs.define(eq=False)
class Reader:
    """In place of a nursery for trio-websocket's reader: a nursery for it alone would take 1 KiB of each call."""

    nursery: trio.Nursery
    tap: MessageTap
    upgrading: trio.CancelScope = attrs.field(factory=trio.CancelScope)  # of who waits for the upgrade
    is_upgraded: bool = False
    failure: Exception | None = None

    def start_soon(self, read: Callable[[], Awaitable[None]]) -> None:
        """What trio-websocket calls."""
        self.nursery.start_soon(hold_open, self, read)


async def hold_open(reader: Reader, read: Callable[[], Awaitable[None]]) -> None:
    """Task: read until the connection is over, and close the stream after it. Never fails.

    The reader raises a refused upgrade; and when the server just hangs up it ends, and leaves the task that waits for
    the upgrade waiting for ever. So that task is woken here.
    """
    try:
        await read()
    except Exception as error:
        reader.failure = error.with_traceback(None)  # which knows this frame, which knows `reader`
    finally:
        reader.tap.messages.end()
        reader.upgrading.cancel()
        await close_now(reader.tap.stream)
    if reader.is_upgraded and reader.failure is not None:  # without its text: an HTTP library may quote a header
        kind = type(reader.failure).__name__
        logs.event(log, "realtime.reader_failed", level=logging.WARNING, error=kind)


def why_not_upgraded(failure: Exception | None, key: str) -> RealtimeRefused:
    """Of what the reader ended by, None when it just ended; `key` is not to be told to anybody."""
    if isinstance(failure, ConnectionRejected):
        return refused_by_http(failure.status_code, failure.body, key)
    if failure is not None:
        return RealtimeRefused("not_websocket", f"the upgrade failed: {type(failure).__name__}")
    return RealtimeRefused("connection_lost", "the server hung up instead of upgrading", retryable=True)
