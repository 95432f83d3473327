"""Writing our side of offer and answer for one G.711 audio stream, RFC 3264."""

from __future__ import annotations

from typing import Final

import attrs

from aivc.config.settings import Address
from aivc.sip.leg import AudioAgreement
from aivc.sip.negotiation import (
    CLOCK_RATE,
    MAX_PTIME_MS,
    OFFERED_TELEPHONE_EVENT,
    SECURE,
    Accepted,
    Origin,
    address_type,
)
from aivc.sip.sdes import Crypto
from aivc.sip.sdp import Line, Media, SessionDescription

TIMING: Final = frozenset("0123456789 ")  # what we repeat of a t= line

# RFC 3264 section 6.1: what the offer says -> what the answer may say at most
ANSWER_DIRECTIONS: Final = {
    "sendrecv": "sendrecv",
    "sendonly": "recvonly",
    "recvonly": "sendonly",
    "inactive": "inactive",
}
WITHOUT_SENDING: Final = {"sendrecv": "recvonly", "sendonly": "inactive"}


def answer(accepted: Accepted, local: Address, origin: Origin) -> SessionDescription:
    """Our answer to an accepted offer: the same number of streams, all but ours refused (RFC 3264 section 6)."""
    media = tuple(
        accepted_media(accepted, theirs, local) if index == accepted.index and theirs.port else refused_media(theirs)
        for index, theirs in enumerate(accepted.description.media)
    )
    return describe(origin, local, accepted.description.timing, media)


def offer(
    agreement: AudioAgreement,
    local: Address,
    origin: Origin,
    previous: SessionDescription | None = None,
    place: int = 0,
    keys: tuple[Crypto, ...] = (),
) -> SessionDescription:
    """Our offer: the codec in force and no other.

    Args:
      previous: what we described last; its streams keep their places (RFC 3264 section 8).
      place: of our stream in it.
      keys: of ours, in the order of preference; none: RTP in the clear.
    """
    agreement = in_own_numbers(agreement)
    if previous is None or place >= len(previous.media):
        return describe(origin, local, "0 0", (stream(profile(None, keys), agreement, "sendrecv", local, keys),))
    ours = stream(profile(previous.media[place], keys), agreement, "sendrecv", local, keys)
    media = tuple(ours if index == place else refused_media(old) for index, old in enumerate(previous.media))
    return describe(origin, local, previous.timing, media)


def profile(previous: Media | None, keys: tuple[Crypto, ...]) -> str:
    """The profile of before if it fits what we offer."""
    if previous is not None and previous.protocol in SECURE and (keys or not SECURE[previous.protocol]):
        return previous.protocol
    return "RTP/SAVP" if keys else "RTP/AVP"


def accepted_media(accepted: Accepted, theirs: Media, local: Address) -> Media:
    agreement, srtp, tag = accepted.agreement, accepted.agreement.srtp, accepted.crypto_tag
    direction = ANSWER_DIRECTIONS[accepted.description.direction_for(theirs)]
    if not agreement.may_send:
        direction = WITHOUT_SENDING.get(direction, direction)
    keys = () if srtp is None or tag is None else (Crypto(tag, srtp.suite, srtp.local),)
    return stream(theirs.protocol, agreement, direction, local, keys)


def stream(protocol: str, agreement: AudioAgreement, direction: str, local: Address, keys: tuple[Crypto, ...]) -> Media:
    codec, event = agreement.payload_type, agreement.telephone_event
    numbers = [str(codec)]
    lines = [Line("a", f"rtpmap:{codec} {agreement.codec}/{CLOCK_RATE}")]
    if event is not None:
        numbers.append(str(event))
        lines.append(Line("a", f"rtpmap:{event} telephone-event/{CLOCK_RATE}"))
        lines.append(Line("a", f"fmtp:{event} 0-15"))  # RFC 4733 section 2.4.1
    lines += [Line("a", f"ptime:{agreement.ptime_ms}"), Line("a", f"maxptime:{MAX_PTIME_MS}")]
    if agreement.rtcp_mux:
        lines.append(Line("a", "rtcp-mux"))
    lines += [key.line() for key in keys]
    lines.append(Line("a", direction))
    return Media("audio", local[1], protocol, tuple(numbers), tuple(lines))


def in_own_numbers(agreement: AudioAgreement) -> AudioAgreement:
    """With the payload types that the peer sends with: what they mean must not change (RFC 3264 section 8.3.2)."""
    audio = agreement.payload_type if agreement.own_payload_type is None else agreement.own_payload_type
    event = agreement.telephone_event if agreement.own_telephone_event is None else agreement.own_telephone_event
    event = free_payload_type(audio) if event is None else event
    return attrs.evolve(agreement, payload_type=audio, telephone_event=event)


def free_payload_type(taken: int) -> int:
    return OFFERED_TELEPHONE_EVENT if taken != OFFERED_TELEPHONE_EVENT else OFFERED_TELEPHONE_EVENT + 1


def refused_media(theirs: Media) -> Media:
    """Port 0 and one format, which RFC 3264 section 6 wants listed though it means nothing."""
    return Media(theirs.kind, 0, theirs.protocol, theirs.formats[:1])


def describe(origin: Origin, local: Address, timing: str, media: tuple[Media, ...]) -> SessionDescription:
    host = local[0]
    lines = (
        Line("v", "0"),
        origin.line(host),
        Line("s", "-"),
        Line("c", f"IN {address_type(host)} {host}"),
        Line("t", timing if TIMING.issuperset(timing) else "0 0"),
    )
    return SessionDescription(lines, media)
