from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from aivc.demo.display import Moment
from aivc.demo.live import Screen, level
from aivc.nursery.record import Answered, CallEvent, ModelAudible
from aivc.realtime.effects import Interrupted, ModelSaid
from aivc.testing import open_phone, phrase

ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": "1"}


async def test_the_demo_makes_a_whole_call_and_leaves_sound_picture_and_figures(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "aivc", "demo", "--out", str(tmp_path / "out")]
    with trio.fail_after(90):
        done = await trio.run_process(command, env=ENVIRONMENT, capture_stdout=True, capture_stderr=True)
    shown, errors = done.stdout.decode(), done.stderr.decode()
    assert errors == ""
    for words in (
        "Hi, what are your opening hours?",
        "the model is cut: ",
        "time_now({})",
        "Thank you for calling. Goodbye.",
        "model_hung_up",
    ):
        assert words in shown
    sound = (tmp_path / "out" / "call.wav").read_bytes()
    assert sound[:4] == b"RIFF"
    left, right = sound[-2000 * 160 :: 2], sound[-2000 * 160 + 1 :: 2]  # the last 20 s, octet by octet
    assert phrase("caller_goodbye").octets[4000:4160] in left
    assert phrase("model_goodbye").octets[4000:4160] in right
    assert (tmp_path / "out" / "timeline.svg").read_text().startswith("<svg")
    answers = [line for line in (tmp_path / "out" / "latency.txt").read_text().splitlines() if re.match(r" +\d", line)]
    assert len(answers) == 3
    for line in answers:
        *parts, total = (int(number) for number in line.rpartition('"')[2].split())
        assert sum(parts) == total
        assert parts[0] in range(150, 201)  # the silence that the turn detection waits for


async def test_a_folder_that_cannot_be_made_is_told_before_the_call() -> None:
    command = [sys.executable, "-m", "aivc", "demo", "--out", "/proc/nowhere"]
    with trio.fail_after(30):
        done = await trio.run_process(command, env=ENVIRONMENT, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 1
    assert "/proc/nowhere" in done.stderr.decode()
    assert done.stdout == b""


async def test_a_softphone_may_call_the_demo_line(tmp_path: Path) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("0.0.0.0", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "aivc", "demo", "--listen", "--sip-port", f"{port}"]
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(run_quietly, command)
            assert process.stdout is not None
            shown = b""
            while b"Ctrl-C ends" not in shown:
                shown += await process.stdout.receive_some()
            assert b"sip:demo@" in shown
            assert f":{port}".encode() in shown
            async with open_phone() as phone, phone.dial(f"sip:demo@127.0.0.1:{port}") as call:
                await call.handset.wait_speech(0.5)
            while b"caller_hung_up" not in shown:
                shown += await process.stdout.receive_some()
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
    assert b"Traceback" not in shown


async def run_quietly(command: list[str], task_status: trio.TaskStatus[trio.Process]) -> None:
    await trio.run_process(
        command,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        task_status=task_status,
    )


class Lines:
    """A display that keeps what it is shown."""

    def __init__(self) -> None:
        self.moments: list[Moment] = []

    def show(self, moment: Moment) -> None:
        self.moments.append(moment)

    def level(self, caller: int, model: int) -> None:
        raise AssertionError("no levels here")


@pytest.mark.parametrize("transcript_first", [True, False])
def test_the_model_s_words_are_shown_with_the_time_at_which_they_became_audible(transcript_first: bool) -> None:
    lines = Lines()
    screen = Screen(lines)
    screen.show(CallEvent("c", 100.0, Answered()))
    said, audible = (
        CallEvent("c", 103.0, ModelSaid("item", "Hello.")),
        CallEvent("c", 101.5, ModelAudible("item", 101.5)),
    )
    for event in (said, audible) if transcript_first else (audible, said):
        screen.show(event)
    screen.show(CallEvent("c", 104.0, Interrupted("item", 1240, 5000)))
    assert [(moment.at, moment.kind, moment.text) for moment in lines.moments] == [
        (0.0, "call", "answered"),
        (1.5, "model", "Hello."),
        (4.0, "barge-in", "the model is cut: 1240 of 5000 ms were heard"),
    ]


def test_the_meter_is_empty_in_silence_and_full_at_the_loudest() -> None:
    assert level(b"\xff" * 160, "PCMU") == 0
    assert level(b"\x80" * 160, "PCMU") == 100
