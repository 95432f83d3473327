"""A recording as a test: a copy of the file, and a case for pytest that replays it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

LONGEST_NAME: Final = 60  # characters
TEMPLATE: Final = '''"""A recorded call, replayed: made by `aivc replay --as-test`."""

from pathlib import Path

from aivc.replaying.replay import replayed


def test_{name}_goes_as_it_was_recorded() -> None:
    assert replayed(Path(__file__).parent / "{file}") is None
'''


def write_test(recording: Path, folder: Path) -> Path:
    """Copy the recording into `folder` and write `test_NAME.py` beside it; returns its path. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    name = name_of(recording)
    copy = folder / f"{name}{''.join(recording.suffixes[-1:])}"
    if copy.resolve() != recording.resolve():
        shutil.copyfile(recording, copy)
    case = folder / f"test_{name}.py"
    case.write_text(TEMPLATE.format(name=name, file=copy.name), encoding="utf-8")
    return case


def name_of(recording: Path) -> str:
    """What Python takes for a name, of the file's."""
    return re.sub(r"[^a-z0-9]+", "_", recording.stem.lower()).strip("_")[:LONGEST_NAME].rstrip("_") or "call"
