"""From a connection to a session: what the server says of itself, what we want of it, and what it makes of that."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TypeVar

import attrs
import trio

from aivc.config.settings import Codec, McpServer, OpenAISettings
from aivc.realtime.connection import RealtimeSocket
from aivc.realtime.dialects import Dialect, ProtocolViolation
from aivc.realtime.errors import ErrorKind, classify, is_retryable
from aivc.realtime.events import (
    ConfigureSession,
    ErrorEvent,
    SessionCreated,
    SessionUpdated,
    ToolSchema,
)
from aivc.realtime.refusals import RealtimeClosed, RealtimeRefused, printable, refused_by_close

Event = TypeVar("Event", SessionCreated, SessionUpdated)

AWAITED: dict[type, str] = {SessionCreated: "session.created", SessionUpdated: "session.updated"}
CONFIGURE_EVENT = "configure"  # event id of our session.update


async def configure(
    socket: RealtimeSocket,
    dialect: Dialect,
    settings: OpenAISettings,
    codec: Codec,
    tools: Sequence[ToolSchema],
    mcp: Sequence[McpServer] = (),
) -> SessionUpdated:
    """Wait for `session.created`, configure the session, and return what the server made of it.

    No audio may go either way before: until then the server takes G.711 for 24 kHz PCM. `session.created` has what is
    left of `openai.connect_seconds`, the answer to the update `openai.configure_seconds`.

    Raises:
        RealtimeRefused: key, model or configuration refused, no answer in time, hung up, or other formats echoed.
    """
    try:
        deadline = min(socket.connect_deadline, trio.current_time() + settings.connect_seconds)
        created = await wait_for(SessionCreated, socket, dialect, deadline)
        deadline = trio.current_time() + settings.configure_seconds
        update = dialect.encode(ConfigureSession(CONFIGURE_EVENT, settings, codec, tuple(tools), tuple(mcp)))
        # A close is reported by `wait_for`, after the error event that explains it.
        with trio.move_on_at(deadline), contextlib.suppress(RealtimeClosed):
            await socket.send(update)
        updated = await wait_for(SessionUpdated, socket, dialect, deadline)
    except RealtimeRefused as error:
        told = (settings.key, *(server.authorization for server in mcp))
        message = printable(error.message, *(secret.reveal() for secret in told if secret is not None))
        raise RealtimeRefused(error.code, message, None, error.retryable) from None
    if (updated.input_codec, updated.output_codec) != (codec, codec):
        heard, spoken = updated.input_codec or "nothing", updated.output_codec or "nothing"
        raise RealtimeRefused("wrong_format", f"asked for {codec}, the server echoed {heard:.40} in, {spoken:.40} out")
    return updated if updated.expires_at is not None else attrs.evolve(updated, expires_at=created.expires_at)


def is_refusal(error: ErrorEvent) -> bool:
    """Whether no session can come of it; an error about our own update is one whatever its code."""
    return error.event_id == CONFIGURE_EVENT or classify(error.code, error.type) is not ErrorKind.BENIGN


async def wait_for(expected: type[Event], socket: RealtimeSocket, dialect: Dialect, deadline: float) -> Event:
    """Return the next event of this type; what else comes is ignored, but for errors."""
    try:
        with trio.fail_at(deadline):
            while True:
                event = dialect.decode(await socket.receive())
                if isinstance(event, expected):
                    return event
                if isinstance(event, ErrorEvent) and is_refusal(event):
                    code = event.code or event.type or "error"
                    raise RealtimeRefused(code, event.message, retryable=is_retryable(code))
    except trio.TooSlowError:
        raise RealtimeRefused("timeout", f"no {AWAITED[expected]} from the server", retryable=True) from None
    except RealtimeClosed as error:
        raise refused_by_close(error) from None
    except ProtocolViolation as error:
        raise RealtimeRefused("protocol_violation", str(error)) from None
