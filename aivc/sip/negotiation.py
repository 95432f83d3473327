"""Offer and answer for one G.711 audio stream, RFC 3264.

We take the first audio stream that we can do, in the offerer's order of preference, and refuse every other one with
port 0. Nothing is transcoded, so one codec serves both ways. ICE, rtcp-mux and the like are neither done nor answered.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Final

import attrs

from aivc.config.settings import Address, Codec
from aivc.sip.leg import AudioAgreement
from aivc.sip.scanner import AddressError, is_ip_address, parse_number
from aivc.sip.sdp import Line, Media, SessionDescription

PROTOCOL: Final = "RTP/AVP"  # a secure profile must be refused, never answered in the clear (RFC 3264 section 6)
CLOCK_RATE: Final = "8000"
STATIC_FORMATS: Final = {"0": "PCMU/8000", "8": "PCMA/8000"}  # RFC 3551 section 6: they need no rtpmap
CODECS: Final[dict[str, Codec]] = {"PCMU": "PCMU", "PCMA": "PCMA"}
STATIC_PAYLOAD_TYPES: Final[dict[Codec, int]] = {"PCMU": 0, "PCMA": 8}
OFFERED_TELEPHONE_EVENT: Final = 101  # the number that nearly everybody offers
FIRST_MEDIA_PORT: Final = 1024  # below live services that no RTP should reach
PTIME_MS: Final = 20
TIMING: Final = frozenset("0123456789 ")  # what we repeat of a t= line

# RFC 3261 section 20.43
WARN_PROTOCOL: Final = 300  # incompatible network protocol
WARN_ADDRESS: Final = 301  # incompatible network address formats
WARN_TRANSPORT: Final = 302  # incompatible transport protocol
WARN_MEDIA: Final = 304  # media type not available
WARN_FORMAT: Final = 305  # incompatible media format
WARN_OTHER: Final = 399

# RFC 3264 section 6.1: what the offer says -> what the answer may say at most
ANSWER_DIRECTIONS: Final = {
    "sendrecv": "sendrecv",
    "sendonly": "recvonly",
    "recvonly": "sendonly",
    "inactive": "inactive",
}


@attrs.frozen
class Accepted:
    """An offer or answer that we can live with."""

    description: SessionDescription  # the peer's
    index: int  # which of its media is ours
    agreement: AudioAgreement


@attrs.frozen
class Refused:
    """Why not: for 488, Warning and the log."""

    cause: str
    warning: int = WARN_OTHER


@attrs.frozen
class Origin:
    """Our o= line: the version rises by one whenever anything else changes (RFC 3264 section 8)."""

    session_id: int
    version: int = 1

    def line(self, host: str) -> Line:
        return Line("o", f"- {self.session_id} {self.version} IN {address_type(host)} {host}")


@attrs.frozen
class Formats:
    """What one m= line offers of what we can do."""

    codec: Codec
    payload_type: int
    telephone_event: int | None


def accept(
    description: SessionDescription, *, forbidden: Collection[Address] = (), current: AudioAgreement | None = None
) -> Accepted | Refused:
    """Find the audio stream to use in the peer's offer (or in its answer to ours).

    Args:
      forbidden: addresses never to stream to, such as our own signalling port.
      current: the agreement in force. Its codec stays, for the model was configured for it; and with it an audio
        stream may be taken away (port 0): the call goes on in silence.
    """
    refusals: list[Refused] = []
    for index, media in enumerate(description.media):
        if media.kind == "audio" and media.port:
            outcome = read_audio(description, media, forbidden, current)
            if isinstance(outcome, AudioAgreement):
                return Accepted(description, index, outcome)
            refusals.append(outcome)
    if refusals:
        return refusals[0]
    removed = next((index for index, media in enumerate(description.media) if media.kind == "audio"), None)
    if removed is None:
        return Refused("no audio stream", WARN_MEDIA)
    if current is None:
        return Refused("audio stream with port 0", WARN_MEDIA)
    silence = attrs.evolve(current, remote=(current.remote[0], 0), may_send=False, may_receive=False)
    return Accepted(description, removed, silence)


def read_audio(
    description: SessionDescription, media: Media, forbidden: Collection[Address], current: AudioAgreement | None
) -> AudioAgreement | Refused:
    if media.protocol != PROTOCOL:
        return Refused(f"only {PROTOCOL} is supported", WARN_TRANSPORT)
    formats = choose_formats(media, None if current is None else current.codec)
    if formats is None:
        lacks = "neither PCMU nor PCMA is offered" if current is None else f"this call stays with {current.codec}"
        return Refused(lacks, WARN_FORMAT)
    connection = description.connection_for(media)
    if connection is None:
        return Refused("no c= line", WARN_ADDRESS)
    fault = address_fault(connection.address_type, connection.address)
    if fault is not None:
        return fault
    remote = (connection.address, media.port)
    if media.port < FIRST_MEDIA_PORT or remote in forbidden:
        return Refused("RTP address that must not be streamed to")
    direction = description.direction_for(media)
    held = connection.address == "0.0.0.0"  # RFC 3264 section 8.4: how RFC 2543 put a peer on hold
    return AudioAgreement(
        codec=formats.codec,
        payload_type=formats.payload_type,
        remote=remote,
        telephone_event=formats.telephone_event,
        may_send=direction in ("sendrecv", "recvonly") and not held,
        may_receive=direction in ("sendrecv", "sendonly"),
    )


def choose_formats(media: Media, only: Codec | None) -> Formats | None:
    """The first codec that we can do (`only` this one), and the number of telephone-event at the same clock rate."""
    mapped: dict[str, str] = {}
    for value in media.attributes("rtpmap"):
        number, _, encoding = value.partition(" ")
        mapped.setdefault(number, encoding.strip(" ").upper())
    audio: tuple[Codec, int] | None = None
    event: int | None = None
    for number in media.formats:
        try:
            payload_type = parse_number(number, 127, "payload type")
        except AddressError:
            continue
        name, rate, channels = encoding_of(mapped.get(number) or STATIC_FORMATS.get(number, ""))
        if rate != CLOCK_RATE or channels not in ("", "1"):
            continue
        if audio is None and name in CODECS and only in (None, CODECS[name]):
            audio = CODECS[name], payload_type
        elif event is None and name == "TELEPHONE-EVENT":
            event = payload_type
    return None if audio is None else Formats(*audio, event)


def encoding_of(text: str) -> tuple[str, str, str]:
    """Name, clock rate and channels of an rtpmap value."""
    name, _, rest = text.partition("/")
    rate, _, channels = rest.partition("/")
    return name, rate, channels


def address_fault(kind: str, address: str) -> Refused | None:
    """Why RTP must not go there, if it must not."""
    if kind != "IP4":
        return Refused("only IPv4 media is supported", WARN_PROTOCOL)
    if not is_ip_address(address) or ":" in address:
        multicast = is_ip_address(address.partition("/")[0])
        return Refused("multicast address" if multicast else "host name in the c= line", WARN_ADDRESS)
    ip = ipaddress.ip_address(address)
    if ip.is_multicast or ip.is_reserved or (address.startswith("0.") and address != "0.0.0.0"):
        return Refused("RTP address that must not be streamed to", WARN_ADDRESS)
    return None


def answer(accepted: Accepted, local: Address, origin: Origin) -> SessionDescription:
    """Our answer to an accepted offer: the same number of streams, all but ours refused (RFC 3264 section 6)."""
    media = tuple(
        audio_media(accepted, theirs, local) if index == accepted.index else refused_media(theirs)
        for index, theirs in enumerate(accepted.description.media)
    )
    return describe(origin, local, accepted.description.timing, media)


def offer(
    agreement: AudioAgreement, local: Address, origin: Origin, previous: SessionDescription | None
) -> SessionDescription:
    """Our offer, for an INVITE without one: the codec in force and no other.

    Args:
      previous: what we described last; its streams keep their places (RFC 3264 section 8).
    """
    telephone_event = agreement.telephone_event or free_payload_type(agreement.payload_type)
    ours = stream([(agreement.payload_type, agreement.codec)], telephone_event, "sendrecv", local)
    if previous is None:
        return describe(origin, local, "0 0", (ours,))
    place = next((index for index, media in enumerate(previous.media) if media.port), 0)
    media = tuple(ours if index == place else refused_media(old) for index, old in enumerate(previous.media))
    return describe(origin, local, previous.timing, media)


def tentative_agreement() -> AudioAgreement:
    """What holds until the answer to our first offer has come: nothing is sent to nobody.

    The model is configured before that, so the offer leaves no choice; PCMU is what every phone can do (RFC 3551).
    """
    return AudioAgreement("PCMU", STATIC_PAYLOAD_TYPES["PCMU"], ("0.0.0.0", 0), OFFERED_TELEPHONE_EVENT, False, True)


def audio_media(accepted: Accepted, theirs: Media, local: Address) -> Media:
    agreement = accepted.agreement
    if not theirs.port:
        return refused_media(theirs)
    direction = ANSWER_DIRECTIONS[accepted.description.direction_for(theirs)]
    if not agreement.may_send:
        direction = {"sendrecv": "recvonly", "sendonly": "inactive"}.get(direction, direction)
    return stream([(agreement.payload_type, agreement.codec)], agreement.telephone_event, direction, local)


def stream(formats: list[tuple[int, Codec]], telephone_event: int | None, direction: str, local: Address) -> Media:
    lines = [Line("a", f"rtpmap:{number} {codec}/{CLOCK_RATE}") for number, codec in formats]
    numbers = [str(number) for number, _ in formats]
    if telephone_event is not None:
        numbers.append(str(telephone_event))
        lines.append(Line("a", f"rtpmap:{telephone_event} telephone-event/{CLOCK_RATE}"))
        lines.append(Line("a", f"fmtp:{telephone_event} 0-15"))  # RFC 4733 section 2.4.1
    lines += [Line("a", f"ptime:{PTIME_MS}"), Line("a", direction)]
    return Media("audio", local[1], PROTOCOL, tuple(numbers), tuple(lines))


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


def free_payload_type(taken: int) -> int:
    return OFFERED_TELEPHONE_EVENT if taken != OFFERED_TELEPHONE_EVENT else OFFERED_TELEPHONE_EVENT + 1


def address_type(host: str) -> str:
    return "IP6" if ":" in host else "IP4"
