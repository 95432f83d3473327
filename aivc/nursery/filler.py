"""A sign of life for a caller who waits for a slow tool."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

import attrs
import trio

from aivc.config.settings import OpenAISettings
from aivc.realtime.toolcontext import CallControl

NEXT_LOOK: Final = 0.1  # seconds until we look again whether the model has finished


class Speaker(Protocol):
    """Over whose words no filler is laid."""

    @property
    def is_speaking(self) -> bool: ...


@attrs.define(eq=False)
class Filler:
    """The fillers of one call.

    Tools that run side by side are one wait to the caller: the model says its sentence once for all of them, and the
    hold sound lasts until the last slow one is done.
    """

    settings: OpenAISettings
    control: CallControl
    speaker: Speaker
    _running: int = 0
    _slow: int = 0
    _said: bool = False

    @asynccontextmanager
    async def while_running(self) -> AsyncIterator[None]:
        """Run a tool in this block. What the control raises comes as an exception group."""
        if not self.settings.filler_after_ms:
            yield
            return
        self._running += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._fill)
                yield
                nursery.cancel_scope.cancel()
        finally:
            self._running -= 1
            self._said = self._said and self._running > 0

    async def _fill(self) -> None:
        await trio.sleep(self.settings.filler_after_ms / 1000)
        if self.settings.filler == "sound":
            await self._sound()
            return
        while self.speaker.is_speaking and not self._said:  # noqa: ASYNC110 - a playout has no event for its end
            await trio.sleep(NEXT_LOOK)
        if not self._said:
            self._said = True
            self.control.say(self.settings.filler_message)

    async def _sound(self) -> None:
        self._slow += 1
        if self._slow == 1:
            self.control.start_hold_sound()
        try:
            await trio.sleep_forever()
        finally:
            self._slow -= 1
            if not self._slow:
                self.control.stop_hold_sound()
