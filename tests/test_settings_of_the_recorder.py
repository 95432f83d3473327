"""What the settings of `recorder` change."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
import trio
from recorder_parts import files, flights, of_kind, recording
from scenarios.world import changed, open_world
from settings_shown import shows
from trio.testing import MockClock

from aivc import Ending, open_service
from aivc.config.loading import ConfigError, load
from aivc.config.settings import Settings
from aivc.flight.entries import RtpPacket, StateChange
from aivc.testing import Say, scripted, speech

SAID: Final = "Good morning."
VOICE: Final = speech(0.3, pitch_hz=210.0)
GREETING: Final = scripted([[Say(SAID, audio=VOICE)]])
IMPATIENT: Final = changed(service={"max_call_seconds": 1.0})
LOST: Final = changed(openai={"reconnect": False})


async def call_once(settings: Settings, *, seconds: float = 0.0, lose: bool = False) -> Ending:
    """One call that hears the greeting."""
    async with open_world(GREETING, settings=settings) as world, world.dial() as call:
        await call.handset.wait_speech()
        await call.handset.wait_silence(0.2)
        await trio.sleep(seconds)
        if lose:
            world.session.drop()
            await call.wait_hung_up()
    return world.record.ending


@shows("recorder.mode")
@pytest.mark.parametrize(("mode", "good", "bad"), [("off", 0, 0), ("on_error", 0, 1), ("always", 1, 1)])
async def test_files_are_kept_of_no_call_of_those_that_went_wrong_or_of_all(
    autojump_clock: MockClock, tmp_path: Path, mode: str, good: int, bad: int
) -> None:
    for name, lose, expected, kept in (
        ("good", False, Ending.CALLER_HUNG_UP, good),
        ("bad", True, Ending.REALTIME_LOST, bad),
    ):
        folder = tmp_path / name
        assert await call_once(recording(folder, LOST, mode=mode), lose=lose) is expected
        assert len(files(folder) if folder.exists() else []) == kept


@shows("recorder.directory")
async def test_each_call_is_a_file_of_its_own_in_the_folder(autojump_clock: MockClock, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "flights"
    await call_once(recording(folder))
    (path,) = files(folder)
    assert path.name.startswith("20270115T080000.000Z-call")
    assert (folder.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)


def test_without_a_folder_there_can_be_no_recorder() -> None:
    with pytest.raises(ConfigError, match=r"recorder\.mode .*always needs recorder\.directory"):
        load(None, {"AIVC_RECORDER_MODE": "always"}, simulator=True)


async def test_a_folder_that_cannot_be_written_is_told_before_anything_listens(tmp_path: Path) -> None:
    (tmp_path / "flights").write_text("")
    with trio.fail_after(1), pytest.raises(ConfigError, match=r"recorder\.directory"):
        async with open_service(recording(tmp_path / "flights")):
            pass


@shows("recorder.audio")
async def test_audio_is_kept_if_it_may_be(autojump_clock: MockClock, tmp_path: Path) -> None:
    heard = {}
    for audio in ("hash", "keep"):
        await call_once(recording(tmp_path / audio, audio=audio))
        (flight,) = flights(tmp_path / audio)
        assert flight.header.audio == audio
        heard[audio] = b"".join(packet.payload or b"" for packet in of_kind(flight, RtpPacket) if packet.way == "out")
    assert heard["hash"] == b""
    assert VOICE in heard["keep"]


@shows("recorder.mask")
@pytest.mark.parametrize("mask", [(), ("numbers",), ("transcripts",), ("numbers", "transcripts")])
async def test_numbers_and_words_are_there_unless_they_are_masked(
    autojump_clock: MockClock, tmp_path: Path, mask: tuple[str, ...]
) -> None:
    await call_once(recording(tmp_path, mask=mask))
    (path,) = files(tmp_path)
    text = path.read_text()
    assert (SAID in text) is ("transcripts" not in mask)
    assert ("sip:phone@" in text or "sip:alice@" in text) is ("numbers" not in mask)
    assert flights(tmp_path)[0].header.masked == mask


def test_only_what_can_be_masked_may_be_named() -> None:
    given = {"AIVC_RECORDER_MASK": "names"}
    with pytest.raises(ConfigError, match=r"recorder\.mask.*neither numbers nor transcripts"):
        load(None, given, simulator=True)


@shows("recorder.max_call_kib")
async def test_a_long_call_keeps_its_beginning_and_its_end(autojump_clock: MockClock, tmp_path: Path) -> None:
    missing = {}
    for kib in (64, 2048):
        folder = tmp_path / str(kib)
        await call_once(recording(folder, max_call_kib=kib), seconds=20.0)
        (flight,) = flights(folder)
        missing[kib] = flight.missing
        assert [entry.what for entry in of_kind(flight, StateChange)][-1] == "ended"
        assert flight.entries[0].at == 0.0
        assert flight.record is not None
    assert missing[2048] == 0
    assert missing[64] > 100


@shows("recorder.max_files")
async def test_the_oldest_files_make_room_for_new_ones(autojump_clock: MockClock, tmp_path: Path) -> None:
    for _ in range(2):
        await call_once(recording(tmp_path, max_files=2))
    kept = {path.name: path.read_bytes() for path in files(tmp_path)}
    old = tmp_path / "20200101T000000.000Z-old.jsonl"
    others = [tmp_path / "2026-01-01.jsonl", tmp_path / "notes.txt"]
    for path in (old, *others):
        path.write_text("")
    await call_once(recording(tmp_path, max_files=1 + len(kept)))
    assert not old.exists()
    assert {path.name for path in files(tmp_path)} > {path.name for path in others}


@shows("recorder.max_disk_mib")
async def test_the_folder_never_holds_more_than_it_may(autojump_clock: MockClock, tmp_path: Path) -> None:
    for number in range(3):
        path = tmp_path / f"2020010{number + 1}T000000.000Z-old.jsonl"
        path.write_bytes(b"x" * 450_000)
    await call_once(recording(tmp_path, max_disk_mib=1))
    *old, new = files(tmp_path)
    assert [path.name[:8] for path in old] == ["20200102", "20200103"]
    assert sum(path.stat().st_size for path in (*old, new)) <= 2**20
