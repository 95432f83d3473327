"""PJSIP, by its Python binding pjsua2, in an interpreter that AIVC_PJSUA2_PYTHON names."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from aivc.config.settings import Codec
from interop.phone import PLAIN, Line, RealPhone
from interop.program import Program, open_program
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


def options(uri: str | None, codec: Codec, folder: Path, line: Line) -> str:
    """What the script is told, as JSON."""
    certificates = line.certificates
    told = {
        "uri": uri,
        "codec": codec,
        "to_play": str(folder / "caller.wav"),
        "to_record": str(folder / "heard.wav"),
        "transport": line.transport,
        "authority": certificates and str(certificates / "ca.pem"),
        "certificate": certificates and str(certificates / "telephone.pem"),
        "srtp": line.srtp and f"AES_CM_128_HMAC_SHA1_{line.srtp}",
        "credentials": line.credentials,
        "reliable": line.reliable,
        "session_seconds": line.session_seconds,
    }
    return json.dumps(told)


@asynccontextmanager
async def call(uri: str, codec: Codec, folder: Path, *, hangs_up: bool, line: Line = PLAIN) -> AsyncIterator[RealPhone]:
    async with open_script(uri, codec, folder, line) as program:
        yield RealPhone(
            program=program,
            hang_up_line="hang up" if hangs_up else None,
            over=r"state DISCONNECTED",
            quit_line=None,
            recording=lambda: folder / "heard.wav",
            press_lines=lambda keys: [f"press {keys}"],
            key_heard="heard {}",
            hold_line="hold",
            resume_line="resume",
        )


@asynccontextmanager
async def target(codec: Codec, folder: Path, line: Line = PLAIN) -> AsyncIterator[tuple[str, Program]]:
    """A telephone that answers whoever calls the URI that is yielded; it hears into `heard.wav`."""
    async with open_script(None, codec, folder, line) as program:
        listening = await program.wait_output(r"listening (\S+)")
        yield f"sip:target@{listening[1]}", program


def prepare(folder: Path, codec: Codec) -> None:
    folder.mkdir(exist_ok=True)
    write_wav(folder / "caller.wav", caller_audio(codec), codec)


@asynccontextmanager
async def open_script(uri: str | None, codec: Codec, folder: Path, line: Line) -> AsyncIterator[Program]:
    prepare(folder, codec)
    command: list[str | Path] = [os.environ[VARIABLE], SCRIPT, options(uri, codec, folder, line)]
    async with open_program(command, folder=folder) as program:
        yield program
