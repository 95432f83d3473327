"""Recorded calls of many kinds are replayed as they were, and what is done differently is found."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import pytest
from flight_kinds import KINDS, SIP_KINDS
from scenarios.front_ends import FrontEndName

from aivc.flight.entries import Entry, Flight, RealtimeEvent, RtpPacket, SipMessage, StateChange
from aivc.flight.flightfile import write
from aivc.replaying.comparing import Difference
from aivc.replaying.replay import NotReplayable, load_flight, replay_flight, replayed


@cache
def recorded(name: str, front_end: FrontEndName = "sip", audio: str = "hash") -> Flight:
    with TemporaryDirectory() as folder:
        return KINDS[name].flight(Path(folder), front_end, audio=audio)


def difference_of(flight: Flight) -> Difference:
    found = replay_flight(flight).difference
    assert found is not None
    return found


def with_settings(flight: Flight, section: str, **changes: Any) -> Flight:
    """The same recording, but that the call had other settings."""
    settings = {**flight.header.settings, section: {**flight.header.settings[section], **changes}}
    return attrs.evolve(flight, header=attrs.evolve(flight.header, settings=settings))


def with_entries(flight: Flight, change: Callable[[Entry], Entry | None]) -> Flight:
    changed = [change(entry) for entry in flight.entries]
    return attrs.evolve(flight, entries=tuple(entry for entry in changed if entry is not None))


@pytest.mark.parametrize("audio", ["hash", "keep"])
@pytest.mark.parametrize("front_end", ["sip", "opensips"])
@pytest.mark.parametrize("name", KINDS)
def test_a_call_is_replayed_as_it_was(name: str, front_end: FrontEndName, audio: str) -> None:
    flight = recorded(name, front_end, audio)
    outcome = replay_flight(flight)
    assert outcome.difference is None
    assert outcome.compared >= sum(is_output(entry) for entry in flight.entries)


@pytest.mark.parametrize("name", SIP_KINDS)
def test_a_call_by_another_way_is_replayed_as_it_was(name: str, tmp_path: Path) -> None:
    outcome = replay_flight(SIP_KINDS[name].flight(tmp_path))
    assert outcome.difference is None
    assert outcome.compared > 100


def is_output(entry: Entry) -> bool:
    is_message = isinstance(entry, (SipMessage, RtpPacket)) and entry.way == "out"
    return is_message or (isinstance(entry, RealtimeEvent) and entry.way == "out" and "append" not in entry.text)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "keys"])
def test_a_masked_call_is_replayed_as_it_was(name: str, tmp_path: Path) -> None:
    flight = KINDS[name].flight(tmp_path, mask=("numbers", "transcripts"))
    assert replay_flight(flight).difference is None


def test_another_greeting_is_found_with_its_time_and_both_texts() -> None:
    flight = with_settings(recorded("a talk"), "openai", welcome_message="Good morning.")
    found = difference_of(flight)
    assert isinstance(found.recorded, RealtimeEvent)
    assert isinstance(found.came, RealtimeEvent)
    assert "Hello." in found.recorded.text
    assert "Good morning." in found.came.text
    assert found.why.startswith("response.instructions: ")
    assert found.at == pytest.approx(found.recorded.at, abs=0.05)
    assert found.before[-1].at <= found.at


def test_other_instructions_are_found_in_the_session() -> None:
    found = difference_of(with_settings(recorded("a talk"), "openai", instructions="Be brief."))
    assert found.why == 'session.instructions: nothing, not "Be brief."'


def test_a_session_timer_that_was_not_there_is_found_in_the_answer() -> None:
    found = difference_of(with_settings(recorded("a hold"), "sip", reliable_provisional="required"))
    assert isinstance(found.came, SipMessage)


def test_a_call_that_ends_sooner_is_found() -> None:
    found = difference_of(with_settings(recorded("a talk"), "service", max_call_seconds=2.0))
    assert found.at == pytest.approx(2.0, abs=0.1)


def test_packets_of_another_length_are_found() -> None:
    flight = recorded("a talk")
    offered = with_entries(
        flight,
        lambda entry: (
            attrs.evolve(entry, text=entry.text.replace("a=rtpmap:0 PCMU/8000", "a=ptime:30\r\na=rtpmap:0 PCMU/8000"))
            if isinstance(entry, SipMessage) and entry.text.startswith("INVITE")
            else entry
        ),
    )
    assert "body line" in difference_of(offered).why


def test_a_lost_packet_of_the_callers_changes_what_the_model_hears() -> None:
    flight = recorded("a talk")
    spoken = [
        entry for entry in flight.entries if isinstance(entry, RtpPacket) and entry.way == "in" and entry.is_voiced
    ]
    found = difference_of(with_entries(flight, lambda entry: None if entry is spoken[5] else entry))
    assert found.at == pytest.approx(spoken[5].at, abs=0.2)


def test_speech_that_nobody_heard_is_found_though_audio_is_not_kept() -> None:
    flight = recorded("a talk")
    silent = with_entries(
        flight, lambda entry: None if isinstance(entry, RealtimeEvent) and "audio.delta" in entry.text else entry
    )
    assert difference_of(silent).why == "speech, not silence"


def test_what_comes_too_late_is_found() -> None:
    flight = recorded("a tool")
    delayed = with_entries(
        flight,
        lambda entry: (
            attrs.evolve(entry, at=entry.at - 0.2)
            if isinstance(entry, RealtimeEvent) and entry.way == "out" and "function_call_output" in entry.text
            else entry
        ),
    )
    ordered = attrs.evolve(delayed, entries=tuple(sorted(delayed.entries, key=lambda entry: entry.at)))
    found = difference_of(ordered)
    assert found.came is None
    assert found.why == "this did not come"


def test_another_ending_is_found() -> None:
    flight = recorded("a talk")
    assert flight.record is not None
    other = attrs.evolve(flight, record={**flight.record, "ending": "media_timeout"})
    assert difference_of(other).why == "the call ended as caller_hung_up, not as media_timeout"


def test_a_recording_that_was_cut_off_is_replayed_as_far_as_it_goes() -> None:
    flight = recorded("a talk")
    half = tuple(entry for entry in flight.entries if entry.at < 2.0)
    outcome = replay_flight(attrs.evolve(flight, entries=half, record=None))
    assert outcome.difference is None
    assert outcome.seconds < 2.0


def test_a_recording_with_a_gap_is_replayed_up_to_it() -> None:
    flight = recorded("a talk")
    left = tuple(entry for entry in flight.entries if not 2.0 <= entry.at < 3.0)
    outcome = replay_flight(attrs.evolve(flight, entries=left, missing=100, missing_from=2.0))
    assert outcome.difference is None
    assert outcome.seconds < 2.0


def test_a_service_that_drains_ends_the_call_in_the_replay_too() -> None:
    flight = recorded("a talk")
    entries = [entry for entry in flight.entries if entry.at < 2.0]
    outcome = replay_flight(
        attrs.evolve(flight, entries=(*entries, StateChange(2.0, "draining")), record={"ending": "drained"})
    )
    assert outcome.difference is not None
    assert isinstance(outcome.difference.came, SipMessage)
    assert outcome.difference.came.text.startswith("BYE ")


NOT_REPLAYABLE: dict[str, tuple[Callable[[Flight], Flight], str]] = {
    "no beginning": (
        lambda flight: attrs.evolve(flight, entries=flight.entries[40:]),
        "it has no INVITE",
    ),
    "nothing but a gap": (
        lambda flight: attrs.evolve(flight, missing=1, missing_from=0.0),
        "1 entries are missing from 0.000 s on: its beginning is",
    ),
    "encrypted": (
        lambda flight: with_entries(
            flight,
            lambda entry: (
                attrs.evolve(entry, text=entry.text.replace("RTP/AVP", "RTP/SAVP"))
                if isinstance(entry, SipMessage)
                else entry
            ),
        ),
        "its audio was encrypted (SRTP), with keys that no recording has",
    ),
    "TLS": (
        lambda flight: with_entries(
            flight, lambda entry: attrs.evolve(entry, transport="TLS") if isinstance(entry, SipMessage) else entry
        ),
        "the call came over TLS, which has no replay",
    ),
    "a sound that is not here": (
        lambda flight: with_settings(flight, "sounds", hold="nowhere.wav"),
        "sounds.hold: there is no file nowhere.wav here",
    ),
}


@pytest.mark.parametrize("name", NOT_REPLAYABLE)
def test_what_cannot_be_replayed_says_why(name: str) -> None:
    change, why = NOT_REPLAYABLE[name]
    with pytest.raises(NotReplayable) as caught:
        replay_flight(change(recorded("a talk")))
    assert str(caught.value) == why


def test_masked_keys_cannot_be_replayed(tmp_path: Path) -> None:
    flight = KINDS["keys"].flight(tmp_path, mask=("transcripts",))
    with pytest.raises(NotReplayable, match="keys were pressed at"):
        replay_flight(flight)


def test_a_file_is_replayed_by_one_call_of_a_function(tmp_path: Path) -> None:
    file = tmp_path / "call.jsonl"
    file.write_bytes(write(recorded("a refusal")))
    assert replayed(file) is None


def test_a_file_that_is_no_recording_says_so(tmp_path: Path) -> None:
    file = tmp_path / "call.jsonl"
    file.write_text("hello")
    with pytest.raises(NotReplayable, match="line 1: "):
        load_flight(file)


def test_settings_that_no_service_can_have_cannot_be_replayed() -> None:
    flight = recorded("a talk", "opensips")
    taken = with_settings(flight, "engine", event_port=flight.header.settings["opensips"]["port"])
    with pytest.raises(NotReplayable, match=r"no service can be made of its settings: .*cannot get events"):
        replay_flight(taken)
