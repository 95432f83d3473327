"""`aivc show`: a recorded call as a ladder of text, and as a picture."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import attrs
import pytest
from flight_kinds import KINDS
from scenarios.front_ends import FrontEndName

from aivc.flight.entries import Datagram, Flight, RealtimeEvent, RtpPacket, SipMessage, StateChange
from aivc.replaying.folding import PacketRun, folded
from aivc.replaying.ladder import WIDTH, described, ladder
from aivc.replaying.picture import picture, recording_of

PEER = ("192.0.2.9", 4000)


@cache
def recorded(name: str, front_end: FrontEndName = "sip") -> Flight:
    with TemporaryDirectory() as folder:
        return KINDS[name].flight(Path(folder), front_end)


def packet(at: float, sequence: int, *, voiced: bool = False, payload_type: int = 0) -> RtpPacket:
    digest = f"{sequence:016x}"
    return RtpPacket(at, "in", PEER, payload_type, False, sequence, 160 * sequence, 7, 160, digest, voiced)


def labels(text: str) -> list[str]:
    """The rows of the ladder that are arrows, without lanes and lines."""
    return [line.strip("|<>-= ") for row in text.splitlines() for line in row[12:].split("|") if line.strip("<>-= ")]


@pytest.mark.parametrize("front_end", ["sip", "opensips"])
@pytest.mark.parametrize("name", KINDS)
def test_no_line_is_wider_than_a_hundred_columns(name: str, front_end: FrontEndName) -> None:
    text = ladder(recorded(name, front_end))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "\t" not in text


def test_a_call_reads_from_its_invite_to_its_ending() -> None:
    found = labels(ladder(recorded("a tool")))
    wanted = [
        "INVITE 1 sip:1000@192.0.2…",
        "100 Trying (1 INVITE)",
        "WebSocket connects",
        "session.update",
        "200 OK (1 INVITE)",
        "* opening_hours begins",
        "* opening_hours is done",
        "conversation.item.create function_call_output",
        "BYE 2 sip:192.0.2.1:5060",
        "200 OK (2 BYE)",
        "WebSocket closes",
    ]
    places = [found.index(label) for label in wanted]
    assert places == sorted(places)
    assert '"Monday: nine to six"' in ladder(recorded("a tool"))


def test_the_ending_is_told_with_its_advice() -> None:
    flight = recorded("a refusal")
    assert flight.record is not None
    advised = attrs.evolve(flight, record={**flight.record, "advice": "Look at openai.key."})
    lines = ladder(advised).splitlines()
    assert lines[-3].startswith("Ended: realtime_refused")
    assert lines[-2].startswith("Why: ")
    assert lines[-1] == "Advice: Look at openai.key."


def test_a_file_that_was_cut_off_says_so() -> None:
    flight = attrs.evolve(recorded("a refusal"), record=None)
    assert ladder(flight).splitlines()[-1] == "No ending was recorded: the file was cut off."


def test_what_is_missing_is_told_where_it_is_missing() -> None:
    flight = attrs.evolve(recorded("a tool"), missing=7, missing_from=1.0)
    rows = ladder(flight).splitlines()
    place = next(number for number, row in enumerate(rows) if "7 entries are missing" in row)
    assert float(rows[place + 1][:8]) >= 1.0


def test_a_copy_of_a_message_is_told_as_one() -> None:
    flight = recorded("a refusal")
    invite = next(entry for entry in flight.entries if isinstance(entry, SipMessage))
    again = attrs.evolve(flight, entries=(invite, attrs.evolve(invite, at=0.5)))
    assert [label[:8] for label in labels(ladder(again)) if "INVITE" in label] == ["INVITE 1", "INVITE 1"]
    assert any(label.endswith("again") or "…" in label for label in labels(ladder(again)))


def test_packets_are_folded_into_utterances_and_silences() -> None:
    voiced = [*range(50, 100), *range(110, 150)]  # a pause of 0.2 s between words, and a second before and after
    packets = [packet(0.02 * n, n, voiced=n in voiced) for n in range(200)]
    runs = [run for run in folded(packets) if isinstance(run, PacketRun)]
    assert [(run.what, run.packets) for run in runs] == [("silence", 50), ("speech", 100), ("silence", 50)]
    assert [run.lost for run in runs] == [0, 0, 0]


def test_lost_packets_gaps_and_packets_out_of_order_are_counted() -> None:
    packets = [packet(0.0, 0), packet(0.02, 1), packet(0.10, 5), packet(0.11, 4), packet(0.12, 6)]
    (run,) = (run for run in folded(packets) if isinstance(run, PacketRun))
    assert (run.lost, run.out_of_order, round(run.longest_gap, 3)) == (3, 1, 0.08)


def test_a_pause_without_packets_ends_a_run() -> None:
    packets = [packet(0.02 * n, n) for n in range(10)] + [packet(5.0 + 0.02 * n, 10 + n) for n in range(10)]
    assert [run.packets for run in folded(packets) if isinstance(run, PacketRun)] == [10, 10]


def test_keys_stand_apart_from_speech() -> None:
    packets = [packet(0.0, 0), packet(0.02, 1, payload_type=101), packet(0.04, 2, payload_type=101), packet(0.06, 3)]
    assert [run.what for run in folded(packets) if isinstance(run, PacketRun)] == ["silence", "keys", "silence"]


def test_what_anybody_wrote_cannot_move_the_cursor() -> None:
    hostile = RealtimeEvent(0.0, "in", 1, '{"type":"error","error":{"code":"x","message":"\\u001b[2J\\u202eabc"}}')
    flight = attrs.evolve(recorded("a refusal"), entries=(hostile,))
    text = ladder(flight)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[2Jabc" in text


@pytest.mark.parametrize(
    "entry",
    [
        SipMessage(0.0, "in", "UDP", PEER, PEER, "no message"),
        SipMessage(0.0, "in", "UDP", PEER, PEER, "INVITE sip:x SIP/2.0\r\n\r\nm=audio\r\nc=\r\n"),
        RealtimeEvent(0.0, "in", 1, "[1]"),
        RealtimeEvent(0.0, "in", 1, '{"type":3,"item":[],"response":"x","error":{"message":4}}'),
        RealtimeEvent(0.0, "in", 1, '{"type":"a.delta","delta":{"octets":"x"},"audio":7}'),
        Datagram(0.0, "in", PEER, False, b""),
        StateChange(0.0, "", "\n"),
    ],
)
def test_entries_of_any_content_are_drawn(entry: SipMessage | RealtimeEvent | Datagram | StateChange) -> None:
    text = ladder(attrs.evolve(recorded("a refusal"), entries=(entry,)))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert len(described(entry)) <= WIDTH


@pytest.mark.parametrize("name", KINDS)
def test_the_picture_is_well_formed(name: str) -> None:
    assert ElementTree.fromstring(picture(recorded(name))).tag.endswith("svg")


def test_the_picture_has_both_voices_and_the_interruption() -> None:
    found = recording_of(recorded("an interruption"))
    speakers = [turn.speaker for turn in found.turns]
    assert speakers == ["model", "caller", "model"]
    (cut,) = found.interruptions
    assert found.turns[0].cut_at == cut.at
    assert found.turns[0].text == "A long story."
    assert cut.received_ms == 3000
    assert 700 <= cut.heard_ms <= 900
    assert cut.stopped_after_ms < 300


def test_the_picture_has_the_tool_and_the_gaps() -> None:
    found = recording_of(recorded("a tool"))
    (tool,) = found.tools
    assert (tool.name, tool.output) == ("opening_hours", "Monday: nine to six")
    assert tool.end - tool.start == pytest.approx(0.3)
    (gap,) = recording_of(recorded("a talk")).gaps
    assert gap.total_ms == pytest.approx(800, abs=400)
