from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paper_stream import EVENTS, SILENCE, VOICE, Paper, datagram, paper_stream

from aivc.config.settings import RtpSettings
from aivc.media.dtmf import END, KEYS, MOST_DIGITS, EventReader
from aivc.media.rtp import Packet, parse_untrusted
from aivc.media.stream import NoTelephoneEvent

Event = tuple[int, bytes, bool]  # RTP timestamp, payload, marker


def payload(key: str, duration: int, end: bool = False) -> bytes:
    """RFC 4733 section 2.3: event, E R volume, duration."""
    return struct.pack("!BBH", "0123456789*#ABCD".index(key), (0x80 if end else 0) | 10, duration)


def press(key: str, at: int, slots: int = 8) -> list[Event]:
    """The packets of one press, as telephones send them."""
    updates = [(at, payload(key, 160 * n), n == 1) for n in range(1, slots)]
    return [*updates, *[(at, payload(key, 160 * slots, end=True), False)] * 3]


def keys_of(events: list[Event], reader: EventReader | None = None, start: float = 0.0) -> str:
    reader = reader or EventReader()
    told = [reader.feed(1, *event, start + 0.02 * n) for n, event in enumerate(events)]
    return "".join(key or "" for key in told)


# reading


@pytest.mark.parametrize("key", KEYS)
def test_each_key_is_told_once(key: str) -> None:
    assert keys_of(press(key, 1000)) == key


def test_a_key_is_told_with_its_first_packet() -> None:
    reader = EventReader()
    assert reader.feed(1, 1000, payload("5", 160), True, 0.0) == "5"


def test_one_key_pressed_twice_is_told_twice() -> None:
    assert keys_of(press("5", 1000) + press("5", 1000 + 160 * 12)) == "55"


@given(st.text("0123456789*#ABCD", min_size=1, max_size=12), st.integers(0, 2**32 - 1), st.data())
def test_each_press_is_told_once_whatever_is_lost_or_repeated_as_long_as_one_packet_comes(
    keys: str, first: int, data: st.DataObject
) -> None:
    events: list[Event] = []
    for n, key in enumerate(keys):
        sent = press(key, (first + 160 * 12 * n) & 0xFFFFFFFF)
        came = data.draw(st.lists(st.integers(0, len(sent) - 1), min_size=1, max_size=15))
        marker_lost = data.draw(st.booleans())
        for index in sorted(came):
            at, octets, marker = sent[index]
            events.append((at, octets, marker and not marker_lost))
    assert keys_of(events) == keys


def test_packets_of_the_press_before_that_come_late_are_not_told() -> None:
    one, two = press("1", 0xFFFFFF00), press("2", 0x00000700)
    assert keys_of([*one[:8], two[0], one[8], one[9], *two[1:], one[0]]) == "12"


def test_a_key_held_for_longer_than_a_segment_is_told_once() -> None:
    """RFC 4733 section 2.5.1.3: 0xFFFF timestamp units, no end bit, and a new timestamp without a marker."""
    start, events = 5000, []
    for segment in range(3):
        at = start + 0xFFFF * segment
        events += [(at, payload("7", n), segment == 0 and n == 160) for n in range(160, 0x10000, 160)]
        events += [(at, payload("7", 0xFFFF), False)] * 3
    events += press("7", start + 3 * 0xFFFF)[3:]
    assert keys_of(events) == "7"


def test_a_key_whose_packets_stop_for_a_while_is_not_told_again() -> None:
    reader = EventReader()
    assert keys_of(press("4", 1000)[:3], reader) == "4"
    assert keys_of(press("4", 1000)[3:], reader, start=10.0) == ""


def test_a_gateway_that_moves_the_timestamp_with_each_packet_presses_once() -> None:
    moving = [(1000 + 160 * n, octets, False) for n, (_, octets, _) in enumerate(press("6", 0))]
    later = [(at + 16000, octets, marker) for at, octets, marker in moving]
    assert keys_of(moving + later) == "66"


