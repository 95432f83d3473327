from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aivc.sip.message import (
    MAX_HEADERS,
    MAX_LINE_OCTETS,
    Headers,
    NotSipError,
    ParseError,
    Request,
    Response,
    answer_to,
    parse_untrusted,
)

DATA = Path(os.environ.get("AIVC_TEST_DATA", "/nonexistent"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="AIVC_TEST_DATA names no folder of test messages")

OPTIONS = (
    b"OPTIONS sip:100@192.0.2.1 SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK1\r\n"
    b"From: <sip:a@192.0.2.10>;tag=1\r\n"
    b"To: <sip:100@192.0.2.1>\r\n"
    b"Call-ID: one\r\n"
    b"CSeq: 1 OPTIONS\r\n"
)
END = b"Content-Length: 0\r\n\r\n"


def torture() -> list[tuple[str, dict[str, Any]]]:
    folders = [folder for folder in ("rfc4475", "rfc5118") if (DATA / folder / "manifest.json").is_file()]
    return [(name, entry) for name in folders for entry in json.loads((DATA / name / "manifest.json").read_text())]


def read(folder: str, entry: dict[str, Any]) -> bytes:
    return (DATA / folder / str(entry["file"])).read_bytes()


@needs_data
@pytest.mark.parametrize(
    ("folder", "entry"), torture(), ids=lambda value: value["file"] if isinstance(value, dict) else value
)
def test_each_torture_message_is_read_or_refused_as_the_rfc_says(folder: str, entry: dict[str, Any]) -> None:
    outcome = read_or_refuse(read(folder, entry))
    if isinstance(outcome, ParseError):
        is_request = entry["uas"] != [0]
        assert entry["parser"] in ("reject", "either"), outcome
        assert (outcome.headers is not None) == is_request
        assert not is_request or outcome.status in entry["uas"]
        return
    message = outcome
    assert entry["parser"] in ("accept", "either")
    assert parse_untrusted(bytes(message)) == message
    checks = entry.get("checks", {})
    for name, got in seen(message).items():
        if name in checks:
            assert got == checks[name], name


def read_or_refuse(data: bytes) -> Request | Response | ParseError:
    try:
        return parse_untrusted(data)
    except ParseError as error:
        return error


def seen(message: Request | Response) -> dict[str, object]:
    via = message.via
    values: dict[str, object] = {
        "call_id": message.call_id,
        "cseq": message.cseq.number,
        "max_forwards": int(message.headers.get("Max-Forwards") or -1),
        "via_count": len(message.headers.items("Via")),
        "via_host": via.host,
        "received": via.received,
        "to_tag": message.to.tag,
        "from_tag": message.sender.tag,
        "body_len": len(message.body),
        "contact_count": len(message.headers.items("Contact")),
    }
    if isinstance(message, Response):
        return {**values, "code": message.status}
    uri = message.uri
    return {
        **values,
        "method": message.method,
        "ruri_host": getattr(uri, "host", None),
        "ruri_port": getattr(uri, "port", None),
    }


@needs_data
def test_a_start_line_without_a_version_and_a_header_without_a_colon_are_no_sip() -> None:
    with pytest.raises(NotSipError):
        parse_untrusted((DATA / "rfc4475" / "extra-test.dat").read_bytes())


def test_compact_names_folding_odd_case_and_space_before_the_colon_are_undone() -> None:
    message = parse_untrusted(
        b"OPTIONS sip:a@b SIP/2.0\r\nv : SIP/2.0/UDP h;branch=1,\r\n\tSIP/2.0/UDP i\r\n"
        b"F:<sip:a@b>;tag=1\r\nTO\t:\r\n sip:c@d\r\n"
        b"i:x\r\ncSEQ: 1\r\n OPTIONS\r\nk: timer ,, 100rel\r\n\r\n"
    )
    assert isinstance(message, Request)
    assert message.headers.items("via") == ["SIP/2.0/UDP h;branch=1", "SIP/2.0/UDP i"]
    assert message.headers.get("To") == "sip:c@d"
    assert message.headers.items("Supported") == ["timer", "100rel"]
    assert message.cseq.method == "OPTIONS"


def test_octets_of_any_alphabet_go_out_as_they_came() -> None:
    subject = "Subject: \u0440\u0430\u0431\u043e\u0442\u0430".encode() + b" \xff\x80\r\n"
    data = OPTIONS + subject + END
    assert bytes(parse_untrusted(data)) == data


def test_the_datagram_ends_a_body_without_a_length_and_the_length_cuts_noise_off() -> None:
    assert parse_untrusted(OPTIONS + b"\r\nbody").body == b"body"
    assert parse_untrusted(OPTIONS + b"l: 2\r\n\r\nbody").body == b"bo"


@pytest.mark.parametrize("length", [b"5", b"-1", b"", b"x", b"1e1", b"99999999999999999999"])
def test_a_length_beyond_the_datagram_or_no_number_is_refused_with_400(length: bytes) -> None:
    with pytest.raises(ParseError) as caught:
        parse_untrusted(OPTIONS + b"Content-Length: " + length + b"\r\n\r\nbody")
    assert caught.value.status == 400
    assert caught.value.headers is not None
    assert caught.value.headers.get("Call-ID") == "one"


@pytest.mark.parametrize("name", [b"Via", b"From", b"To", b"Call-ID", b"CSeq"])
def test_a_missing_mandatory_header_is_refused_and_named(name: bytes) -> None:
    lines = [line for line in OPTIONS.split(b"\r\n") if not line.startswith(name + b":")]
    with pytest.raises(ParseError, match=f"Missing {name.decode()}"):
        parse_untrusted(b"\r\n".join(lines) + END)


@pytest.mark.parametrize("line", [b"From: <sip:x@y>;tag=2", b"To: <sip:x@y>", b"Call-ID: two", b"CSeq: 2 OPTIONS"])
def test_a_second_copy_of_a_single_header_is_refused(line: bytes) -> None:
    with pytest.raises(ParseError, match="Repeated"):
        parse_untrusted(OPTIONS + line + b"\r\n" + END)


@pytest.mark.parametrize(
    "line",
    [
        b"No colon",
        b": no name",
        b"Bad name: x",
        b"X: a\nY: b",
        b"X: a\rY: b",
        b"X: a\0b",
        b"X: " + b"y" * MAX_LINE_OCTETS,
    ],
)
def test_a_broken_header_line_is_refused_and_left_out_of_what_may_be_echoed(line: bytes) -> None:
    with pytest.raises(ParseError, match="Bad header line") as caught:
        parse_untrusted(OPTIONS + line + b"\r\n" + END)
    assert caught.value.headers is not None
    assert len(caught.value.headers.fields) == 6


def test_too_many_headers_are_refused() -> None:
    with pytest.raises(ParseError, match="Too many"):
        parse_untrusted(OPTIONS + b"X: y\r\n" * MAX_HEADERS + END)


def test_another_version_is_505_and_another_protocol_is_no_sip() -> None:
    with pytest.raises(ParseError) as caught:
        parse_untrusted(OPTIONS.replace(b"SIP/2.0\r\n", b"SIP/7.0\r\n", 1) + END)
    assert caught.value.status == 505
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0", b"\x80\0" * 30, b"x" * 60_000, b"INVITE", b" "):
        with pytest.raises(NotSipError):
            parse_untrusted(data)


def test_a_broken_ack_or_response_must_not_be_answered() -> None:
    for data in (
        OPTIONS.replace(b"OPTIONS", b"ACK").replace(b"To", b"X") + END,
        b"SIP/2.0 200 OK\r\n\r\n",
        b"SIP/2.0 999 X\r\n\r\n",
    ):
        with pytest.raises(ParseError) as caught:
            parse_untrusted(data)
        assert caught.value.headers is None


def test_the_method_of_cseq_must_be_that_of_the_request() -> None:
    with pytest.raises(ParseError, match="CSeq of another method"):
        parse_untrusted(OPTIONS.replace(b"1 OPTIONS", b"1 INVITE") + END)


@pytest.mark.parametrize("value", ["a\r\nVia: x", "a\nb", "a\rb", "a\0b"])
def test_a_line_break_never_goes_out(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        bytes(Response(status=200, reason="OK", headers=Headers((("Subject", value),))))
    with pytest.raises(ValueError, match="line break"):
        bytes(Request(method="BYE", target=f"sip:{value}", headers=Headers()))


def test_a_response_copies_what_it_must_in_order_and_adds_its_tag_once() -> None:
    request = parse_untrusted(OPTIONS.replace(b"Via:", b"Via: SIP/2.0/UDP p;branch=2\r\nv:") + END)
    response = answer_to(request.headers, 404, tag="mine", extra=[("X", "y")])
    assert response.reason == "Not Found"
    assert [name for name, _ in response.headers] == ["Via", "Via", "From", "To", "Call-ID", "CSeq", "X"]
    assert response.to.tag == "mine"
    assert answer_to(response.headers, 404, tag="other").to.tag == "mine"


def test_only_a_100_repeats_the_timestamp() -> None:
    request = parse_untrusted(OPTIONS + b"Timestamp: 54\r\n" + END)
    assert answer_to(request.headers, 100).headers.get("Timestamp") == "54"
    assert answer_to(request.headers, 200).headers.get("Timestamp") is None


def check_round_trip(data: bytes) -> None:
    message = read_or_refuse(data)
    if not isinstance(message, ParseError):
        assert parse_untrusted(bytes(message)) == message


PIECES = [
    OPTIONS,
    OPTIONS[:60],
    END,
    b"\r\n",
    b"\r\n ",
    b"Via: ",
    b"SIP/2.0/UDP h",
    b"SIP/2.0 200 OK\r\n",
    b"To: ",
    b"<sip:a@b>",
    b"Content-Length: 3\r\n",
    b'"',
    b"\0",
    b"\xff",
    b",",
    b";",
    b"CSeq: 1 OPTIONS\r\n",
]


@settings(max_examples=300)
@given(st.binary() | st.lists(st.sampled_from(PIECES)).map(b"".join))
def test_any_datagram_is_read_or_refused_and_what_is_read_round_trips(data: bytes) -> None:
    check_round_trip(data)


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_message_is_read_or_refused_and_what_is_read_round_trips(data: st.DataObject) -> None:
    octets = bytearray(OPTIONS + b'Contact: "A \\" B" <sip:a@[::1]:5;x=%41>;q=1\r\n' + b"Content-Length: 4\r\n\r\nbody")
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(octets) - 1))
        octets[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    check_round_trip(bytes(octets))
