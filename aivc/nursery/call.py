"""One call, from INVITE to record: a function with tasks.

                    nursery (one per call)
 phone  --RTP-->  [carry] --heard--> (uplink) ---------> WebSocket --> model
                                     (outbox) -----------^
 phone  <--RTP--  [carry] <--playout-- [read_events] <-- WebSocket <-- model
                                            | (jobs)
 phone  <--SIP--> (heeded)               (tools) ------> (outbox)

 [ring] wakes whatever of the call waits for a moment, and ends it with the service.

In brackets: the tasks that are always there, of which the call itself is the one that reads the model's events. In
parentheses: what has tasks only while there is something for them to do; one that waits for what seldom comes takes
2 KiB a call, and a memory channel before it 2 more.

Whoever learns that the call is over raises CallOver; the nursery cancels the rest. The tasks of the WebSocket stand in
`sessions`: a call may outlive its session. The WebSocket's own tasks live in an outer nursery, so that its reader
survives for a polite goodbye; unless the call itself is cancelled from outside.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import attrs
import trio

from aivc import logs
from aivc.config.loading import ConfigError
from aivc.config.settings import Settings
from aivc.config.template import in_call, passed_headers, without_secrets
from aivc.media.clock import MediaClock, TaskClock
from aivc.media.g711 import OCTETS_PER_MS
from aivc.media.ports import PortPool
from aivc.media.stream import RtpStream
from aivc.nursery.backlog import Backlog
from aivc.nursery.causes import open_tasks, until_over
from aivc.nursery.consultation import consult_and_refer
from aivc.nursery.control import Control
from aivc.nursery.ending import CallOver, Ending
from aivc.nursery.entries import Entries
from aivc.nursery.execution import MOST_WAITING, Workshop
from aivc.nursery.ground import Connect, Ground, Lines, Means, Prepare, Progress
from aivc.nursery.keys import Keypad
from aivc.nursery.media import media_address, open_ports, open_stream
from aivc.nursery.performer import Announcer, Performer
from aivc.nursery.prompts import Prompts, load_prompts
from aivc.nursery.record import Answered, CallRecord, Ended, Observer
from aivc.nursery.recorder import Recorder, recorded
from aivc.nursery.rescue import rescue
from aivc.nursery.sessions import Session, Talk, connect_session, keep_sessions
from aivc.nursery.summary import log_record, make_record
from aivc.nursery.uplink import Uplink
from aivc.nursery.watch import Limits, heeded
from aivc.realtime.connection import RealtimeRefused, open_realtime
from aivc.realtime.conversation import Conversation
from aivc.realtime.dialects import dialect_named
from aivc.realtime.effects import ToolCall
from aivc.realtime.events import ClientEvent
from aivc.realtime.tools import ToolContext, ToolFileError, ToolRegistry, load_registry
from aivc.sip.leg import Leg

log = logging.getLogger("aivc.call")
Loaded = TypeVar("Loaded")

GOODBYE_MARGIN: Final = 0.5  # seconds beyond sip.hang_up_seconds, which the leg itself keeps
OUTBOX_EVENTS: Final = 256  # a new session is told up to 100 items at once; a healthy conversation has few waiting


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
    prompts: Prompts | None = None,
    prepare: Prepare | None = None,
    agent: str | None = None,
    wall_clock: Callable[[], float] = time.time,
    recorder: Recorder | None = None,
) -> CallRecord:
    """Run one call to its end: connect the model while the phone rings, answer, join both, say goodbye.

    Args:
      leg: an incoming call that is not answered yet, from a front end such as `aivc.sip.useragent`.
      settings: of this call.
      connect: opens the connection to the model, with a TLS context for this call alone. A process with many calls has
        them share one (`aivc.open_connections`); tests give one that stays in memory.
      tools: what the model may call; None loads the files of `openai.tools`.
      clock: paces the audio; None is one for this call alone. A process with many calls shares one
        (`aivc.media.clock.open_heartbeat`).
      ports: where RTP ports come from; share it too, it keeps freed ports in quarantine.
      draining: when set, the call ends with BYE.
      observer: hears of everything that happens; it never delays the call and may miss events when it is full.
      prompts: the sounds of `sounds.*`; None loads them.
      prepare: asked for the agent and the settings of this call while it rings; it may raise CallOver.
      agent: its name, for the record, unless `prepare` tells another one.
      wall_clock: seconds since 1970, to know when a session expires.
      recorder: keeps a file of the call; `aivc.open_recorder` has one.

    Returns the record, whatever the ending; a bug in a tool or in aivc is logged and ends the call as
    `INTERNAL_ERROR`. Cancelling the call hangs up (BYE) within a second.

    Raises ToolFileError for tools that cannot be loaded, ConfigError for sounds; the call was refused then.
    """
    if tools is None and prepare is None:
        tools = await loaded_or_rejected(leg, settings, lambda: load_registry(settings.openai, settings.tools.http))
    if prompts is None:
        prompts = await loaded_or_rejected(leg, settings, lambda: load_prompts(settings.sounds))
    with recorded(recorder, leg, settings) as taping, logs.call(leg.call_id):
        if taping is not None:
            connect, observer = taping.connecting(connect), taping.observing(observer)
        means = Means(
            connect,
            tools,
            TaskClock() if clock is None else clock,
            PortPool(settings.rtp) if ports is None else ports,
            trio.Event() if draining is None else draining,
            prompts,
            wall_clock,
            prepare,
        )
        announcer, progress = Announcer(leg.call_id, observer), Progress(trio.current_time(), agent, taping=taping)
        progress.headers = passed_headers(settings.sip.pass_headers, leg.headers)
        logs.event(log, "call.started", caller=leg.caller, dialled=leg.dialled, codec=leg.agreement.codec)
        try:
            await hold_call(leg, settings, means, progress, announcer)
        finally:  # tools that had to finish are done: the record knows what came of them
            record = make_record(leg, progress, announcer)
            log_record(record)
            announcer.tell(Ended(record))
            progress.let_go()
    return record


async def hold_call(
    leg: Leg,
    settings: Settings,
    means: Means,
    progress: Progress,
    announcer: Announcer,
) -> None:
    """The call from its first to its last message; what became of it is in `progress`."""
    async with trio.open_nursery() as sockets:
        try:
            async with trio.open_nursery() as finishing:
                lines = Lines(sockets, finishing)
                try:
                    joined = partial(join, leg, settings, means, progress, announcer, lines)
                    progress.over = await until_over(joined) or progress.over
                finally:
                    await say_goodbye(leg, progress, settings)
        finally:
            sockets.cancel_scope.cancel()


async def loaded_or_rejected(leg: Leg, settings: Settings, load: Callable[[], Loaded]) -> Loaded:
    """What `load` returns. Raises what it raises, after the call was refused: nobody else will answer it."""
    try:
        return load()
    except (ToolFileError, ConfigError):
        await leg.reject(CallOver(Ending.INTERNAL_ERROR).rejection(settings.service.retry_after_seconds))
        raise


async def join(
    leg: Leg, settings: Settings, means: Means, progress: Progress, announcer: Announcer, lines: Lines
) -> None:
    """Answer the call and run its tasks; ends by an exception."""
    keypad = Keypad(progress)
    uplink = Uplink(settings.realtime.append_ms * OCTETS_PER_MS, leg.agreement.codec)
    async with open_ports(means.ports, leg) as sockets, open_tasks() as call:
        with heeded(leg, progress, keypad, call):
            call.start_soon(progress.alarm.ring, means.draining)
            await leg.ring()
            progress.note("ringing")
            ground = await settle(leg, settings, means, progress, announcer, lines)
            local = await media_address(leg, ground.settings, sockets)
            session = await first_session(ground)
            stream = progress.stream = open_stream(ground, sockets, uplink, keypad)
            await leg.answer(local)
            note_answered(progress, announcer)
            stream.answered(trio.current_time())  # OpenSIPS may have taken its time
            call.start_soon(means.clock.carry, stream)
            progress.alarm.watch(Limits(stream, ground.settings), call)
            if isinstance(session, CallOver):
                raise await rescue(ground, session, means.prompts.busy, stream)
            over = await until_over(partial(converse, ground, stream, uplink, keypad, session))
            assert over is not None  # `converse` ends by an exception only
            raise await rescue(ground, over, means.prompts.failure, stream)


async def settle(
    leg: Leg, settings: Settings, means: Means, progress: Progress, announcer: Announcer, lines: Lines
) -> Ground:
    """By which settings the call is served, and with which tools. Raises what `means.prepare` raises."""
    if means.prepare is not None:
        chosen = await means.prepare()
        settings, progress.agent = chosen.settings, chosen.name
    openai = in_call(settings.openai, leg.caller, leg.dialled, settings.sip.pass_headers, leg.headers)
    if openai is not settings.openai:
        settings = attrs.evolve(settings, openai=openai)
    progress.prices = settings.openai.prices
    if progress.taping is not None:
        progress.taping.prepared(settings, progress.agent)
    tools = load_registry(settings.openai, settings.tools.http) if means.tools is None else means.tools
    return Ground(leg, settings, means, tools, lines, progress, announcer)


async def converse(
    ground: Ground,
    stream: RtpStream,
    uplink: Uplink,
    keypad: Keypad,
    session: Session,
) -> None:
    """Join the caller and the model; ends by an exception."""
    openai, dtmf, leg, progress = ground.settings.openai, ground.settings.dtmf, ground.leg, ground.progress
    leaving, turns = progress.leaving, progress.turns
    outbox, jobs, entries = Backlog[ClientEvent](OUTBOX_EVENTS), Backlog[ToolCall](MOST_WAITING), Entries(dtmf)
    conversation = Conversation(openai, event_ids())
    performer = progress.performer = Performer(
        conversation,
        stream.playout,
        stream,
        outbox,
        jobs,
        turns,
        ground.announcer,
        leaving,
        entries,
        uplink,
        alarm=progress.alarm,
    )
    hold = ground.octets(ground.means.prompts.hold)
    control = Control(leg, openai, dtmf, stream, performer, leaving, hold, partial(consult_and_refer, ground))
    headers, key = without_secrets(leg.headers), leg.session_key
    context = ToolContext(leg.call_id, leg.caller, leg.dialled, control, headers, session_key=key)
    talk = Talk(
        openai,
        dialect_named(openai.dialect),
        performer,
        leaving,
        uplink,
        outbox,
        hold,
        partial(open_next_session, ground),
        lambda socket: ground.lines.finishing.start_soon(socket.close, openai.close_seconds),
    )
    async with open_tasks() as nursery:
        shop = Workshop(nursery, ground.tools, context, openai, performer, leaving, ground.lines.finishing)
        with (
            uplink.timed_by(lambda: stream.last_voiced),
            jobs.done_by(shop.begin, nursery),
            leaving.heeded(nursery, performer, openai.farewell_seconds),
        ):
            turns.session_began()
            performer.caller_holds(not stream.expects_audio)  # some telephones hold from the beginning
            performer.begin()
            keypad.pass_on()
            try:
                await keep_sessions(talk, session)
            except CallOver:
                await leaving.wait_referred()  # a transfer that is under way needs no model
                raise


async def first_session(ground: Ground) -> Session | CallOver:
    """The session of a call that rings; without one a caller who is to hear `sounds.busy` is answered all the same.

    Raises RealtimeRefused when the call is to be refused.
    """
    try:
        return await open_next_session(ground)
    except RealtimeRefused as error:
        if ground.means.prompts.busy is None:
            raise
        return CallOver(Ending.REALTIME_REFUSED, str(error))


async def open_next_session(ground: Ground) -> Session:
    """Connect and configure; raises RealtimeRefused."""
    session = await connect_session(ground, ground.settings.openai, ground.tools.schemas, ground.settings.tools.mcp)
    ground.progress.socket = session.socket
    return session


def note_answered(progress: Progress, announcer: Announcer) -> None:
    progress.answered_at = trio.current_time()
    logs.event(log, "call.answered", after_ms=round(1000 * (progress.answered_at - progress.started_at)))
    announcer.tell(Answered())


def event_ids() -> Callable[[], str]:
    """Our event ids: unique within a session is enough, and a counter is easy to follow in a log."""
    numbers = itertools.count(1)
    return lambda: f"aivc-{next(numbers)}"


async def say_goodbye(leg: Leg, progress: Progress, settings: Settings) -> None:
    """Refuse or hang up, and close the WebSocket; at once, politely and with a deadline, even when cancelled."""
    over, socket = progress.over, progress.socket
    if progress.taping is not None:
        progress.taping.over(over)
    fields = progress.leaving.fields if over.ending is Ending.MODEL_HUNG_UP else ()
    hang_up, close = settings.sip.hang_up_seconds + GOODBYE_MARGIN, settings.openai.close_seconds
    if over.ending is Ending.EMBEDDER_CANCELLED:  # somebody wants to be rid of the call now: say BYE, wait for little
        hang_up, close = min(hang_up, GOODBYE_MARGIN), min(close, GOODBYE_MARGIN)
    with trio.move_on_after(hang_up, shield=True):
        try:
            await leg.reject(over.rejection(settings.service.retry_after_seconds))
            await leg.hang_up(over.reason, fields, status=over.status)
        except Exception as error:  # a bug in a front end costs neither the record nor the closing of the WebSocket
            logs.event(log, "call.bug", level=logging.ERROR, error=repr(error), exc_info=error)
    try:
        if socket is not None:
            await socket.close(close)
    finally:
        progress.ended_at = trio.current_time()
