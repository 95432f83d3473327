"""What a flight recording says of one call: a header, entries in the order of their time, and the call's record.

Times (`at`) are seconds on trio's clock since the call began, so that a recording reads the same on any machine.
Whatever a recording may not keep is masked before it gets here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import attrs

FORMAT: Final = 1  # raised when an older reader would misread a newer file

Way = Literal["in", "out"]  # seen from the service
Address = tuple[str, int]


@attrs.frozen
class SipMessage:
    """One SIP message of this call, as it was on the wire."""

    at: float
    way: Way
    transport: str  # "UDP", "TCP", "TLS"
    local: Address
    peer: Address
    text: str  # octets beyond UTF-8 as surrogate escapes


@attrs.frozen
class RtpPacket:
    """One RTP packet, after SRTP was taken off."""

    at: float
    way: Way
    peer: Address
    payload_type: int
    marker: bool
    sequence: int
    rtp_timestamp: int
    ssrc: int
    octets: int  # of the payload
    digest: str  # of the payload: the first 16 hexadecimal digits of its SHA-256
    is_voiced: bool  # whether `media.g711.is_voiced` says so; False for what is no G.711
    payload: bytes | None = None  # None: not kept


@attrs.frozen
class Datagram:
    """What came to or left an RTP or RTCP socket and is no RTP: RTCP in the clear, or rubbish."""

    at: float
    way: Way
    peer: Address
    is_control: bool  # it used the RTCP socket
    data: bytes


@attrs.frozen
class RealtimeEvent:
    """One text message of the WebSocket; base64 audio in it is kept, or replaced as `audio.py` says."""

    at: float
    way: Way
    session: int  # 1 for the call's first connection to the model, counting refused ones
    text: str


@attrs.frozen
class RealtimeLine:
    """What became of a connection to the model."""

    at: float
    session: int
    what: Literal["opening", "open", "refused", "closing", "closed", "lost"]
    detail: str = ""  # for "refused" the fields of RealtimeRefused, for "closed" the code and reason


@attrs.frozen
class MiMessage:
    """One datagram between us and OpenSIPS that concerns this call."""

    at: float
    way: Way
    channel: Literal["command", "event"]
    text: str


@attrs.frozen
class ToolEntry:
    """A tool call begins, or has ended."""

    at: float
    call_id: str
    name: str
    what: Literal["called", "returned"]
    text: str  # arguments, or output
    outcome: str = ""  # of "returned": "ok" or what went wrong, as in `ToolRun`


@attrs.frozen
class StateChange:
    """What happened to the call that no message says: "prepared", "draining", "cancelled", "ended" ..."""

    at: float
    what: str
    detail: str = ""


Entry = SipMessage | RtpPacket | Datagram | RealtimeEvent | RealtimeLine | MiMessage | ToolEntry | StateChange


@attrs.frozen
class Header:
    """What a recording needs to be understood, and replayed."""

    version: str  # of aivc
    python: str
    call_id: str
    began_at: float  # seconds since 1970
    front_end: Literal["sip", "opensips"]
    session_key: str | None  # of OpenSIPS' UA session
    agent: str | None
    settings: Mapping[str, Any]  # those of this call, by section and key, secrets left out
    rtp_port: int | None  # ours
    audio: Literal["hash", "keep"]
    masked: tuple[str, ...]  # of "numbers", "transcripts"
    random: Mapping[str, int] = attrs.field(factory=dict)  # drawn for this call: ssrc, sequence, rtp_timestamp, ...
    format: int = FORMAT


@attrs.frozen
class Flight:
    """One recording."""

    header: Header
    entries: tuple[Entry, ...]
    record: Mapping[str, Any] | None  # as `nursery.recordjson` makes it; None: the writer was stopped before
    missing: int = 0  # entries between the beginning and the end that found no room
    missing_from: float | None = None  # when the first of them was
