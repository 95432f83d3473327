"""What of a recording enters its replay: the inputs, where names lead, and which host is ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from aivc.config.settings import Address, Codec, Settings
from aivc.flight.entries import Entry, Flight, MiMessage, RtpPacket, SipMessage
from aivc.replaying.alike import loaded, split_message
from aivc.replaying.settings import NotReplayable, is_ip

FIRST_DYNAMIC: Final = 96  # payload type, RFC 3551 section 6
EVENT_OCTETS: Final = 16  # of payload, at most, in a packet of RFC 4733
WILDCARDS: Final = ("0.0.0.0", "::")
CHALLENGES: Final = re.compile(r"SIP/2\.0 40[17] ")
CONNECTION: Final = re.compile(r"^c=IN IP[46] (\S+)", re.MULTILINE)
SECURE: Final = re.compile(r"^m=audio [1-9]\d* (?:RTP/SAVP|UDP/TLS)", re.MULTILINE)
MAPPED: Final = re.compile(r"^a=rtpmap:(\d+) (PCM[UA])/", re.MULTILINE | re.IGNORECASE)
TARGET: Final = re.compile(r"sips?:(?:[^@;?>\s]*@)?(\[[^\]]+\]|[^:;?>\s]+)", re.IGNORECASE)


def replayable(flight: Flight) -> tuple[Entry, ...]:
    """The entries that can be replayed, in their order. Raises NotReplayable."""
    for text in own_descriptions(flight.entries):
        if SECURE.search(text):
            raise NotReplayable("its audio was encrypted (SRTP), with keys that no recording has")
    if any(makes_call(entry) for entry in flight.entries):
        raise NotReplayable("it has made a call of its own (an attended transfer), whose audio is not recorded")
    if (pressed := next((entry.at for entry in flight.entries if is_masked_key(entry)), None)) is not None:
        raise NotReplayable(f"keys were pressed at {pressed:.3f} s, and which is masked in it (recorder.mask)")
    entries = flight.entries
    if flight.missing:
        limit = flight.missing_from or 0.0
        entries = tuple(entry for entry in entries if entry.at < limit)
    if not any(begins(entry) for entry in entries):
        raise NotReplayable(
            f"{flight.missing} entries are missing from {flight.missing_from or 0.0:.3f} s on: its beginning is"
            if flight.missing
            else "it has no INVITE"
        )
    return without_challenged(entries)


def begins(entry: Entry) -> bool:
    """Whether a call begins with it."""
    match entry:
        case SipMessage(way="in", text=text):
            return text.startswith("INVITE ")
        case MiMessage(way="in", channel="event", text=text):
            return '"NEW"' in text
        case _:
            return False


def is_masked_key(entry: Entry) -> bool:
    """Whether it is a packet of RFC 4733 of which nothing is kept."""
    match entry:
        case RtpPacket(way="in", payload=None, payload_type=payload_type, octets=octets):
            return payload_type >= FIRST_DYNAMIC and octets <= EVENT_OCTETS
        case _:
            return False


def makes_call(entry: Entry) -> bool:
    """Whether it begins a call of ours to somebody else; a re-INVITE has a tag in To (RFC 3261 section 12.2.1.1)."""
    match entry:
        case SipMessage(way="out", text=text) if text.startswith("INVITE "):
            _, fields, _ = split_message(text)
            return not any(name.lower() == "to" and "tag=" in value for name, value in fields)
        case MiMessage(way="out", channel="command", text=text):
            return loaded(text).get("method") == "ua_session_client_start"
        case _:
            return False


def own_descriptions(entries: Sequence[Entry]) -> Iterator[str]:
    """The SDP that we have sent, and what came with it."""
    for entry in entries:
        match entry:
            case SipMessage(way="out", text=text):
                yield text.replace("\r\n", "\n")
            case MiMessage(way="out", text=text):
                yield str(loaded(text).get("params", {}).get("body", "")).replace("\r\n", "\n")
            case _:
                pass


def codec_of(flight: Flight) -> Codec:
    """What was spoken: as the record says, or our first answer."""
    named = None if flight.record is None else flight.record.get("codec")
    if named is None:
        found = (MAPPED.search(text) for text in own_descriptions(flight.entries))
        named = next((match[2].upper() for match in found if match is not None), "PCMU")
    return "PCMA" if named == "PCMA" else "PCMU"


def own_host(flight: Flight, settings: Settings) -> str:
    """The address that our sockets send from."""
    found = [match[1] for text in own_descriptions(flight.entries) if (match := CONNECTION.search(text))]
    told = settings.rtp.ip or settings.sip.external_ip
    if found and told is None and settings.rtp.bind_ip in WILDCARDS and ":" not in found[0]:
        return found[0]
    locals_ = [entry.local[0] for entry in flight.entries if isinstance(entry, SipMessage)]
    return next((host for host in locals_ if host not in WILDCARDS and ":" not in host), "127.0.0.1")


def names_of(entries: Sequence[Entry]) -> dict[str, str | tuple[str, ...]]:
    """Host names that we have sent requests to, and where they led."""
    names: dict[str, str | tuple[str, ...]] = {}
    for entry in entries:
        if isinstance(entry, SipMessage) and entry.way == "out":
            start, fields, _ = split_message(entry.text)
            routes = [value for name, value in fields if name.lower() == "route"]
            found = TARGET.search((routes or [start])[0])
            if found is not None and not is_ip(found[1].strip("[]")):
                names.setdefault(found[1].lower(), entry.peer[0])
    return names


def without_challenged(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Without the requests that we have challenged: the passwords are not recorded, so the replay asks for none."""
    challenged = {
        sequence_of(entry)
        for entry in entries
        if isinstance(entry, SipMessage) and entry.way == "out" and CHALLENGES.match(entry.text)
    }
    return tuple(entry for entry in entries if not (isinstance(entry, SipMessage) and sequence_of(entry) in challenged))


def sequence_of(message: SipMessage) -> tuple[str, str]:
    """Call-ID and the number in CSeq: what tells a request, its ACK and their responses from others."""
    _, fields, _ = split_message(message.text)
    by_name = {name.lower(): value for name, value in fields}
    call_id = by_name.get("call-id", by_name.get("i", ""))
    return call_id, by_name.get("cseq", "").partition(" ")[0]


def sent_packets(entries: Sequence[Entry]) -> list[RtpPacket]:
    """Our RTP."""
    return [entry for entry in entries if isinstance(entry, RtpPacket) and entry.way == "out"]


def tcp_targets(entries: Sequence[Entry]) -> list[Address]:
    """Where we have connected to over TCP: who has spoken to us first has connected to us."""
    first: dict[Address, SipMessage] = {}
    for entry in entries:
        if isinstance(entry, SipMessage) and entry.transport == "TCP":
            first.setdefault(entry.peer, entry)
    return [peer for peer, message in first.items() if message.way == "out"]
