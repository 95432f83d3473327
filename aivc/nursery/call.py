"""One call, from INVITE to record: a function with tasks.

                    nursery (one per call)
 phone  --RTP-->  [rtp-in] --heard--> [uplink] --------> WebSocket --> model
                                      [writer] --------^
                                          ^ outbox
 phone  <--RTP--  [rtp-out] <--playout-- [reader] <----- WebSocket <-- model
                                             | jobs
 phone  <--SIP--> [leg events]          [tools] --outbox--> (writer)

Whoever learns that the call is over raises CallOver; the nursery cancels the rest. The WebSocket's own tasks live in
an outer nursery, so that its reader survives for a polite goodbye; unless the call itself is cancelled from outside.
"""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.config.settings import Address, OpenAISettings, Settings
from aivc.media.clock import MediaClock, TaskClock
from aivc.media.g711 import SILENCE
from aivc.media.latching import Latch
from aivc.media.pacer import Pacer
from aivc.media.playout import ItemPlayout, Playout
from aivc.media.ports import NoPortFree, PortPool, local_ip_towards
from aivc.media.stream import RtpCounters, RtpStream
from aivc.nursery.ending import CallOver, Ending, first_cause, leaves
from aivc.nursery.execution import run_tools, set_from_any_thread
from aivc.nursery.performer import Announcer, Performer
from aivc.nursery.record import Answered, CallRecord, Ended, ModelAudible, Observer
from aivc.nursery.turns import Turns
from aivc.nursery.watch import (
    hang_up_after_farewell,
    warn_unheard,
    watch_deadlines,
    watch_drain,
    watch_leg,
    watch_limits,
)
from aivc.realtime.connection import RealtimeClosed, RealtimeRefused, RealtimeSocket, configure, open_realtime
from aivc.realtime.conversation import Conversation
from aivc.realtime.dialects import Dialect, ProtocolViolation, dialect_named
from aivc.realtime.effects import ToolCall
from aivc.realtime.events import ClientEvent
from aivc.realtime.tools import ToolContext, ToolFileError, ToolRegistry, load_tools
from aivc.sip.leg import Leg

log = logging.getLogger("aivc.call")

Connect = Callable[[trio.Nursery, OpenAISettings], Awaitable[RealtimeSocket]]

HEARD_FRAMES: Final = 50  # 1 s of caller audio at 20 ms a packet: a model further behind has lost the thread
GOODBYE_MARGIN: Final = 0.5  # seconds beyond sip.hang_up_seconds, which the leg itself keeps
WILDCARDS: Final = {"0.0.0.0", "::"}
OUTBOX_EVENTS: Final = 64  # far more than a healthy conversation ever has waiting
JOBS: Final = 16  # tool calls waiting; the model is told "busy" beyond


@attrs.frozen(eq=False)
class Means:
    """What a call works with and does not own."""

    connect: Connect
    tools: ToolRegistry
    clock: MediaClock
    ports: PortPool
    draining: trio.Event


@attrs.define(eq=False)
class Progress:
    """How far a call has come: what its record is made of when it ends."""

    started_at: float
    turns: Turns = attrs.field(factory=Turns)
    answered_at: float | None = None
    stream: RtpStream | None = None
    performer: Performer | None = None
    socket: RealtimeSocket | None = None


async def serve_call(
    leg: Leg,
    settings: Settings,
    *,
    connect: Connect = open_realtime,
    tools: ToolRegistry | None = None,
    clock: MediaClock | None = None,
    ports: PortPool | None = None,
    draining: trio.Event | None = None,
    observer: Observer | None = None,
) -> CallRecord:
    """Run one call to its end: connect the model while the phone rings, answer, join both, say goodbye.

    Args:
      leg: an incoming call that is not answered yet, from a front end such as `aivc.sip.useragent`.
      settings: of this call.
      connect: opens the connection to the model; tests give one that stays in memory.
      tools: what the model may call; None loads the files of `openai.tools`.
      clock: paces the audio; None is one for this call alone. A process with many calls shares one
        (`aivc.media.clock.open_heartbeat`).
      ports: where RTP ports come from; share it too, it keeps freed ports in quarantine.
      draining: when set, the call ends with BYE.
      observer: hears of everything that happens; it never delays the call and may miss events when it is full.

    Returns the record, whatever the ending; a bug in a tool or in aivc is logged and ends the call as
    `INTERNAL_ERROR`. Cancelling the call hangs up (BYE) within a second.

    Raises ToolFileError when tools must be loaded and cannot.
    """
    means = Means(
        connect,
        await load_or_reject(leg, settings) if tools is None else tools,
        TaskClock() if clock is None else clock,
        PortPool(settings.rtp) if ports is None else ports,
        trio.Event() if draining is None else draining,
    )
    announcer, progress = Announcer(leg.call_id, observer), Progress(trio.current_time())
    over = CallOver(Ending.EMBEDDER_CANCELLED)
    with logs.call(leg.call_id):
        logs.event(log, "call.started", caller=leg.caller, dialled=leg.dialled, codec=leg.agreement.codec)
        async with trio.open_nursery() as lines:
            try:
                over = await until_over(partial(join, leg, settings, means, progress, announcer, lines))
            finally:
                await say_goodbye(leg, progress.socket, over, settings)
                record = make_record(leg, progress, announcer, over)
                log_record(record)
                announcer.tell(Ended(record))
                lines.cancel_scope.cancel()
    return record


