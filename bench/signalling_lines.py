"""Calls told to a program on its standard input: `call K HOST PORT` -> `ready K PORT`, `end K` -> `ended K`.

For programs that do the work of a call but have no signalling: HOST:PORT is where the caller's RTP socket is, the
PORT of the answer is theirs. They are ready once their session with the model is configured. No I/O in the machine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from math import inf
from typing import IO, Final

import attrs

from bench.signalling import HOST, Address, Answered, Effect, Ended, HungUp, Ready, Refused, Send, TargetGone

PATIENCE: Final = 32.0  # seconds until a caller hangs up


@attrs.define(eq=False)
class Call:
    began: float
    answered: bool = False
    ending: bool = False


class Lines:
    """The machine. What the program prints beside those lines is not for us."""

    def __init__(self) -> None:
        self._calls: dict[int, Call] = {}
        self._unread = b""
        self._was_told = False

    @property
    def deadline(self) -> float:
        if not self._was_told:
            return -inf
        waiting = [call.began for call in self._calls.values() if not call.answered]
        return min(waiting) + PATIENCE if waiting else inf

    def begin(self, number: int, rtp_port: int, now: float) -> list[Effect]:
        self._calls[number] = Call(now)
        return [Send(f"call {number} {HOST} {rtp_port}\n".encode())]

    def end(self, number: int, now: float) -> list[Effect]:
        call = self._calls.get(number)
        if call is None or not call.answered:
            return []
        call.ending = True
        return [Send(f"end {number}\n".encode())]

    def receive(self, data: bytes, source: Address | None, now: float) -> list[Effect]:
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [effect for line in lines for effect in self._line(line.decode("utf-8", "replace").split(), now)]

    def _line(self, words: list[str], now: float) -> list[Effect]:
        match words:
            case ["ready", number, port]:
                call = self._calls.get(int(number))
                if call is not None and not call.answered:
                    call.answered = True
                    return [Answered(int(number), (HOST, int(port)), now - call.began)]
            case ["ended", number]:
                call = self._calls.pop(int(number), None)
                if call is not None and not call.answered:
                    return [Refused(int(number), "ended before it was ready")]
                if call is not None:
                    return [Ended(int(number)) if call.ending else HungUp(int(number))]
            case _:
                pass
        return []

    def expire(self, now: float) -> list[Effect]:
        if not self._was_told:  # there is no question to ask; who reads its input late answers late
            self._was_told = True
            return [Ready()]
        late = [number for number, call in self._calls.items() if not call.answered and now >= call.began + PATIENCE]
        for number in late:
            del self._calls[number]
        return [Refused(number, "no answer") for number in late]


class Pipe:
    """The program's standard input and output."""

    def __init__(self, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self._stdin, self._stdout = stdin, stdout

    def files(self) -> Sequence[int]:
        return [self._stdout.fileno()]

    def send(self, each: Send) -> None:
        try:
            os.write(self._stdin.fileno(), each.data)
        except BrokenPipeError:
            raise TargetGone("it has closed its standard input") from None

    def receive(self, file: int) -> Iterator[tuple[bytes, Address | None, float]]:
        """What it has printed. Raises TargetGone."""
        data = os.read(file, 65_536)
        if not data:
            raise TargetGone("it has closed its standard output")
        yield data, None, time.monotonic()

    def close(self) -> None:
        """Its input ends, and so does it."""
        self._stdin.close()
        self._stdout.close()
