from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivc.sip.framing import MAX_HEAD_OCTETS, Broken, Frame, Ping, StreamFramer
from aivc.sip.message import MAX_MESSAGE_OCTETS, parse_untrusted


def message(body: bytes = b"", *lines: str, start: str = "OPTIONS sip:a@b SIP/2.0", length: str | None = None) -> bytes:
    headers = [
        start,
        "Via: SIP/2.0/TCP 192.0.2.10;branch=z9hG4bK1",
        "From: <sip:a@b>;tag=1",
        "To: <sip:a@b>",
        "Call-ID: 1",
        "CSeq: 1 OPTIONS",
        *lines,
        f"Content-Length: {len(body)}" if length is None else length,
    ]
    return "\r\n".join(line for line in headers if line).encode() + b"\r\n\r\n" + body


def feed_all(data: bytes, size: int | None = None) -> list[Frame]:
    """All frames of a stream that comes in pieces of that size."""
    framer, step = StreamFramer(), size or max(1, len(data))
    return [frame for at in range(0, len(data), step) for frame in framer.feed(data[at : at + step])]


def fault(data: bytes) -> Broken:
    *_, last = feed_all(data)
    assert isinstance(last, Broken)
    assert [str(frame) for frame in feed_all(data, 1)] == [str(frame) for frame in feed_all(data)]
    return last


@pytest.mark.parametrize("size", [None, 1, 2, 3, 7, 100])
def test_messages_come_out_whole_however_the_stream_is_cut(size: int | None) -> None:
    first, second = message(b"v=0\r\n\r\nbody"), message()
    assert feed_all(first + b"\r\n" + second + second, size) == [first, second, second]


def test_a_message_is_complete_with_its_last_octet_and_not_before() -> None:
    framer, data = StreamFramer(), message(b"abc")
    assert framer.feed(data[:-1]) == []
    assert framer.is_inside
    assert framer.feed(data[-1:]) == [data]
    assert not framer.is_inside


@pytest.mark.parametrize(
    "length", ["l: 3", "L:3", "content-length \t: 3", "Content-Length:\r\n 3", "Content-Length: 003"]
)
def test_the_length_is_read_in_all_its_spellings(length: str) -> None:
    first = message(b"abc", length=length)
    assert feed_all(first + message()) == [first, message()]
    assert parse_untrusted(first).body == b"abc"


def test_line_ends_before_a_message_are_no_part_of_it() -> None:
    assert feed_all(b"\r\n" + message(), 1) == [message()]
    assert feed_all(b"\r\n\0\r\n" + message(), 1) == [message()]


def test_each_double_line_end_between_messages_is_a_ping() -> None:
    assert feed_all(b"\r\n\r\n") == [Ping()]
    assert feed_all(b"\r\n" * 5 + message() + b"\r\n\r\n", 1) == [Ping(), Ping(), message(), Ping()]


def test_a_pong_alone_is_nothing_and_begins_no_message() -> None:
    framer = StreamFramer()
    assert framer.feed(b"\r\n") == []
    assert not framer.is_inside


@pytest.mark.parametrize(
    ("length", "status", "reason"),
    [
        ("", 400, "Missing Content-Length"),
        ("Content-Length: 0\r\nl: 0", 400, "Repeated Content-Length"),
        ("Content-Length: -1", 400, "Content-Length is no number"),
        ("Content-Length: +1", 400, "Content-Length is no number"),
        ("Content-Length: 1e3", 400, "Content-Length is no number"),
        ("Content-Length: \xb2", 400, "Content-Length is no number"),
        ("Content-Length:", 400, "Content-Length is no number"),
        ("Content-Length: 65536", 513, "Message Too Large"),
        (f"Content-Length: {MAX_MESSAGE_OCTETS}", 513, "Message Too Large"),
        ("Content-Length: " + "9" * 5000, 513, "Message Too Large"),
    ],
)
def test_a_length_that_cannot_be_followed_ends_the_stream(length: str, status: int, reason: str) -> None:
    broken = fault(message(length=length) + message())
    assert (broken.status, broken.reason) == (status, reason)
    assert broken.headers is not None
    assert broken.headers.get("Call-ID") == "1"