async def load_or_reject(leg: Leg, settings: Settings) -> ToolRegistry:
    """The tools of the settings. Raises ToolFileError after the call was refused."""
    try:
        return load_tools(settings.openai.tools)
    except ToolFileError:
        await leg.reject(CallOver(Ending.INTERNAL_ERROR).rejection(settings.service.retry_after_seconds))
        raise


async def until_over(talk: Callable[[], Awaitable[None]]) -> CallOver:
    """Run `talk` until it raises; return the cause that counts. Cancellation from outside passes through."""
    causes = [CallOver(Ending.INTERNAL_ERROR, "the call's tasks ended by themselves")]
    try:
        await talk()
    except* Exception as group:
        causes = [as_cause(error) for error in leaves(group)]
    return first_cause(causes)


def as_cause(error: BaseException) -> CallOver:
    """What an exception in a call's task says about its end."""
    match error:
        case CallOver():
            return error
        case RealtimeRefused():
            return CallOver(Ending.REALTIME_REFUSED, str(error))
        case RealtimeClosed():
            return CallOver(Ending.REALTIME_LOST, str(error))
        case NoPortFree():
            return CallOver(Ending.NO_RTP_PORT, str(error))
        case _:
            logs.event(log, "call.bug", level=logging.ERROR, error=repr(error), exc_info=error)
            return CallOver(Ending.INTERNAL_ERROR, repr(error))


async def join(
    leg: Leg, settings: Settings, means: Means, progress: Progress, announcer: Announcer, lines: trio.Nursery
) -> None:
    """Answer the call and run its tasks; ends by an exception."""
    openai, agreement = settings.openai, leg.agreement
    dialect = dialect_named(openai.dialect)
    async with means.ports.open_socket() as media_socket, trio.open_nursery() as call:
        call.start_soon(watch_leg, leg.events, lambda: progress.stream)
        call.start_soon(watch_drain, means.draining)
        await leg.ring()
        local = await media_address(leg, settings, media_socket)
        socket = progress.socket = await means.connect(lines, openai)
        await configure(socket, dialect, openai, agreement.codec, means.tools.schemas)

        heard_send, heard_receive = trio.open_memory_channel[bytes](HEARD_FRAMES)
        outbox_send, outbox_receive = trio.open_memory_channel[ClientEvent](OUTBOX_EVENTS)
        jobs_send, jobs_receive = trio.open_memory_channel[ToolCall](JOBS)
        playout = Playout(SILENCE[agreement.codec], partial(note_audible, progress.turns, announcer))
        stream = progress.stream = open_stream(leg, settings, media_socket, playout, heard_send)
        performer = progress.performer = Performer(
            Conversation(openai, event_ids()), playout, stream, outbox_send, jobs_send, progress.turns, announcer
        )
        farewell = trio.Event()
        context = ToolContext(leg.call_id, leg.caller, leg.dialled, partial(set_from_any_thread, farewell))

        await leg.answer(local)
        progress.answered_at = trio.current_time()
        logs.event(log, "call.answered", after_ms=round(1000 * (progress.answered_at - progress.started_at)))
        announcer.tell(Answered())
        call.start_soon(means.clock.receive, stream)
        call.start_soon(means.clock.send, stream)
        call.start_soon(write_heard, socket, heard_receive)
        call.start_soon(write_events, socket, dialect, outbox_receive)
        call.start_soon(read_events, socket, dialect, performer)
        call.start_soon(run_tools, jobs_receive, means.tools, context, openai.tool_seconds, performer, farewell)
        call.start_soon(watch_deadlines, performer)
        call.start_soon(watch_limits, stream, settings)
        call.start_soon(warn_unheard, stream)
        call.start_soon(hang_up_after_farewell, farewell, performer, openai.farewell_seconds)
        call.start_soon(socket.keep_alive, openai.ping_seconds, openai.pong_seconds)
        performer.begin()


def note_audible(turns: Turns, announcer: Announcer, item: ItemPlayout) -> None:
    """The first packet of an item leaves now."""
    turns.began(item)
    announcer.tell(ModelAudible(item.item_id, item.began_at or 0.0))


async def write_heard(socket: RealtimeSocket, heard: trio.MemoryReceiveChannel[bytes]) -> None:
    """The caller's octets -> the model, one append a packet."""
    async for octets in heard:
        await socket.append_audio(octets)


async def write_events(
    socket: RealtimeSocket, dialect: Dialect, outbox: trio.MemoryReceiveChannel[ClientEvent]
) -> None:
    """Client events -> the model."""
    async for event in outbox:
        await socket.send(dialect.encode(event))


