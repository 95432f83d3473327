"""The recorder itself: what belongs to which call, what a bad disk costs, and that nothing waits for it."""

from __future__ import annotations

import errno
import logging
import os
import time
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from paper_flow import PaperFlow
from paper_leg import paper_leg
from recorder_parts import files, flights, of_kind, open_inline
from test_record import RECORD
from trio.testing import MockClock

from aivc import logs
from aivc.config.recorder import RecorderSettings
from aivc.config.settings import Settings
from aivc.flight.entries import MiMessage, SipMessage, StateChange
from aivc.nursery import flightfolder, recorder
from aivc.nursery.ending import Ending
from aivc.nursery.flightfolder import Folder, file_name
from aivc.nursery.record import CallEvent, Ended
from aivc.nursery.recorder import Recorder, open_recorder, recorded
from aivc.sip.jsonrpc import Command, Repeat

PAGE = Path(__file__).parents[1] / "docs" / "recorder.md"
NOON = 1_800_000_000.0
THREADS = 0.1  # real seconds: a clock that jumps at once takes a thread for nothing going on


def settings(folder: Path, **more: Any) -> RecorderSettings:
    given = {"mode": "always", "directory": str(folder), "mask": ()} | more
    return RecorderSettings(**given)


def message(first: str, call_id: str, extra: str = "") -> bytes:
    return f"{first}\r\nCall-ID: {call_id}\r\nTo: <sip:a@h>\r\n{extra}\r\n".encode()


def invite(call_id: str, extra: str = "") -> bytes:
    return message("INVITE sip:a@h SIP/2.0", call_id, extra)


def arrives(book: Recorder, data: bytes) -> None:
    book.note_message("in", data, PaperFlow())


def leaves(book: Recorder, data: bytes) -> None:
    book.note_message("out", data, PaperFlow())


async def serve(book: Recorder, call_id: str = "call-1", ending: Ending = Ending.CALLER_HUNG_UP) -> None:
    leg = attrs.evolve(paper_leg(), call_id=call_id)
    with recorded(book, leg, Settings()) as taping:
        assert taping is not None
        record = attrs.evolve(RECORD, call_id=call_id, ending=ending)
        taping.observing(None).send_nowait(CallEvent(call_id, trio.current_time(), Ended(record)))


async def test_a_file_is_written_in_a_thread_after_the_call(tmp_path: Path) -> None:
    with trio.fail_after(5):
        async with open_recorder(settings(tmp_path)) as book:
            assert book is not None
            await serve(book)
    (flight,) = flights(tmp_path)
    assert flight.record is not None
    assert flight.record["ending"] == "caller_hung_up"
    assert book.counts() == {"written": 1, "lost": 0, "truncated": 0}


async def test_there_is_no_recorder_unless_it_is_wanted(tmp_path: Path) -> None:
    with trio.fail_after(5):
        async with open_recorder(settings(tmp_path / "flights", mode="off")) as book:
            assert book is None
        with recorded(None, paper_leg(), Settings()) as taping:
            assert taping is None
    assert not (tmp_path / "flights").exists()


