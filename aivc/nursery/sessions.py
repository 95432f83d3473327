"""The Realtime sessions of one call, one after the other: used, renewed before they expire, replaced after a loss.

A session's tasks live in a nursery of their own inside the call's. The caller's audio and our events wait in their
channels while none is there; the audio that came already goes on playing.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import inf
from typing import Final, NoReturn

import attrs
import trio

from aivc import logs
from aivc.config.settings import Codec, McpServer, OpenAISettings
from aivc.media.g711 import OCTETS_PER_MS
from aivc.nursery.backlog import Backlog
from aivc.nursery.causes import open_tasks, until_over
from aivc.nursery.ending import CallOver, Ending
from aivc.nursery.ground import Ground
from aivc.nursery.leaving import Leaving
from aivc.nursery.performer import Performer
from aivc.nursery.record import SessionLost, SessionReplaced
from aivc.nursery.uplink import Uplink
from aivc.realtime.configuring import configure
from aivc.realtime.connection import RealtimeRefused, RealtimeSocket, text_of
from aivc.realtime.dialects import Dialect, ProtocolViolation, dialect_named
from aivc.realtime.events import ClientEvent, ToolSchema
from aivc.realtime.inbox import Message

log = logging.getLogger("aivc.call")

SILENCE_BEARABLE: Final = 2.0  # seconds without a sound in which a lost session must be replaced
AGAIN: Final = 0.25  # seconds between two attempts to replace a lost session
RENEW_AGAIN: Final = 5.0  # seconds between two attempts to renew one that still works
# An expires_at that leaves less, or more, is another clock's time: a server that calls every session expired would be
# asked for another one again and again.
SHORTEST_LIFE: Final = 10.0  # seconds
LONGEST_LIFE: Final = 86_400.0
REPLACEABLE: Final = frozenset({Ending.REALTIME_LOST, Ending.REALTIME_EXPIRED, Ending.REALTIME_SILENT})


@attrs.frozen(eq=False)
class Session:
    """One configured session."""

    socket: RealtimeSocket
    expires_at: float  # on trio's clock; infinity when the server does not say


@attrs.define(eq=False)
class Moment:
    """Something that is to be done at a certain time, without waiting.

    Args:
      deadline: on trio's clock.
      again: after so many seconds.
    """

    deadline: float
    act: Callable[[], None]
    again: float = inf

    def expire(self) -> None:
        self.deadline += self.again
        self.act()


@attrs.frozen(eq=False)
class Talk:
    """What the sessions of a call have in common.

    Args:
      uplink, outbox: what waits for the model, whichever session it is.
      open_session: connects and configures the next one; raises RealtimeRefused.
      retire: closes one that is no longer needed, without waiting.
    """

    openai: OpenAISettings
    dialect: Dialect
    performer: Performer
    leaving: Leaving
    uplink: Uplink
    outbox: Backlog[ClientEvent]
    hold: bytes
    open_session: Callable[[], Awaitable[Session]]
    retire: Callable[[RealtimeSocket], None]


async def open_session(
    socket: RealtimeSocket,
    openai: OpenAISettings,
    codec: Codec,
    tools: Sequence[ToolSchema],
    mcp: Sequence[McpServer],
    wall_clock: Callable[[], float],
) -> Session:
    """Configure a connection that is open. Raises RealtimeRefused."""
    updated = await configure(socket, dialect_named(openai.dialect), openai, codec, tools, mcp)
    life = inf if updated.expires_at is None else updated.expires_at - wall_clock()
    return Session(socket, trio.current_time() + (life if SHORTEST_LIFE <= life <= LONGEST_LIFE else inf))


async def connect_session(
    ground: Ground, openai: OpenAISettings, tools: Sequence[ToolSchema], mcp: Sequence[McpServer]
) -> Session:
    """Connect and configure; raises RealtimeRefused."""
    means, lines = ground.means, ground.lines
    socket = await means.connect(lines.sockets, openai)
    try:
        return await open_session(socket, openai, ground.codec, tools, mcp, means.wall_clock)
    except BaseException:  # nobody waits for its closing: the caller of a call that is over waits for our BYE
        lines.finishing.start_soon(socket.close, openai.close_seconds)
        raise


async def keep_sessions(talk: Talk, session: Session) -> None:
    """Use one session after the other; ends by an exception."""
    spare = talk.openai.reconnect
    while True:
        renewed: list[Session] = []
        try:
            over = await until_over(partial(use_session, talk, session, renewed))
        except BaseException:  # the call is over, which says goodbye to the newest session only
            if renewed:
                talk.retire(session.socket)
            raise
        talk.performer.connected = False
        talk.retire(session.socket)
        if over is not None and over.ending in REPLACEABLE:
            await talk.leaving.wait_stay()  # last words are being played: the end comes with them, unless a key does
        if over is None:
            session = renewed.pop()
        elif over.ending not in REPLACEABLE:
            raise over
        elif renewed:
            note_loss(talk, over)
            session = renewed.pop()
        elif spare:
            spare = False
            note_loss(talk, over)
            session = await replace(talk, over)
        else:
            raise over
        begin_anew(talk)


async def use_session(talk: Talk, session: Session, renewed: list[Session]) -> None:
    """Talk over one session. Returns when its successor, which was put into `renewed`, is to take over.

    Ends by exceptions else; a successor may wait in `renewed` even then.
    """
    socket, performer = session.socket, talk.performer
    performer.connected, performer.socket = True, socket
    async with open_tasks() as nursery:
        pings, expiry = pinging(talk.openai, socket, nursery), expiring(talk, session, renewed, nursery)
        writing = partial(write_event, socket, talk.dialect)
        with (
            performer.alarm.watching(nursery, performer, pings, expiry),
            talk.uplink.written_to(socket, nursery),
            talk.outbox.done_by(writing, nursery),
        ):
            await read_events(socket, talk.dialect, performer)


def pinging(openai: OpenAISettings, socket: RealtimeSocket, nursery: trio.Nursery) -> Moment:
    """Now for the first time: a half-open connection is noticed by nothing else but the caller."""
    ping = partial(nursery.start_soon, socket.ping, openai.pong_seconds)
    return Moment(trio.current_time(), ping, openai.ping_seconds)


def expiring(talk: Talk, session: Session, renewed: list[Session], nursery: trio.Nursery) -> Moment:
    """Shortly before a session expires: its successor takes over, or the model says farewell."""
    now = trio.current_time()
    notice = min(talk.openai.expiry_seconds, (session.expires_at - now) / 2)  # a server may give little time in all
    due = session.expires_at - notice
    if not talk.openai.reconnect:
        return Moment(due, partial(talk.performer.say_farewell, "expired"))
    return Moment(due, partial(nursery.start_soon, renew, talk, renewed, due + notice / 2, nursery.cancel_scope))


async def renew(talk: Talk, renewed: list[Session], patience: float, used: trio.CancelScope) -> None:
    """Open the next session, wait for a pause in the talk, but no longer than until `patience`, and end the use of this
    one.
    """
    while True:
        try:
            renewed.append(await talk.open_session())
            break
        except RealtimeRefused as error:
            logs.event(log, "session.not_renewed", level=logging.WARNING, error=str(error))
            await trio.sleep(RENEW_AGAIN)
    with trio.move_on_at(patience):
        await talk.performer.wait_pause()
    used.cancel()


def note_loss(talk: Talk, over: CallOver) -> None:
    talk.performer.turns.lost(over.ending.value, trio.current_time())
    talk.performer.tell(SessionLost(str(over)))
    logs.event(log, "session.lost", level=logging.WARNING, ending=over.ending.value, detail=over.detail)


async def replace(talk: Talk, over: CallOver) -> Session:
    """A new session in place of a lost one, before the silence gets too long; else raises the cause of the loss."""
    performer = talk.performer
    patience = SILENCE_BEARABLE + performer.playout.waiting_octets / (1000 * OCTETS_PER_MS)  # what came still plays
    sounds = bool(talk.hold) and not performer.stream.plays_sound  # the hold sound of a slow tool is not ours to end
    if talk.hold:
        patience = talk.openai.connect_seconds + talk.openai.configure_seconds
    if sounds:
        performer.stream.play(talk.hold, repeat=True)
    try:
        with trio.fail_after(patience):
            return await open_patiently(talk.open_session)
    except (trio.TooSlowError, RealtimeRefused) as error:
        why = str(error) or f"not replaced within {patience:.1f} s"
        raise CallOver(over.ending, f"{over.detail}; {why}" if over.detail else why) from None
    finally:
        if sounds:
            performer.stream.stop_sound()


async def open_patiently(open_session: Callable[[], Awaitable[Session]]) -> Session:
    """Raises RealtimeRefused when another attempt would not help."""
    while True:
        try:
            return await open_session()
        except RealtimeRefused as error:
            if not error.retryable:
                raise
            await trio.sleep(AGAIN)


def begin_anew(talk: Talk) -> None:
    """Tell a new session what was said so far. What waited for the old one is void."""
    performer = talk.performer
    talk.outbox.waiting.clear()
    performer.turns.session_began()
    performer.connected = True
    performer.restart()
    performer.tell(SessionReplaced(performer.turns.sessions))
    logs.event(log, "session.replaced", number=performer.turns.sessions)


async def write_event(socket: RealtimeSocket, dialect: Dialect, event: ClientEvent) -> None:
    """A client event -> the model."""
    await socket.send(dialect.encode(event))


async def read_events(socket: RealtimeSocket, dialect: Dialect, performer: Performer) -> NoReturn:
    """The model's events -> the conversation. Awaits nothing but the WebSocket, so that pings are always answered."""

    def take(message: Message) -> None:
        try:
            event = dialect.decode(text_of(message))
        except ProtocolViolation as violation:
            performer.note_violation(violation)
        else:
            performer.handle(event)

    await socket.receive_each(take)
