"""A recording as a file: what is written is read again, and what others have written is refused where it is wrong."""

from __future__ import annotations

import json
from typing import Any, Final

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivc.flight.audio import append_with, append_without, digest_of, with_audio, without_audio
from aivc.flight.entries import (
    Datagram,
    Flight,
    Header,
    MiMessage,
    RealtimeEvent,
    RealtimeLine,
    RtpPacket,
    SipMessage,
    StateChange,
    ToolEntry,
)
from aivc.flight.flightfile import BadFlight, read_untrusted, write

PEER: Final = ("192.0.2.1", 4000)
PACKET: Final = RtpPacket(0.2, "in", PEER, 0, True, 65535, 2**32 - 1, 7, 3, digest_of(b"abc"), True)
HEADER: Final = Header(
    version="aivc/1.0",
    python="3.11.7",
    call_id="call@phone",
    began_at=1_800_000_000.25,
    front_end="opensips",
    session_key="B2B.1.2",
    agent=None,
    settings={"openai": {"model": "gpt-realtime", "speed": 1.0}},
    rtp_port=40_000,
    audio="hash",
    masked=("numbers",),
    random={"ssrc": 1, "sequence": 2},
)
FLIGHT: Final = Flight(
    HEADER,
    (
        SipMessage(0.0, "in", "UDP", PEER, ("2001:db8::1", 5060), "INVITE \udc80é\r\n"),
        StateChange(0.1, "prepared", "sales"),
        PACKET,
        attrs.evolve(PACKET, at=0.21, way="out", marker=False, is_voiced=False, payload=b"abc"),
        RealtimeEvent(0.22, "out", 1, append_without(digest_of(b"abc"), 3)),
        RealtimeEvent(0.22, "out", 2, append_with(b"abc")),
        RealtimeEvent(0.23, "out", 2, '{"type":"input_audio_buffer.append","audio":"abc"}'),
        Datagram(0.3, "in", PEER, True, b"\x80\xc8"),
        RealtimeLine(0.4, 1, "refused", "http_401 final: no"),
        MiMessage(0.5, "out", "command", '{"jsonrpc":"2.0"}'),
        ToolEntry(0.6, "call_1", "add", "returned", "3", "ok"),
    ),
    {"ending": "caller_hung_up", "usage": None},
    missing=3,
    missing_from=0.25,
)
LINES: Final = write(FLIGHT).splitlines(keepends=True)


def test_what_is_written_is_read_again() -> None:
    assert read_untrusted(write(FLIGHT)) == FLIGHT


def test_a_file_is_plain_text_of_one_json_object_a_line() -> None:
    assert write(FLIGHT).isascii()
    kinds = [json.loads(line).get("kind") for line in LINES]
    assert kinds == [None, "sip", "state", "media", "realtime", "datagram", "line", "mi", "tool", "end"]


def test_packets_in_a_row_share_a_line_of_two_seconds_at_most() -> None:
    packets = tuple(attrs.evolve(PACKET, at=index / 50, sequence=index) for index in range(250))
    flight = Flight(HEADER, packets, None)
    assert read_untrusted(write(flight)) == flight
    assert [len(json.loads(line).get("packets", ())) for line in write(flight).splitlines()] == [0, 100, 100, 50, 0]


def test_a_minute_of_a_call_takes_less_than_half_a_mebibyte() -> None:
    entries = tuple(
        entry
        for index in range(3000)
        for entry in (
            attrs.evolve(PACKET, at=index / 50, sequence=index, octets=160, marker=False),
            RealtimeEvent(index / 50, "out", 1, append_without(digest_of(bytes([index % 256])), 160)),
            attrs.evolve(PACKET, at=index / 50 + 0.001, way="out", sequence=index, octets=160, marker=False),
        )
    )
    assert len(write(Flight(HEADER, entries, None))) < 2**19


def test_a_file_that_was_cut_off_has_no_record() -> None:
    assert read_untrusted(b"".join(LINES[:-1])) == attrs.evolve(FLIGHT, record=None, missing=0, missing_from=None)


def changed(number: int, **members: Any) -> bytes:
    """The file with other members in one line, counted from 0; None takes one away."""
    fields = json.loads(LINES[number]) | members
    fields = {name: value for name, value in fields.items() if value is not None}
    return b"".join([*LINES[:number], json.dumps(fields).encode() + b"\n", *LINES[number + 1 :]])


