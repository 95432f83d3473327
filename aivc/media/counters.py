"""What became of each packet of a call."""

from __future__ import annotations

import attrs

from aivc.media.srtp import Replayed, Unauthentic


@attrs.define
class RtpCounters:
    """Packets, by what became of them."""

    received: int = 0  # RTP packets of ours, in any order
    malformed: int = 0  # not RTP
    foreign: int = 0  # from strangers, or of an SSRC from the caller's address that did not go on
    flooded: int = 0  # from the caller's address, but far more than a telephone sends: not read
    unauthentic: int = 0  # SRTP and SRTCP that was not made with the caller's key
    replayed: int = 0  # SRTP and SRTCP that came before
    other_payload: int = 0  # payload types never agreed, events that are no key, audio packets without audio
    comfort_noise: int = 0  # payload type 13: silence stands in for it
    digits: int = 0  # keys that the caller pressed
    held: int = 0  # audio that came while the caller held us: music for somebody else
    lost: int = 0
    late: int = 0  # too late or twice
    reordered: int = 0  # put back in their place, and heard
    restarts: int = 0  # of the caller's stream: a new SSRC or a jump of its sequence
    filled: int = 0  # 20 ms of silence that the model heard in place of what was lost, suppressed or held
    heard_dropped: int = 0  # the model's side was stuck for a second, or the caller's audio ran 10 s ahead of the clock
    sent: int = 0
    send_errors: int = 0
    receive_errors: int = 0
    stalls: int = 0

    def refused(self, refusal: Unauthentic) -> None:
        """Count what could not be deciphered."""
        if isinstance(refusal, Replayed):
            self.replayed += 1
        else:
            self.unauthentic += 1
