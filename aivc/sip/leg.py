"""What every signalling front end offers to a call: one leg, answered or refused, and the events of its dialog."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import attrs
import trio

from aivc.config.settings import Address, Codec
from aivc.sip.event_queue import EventQueue

SrtpSuite = Literal["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"]  # RFC 4568 section 6.2
Fields = tuple[tuple[str, str], ...]  # header fields: names and values, in order


@attrs.frozen
class SrtpKeys:
    """What SDES settled for one audio stream (RFC 4568). Keys are 30 octets: the master key and then the salt."""

    suite: SrtpSuite
    local: bytes = attrs.field(repr=False)  # what we encrypt with
    remote: bytes = attrs.field(repr=False)  # what the peer encrypts with


@attrs.frozen
class AudioAgreement:
    """What offer/answer settled for one audio stream (RFC 3264)."""

    codec: Codec
    payload_type: int  # RTP payload type of the codec: what the peer wants to get
    remote: Address  # where the peer wants our RTP; port 0 or 0.0.0.0 = nowhere
    telephone_event: int | None = None  # payload type of RFC 4733 events, likewise; None when not offered
    may_send: bool = True  # False: the peer holds us (sendonly, inactive, 0.0.0.0)
    may_receive: bool = True
    ptime_ms: int = 20  # of the packets that the peer wants: 10 to 60, a multiple of 10
    remote_rtcp: Address | None = None  # from a=rtcp (RFC 3605); None = the RTP port + 1
    rtcp_mux: bool = False  # RTCP on the RTP port, both ways (RFC 5761)
    srtp: SrtpKeys | None = None  # None: RTP in the clear
    # What the peer sends with, where the answer to our offer has other numbers (RFC 3264 section 6.1); None: the same
    own_payload_type: int | None = None
    own_telephone_event: int | None = None


@attrs.frozen
class Rejection:
    """A final failure answer to an INVITE."""

    status: int  # SIP status code, 400 to 699
    cause: str  # one line for Warning (RFC 3261 section 20.43), Reason (RFC 3326) and the log
    retry_after_seconds: int | None = None
    name: str = ""  # of a closed list, for machines: it stands before the cause in Reason
    ended_call: bool = attrs.field(default=False, eq=False)  # one that was taken: its ending is counted, no refusal


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
class SignallingFailed:
    """What the peer had to send to set the call up never came or is of no use; it is already refused or hung up."""

    cause: str  # one line, for the record


@attrs.frozen
class MediaChanged:
    """A re-INVITE, UPDATE, Replaces or followed REFER moved, held or resumed the audio; it is already answered.

    Attributes:
      source: where the signalling of another peer comes from, who has taken the place of the one before; None: it is
        the same peer.
      is_trusted: that other peer is one that the settings name as trusted.
    """

    agreement: AudioAgreement
    source: Address | None = None
    is_trusted: bool = False


@attrs.frozen
class DigitPressed:
    """The peer told of a key by INFO, application/dtmf-relay or application/dtmf; it is already answered."""

    digit: str  # one of 0 to 9, *, #, A to D
    duration_ms: int


@attrs.frozen
class SessionExpired:
    """No refresh came (RFC 4028 section 10), or the peer does not know the call any more; BYE is already sent."""

    cause: str  # one line, for the record


LegEvent = HungUp | Cancelled | AckMissing | SignallingFailed | MediaChanged | DigitPressed | SessionExpired


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


class ConsultationFailed(Exception):
    """The party that we called for an attended transfer has not answered."""

    def __init__(self, status: int | None, text: str) -> None:
        super().__init__(f"{status} {text}" if status else text)
        self.status = status  # SIP status; None: silence, or no way to call it
        self.text = text


class Consultation(Protocol):
    """A call of ours that was answered, to be joined with the caller by Replaces (RFC 3891)."""

    @property
    def agreement(self) -> AudioAgreement: ...

    @property
    def events(self) -> EventQueue[LegEvent]:
        """As of a leg."""

    async def hang_up(self, reason: str, fields: Fields = (), *, status: int = 200) -> None:
        """As of a leg."""


class Leg(Protocol):
    """One incoming call, from INVITE to its end.

    `events` never blocks its producer: capacity 8, an event that does not fit is refused with 500 and Retry-After.
    """

    @property
    def call_id(self) -> str:
        """The SIP Call-ID: the key of every log line of this call."""

    @property
    def caller(self) -> str:
        """Who calls, as a URI: P-Asserted-Identity (RFC 3325) from a trusted peer, else From."""

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
    def extra_params(self) -> str | None:
        """What came with the call beside SIP: settings of this call as JSON, see `aivc.config.percall`; mostly None."""

    @property
    def session_key(self) -> str | None:
        """What OpenSIPS calls the session in its commands, such as `ua_session_update`; None: the call came by SIP."""

    @property
    def source(self) -> Address:
        """Where the INVITE came from: tells a NAT from an honest SDP."""

    @property
    def is_trusted(self) -> bool:
        """Whether it came from a peer that the settings name as trusted."""

    @property
    def events(self) -> EventQueue[LegEvent]: ...

    async def ring(self) -> None:
        """Send 180 Ringing."""

    async def answer(self, local: Address) -> None:
        """Send the 2xx with our RTP address; returns when it is on its way, not when it is acknowledged."""

    async def reject(self, rejection: Rejection) -> None:
        """Send the final failure. Does nothing if a final answer was sent already."""

    async def consult(self, uri: str, local: Address, seconds: float) -> Consultation:
        """Call somebody else by the same way that this call came, offering its codec at our RTP address `local`.

        Returns when they have answered, and are acknowledged. Raises ConsultationFailed after at most `seconds`, and
        ValueError for a URI that cannot be called. Cancelling the wait gives the call up.
        """

    async def refer(
        self,
        refer_to: str,
        referred_by: str,
        seconds: float,
        *,
        fields: Fields = (),
        replaces: Consultation | None = None,
    ) -> ReferOutcome:
        """Ask the peer to call `refer_to` in our place, and follow its NOTIFYs to the end, at most for `seconds`.

        The dialog goes on; say BYE when the outcome is a success. Cancelling the wait withdraws nothing.

        Args:
          refer_to: a sip, sips or tel URI.
          referred_by: likewise (RFC 3892).
          fields: more header fields for the REFER.
          replaces: the call that the peer is to take our place in; `refer_to` is the URI that was called for it.

        Raises ValueError for a URI that cannot be sent.
        """

    async def hang_up(self, reason: str, fields: Fields = (), *, status: int = 200) -> None:
        """Send BYE with Reason (RFC 3326) and wait for its answer, at most `sip.hang_up_seconds`.

        Does nothing in a dialog that is already over, or before the answer.

        Args:
          reason: one line, for people.
          fields: more header fields, beside or in place of those of `sip.bye_headers`.
          status: the SIP status in Reason; 200: a call that ended as calls should.
        """


class FrontEnd(Protocol):
    """Where calls come from."""

    accepting: bool  # False: tell whoever asks that no calls are taken; legs come all the same

    @property
    def legs(self) -> trio.MemoryReceiveChannel[Leg]:
        """Incoming calls, each waiting for `answer` or `reject`. Ends with the front end."""

    async def withdraw(self) -> None:
        """Take back what makes others send calls here, as far as those in progress do not need it."""