def test_messages_before_the_fault_are_served_and_none_after_it() -> None:
    frames = feed_all(message() + message(length="") + message())
    assert frames[0] == message()
    assert isinstance(frames[1], Broken)
    assert len(frames) == 2
    framer = StreamFramer()
    assert framer.feed(message(length=""))
    assert framer.feed(message()) == []
    assert not framer.is_inside


def test_the_largest_message_comes_through_and_one_octet_more_does_not() -> None:
    room = MAX_MESSAGE_OCTETS - len(message(length="Content-Length: 65000"))
    largest = message(bytes(room))
    assert feed_all(largest, 10_000) == [largest]
    assert fault(message(bytes(room + 1))).status == 513


def test_headers_without_end_are_too_large() -> None:
    endless = message().split(b"\r\n\r\n")[0] + b"\r\nX: " + b"y" * MAX_HEAD_OCTETS
    assert fault(endless).status == 513
    framer = StreamFramer()
    assert framer.feed(endless[: MAX_HEAD_OCTETS - 1]) == []


def test_more_headers_than_are_read_end_the_stream_when_the_length_is_among_the_rest() -> None:
    assert fault(message(b"", *["X: 1"] * 100)).reason == "Missing Content-Length"


@pytest.mark.parametrize("start", ["ACK sip:a@b SIP/2.0", "SIP/2.0 200 OK"])
def test_a_fault_in_what_is_never_answered_has_no_headers_for_an_answer(start: str) -> None:
    assert fault(message(start=start, length="")).headers is None
    assert fault(message(b"", "X: " + "y" * MAX_HEAD_OCTETS, start=start)).headers is None


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01",  # TLS
        bytes.fromhex("000100002112a442") + bytes(12),  # STUN
        b"\x80\0" + bytes(170),  # RTP
        b"GET / HTTP/1.1\r\n",
        b"HELO example.com\r\n",
        b" OPTIONS sip:a SIP/2.0\r\n",
        b"OPTIONS sip:a\nVia: x SIP/2.0\r\n",
        b"A" * 9000,
    ],
)
def test_what_is_no_sip_is_known_by_its_first_line(data: bytes) -> None:
    broken = fault(data)
    assert not broken.is_sip
    assert broken.headers is None


def test_another_version_is_still_a_message_to_be_answered() -> None:
    assert feed_all(message(start="OPTIONS sip:a@b SIP/7.0")) == [message(start="OPTIONS sip:a@b SIP/7.0")]


PIECES = st.sampled_from(
    [
        b"\r\n",
        b"\r",
        b"\n",
        b"\0",
        b"\r\n\r\n",
        message(),
        message(b"\r\n\r\nabc"),
        message(length=""),
        b"SIP/2.0 200 OK",
        b"OPTIONS sip:a@b SIP/2.0\r\n",
        b"l: 3\r\n\r\n",
        b"l: -3\r\n\r\n",
        b"abc",
        b"\x80",
        b"X:" + b"y" * 9000,
    ]
)


@given(st.lists(PIECES | st.binary(max_size=4), max_size=8).map(b"".join), st.data())
def test_it_makes_no_difference_where_a_stream_is_cut(stream: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(stream)))
    framer = StreamFramer()
    assert framer.feed(stream[:cut]) + framer.feed(stream[cut:]) == feed_all(stream) == feed_all(stream, 5)


@given(st.binary(max_size=300))
def test_no_octets_do_any_harm(data: bytes) -> None:
    feed_all(data, 1)


def test_time_grows_with_the_octets_and_not_faster() -> None:
    head = b"OPTIONS sip:a@b SIP/2.0\r\nX: " + b"\r\n\r" * 10_900
    for data in (head, message(bytes(32_000)), b"\r\n" * 16_000):
        started = time.perf_counter()
        feed_all(data, 1)
        assert time.perf_counter() - started < 0.4  # 0.03 s; searching all of the head again each time takes 0.8 s
