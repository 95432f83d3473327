"""Call records on disk: the real one, in a folder of pytest's."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import stat
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio
from recorder_parts import descriptors_taken
from scenarios.world import at_once
from test_record import NOON, RECORD
from trio.testing import MockClock

from aivc.config.loading import ConfigError
from aivc.config.settings import RecordsSettings
from aivc.nursery.record import Answered, CallEvent, CallRecord, Ended
from aivc.nursery.recordfile import (
    LAST_LINES,
    WAITING,
    RecordFile,
    append,
    file_of,
    open_record_file,
    prepare_folder,
)
from aivc.nursery.writing import LONGEST_WANT

DAY: Final = 86_400.0


def ended(record: CallRecord = RECORD) -> CallEvent:
    return CallEvent(record.call_id, record.ended_at, Ended(record))


def numbered(number: int) -> CallRecord:
    return attrs.evolve(RECORD, call_id=f"call-{number}")


def records(folder: Path) -> RecordsSettings:
    return RecordsSettings(directory=str(folder))


def lines(folder: Path) -> list[dict[str, Any]]:
    """Of all days."""
    return [json.loads(line) for path in sorted(folder.iterdir()) for line in path.read_bytes().splitlines()]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_a_call_that_ends_is_one_line_and_other_events_are_none(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "records"
    with trio.fail_after(5):
        async with open_record_file(records(folder)) as file:
            assert file is not None
            file.send_nowait(CallEvent("call-1", 0.0, Answered()))
            for number in range(3):
                file.send_nowait(ended(numbered(number)))
    assert [line["call_id"] for line in lines(folder)] == ["call-0", "call-1", "call-2"]
    assert (file.written, file.lost) == (3, 0)


async def test_what_was_recorded_is_nobody_elses_business(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    with trio.fail_after(5):
        async with open_record_file(records(folder)):
            (path,) = folder.iterdir()
            assert (mode(folder), mode(path)) == (0o700, 0o600)


async def test_without_a_folder_nothing_is_kept() -> None:
    with trio.fail_after(5):
        async with open_record_file(RecordsSettings()) as file:
            assert file is None


async def test_times_are_those_of_the_wall_clock_when_the_call_ended(mock_clock: MockClock, tmp_path: Path) -> None:
    def wall_clock() -> float:
        return NOON + trio.current_time()

    with trio.fail_after(5):
        async with open_record_file(records(tmp_path), wall_clock=wall_clock) as file:
            assert file is not None
            file.send_nowait(ended(attrs.evolve(RECORD, ended_at=30.0)))
    (line,) = lines(tmp_path)
    assert line["ended_at"] == "2026-03-01T12:00:30.000Z"


async def test_records_are_written_although_the_service_is_cancelled(tmp_path: Path) -> None:
    with trio.fail_after(5), trio.CancelScope() as scope:
        async with open_record_file(records(tmp_path)) as file:
            assert file is not None
            scope.cancel()
            for number in range(20):
                file.send_nowait(ended(numbered(number)))
            await trio.lowlevel.checkpoint()
    assert len(lines(tmp_path)) == 20


async def test_a_slow_disk_costs_lines_and_not_time(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_record_file(records(tmp_path), in_thread=at_once) as file:
        assert file is not None
        for number in range(WAITING + 3):  # the task that writes has no chance in between
            file.send_nowait(ended(numbered(number)))
        assert file.lost == 3
    assert [line["call_id"] for line in lines(tmp_path)] == [f"call-{number}" for number in range(WAITING)]
    assert [record.message for record in caplog.records] == ["record.lost"] * 3


async def test_a_disk_that_never_answers_does_not_keep_the_service(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    autojump_clock.autojump_threshold = 0.1  # real seconds, in which the thread begins
    disk = file_of(tmp_path, NOON)
    os.mkfifo(disk)
    pipe = os.open(disk, os.O_RDWR | os.O_NONBLOCK)
    filled = fill(pipe)  # so that whoever writes more waits
    async with open_record_file(records(tmp_path), wall_clock=lambda: NOON) as file:
        assert file is not None
        file.send_nowait(ended(numbered(1)))
        file.send_nowait(ended(numbered(2)))
    assert trio.current_time() == pytest.approx(LAST_LINES)
    (unwritten,) = caplog.records
    assert (unwritten.message, unwritten.levelno) == ("record.unwritten", logging.ERROR)
    assert vars(unwritten)["fields"] == {"records": 2}
    os.read(pipe, filled)  # lets the thread go
    os.close(pipe)


def fill(pipe: int) -> int:
    """Octets that it took."""
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            taken += os.write(pipe, bytes(4096))
    return taken


async def test_a_full_disk_is_logged_and_later_calls_are_written(
    mock_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file_of(tmp_path, NOON).symlink_to("/dev/full")
    with trio.fail_after(5):
        async with open_record_file(records(tmp_path), wall_clock=lambda: NOON) as file:
            assert file is not None
            file.send_nowait(ended(attrs.evolve(numbered(1), ended_at=0.0)))
            file.send_nowait(ended(attrs.evolve(numbered(2), ended_at=DAY)))
    (line,) = file_of(tmp_path, NOON + DAY).read_bytes().splitlines()
    assert json.loads(line)["call_id"] == "call-2"
    assert (file.written, file.lost) == (1, 1)
    (told,) = caplog.records
    assert (told.message, vars(told)["call_id"]) == ("record.lost", "call-1")
    assert os.strerror(errno.ENOSPC) in vars(told)["fields"]["error"]


@pytest.mark.parametrize(("seconds", "written"), [(LONGEST_WANT - 1.0, ["call-1"]), (LONGEST_WANT + 1.0, [])])
async def test_without_descriptors_a_record_waits_for_some_until_that_takes_too_long(
    autojump_clock: MockClock, tmp_path: Path, seconds: float, written: list[str]
) -> None:
    async with open_record_file(records(tmp_path), in_thread=at_once) as file:
        assert file is not None
        with descriptors_taken():
            file.send_nowait(ended(numbered(1)))
            await trio.sleep(seconds)
            assert (file.written, file.lost) == (0, 1 - len(written))
        await trio.sleep(1.0)
    assert [line["call_id"] for line in lines(tmp_path)] == written
    assert (file.written, file.lost) == (len(written), 1 - len(written))


def test_each_day_has_a_file_of_its_own(tmp_path: Path) -> None:
    for day in range(2):
        append(tmp_path, RECORD, True, NOON - RECORD.ended_at + day * DAY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2026-03-01.jsonl", "2026-03-02.jsonl"]


async def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "records"
    with trio.fail_after(5):
        async with open_record_file(records(folder)) as file:
            assert file is not None
            shutil.rmtree(tmp_path / "deep")
            file.send_nowait(ended(numbered(1)))
    assert [line["call_id"] for line in lines(folder)] == ["call-1"]
    assert mode(folder) == 0o700
    assert file.lost == 0


def test_half_a_line_spoils_no_other(tmp_path: Path) -> None:
    append(tmp_path, RECORD, True, NOON)
    (path,) = tmp_path.iterdir()
    with path.open("ab") as file:
        file.write(b'{"version": 1, "call_')  # the disk was full
    append(tmp_path, RECORD, True, NOON)
    first, half, last = path.read_bytes().splitlines()
    assert json.loads(first) == json.loads(last)
    assert half == b'{"version": 1, "call_'


def test_whatever_was_said_stays_on_its_line(tmp_path: Path) -> None:
    said = "one\r\ntwo\u2028three\u0085four \U0001f600 \ud800"
    append(tmp_path, attrs.evolve(RECORD, detail=said), True, NOON)
    (path,) = tmp_path.iterdir()
    (line,) = path.read_text(encoding="ascii").splitlines()
    assert json.loads(line)["detail"] == said


@pytest.mark.parametrize("obstacle", ["a file", "a folder of that day's name"])
async def test_a_folder_that_cannot_be_used_is_told_at_the_start(tmp_path: Path, obstacle: str) -> None:
    folder = tmp_path / "records"
    if obstacle == "a file":
        folder.write_text("")
    else:
        (folder / "2026-03-01.jsonl").mkdir(parents=True)
    with trio.fail_after(5), pytest.raises(ConfigError, match=r"^records\.directory: .*records: "):
        async with open_record_file(records(folder), wall_clock=lambda: NOON):
            pass


def test_a_folder_is_prepared_as_often_as_one_likes(tmp_path: Path) -> None:
    for _ in range(2):
        prepare_folder(records(tmp_path), NOON)
    assert [path.name for path in tmp_path.iterdir()] == ["2026-03-01.jsonl"]
    prepare_folder(RecordsSettings())


async def test_a_record_after_the_end_is_counted_as_lost(tmp_path: Path) -> None:
    with trio.fail_after(5):
        async with open_record_file(records(tmp_path)) as file:
            assert isinstance(file, RecordFile)
        file.send_nowait(ended())
    assert file.lost == 1
