"""How much silence the model must be given so that its time is the caller's: a ledger of what it has heard.

A server counts time in appended octets: voice detection, and every offset that it tells, are wrong by what is missing.
Missing is what a telephone suppresses between words, what the network lost, and what a caller on hold does not say.
Two sources tell how much: RTP timestamps, when audio goes on after a gap; and the clock, while nothing comes.
"""

from __future__ import annotations

from typing import Final, Protocol

import attrs

from aivc.media.g711 import FRAME_SECONDS, OCTETS_PER_MS

# A phone with silence suppression (RFC 3389) sends nothing between words. Longer than any ptime and ordinary jitter.
SUPPRESSED: Final = 0.200  # seconds without audio
# By so much may the model's time run ahead of the clock: audio was late and silence stood in for it, a telephone's
# timestamps run faster than its audio. The lead is made up for in the next silence.
LEAD: Final = 0.200  # seconds
# By so much may it be behind what came last, and is then told by silence: the last packets were late. What is more is a
# telephone's clock that runs slower than ours, 720 ms in an hour at 200 ppm, and no silence of the caller's.
LAG: Final = 0.100  # seconds
# Audio that keeps coming faster than this ahead of the clock is no telephone's: the model's side pays for each second.
FLOOD: Final = 10.0  # seconds; hours of a clock that is wrong by 0.1 %
LONGEST_GAP_OCTETS: Final = 1000 * OCTETS_PER_MS  # a jump of more than 1 s is another clock, not a gap
MOST_FRAMES: Final = 50  # 1 s at once; more is due only after the whole process stood still
SECONDS_PER_OCTET: Final = 0.001 / OCTETS_PER_MS
NEVER: Final = float("inf")
UNKNOWN: Final = -1  # RTP timestamp


class Heard(Protocol):
    """Takes what is heard: a memory channel, or what passes it on at once."""

    def send_nowait(self, octets: bytes, /) -> None:
        """Raises trio.WouldBlock when there is no room, and nothing else."""


@attrs.define
class HeardTime:
    """The time that the model has heard, of one caller."""

    fill_at: float = NEVER  # from then on silence stands in for audio that does not come, seconds
    next_timestamp: int = UNKNOWN  # of audio that follows without a gap
    _until: float = NEVER  # the model has heard everything until then, seconds; NEVER before anything

    def follows(self, rtp_timestamp: int, octets: int, now: float) -> bool:
        """Whether a packet just follows the one before, as nearly all do, and may be heard; it counts as heard then."""
        if rtp_timestamp != self.next_timestamp or self._until > now + FLOOD:
            return False
        self.next_timestamp = (rtp_timestamp + octets) & 0xFFFFFFFF
        self.fill_at = now + SUPPRESSED
        self._until += octets * SECONDS_PER_OCTET
        return True

    def is_flooded(self, now: float) -> bool:
        """Whether the model has heard so much more than time has passed that the next packet must not be heard."""
        return self._until > now + FLOOD and self._until != NEVER

    def gap(self, rtp_timestamp: int, octets: int, now: float) -> int:
        """Octets of silence that belong before a packet that does not follow the one before it; they count as heard.

        After them it follows.
        """
        if self._until == NEVER:
            self._until = now - octets * SECONDS_PER_OCTET
        expected, self.next_timestamp = self.next_timestamp, rtp_timestamp
        missing = (rtp_timestamp - expected) & 0xFFFFFFFF
        if expected == UNKNOWN or missing > LONGEST_GAP_OCTETS:
            return 0
        room = round((now + LEAD - self._until) / SECONDS_PER_OCTET) - octets
        silence = max(0, min(missing, room))
        self._until += silence * SECONDS_PER_OCTET
        return silence

    def frames_due(self, now: float) -> int:
        """Frames of silence that must be heard now, while no audio comes; they count as heard."""
        least = self.fill_at - SUPPRESSED - LAG
        self._until = now if self._until == NEVER else max(least, min(self._until, now + LEAD))
        frames = int((now - self._until) / FRAME_SECONDS + 0.01)
        if frames <= 0:
            return 0
        self.next_timestamp = UNKNOWN  # the clock has told how long the gap is: not a second time
        self._until += frames * FRAME_SECONDS
        return min(frames, MOST_FRAMES)

    def quiet(self, now: float) -> None:
        """The caller's side has said that no audio comes for now: comfort noise, or a key is pressed."""
        if self.fill_at != NEVER:
            self.fill_at = min(self.fill_at, now)

    def stand_in(self) -> None:
        """Silence from now on until audio comes, also for who was never heard."""
        self.fill_at = -NEVER
        self.next_timestamp = UNKNOWN

    def stand_still(self) -> None:
        """Nothing from now on until audio comes."""
        self.fill_at = self._until = NEVER
        self.next_timestamp = UNKNOWN
