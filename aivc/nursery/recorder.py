"""The flight recorder: what the calls of a process say and do, kept in memory while they last, and then in a file each.

    transports, OpenSIPS --watch--> Recorder --by Call-ID or session--> the tapes of the calls
    serve_call --begin--> tape ... --end--> [write_all] --thread--> folder

Without it none of the hooks is there: a call that is not recorded pays nothing.
"""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final

import attrs
import trio

from aivc import logs
from aivc.config.recorder import RecorderSettings
from aivc.config.settings import Settings
from aivc.flight.entries import MiMessage, SipMessage, StateChange
from aivc.flight.recording import Recording
from aivc.flight.tape import Tape
from aivc.nursery.ending import is_as_it_should_be
from aivc.nursery.flightfolder import Folder, file_name
from aivc.nursery.front_ends import FrontEnds
from aivc.nursery.taping import Taping
from aivc.nursery.writing import InThread, in_thread, when_descriptors
from aivc.sip.flow import Flow
from aivc.sip.jsonrpc import Command
from aivc.sip.leg import Leg
from aivc.sip.watching import Way

log = logging.getLogger("aivc.recorder")

LINGERS: Final = 1.0  # seconds after the end in which messages still belong to the call, such as the 200 for our BYE
WAITING: Final = 256  # calls that are to be written and are not yet
LAST_FILES: Final = 5.0  # seconds that a disk gets to take what waits, when the service stops
ARRIVED: Final = 256  # calls that are not begun yet, of which the first messages are kept
ARRIVED_LENGTH: Final = 2**22  # characters of all of them: anybody can send INVITEs, of 64 KB each
FIRST_MESSAGES: Final = 8  # of each of them: the INVITE, our 100, and retransmissions
KIBI: Final = 1024
CALL_ID: Final = re.compile(rb"^(?:call-id|i)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
TO_TAG: Final = re.compile(rb"^(?:to|t)[ \t]*:[^\r\n]*;[ \t]*tag[ \t]*=", re.IGNORECASE | re.MULTILINE)
CLIENT_START: Final = "ua_session_client_start"  # OpenSIPS answers with the key of a session of ours

FirstEntry = SipMessage | MiMessage


@attrs.define
class Index:
    """Which tape a message belongs to: by Call-ID, or by the key of a session of OpenSIPS."""

    tapes: dict[str, Tape] = attrs.field(factory=dict)
    arrived: dict[str, list[FirstEntry]] = attrs.field(factory=dict)  # the oldest first; `at` on trio's clock
    _arrived_length: int = attrs.field(default=0, init=False)

    def note(self, identity: str, entry: FirstEntry) -> None:
        """A message of a call that there is, or that is about to begin."""
        tape = self.tapes.get(identity)
        if tape is not None:
            tape.note(attrs.evolve(entry, at=tape.at(entry.at)))
        elif identity in self.arrived and len(self.arrived[identity]) < FIRST_MESSAGES:
            self._keep(identity, [*self.take(identity), entry])

    def note_first(self, identity: str, entry: FirstEntry) -> None:
        """What may begin a call; what came before it under that identity did not."""
        before = self.take(identity)
        is_again = bool(before) and before[0].text == entry.text
        self._keep(identity, [*before, entry][:FIRST_MESSAGES] if is_again else [entry])

    def take(self, identity: str) -> list[FirstEntry]:
        """The first messages of a call, which has begun."""
        taken = self.arrived.pop(identity, [])
        self._arrived_length -= length_of(taken)
        return taken

    def _keep(self, identity: str, entries: list[FirstEntry]) -> None:
        self.arrived[identity] = entries
        self._arrived_length += length_of(entries)
        while len(self.arrived) > ARRIVED or self._arrived_length > ARRIVED_LENGTH:
            self.take(next(iter(self.arrived)))

    def adopt(self, identity: str, tape: Tape) -> None:
        """Another Call-ID or session of the same call."""
        self.tapes[identity] = tape

    def forget(self, tape: Tape, identities: tuple[str, ...]) -> None:
        for identity in identities:
            if self.tapes.get(identity) is tape:
                del self.tapes[identity]


def length_of(entries: list[FirstEntry]) -> int:
    return sum(len(entry.text) for entry in entries)


@attrs.frozen(eq=False)
class Ended:
    """A call that is over.

    Attributes:
      due: when it may be written, seconds on trio's clock.
      is_wanted: that it will be is known already.
    """

    taping: Taping
    due: float
    is_wanted: bool


@attrs.define(eq=False)
class Recorder:
    """Built by `open_recorder`; a `MessageWatcher` and a `SessionWatcher`.

    Attributes:
      written, lost: files; each that is lost is logged.
      truncated: files of calls that did not fit into `recorder.max_call_kib`.
      behind: calls that wait to be written, or are being written.
    """

    settings: RecorderSettings
    wall_clock: Callable[[], float]  # seconds since 1970
    _folder: Folder
    _ended: trio.MemorySendChannel[Ended]
    _in_thread: InThread
    written: int = attrs.field(default=0, init=False)
    lost: int = attrs.field(default=0, init=False)
    truncated: int = attrs.field(default=0, init=False)
    behind: int = attrs.field(default=0, init=False)
    _index: Index = attrs.field(factory=Index, init=False)
    _identities: dict[Tape, list[str]] = attrs.field(factory=dict, init=False)
    _closing: trio.Event = attrs.field(factory=trio.Event, init=False)

    # Calls

    def begin(self, leg: Leg, settings: Settings) -> Taping:
        """A call begins; after `end` it is written, or not."""
        identity, now = leg.session_key or leg.call_id, trio.current_time()
        first = self._index.take(identity)
        origin = first[0].at if first else now
        keeps = self.settings.audio == "keep"
        tape = Tape(leg.call_id, origin, self.settings.max_call_kib * KIBI, keeps)
        self._identities[tape] = []
        self._adopt(leg.call_id, tape)
        self._adopt(identity, tape)
        for entry in first:
            self._index.note(identity, entry)
        return Taping(tape, leg, settings, self.wall_clock() - (now - origin))

    def end(self, taping: Taping) -> None:
        """The call is over; if it has no record something of ours has failed."""
        taping.state("ended", "" if taping.record is None else taping.record.ending.value)
        ended = Ended(taping, trio.current_time() + LINGERS, self._is_wanted(taping))
        if ended.is_wanted and self.behind >= WAITING:
            self._forget(taping.tape)
            self._lose(taping, "the disk is too slow")
            return
        try:
            self._ended.send_nowait(ended)
            self.behind += ended.is_wanted
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            self._forget(taping.tape)
            self._lose(taping, "the recorder was closed before the call was over")

    def tape_of(self, call_id: str | None) -> Tape | None:
        """That of a call in progress."""
        return None if call_id is None else self._index.tapes.get(call_id)

    def _adopt(self, identity: str, tape: Tape) -> None:
        self._index.adopt(identity, tape)
        self._identities[tape].append(identity)

    def _forget(self, tape: Tape) -> None:
        self._index.forget(tape, tuple(self._identities.pop(tape, ())))

    def _current(self) -> Tape | None:
        """That of the call in whose task we are."""
        return self.tape_of(logs.call_id.get())

    # What is watched

    def note_message(self, way: Way, data: bytes, flow: Flow) -> None:
        """See `MessageWatcher`."""
        header = data.partition(b"\r\n\r\n")[0]
        found = CALL_ID.search(header)
        if found is None:
            return
        identity = found[1].strip().decode("utf-8", "surrogateescape")
        text = data.decode("utf-8", "surrogateescape")
        entry = SipMessage(trio.current_time(), way, flow.transport, flow.local, flow.peer, text)
        if identity not in self._index.tapes and data.startswith(b"INVITE ") and not TO_TAG.search(header):
            caller = self._current() if way == "out" else None
            if caller is None:
                if way == "in":
                    self._index.note_first(identity, entry)
                return
            self._adopt(identity, caller)  # a call that this one makes
        self._index.note(identity, entry)

    def note_event(self, key: str, is_new: bool, data: bytes) -> None:
        """See `SessionWatcher`."""
        text = data.decode("utf-8", "surrogateescape")
        entry = MiMessage(trio.current_time(), "in", "event", text)
        if is_new and key not in self._index.tapes:
            self._index.note_first(key, entry)
        else:
            self._index.note(key, entry)

    def note_command(self, way: Way, command: Command, data: bytes) -> None:
        """See `SessionWatcher`."""
        key = command.params.get("key")
        entry = MiMessage(trio.current_time(), way, "command", data.decode("utf-8", "surrogateescape"))
        if isinstance(key, str):
            self._index.note(key, entry)
        elif command.method == CLIENT_START and (tape := self._current()) is not None:
            tape.note(attrs.evolve(entry, at=tape.at(entry.at)))
            if way == "in" and isinstance(started := result_of(entry.text), str):
                self._adopt(started, tape)

    # Writing

    def counts(self) -> dict[str, int]:
        """Files, by what became of them."""
        return {"written": self.written, "lost": self.lost, "truncated": self.truncated}

    async def write_all(self, ended: trio.MemoryReceiveChannel[Ended]) -> None:
        """Task: write what is over until nothing more can come."""
        async for call in ended:
            with trio.move_on_at(call.due):
                await self._closing.wait()
            self._forget(call.taping.tape)
            if self._is_wanted(call.taping):
                self.behind += not call.is_wanted  # something has failed since
                await self._write(call.taping)
                self.behind -= 1

    def close(self) -> None:
        """No more calls come; nothing waits for last messages any more."""
        self._closing.set()
        self._ended.close()

    def _is_wanted(self, taping: Taping) -> bool:
        """With "on_error": something went wrong, or was logged at error level about the call."""
        record = taping.record
        if self.settings.mode == "always" or record is None:
            return True
        return not is_as_it_should_be(record.ending) or taping.tape.has_failed

    async def _write(self, taping: Taping) -> None:
        try:
            recording = await when_descriptors(partial(taping.recording, self.settings.mask), self._in_thread)
            write = partial(write_file, self._folder, recording, rests=not self._closing.is_set())
            await when_descriptors(write, self._in_thread)
        except Exception as error:  # a full disk costs files, not calls
            self._lose(taping, str(error))
        else:
            self.written += 1
            self.truncated += taping.tape.missing > 0

    def _lose(self, taping: Taping, error: str) -> None:
        self.lost += 1
        logs.event(log, "recording.lost", level=logging.ERROR, call_id=taping.leg.call_id, error=error)


def check_folder(settings: RecorderSettings) -> None:
    """That files cannot be written must be known at the start. Raises ConfigError; blocks."""
    folder = Folder.of(settings)
    if folder is not None:
        folder.prepare()


@contextmanager
def recorded(recorder: Recorder | None, leg: Leg, settings: Settings) -> Iterator[Taping | None]:
    """The block is a call; None if nobody records it."""
    if recorder is None:
        yield None
        return
    taping = recorder.begin(leg, settings)
    try:
        yield taping
    finally:
        recorder.end(taping)


def write_file(folder: Folder, recording: Recording, *, rests: bool) -> None:
    """Mask a call's entries and write them; blocks. Raises OSError."""
    folder.write(file_name(recording.header.began_at, recording.header.call_id), recording.lines(), rests=rests)


def result_of(text: str) -> Any:
    """The result in an answer of OpenSIPS, which has been read before."""
    answer = json.loads(text)
    return answer.get("result") if isinstance(answer, dict) else None


class FailureHandler(logging.Handler):
    """Notes on a call's tape that something was logged about it as an error."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(logging.ERROR)
        self.recorder = recorder

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`; may be called in any thread."""
        try:
            self._note(record)
        except Exception:  # an exception of a tool need not even be printable
            self.handleError(record)

    def _note(self, record: logging.LogRecord) -> None:
        tape = self.recorder.tape_of(logs.identity_of(record))
        if tape is None:
            return
        tape.has_failed = True
        if trio.lowlevel.in_trio_task():  # else in the thread of a tool, which may not touch the tape
            error = record.exc_info[1] if record.exc_info else None
            detail = "" if error is None else logs.shortened(f": {type(error).__name__}: {error}", logs.LONGEST_VALUE)
            tape.note(StateChange(tape.at(trio.current_time()), "error", f"{logs.described(record)[0]}{detail}"))


@asynccontextmanager
async def open_recorder(
    settings: RecorderSettings, *, wall_clock: Callable[[], float] = time.time, in_thread: InThread = in_thread
) -> AsyncIterator[Recorder | None]:
    """Record the calls that are given to the yielded recorder; None with `recorder.mode` = "off".

    Leaving the block, even when it is cancelled, writes what waits, for at most 5 s.

    Args:
      wall_clock: seconds since 1970.
      in_thread: awaited with every function that blocks, to mask a call and to write its file; returns what that
        returns. A clock that jumps when all tasks wait takes a thread for nothing going on: with such a clock give a
        function that calls the other there and then.

    Raises ConfigError when the folder cannot be made or written.
    """
    folder = Folder.of(settings)
    if folder is None:
        yield None
        return
    folder.prepare()
    send, receive = trio.open_memory_channel[Ended](math.inf)  # `end` bounds what is to be written
    recorder = Recorder(settings, wall_clock, folder, send, in_thread)
    lifetime = trio.CancelScope(shield=True)  # the last calls end while the service is being cancelled

    async def write() -> None:
        with receive, lifetime:
            await recorder.write_all(receive)
        if lifetime.cancelled_caught:
            logs.event(log, "recording.unwritten", level=logging.ERROR, files=recorder.behind)

    handler, logger = FailureHandler(recorder), logging.getLogger("aivc")
    logger.addHandler(handler)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            try:
                yield recorder
            finally:
                recorder.close()
                lifetime.deadline = trio.current_time() + LAST_FILES
    finally:
        logger.removeHandler(handler)


@asynccontextmanager
async def open_watching_recorder(
    settings: RecorderSettings, front_ends: FrontEnds, wall_clock: Callable[[], float], in_thread: InThread
) -> AsyncIterator[Recorder | None]:
    """As `open_recorder`, for the calls of these front ends."""
    async with open_recorder(settings, wall_clock=wall_clock, in_thread=in_thread) as recorder:
        if recorder is not None:
            front_ends.watch(recorder)
        yield recorder
