"""An answer in writing, which some servers and some models give unasked: nobody hears it, and somebody must know."""

from __future__ import annotations

import itertools
import json

import pytest
from realtime_talk import FRAME, conversation

from aivc.realtime import events
from aivc.realtime.conversation import Conversation
from aivc.realtime.dialects import BETA, GA, Dialect
from aivc.realtime.effects import Effect, ModelSaid, RealtimeError
from aivc.realtime.errors import ErrorKind
from aivc.realtime.history import Utterance
from aivc.realtime.replay import replayed

GREETING = events.TextDone("r1", "i1", "Hello.")


def writing(talk: Conversation, written: events.TextDone = GREETING) -> list[Effect]:
    talk.handle(events.ResponseCreated(written.response_id), 0.0)
    return talk.handle(written, 0.0) + talk.handle(events.ResponseDone(written.response_id, "completed"), 0.0)


def errors(wanted: list[Effect]) -> list[tuple[str, ErrorKind]]:
    return [(effect.code, effect.kind) for effect in wanted if isinstance(effect, RealtimeError)]


@pytest.mark.parametrize(("dialect", "name"), [(GA, "response.output_text.done"), (BETA, "response.text.done")])
def test_both_dialects_have_it(dialect: Dialect, name: str) -> None:
    message = {"type": name, "response_id": "r1", "item_id": "i1", "content_index": 0, "text": "Hello."}
    assert dialect.decode(json.dumps(message)) == GREETING


def test_observers_are_told_and_the_first_is_worth_a_warning() -> None:
    talk = conversation()
    first, second = writing(talk), writing(talk, events.TextDone("r2", "i2", "Are you there?"))
    assert ModelSaid("i1", "Hello.") in first
    assert ModelSaid("i2", "Are you there?") in second
    assert errors(first) == [("text_only", ErrorKind.OTHER)]
    assert errors(second) == [("text_only", ErrorKind.BENIGN)]


def test_it_is_in_the_transcript_as_not_heard() -> None:
    talk = conversation()
    writing(talk)
    talk.playout_drained(0.1)
    assert talk.history.utterances == (Utterance("i1", "model", "Hello.", 0, 0),)


def test_another_session_is_not_told_of_what_nobody_heard() -> None:
    talk = conversation()
    writing(talk)
    numbers = itertools.count(1)
    assert replayed(talk.history, talk.tools, lambda: f"e{next(numbers)}") == []


def test_text_beside_audio_of_the_same_item_or_of_a_cancelled_response_is_no_news() -> None:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    talk.handle(events.AudioDelta("r1", "i1", FRAME), 0.0)
    assert talk.handle(GREETING, 0.0) == []
    talk.interrupt(0.0)
    assert talk.handle(events.TextDone("r1", "i2", "More."), 0.0) == []
    assert talk.handle(events.TextDone("r1", "i3", ""), 0.0) == []
