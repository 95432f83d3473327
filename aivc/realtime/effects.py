"""What a `Conversation` wants done; the tasks of a call perform these in order.

`Send`, `Play`, `ItemAudioDone`, `CutPlayout`, `PausePlayout`, `ResumePlayout`, `RunTool`, `HangUp` and `GiveUp` ask for
something; the others are notices for the log, the call record and observers.
"""

from __future__ import annotations

from typing import Literal

import attrs

from aivc.realtime.errors import ErrorKind
from aivc.realtime.events import ClientEvent, Usage


@attrs.frozen
class ToolCall:
    """One function call of the model, to be run once."""

    call_id: str
    name: str
    arguments_json: str  # written by the model: may be anything
    response_id: str


@attrs.frozen
class Send:
    """Send this event to the server, after those of earlier effects."""

    event: ClientEvent


@attrs.frozen
class Play:
    """Put this audio behind what the playout already holds."""

    response_id: str
    item_id: str
    audio: bytes  # G.711; any length, not only whole frames


@attrs.frozen
class ItemAudioDone:
    """No more audio of this item will come: a last partial frame may be padded and played."""

    item_id: str


@attrs.frozen
class CutPlayout:
    """Clear the playout now and call `Conversation.playout_cut` with what was in it, before anything else."""

    by_caller: bool = True  # who is there after all: a hang-up that was wanted is not any more


@attrs.frozen
class PausePlayout:
    """Stop playing now and keep everything: the caller may only have coughed."""


@attrs.frozen
class ResumePlayout:
    """Go on playing where it was paused."""


@attrs.frozen
class HangUp:
    """The conversation is over: end the call when the playout is empty."""

    cause: Literal["idle", "expired"]


@attrs.frozen
class RunTool:
    """Run the tool; its result comes back through `Conversation.tool_finished`."""

    call: ToolCall


@attrs.frozen
class GiveUp:
    """The Realtime session cannot go on: end the call."""

    code: str
    message: str


@attrs.frozen
class CallerStartedSpeaking:
    """The server's turn detection heard the caller."""

    item_id: str
    audio_start_ms: int  # offset in all audio appended


@attrs.frozen
class CallerStoppedSpeaking:
    """The server's turn detection ended the caller's turn."""

    item_id: str
    audio_end_ms: int


@attrs.frozen
class CallerSaid:
    """The transcript of a caller's turn; may come later than the answer to it."""

    item_id: str
    transcript: str


@attrs.frozen
class ModelStartedResponse:
    """The server began a response, asked for by us or by its turn detection."""

    response_id: str


@attrs.frozen
class ModelSaid:
    """The transcript of one item; an `Interrupted` of the same item tells how much of it was heard."""

    item_id: str
    transcript: str


@attrs.frozen
class Interrupted:
    """The caller spoke over this item."""

    item_id: str
    heard_ms: int
    received_ms: int


@attrs.frozen
class ResponseFinished:
    """A response was generated, cut or failed; its audio may still be playing."""

    response_id: str
    status: str  # completed, cancelled, incomplete, failed
    reason: str | None
    error_code: str | None
    usage: Usage | None


@attrs.frozen
class RealtimeError:
    """The server reported an error, or did not answer."""

    code: str
    message: str
    kind: ErrorKind


Notice = (
    CallerStartedSpeaking
    | CallerStoppedSpeaking
    | CallerSaid
    | ModelStartedResponse
    | ModelSaid
    | Interrupted
    | ResponseFinished
    | RealtimeError
)
Effect = Send | Play | ItemAudioDone | CutPlayout | PausePlayout | ResumePlayout | RunTool | HangUp | GiveUp | Notice
