"""What is kept of what was said: in the order of items, and of the model's words those that were heard."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from realtime_talk import FRAME, Cut, call, conversation, speaking

from aivc.realtime import events
from aivc.realtime.conversation import Conversation
from aivc.realtime.history import LONGEST_TEXT, MOST_ENTRIES, History, Utterance, heard_part
from aivc.realtime.usage import UsageTotals


def texts(talk: Conversation) -> list[tuple[str, str]]:
    return [(said.speaker, said.text) for said in talk.history.utterances]


def test_the_callers_words_stand_where_they_were_spoken_however_late_they_are_written_down() -> None:
    talk = conversation()
    talk.handle(events.SpeechStarted("u1", 0), 0.0)
    talk.handle(events.SpeechStopped("u1", 900), 1.0)
    speaking(talk, now=1.1)
    talk.handle(events.TranscriptDone("r1", "i1", "We open at nine."), 1.2)
    talk.digits_entered("42", 1.3)
    talk.handle(events.CallerTranscript("u1", " When do you open?\n"), 1.4)
    assert texts(talk) == [("caller", "When do you open?"), ("model", "We open at nine."), ("keys", "42")]


def test_an_item_that_was_played_is_heard_and_one_that_plays_is_not_yet() -> None:
    talk = conversation()
    speaking(talk)
    talk.handle(events.TranscriptDelta("r1", "i1", "Good "), 0.0)
    talk.handle(events.TranscriptDelta("r1", "i1", "day."), 0.0)
    assert talk.history.utterances == (Utterance("i1", "model", "Good day.", None, 20),)
    talk.playout_drained(0.1)
    assert talk.history.utterances == (Utterance("i1", "model", "Good day.", 20, 20),)


def test_of_an_interrupted_item_only_the_words_that_were_heard_are_kept() -> None:
    talk = conversation()
    for _ in range(10):
        speaking(talk)
    talk.handle(events.TranscriptDelta("r1", "i1", "We are open from nine to five"), 0.0)
    talk.handle(events.SpeechStarted("u1", 0), 0.1)
    talk.playout_cut([Cut("i1", 100, 200)], 0.1)
    talk.handle(events.TranscriptDelta("r1", "i1", ", and on Sundays too."), 0.2)
    talk.handle(events.TranscriptDone("r1", "i1", "We are open from nine to five, and on Sundays too."), 0.2)
    talk.playout_drained(0.3)
    assert talk.history.utterances == (Utterance("i1", "model", "We are open", 100, 200, interrupted=True),)


def test_an_item_whose_audio_was_complete_is_measured_by_its_complete_words() -> None:
    talk = conversation()
    speaking(talk)
    talk.handle(events.TranscriptDelta("r1", "i1", "One two"), 0.0)
    talk.handle(events.AudioDone("r1", "i1"), 0.0)
    talk.handle(events.SpeechStarted("u1", 0), 0.1)
    talk.playout_cut([Cut("i1", 10, 20)], 0.1)
    talk.handle(events.TranscriptDone("r1", "i1", "One two three four"), 0.2)
    assert texts(talk) == [("model", "One two")]


def test_what_was_not_heard_at_all_was_not_said() -> None:
    talk = conversation()
    speaking(talk)
    speaking(talk, item_id="i2")
    for item_id in ("i1", "i2", "i3"):
        talk.handle(events.TranscriptDone("r1", item_id, "Words."), 0.0)
    talk.handle(events.SpeechStarted("u1", 0), 0.1)
    talk.playout_cut([Cut("i2", 0, 20)], 0.1)  # i1 was played before; i3 never had audio
    assert talk.history.utterances == (Utterance("i1", "model", "Words.", 20, 20),)


@pytest.mark.parametrize(
    ("heard_ms", "part"),
    [
        (0, ""),
        (1, ""),
        (300, "One"),
        (550, "One"),
        (599, "One"),
        (640, "One two"),
        (999, "One two"),
        (1000, "One two thr"),
    ],
)
def test_words_are_cut_back_whole(heard_ms: int, part: str) -> None:
    assert heard_part("One two thr", heard_ms, 1000) == part


def test_a_script_without_spaces_is_cut_between_characters() -> None:
    assert heard_part("欢迎光临", 500, 1000) == "欢迎"


@given(st.text(max_size=60), st.integers(0, 5000), st.integers(1, 5000))
def test_what_was_heard_is_the_beginning_of_what_was_said(text: str, heard_ms: int, received_ms: int) -> None:
    part = heard_part(text, heard_ms, received_ms)
    assert text.startswith(part)
    if heard_ms < received_ms:
        assert len(part) * received_ms <= len(text) * heard_ms


def test_the_history_is_bounded_and_counts_what_it_forgets() -> None:
    history = History()
    for number in range(MOST_ENTRIES + 5):
        history.caller_said(f"u{number}", "x" * (LONGEST_TEXT + 1))
    assert len(history.utterances) == MOST_ENTRIES
    assert history.forgotten == 5
    assert {len(said.text) for said in history.utterances} == {LONGEST_TEXT}


def test_ids_that_the_server_mixes_up_do_no_harm() -> None:
    talk = conversation()
    talk.handle(events.SpeechStarted("x", 0), 0.0)
    talk.handle(events.AudioDelta("r1", "x", FRAME), 0.1)
    talk.handle(events.TranscriptDone("r1", "x", "Mine."), 0.1)
    talk.handle(events.CallerTranscript("", "Nobody's."), 0.1)
    talk.playout_cut([Cut("x", 10, 20)], 0.2)
    assert talk.history.utterances == ()


def test_a_call_is_no_utterance() -> None:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    talk.handle(call("c1"), 0.0)
    assert talk.history.utterances == ()
    assert not talk.history.empty


def test_a_long_word_without_spaces_costs_no_more_than_its_length() -> None:
    """A tenth of a second for a millionth of it would be quadratic."""
    text = "a " + "b" * 1_000_000
    began = time.process_time()
    assert heard_part(text, 999, 1000) == "a"
    assert time.process_time() - began < 2.0


# Usage


def test_every_response_counts_whatever_became_of_it_and_once() -> None:
    talk = conversation()
    usage = events.Usage(300, 90, 200, 100, 50, 60, 30)
    for number, status in enumerate(("completed", "cancelled", "incomplete", "failed")):
        done = events.ResponseDone(f"r{number}", status, usage=usage)
        talk.handle(done, 0.0)
        talk.handle(done, 0.0)
    talk.handle(events.ResponseDone("r9", "failed"), 0.0)
    expected = UsageTotals(800, 400, 200, 240, 120, responses=5)
    assert talk.usage == expected


def test_the_transcription_is_counted_by_itself() -> None:
    talk = conversation()
    talk.handle(events.CallerTranscript("u1", "Hi", usage=events.Usage(20, 5)), 0.0)
    talk.handle(events.CallerTranscript("u2", "Hi", seconds=1.5), 0.0)
    assert talk.usage == UsageTotals(transcription_tokens=25, transcription_seconds=1.5)
