"""Call records on disk: one JSON line a call, one file a day, written in a thread so that no call ever waits for it."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

from aivc import logs
from aivc.config.loading import ConfigError
from aivc.config.settings import RecordsSettings
from aivc.nursery.record import CallEvent, CallRecord, Ended
from aivc.nursery.recordjson import to_json
from aivc.nursery.writing import PRIVATE_FILE, InThread, in_thread, make_folder, when_descriptors

log = logging.getLogger("aivc.records")

WAITING: Final = 1000  # records that a slow disk may be behind
LAST_LINES: Final = 5.0  # seconds that a disk gets to take what waits, when the service stops


@attrs.define(eq=False)
class RecordFile:
    """Takes the records out of the events of calls; an `Observer`. Built by `open_record_file`."""

    folder: Path
    transcripts: bool
    wall_clock: Callable[[], float]  # seconds since 1970
    _waiting: trio.MemorySendChannel[tuple[CallRecord, float]]
    _in_thread: InThread
    written: int = 0
    lost: int = 0  # for want of room in the queue or on the disk; each is logged

    def send_nowait(self, event: CallEvent, /) -> None:
        """Take note of a call's end; anything else is left aside."""
        if isinstance(event.what, Ended):
            record, offset = event.what.record, self.wall_clock() - trio.current_time()
            try:
                self._waiting.send_nowait((record, offset))
            except (trio.WouldBlock, trio.ClosedResourceError):
                self.lost += 1
                logs.event(
                    log, "record.lost", level=logging.ERROR, call_id=record.call_id, error="the disk is too slow"
                )

    async def write_all(self, records: trio.MemoryReceiveChannel[tuple[CallRecord, float]]) -> None:
        """Task: write what comes until nothing more can come."""
        async for record, offset in records:
            try:
                write = partial(append, self.folder, record, self.transcripts, offset)
                await when_descriptors(write, self._in_thread)
                self.written += 1
            except Exception as error:  # a full disk costs lines, not calls
                self.lost += 1
                logs.event(log, "record.lost", level=logging.ERROR, call_id=record.call_id, error=str(error))


@asynccontextmanager
async def open_record_file(
    settings: RecordsSettings, *, wall_clock: Callable[[], float] = time.time, in_thread: InThread = in_thread
) -> AsyncIterator[RecordFile | None]:
    """Keep the records of all calls whose events are given to the yielded observer; None without `records.directory`.

    Leaving the block, even when it is cancelled, writes what waits, for at most 5 s. `in_thread` as in `open_recorder`.

    Raises ConfigError when the folder cannot be made or written.
    """
    if settings.directory is None:
        yield None
        return
    prepare_folder(settings, wall_clock())
    send, receive = trio.open_memory_channel[tuple[CallRecord, float]](WAITING)
    file = RecordFile(Path(settings.directory), settings.transcripts, wall_clock, send, in_thread)
    lifetime = trio.CancelScope(shield=True)  # the last calls end while the service is being cancelled

    async def write() -> None:
        with receive:
            with lifetime:
                await file.write_all(receive)
            if lifetime.cancelled_caught:
                unwritten = 1 + receive.statistics().current_buffer_used  # the one that is being written is not sure
                logs.event(log, "record.unwritten", level=logging.ERROR, records=unwritten)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        try:
            yield file
        finally:
            send.close()
            lifetime.deadline = trio.current_time() + LAST_LINES


def prepare_folder(settings: RecordsSettings, unix_time: float | None = None) -> None:
    """Make the folder, and today's file in it: that it cannot be written must be known at the start.

    Raises ConfigError.
    """
    if settings.directory is not None:
        folder = Path(settings.directory)
        try:
            os.close(open_file(file_of(folder, time.time() if unix_time is None else unix_time)))
        except OSError as error:
            raise ConfigError((f"records.directory: {folder}: {error.strerror}",)) from None


def append(folder: Path, record: CallRecord, transcripts: bool, unix_offset: float) -> None:
    """Write one line into the file of the day (UTC) on which the call ended; blocks.

    The file is opened anew each time, so it or its folder may be moved away, and written at once: two processes may
    share a folder.
    Raises OSError.
    """
    line = json.dumps(to_json(record, transcripts=transcripts, unix_offset=unix_offset)).encode() + b"\n"
    descriptor = open_file(file_of(folder, record.ended_at + unix_offset))
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line  # what a full disk left of another line may not spoil this one
        while line:
            line = line[os.write(descriptor, line) :]
    finally:
        os.close(descriptor)


def file_of(folder: Path, unix_time: float) -> Path:
    return folder / f"{datetime.fromtimestamp(unix_time, UTC):%Y-%m-%d}.jsonl"


def open_file(path: Path) -> int:
    """A descriptor of it; the folder is made again if it has been removed. Raises OSError."""
    make_folder(path.parent)
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, PRIVATE_FILE)
