"""A flight recording as a file: JSON Lines, ASCII only, so that a terminal, `grep` and `jq` can read it.

The first line is the header, the last the footer with the call's record, and every other line one entry, but for audio:
what comes in a row shares a line of at most `PACKETS_A_LINE`, one short string each:

    {"aivc_flight":1,"version":"0.3.0","call_id":"a84b4c76e66710",...}
    {"kind":"sip","at":0.0,"way":"in","transport":"UDP","local":["192.0.2.9",5060],...,"text":"INVITE ..."}
    {"kind":"media","flows":[["in","192.0.2.1",4000,0,305419896],["append",1]],
     "packets":["0 0.21 1 160 160 mv 3f79bb7b435b0532","1 0.21 160 3f79bb7b435b0532"]}
    {"kind":"end","entries":3,"missing":0,"missing_from":null,"record":{...}}

The string of an RTP packet: index into `flows` (way, address, port, payload type, SSRC), `at`, sequence number,
timestamp, payload octets, flags ("m" marker, "v" voiced, "-" neither), digest, and the payload in base64 if it is kept.
That of an `input_audio_buffer.append`: index into `flows` ("append", session), `at`, octets and digest, or base64.
Times are written to the microsecond. A file without a footer was cut off: `record` is None then.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import attrs

from aivc.flight.audio import APPEND, append_without
from aivc.flight.entries import FORMAT, Address, Entry, Flight, Header, RealtimeEvent, RtpPacket, Way
from aivc.flight.fields import (
    FORMS,
    KIND_OF,
    KINDS,
    NAMES,
    Wrong,
    address,
    decimal,
    listed,
    mapping,
    moment,
    natural,
    number,
    octets_of,
    one_of,
    or_none,
    port,
    read_fields,
    shown,
    string,
    up_to,
    whole,
)

MAX_FILE_OCTETS: Final = 512 * 2**20  # a day of one call with its audio hashed; more is no recording of one call
MAX_LINE_OCTETS: Final = 32 * 2**20  # the largest event that a Realtime connection lets in is 16 MiB
MAX_ENTRIES: Final = 10_000_000  # a day of RTP both ways
PACKETS_A_LINE: Final = 100  # two seconds of one direction, one of both
MICROSECONDS: Final = 6  # digits of a time: what tells two packets of one system call apart

MEDIA: Final = "media"
FOOTER: Final = "end"
FLAGS: Final = ("-", "m", "v", "mv")
DIGEST: Final = re.compile("[0-9a-f]{16}")
APPENDED: Final = "append"  # the way of a flow of `input_audio_buffer.append` events
PLAIN_APPEND: Final = re.compile(
    re.escape(APPEND) + r'(?:\{"digest":"([0-9a-f]{16})","octets":(0|[1-9][0-9]{0,8})\}'
    r'|"((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==))")\}'
)

RtpFlow = tuple[Way, Address, int, int]  # the peer, the payload type and the SSRC


class BadFlight(ValueError):
    """This is no recording, or a damaged one."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")
        self.line = line
        self.why = why


# Writing


def write(flight: Flight) -> bytes:
    """The whole file."""
    return b"".join(lines(flight.header, flight.entries, lambda: (flight.record, flight.missing, flight.missing_from)))


def lines(
    header: Header, entries: Iterable[Entry], ending: Callable[[], tuple[Mapping[str, Any] | None, int, float | None]]
) -> Iterator[bytes]:
    """The file's lines, each with its line end, one at a time: a long call's file need not be in memory as a whole.

    Args:
      ending: record, `missing` and `missing_from` of `Flight`, asked for when all entries were taken.
    """
    yield line({"aivc_flight": header.format, **fields_of(header, without=("format",))})
    run, count = Run(), 0
    for entry in entries:
        count += 1
        if run.takes(entry):
            if run.is_full:
                yield run.line()
            continue
        if run.packets:
            yield run.line()
        yield entry_line(entry)
    if run.packets:
        yield run.line()
    record, missing, missing_from = ending()
    first = None if missing_from is None else rounded(missing_from)
    yield line({"kind": FOOTER, "entries": count, "missing": missing, "missing_from": first, "record": record})


def entry_line(entry: Entry) -> bytes:
    """The line of one entry that shares it with no other."""
    return line({"kind": KIND_OF[type(entry)], **fields_of(entry)})


