"""SIPp (package sip-tester): a telephone without ears that speaks raw G.711, and any other sequence of messages."""

from __future__ import annotations

import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aivc.config.settings import Codec
from interop.phone import PLAIN, Line, RealPhone
from interop.program import Program, open_program
from interop.sipp_scenario import answered, expect, expect_request, in_dialog, pause, scenario, speak
from interop.speech import caller_audio

TALK_SECONDS = 3.5
GIVE_UP_SECONDS = 50
SOCKETS = {"udp": ("-t", "u1"), "tcp": ("-t", "t1")}


def missing() -> str | None:
    return None if shutil.which("sipp") else "sipp is not installed (Debian: sip-tester)"


def host() -> str:
    return "127.0.0.1"


@asynccontextmanager
async def call(uri: str, codec: Codec, folder: Path, *, hangs_up: bool, line: Line = PLAIN) -> AsyncIterator[RealPhone]:
    audio = folder / f"caller.{codec}"
    audio.write_bytes(caller_audio(codec))
    goodbye = pause(TALK_SECONDS) + in_dialog("BYE", 2) + expect(200) if hangs_up else expect_request("BYE")
    steps = scenario(answered(codec), speak(audio, codec), goodbye)
    async with open_sipp(uri, steps, folder, "-m", "1", *SOCKETS[line.transport]) as program:
        yield RealPhone(program=program, hang_up_line=None, over="Test Terminated", quit_line=None, recording=None)


@asynccontextmanager
async def open_sipp(uri: str, steps: str, folder: Path, *options: str) -> AsyncIterator[Program]:
    """Play a scenario against `sip:USER@HOST:PORT`: one call, or what `options` say. Its exit status is the verdict."""
    user, _, target = uri.removeprefix("sip:").partition(";")[0].partition("@")
    own = "::1" if "[" in target else host()
    command = command_for(steps, folder, target, "-s", user, *(options or ("-m", "1")), own=own)
    async with open_program(command, folder=folder) as program:
        yield program


@asynccontextmanager
async def open_target(steps: str, folder: Path) -> AsyncIterator[tuple[str, Program]]:
    """Play a scenario to whoever calls the URI that is yielded, for one call. Its exit status is the verdict."""
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind((host(), 0))
        port: int = free.getsockname()[1]
    command = command_for(scenario(steps), folder / "target", "-p", f"{port}", "-m", "1")
    async with open_program(command, folder=folder / "target") as program:
        yield f"sip:target@{host()}:{port}", program


def command_for(steps: str, folder: Path, *options: str, own: str = "127.0.0.1") -> list[str]:
    """What to run in `folder` to play these steps, at the address `own`."""
    folder.mkdir(exist_ok=True)
    (folder / "scenario.xml").write_text(steps)
    command = ["sipp", *options, "-sf", "scenario.xml", "-i", own, "-mi", own, "-nostdin"]
    return [*command, "-timeout", f"{GIVE_UP_SECONDS}s", "-timeout_error", "-trace_err", "-error_file", "errors.log"]


async def played(uri: str, steps: str, folder: Path, *options: str) -> str:
    """Play a scenario to its end; what was wrong with it, nothing if all went as it should."""
    async with open_sipp(uri, steps, folder, *options) as program:
        status = await program.wait_exit()
    errors = folder / "errors.log"
    return f"exit status {status}: {errors.read_text() if errors.exists() else program.output}" if status else ""