async def test_a_recording_begins_with_the_invite_that_made_the_call(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with open_inline(settings(tmp_path)) as book:
        assert book is not None
        arrives(book, invite("call-1", "CSeq: 1 INVITE\r\n"))
        leaves(book, message("SIP/2.0 401 Unauthorized", "call-1"))
        arrives(book, message("ACK sip:a@h SIP/2.0", "call-1"))
        await trio.sleep(0.1)
        for _ in range(2):  # it is retransmitted
            arrives(book, invite("call-1", "CSeq: 2 INVITE\r\nAuthorization: Digest x\r\n"))
        leaves(book, message("SIP/2.0 100 Trying", "call-1"))
        leaves(book, message("SIP/2.0 200 OK", "another"))
        await trio.sleep(0.1)
        await serve(book)
        await trio.sleep(0.5)
        arrives(book, message("SIP/2.0 200 OK", "call-1", "CSeq: 3 BYE\r\n"))
        await trio.sleep(1.0)
        arrives(book, message("SIP/2.0 200 OK", "call-1", "CSeq: 4 BYE\r\n"))
    (flight,) = flights(tmp_path)
    said = [(round(entry.at, 3), entry.text.partition("\r\n")[0]) for entry in of_kind(flight, SipMessage)]
    first = "INVITE sip:a@h SIP/2.0"
    assert said == [(0.0, first), (0.0, first), (0.0, "SIP/2.0 100 Trying"), (0.6, "SIP/2.0 200 OK")]
    assert "CSeq: 2" in of_kind(flight, SipMessage)[0].text


async def test_the_compact_form_of_call_id_is_as_good(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with open_inline(settings(tmp_path)) as book:
        assert book is not None
        arrives(book, b"INVITE sip:a@h SIP/2.0\r\nt: <sip:a@h>\r\ni : call-1 \r\n\r\nCall-ID: another\r\n")
        arrives(book, b"INVITE sip:a@h SIP/2.0\r\n\r\nCall-ID: call-1\r\n")
        await serve(book)
    (flight,) = flights(tmp_path)
    assert len(of_kind(flight, SipMessage)) == 1


async def test_a_call_that_a_call_makes_belongs_to_it(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with open_inline(settings(tmp_path)) as book:
        assert book is not None
        with recorded(book, attrs.evolve(paper_leg(), call_id="call-1"), Settings()):
            with logs.call("call-1"):
                leaves(book, invite("ours"))
                book.note_command("out", Command("ua_session_client_start", {}, Repeat.NEVER), b"{}")
                book.note_command("in", Command("ua_session_client_start", {}, Repeat.NEVER), b'{"result":"key"}')
            arrives(book, message("SIP/2.0 200 OK", "ours"))
            book.note_event("key", False, b'{"params":{}}')
            book.note_command("out", Command("ua_session_update", {"key": "key"}, Repeat.NEVER), b"{}")
            leaves(book, invite("a stranger's"))
            book.note_event("another", False, b"{}")
    (flight,) = flights(tmp_path)
    assert len(of_kind(flight, SipMessage)) == 2
    assert [(entry.way, entry.channel) for entry in of_kind(flight, MiMessage)] == [
        *(("out", "command"), ("in", "command"), ("in", "event"), ("out", "command"))
    ]


async def test_invites_without_end_are_remembered_within_bounds(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with open_inline(settings(tmp_path)) as book:
        assert book is not None
        for number in range(2 * recorder.ARRIVED):
            for _ in range(2 * recorder.FIRST_MESSAGES):
                arrives(book, invite(f"call-{number}"))
        await serve(book, "call-0")
        await serve(book, f"call-{2 * recorder.ARRIVED - 1}")
    assert [len(of_kind(flight, SipMessage)) for flight in flights(tmp_path)] == [0, recorder.FIRST_MESSAGES]


@pytest.mark.parametrize("ending", list(Ending))
async def test_a_call_is_kept_unless_it_ended_as_the_page_says_that_calls_should(
    autojump_clock: MockClock, tmp_path: Path, ending: Ending
) -> None:
    said = PAGE.read_text().partition("They should end as")[2].partition(";")[0]
    async with open_inline(settings(tmp_path, mode="on_error")) as book:
        assert book is not None
        await serve(book, ending=ending)
    assert len(files(tmp_path)) == (f"`{ending.value}`" not in said)
    assert said.count("`") == 16


@pytest.mark.parametrize("how", ["the call's context", "its id", "another call", "a warning", "no record"])
async def test_a_line_of_the_log_at_error_level_makes_a_call_erroneous(
    autojump_clock: MockClock, tmp_path: Path, how: str
) -> None:
    log = logging.getLogger("aivc.call")
    async with open_inline(settings(tmp_path, mode="on_error")) as book:
        assert book is not None
        leg = attrs.evolve(paper_leg(), call_id="call-1")
        with recorded(book, leg, Settings()) as taping:
            assert taping is not None
            match how:
                case "the call's context":
                    with logs.call("call-1"):
                        logs.event(log, "call.bug", level=logging.ERROR, exc_info=LookupError("shelf"))
                case "its id":
                    logs.event(log, "sip.bug", level=logging.ERROR, call_id="call-1")
                case "another call":
                    logs.event(log, "sip.bug", level=logging.ERROR, call_id="call-2")
                case "a warning":
                    logs.event(log, "call.odd", level=logging.WARNING, call_id="call-1")
                case _:
                    pass
            if how != "no record":
                taping.record = RECORD
    assert len(files(tmp_path)) == (how in ("the call's context", "its id", "no record"))
    if how == "the call's context":
        (flight,) = flights(tmp_path)
        assert ("error", "call.bug: LookupError: shelf") in [
            (entry.what, entry.detail) for entry in of_kind(flight, StateChange)
        ]


async def test_a_tool_that_logs_an_error_in_a_thread_leaves_the_tape_alone(tmp_path: Path) -> None:
    log = logging.getLogger("aivc.tools")
    with trio.fail_after(5):
        async with open_recorder(settings(tmp_path, mode="on_error")) as book:
            assert book is not None
            with recorded(book, attrs.evolve(paper_leg(), call_id="call-1"), Settings()) as taping:
                assert taping is not None
                taping.record = RECORD
                with logs.call("call-1"):
                    await trio.to_thread.run_sync(lambda: logs.event(log, "tool.odd", level=logging.ERROR))
    (flight,) = flights(tmp_path)
    assert "error" not in [entry.what for entry in of_kind(flight, StateChange)]


# Disks


async def test_a_full_disk_costs_files_and_neither_calls_nor_half_a_file(
    autojump_clock: MockClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with open_inline(settings(tmp_path)) as book:
        assert book is not None
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", full)
            await serve(book)
            await trio.sleep(2.0)
        await serve(book, "call-2")
    (flight,) = flights(tmp_path)
    assert flight.header.call_id == "call-2"
    assert book.counts() == {"written": 1, "lost": 1, "truncated": 0}
    (line,) = caplog.records
    assert (line.message, vars(line)["call_id"]) == ("recording.lost", "call-1")


async def test_a_disk_that_never_answers_neither_keeps_the_service_nor_its_calls(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    autojump_clock.autojump_threshold = THREADS
    disk = tmp_path / f".{file_name(NOON, 'call-0')}.{os.getpid()}.part"
    os.mkfifo(disk)  # which whoever opens it waits for a reader of
    async with open_recorder(settings(tmp_path), wall_clock=lambda: NOON) as book:
        assert book is not None
        for number in range(recorder.WAITING + 3):
            await serve(book, f"call-{number}")
            assert (book.tape_of(f"call-{number}") is None) is (number >= recorder.WAITING)
    assert trio.current_time() == pytest.approx(recorder.LAST_FILES)
    assert files(tmp_path) == [disk]
    os.close(os.open(disk, os.O_RDONLY | os.O_NONBLOCK))  # lets the thread go
    assert [record.message for record in caplog.records] == [*["recording.lost"] * 3, "recording.unwritten"]
    assert vars(caplog.records[-1])["fields"] == {"files": recorder.WAITING}
    assert book.lost == 3


async def test_files_are_written_although_the_service_is_cancelled(tmp_path: Path) -> None:
    with trio.fail_after(5), trio.CancelScope() as scope:
        async with open_recorder(settings(tmp_path)) as book:
            assert book is not None
            scope.cancel()
            for number in range(5):
                await serve(book, f"call-{number}")
            await trio.lowlevel.checkpoint()
    assert len(files(tmp_path)) == 5


def written(folder: Folder, name: str, size: int = 10, *, fail: bool = False) -> None:
    def lines() -> Any:
        yield b"x" * size
        if fail:
            raise LookupError("a bug")

    folder.write(name, lines())


def test_a_file_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = Folder(tmp_path, 10, 1000)
    with pytest.raises(LookupError):
        written(folder, file_name(NOON, "a"), fail=True)
    with pytest.raises(OSError, match="max_disk_mib"):
        written(folder, file_name(NOON, "a"), 1001)
    assert files(tmp_path) == []
    written(folder, file_name(NOON, "a"), 1000)
    assert len(files(tmp_path)) == 1


def test_what_a_crash_left_unfinished_is_deleted_later(tmp_path: Path) -> None:
    folder, name = Folder(tmp_path, 10, 1000), file_name(NOON, "a")
    left, trial, fresh = tmp_path / f".{name}.7.part", tmp_path / ".7.part", tmp_path / f".{name}.8.part"
    for path in (left, trial, fresh):
        path.write_text("x")
    for path in (left, trial):
        os.utime(path, (NOON - 1e9, NOON - 1e9))
    written(folder, name)
    assert (left.exists(), trial.exists(), fresh.exists()) == (False, False, True)


@pytest.mark.parametrize(
    ("call_id", "name"),
    [
        ("a84b4c76e66710@192.0.2.1", "a84b4c76e66710@192.0.2.1"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("..", "_"),
        ("", "_"),
        ("a/b\\c\0d\ne\udc80", "a_b_c_d_e_"),
        ("x" * 300, "x" * 64),
    ],
)
def test_a_call_id_from_anybody_makes_a_name_that_is_ours(tmp_path: Path, call_id: str, name: str) -> None:
    made = file_name(NOON, call_id)
    assert made == f"20270115T080000.000Z-{name}.jsonl"
    assert flightfolder.NAME.fullmatch(made)
    written(Folder(tmp_path, 10, 1000), made)
    assert [path.name for path in files(tmp_path)] == [made]


def test_writing_leaves_time_for_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    moments = iter(range(1000))
    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setattr(time, "monotonic", lambda: next(moments) / 2000)
    assert len(list(flightfolder.rested([b""] * 100))) == 100
    assert len(pauses) >= 20
