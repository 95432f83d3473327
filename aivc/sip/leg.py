"""What every signalling front end offers to a call: one leg, answered or refused, and the events of its dialog."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import attrs
import trio

from aivc.config.settings import Address, Codec


@attrs.frozen
class AudioAgreement:
    """What offer/answer settled for one audio stream (RFC 3264)."""

    codec: Codec
    payload_type: int  # RTP payload type of the codec, the same both ways
    remote: Address  # where the peer wants our RTP; port 0 or 0.0.0.0 = nowhere
    telephone_event: int | None = None  # payload type of RFC 4733 events, None when not offered
    may_send: bool = True  # False: the peer holds us (sendonly, inactive, 0.0.0.0)
    may_receive: bool = True


@attrs.frozen
class Rejection:
    """A final failure answer to an INVITE."""

    status: int  # SIP status code, 400 to 699
    cause: str  # one line for Warning (RFC 3261 section 20.43), Reason (RFC 3326) and the log
    retry_after_seconds: int | None = None


@attrs.frozen
class HungUp:
    """The peer sent BYE; it is already answered."""


@attrs.frozen
class Cancelled:
    """The peer gave up before the answer; 200 and 487 are already sent (RFC 3261 section 9.2)."""


@attrs.frozen
class AckMissing:
    """No ACK came for our 2xx within 64*T1 (RFC 3261 section 13.3.1.4)."""

    contact: str  # where the 2xx told the peer to send it


@attrs.frozen
class MediaChanged:
    """A re-INVITE moved, held or resumed the audio; it is already answered."""

    agreement: AudioAgreement


@attrs.frozen
class DigitPressed:
    """The peer told of a key by INFO, application/dtmf-relay or application/dtmf; it is already answered."""

    digit: str  # one of 0 to 9, *, #, A to D
    duration_ms: int


LegEvent = HungUp | Cancelled | AckMissing | MediaChanged | DigitPressed


@attrs.frozen
class ReferOutcome:
    """How a transfer by REFER (RFC 3515) went."""

    status: int | None  # the REFER's own status if it was refused, else the last sipfrag's; None: silence
    text: str  # its reason phrase, or what went wrong, for people
    accepted: bool = False  # the REFER was answered with a 2xx

    @property
    def succeeded(self) -> bool:
        """Whether the peer reported that the target answered."""
        return self.accepted and self.status is not None and 200 <= self.status < 300


class Leg(Protocol):
    """One incoming call, from INVITE to its end.

    `events` never blocks its producer: capacity 8, an event that does not fit is refused with 500 and Retry-After.
    """

    @property
    def call_id(self) -> str:
        """The SIP Call-ID: the key of every log line of this call."""

    @property
    def caller(self) -> str:
        """The From URI, as text."""

    @property
    def dialled(self) -> str:
        """The user part of the Request-URI."""

    @property
    def agreement(self) -> AudioAgreement:
        """The caller's offer, matched with what we can do."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The INVITE's header fields by lower-case name; the values of a repeated one are joined by commas."""

    @property
    def source(self) -> Address:
        """Where the INVITE came from: tells a NAT from an honest SDP."""

    @property
    def events(self) -> trio.MemoryReceiveChannel[LegEvent]: ...

    async def ring(self) -> None:
        """Send 180 Ringing."""

    async def answer(self, local: Address) -> None:
        """Send the 2xx with our RTP address; returns when it is on its way, not when it is acknowledged."""

    async def reject(self, rejection: Rejection) -> None:
        """Send the final failure. Does nothing if a final answer was sent already."""

    async def refer(self, refer_to: str, referred_by: str, seconds: float) -> ReferOutcome:
        """Ask the peer to call `refer_to` in our place, and follow its NOTIFYs to the end, at most for `seconds`.

        The dialog goes on; say BYE when the outcome is a success. Cancelling the wait withdraws nothing.

        Args:
          refer_to: a sip, sips or tel URI.
          referred_by: likewise (RFC 3892).

        Raises ValueError for a URI that cannot be sent.
        """

    async def hang_up(self, reason: str) -> None:
        """Send BYE with Reason (RFC 3326) and wait for its answer, at most `sip.hang_up_seconds`.

        Does nothing in a dialog that is already over, or before the answer.
        """
