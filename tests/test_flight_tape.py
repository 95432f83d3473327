"""What is kept of a call while it lasts: in order, packed, and never more than there is room for."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivc.flight.audio import append_with, append_without, digest_of
from aivc.flight.entries import Entry, RealtimeEvent, RtpPacket, SipMessage, StateChange
from aivc.flight.tape import APPEND, MOST_PEERS, PACKET, Tape

PEER = ("192.0.2.1", 4000)
SPEECH = b"\x10" * 160


def packet(tape: Tape, now: float, sequence: int = 1, peer: tuple[str, int] = PEER) -> None:
    tape.note_packet(now, "in", peer, 0, False, sequence, 160, 7, SPEECH, True)


def state(tape: Tape, now: float, what: str) -> None:
    tape.note(StateChange(tape.at(now), what))


def test_everything_comes_back_in_its_order() -> None:
    tape = Tape("call", 10.0, 64 * 1024)
    invite = SipMessage(tape.at(10.0), "in", "UDP", PEER, PEER, "INVITE \udcff\r\n")
    tape.note(invite)
    packet(tape, 10.5)
    tape.note_append(10.5, 1, SPEECH)
    key = b"\x05\x0a\x00\xa0"  # kept, as no replay could make it up
    tape.note_packet(10.75, "out", PEER, 101, True, 65535, 2**32 - 1, 2**32 - 1, key, False)
    assert list(tape.entries()) == [
        invite,
        RtpPacket(0.5, "in", PEER, 0, False, 1, 160, 7, 160, digest_of(SPEECH), True),
        RealtimeEvent(0.5, "out", 1, append_without(digest_of(SPEECH), 160)),
        RtpPacket(0.75, "out", PEER, 101, True, 65535, 2**32 - 1, 2**32 - 1, 4, digest_of(key), False, key),
    ]
    assert list(tape.entries(media=False)) == [invite]


def test_audio_is_there_if_it_is_to_be_kept() -> None:
    tape = Tape("call", 0.0, 64 * 1024, keeps_audio=True)
    packet(tape, 0.5)
    tape.note_append(0.5, 1, SPEECH)
    heard, appended = tape.entries()
    assert isinstance(heard, RtpPacket)
    assert heard.payload == SPEECH
    assert isinstance(appended, RealtimeEvent)
    assert appended.text == append_with(SPEECH)


def test_a_packet_takes_some_forty_octets() -> None:
    tape = Tape("call", 0.0, 64 * 1024)
    for index in range(100):
        packet(tape, index / 50)
    assert tape.octets == 100 * PACKET.size
    assert max(PACKET.size, APPEND.size) <= 40


def test_of_a_long_call_the_beginning_and_the_end_are_kept_and_the_rest_is_counted() -> None:
    tape = Tape("call", 0.0, 64 * 1024)
    for index in range(10_000):
        packet(tape, index / 50, index)
        assert tape.octets <= 64 * 1024
    found = [entry.sequence for entry in tape.entries() if isinstance(entry, RtpPacket)]
    kept = len(found)
    assert found[:900] == list(range(900))
    assert found[-900:] == list(range(9100, 10_000))
    assert found == sorted(found)
    assert kept + tape.missing == 10_000
    assert kept > 1800
    gap = next(index for index in range(kept) if found[index] != index)
    assert tape.missing_from == pytest.approx(gap / 50)


def test_what_is_larger_than_all_the_room_is_missing() -> None:
    tape = Tape("call", 0.0, 64 * 1024)
    state(tape, 1.0, "ringing")
    tape.note(RealtimeEvent(tape.at(2.0), "in", 1, json.dumps({"x": "y" * 70_000})))
    state(tape, 3.0, "answered")
    assert [entry.at for entry in tape.entries()] == [1.0, 3.0]
    assert (tape.missing, tape.missing_from) == (1, 2.0)


def test_senders_without_end_are_missing() -> None:
    tape = Tape("call", 0.0, 2**20)
    for index in range(MOST_PEERS + 5):
        packet(tape, 1.0, peer=("192.0.2.1", index))
    assert (len(list(tape.entries())), tape.missing) == (MOST_PEERS, 5)


def test_time_never_goes_back() -> None:
    tape = Tape("call", 5.0, 64 * 1024)
    state(tape, 6.0, "ringing")
    packet(tape, 5.9)  # the beat of a media clock began before that
    state(tape, 7.0, "answered")
    assert [entry.at for entry in tape.entries()] == [1.0, 1.0, 2.0]


@given(st.lists(st.sampled_from(["packet", "append", "state", "large"]), max_size=400), st.booleans())
def test_whatever_comes_is_there_or_counted(what: list[str], keeps_audio: bool) -> None:
    tape = Tape("call", 0.0, 8 * 1024, keeps_audio)
    for index, kind in enumerate(what):
        match kind:
            case "packet":
                packet(tape, index, index)
            case "append":
                tape.note_append(index, 1, SPEECH)
            case "state":
                state(tape, index, "x")
            case _:
                state(tape, index, "x" * 3000)
        assert tape.octets <= 8 * 1024
    kept: list[Entry] = list(tape.entries())
    assert len(kept) + tape.missing == len(what)
    times = [entry.at for entry in kept]
    assert times == sorted(set(times))
    assert (tape.missing_from is None) == (not tape.missing)
    assert tape.missing_from is None or tape.missing_from not in times
