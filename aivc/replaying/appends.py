"""The caller's audio on its way to the model, `input_audio_buffer.append`, compared as what it is: a stream of sound.

What the caller said is compared piece by piece. Silence is compared by its length: it stands in for what a caller does
not send, and by how much at a time is a matter of moments that no recording has.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from typing import Any, Final

import attrs

from aivc.flight.audio import digest_of
from aivc.flight.entries import RealtimeEvent
from aivc.media.g711 import OCTETS_PER_MS, SILENCE
from aivc.replaying.alike import loaded
from aivc.replaying.sound import StandIns, is_silence

APPEND: Final = '"input_audio_buffer.append"'
HEAD: Final = 64  # characters of an event in which its type is looked for first: appends come fifty times a second
SLACK_OCTETS: Final = 80 * OCTETS_PER_MS  # of silence, more or less


def is_append(text: str) -> bool:
    """Whether an event appends audio."""
    return APPEND in text[:HEAD] or (APPEND in text and loaded(text).get("type") == "input_audio_buffer.append")


@attrs.frozen
class Piece:
    """The audio of one append; `audio` is None where only its digest was kept."""

    octets: int
    digest: str
    audio: bytes | None


def piece_of(text: str) -> Piece:
    """What an append has."""
    audio: Any = loaded(text).get("audio")
    if isinstance(audio, dict):
        return Piece(int(audio.get("octets", 0)), str(audio.get("digest", "")), None)
    try:
        octets = base64.b64decode(str(audio), validate=True)
    except (binascii.Error, ValueError):
        octets = b""
    return Piece(len(octets), digest_of(octets), octets)


@attrs.frozen
class AppendUnlike:
    """What is wrong with the caller's audio, and which append should have come; None: none."""

    why: str
    recorded: RealtimeEvent | None


@attrs.define(eq=False)
class AppendComparison:
    """The appends of one session.

    Args:
      is_kept: the recording has the audio itself.
      is_whole: each append carries one packet of the caller's (`realtime.append_ms`), so that it can be told again.
    """

    sounds: StandIns
    is_kept: bool
    is_whole: bool
    tolerance: float
    waiting: deque[RealtimeEvent] = attrs.field(factory=deque)
    _silence: int = 0  # octets that came, less those that were recorded so far

    def came(self, entry: RealtimeEvent) -> AppendUnlike | None:
        """Take the next append of the replay."""
        piece = piece_of(entry.text)
        if piece.audio is not None and is_silence(piece.audio, self.sounds.codec):
            self._silence += piece.octets
            self._absorb(entry.at + self.tolerance)
            return self._out_of_balance()
        self._absorb(entry.at + 1.0)  # no further: the silence after this piece is not before it
        if not self.waiting:
            return AppendUnlike("no more of the caller's audio was recorded", None)
        recorded = self.waiting.popleft()
        unlike = self._unlike(piece_of(recorded.text), piece) or self._late(recorded, entry)
        return self._out_of_balance() if unlike is None else AppendUnlike(unlike, recorded)

    def overdue(self, now: float) -> AppendUnlike | None:
        """So late by now: what should have come long ago is missing."""
        self._absorb(now - self.tolerance)
        if self.waiting and self.waiting[0].at + self.tolerance < now:
            return AppendUnlike("this did not come", self.waiting[0])
        return self._out_of_balance()

    def _absorb(self, until: float) -> None:
        """Take the recorded silence that is next."""
        while self.waiting and self.waiting[0].at <= until:
            piece = piece_of(self.waiting[0].text)
            if not self._is_silent(piece):
                return
            self._silence -= piece.octets
            self.waiting.popleft()

    def _is_silent(self, piece: Piece) -> bool:
        return piece.digest == digest_of(bytes([SILENCE[self.sounds.codec]]) * piece.octets)

    def _out_of_balance(self) -> AppendUnlike | None:
        if abs(self._silence) <= SLACK_OCTETS:
            return None
        word = "more" if self._silence > 0 else "less"
        why = f"{abs(self._silence) // OCTETS_PER_MS} ms {word} silence in the caller's audio"
        return AppendUnlike(why, self.waiting[0] if self.waiting else None)

    def _late(self, recorded: RealtimeEvent, came: RealtimeEvent) -> str | None:
        late = came.at - recorded.at
        return None if abs(late) <= self.tolerance else f"{1000 * abs(late):.0f} ms {'late' if late > 0 else 'early'}"

    def _unlike(self, recorded: Piece, came: Piece) -> str | None:
        if not self.is_whole:
            return None
        if recorded.octets != came.octets:
            return f"{recorded.octets} octets of the caller's audio, not {came.octets}"
        if self.is_kept and recorded.audio is not None:
            return None if recorded.audio == came.audio else "other audio of the caller's"
        stands_for = None if came.audio is None else self.sounds.digest(came.audio)
        return None if stands_for in (None, recorded.digest) else "other audio of the caller's"
