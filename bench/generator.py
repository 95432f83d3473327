"""The load: N callers with RTP and the model's server, in one C process (bench/generator/) driven line by line.

Every frame of 160 octets is made from (whose, which direction, number), so the program knows each one that arrives:
what is lost, doubled, out of order, damaged or at the wrong place is counted exactly. Times of arrival are the
kernel's.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import attrs
import trustme

from bench.compiling import compiled

HOST: Final = "127.0.0.1"
SOURCES: Final = Path(__file__).parent / "generator"
FRAME_MS: Final = 20
ANSWER_SECONDS: Final = 10.0  # the process answers a line within two milliseconds, unless the machine is stuck
LEAVE_SECONDS: Final = 5.0


class GeneratorError(Exception):
    """The generator's process did not start, died or fell silent; the text is what it said last."""


@attrs.frozen
class Load:
    """What every caller and the model do.

    One turn each `period_ms`: speech_started, speech_stopped, committed, and a response of `speech_ms` in deltas of
    `delta_ms`, sent `speed` times faster than it is spoken. A period of less than the answer and 600 ms makes
    every turn a barge-in; the frames that it cuts off are no loss. `first_port` 0 takes any free pairs of ports.
    """

    calls: int
    tls: bool = True
    law: Literal["PCMU", "PCMA"] = "PCMU"
    period_ms: int = 4000
    speech_ms: int = attrs.field(default=3000)
    delta_ms: int = 200
    speed: float = 3.0
    transcripts: bool = True
    packet_ms: int = attrs.field(default=20)
    first_port: int = 0

    @speech_ms.validator
    @packet_ms.validator
    def _whole_frames(self, attribute: attrs.Attribute[int], value: int) -> None:
        if value <= 0 or value % FRAME_MS:
            raise ValueError(f"{attribute.name} must be a multiple of {FRAME_MS}: {value}")

    @property
    def arguments(self) -> list[str]:
        """For the command line of the C program."""
        values = {
            "calls": self.calls,
            "law": self.law,
            "period-ms": self.period_ms,
            "speech-ms": self.speech_ms,
            "delta-ms": self.delta_ms,
            "speed": self.speed,
            "transcripts": int(self.transcripts),
            "packet-ms": self.packet_ms,
            "first-port": self.first_port,
        }
        return [part for name, value in values.items() for part in (f"--{name}", str(value))]


@attrs.frozen
class Percentiles:
    """Of `count` values, milliseconds, within 1 % (from a histogram), `max` exact. Zeros when there are none."""

    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    count: int


@attrs.frozen
class Report:
    """The tallies of a window.

    A frame is 20 ms (160 octets). It counts in the window in which it came, or in which it was clear that it will not:
    a second after it should have.
    """

    seconds: float
    calls: int  # with audio both ways in the window
    up: Percentiles  # RTP packet sent by the caller -> arrival of the append with it at the server
    down: Percentiles  # first delta of a response sent -> arrival of its first RTP packet at the caller
    pacing: (
        Percentiles  # |gap of arrival - gap of RTP time| of packets that follow each other; a hole in RTP time itself
    )
    sender_lag: Percentiles  # how late the generator sent its own RTP: high on a contended machine
    appends: int
    deltas: int
    responses: int  # begun
    sent_rtp: int  # packets
    received_rtp: int
    lost_up: int
    duplicated_up: int
    reordered_up: int
    wrong_up: int  # octets changed, or no frame of ours and no silence
    lost_down: int
    duplicated_down: int
    reordered_down: int
    wrong_down: int
    cut_down: int  # frames of answers that were interrupted, and so need not come
    underruns: int  # packets of silence inside an answer
    silent_rtp: int  # packets of silence at the callers, underruns among them
    made_up_octets: int  # silence in appends that no caller sent
    timestamp_gaps: int  # RTP time went on by more than what was sent (a pause, or a sender that was stalled)
    crosstalk: int  # frames at somebody else's session or caller
    after_end: int  # packets and frames that came when their call was over
    violations: int  # rules of RFC 6455, RFC 3550, JSON or the Realtime API that were broken
    first_violation: str  # in words; empty when there is none
    sessions_open: int
    sessions_opened: int  # in the window
    sessions_resumed: int  # of those: by a TLS session ticket
    cpu_ms: float  # of the generator itself

    @property
    def exact(self) -> bool:
        """Every frame arrived once, whole, and where it belongs, by the rules."""
        faults = (
            self.lost_up + self.duplicated_up + self.reordered_up + self.wrong_up,
            self.lost_down + self.duplicated_down + self.reordered_down + self.wrong_down,
            self.crosstalk + self.violations,
        )
        return not any(faults)