@pytest.mark.parametrize(
    ("data", "line", "why"),
    [
        (b"", 1, "the file is empty"),
        (b"{}\n", 1, 'no recording: the first line has no "aivc_flight"'),
        (b'{"ending": "caller_hung_up"}\n', 1, "no recording"),
        (changed(0, aivc_flight=2), 1, "format 2; this version of aivc reads 1"),
        (changed(0, front_end="isdn"), 1, "'isdn' is none of sip, opensips"),
        (changed(0, rtp_port=65536), 1, "65536 is no whole number from 0 to 65535"),
        (changed(0, settings=[]), 1, "[] is no object"),
        (changed(0, random={"ssrc": "1"}), 1, "'1' is no whole number"),
        (changed(1, kind="fax"), 2, "kind 'fax' is none of media, sip"),
        (changed(1, way="up"), 2, "way: 'up' is none of in, out"),
        (changed(1, peer=["192.0.2.1"]), 2, "peer: ['192.0.2.1'] is not address and port"),
        (changed(1, text=None), 2, "text is missing"),
        (changed(1, at=-1), 2, "at: -1 is no time of a call"),
        (changed(1, at=True), 2, "at: True is no number"),
        (changed(2, at=9.0), 4, "at 0.2 comes after 9.0"),
        (changed(3, packets=["9 0.2 1 2 3 - 0123456789abcdef"]), 4, "has no flow"),
        (changed(3, packets=["\u00b2 0.2 1 2 3 - 0123456789abcdef"]), 4, "has no flow"),
        (changed(3, packets=["0 0.2 1 2 3 - 0123"]), 4, "digest '0123' is not 16 hexadecimal digits"),
        (changed(3, packets=["0 0.2 1 2 3 x 0123456789abcdef"]), 4, "flags 'x' are none of"),
        (changed(3, packets=["0 0.2 70000 2 3 - 0123456789abcdef"]), 4, "70000 is no whole number"),
        (changed(3, packets=["0 0.2 -1 2 3 - 0123456789abcdef"]), 4, "'-1' is no whole number"),
        (changed(3, packets=["0 nan 1 2 3 - 0123456789abcdef"]), 4, "nan is no number"),
        (changed(3, packets=["0 0.2 1"]), 4, "has 3 fields"),
        (changed(3, packets=["0 0.2 1 2 3 - 0123456789abcdef ?"]), 4, "'?' is no base64"),
        (changed(3, packets=["2 0.2 1 2 3"]), 4, "is no append"),
        (changed(3, packets=[5]), 4, "5 is no string"),
        (changed(3, flows=[["in"]]), 4, "is not way, address, port"),
        (changed(5, data="?"), 6, "data: '?' is no base64"),
        (changed(6, what="bent"), 7, "what: 'bent' is none of opening"),
        (changed(9, entries=2), 10, "the footer says 2 entries, but 11 were read"),
        (changed(9, record=[]), 10, "[] is no object"),
        (write(FLIGHT) + LINES[1], 11, "something follows the footer"),
        (LINES[0] + b"\xff\n", 2, "no JSON"),
        (LINES[0] + b"[1]\n", 2, "[1] is no object"),
        (LINES[0] + b'{"at":NaN}\n', 2, "NaN is no JSON"),
        (LINES[0] + b"[" * 100_000, 2, "no JSON"),
        (LINES[0] + b'{"kind":"sip","at":' + b"9" * 5000 + b"}\n", 2, "no JSON"),
        (LINES[0] + b"\n", 2, "no JSON"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(data: bytes, line: int, why: str) -> None:
    with pytest.raises(BadFlight) as refused:
        read_untrusted(data)
    assert (refused.value.line, refused.value.why[: len(why)]) == (line, why) or why in refused.value.why
    assert refused.value.line == line
    assert len(str(refused.value)) < 300


@given(st.binary(max_size=300))
def test_octets_of_anybody_are_a_recording_or_bad(data: bytes) -> None:
    for octets in (data, LINES[0] + data):
        try:
            read_untrusted(octets)
        except BadFlight:
            continue


# Audio in events

AUDIO: Final = bytes(range(256))
BASE64: Final = json.loads(append_with(AUDIO))["audio"]


@pytest.mark.parametrize(
    "text",
    [
        append_with(AUDIO),
        json.dumps({"type": "response.output_audio.delta", "item_id": "a", "delta": BASE64}),
        json.dumps({"type": "response.audio.delta", "delta": BASE64}, separators=(",", ":")),
        json.dumps({"delta": BASE64, "type": "response.output_audio.delta"}).replace("/", "\\/"),
        json.dumps({"type": "conversation.item.create", "item": {"content": [{"audio": BASE64, "x": 1}]}}),
    ],
)
def test_audio_in_an_event_is_replaced_and_put_back(text: str) -> None:
    short = without_audio(text)
    assert BASE64[:20] not in short.replace("\\", "")
    assert f'{{"digest":"{digest_of(AUDIO)}","octets":256}}' in short

    def kept(digest: str, octets: int) -> bytes:
        assert (digest, octets) == (digest_of(AUDIO), 256)
        return AUDIO

    assert json.loads(with_audio(short, kept)) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"type": "response.output_text.delta", "delta": "Good"}),
        json.dumps({"type": "response.output_audio_transcript.delta", "delta": "Good"}),
        json.dumps({"type": "session.update", "session": {"audio": {"input": {}}, "output_modalities": ["audio"]}}),
        json.dumps({"type": "conversation.item.create", "text": 'say "audio":"QUJD"'}),
        json.dumps({"type": "input_audio_buffer.append", "audio": "no base64"}),
        '{"type": "input_audio_buffer.append", "audio": "QUJ"}',
    ],
)
def test_what_is_no_audio_stays_as_it_is(text: str) -> None:
    assert without_audio(text) == text
