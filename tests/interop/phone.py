"""What the tests can do with any real telephone in a call."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Literal, Protocol

import attrs
import trio

from aivc.config.settings import Codec
from interop.program import Program

DIALLED = "1000"
GAP_SECONDS = 0.3  # between lines that are typed into a telephone
Transport = Literal["udp", "tcp", "tls"]


@attrs.frozen(kw_only=True)
class Line:
    """How a telephone is connected; by default as plainly as can be."""

    transport: Transport = "udp"
    certificates: Path | None = None  # folder made by `write_certificates()`, for TLS
    srtp: Literal["80", "32"] | None = None  # bits of the tag: AES_CM_128_HMAC_SHA1_80 or _32, and no plain RTP
    credentials: tuple[str, str] | None = None  # user name and password, for whoever asks
    ptime_ms: int = 20
    reliable: bool = False  # provisional responses must be (Require: 100rel)
    session_seconds: int = 0  # session timer that it asks for; 0: none


PLAIN = Line()


@attrs.frozen(kw_only=True)
class RealPhone:
    """A program that has dialled."""

    program: Program
    hang_up_line: str | None  # what to type; None: it hangs up by itself
    over: str  # what it prints when the call is over, a regular expression
    quit_line: str | None  # what to type then; None: it ends by itself
    recording: Callable[[], Path] | None  # the WAV file of what it heard; None: it keeps none
    press_lines: Callable[[str], Sequence[str]] = list  # what to type to press these keys
    key_heard: str = ""  # what it prints for a key of the other side, which stands for {}
    hold_line: str = ""
    resume_line: str = ""

    async def press(self, keys: str) -> None:
        for line in self.press_lines(keys):
            await self.program.type(line)
            await trio.sleep(GAP_SECONDS)

    async def wait_keys(self, keys: str) -> None:
        """Wait until it has told of each of these keys of the other side's, in this order."""
        heard = ".*".join(re.escape(self.key_heard.format(key)) for key in keys)
        await self.program.wait_output(f"(?s){heard}")

    async def hang_up(self) -> None:
        if self.hang_up_line is not None:
            await self.program.type(self.hang_up_line)

    async def wait_over(self) -> int:
        """Wait until the telephone says that the call is over, and for its end; its exit status."""
        await self.program.wait_output(self.over)
        if self.quit_line is not None:
            await self.program.type(self.quit_line)
        return await self.program.wait_exit()


class Make(Protocol):
    """A make of telephone: one module of this package."""

    def missing(self) -> str | None:
        """Why it cannot be used here; None when it can."""

    def host(self) -> str:
        """The address of the service that it is to call."""

    def call(
        self, uri: str, codec: Codec, folder: Path, *, hangs_up: bool, line: Line = PLAIN
    ) -> AbstractAsyncContextManager[RealPhone]:
        """Dial, offer this codec alone and say `caller_audio(codec)`; the program is gone when the block ends.

        Args:
            folder: empty, for its files.
            hangs_up: whether the caller will end the call, and not the model.
        """