def test_timestamps_that_went_back_are_another_clock_when_no_event_came_for_seconds() -> None:
    reader = EventReader()
    assert keys_of(press("1", 1_000_000), reader) == "1"
    assert keys_of(press("2", 1000), reader, start=0.3) == ""
    assert keys_of(press("3", 500), reader, start=5.0) == "3"


def test_another_source_has_its_own_timestamps() -> None:
    reader = EventReader()
    assert reader.feed(1, 1_000_000, payload("1", 160), True, 0.0) == "1"
    assert reader.feed(2, 1000, payload("2", 160), True, 0.02) == "2"
    assert reader.feed(2, 1000, payload("2", 320), False, 0.04) is None


def test_what_is_no_key_is_ignored_and_counted() -> None:
    reader = EventReader()
    assert reader.feed(1, 1000, b"\x10\x0a\x00\xa0", True, 0.0) is None  # flash
    assert reader.feed(1, 1000, b"\xff\x0a\x00\xa0", True, 0.0) is None
    assert reader.feed(1, 1000, b"\x05\x0a\x00", True, 0.0) is None
    assert reader.ignored == 3
    assert reader.feed(1, 1000, payload("5", 160), True, 0.0) == "5"


def test_only_the_first_four_octets_are_read() -> None:
    assert EventReader().feed(1, 1000, payload("5", 160) + payload("6", 160), True, 0.0) == "5"


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=12), st.booleans()), max_size=30))
def test_any_payload_is_borne(events: list[Event]) -> None:
    assert set(keys_of(events)) <= set(KEYS)


def test_the_stream_tells_keys_and_never_hears_them_as_audio() -> None:
    paper = paper_stream()
    paper.come(datagram(1), 0.0)
    for n, (at, octets, marker) in enumerate(press("#", 320)):
        paper.come(datagram(2 + n, octets, EVENTS, rtp_timestamp=at, marker=marker), 0.02 + 0.02 * n)
    paper.come(datagram(12, b"\x10\x0a\x00\xa0", EVENTS), 0.3)
    assert paper.pressed == ["#"]
    assert paper.heard() == VOICE
    counters = paper.stream.statistics()
    assert (counters.digits, counters.other_payload, counters.received) == (1, 1, 12)


def test_events_of_a_type_that_was_not_agreed_are_not_told_until_a_re_invite_agrees_on_it() -> None:
    paper = paper_stream(telephone_event=None)
    paper.come(datagram(1, payload("1", 160), 96), 0.0)
    paper.stream.telephone_event = 96
    paper.come(datagram(2, payload("2", 160), 96), 0.02)
    assert paper.pressed == ["2"]
    assert paper.stream.statistics().other_payload == 1


# sending


def events_in(packets: list[Packet]) -> Iterator[tuple[str, int, list[Packet]]]:
    """Key, final duration in ms and packets of each event, as a receiver would see them."""
    events = [packet for packet in packets if packet.payload_type == EVENTS]
    for _, group in itertools.groupby(events, key=lambda packet: packet.rtp_timestamp):
        run = list(group)
        yield "0123456789*#ABCD"[run[0].payload[0]], struct.unpack_from("!H", run[-1].payload, 2)[0] // 8, run


def sent_digits(digits: str, tone_ms: int = 160, gap_ms: int = 80) -> Paper:
    paper = paper_stream(RtpSettings(probe_seconds=0.0))
    paper.run(0.1)
    over = paper.stream.send_digits(digits, tone_ms, gap_ms)
    slots = math.ceil(tone_ms / 20) + math.ceil(gap_ms / 20)
    paper.run(0.1 + 0.02 * slots * len(digits))
    assert not over.is_set()
    paper.run(paper.stream.pacer.due + 0.02)
    assert over.is_set()
    paper.run(paper.stream.pacer.due + 0.2)
    return paper


