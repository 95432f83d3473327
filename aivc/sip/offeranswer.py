"""What one leg has described and agreed so far: the memory between one offer/answer exchange and the next."""

from __future__ import annotations

import attrs

from aivc.config.settings import Address
from aivc.sip import negotiation, sdp
from aivc.sip.leg import AudioAgreement
from aivc.sip.negotiation import Accepted, Origin, Refused
from aivc.sip.sdp import SessionDescription


@attrs.define(eq=False)
class OfferAnswer:
    """Reads the peer's descriptions and writes ours, RFC 3264 section 8.

    Args:
      agreement: what is in force; the owner changes it.
      signalling: our own SIP address, to which no audio may go.
    """

    agreement: AudioAgreement
    signalling: Address
    _origin: Origin
    local: Address = attrs.field(default=("0.0.0.0", 0), init=False)  # our RTP address
    _described: SessionDescription | None = attrs.field(default=None, init=False)  # what we sent last

    def read(self, body: bytes) -> Accepted | Refused:
        """An offer or an answer within the session. Raises SdpError."""
        description = sdp.parse_untrusted(body)
        return negotiation.accept(description, forbidden=(self.signalling,), current=self.agreement)

    def answer(self, offer: Accepted) -> bytes:
        """Our answer to it."""
        return self._describe(negotiation.answer(offer, self.local, self._origin))

    def offer(self) -> bytes:
        """Our offer, for an INVITE without one."""
        return self._describe(negotiation.offer(self.agreement, self.local, self._origin, self._described))

    def _describe(self, described: SessionDescription) -> bytes:
        """The version rises exactly when a description differs from the last (RFC 3264 section 8)."""
        if self._described is not None and described != self._described:
            self._origin = attrs.evolve(self._origin, version=self._origin.version + 1)
            host = self.local[0]
            lines = tuple(self._origin.line(host) if line.kind == "o" else line for line in described.lines)
            described = attrs.evolve(described, lines=lines)
        self._described = described
        return bytes(described)
