"""What the flight recorder costs when things go wrong: floods, want of descriptors, exceptions, files of others."""

from __future__ import annotations

import logging
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import attrs
import pytest
import trio
from paper_flow import PaperFlow
from paper_leg import paper_leg
from recorder_parts import descriptors_taken, files, flights, of_kind, open_inline
from scenarios.world import at_once
from test_record import RECORD
from test_recorder import NOON, arrives, invite, serve, settings, written
from trio.testing import MockClock

from aivc import logs
from aivc.config.settings import Settings
from aivc.flight.entries import SipMessage
from aivc.nursery import recorder
from aivc.nursery.ending import Ending
from aivc.nursery.flightfolder import Folder, file_name
from aivc.nursery.recorder import Index, open_recorder, recorded
from aivc.nursery.writing import WANT_PAUSE

T = TypeVar("T")


def kept(index: Index) -> int:
    return sum(len(entry.text) for entries in index.arrived.values() for entry in entries)


def test_large_invites_without_end_are_remembered_within_a_length() -> None:
    index, address = Index(), ("192.0.2.1", 5060)
    for number in range(100):
        for repeat in range(recorder.FIRST_MESSAGES):
            entry = SipMessage(float(repeat), "in", "UDP", address, address, "x" * 64_000)
            (index.note_first if repeat % 2 else index.note)(f"call-{number}", entry)
            index.note_first(f"call-{number}", entry)
            assert kept(index) <= recorder.ARRIVED_LENGTH
    assert f"call-{number}" in index.arrived
    while index.arrived:
        index.take(next(iter(index.arrived)))
    index.note_first("last", attrs.evolve(entry, text="x" * recorder.ARRIVED_LENGTH))
    assert "last" in index.arrived  # the room of what was taken is free again


async def test_calls_that_nobody_wants_on_a_disk_are_not_lost_however_many_end_at_once(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with open_inline(settings(tmp_path, mode="on_error")) as book:
        assert book is not None
        for number in range(recorder.WAITING + 10):
            await serve(book, f"call-{number}")
        await serve(book, "wrong", Ending.MEDIA_TIMEOUT)
        assert book.lost == 0
    assert [flight.header.call_id for flight in flights(tmp_path)] == ["wrong"]


async def test_an_error_in_the_second_after_the_call_makes_it_erroneous(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with open_inline(settings(tmp_path, mode="on_error")) as book:
        assert book is not None
        await serve(book)
        logs.event(logging.getLogger("aivc.call"), "call.bug", level=logging.ERROR, call_id="call-1")
    assert len(files(tmp_path)) == 1


async def test_a_call_that_outlives_its_recorder_is_lost_and_the_cause_is_told(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_inline(settings(tmp_path)) as book:
        assert book is not None
        taping = book.begin(paper_leg(), Settings())
    book.end(taping)
    (line,) = caplog.records
    assert "closed" in vars(line)["fields"]["error"]
    assert book.tape_of(paper_leg().call_id) is None


async def test_in_want_of_descriptors_a_file_waits_until_calls_give_some_back(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    tried: list[float] = []

    async def here(work: Callable[[], T], /) -> T:
        tried.append(trio.current_time())
        return await at_once(work)

    async with open_recorder(settings(tmp_path), in_thread=here) as book:
        assert book is not None
        await serve(book)
        with descriptors_taken():
            await trio.sleep(recorder.LINGERS + 0.9)
        assert (book.written, book.lost) == (0, 0)
        await trio.sleep(10.0)
        assert (book.written, book.lost) == (1, 0)
    # masking needs none: the second attempt is the first to write
    assert tried == pytest.approx([recorder.LINGERS + WANT_PAUSE * attempt for attempt in (0, 0, 1, 2, 3, 4)])
    assert len(flights(tmp_path)) == 1


async def test_a_folder_that_was_removed_is_made_again(autojump_clock: MockClock, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "flights"
    async with open_inline(settings(folder)) as book:
        assert book is not None
        for number in range(2):
            shutil.rmtree(tmp_path / "deep")
            await serve(book, f"call-{number}")
            await trio.sleep(2.0)
            assert [flight.header.call_id for flight in flights(folder)] == [f"call-{number}"]
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert book.lost == 0


class Unprintable(Exception):
    def __str__(self) -> NoReturn:
        raise LookupError("no text")


@pytest.mark.parametrize("error", [Unprintable(), ValueError("x" * 10**6)])
async def test_what_a_tool_raises_can_do_no_harm(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    monkeypatch.setattr(logging.getLogger("aivc"), "propagate", False)  # pytest's handler cannot print it either
    async with open_inline(settings(tmp_path, mode="on_error")) as book:
        assert book is not None
        with recorded(book, attrs.evolve(paper_leg(), call_id="call-1"), Settings()) as taping:
            assert taping is not None
            logs.event(
                logging.getLogger("aivc.call"), "tool.failed", level=logging.ERROR, call_id="call-1", exc_info=error
            )
            taping.record = RECORD
    (file,) = files(tmp_path)
    assert file.stat().st_size < 50_000


async def test_messages_of_strangers_with_the_id_of_a_call_stay_within_its_room(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with open_inline(settings(tmp_path, max_call_kib=256)) as book:
        assert book is not None
        arrives(book, invite("call-1"))
        with recorded(book, attrs.evolve(paper_leg(), call_id="call-1"), Settings()) as taping:
            assert taping is not None
            for _ in range(50):
                book.note_message("in", invite("call-1", f"X: {'x' * 60_000}\r\n"), PaperFlow())
                assert taping.tape.octets <= 256 * 1024
            taping.record = RECORD
    (flight,) = flights(tmp_path)
    assert of_kind(flight, SipMessage)[0].text.startswith("INVITE")
    assert flight.missing > 40


def test_nothing_of_others_in_the_folder_is_touched(tmp_path: Path) -> None:
    folder, name = Folder(tmp_path, 1, 1000), file_name(NOON, "a")
    others = [tmp_path / ".download.part", tmp_path / f".{name}.part", tmp_path / "notes.jsonl"]
    for path in others:
        path.write_text("x" * 2000)
        os.utime(path, (0, 0))
    (tmp_path / file_name(NOON - 1, "a folder")).mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("x")
    (tmp_path / file_name(NOON - 2, "a link")).symlink_to(elsewhere)
    written(folder, name)
    assert all(path.exists() for path in others)
    assert len(files(tmp_path)) == len(others) + 4


def test_a_link_in_the_place_of_an_unfinished_file_is_not_followed(tmp_path: Path) -> None:
    folder, name, victim = Folder(tmp_path, 10, 1000), file_name(NOON, "a"), tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f".{name}.{os.getpid()}.part").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        written(folder, name)
    assert victim.read_text() == "precious"
