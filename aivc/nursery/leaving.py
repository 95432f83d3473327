"""The call's own wish to end: once the last words were heard, unless the caller speaks again."""

from __future__ import annotations

from typing import Final, NoReturn, Protocol

import attrs
import trio

from aivc.media.g711 import FRAME_SECONDS
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


@attrs.define(eq=False)
class Leaving:
    """Who wants to end this call, and which tool calls wait for it."""

    ending: Ending | None = None  # how the record will name the hang-up; None: nobody wants to hang up
    referring: bool = False  # a REFER is out: a BYE of the caller is its success
    consulting: bool = False  # the target of an attended transfer is called first, while the caller waits
    fields: Fields = ()  # for the BYE, by the wish of the tool that hangs up
    _asked: trio.Event = attrs.field(factory=trio.Event)
    _withdrawn: trio.Event = attrs.field(factory=trio.Event)
    _over: CallOver | None = None
    _told: trio.Event = attrs.field(factory=trio.Event)
    _unanswered: list[tuple[str, str]] = attrs.field(factory=list)  # tool calls and their outputs

    def ask(self, ending: Ending) -> None:
        """Hang up when the last words were heard. The first wish counts, but for one that nothing can put off."""
        if self.ending is None or ending in FINAL:
            self.ending = ending
        self._asked.set()

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
        self.ending, self.fields, self._asked = None, (), trio.Event()
        self._withdrawn.set()
        self._withdrawn = trio.Event()
        unanswered, self._unanswered = self._unanswered, []
        return unanswered

    async def wait_stay(self) -> None:
        """Until nobody wants to hang up; at once if nobody does."""
        while self.ending is not None:
            await self._withdrawn.wait()

    @property
    def transferring(self) -> bool:
        """Whether a transfer is under way, or was done."""
        return self.referring or self.consulting

    def end(self, over: CallOver) -> None:
        """The call is over, said by code that may not raise: a tool's."""
        self._over = over
        self._told.set()

    async def wait_over(self) -> NoReturn:
        """Task: raises what `end` was told."""
        await self._told.wait()
        assert self._over is not None
        raise self._over

    async def wait_referred(self) -> None:
        """Until no transfer is under way; one that succeeds ends the call meanwhile."""
        while self.transferring:  # noqa: ASYNC110 - once in a call at most
            await trio.sleep(FRAME_SECONDS)

    async def hang_up(self, speaker: Speaker, seconds: float) -> NoReturn:
        """Task: once asked, let the last words be heard, but wait no longer than `seconds`."""
        while True:
            wish = self._asked  # another event after a withdrawal
            await wish.wait()
            with trio.move_on_after(seconds):
                await self._wait_said(wish, speaker)
            await self.wait_referred()  # a transfer that is under way needs neither us nor the model
            if wish is self._asked and self.ending is not None:
                raise CallOver(self.ending)

    async def _wait_said(self, wish: trio.Event, speaker: Speaker) -> None:
        # A withdrawal is looked for at every frame, as the playout is: neither has an event to wait for.
        while wish is self._asked and speaker.is_speaking:  # noqa: ASYNC110
            await trio.sleep(FRAME_SECONDS)
        if wish is self._asked:
            await trio.sleep(JITTER_BUFFER)  # the last frame was sent, and not yet heard


async def wait_said(speaker: Speaker, seconds: float) -> None:
    """Until everything that the model has to say was sent, at most `seconds`."""
    with trio.move_on_after(seconds):
        while speaker.is_speaking:  # noqa: ASYNC110 - what runs 50 times a second and call stays flat
            await trio.sleep(FRAME_SECONDS)
        await trio.sleep(JITTER_BUFFER)
