"""Shows calls while they last: `CallEvent`s become lines of a display."""

from __future__ import annotations

from typing import assert_never

import attrs
import trio

from aivc.config.settings import Codec
from aivc.demo.display import Display, Moment
from aivc.media.g711 import peak_level
from aivc.nursery.record import (
    Answered,
    CallEvent,
    DigitsEntered,
    Ended,
    ModelAudible,
    SessionLost,
    SessionReplaced,
    ToolFinished,
    ToolStarted,
    TransferBegan,
    TransferOver,
)
from aivc.realtime.effects import (
    CallerSaid,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    Interrupted,
    ModelSaid,
    ModelStartedResponse,
    RealtimeError,
    ResponseFinished,
)
from aivc.testing.handset import Handset

LEVELS_A_SECOND = 10
FULL_SCALE = 16384  # peak that fills the meter: ordinary speech comes near it


@attrs.define
class Screen:
    """Turns what happens in calls into moments, in the time of each call."""

    display: Display
    hears_caller: bool = True  # False: somebody else shows the caller's words
    _answered_at: dict[str, float] = attrs.field(factory=dict)  # by call id
    _audible: dict[str, float] = attrs.field(factory=dict)  # items whose words may be shown, and since when
    _words: dict[str, str] = attrs.field(factory=dict)  # of items that are not audible yet

    def show(self, event: CallEvent) -> None:
        """Show one event."""
        moment = self._moment(event)
        if moment is not None:
            self.display.show(moment)

    def _moment(self, event: CallEvent) -> Moment | None:
        at = event.at - self._answered_at.setdefault(event.call_id, event.at)
        match event.what:
            case Answered():
                return Moment(at, "call", "answered")
            case ModelSaid(item_id=item_id, transcript=transcript):
                self._words[item_id] = transcript
                return self._spoken(item_id)
            case ModelAudible(item_id=item_id):
                self._audible[item_id] = at
                return self._spoken(item_id)
            case CallerSaid(transcript=transcript):
                return Moment(at, "caller", transcript)
            case CallerStartedSpeaking() if self.hears_caller:
                return Moment(at, "note", "the caller speaks")
            case Interrupted(heard_ms=heard_ms, received_ms=received_ms):
                return Moment(at, "barge-in", f"the model is cut: {heard_ms} of {received_ms} ms were heard")
            case ToolStarted(name=name, arguments=arguments):
                return Moment(at, "tool", f"{name}({arguments}) ...")
            case ToolFinished(run=run):
                return Moment(at, "tool", f"{run.name} -> {run.output}")
            case DigitsEntered(entry=entry):
                return Moment(at, "caller", f"presses {entry.digits}")
            case TransferBegan(target=target):
                return Moment(at, "note", f"transfer to {target} ...")
            case TransferOver(run=run):
                return Moment(at, "note", f"transfer to {run.target}: {run.text if run.status is None else run.status}")
            case SessionLost(detail=detail):
                return Moment(at, "note", f"the session is lost: {detail}")
            case SessionReplaced(number=number):
                return Moment(at, "note", f"session {number} goes on with the conversation")
            case RealtimeError(code=code, message=message):
                return Moment(at, "note", f"error of the model: {code}: {message}")
            case Ended(record=record):
                self._answered_at.pop(event.call_id, None)
                return Moment(at, "ending", record.ending.value + (f" ({record.detail})" if record.detail else ""))
            case CallerStartedSpeaking() | CallerStoppedSpeaking() | ModelStartedResponse() | ResponseFinished():
                return None
            case _:
                assert_never(event.what)

    def _spoken(self, item_id: str) -> Moment | None:
        # The transcript is complete some time after the first audio; its moment is when the item became audible.
        if item_id not in self._audible or item_id not in self._words:
            return None
        return Moment(self._audible.pop(item_id), "model", self._words.pop(item_id))


async def show_levels(display: Display, handset: Handset) -> None:
    """Task: both meters, ten times a second."""
    while True:
        await trio.sleep(1 / LEVELS_A_SECOND)
        caller = handset.sent[-1].payload if handset.sent else b""
        model = handset.heard[-1].payload if handset.heard else b""
        display.level(level(caller, handset.codec), level(model, handset.codec))


def level(frame: bytes, codec: Codec) -> int:
    """0 to 100."""
    return min(100, 100 * peak_level(frame, codec) // FULL_SCALE)
