"""Hugging Face's server (PyPI: speech-to-speech, 1.1.0); AIVC_SPEECH_TO_SPEECH_PYTHON names an interpreter that has it.

Its models need not be there: `pip install --no-deps speech-to-speech`, and beside it fastapi, httpx, jsonschema, nltk,
numpy, openai 2.28, rich, scipy, soxr, uvicorn and websockets.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Literal

import attrs

from interop.program import Program, open_program

VARIABLE = "AIVC_SPEECH_TO_SPEECH_PYTHON"
SERVER = Path(__file__).with_name("huggingface_server.py")
IMPORT_SECONDS = 60.0
IMPORTS = (
    "import uvicorn, speech_to_speech.api.openai_realtime.websocket_router; "
    "from speech_to_speech.pipeline.events import ResponseGenerationDoneEvent"
)

Scene = Literal["talk", "pcm", "closes"]


@cache
def missing() -> str | None:
    python = os.environ.get(VARIABLE)
    if python is None:
        return f"{VARIABLE} names no Python interpreter that has speech-to-speech (PyPI)"
    try:
        subprocess.run([python, "-c", IMPORTS], check=True, timeout=IMPORT_SECONDS, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError) as error:
        return f"{VARIABLE}: {error}"
    return None


@attrs.frozen
class Server:
    """The server, ready for a session."""

    program: Program
    url: str

    async def wait_reports(self, count: int) -> list[dict[str, Any]]:
        """What it said of its sessions, each at its end, when so many have ended."""
        return await self.program.wait_until(
            lambda output: reports if len(reports := reports_in(output)) >= count else None
        )


def reports_in(output: str) -> list[dict[str, Any]]:
    whole = output.rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]


@asynccontextmanager
async def open_server(scene: Scene, folder: Path) -> AsyncIterator[Server]:
    """Run it for the length of the block, with a pipeline that plays this scene."""
    with as_file(files("aivc.testing") / "speech") as speech:
        command: list[str | Path] = [os.environ[VARIABLE], SERVER, speech, scene]
        async with open_program(command, folder=folder) as program:
            port = (await program.wait_output(r"listening (\d+)"))[1]
            yield Server(program, f"ws://127.0.0.1:{port}/v1/realtime")
