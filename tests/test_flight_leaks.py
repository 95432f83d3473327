"""Where else a number, a secret or a word may stand; and that masking hostile messages holds up nobody."""

from __future__ import annotations

import json
import time
from typing import Final

import pytest

from aivc.flight.entries import Header, MiMessage, SipMessage, StateChange
from aivc.flight.flightfile import read_untrusted
from aivc.flight.masking import Masking
from aivc.flight.pseudonyms import Pseudonyms
from aivc.flight.recording import Recording
from aivc.flight.tape import Tape

PEER: Final = ("192.0.2.1", 5060)
LARGE: Final = 64_000  # octets: a datagram


def masking(*learned: str) -> Masking:
    made = Masking(("numbers", "transcripts"), (), Pseudonyms(b"k" * 32))
    for text in learned:
        made.learn(SipMessage(0.0, "in", "UDP", PEER, PEER, text))
    return made


def message(field: str, body: str = "") -> str:
    return f"INVITE sip:a@h SIP/2.0\r\n{field}\r\n\r\n{body}"


@pytest.mark.parametrize(
    ("field", "hidden"),
    [
        ("X-Session: Bearer abcdefghijk", "abcdefghijk"),
        ("X-Session: sk-abcdefghijk", "abcdefghijk"),
        ('Authentication-Info: rspauth="6629fae49393a05397450978507c4ef1"', "6629fae4"),
        ("Identity: eyJhbGci.eyJvcmlnIjp7InRuIjoi.sig\r\n ;info=<https://c>", "eyJvcmln"),
        ("y: eyJhbGci.eyJvcmlnIjp7InRuIjoi.sig", "eyJvcmln"),
        ("P-Asserted-Identity: Alice Smith <sip:a@h>, Bob Jones <sip:b@h>", "Jones"),
        ("From:\r\n Alice Smith <sip:a@h>;tag=1", "Smith"),
        ("P-Called-Party-ID: Alice Smith <sip:a@h>", "Smith"),
        ("Reply-To: Alice Smith <sip:a@h>", "Smith"),
        ('From: "Alice Smith" sip:a@h', "Smith"),
    ],
)
def test_a_header_field_tells_neither_secrets_nor_who_it_is(field: str, hidden: str) -> None:
    text = message(field)
    masked = masking(text).sip(text)
    assert hidden not in masked
    assert masked.startswith("INVITE sip:")
    assert masked.endswith("@h SIP/2.0\r\n" + masked.partition("\r\n")[2])


@pytest.mark.parametrize(
    ("line", "hidden"),
    [
        ("o=alice 1 1 IN IP4 192.0.2.1", "alice"),
        ("e=alice@example.com (Alice Smith)", "Smith"),
        ("p=+49 30 1234567", "1234567"),
        ("a=ice-pwd:asd88fgpdd777uzjYhagZg", "asd88"),
        ("a=key-mgmt:mikey AQAFgM0XflABAAAAA", "AQAFgM"),
    ],
)
def test_a_session_description_tells_nobody_and_keeps_its_length(line: str, hidden: str) -> None:
    text = message("From: <sip:a@h>", f"v=0\r\n{line}\r\n")
    masked = masking(text).sip(text)
    assert hidden not in masked
    assert len(masked.partition("\r\n\r\n")[2]) == len(text.partition("\r\n\r\n")[2])


@pytest.mark.parametrize(
    ("params", "hidden"),
    [
        ({"headers": "Content-Type: application/dtmf\r\n", "body": "5"}, '"5"'),
        ({"body": "Signal=5\nDuration=160"}, "Signal=5"),
        ({"body": "v=0\na=crypto:1 X inline:abcdefghijkl\n"}, "abcdefghijkl"),
        ({"extra_headers": "X-Secret: hush-hush"}, "hush-hush"),
    ],
)
def test_what_opensips_tells_of_a_message_is_masked_like_the_message(params: dict[str, str], hidden: str) -> None:
    entry = masking().entry(MiMessage(0.0, "in", "event", json.dumps({"params": params})))
    assert isinstance(entry, MiMessage)
    assert hidden not in entry.text


@pytest.mark.parametrize(
    ("event", "hidden"),
    [
        ({"session": {"tools": [{"type": "mcp", "server_url": "https://u:pw@example.com/x?key=kkkk"}]}}, "kkkk"),
        ({"session": {"tools": [{"type": "mcp", "server_url": "https://u:pw@example.com/x?key=kkkk"}]}}, "u:pw"),
        ({"session": {"tools": [{"type": "mcp", "headers": {"X-Key": "hhhhhh"}}]}}, "hhhhhh"),
        ({"item": {"type": "mcp_call", "error": {"type": "http", "message": "no dog Rex"}}}, "Rex"),
        ({"part": {"refusal": "I will not find Rex"}}, "Rex"),
        ({"error": {"message": "Incorrect API key provided: sk-proj-****abcd."}}, "abcd"),
    ],
)
def test_an_event_tells_neither_the_way_into_a_server_nor_what_was_said(event: dict[str, object], hidden: str) -> None:
    masked = masking().event(json.dumps(event))
    assert hidden not in masked
    assert json.loads(masked).keys() == event.keys()


def test_the_exception_of_a_tool_may_quote_what_it_was_given() -> None:
    mask = masking()
    hidden = mask.entry(StateChange(0.0, "error", "tool.failed: KeyError: 'Rex'"))
    assert hidden == StateChange(0.0, "error", "tool.failed: KeyError: *****")
    ours = StateChange(0.0, "error", "call.bug: LookupError: shelf")
    assert mask.entry(ours) == ours


@pytest.mark.parametrize("piece", ["sip:", "sip:a:", '"\\', '"a', "tel:", ":", ", ", "1", 'sip:",', "sip:a,"])
def test_a_large_hostile_message_takes_no_longer_than_a_harmless_one(piece: str) -> None:
    def seconds(text: str) -> float:
        began = time.thread_time()
        masking(text).sip(text)
        return time.thread_time() - began

    harmless = seconds(("x" * 76 + "\r\n") * (LARGE // 78))
    assert min(seconds(piece * (LARGE // len(piece))) for _ in range(3)) < 10 * harmless + 0.02


def test_the_name_that_was_dialled_is_in_the_record_what_it_is_in_the_messages() -> None:
    tape = Tape("call", 0.0, 2**16)
    tape.note(SipMessage(0.0, "in", "UDP", PEER, PEER, "INVITE sip:support@h SIP/2.0\r\n\r\n"))
    header = Header("1", "3", "call", 0.0, "sip", None, None, {}, None, "hash", ("numbers",))
    flight = read_untrusted(b"".join(Recording.of(tape, header, {"dialled": "support"}, masking()).lines()))
    (first,) = flight.entries
    assert flight.record is not None
    assert "support" not in repr(flight)
    assert isinstance(first, SipMessage)
    assert first.text == f"INVITE sip:{flight.record['dialled']}@h SIP/2.0\r\n\r\n"


def test_numbers_without_end_are_masked_in_a_time_like_their_number() -> None:
    def seconds(count: int) -> float:
        text = "".join(f"X: <sip:{10**9 + 7919 * index}@h>\r\n" for index in range(count))
        began = time.thread_time()
        masking(text).sip(text)
        return time.thread_time() - began

    assert min(seconds(4000) for _ in range(2)) < 10 * min(seconds(1000) for _ in range(2))