def line(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), default=str).encode("ascii") + b"\n"


def rounded(at: float) -> float:
    return round(at, MICROSECONDS)


def fields_of(value: Entry | Header, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Field by field as JSON has it."""
    return {name: plain(getattr(value, name)) for name in NAMES[type(value)] if name not in without}


def plain(value: object) -> object:
    match value:
        case float():
            return rounded(value)
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case Mapping():
            return dict(value)
        case _:
            return value


@attrs.define
class Run:
    """Media in a row, on its way into one line."""

    packets: list[str] = attrs.field(factory=list)
    flows: dict[tuple[Any, ...], int] = attrs.field(factory=dict)

    @property
    def is_full(self) -> bool:
        return len(self.packets) >= PACKETS_A_LINE

    def takes(self, entry: Entry) -> bool:
        """Take it, if it is media."""
        if isinstance(entry, RtpPacket):
            flow: tuple[Any, ...] = (entry.way, *entry.peer, entry.payload_type, entry.ssrc)
            flags = "m" * entry.marker + "v" * entry.is_voiced or "-"
            kept = "" if entry.payload is None else " " + base64.b64encode(entry.payload).decode("ascii")
            rest = f"{entry.sequence} {entry.rtp_timestamp} {entry.octets} {flags} {entry.digest}{kept}"
        elif isinstance(entry, RealtimeEvent) and entry.way == "out" and entry.text.startswith(APPEND):
            found = PLAIN_APPEND.fullmatch(entry.text)
            if found is None:
                return False
            flow, rest = (APPENDED, entry.session), found[3] or f"{found[2]} {found[1]}"
        else:
            return False
        self.packets.append(f"{self.flows.setdefault(flow, len(self.flows))} {rounded(entry.at)} {rest}")
        return True

    def line(self) -> bytes:
        """The line; a new one begins."""
        fields = {"kind": MEDIA, "flows": list(self.flows), "packets": self.packets}
        self.packets, self.flows = [], {}
        return line(fields)


# Reading


def read_untrusted(data: bytes) -> Flight:
    """A recording from a file's octets, whoever wrote them; raises BadFlight."""
    if len(data) > MAX_FILE_OCTETS:
        raise BadFlight(1, f"the file has {len(data)} octets; recordings have at most {MAX_FILE_OCTETS}")
    reading = Reading()
    start, number = 0, 0
    while start < len(data):
        number += 1
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        try:
            reading.take(parsed(data, start, end))
        except Wrong as wrong:
            raise BadFlight(number, str(wrong)) from None
        start = end + 1
    if reading.header is None:
        raise BadFlight(1, "the file is empty")
    return Flight(
        reading.header,
        tuple(reading.entries),
        reading.record,
        missing=reading.missing,
        missing_from=reading.missing_from,
    )


@attrs.define
class Reading:
    """What of a file has been read."""

    header: Header | None = None
    entries: list[Entry] = attrs.field(factory=list)
    record: Mapping[str, Any] | None = None
    missing: int = 0
    missing_from: float | None = None
    is_over: bool = False
    last: float = 0.0

    def take(self, fields: dict[str, Any]) -> None:
        if self.is_over:
            raise Wrong("something follows the footer")
        if self.header is None:
            self.header = read_header(fields)
        elif (kind := fields.get("kind")) == FOOTER:
            self.read_footer(fields)
        elif kind == MEDIA:
            self.append(read_media(fields))
        elif isinstance(kind, str) and kind in KINDS:
            self.append([read_fields(KINDS[kind], fields)])
        else:
            raise Wrong(f"kind {shown(kind)} is none of {MEDIA}, {', '.join(KINDS)}, {FOOTER}")

    def append(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if entry.at < self.last:
                raise Wrong(f"at {entry.at} comes after {self.last}: entries are in the order of their time")
            self.last = entry.at
            self.entries.append(entry)
        if len(self.entries) > MAX_ENTRIES:
            raise Wrong(f"more than {MAX_ENTRIES} entries")

    def read_footer(self, fields: dict[str, Any]) -> None:
        if (count := natural(fields.get("entries"))) != len(self.entries):
            raise Wrong(f"the footer says {count} entries, but {len(self.entries)} were read")
        record = fields.get("record")
        self.record = None if record is None else mapping(record)
        self.missing = natural(fields.get("missing"))
        missing_from = fields.get("missing_from")
        self.missing_from = None if missing_from is None else moment(missing_from)
        self.is_over = True


def parsed(data: bytes, start: int, end: int) -> dict[str, Any]:
    if end - start > MAX_LINE_OCTETS:
        raise Wrong(f"the line has {end - start} octets; {MAX_LINE_OCTETS} are the most")
    try:
        value = json.loads(data[start:end].decode("ascii"), parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        raise Wrong(f"no JSON: {shown(str(error))}") from None
    return mapping(value)


def no_number(text: str) -> object:
    raise ValueError(f"{text} is no JSON")


def read_header(fields: dict[str, Any]) -> Header:
    if "aivc_flight" not in fields:
        raise Wrong('no recording: the first line has no "aivc_flight"')
    if (form := natural(fields["aivc_flight"])) != FORMAT:
        raise Wrong(f"format {form}; this version of aivc reads {FORMAT}")
    return Header(
        version=string(fields.get("version")),
        python=string(fields.get("python")),
        call_id=string(fields.get("call_id")),
        began_at=number(fields.get("began_at")),
        front_end=one_of("sip", "opensips")(fields.get("front_end")),
        session_key=or_none(string)(fields.get("session_key")),
        agent=or_none(string)(fields.get("agent")),
        settings=mapping(fields.get("settings")),
        rtp_port=or_none(port)(fields.get("rtp_port")),
        audio=one_of("hash", "keep")(fields.get("audio")),
        masked=tuple(string(item) for item in listed(fields.get("masked"))),
        random={name: natural(value) for name, value in mapping(fields.get("random")).items()},
    )


def read_media(fields: dict[str, Any]) -> Iterator[Entry]:
    flows = [read_flow(listed(flow)) for flow in listed(fields.get("flows"))]
    for text in listed(fields.get("packets")):
        parts = string(text).split(" ")
        try:
            flow = flows[int(parts[0])] if parts[0].isdecimal() else None
        except (IndexError, ValueError):
            flow = None
        if flow is None:
            raise Wrong(f"{shown(text)} has no flow")
        yield read_append(flow, parts) if isinstance(flow, int) else read_packet(flow, parts)


def read_flow(items: list[Any]) -> RtpFlow | int:
    if len(items) == 2 and items[0] == APPENDED:
        return natural(items[1])
    if len(items) != 5:
        raise Wrong(f"flow {shown(items)} is not way, address, port, payload type, SSRC")
    way, host, number_of_port, payload_type, ssrc = items
    return FORMS["way"](way), address([host, number_of_port]), up_to(127)(payload_type), up_to(2**32 - 1)(ssrc)


def read_append(session: int, parts: list[str]) -> RealtimeEvent:
    at = moment(decimal(parts[1])) if len(parts) in (3, 4) else None
    if at is not None and len(parts) == 3:
        octets_of(parts[2])
        return RealtimeEvent(at, "out", session, f'{APPEND}"{parts[2]}"}}')
    if at is None or not DIGEST.fullmatch(parts[3]):
        raise Wrong(f"{shown(' '.join(parts))} is no append")
    return RealtimeEvent(at, "out", session, append_without(parts[3], up_to(10**9 - 1)(whole(parts[2]))))


def read_packet(flow: RtpFlow, parts: list[str]) -> RtpPacket:
    if len(parts) not in (7, 8):
        raise Wrong(f"packet {shown(' '.join(parts))} has {len(parts)} fields, not 7 or 8")
    _, at, sequence, rtp_timestamp, octets, flags, digest = parts[:7]
    if flags not in FLAGS:
        raise Wrong(f"flags {shown(flags)} are none of {', '.join(FLAGS)}")
    if not DIGEST.fullmatch(digest):
        raise Wrong(f"digest {shown(digest)} is not 16 hexadecimal digits")
    way, peer, payload_type, ssrc = flow
    return RtpPacket(
        at=moment(decimal(at)),
        way=way,
        peer=peer,
        payload_type=payload_type,
        marker="m" in flags,
        sequence=up_to(2**16 - 1)(whole(sequence)),
        rtp_timestamp=up_to(2**32 - 1)(whole(rtp_timestamp)),
        ssrc=ssrc,
        octets=up_to(2**16 - 1)(whole(octets)),
        digest=digest,
        is_voiced="v" in flags,
        payload=octets_of(parts[7]) if len(parts) == 8 else None,
    )
