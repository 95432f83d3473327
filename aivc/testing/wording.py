"""The texts of the test phone: SIP responses and SDP offers."""

from __future__ import annotations

from aivc.config.settings import Address, Codec
from aivc.sip.message import REASONS, Request

PAYLOAD_TYPES: dict[Codec, int] = {"PCMU": 0, "PCMA": 8}  # RFC 3551 section 6


def answer_to(request: Request, status: str) -> bytes:
    """A response with the headers that RFC 3261 section 8.2.6 asks for."""
    copied = [
        f"{name}: {value}" for name in ("Via", "From", "To", "Call-ID", "CSeq") for value in request.headers.lines(name)
    ]
    return ("\r\n".join([f"SIP/2.0 {status}", *copied, "Content-Length: 0"]) + "\r\n\r\n").encode()


def status_line(status: int) -> str:
    return f"{status} {REASONS.get(status, 'Accepted')}"


def offer_of(
    own: Address,
    codec: Codec,
    telephone_event: int | None,
    ptime_ms: int,
    version: int,
    direction: str = "sendrecv",
    host: str | None = None,
) -> str:
    """An SDP offer of one codec, and of keys.

    Args:
      own: where the audio is to go.
      host: what c= says in its place.
    """
    keys = "" if telephone_event is None else f" {telephone_event}"
    described_keys = f"a=rtpmap:{telephone_event} telephone-event/8000\r\na=fmtp:{telephone_event} 0-15\r\n"
    return (
        f"v=0\r\no=- 1 {version} IN IP4 {own[0]}\r\ns=-\r\nc=IN IP4 {host or own[0]}\r\nt=0 0\r\n"
        f"m=audio {own[1]} RTP/AVP {PAYLOAD_TYPES[codec]}{keys}\r\n"
        f"a=rtpmap:{PAYLOAD_TYPES[codec]} {codec}/8000\r\n"
        f"{described_keys if keys else ''}a=ptime:{ptime_ms}\r\na={direction}\r\n"
    )


def media_address(sdp: str) -> Address:
    """The address of the first audio line."""
    host, port = "", 0
    for line in sdp.splitlines():
        if line.startswith("c=IN IP4 "):
            host = line.split()[2]
        elif line.startswith("m=audio "):
            port = int(line.split()[1])
    return host, port
