"""When the caller has the floor: at once, or, with `interruption = "confirm"`, once it is sure that it is speech.

           speech_started, nothing to interrupt, or "cut"
  SILENT ------------------------------------------------> SPEAKING ---> SILENT (speech_stopped; the turn is answered)
     |  ^                                                    ^
     |  | speech_stopped after less than confirm_ms: a cough | speech_stopped after more, or no end in time
     v  |                                                    |
   DOUBT ----------------------------------------------------+

In doubt the playout is paused and nothing is lost. The turn detection says late that speech has stopped, so the time
allowed is longer than confirm_ms by the silence that it waits for. The server must not interrupt or answer by itself
then: with "confirm" both are ours to do.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Literal

import attrs

from aivc.config.settings import OpenAISettings
from aivc.realtime.events import SpeechStarted, SpeechStopped
from aivc.realtime.recent import Recent

COMMIT_SECONDS = 1.0  # from speech_stopped to committed, which some servers never send
LONGEST_TURN = 120.0  # seconds without a word of the server; it has lost the end of the turn, or we have


class Verdict(Enum):
    """What the end of a sound made of it."""

    TURN = "turn"
    CONFIRMED = "confirmed"  # a turn, known only now
    COUGH = "cough"
    NOTHING = "nothing"  # it had no beginning


@attrs.define
class CallerTurn:
    """Whether the caller speaks, and whether that counts."""

    settings: OpenAISettings
    false_interruptions: int = attrs.field(default=0, init=False)
    commit_deadline: float = attrs.field(default=math.inf, init=False)  # of the turn that we answer when it comes
    _state: Literal["silent", "doubt", "speaking"] = attrs.field(default="silent", init=False)
    _started_at: float = attrs.field(default=0.0, init=False)
    _server_spoke_at: float = attrs.field(default=0.0, init=False)
    _audio_start_ms: int = attrs.field(default=0, init=False)
    _item_id: str = attrs.field(default="", init=False)
    _coughs: Recent[bool] = attrs.field(factory=Recent, init=False)  # item ids

    @property
    def speaking(self) -> bool:
        return self._state == "speaking"

    @property
    def silent(self) -> bool:
        """Neither `speaking` nor `in_doubt`."""
        return self._state == "silent"

    @property
    def in_doubt(self) -> bool:
        return self._state == "doubt"

    @property
    def answered_by_us(self) -> bool:
        """Whether the end of a turn makes us ask for the answer."""
        return self.settings.interruption == "confirm" and self.settings.turn_detection_create_response

    @property
    def answered_by_server(self) -> bool:
        return self.settings.interruption != "confirm" and self.settings.turn_detection_create_response

    @property
    def cancelled_by_server(self) -> bool:
        """Whether the server ends its response by itself when the caller speaks."""
        return self.settings.interruption != "confirm" and self.settings.turn_detection_interrupt_response

    @property
    def item_id(self) -> str:
        """The item that the present sound becomes, or the last one became; empty if the server did not say."""
        return self._item_id

    @property
    def deadline(self) -> float:
        """When doubt or an endless turn ends by itself, or the commitment of a turn is no longer waited for."""
        match self._state:
            case "silent":
                return self.commit_deadline
            case "speaking":
                return min(self.commit_deadline, self._server_spoke_at + LONGEST_TURN)
            case "doubt":
                return min(self.commit_deadline, self._doubt_until)

    def started(self, event: SpeechStarted, busy: bool, now: float) -> None:
        """Note `speech_started`; `busy`: there is something to interrupt."""
        if not self.in_doubt:
            self._state = "doubt" if busy and self.settings.interruption == "confirm" else "speaking"
            self._started_at, self._audio_start_ms = now, event.audio_start_ms
        self._item_id = event.item_id
        if self.speaking:
            self.commit_deadline = math.inf  # the answer to this turn will be one to the turn before, too

    def server_spoke(self, now: float) -> None:
        """Any event of the server shows that the end of a turn may still be told."""
        self._server_spoke_at = now

    def is_endless(self, now: float) -> bool:
        """Whether the end of this turn must have been lost."""
        return self.speaking and now >= self._server_spoke_at + LONGEST_TURN

    def stopped(self, event: SpeechStopped | None, now: float) -> Verdict:
        """Note the end of the sound: `speech_stopped`, or None when only its commitment tells."""
        before, self._state = self._state, "silent"
        match before:
            case "silent":
                return Verdict.NOTHING
            case "speaking":
                self._turn_is_over(now)
                return Verdict.TURN
            case "doubt" if self._length_ms(event, now) >= self.settings.confirm_ms:
                self._turn_is_over(now)
                return Verdict.CONFIRMED
            case "doubt":
                self.false_interruptions += 1
                self._coughs.add(self._item_id, True)
                return Verdict.COUGH

    def take_confirmed(self, now: float) -> bool:
        """Say, once, that a sound has lasted long enough."""
        if not self.in_doubt or now < self._doubt_until:
            return False
        self._state = "speaking"
        return True

    def take_floor(self) -> None:
        """The playout is cut for another reason: a sound in doubt has nothing to interrupt any more."""
        if self.in_doubt:
            self._state = "speaking"

    def lost_end(self) -> None:
        """The server answers: the caller cannot be speaking any more."""
        if self.speaking:
            self._state = "silent"

    def is_cough(self, item_id: str) -> bool:
        """Whether this item is a sound that counts for nothing."""
        return item_id in self._coughs

    def take_cough(self, item_id: str) -> bool:
        """Say whether the item just committed is to be deleted; a server that names none means the last sound."""
        if self._coughs.take("") is not None:
            self._coughs.add(item_id, True)
        return self.is_cough(item_id)

    def take_commitment(self) -> bool:
        """Say, once, that a turn of the caller's waits for us to ask for the answer."""
        waits = self.commit_deadline < math.inf
        self.commit_deadline = math.inf
        return waits

    def take_overdue_commitment(self, now: float) -> bool:
        return now >= self.commit_deadline and self.take_commitment()

    def new_session(self) -> None:
        """The session that heard all this is gone."""
        self._state, self.commit_deadline = "silent", math.inf
        self._coughs = Recent()

    @property
    def _padding_ms(self) -> int:
        """The silence after which server_vad says that speech has stopped; semantic_vad does not tell."""
        by_silence = self.settings.turn_detection_type == "server_vad"
        return self.settings.turn_detection_silence_ms if by_silence else 0

    @property
    def _doubt_until(self) -> float:
        return self._started_at + (self.settings.confirm_ms + self._padding_ms) / 1000

    def _length_ms(self, event: SpeechStopped | None, now: float) -> float:
        """How long the sound was. Offsets include the padding on both sides; where we know none, our clock must do."""
        by_silence = self.settings.turn_detection_type == "server_vad"
        if event is None or not by_silence or event.audio_end_ms <= self._audio_start_ms:
            return (now - self._started_at) * 1000 - self._padding_ms
        return event.audio_end_ms - self._audio_start_ms - self.settings.turn_detection_prefix_ms - self._padding_ms

    def _turn_is_over(self, now: float) -> None:
        if self.answered_by_us:
            self.commit_deadline = now + COMMIT_SECONDS
