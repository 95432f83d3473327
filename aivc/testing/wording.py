"""The texts of the test phone: SIP requests and responses, SDP offers and answers."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final, Literal

import attrs

from aivc.config.settings import Address, Codec
from aivc.sip.message import REASONS, Request

PAYLOAD_TYPES: dict[Codec, int] = {"PCMU": 0, "PCMA": 8}  # RFC 3551 section 6
Fields = Sequence[tuple[str, str]]  # header fields: names and values
Suite = Literal["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"]  # RFC 4568 section 6.2
Rtcp = Literal["off", "port", "mux"]  # none, a port of its own (RFC 3605), the port of RTP (RFC 5761)
SDP: Final = "application/sdp"
ALLOW: Final = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, REFER, NOTIFY"
MIRRORED: Final = {"sendonly": "recvonly", "recvonly": "sendonly"}  # RFC 3264 section 6.1; the others are as they are


# SIP


def request_text(method: str, target: str, fields: Fields, body: str = "") -> bytes:
    """A request as it goes over the wire."""
    lines = [f"{method} {target} SIP/2.0", *(f"{name}: {value}" for name, value in fields)]
    return ("\r\n".join([*lines, f"Content-Length: {len(body.encode())}"]) + "\r\n\r\n" + body).encode()


def answer_to(request: Request, status: str, fields: Fields = (), body: str = "", tag: str = "") -> bytes:
    """A response with the headers that RFC 3261 section 8.2.6 asks for, and more.

    Args:
      tag: of To, when it has none yet.
    """
    copied = [
        (name, value) for name in ("Via", "From", "To", "Call-ID", "CSeq") for value in request.headers.lines(name)
    ]
    if tag and request.to.tag is None:
        copied = [(name, f"{value};tag={tag}" if name == "To" else value) for name, value in copied]
    lines = [f"SIP/2.0 {status}", *(f"{name}: {value}" for name, value in (*copied, *fields))]
    return ("\r\n".join([*lines, f"Content-Length: {len(body.encode())}"]) + "\r\n\r\n" + body).encode()


def status_line(status: int) -> str:
    return f"{status} {REASONS.get(status, 'Accepted')}"


def in_uri(host: str) -> str:
    """A host as URIs and Via spell it: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


# SDP


@attrs.frozen(kw_only=True)
class Audio:
    """What the phone says of its audio.

    Args:
      own: where the audio is to go.
      host: what c= says in its place.
      crypto: suite and key of SDES (RFC 4568), 30 octets.
      rtcp_port: of reports; the one of `own` for one port of both; None: nothing is said.
    """

    own: Address
    codec: Codec
    telephone_event: int | None
    ptime_ms: int
    version: int = 1
    direction: str = "sendrecv"
    host: str | None = None
    crypto: tuple[Suite, bytes] | None = None
    crypto_tag: int = 1
    rtcp_port: int | None = None


def describe(audio: Audio) -> str:
    """A session description of one codec, and of keys: as an offer or as an answer."""
    keys = audio.telephone_event
    host, family = audio.host or audio.own[0], "IP6" if ":" in audio.own[0] else "IP4"
    kind, profile = PAYLOAD_TYPES[audio.codec], "RTP/AVP" if audio.crypto is None else "RTP/SAVP"
    lines = [
        "v=0",
        f"o=- 1 {audio.version} IN {family} {audio.own[0]}",
        "s=-",
        f"c=IN {family} {host}",
        "t=0 0",
        f"m=audio {audio.own[1]} {profile} {kind}{'' if keys is None else f' {keys}'}",
        f"a=rtpmap:{kind} {audio.codec}/8000",
    ]
    if keys is not None:
        lines += [f"a=rtpmap:{keys} telephone-event/8000", f"a=fmtp:{keys} 0-15"]
    if audio.crypto is not None:
        suite, key = audio.crypto
        lines.append(f"a=crypto:{audio.crypto_tag} {suite} inline:{base64.b64encode(key).decode()}")
    if audio.rtcp_port is not None:
        lines.append(f"a=rtcp:{audio.rtcp_port}")
        lines += ["a=rtcp-mux"] if audio.rtcp_port == audio.own[1] else []
    return "\r\n".join([*lines, f"a=ptime:{audio.ptime_ms}", f"a={audio.direction}", ""])


@attrs.frozen(kw_only=True)
class Heard:
    """What the other side's description says of its first audio line."""

    address: Address
    profile: str = "RTP/AVP"
    payload_types: tuple[int, ...] = ()
    telephone_event: int | None = None
    direction: str = "sendrecv"
    ptime_ms: int | None = None
    crypto: tuple[int, Suite, bytes] | None = None  # tag, suite and key of the first line of a suite that we know
    rtcp_port: int | None = None
    rtcp_mux: bool = False


def read_description(sdp: str) -> Heard:
    """What a description says, read for what the phone needs and trusted for the rest."""
    host, port, media = "", 0, 0
    profile, direction = "RTP/AVP", "sendrecv"
    payload_types: tuple[int, ...] = ()
    keys = ptime_ms = rtcp_port = crypto = None
    for line in sdp.splitlines():
        name, _, value = line.partition(":")
        media += line.startswith("m=")
        if media > 1:
            break
        if line.startswith("c=IN IP"):
            host = line.split()[2]
        elif line.startswith("m=audio "):
            words = line.split()
            port, profile, payload_types = (
                int(words[1]),
                words[2],
                tuple(int(word) for word in words[3:] if word.isdigit()),
            )
        elif name == "a=rtpmap" and "telephone-event/8000" in value:
            keys = int(value.split()[0])
        elif name == "a=ptime":
            ptime_ms = int(value)
        elif name == "a=rtcp":
            rtcp_port = int(value.split()[0])
        elif name == "a=crypto" and crypto is None:
            crypto = read_crypto(value)
        elif line[2:] in ("sendrecv", "sendonly", "recvonly", "inactive"):
            direction = line[2:]
    return Heard(
        address=(host, port),
        profile=profile,
        payload_types=payload_types,
        telephone_event=keys,
        direction=direction,
        ptime_ms=ptime_ms,
        crypto=crypto,
        rtcp_port=rtcp_port,
        rtcp_mux="a=rtcp-mux" in sdp.splitlines(),
    )


def read_crypto(value: str) -> tuple[int, Suite, bytes] | None:
    """Tag, suite and key of a crypto attribute; None for a suite that the phone does not know."""
    tag, suite, key, *_ = value.split()
    octets = base64.b64decode(key.removeprefix("inline:").split("|")[0])
    if suite == "AES_CM_128_HMAC_SHA1_80":
        return int(tag), "AES_CM_128_HMAC_SHA1_80", octets
    if suite == "AES_CM_128_HMAC_SHA1_32":
        return int(tag), "AES_CM_128_HMAC_SHA1_32", octets
    return None


def media_address(sdp: str) -> Address:
    """The address of the first audio line."""
    return read_description(sdp).address
