"""The call's own wish to end: once the last words were heard, unless the caller speaks again."""

from __future__ import annotations

from typing import Final, Protocol

import attrs
import trio

from aivc.media.g711 import FRAME_SECONDS
from aivc.nursery.blocks import AtEnd
from aivc.nursery.causes import raise_once
from aivc.nursery.ending import CallOver, Ending
from aivc.sip.leg import Fields

# Audio that waits in a telephone when BYE comes is thrown away; baresip and Linphone lost up to 70 ms of it.
JITTER_BUFFER: Final = 0.2  # seconds
FINAL: Final = frozenset({Ending.REALTIME_EXPIRED})  # what no word of the caller can put off
GOES_ON: Final = "The caller spoke again, so the call was not ended. Listen, answer, and end it when it is really over."


class Speaker(Protocol):
    """Who must have finished speaking first."""

    @property
    def is_speaking(self) -> bool: ...


@attrs.frozen(eq=False)
class Heeding:
    """Where a wish is seen to, and how: see `Leaving.heeded`."""

    nursery: trio.Nursery
    speaker: Speaker
    seconds: float


@attrs.define(eq=False)
class Leaving:
    """Who wants to end this call, and which tool calls wait for it. While nobody wants to, no task waits."""

    ending: Ending | None = None  # how the record will name the hang-up; None: nobody wants to hang up
    referring: bool = False  # a REFER is out: a BYE of the caller is its success
    consulting: bool = False  # the target of an attended transfer is called first, while the caller waits
    fields: Fields = ()  # for the BYE, by the wish of the tool that hangs up
    _heeding: Heeding | None = None
    _withdrawals: int = 0  # a wish that knows of fewer was withdrawn itself
    _withdrawn: trio.Event | None = None  # of who waits for that
    _unanswered: list[tuple[str, str]] = attrs.field(factory=list)  # tool calls and their outputs

    def ask(self, ending: Ending) -> None:
        """Hang up when the last words were heard. The first wish counts, but for one that nothing can put off."""
        first = self.ending is None
        if first or ending in FINAL:
            self.ending = ending
        if first:
            self._heed()

    def keeps(self, call_id: str, output: str) -> bool:
        """Say whether the call is about to end: then the model is told no output, unless the wish is withdrawn."""
        if self.ending is None:
            return False
        self._unanswered.append((call_id, output))
        return True

    def withdraw(self) -> list[tuple[str, str]]:
        """The caller speaks again: nobody hangs up on a caller who speaks. Returns the tool outputs to tell now."""
        if self.ending is None or self.ending in FINAL:
            return []
        self.ending, self.fields = None, ()
        self._withdrawals += 1
        if self._withdrawn is not None:
            self._withdrawn.set()
            self._withdrawn = None
        unanswered, self._unanswered = self._unanswered, []
        return unanswered

    async def wait_stay(self) -> None:
        """Until nobody wants to hang up; at once if nobody does."""
        while self.ending is not None:
            if self._withdrawn is None:
                self._withdrawn = trio.Event()
            await self._withdrawn.wait()

    @property
    def transferring(self) -> bool:
        """Whether a transfer is under way, or was done."""
        return self.referring or self.consulting

    def end(self, over: CallOver) -> None:
        """The call is over, said by code that may not raise: a tool's."""
        if self._heeding is not None:
            self._heeding.nursery.start_soon(raise_once, over)

    def heeded(self, nursery: trio.Nursery, speaker: Speaker, seconds: float) -> AtEnd:
        """While the block runs, CallOver is raised in `nursery` by what `end` is told, and by who asks to hang up: when
        `speaker` has said the last words, or has taken `seconds` for them.
        """
        self._heeding = Heeding(nursery, speaker, seconds)
        if self.ending is not None:
            self._heed()
        return AtEnd(self._unheeded)

    def _unheeded(self) -> None:
        self._heeding = None

    async def wait_referred(self) -> None:
        """Until no transfer is under way; one that succeeds ends the call meanwhile."""
        while self.transferring:  # noqa: ASYNC110 - once in a call at most
            await trio.sleep(FRAME_SECONDS)

    def _heed(self) -> None:
        if self._heeding is not None:
            self._heeding.nursery.start_soon(self._hang_up, self._withdrawals, self._heeding)

    async def _hang_up(self, wish: int, heeding: Heeding) -> None:
        """Let the last words be heard; ends without effect when the wish is withdrawn meanwhile."""
        with trio.move_on_after(heeding.seconds):
            await self._wait_said(wish, heeding.speaker)
        await self.wait_referred()  # a transfer that is under way needs neither us nor the model
        if wish == self._withdrawals and self.ending is not None:
            raise CallOver(self.ending)

    async def _wait_said(self, wish: int, speaker: Speaker) -> None:
        while wish == self._withdrawals and speaker.is_speaking:  # noqa: ASYNC110 - neither has an event to wait for
            await trio.sleep(FRAME_SECONDS)
        if wish == self._withdrawals:
            await trio.sleep(JITTER_BUFFER)  # the last frame was sent, and not yet heard


async def wait_said(speaker: Speaker, seconds: float) -> None:
    """Until everything that the model has to say was sent, at most `seconds`."""
    with trio.move_on_after(seconds):
        while speaker.is_speaking:  # noqa: ASYNC110 - what runs 50 times a second and call stays flat
            await trio.sleep(FRAME_SECONDS)
        await trio.sleep(JITTER_BUFFER)