async def read_events(socket: RealtimeSocket, dialect: Dialect, performer: Performer) -> None:
    """The model's events -> the conversation. Awaits nothing but the WebSocket, so that pings are always answered."""
    while True:
        try:
            event = dialect.decode(await socket.receive())
        except ProtocolViolation as violation:
            level = logging.DEBUG if performer.turns.violations else logging.WARNING  # a broken server sends thousands
            performer.turns.violations += 1
            logs.event(log, "realtime.violation", level=level, error=str(violation))
        else:
            performer.handle(event)


def open_stream(
    leg: Leg,
    settings: Settings,
    media_socket: trio.socket.SocketType,
    playout: Playout,
    heard: trio.MemorySendChannel[bytes],
) -> RtpStream:
    """The RTP of a call, about to begin. SSRC, sequence and timestamp are random, RFC 3550 section 5.1."""
    agreement, dice, now = leg.agreement, random.SystemRandom(), trio.current_time()
    return RtpStream(
        media_socket,
        agreement.codec,
        agreement.payload_type,
        Latch(agreement.remote, leg.source[0], settings.rtp.nat, settings.rtp.relatch_seconds),
        playout,
        Pacer(agreement.payload_type, dice.getrandbits(32), dice.getrandbits(16), dice.getrandbits(32), now),
        heard,
        settings.rtp,
        now,
        agreement.may_send,
        agreement.may_send and agreement.may_receive,
    )


async def media_address(leg: Leg, settings: Settings, media_socket: trio.socket.SocketType) -> Address:
    """What our SDP says: `rtp.ip`, else `sip.external_ip`, else the address that reaches the caller's media.

    Raises CallOver when no packet of ours can reach it.
    """
    host, port = media_socket.getsockname()[:2]
    advertised = settings.rtp.ip or settings.sip.external_ip
    if advertised is not None or host not in WILDCARDS:
        return advertised or host, port
    # Who holds us from the start, or has not told an address yet, is reached where the INVITE came from.
    towards = leg.agreement.remote if leg.agreement.may_send else leg.source
    try:
        return await local_ip_towards(towards), port
    except OSError as error:
        raise CallOver(Ending.MEDIA_UNREACHABLE, f"{towards[0]}: {error.strerror}") from None


def event_ids() -> Callable[[], str]:
    """Our event ids: unique within a session is enough, and a counter is easy to follow in a log."""
    numbers = itertools.count(1)
    return lambda: f"aivc-{next(numbers)}"


async def say_goodbye(leg: Leg, socket: RealtimeSocket | None, over: CallOver, settings: Settings) -> None:
    """Refuse or hang up, and close the WebSocket; at once, politely and with a deadline, even when cancelled."""
    hang_up, close = settings.sip.hang_up_seconds + GOODBYE_MARGIN, settings.openai.close_seconds
    if over.ending is Ending.EMBEDDER_CANCELLED:  # somebody wants to be rid of the call now: say BYE, wait for little
        hang_up, close = min(hang_up, GOODBYE_MARGIN), min(close, GOODBYE_MARGIN)
    with trio.move_on_after(hang_up, shield=True):
        try:
            await leg.reject(over.rejection(settings.service.retry_after_seconds))
            await leg.hang_up(over.reason)
        except Exception as error:  # a bug in a front end costs neither the record nor the closing of the WebSocket
            logs.event(log, "call.bug", level=logging.ERROR, error=repr(error), exc_info=error)
    if socket is not None:
        await socket.close(close)


def make_record(leg: Leg, progress: Progress, announcer: Announcer, over: CallOver) -> CallRecord:
    turns, performer = progress.turns, progress.performer
    return CallRecord(
        call_id=leg.call_id,
        caller=leg.caller,
        dialled=leg.dialled,
        codec=leg.agreement.codec,
        ending=over.ending,
        detail=over.detail,
        started_at=progress.started_at,
        answered_at=progress.answered_at,
        ended_at=trio.current_time(),
        rtp=progress.stream.statistics() if progress.stream is not None else RtpCounters(),
        latencies=tuple(turns.latencies),
        cuts=tuple(turns.cuts),
        tools=tuple(turns.tools),
        realtime_errors=dict(turns.errors),
        protocol_violations=turns.violations,
        refused_octets=performer.playout.refused_octets if performer else 0,
        late_deltas=performer.conversation.dropped_deltas if performer else 0,
        refused_requests=performer.conversation.responses.refused_requests if performer else 0,
        forgotten_tools=performer.conversation.tools.forgotten if performer else 0,
        observer_missed=announcer.missed,
    )


def log_record(record: CallRecord) -> None:
    """The one line that says how a call ended."""
    rtp = {name: count for name, count in attrs.asdict(record.rtp).items() if count}
    seconds, detail = round(record.duration_seconds, 3), record.detail or None
    logs.event(log, "call.ended", ending=record.ending.value, detail=detail, seconds=seconds, rtp=rtp)
