"""The session machine: greeting, barge-in, tool calls, failures; no network and no clock."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from realtime_talk import FRAME, Cut, call, conversation, requests, sent, speaking

from aivc.config.settings import OpenAISettings, Secret
from aivc.realtime import effects, events
from aivc.realtime.conversation import Conversation
from aivc.realtime.effects import Effect, Send
from aivc.realtime.errors import ErrorKind
from aivc.realtime.interruption import LONGEST_TURN
from aivc.realtime.sequencer import ANSWER_SECONDS
from aivc.realtime.setbacks import ERROR_STORM, RETRY_SECONDS

# The greeting


def test_without_a_welcome_message_nothing_is_said_first() -> None:
    assert conversation().begin(0.0) == []


def test_the_greeting_is_one_response_with_the_session_instructions_in_it() -> None:
    talk = conversation(welcome_message="Hello, Acme here.", instructions="Be brief.")
    (request,) = sent(talk.begin(0.0))
    assert isinstance(request, events.CreateResponse)
    assert request.instructions is not None
    assert request.instructions.startswith("Be brief.")
    assert "Hello, Acme here." in request.instructions


def test_a_greeting_that_collides_with_a_response_of_the_server_is_asked_for_again_after_it() -> None:
    talk = conversation(welcome_message="Hello.")
    (first,) = sent(talk.begin(0.0))
    talk.handle(events.ResponseCreated("r1"), 0.1)
    busy = events.ErrorEvent("conversation_already_has_active_response", "wait", event_id=first.event_id)
    (notice,) = talk.handle(busy, 0.2)
    assert isinstance(notice, effects.RealtimeError)
    assert notice.kind is ErrorKind.ACTIVE_RESPONSE
    (again,) = sent(talk.handle(events.ResponseDone("r1", "completed"), 1.0))
    assert again == attrs.evolve(first, event_id=again.event_id)


# Audio


def test_audio_is_played_and_its_end_told() -> None:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    assert talk.handle(events.AudioDelta("r1", "i1", FRAME), 0.0) == [effects.Play("r1", "i1", FRAME)]
    assert talk.handle(events.AudioDelta("r1", "i1", b""), 0.0) == []
    assert talk.handle(events.AudioDone("r1", "i1"), 0.0) == [effects.ItemAudioDone("i1")]


def test_the_end_of_a_response_ends_items_whose_own_end_was_lost() -> None:
    talk = conversation()
    speaking(talk)
    talk.handle(events.AudioDelta("r1", "i2", FRAME), 0.0)
    talk.handle(events.AudioDone("r1", "i1"), 0.0)
    wanted = talk.handle(events.ResponseDone("r1", "completed"), 0.0)
    assert [effect for effect in wanted if isinstance(effect, effects.ItemAudioDone)] == [effects.ItemAudioDone("i2")]


def test_transcripts_and_turns_become_notices() -> None:
    talk = conversation()
    said = talk.handle(events.CallerTranscript("u1", "Hi"), 0.0)
    said += talk.handle(events.TranscriptDone("r1", "i1", "Hello"), 0.0)
    said += talk.handle(events.SpeechStopped("u1", 900), 0.0)
    said += talk.handle(events.ResponseCreated("r1"), 0.0)
    assert said == [
        effects.CallerSaid("u1", "Hi"),
        effects.ModelSaid("i1", "Hello"),
        effects.CallerStoppedSpeaking("u1", 900),
        effects.ModelStartedResponse("r1"),
    ]


# Barge-in


def test_speech_cuts_the_playout_before_anything_else_and_cancels_nothing() -> None:
    talk = conversation()
    speaking(talk)
    wanted = talk.handle(events.SpeechStarted("u1", 700), 1.0)
    assert wanted == [effects.CutPlayout(), effects.CallerStartedSpeaking("u1", 700)]


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        (Cut("i1", 480, 2000), events.TruncateItem("e1", "i1", 480)),
        (Cut("i1", 2500, 2000), events.TruncateItem("e1", "i1", 2000)),
        (Cut("i1", 2000, 2000), events.TruncateItem("e1", "i1", 2000)),  # more of it was to come
        (Cut("i1", 0, 2000), events.DeleteItem("e1", "i1")),
        (Cut("i1", 2000, 2000, complete=True), None),
    ],
)
def test_the_server_is_told_what_the_caller_heard(cut: Cut, expected: events.ClientEvent | None) -> None:
    talk = conversation()
    speaking(talk)
    talk.handle(events.SpeechStarted("u1", 700), 1.0)
    wanted = talk.playout_cut([cut], 1.0)
    if expected is None:
        assert wanted == []
    else:
        assert wanted == [effects.Interrupted("i1", cut.heard_ms, cut.received_ms), Send(expected)]


def test_each_item_of_a_reply_is_shortened_by_its_own_account() -> None:
    talk = conversation()
    speaking(talk)
    talk.handle(events.AudioDelta("r1", "i2", FRAME), 0.0)
    talk.handle(events.SpeechStarted("u1", 700), 1.0)
    items = [Cut("i0", 900, 900, complete=True), Cut("i1", 140, 900), Cut("i2", 0, 40)]
    assert sent(talk.playout_cut(items, 1.0)) == [
        events.TruncateItem("e1", "i1", 140),
        events.DeleteItem("e2", "i2"),
    ]


def test_what_still_comes_of_an_interrupted_response_is_dropped_and_counted() -> None:
    talk = conversation()
    speaking(talk)
    talk.handle(events.SpeechStarted("u1", 700), 1.0)
    assert talk.handle(events.AudioDelta("r1", "i1", FRAME), 1.1) == []
    (deletion,) = talk.handle(events.AudioDelta("r1", "i2", FRAME), 1.1)  # never played: the model must not think so
    assert deletion == effects.Send(events.DeleteItem("e1", "i2"))
    assert talk.handle(events.AudioDelta("r1", "i2", FRAME), 1.1) == []
    assert talk.handle(events.AudioDone("r1", "i1"), 1.1) == []
    talk.handle(events.ResponseDone("r1", "cancelled", "turn_detected"), 1.2)
    assert talk.handle(events.AudioDelta("r1", "i1", FRAME), 1.3) == []
    assert talk.dropped_deltas == 4
    talk.handle(events.ResponseCreated("r2"), 2.0)
    assert talk.handle(events.AudioDelta("r2", "i3", FRAME), 2.0) == [effects.Play("r2", "i3", FRAME)]


def test_a_response_that_is_done_but_still_playing_is_cut_and_muted_too() -> None:
    talk = conversation()
    speaking(talk)
    talk.handle(events.ResponseDone("r1", "completed"), 0.5)
    assert effects.CutPlayout() in talk.handle(events.SpeechStarted("u1", 700), 1.0)
    assert sent(talk.playout_cut([Cut("i1", 10, 20)], 1.0)) == [events.TruncateItem("e1", "i1", 10)]
    assert talk.handle(events.AudioDelta("r1", "i1", FRAME), 1.1) == []


@pytest.mark.parametrize("code", ["invalid_value", "unsupported_content_type", None, "whatever"])
def test_an_error_about_a_correction_of_ours_is_benign_whatever_its_code(code: str | None) -> None:
    talk = conversation()
    speaking(talk)
    talk.handle(events.SpeechStarted("u1", 700), 1.0)
    (truncate,) = sent(talk.playout_cut([Cut("i1", 10, 20)], 1.0))
    (notice,) = talk.handle(events.ErrorEvent(code, "m", event_id=truncate.event_id), 1.1)
    assert isinstance(notice, effects.RealtimeError)
    assert notice.kind is ErrorKind.BENIGN


@given(
    st.lists(
        st.builds(
            Cut,
            st.sampled_from(["i1", "i2", "i3", "i4"]),
            st.integers(0, 9000),
            st.integers(0, 9000),
            st.booleans(),
        ),
        unique_by=lambda item: item.item_id,
    )
)
def test_a_truncation_is_never_longer_than_the_item_and_never_zero(items: list[Cut]) -> None:
    talk = conversation()
    for item in items:
        speaking(talk, item_id=item.item_id)
    talk.handle(events.SpeechStarted("u1", 0), 1.0)
    told = {}
    for event in sent(talk.playout_cut(items, 1.0)):
        assert isinstance(event, events.TruncateItem | events.DeleteItem)
        told[event.item_id] = event
    for item in items:
        match told.pop(item.item_id, None):
            case None:
                assert item.complete
            case events.TruncateItem(audio_end_ms=end_ms):
                assert 0 < end_ms <= item.received_ms
                assert end_ms <= item.heard_ms
            case events.DeleteItem():
                assert min(item.heard_ms, item.received_ms) == 0
    assert not told


# Failures


def test_a_failed_response_is_asked_for_again_once_after_a_pause() -> None:
    talk = conversation(welcome_message="Hello.", answer_seconds=0)
    (greeting,) = sent(talk.begin(0.0))
    talk.handle(events.ResponseCreated("r1"), 0.1)
    failed = events.ResponseDone("r1", "failed", error_code="server_error", error_message="busy")
    wanted = talk.handle(failed, 1.0)
    assert effects.RealtimeError("server_error", "busy", ErrorKind.OTHER) in wanted
    assert sent(wanted) == []
    assert talk.deadline == 1.0 + RETRY_SECONDS
    assert talk.expire(1.5) == []
    (again,) = sent(talk.expire(talk.deadline))
    assert again == attrs.evolve(greeting, event_id=again.event_id)
    talk.handle(events.ResponseCreated("r2"), 2.1)
    assert sent(talk.handle(attrs.evolve(failed, response_id="r2"), 2.2)) == []
    assert talk.deadline == float("inf")


def test_the_caller_speaking_replaces_the_second_attempt() -> None:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    talk.handle(events.ResponseDone("r1", "failed", error_code="server_error"), 0.1)
    assert talk.deadline == 0.1 + RETRY_SECONDS
    talk.handle(events.SpeechStarted("u1", 0), 0.2)
    assert talk.deadline == 0.2 + LONGEST_TURN  # nothing but the end of what the caller says


@pytest.mark.parametrize("code", ["insufficient_quota", "billing_hard_limit_reached", "session_expired"])
def test_some_failures_end_the_call(code: str) -> None:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    assert effects.GiveUp(code, "m") in talk.handle(
        events.ResponseDone("r1", "failed", error_code=code, error_message="m"), 0.1
    )
    assert effects.GiveUp(code, "m") in conversation().handle(events.ErrorEvent(code, "m"), 0.0)
    assert effects.GiveUp(code, "m") in conversation().handle(events.ErrorEvent(None, "m", type=code), 0.0)


@pytest.mark.parametrize(
    "code",
    ["response_cancel_not_active", "input_audio_buffer_commit_empty", "item_truncate_invalid_item_id", "item_delete_x"],
)
def test_benign_errors_never_end_a_call(code: str) -> None:
    talk = conversation()
    for _ in range(10 * ERROR_STORM):
        assert talk.handle(events.ErrorEvent(code, "m"), 0.0) == [effects.RealtimeError(code, "m", ErrorKind.BENIGN)]


def test_a_storm_of_errors_without_audio_ends_the_call() -> None:
    talk = conversation()
    wanted: list[Effect] = []
    for n in range(ERROR_STORM - 1):
        wanted += talk.handle(events.ErrorEvent("odd", str(n)), 0.0)
    speaking(talk)
    for n in range(ERROR_STORM - 1):
        wanted += talk.handle(events.ErrorEvent("odd", str(n)), 0.0)
    assert not [effect for effect in wanted if isinstance(effect, effects.GiveUp)]
    assert effects.GiveUp("odd", "last") in talk.handle(events.ErrorEvent("odd", "last"), 0.0)


def test_a_key_in_an_error_is_not_passed_on() -> None:
    talk = Conversation(OpenAISettings(key=Secret("sk-123")), lambda: "e1")
    wanted = talk.handle(events.ErrorEvent("invalid_api_key", "Incorrect API key: sk-123\n"), 0.0)
    assert effects.GiveUp("invalid_api_key", "Incorrect API key: ***") in wanted
    assert "sk-123" not in repr(wanted) + repr(talk)


def test_a_refused_request_makes_room_for_the_next() -> None:
    talk = conversation(welcome_message="Hello.")
    (greeting,) = sent(talk.begin(0.0))
    talk.handle(call("c1", "r0"), 0.1)
    talk.handle(events.ErrorEvent("invalid_value", "no", event_id=greeting.event_id), 0.2)
    talk.handle(events.ResponseDone("r0", "completed"), 0.3)
    assert events.CreateResponse("e3") in sent(talk.tool_finished("c1", "ok", 0.4))


def test_an_unanswered_greeting_is_reported_and_asked_for_once_more() -> None:
    talk = conversation(welcome_message="Hello.", answer_seconds=0)
    (greeting,) = requests(talk.begin(0.0))
    assert talk.deadline == ANSWER_SECONDS
    assert talk.expire(ANSWER_SECONDS - 0.1) == []
    wanted = talk.expire(ANSWER_SECONDS)
    assert [effect.code for effect in wanted if isinstance(effect, effects.RealtimeError)] == ["response_timeout"]
    assert requests(wanted) == [attrs.evolve(greeting, event_id="e2")]
    assert requests(talk.expire(2 * ANSWER_SECONDS)) == []
    assert talk.deadline == float("inf")


def test_an_unanswered_remark_is_not_repeated() -> None:
    talk = conversation(answer_seconds=0)
    assert requests(talk.say("Say: one moment.", 0.0))
    assert requests(talk.expire(ANSWER_SECONDS)) == []


def test_a_slow_server_that_answers_the_first_request_is_not_asked_a_third_time() -> None:
    talk = conversation(welcome_message="Hello.", answer_seconds=0)
    (first,) = requests(talk.begin(0.0))
    (second,) = requests(talk.expire(ANSWER_SECONDS))
    talk.handle(events.ResponseCreated("r1", first.event_id), 5.1)
    busy = events.ErrorEvent("conversation_already_has_active_response", "wait", event_id=second.event_id)
    talk.handle(busy, 5.1)
    assert requests(talk.handle(events.ResponseDone("r1", "completed"), 6.0)) == []


def test_an_incomplete_response_is_noted_and_what_came_of_it_is_played() -> None:
    talk = conversation()
    speaking(talk)
    wanted = talk.handle(events.ResponseDone("r1", "incomplete", "max_output_tokens"), 0.5)
    assert effects.ItemAudioDone("i1") in wanted
    assert [effect.code for effect in wanted if isinstance(effect, effects.RealtimeError)] == ["max_output_tokens"]
    assert requests(wanted) == []


def test_errors_of_remote_tools_are_notices() -> None:
    talk = conversation()
    for _ in range(2 * ERROR_STORM):
        (notice,) = talk.handle(events.ErrorEvent("mcp_list_tools_failed", "m"), 0.0)
        assert isinstance(notice, effects.RealtimeError)


@pytest.mark.parametrize(
    "event",
    [
        events.Unknown("brand.new"),
        events.SessionCreated(),
        events.SessionUpdated("PCMU", "PCMU"),
        events.TranscriptDelta("r1", "i1", "He"),
    ],
)
def test_other_events_ask_for_nothing(event: events.ServerEvent) -> None:
    assert conversation().handle(event, 0.0) == []