@pytest.mark.parametrize(("tone_ms", "gap_ms"), [(160, 80), (40, 40), (100, 60), (2000, 2000)])
def test_digits_leave_as_events_of_their_duration_and_with_three_ends(tone_ms: int, gap_ms: int) -> None:
    packets = sent_digits("19*#AD", tone_ms, gap_ms).sent
    assert [packet.payload_type for packet in packets[:5]] == [0] * 5
    assert [(key, ms) for key, ms, _ in events_in(packets)] == [(key, tone_ms) for key in "19*#AD"]
    for _, _, run in events_in(packets):
        durations = [struct.unpack_from("!H", packet.payload, 2)[0] for packet in run]
        assert durations == [*range(160, tone_ms * 8, 160), *[tone_ms * 8] * 3]
        assert [packet.payload[1] for packet in run] == [10] * (len(run) - 3) + [0x80 | 10] * 3
        assert [packet.marker for packet in run] == [True] + [False] * (len(run) - 1)


def test_rtp_time_goes_on_under_the_events_and_no_sequence_number_is_left_out() -> None:
    packets = sent_digits("12").sent
    assert [packet.sequence for packet in packets] == [(65530 + n) & 0xFFFF for n in range(len(packets))]
    audio = {n: packet.rtp_timestamp for n, packet in enumerate(packets) if packet.payload_type == 0}
    assert all(rtp_timestamp == 160 * n for n, rtp_timestamp in audio.items())
    starts = [(packets.index(run[0]), run[0].rtp_timestamp) for _, _, run in events_in(packets)]
    assert starts == [(5, 5 * 160), (17, 17 * 160)]
    assert not any(packet.marker for packet in packets[1:] if packet.payload_type == 0)


def test_a_tone_lasts_to_the_millisecond_and_the_next_begins_on_a_packet() -> None:
    packets = sent_digits("12", tone_ms=50, gap_ms=60).sent
    assert [(key, ms) for key, ms, _ in events_in(packets)] == [("1", 50), ("2", 50)]


def test_the_models_words_wait_for_the_digits_and_none_of_them_is_lost() -> None:
    paper = paper_stream()
    paper.stream.playout.push("r", "a", VOICE * 20)
    paper.run(0.1)
    paper.stream.send_digits("1", 160, 80)
    paper.run(1.0)
    assert [packet.payload == VOICE for packet in paper.sent] == [True] * 5 + [False] * 12 + [True] * 15 + [False] * 18
    assert paper.sent[15].payload == paper.sent[16].payload == SILENCE  # the end of the gap


def test_digits_follow_those_that_still_wait() -> None:
    paper = paper_stream()
    first, second = paper.stream.send_digits("12", 40, 40), paper.stream.send_digits("3", 40, 40)
    paper.run(0.17)
    assert (first.is_set(), second.is_set()) == (True, False)
    paper.run(0.26)
    assert second.is_set()
    assert [key for key, _, _ in events_in(paper.sent)] == ["1", "2", "3"]


def test_digits_wait_while_the_caller_holds_us() -> None:
    paper = paper_stream()
    paper.stream.may_send = False
    over = paper.stream.send_digits("1", 160, 80)
    paper.run(1.0)
    assert (paper.sent, over.is_set()) == ([], False)
    paper.stream.may_send = True
    paper.run(1.3)
    assert over.is_set()
    ((_, ms, run),) = events_in(paper.sent)
    assert (ms, run[0].rtp_timestamp, len(run)) == (160, 8000, 10)


def test_the_time_of_an_event_stays_when_we_stall_in_it() -> None:
    paper = paper_stream()
    paper.stream.send_digits("1", 160, 80)
    paper.run(0.05)
    paper.stream.outgoing(0.55)
    paper.run(1.0)
    assert len(list(events_in(paper.sent))) == 1
    assert paper.sent[-1].rtp_timestamp == round(0.98 * 8000)


def test_an_event_that_begins_after_a_stall_bears_the_time_after_it() -> None:
    paper = paper_stream()
    paper.run(0.05)
    paper.stream.send_digits("1", 160, 80)
    first = paper.stream.outgoing(0.56)
    assert first is not None
    assert parse_untrusted(first).rtp_timestamp == round(0.56 * 8000)


