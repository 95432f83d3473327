"""Programs that do the media work of aivc and nothing else, to measure it against; README.md says what they lack."""

from __future__ import annotations

from pathlib import Path
from typing import Final

FLOOR: Final = tuple(sorted(Path(__file__).parent.glob("*.c")))  # the sources of the one in C
FLOOR_LIBRARIES: Final = ("ssl", "crypto")
