"""What every signalling front end offers to a call: one leg, answered or refused, and the events of its dialog."""

from __future__ import annotations

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


LegEvent = HungUp | Cancelled | AckMissing | MediaChanged


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

    async def hang_up(self, reason: str) -> None:
        """Send BYE with Reason (RFC 3326) and wait for its answer, at most `sip.hang_up_seconds`.

        Does nothing in a dialog that is already over, or before the answer.
        """
