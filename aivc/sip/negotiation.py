"""Reading the peer's side of offer and answer for one G.711 audio stream, RFC 3264.

We take the first audio stream that we can do, in the offerer's order of preference, and refuse every other one with
port 0. Nothing is transcoded, so one codec serves both ways. ICE, DTLS, bundles and the like are neither done nor
answered. RTP/AVPF is answered in kind; no a=rtcp-fb in the answer means no feedback messages (RFC 4585 section 4).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import Final, Literal

import attrs

from aivc.config.settings import Address, Codec
from aivc.sip import sdes
from aivc.sip.leg import AudioAgreement, SrtpKeys
from aivc.sip.scanner import AddressError, is_ip_address, parse_number
from aivc.sip.sdes import Crypto, SdesError
from aivc.sip.sdp import Connection, Line, Media, SdpError, SessionDescription, parse_connection

SrtpPolicy = Literal["off", "optional", "required"]  # the setting `rtp.srtp`

# Profiles that we do, and whether they are secure. A secure one is refused or answered in kind, never in the clear
# (RFC 3264 section 6); a clear one with keys is opportunistic SRTP, RFC 8643, as PJSIP and Snom offer it.
SECURE: Final = {"RTP/AVP": False, "RTP/AVPF": False, "RTP/SAVP": True, "RTP/SAVPF": True}
CLOCK_RATE: Final = "8000"
STATIC_FORMATS: Final = {"0": "PCMU/8000", "8": "PCMA/8000"}  # RFC 3551 section 6: they need no rtpmap
CODECS: Final[dict[str, Codec]] = {"PCMU": "PCMU", "PCMA": "PCMA"}
STATIC_PAYLOAD_TYPES: Final[dict[Codec, int]] = {"PCMU": 0, "PCMA": 8}
OFFERED_TELEPHONE_EVENT: Final = 101  # the number that nearly everybody offers
RTCP_LOOKALIKES: Final = range(64, 96)  # payload types that cannot be told from RTCP, RFC 5761 section 4
FIRST_MEDIA_PORT: Final = 1024  # below live services that no RTP should reach
LAST_PORT: Final = 65535
PTIME_STEP_MS: Final = 10
PTIME_MS: Final = 20  # RFC 3551 section 4.2
MAX_PTIME_MS: Final = 60
LONGEST_PTIME_MS: Final = 1000  # more is nonsense
UNICAST_IPV6: Final = tuple(  # where an IPv6 stream may go, besides the loopback address
    map(ipaddress.IPv6Network, ("2000::/3", "fc00::/7", "64:ff9b::/96"))  # RFC 4291, RFC 4193, RFC 6052
)

# RFC 3261 section 20.43
WARN_ADDRESS: Final = 301  # incompatible network address formats
WARN_TRANSPORT: Final = 302  # incompatible transport protocol
WARN_MEDIA: Final = 304  # media type not available
WARN_FORMAT: Final = 305  # incompatible media format
WARN_OTHER: Final = 399


@attrs.frozen
class Accepted:
    """An offer or answer that we can live with."""

    description: SessionDescription  # the peer's
    index: int  # which of its media is ours
    agreement: AudioAgreement
    crypto_tag: int | None = None  # of the a=crypto line in use, RFC 4568


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


def no_key() -> bytes:
    raise RuntimeError("SRTP without a source of keys")


@attrs.frozen(kw_only=True)
class Terms:
    """What a description of the peer is judged by."""

    forbidden: tuple[Address, ...] = ()  # never to stream to, such as our own signalling port
    srtp: SrtpPolicy = "off"
    new_key: Callable[[], bytes] = no_key  # 30 octets at each call
    codec: Codec | None = None  # the only one that will do; None: there is a choice
    in_force: AudioAgreement | None = None  # what was agreed before
    place: int | None = None  # of our stream among the media, when something was described before
    ipv6: bool | None = None  # the family of our own RTP socket; None: it is not chosen yet
    offered: Media | None = None  # our stream in the offer that the description answers; None: it is an offer itself
    rtcp: bool = True  # the setting `rtp.rtcp`


@attrs.frozen
class Formats:
    """What one m= line offers of what we can do."""

    codec: Codec
    payload_type: int
    telephone_event: int | None


def accept(description: SessionDescription, terms: Terms) -> Accepted | Refused:
    """Find the audio stream to use in the peer's offer (or in its answer to ours).

    A session in force keeps its codec, for the model was configured for it; and its audio stream may be taken away
    (port 0): the call goes on in silence.
    """
    refusals: list[Refused] = []
    for index in audio_places(description, terms):
        if description.media[index].port and (terms.offered is None or terms.offered.port):
            outcome = read_audio(description, index, terms)
            if isinstance(outcome, Accepted):
                return outcome
            refusals.append(outcome)
    if refusals:
        return refusals[0]
    removed = next(audio_places(description, terms), None)
    if removed is None:
        return Refused("no audio stream", WARN_MEDIA)
    if terms.in_force is None:
        return Refused("audio stream with port 0", WARN_MEDIA)
    remote = (terms.in_force.remote[0], 0)
    silence = attrs.evolve(terms.in_force, remote=remote, remote_rtcp=None, may_send=False, may_receive=False)
    return Accepted(description, removed, silence)


def audio_places(description: SessionDescription, terms: Terms) -> Iterator[int]:
    """Where our audio may be: an answer has it where the offer has; an offer best where it was before."""
    places = [index for index, media in enumerate(description.media) if media.kind == "audio"]
    if terms.place in places:
        yield terms.place
    if terms.offered is None:
        yield from (index for index in places if index != terms.place)


def read_audio(description: SessionDescription, index: int, terms: Terms) -> Accepted | Refused:
    media = description.media[index]
    if media.protocol not in SECURE:
        dtls = "; no DTLS-SRTP" if "/TLS/" in media.protocol else ""
        return Refused(f"only RTP/AVP is supported{dtls}", WARN_TRANSPORT)
    formats = choose_formats(media, terms.codec)
    if formats is None:
        lacks = "neither PCMU nor PCMA is offered" if terms.codec is None else f"this call stays with {terms.codec}"
        return Refused(lacks, WARN_FORMAT)
    connection = description.connection_for(media)
    if connection is None:
        return Refused("no c= line", WARN_ADDRESS)
    connection = resolve_nowhere(connection)
    fault = address_fault(connection)
    if fault is not None:
        return fault
    ip = ipaddress.ip_address(connection.address)
    if not ip.is_unspecified and terms.ipv6 not in (None, ip.version == 6):
        return Refused(f"this call's audio is IPv{4 if ip.version == 6 else 6}", WARN_ADDRESS)
    remote = (str(ip), media.port)
    if not ip.is_unspecified and is_barred(remote, terms):
        return Refused("RTP address that must not be streamed to")
    keys = choose_keys(media, terms)
    if isinstance(keys, Refused):
        return keys
    own = own_formats(formats, terms)
    direction, rtcp_mux = description.direction_for(media), can_mux(media, formats, terms)
    agreement = AudioAgreement(
        codec=formats.codec,
        payload_type=formats.payload_type,
        remote=remote,
        telephone_event=formats.telephone_event,
        # RFC 3264 section 8.4: 0.0.0.0 is how RFC 2543 put a peer on hold; with IPv6 they write ::
        may_send=direction in ("sendrecv", "recvonly") and not ip.is_unspecified,
        may_receive=direction in ("sendrecv", "sendonly"),
        ptime_ms=packet_time(description, media),
        remote_rtcp=None if rtcp_mux else rtcp_address(media, remote, terms),
        rtcp_mux=rtcp_mux,
        srtp=None if keys is None else keys[1],
        own_payload_type=None if own.payload_type == formats.payload_type else own.payload_type,
        own_telephone_event=None if own.telephone_event == formats.telephone_event else own.telephone_event,
    )
    return Accepted(description, index, agreement, None if keys is None else keys[0])


# Formats


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


def own_formats(theirs: Formats, terms: Terms) -> Formats:
    """The numbers that the peer sends with: those of our offer, if we made it (RFC 3264 section 6.1)."""
    ours = None if terms.offered is None else choose_formats(terms.offered, theirs.codec)
    if ours is None:
        return theirs
    return ours if theirs.telephone_event is not None else attrs.evolve(ours, telephone_event=None)


def encoding_of(text: str) -> tuple[str, str, str]:
    """Name, clock rate and channels of an rtpmap value."""
    name, _, rest = text.partition("/")
    rate, _, channels = rest.partition("/")
    return name, rate, channels


def packet_time(description: SessionDescription, media: Media) -> int:
    """Milliseconds of audio in one of our packets: a=ptime and a=maxptime (RFC 8866 section 6.4) as far as we go.

    Some put them at the session level, where they are not defined.
    """
    wanted = milliseconds(description.attributes_for(media, "ptime")) or PTIME_MS
    longest = milliseconds(description.attributes_for(media, "maxptime")) or MAX_PTIME_MS
    bounded = min(wanted, longest, MAX_PTIME_MS)
    return max(bounded - bounded % PTIME_STEP_MS, PTIME_STEP_MS)


def milliseconds(values: list[str]) -> int | None:
    """The first value that makes sense, without its fraction."""
    for value in values:
        whole, _, fraction = value.strip(" ").partition(".")
        try:
            number = parse_number(whole, LONGEST_PTIME_MS, "packet time")
            parse_number(fraction or "0", 10**9, "fraction")
        except AddressError:
            continue
        if number:
            return number
    return None


# Addresses


def resolve_nowhere(connection: Connection) -> Connection:
    """A name in .invalid is no place either: with IPv6 it is to be written instead of :: (RFC 6157)."""
    if not connection.address.lower().endswith(".invalid"):
        return connection
    return Connection(connection.address_type, "::" if connection.address_type == "IP6" else "0.0.0.0")


def address_fault(connection: Connection) -> Refused | None:
    """Why RTP must not go there, if it must not."""
    address = connection.address
    if not is_ip_address(address):
        multicast = is_ip_address(address.partition("/")[0])
        return Refused("multicast address" if multicast else "host name in the c= line", WARN_ADDRESS)
    ip = ipaddress.ip_address(address)
    if (ip.version == 6) != (connection.address_type == "IP6"):
        return Refused("address of another type than the c= line says", WARN_ADDRESS)
    if isinstance(ip, ipaddress.IPv4Address):
        allowed = not ip.is_multicast and not ip.is_reserved and (not address.startswith("0.") or ip.is_unspecified)
    else:  # RFC 4291: neither multicast, nor mapped IPv4, nor link-local addresses, whose zone an SDP cannot name
        plain = ip.is_loopback or any(ip in network for network in UNICAST_IPV6)
        allowed = ip.is_unspecified or (plain and ip.scope_id is None)
    return None if allowed else Refused("RTP address that must not be streamed to", WARN_ADDRESS)


def is_barred(remote: Address, terms: Terms) -> bool:
    return not FIRST_MEDIA_PORT <= remote[1] <= LAST_PORT or remote in terms.forbidden


def rtcp_address(media: Media, remote: Address, terms: Terms) -> Address | None:
    """Where the peer wants RTCP if that is not the next port (RFC 3605); port 0 when there is no good place."""
    usual = (remote[0], remote[1] + 1)
    wanted = next((parse_rtcp(value, remote[0]) for value in media.attributes("rtcp")), None) or usual
    if is_barred(wanted, terms):
        return (remote[0], 0)
    return None if wanted == usual else wanted


def parse_rtcp(value: str, host: str) -> Address | None:
    """Read `PORT` or `PORT IN IP4 ADDRESS`; None when it is no address of the kind that `host` is."""
    port, _, rest = value.strip(" ").partition(" ")
    try:
        number = parse_number(port, LAST_PORT, "port")
        connection = parse_connection(rest) if rest else Connection(address_type(host), host)
    except (AddressError, SdpError):
        return None
    if connection.address_type != address_type(host) or address_fault(connection) is not None:
        return None
    return str(ipaddress.ip_address(connection.address)), number


def can_mux(media: Media, formats: Formats, terms: Terms) -> bool:
    """Whether RTCP comes and goes on the RTP port: offerer and answerer want it (RFC 5761 section 5.1.1)."""
    if not terms.rtcp or not media.attributes("rtcp-mux"):
        return False
    is_wanted = terms.offered is None or bool(terms.offered.attributes("rtcp-mux"))
    return is_wanted and not {formats.payload_type, formats.telephone_event}.intersection(RTCP_LOOKALIKES)


def address_type(host: str) -> str:
    return "IP6" if ":" in host else "IP4"


# Keys


def choose_keys(media: Media, terms: Terms) -> tuple[int, SrtpKeys] | Refused | None:
    """The tag and the keys to use with one m= line; None: RTP in the clear."""
    secure = SECURE[media.protocol]
    if terms.srtp == "off":
        return Refused("only RTP/AVP is supported while rtp.srtp is off", WARN_TRANSPORT) if secure else None
    if terms.offered is not None and SECURE.get(terms.offered.protocol) != secure:
        return Refused("the answer has another profile than our offer", WARN_TRANSPORT)
    lines = media.attributes("crypto")
    if not secure and not lines and terms.srtp == "required":
        return Refused("SRTP is required here (rtp.srtp): offer RTP/SAVP with a=crypto", WARN_TRANSPORT)
    if not secure and not lines:
        return None
    try:
        theirs = sdes.usable(lines)
    except SdesError as error:
        if secure or terms.srtp == "required":
            return Refused(f"no usable a=crypto line: {error}", WARN_TRANSPORT)
        return None
    return keys_of_offer(theirs[0], terms) if terms.offered is None else keys_of_answer(theirs[0], terms.offered)


def keys_of_offer(chosen: Crypto, terms: Terms) -> tuple[int, SrtpKeys]:
    """Our key stays unless the peer changes its own or the suite: then a new party may be there, who starts afresh."""
    before = None if terms.in_force is None else terms.in_force.srtp
    if before is not None and (before.suite, before.remote) == (chosen.suite, chosen.key):
        return chosen.tag, before
    return chosen.tag, SrtpKeys(chosen.suite, terms.new_key(), chosen.key)


def keys_of_answer(chosen: Crypto, offered: Media) -> tuple[int, SrtpKeys] | Refused | None:
    """The answer has one of our lines, told by its tag, with a key of the peer (RFC 4568 section 5.1.3)."""
    lines = offered.attributes("crypto")
    if not lines:  # RTP/AVP without keys was offered
        return None
    ours = next((crypto for crypto in sdes.usable(lines) if crypto.tag == chosen.tag), None)
    if ours is None or ours.suite != chosen.suite:
        return Refused("the answer has an a=crypto line that we have not offered", WARN_TRANSPORT)
    return chosen.tag, SrtpKeys(ours.suite, ours.key, chosen.key)


def tentative_agreement(codec: Codec = "PCMU") -> AudioAgreement:
    """What holds until the answer to our first offer has come: nothing is sent to nobody.

    The model is configured before that, so the offer leaves no choice; PCMU is what every phone can do (RFC 3551).
    """
    return AudioAgreement(codec, STATIC_PAYLOAD_TYPES[codec], ("0.0.0.0", 0), OFFERED_TELEPHONE_EVENT, False, True)
