"""The input audio buffer and the turns that VAD finds in it, in audio time: octets appended, not the clock."""

from __future__ import annotations

import base64

import attrs

from aivc.testing.schema import Json, Refusal
from aivc.testing.vad import OCTETS_PER_MS, AudioFormat, EnergyVad, SpeechStarted

SMALLEST_COMMIT_MS = 100
LONGEST_QUIET_MS = 10_000  # silence that is kept before a turn; more than any sensible prefix padding
# semantic_vad, simplified: any sentence is complete after so much silence, by eagerness.
SEMANTIC_SILENCE_MS = {"high": 300, "medium": 500, "auto": 500, "low": 1000}
SEMANTIC_THRESHOLD = 0.5


@attrs.frozen
class TurnStarted:
    start_ms: int  # prefix padding subtracted


@attrs.frozen
class TurnEnded:
    end_ms: int
    audio: bytes


@attrs.frozen
class TurnMissing:
    """Nothing was said for `idle_timeout_ms`."""

    start_ms: int
    end_ms: int


Heard = TurnStarted | TurnEnded | TurnMissing


@attrs.define
class InputBuffer:
    """Appended audio that is not committed yet."""

    audio_format: AudioFormat = "audio/pcm"
    turn_detection: Json | None = None
    now_ms: float = 0.0  # audio time of the end of what was appended
    octets: bytearray = attrs.field(factory=bytearray)
    vad: EnergyVad | None = None
    idle_from_ms: float | None = None  # audio time from which idle_timeout_ms counts; None = it does not

    def configure(self, audio_format: AudioFormat, turn_detection: Json | None) -> None:
        """Take over the session's input settings.

        What is buffered is thrown away with the format it was in. A turn that has begun goes on under new settings.
        """
        if audio_format != self.audio_format:
            self.octets.clear()
            self.vad = None
        self.audio_format = audio_format
        self.turn_detection = turn_detection
        if turn_detection is None:
            self.vad = None
            return
        if turn_detection["type"] == "server_vad":
            threshold, silence_ms = turn_detection["threshold"], turn_detection["silence_duration_ms"]
        else:
            threshold, silence_ms = SEMANTIC_THRESHOLD, SEMANTIC_SILENCE_MS[turn_detection["eagerness"]]
        if self.vad is None:
            self.vad = EnergyVad(audio_format, threshold=threshold, silence_duration_ms=silence_ms, now_ms=self.now_ms)
        else:
            self.vad.tune(threshold, silence_ms)

    @property
    def prefix_ms(self) -> int:
        return int((self.turn_detection or {}).get("prefix_padding_ms", 300))

    @property
    def octets_per_ms(self) -> int:
        return OCTETS_PER_MS[self.audio_format]

    def append(self, octets: bytes) -> list[Heard]:
        """Take audio in, a window of 10 ms at a time, and tell what VAD found."""
        found: list[Heard] = []
        step = 10 * self.octets_per_ms
        for at in range(0, len(octets), step):
            found += self._append_window(octets[at : at + step])
        return found

    def _append_window(self, window: bytes) -> list[Heard]:
        self.octets += window
        self.now_ms += len(window) / self.octets_per_ms
        if self.vad is None:
            return []
        found: list[Heard] = []
        for change in self.vad.push(window):
            if isinstance(change, SpeechStarted):
                start_ms = max(0, change.start_ms - self.prefix_ms)
                self._keep_last_ms(self.now_ms - start_ms)
                found.append(TurnStarted(start_ms))
            else:
                found.append(TurnEnded(change.end_ms, self.take()))
        if not self.vad.speaking:
            self._keep_last_ms(LONGEST_QUIET_MS)
            found += self._idle()
        return found

    def _idle(self) -> list[Heard]:
        timeout_ms = (self.turn_detection or {}).get("idle_timeout_ms")
        if timeout_ms is None or self.idle_from_ms is None or self.now_ms < self.idle_from_ms + timeout_ms:
            return []
        start_ms, self.idle_from_ms = int(self.idle_from_ms), None
        self.take()
        return [TurnMissing(start_ms, int(self.now_ms))]

    def _keep_last_ms(self, ms: float) -> None:
        surplus = len(self.octets) - round(ms * self.octets_per_ms)
        if surplus > 0:
            del self.octets[:surplus]

    def take(self) -> bytes:
        """Everything that is buffered, which then is empty."""
        taken = bytes(self.octets)
        self.octets.clear()
        return taken

    def commit(self) -> bytes:
        """What the client commits by hand.

        Raises:
            Refusal: nothing, or less than 100 ms, is buffered.
        """
        code = "input_audio_buffer_commit_empty"
        ms = len(self.octets) / self.octets_per_ms
        if not self.octets:
            raise Refusal(code, "Error committing input audio buffer: the buffer is empty.")
        if ms < SMALLEST_COMMIT_MS:
            message = (
                "Error committing input audio buffer: buffer too small. Expected at least "
                f"{SMALLEST_COMMIT_MS}ms of audio, but buffer only has {ms:.2f}ms of audio."
            )
            raise Refusal(code, message)
        return self.take()


def user_item_body(audio: bytes, *, with_audio: bool = False) -> Json:
    """The item of a caller's turn; its audio is only told to `conversation.item.retrieve`."""
    part: Json = {"type": "input_audio", "transcript": None}
    if with_audio:
        part["audio"] = base64.b64encode(audio).decode()
    return {"type": "message", "role": "user", "content": [part]}
