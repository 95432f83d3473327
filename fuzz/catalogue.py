"""All targets by name, and the corpus that is kept of each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from fuzz import bodies, dialog, flights, media, messages, opensips, realtime, shortcuts
from fuzz.target import Target

CORPUS: Final = Path(__file__).parent / "corpus"
TARGETS: Final[Mapping[str, Target]] = {
    target.name: target
    for module in (messages, bodies, media, realtime, dialog, opensips, shortcuts, flights)
    for target in module.TARGETS
}


def inputs(name: str) -> Iterator[tuple[str, bytes]]:
    """The kept inputs of a target with their names."""
    for path in sorted((CORPUS / name).iterdir()):
        yield path.name, path.read_bytes()


def words(name: str) -> list[bytes]:
    """What the kept inputs of a target are made of: names, numbers, and what stands between them."""
    return sorted({word for _, data in inputs(name) for word in re.split(rb"(\W)", data) if word})
