"""PJSIP, by its Python binding pjsua2, in an interpreter that AIVC_PJSUA2_PYTHON names."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from aivc.config.settings import Codec
from interop.phone import RealPhone
from interop.program import open_program
from interop.speech import caller_audio, write_wav

VARIABLE = "AIVC_PJSUA2_PYTHON"
SCRIPT = Path(__file__).with_name("pjsua2_phone.py")
IMPORT_SECONDS = 30.0


@cache
def missing() -> str | None:
    python = os.environ.get(VARIABLE)
    if python is None:
        return f"{VARIABLE} names no Python interpreter that has pjsua2 (PyPI: pjsua2-python)"
    try:
        subprocess.run([python, "-c", "import pjsua2"], check=True, capture_output=True, timeout=IMPORT_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        return f"{VARIABLE}: {error}"
    return None


def host() -> str:
    return "127.0.0.1"


@asynccontextmanager
async def call(uri: str, codec: Codec, folder: Path, *, hangs_up: bool) -> AsyncIterator[RealPhone]:
    to_play, to_record = folder / "caller.wav", folder / "heard.wav"
    write_wav(to_play, caller_audio(codec), codec)
    command: list[str | Path] = [os.environ[VARIABLE], SCRIPT, uri, codec, to_play, to_record]
    async with open_program(command, folder=folder) as program:
        yield RealPhone(
            program=program,
            hang_up_line="hang up" if hangs_up else None,
            over=r"state DISCONNECTED",
            quit_line=None,
            recording=lambda: to_record,
            press_lines=lambda keys: [f"press {keys}"],
            key_heard="heard {}",
            hold_line="hold",
            resume_line="resume",
        )
