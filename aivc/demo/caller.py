"""What the caller of the demo says, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
import trio

from aivc.testing.caller import PhoneCall
from aivc.testing.phrases import phrase

SPEAKS_UP_AFTER: Final = 3.2  # seconds of the long answer, then the caller has heard enough
POLITE_PAUSE: Final = 1.0  # seconds of silence before the caller takes the turn; longer than the tool takes


@attrs.define
class Spoken:
    """One utterance of the caller, in the handset's time."""

    text: str
    start: float  # seconds on trio's clock
    end: float


@attrs.define
class DemoCaller:
    """Asks, interrupts, and says goodbye.

    Args:
      spoke: called with each utterance as it begins.
    """

    call: PhoneCall
    spoke: Callable[[Spoken], None]
    said: list[Spoken] = attrs.field(factory=list)

    async def talk(self) -> None:
        """From the greeting to the model's BYE."""
        handset = self.call.handset
        await self._hear_out()
        await self._say("caller_hours")
        await handset.wait_speech(SPEAKS_UP_AFTER)
        await self._say("caller_interrupts")
        await self._hear_out()
        await self._say("caller_goodbye")
        await self.call.wait_hung_up()

    async def _hear_out(self) -> None:
        await self.call.handset.wait_speech()
        await self.call.handset.wait_silence(POLITE_PAUSE)

    async def _say(self, phrase_id: str) -> None:
        words = phrase(phrase_id)
        octets = words.octets if self.call.handset.codec == "PCMU" else words.encoded("PCMA")
        spoken = Spoken(words.text, trio.current_time(), trio.current_time() + len(octets) / 8000)
        self.said.append(spoken)
        self.spoke(spoken)
        self.call.handset.say(octets)
        await self.call.handset.wait_said()
