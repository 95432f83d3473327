"""Server VAD, simplified to energy, in audio time.

A window of 10 ms is active when the decoded signal's root mean square is above the threshold. Speech starts with
three active windows in a row and stops when `silence_duration_ms` went by without an active one. Nothing is
subtracted before (no DC filter, no noise estimate) on purpose: silence of the wrong law, or of a wrong sample format,
decodes to a constant far above the threshold, so a client that sends it hears `speech_started` and never
`speech_stopped`.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Literal

import attrs

from aivc.testing.voice import FULL_SCALE, SAMPLES

AudioFormat = Literal["audio/pcmu", "audio/pcma", "audio/pcm"]

OCTETS_PER_MS: dict[AudioFormat, int] = {"audio/pcmu": 8, "audio/pcma": 8, "audio/pcm": 48}
WINDOW_MS = 10
WINDOWS_TO_START = 3
QUIETEST_THRESHOLD_DBFS = -50.0  # what `threshold: 0` stands for here; `threshold: 1` is 20 dB louder

SQUARES: dict[str, tuple[int, ...]] = {
    "audio/pcmu": tuple(sample * sample for sample in SAMPLES["PCMU"]),
    "audio/pcma": tuple(sample * sample for sample in SAMPLES["PCMA"]),
}


@attrs.frozen
class SpeechStarted:
    start_ms: int  # audio time of the first active window, before prefix padding


@attrs.frozen
class SpeechStopped:
    end_ms: int  # audio time of the decision: includes the silence waited for


def mean_square(window: bytes, audio_format: AudioFormat) -> float:
    """Mean square of a window of octets, decoded as `audio_format`."""
    if audio_format != "audio/pcm":
        return sum(map(SQUARES[audio_format].__getitem__, window)) / len(window)
    samples: Sequence[int] = array("h", window[: len(window) // 2 * 2])
    return sum(sample * sample for sample in samples) / max(1, len(samples))


class EnergyVad:
    """Turns appended octets into starts and ends of speech.

    Args:
        audio_format: how the octets are decoded.
        threshold: 0 to 1, mapped to -50 to -30 dBFS.
        silence_duration_ms: how long it must be quiet for the speech to be over.
        now_ms: audio time of the first octet to be pushed.
    """

    def __init__(
        self, audio_format: AudioFormat, *, threshold: float, silence_duration_ms: int, now_ms: float = 0.0
    ) -> None:
        self.speaking = False
        self._format: AudioFormat = audio_format
        self.tune(threshold, silence_duration_ms)
        self._window_octets = WINDOW_MS * OCTETS_PER_MS[audio_format]
        self._pending = bytearray()
        self._now_ms = now_ms
        self._active = 0  # active windows in a row
        self._quiet_ms = 0

    def tune(self, threshold: float, silence_duration_ms: int) -> None:
        """Judge what comes by these from now on; speech that has started goes on."""
        self._limit = FULL_SCALE**2 * math.pow(10, (QUIETEST_THRESHOLD_DBFS + 20 * threshold) / 10)
        self._silence_ms = silence_duration_ms

    def push(self, octets: bytes) -> list[SpeechStarted | SpeechStopped]:
        """Decode and judge octets; a rest shorter than a window waits for the next push."""
        found: list[SpeechStarted | SpeechStopped] = []
        self._pending += octets
        whole = len(self._pending) // self._window_octets * self._window_octets
        for at in range(0, whole, self._window_octets):
            window = bytes(self._pending[at : at + self._window_octets])
            self._now_ms += WINDOW_MS
            if change := self._judge(mean_square(window, self._format) > self._limit):
                found.append(change)
        del self._pending[:whole]
        return found

    def _judge(self, active: bool) -> SpeechStarted | SpeechStopped | None:
        self._active = self._active + 1 if active else 0
        self._quiet_ms = 0 if active else self._quiet_ms + WINDOW_MS
        if not self.speaking and self._active >= WINDOWS_TO_START:
            self.speaking = True
            return SpeechStarted(max(0, int(self._now_ms) - self._active * WINDOW_MS))
        if self.speaking and self._quiet_ms >= self._silence_ms and not active:
            self.speaking = False
            return SpeechStopped(int(self._now_ms))
        return None
