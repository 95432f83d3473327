"""aimock (npm: @copilotkit/aimock), a server that answers in writing; AIVC_AIMOCK names its command `llmock`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from aivc.testing.schema import Json
from interop.program import open_program

VARIABLE = "AIVC_AIMOCK"


def missing() -> str | None:
    command = os.environ.get(VARIABLE)
    if command is None:
        return f"{VARIABLE} names no command `llmock` (npm: @copilotkit/aimock)"
    return None if shutil.which(command) else f"{VARIABLE}: there is no {command}"


@asynccontextmanager
async def open_aimock(fixtures: Sequence[Json], folder: Path) -> AsyncIterator[str]:
    """Serve these fixtures, in aimock's own form, for the length of the block; the URL of the API."""
    file = folder / "fixtures.json"
    file.write_text(json.dumps({"fixtures": fixtures}))
    async with open_program([os.environ[VARIABLE], "-p", "0", "-f", file], folder=folder) as program:
        base = (await program.wait_output(r"listening on (http://\S+)"))[1]
        yield f"{base}/v1"