def report_of(answer: dict[str, Any]) -> Report:
    """From the program's JSON, which has the same names."""
    times = {name: Percentiles(**answer[name]) for name in ("up", "down", "pacing", "sender_lag")}
    return Report(**{**answer, **times})


class Generator:
    """A running generator; made by `open_generator`."""

    def __init__(self, process: subprocess.Popen[bytes], cafile: Path, tls: bool) -> None:
        self._process = process
        self._unread = b""
        ready = self._answer()
        self.cafile: Path = cafile
        self.ws_url: str = f"{'wss' if tls else 'ws'}://{HOST}:{ready['ws_port']}/v1/realtime"
        self.rtp_ports: Sequence[int] = tuple(ready["rtp_ports"])

    @property
    def pid(self) -> int:
        return self._process.pid

    def talk(self, number: int, remote: tuple[str, int]) -> None:
        """Caller `number` (from 0) begins to send RTP there; a call after a `hush` is a new one."""
        self._say(f"talk {number} {remote[0]} {remote[1]}")

    def hush(self, number: int) -> None:
        """Its call is over. What is under way may come, or stay away, for 200 ms; later it counts as `after_end`."""
        self._say(f"hush {number}")

    def begin_window(self) -> None:
        """Forget the tallies so far."""
        self._say("window")
        self._answer()

    def report(self) -> Report:
        """The tallies since the window began; it goes on."""
        self._say("report")
        return report_of(self._answer())

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise GeneratorError(f"the generator has gone (exit status {self._process.wait()})") from None

    def _answer(self) -> Any:
        """The next line, which is JSON."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + ANSWER_SECONDS
        while b"\n" not in self._unread:
            readable, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                raise GeneratorError("the generator gives no answer")
            piece = os.read(self._process.stdout.fileno(), 65536)
            if not piece:
                raise GeneratorError(f"the generator has gone (exit status {self._process.wait()})")
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)


def generator_program() -> Path:
    """The C program, compiled. Raises CompileError."""
    sources = sorted(SOURCES.glob("*.c"), key=lambda path: (path.stem != "generator", path))
    return compiled(sources, libraries=("ssl", "crypto"))


@contextmanager
def open_generator(load: Load, core: int | None = 1) -> Iterator[Generator]:
    """A generator for the length of the block, on one core (None: any). Raises CompileError, GeneratorError."""
    program = generator_program()
    with tempfile.TemporaryDirectory(prefix="aivc-bench-") as folder:
        cafile, identity = certificate(Path(folder))
        command = [str(program), *load.arguments]
        command += ["--identity", str(identity)] if load.tls else []
        command += ["--core", str(core)] if core is not None else []
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            yield Generator(process, cafile, load.tls)
        finally:
            leave(process)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A private authority's certificate (for the clients), and the server's certificate with its key, PEM files."""
    authority = trustme.CA()
    cafile, identity = folder / "ca.pem", folder / "identity.pem"
    authority.cert_pem.write_to_path(cafile)
    authority.issue_cert(HOST, "localhost").private_key_and_cert_chain_pem.write_to_path(identity)
    return cafile, identity


def leave(process: subprocess.Popen[bytes]) -> None:
    """Its input ends and it goes; a program that is stuck is killed."""
    with process:
        assert process.stdin is not None
        try:
            process.stdin.close()
            process.wait(LEAVE_SECONDS)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            process.kill()
