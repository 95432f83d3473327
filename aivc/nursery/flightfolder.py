"""The folder of flight recordings: private, each file there as a whole or not at all, the oldest deleted in time."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs

from aivc.config.loading import ConfigError
from aivc.config.recorder import RecorderSettings
from aivc.nursery.writing import PRIVATE_FILE, make_folder

NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)  # not on Windows
NAME: Final = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{3}Z-[A-Za-z0-9_.@=+-]{1,80}\.jsonl")
UNFINISHED: Final = ".part"
LEFT: Final = re.compile(rf"\.(?:{NAME.pattern}\.)?[0-9]{{1,10}}\.part")  # of that name, by that process
ABANDONED: Final = 3600.0  # seconds after which nobody goes on with an unfinished file
UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.@=+-]")
LONGEST_ID: Final = 64  # characters of a Call-ID in a file's name
MEBI: Final = 2**20
BUSY: Final = 0.001  # seconds of work in a row: whoever holds Python's lock for longer makes packets late
REST: Final = 0.002


class TooLarge(OSError):
    """One file alone is more than the folder may hold."""


@attrs.frozen
class Folder:
    """Where the files go. Everything here blocks."""

    path: Path
    most_files: int
    most_octets: int

    @classmethod
    def of(cls, settings: RecorderSettings) -> Folder | None:
        """None when nothing is recorded."""
        if settings.mode == "off" or settings.directory is None:
            return None
        return cls(Path(settings.directory), settings.max_files, settings.max_disk_mib * MEBI)

    def prepare(self) -> None:
        """Make the folder, and see that a file can be written there. Raises ConfigError."""
        try:
            make_folder(self.path)
            trial = self.path / f".{os.getpid()}{UNFINISHED}"
            os.close(create(trial))
            trial.unlink()
            self.make_room(0, files=0)
        except OSError as error:
            raise ConfigError((f"recorder.directory: {self.path}: {error.strerror}",)) from None

    def write(self, name: str, lines: Iterable[bytes], *, rests: bool = True) -> int:
        """Write one file, then give it its name; returns its octets. Raises OSError, and leaves nothing behind then.

        Args:
          rests: pause often, so that the calls of the process are not kept waiting.
        """
        make_folder(self.path)  # it may have been removed since `prepare`
        unfinished = self.path / f".{name}.{os.getpid()}{UNFINISHED}"
        octets = 0
        try:
            with open(create(unfinished), "wb") as file:
                for line in rested(lines) if rests else lines:
                    octets += file.write(line)
                    if octets > self.most_octets:
                        raise TooLarge(0, "larger than recorder.max_disk_mib")
            self.make_room(octets, files=1)
            os.replace(unfinished, self.path / name)
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
        return octets

    def make_room(self, octets: int, *, files: int) -> None:
        """Delete the oldest, until so many octets and files fit in. Raises OSError."""
        found = sorted(self._recordings())
        count, used = len(found) + files, octets + sum(size for _, size in found)
        for name, size in found:
            if count <= self.most_files and used <= self.most_octets:
                return
            with contextlib.suppress(FileNotFoundError):  # another process has done so
                (self.path / name).unlink()
            count, used = count - 1, used - size

    def _recordings(self) -> Iterator[tuple[str, int]]:
        """Name and octets of each; what was left unfinished long ago is deleted. Other files are not ours."""
        long_ago = time.time() - ABANDONED
        with os.scandir(self.path) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if not entry.is_file(follow_symlinks=False):
                        continue
                    if NAME.fullmatch(entry.name):
                        yield entry.name, entry.stat().st_size
                    elif LEFT.fullmatch(entry.name) and entry.stat().st_mtime < long_ago:
                        os.unlink(entry.path)


def create(path: Path) -> int:
    """A descriptor of an empty file of ours; where others may write too, no link of theirs is followed."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | NO_FOLLOW, PRIVATE_FILE)


def file_name(unix_time: float, call_id: str) -> str:
    """`20260301T120000.123Z-<call id>.jsonl`: sorted by name they are sorted by time."""
    moment = datetime.fromtimestamp(unix_time, UTC)
    safe = UNSAFE.sub("_", call_id)[:LONGEST_ID].lstrip(".") or "_"
    return f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03d}Z-{safe}.jsonl"


def rested(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines, with a pause for everybody else now and then."""
    until = time.monotonic() + BUSY
    for line in lines:
        yield line
        if time.monotonic() >= until:
            time.sleep(REST)
            until = time.monotonic() + BUSY
