"""Our RTP, packet by packet: what two runs have in common though SSRC and the first numbers are drawn at random."""

from __future__ import annotations

from typing import Final

import attrs

from aivc.config.settings import Codec
from aivc.flight.audio import digest_of
from aivc.flight.entries import RtpPacket
from aivc.media.g711 import FRAME_MS, OCTETS_PER_MS
from aivc.replaying.sound import is_silence

# After a gap (marker bit) the time of the next packet depends on how late a wake-up was: two frames either way.
GAP_UNITS: Final = 2 * 160
# A model is silent between its words, too, and what is kept as a digest does not say where: so many packets of silence
# in place of speech tell that it did not speak at all.
SILENT_PACKETS: Final = 75
AUDIO_TYPES: Final = {"PCMU": 0, "PCMA": 8}


@attrs.define
class PacketComparison:
    """Compares packets in their order.

    Args:
      is_kept: the recording has the payloads, and so the replay has the model's.
    """

    codec: Codec
    is_kept: bool
    _recorded: RtpPacket | None = attrs.field(init=False, default=None)  # the last one
    _came: RtpPacket | None = attrs.field(init=False, default=None)
    _silent: int = attrs.field(init=False, default=0)  # packets of silence in a row, where the replay speaks

    @property
    def packet_ms(self) -> int:
        """How long packets are."""
        return FRAME_MS if self._came is None else max(FRAME_MS, self._came.octets // OCTETS_PER_MS)

    def unlike(self, recorded: RtpPacket, came: RtpPacket) -> str | None:
        """Why a packet is not the recorded one; None when it is."""
        unlike = self._unlike(recorded, came)
        self._recorded, self._came = recorded, came
        return unlike

    def _unlike(self, recorded: RtpPacket, came: RtpPacket) -> str | None:
        if recorded.payload_type != came.payload_type:
            return f"payload type {recorded.payload_type}, not {came.payload_type}"
        if recorded.octets != came.octets:
            return f"{recorded.octets} octets, not {came.octets}"
        if recorded.marker != came.marker:
            return "the marker bit" if recorded.marker else "no marker bit"
        return self._steps_unlike(recorded, came) or self._sound_unlike(recorded, came)

    def _steps_unlike(self, recorded: RtpPacket, came: RtpPacket) -> str | None:
        before, came_before = self._recorded, self._came
        if before is None or came_before is None or before.ssrc != recorded.ssrc:
            return None
        steps = (recorded.sequence - before.sequence) & 0xFFFF, (came.sequence - came_before.sequence) & 0xFFFF
        if steps[0] != steps[1]:
            return f"a step of {steps[0]} in sequence, not {steps[1]}"
        units = recorded.rtp_timestamp - before.rtp_timestamp, came.rtp_timestamp - came_before.rtp_timestamp
        time, came_time = units[0] & 0xFFFFFFFF, units[1] & 0xFFFFFFFF
        if abs(time - came_time) > (GAP_UNITS if recorded.marker else 0):
            return f"a step of {time} in RTP time, not {came_time}"
        return None

    def _sound_unlike(self, recorded: RtpPacket, came: RtpPacket) -> str | None:
        if recorded.payload_type != AUDIO_TYPES[self.codec] or came.payload is None:
            return None
        if self.is_kept and recorded.payload is not None:
            return None if recorded.payload == came.payload else "other octets"
        speaks = not is_silence(came.payload, self.codec)
        if recorded.is_voiced:
            self._silent = 0
            return None if speaks else "speech, not silence"
        self._silent = self._silent + 1 if speaks and recorded.digest == self._silence(recorded.octets) else 0
        return "silence, not speech" if self._silent >= SILENT_PACKETS else None

    def _silence(self, octets: int) -> str:
        return SILENCE_DIGESTS[self.codec].get(octets, "")


SILENCE_DIGESTS: Final[dict[Codec, dict[int, str]]] = {
    "PCMU": {ms * OCTETS_PER_MS: digest_of(b"\xff" * ms * OCTETS_PER_MS) for ms in range(10, 61, 10)},
    "PCMA": {ms * OCTETS_PER_MS: digest_of(b"\xd5" * ms * OCTETS_PER_MS) for ms in range(10, 61, 10)},
}
