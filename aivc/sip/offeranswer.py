"""What one session has described and agreed so far: the memory between one offer/answer exchange and the next."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from aivc.config.settings import Address, Codec
from aivc.sip import describing, negotiation, sdp
from aivc.sip.leg import AudioAgreement
from aivc.sip.negotiation import Accepted, Origin, Refused, SrtpPolicy, Terms, no_key
from aivc.sip.sdes import SUITES, Crypto
from aivc.sip.sdp import Media, SessionDescription


@attrs.define(eq=False, repr=False)
class OfferAnswer:
    """Reads the peer's descriptions and writes ours, RFC 3264 section 8.

    A peer's offer: `read` it, `take` what it was accepted as, `answer` it. An offer of ours: `offer` (or `repeat`),
    then `read` and `take` the peer's answer; `withdraw` when no answer will come, because the request failed.

    Args:
      signalling: our own SIP address, to which no audio may go.
      origin: of our descriptions.
      srtp: the setting `rtp.srtp`.
      new_key: 30 octets of the best randomness at each call; needed unless `srtp` is "off".
      rtcp: the setting `rtp.rtcp`; without it no port is shared with RTCP.

    Attributes:
      agreement: what is in force; before anything was agreed, what our first offer says.
      local: our RTP address, to be set before anything is described.
    """

    _signalling: Address
    _origin: Origin
    _srtp: SrtpPolicy = "off"
    _new_key: Callable[[], bytes] = no_key
    _rtcp: bool = attrs.field(default=True, kw_only=True)
    agreement: AudioAgreement = attrs.field(factory=negotiation.tentative_agreement, init=False)
    local: Address = attrs.field(default=("0.0.0.0", 0), init=False)
    _agreed: bool = attrs.field(default=False, init=False)
    _is_bound: bool = attrs.field(default=False, init=False)  # to the codec of `agreement`, before anything is agreed
    _awaits_answer: bool = attrs.field(default=False, init=False)
    _described: SessionDescription | None = attrs.field(default=None, init=False)  # what we sent last
    _place: int = attrs.field(default=0, init=False)  # of our stream in it
    _keys: tuple[Crypto, ...] = attrs.field(default=(), init=False)  # what an offer of ours says

    def __attrs_post_init__(self) -> None:
        if self._srtp != "off" and self._new_key is no_key:
            raise ValueError("new_key is needed for SRTP")

    def stay_with(self, codec: Codec) -> None:
        """Nothing but this codec may be agreed: the session comes in the place of another one (RFC 3891)."""
        self.agreement, self._is_bound = negotiation.tentative_agreement(codec), True

    def read(self, body: bytes) -> Accepted | Refused:
        """The peer's offer, or its answer when our offer waits for one.

        Nothing is in force yet; only that an unusable answer leaves our offer without one. Raises SdpError.
        """
        offered = self._offered() if self._awaits_answer else None
        self._awaits_answer = False
        terms = Terms(
            forbidden=(self._signalling,),
            srtp=self._srtp,
            new_key=self._new_key,
            codec=self.agreement.codec if self._agreed or self._is_bound or offered is not None else None,
            in_force=self.agreement if self._agreed else None,
            place=None if self._described is None else self._place,
            ipv6=":" in self.local[0] if self.local[1] else None,
            offered=offered,
            rtcp=self._rtcp,
        )
        return negotiation.accept(sdp.parse_untrusted(body), terms)

    def take(self, accepted: Accepted) -> bool:
        """It is in force from now on; True when that differs from before, or nothing was agreed before."""
        changed = not self._agreed or accepted.agreement != self.agreement
        self.agreement, self._agreed, self._place = accepted.agreement, True, accepted.index
        srtp, tag = accepted.agreement.srtp, accepted.crypto_tag
        if srtp is None:
            self._keys = ()
        elif tag is not None:
            self._keys = (Crypto(tag, srtp.suite, srtp.local),)
        return changed

    def answer(self, offer: Accepted) -> bytes:
        """Our answer to it; asked again, the same octets."""
        return self._describe(describing.answer(offer, self.local, self._origin), offer.index)

    def offer(self, codec: Codec | None = None) -> bytes:
        """Our offer: of the codec in force, or of `codec` (PCMU if None) before anything is agreed.

        Made again before the answer, the same octets. With `srtp` "required" it is RTP/SAVP with every suite; else
        RTP/AVP, for an offer of both would need a peer that understands RFC 5939 or RFC 8643.
        """
        if codec is not None and not self._agreed:
            self.agreement = negotiation.tentative_agreement(codec)
        if self._srtp == "required" and not self._keys:
            self._keys = tuple(Crypto(tag, suite, self._new_key()) for tag, suite in enumerate(SUITES.values(), 1))
        self._awaits_answer = True
        description = describing.offer(
            self.agreement, self.local, self._origin, self._described, self._place, self._keys
        )
        return self._describe(description, self._place)

    def repeat(self) -> bytes:
        """Our last description unchanged, as an offer that refreshes the session (RFC 4028 section 7.4)."""
        if self._described is None:
            return self.offer()
        self._awaits_answer = True
        return bytes(self._described)

    def withdraw(self) -> None:
        """The request with our offer has failed: the next description that comes is an offer."""
        self._awaits_answer = False

    def _offered(self) -> Media | None:
        return None if self._described is None else self._described.media[self._place]

    def _describe(self, described: SessionDescription, place: int) -> bytes:
        """The version rises exactly when a description differs from the last (RFC 3264 section 8)."""
        if self._described is not None and described != self._described:
            self._origin = attrs.evolve(self._origin, version=self._origin.version + 1)
            host = self.local[0]
            lines = tuple(self._origin.line(host) if line.kind == "o" else line for line in described.lines)
            described = attrs.evolve(described, lines=lines)
        self._described, self._place = described, place
        return bytes(described)
