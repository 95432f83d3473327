"""The admin view: health, status and metrics by HTTP/1.1 (RFC 9112), one request a connection.

Whoever can connect may look, and may send what they like: everything has a limit, and nothing of it reaches a call.
"""

from __future__ import annotations

import http
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import attrs
import h11
import trio

from aivc import logs
from aivc.config.rules import parse_host_port
from aivc.config.settings import Address, AdminSettings
from aivc.nursery.pages import Page, page_at, plain
from aivc.nursery.status import Status
from aivc.sip.address import format_host_port

log = logging.getLogger("aivc.admin")

Look = Callable[[], Sequence[Status]]

MOST_CONNECTIONS: Final = 32  # at a time: a few people and programs look, now and then
MOST_HEAD_OCTETS: Final = 8192  # of a request; browsers send less than 2000 here
DEADLINE: Final = 5.0  # seconds for a request to be read and answered
TURN: Final = 0.01  # seconds from one request to the next: a flood of them takes a tenth of a core, not all of it
LINGER: Final = 1.0  # seconds for the client to take the answer, RFC 9112 section 9.6
BLOCK: Final = 4096  # octets read at once


@asynccontextmanager
async def open_admin(settings: AdminSettings, look: Look) -> AsyncIterator[Address | None]:
    """Serve while the block runs; yields the address, None without `admin.listen`. Raises what `serve_admin` does."""
    if settings.listen is None:
        yield None
        return
    async with trio.open_nursery() as nursery:
        yield await nursery.start(serve_admin, settings.listen, look)
        nursery.cancel_scope.cancel()


async def serve_admin(
    listen: str, look: Look, *, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until it is cancelled.

    Args:
      listen: HOST:PORT; port 0 is any free one.
      look: every process as it is now; it must be quick, for nothing else runs meanwhile.
      task_status: is told the address.

    Raises OSError when it cannot listen there.
    """
    host, port = parse_host_port(listen)
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise OSError(error.errno, f"admin.listen: cannot listen on {listen}: {error.strerror}") from error
    address: Address = listeners[0].socket.getsockname()[:2]
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, Door(look).serve, listeners)
        logs.event(log, "admin.ready", url=f"http://{format_host_port(*address)}")
        task_status.started(address)


@attrs.define(eq=False)
class Door:
    """Lets in so many at a time, and serves one after the other: calls have the time between them."""

    look: Look
    inside: int = 0
    _next_turn: float = 0.0  # seconds on trio's clock

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection; never raises."""
        if self.inside >= MOST_CONNECTIONS:
            logs.event(log, "admin.crowded", level=logging.DEBUG, connections=self.inside)
            await trio.aclose_forcefully(stream)
            return
        self.inside += 1
        try:
            with trio.move_on_after(DEADLINE):
                await self._turn()
                await converse(stream, self.look)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            logs.event(log, "admin.left", level=logging.DEBUG)
        except Exception as error:  # a bug costs this connection only
            logs.event(log, "admin.bug", level=logging.ERROR, exc_info=error)
        finally:
            self.inside -= 1
            await trio.aclose_forcefully(stream)

    async def _turn(self) -> None:
        turn = max(self._next_turn, trio.current_time())
        self._next_turn = turn + TURN
        await trio.sleep_until(turn)


async def converse(stream: trio.SocketStream, look: Look) -> None:
    """Read a request, answer it, and let the client go first."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEAD_OCTETS)
    is_head = False
    try:
        request = await read_request(stream, connection)
        if request is None:
            return
        is_head = request.method == b"HEAD"
        page = answer(request, look)
    except h11.RemoteProtocolError as error:
        page = plain(error.error_status_hint, "this is not HTTP/1.1 as it is served here")
    await stream.send_all(encode(connection, page, is_head=is_head))
    # A connection that is closed while data waits in it is reset, and the answer is lost with it.
    await stream.send_eof()
    with trio.move_on_after(LINGER):
        while await stream.receive_some(BLOCK):
            pass


async def read_request(stream: trio.SocketStream, connection: h11.Connection) -> h11.Request | None:
    """The head of a request; None when none comes. Raises h11.RemoteProtocolError."""
    while True:
        match connection.next_event():
            case h11.Request() as request:
                return request
            case h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(BLOCK))
            case _:
                return None


def answer(request: h11.Request, look: Look) -> Page:
    if request.method not in (b"GET", b"HEAD"):
        return plain(405, "only GET and HEAD")
    try:
        return page_at(request.target.decode("ascii"), look)
    except Exception as error:  # a bug: who looks is told, and the calls go on
        logs.event(log, "admin.bug", level=logging.ERROR, exc_info=error)
        return plain(500, "see the log")


def encode(connection: h11.Connection, page: Page, *, is_head: bool) -> bytes:
    headers = [
        ("Content-Type", page.content_type),
        ("Content-Length", str(len(page.body))),
        ("Cache-Control", "no-store"),
        ("Connection", "close"),
        *([("Allow", "GET, HEAD")] if page.status == 405 else []),
    ]
    reason = http.HTTPStatus(page.status).phrase.encode()
    response = h11.Response(status_code=page.status, headers=headers, reason=reason)
    body = [] if is_head else [h11.Data(data=page.body)]
    return b"".join(connection.send(event) or b"" for event in (response, *body, h11.EndOfMessage()))