def test_digits_count_as_sent() -> None:
    paper = sent_digits("1")
    assert paper.stream.statistics().sent == len(paper.sent)


def test_a_peer_without_telephone_event_is_sent_no_digits() -> None:
    with pytest.raises(NoTelephoneEvent):
        paper_stream(telephone_event=None).stream.send_digits("1", 160, 80)


def test_nobody_waits_for_digits_that_can_no_longer_be_sent() -> None:
    paper = paper_stream()
    over = paper.stream.send_digits("123", 160, 80)
    paper.run(0.1)
    paper.stream.telephone_event = None
    paper.run(0.2)
    assert over.is_set()
    assert [packet.payload_type for packet in paper.sent[5:]] == [0] * 5


@pytest.mark.parametrize(
    ("digits", "tone_ms", "gap_ms", "said"),
    [
        ("12x", 160, 80, "'x' is no key"),
        ("1 2", 160, 80, "' ' is no key"),
        ("", 160, 80, "0 digits"),
        ("1" * (MOST_DIGITS + 1), 160, 80, "101 digits"),
        ("1", 39, 80, "a tone of 39 ms"),
        ("1", 8192, 80, "a tone of 8192 ms"),
        ("1", 160, 39, "a gap of 39 ms"),
        ("1" * MOST_DIGITS, 2000, 2000, "too many digits"),
    ],
)
def test_what_cannot_be_pressed_is_refused_and_nothing_of_it_is_sent(
    digits: str, tone_ms: int, gap_ms: int, said: str
) -> None:
    paper = paper_stream()
    with pytest.raises(ValueError, match=said):
        paper.stream.send_digits(digits, tone_ms, gap_ms)
    paper.run(0.5)
    assert {packet.payload_type for packet in paper.sent} == {0}


@given(st.text(KEYS, min_size=1, max_size=20), st.integers(40, 200), st.integers(40, 200))
def test_what_we_send_is_read_as_what_was_meant(digits: str, tone_ms: int, gap_ms: int) -> None:
    paper = paper_stream()
    paper.stream.send_digits(digits, tone_ms, gap_ms)
    paper.run(12.0)
    reader = EventReader()
    events = [packet for packet in paper.sent if packet.payload_type == EVENTS]
    told = [reader.feed(p.ssrc, p.rtp_timestamp, p.payload, p.marker, 0.02 * n) for n, p in enumerate(events)]
    assert "".join(key or "" for key in told) == digits


def test_the_digits_that_do_not_fit_are_not_in_the_error() -> None:
    """It goes to the log, and a PIN is nobody's business."""
    with pytest.raises(ValueError, match="too many digits") as caught:
        paper_stream().stream.send_digits("4711" * 25, 2000, 2000)
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize("pressed_for", [0.0, 0.05, 0.17, 0.23])
def test_digits_that_nobody_wants_any_more_are_not_begun_and_the_one_that_has_begun_is_finished(
    pressed_for: float,
) -> None:
    paper = paper_stream()
    dropped, kept = paper.stream.send_digits("12", 160, 80), paper.stream.send_digits("34", 160, 80)
    paper.run(pressed_for)
    paper.stream.drop_digits(dropped)
    paper.run(2.0)
    begun = "1" if pressed_for else ""
    ends = [packet.payload for packet in paper.sent if packet.payload_type == EVENTS and packet.payload[1] & END]
    assert [payload[0] for payload in ends] == [int(key) for key in begun + "34" for _ in range(3)]
    assert {int.from_bytes(payload[2:]) for payload in ends} == {160 * 8}
    assert kept.is_set()
    assert not paper.stream.sends_digits


def test_dropping_digits_that_were_sent_changes_nothing() -> None:
    paper = paper_stream()
    sent, waiting = paper.stream.send_digits("1", 160, 80), paper.stream.send_digits("2", 160, 80)
    paper.run(0.3)
    paper.stream.drop_digits(sent)
    paper.run(1.0)
    assert waiting.is_set()
    assert paper.stream.digit_seconds == 0
