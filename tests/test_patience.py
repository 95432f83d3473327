"""Silences: the model's when it is its turn, the caller's, and the goodbye after it."""

from __future__ import annotations

from typing import Any

import pytest
from realtime_talk import FRAME, answered, call, caller_spoke, conversation, requests, sent, speaking

from aivc.media.playout import Playout
from aivc.realtime import effects, events
from aivc.realtime.conversation import Conversation
from aivc.realtime.effects import Effect, GiveUp, HangUp
from aivc.realtime.interruption import COMMIT_SECONDS, LONGEST_TURN
from aivc.realtime.sequencer import ANSWER_SECONDS, CANCEL_SECONDS


def give_ups(wanted: list[Effect]) -> list[str]:
    return [effect.code for effect in wanted if isinstance(effect, GiveUp)]


def hang_ups(wanted: list[Effect]) -> list[HangUp]:
    return [effect for effect in wanted if isinstance(effect, HangUp)]


# The model is silent


def test_a_turn_that_is_not_answered_is_asked_about_once_and_then_the_model_is_given_up() -> None:
    talk = conversation(answer_seconds=10)
    caller_spoke(talk, 0.0)  # until 1.2
    assert talk.expire(11.1) == []
    assert len(requests(talk.expire(11.2))) == 1
    talk.expire(11.2 + ANSWER_SECONDS)
    assert give_ups(talk.expire(21.2)) == ["model_silent"]


def test_a_response_that_stops_coming_is_cancelled_and_asked_for_again() -> None:
    talk = conversation("Hello.", answer_seconds=10)
    (greeting,) = requests(talk.begin(0.0))
    talk.handle(events.ResponseCreated("r1", greeting.event_id), 0.5)
    talk.handle(events.Unknown("response.content_part.added"), 1.0)
    assert talk.deadline == 11.0
    assert sent(talk.expire(11.0)) == [events.CancelResponse("e2", "r1")]
    (again,) = requests(talk.handle(events.ResponseDone("r1", "cancelled"), 11.1))
    assert again.instructions == greeting.instructions
    assert sent(talk.handle(events.AudioDelta("r1", "i1", FRAME), 11.1)) == [events.DeleteItem("e4", "i1")]
    talk.handle(events.ResponseCreated("r2", again.event_id), 11.2)
    assert talk.handle(events.AudioDelta("r2", "i2", FRAME), 11.3) == [effects.Play("r2", "i2", FRAME)]


def test_an_answer_in_between_makes_the_next_silence_the_first() -> None:
    talk = conversation(answer_seconds=10)
    caller_spoke(talk, 0.0)
    assert requests(talk.expire(11.2))
    answered(talk, 12.0)
    talk.playout_drained(13.0)
    caller_spoke(talk, 20.0, "u2")
    assert requests(talk.expire(31.2))


def test_nothing_is_awaited_while_the_caller_speaks_a_tool_runs_or_audio_plays() -> None:
    talk = conversation(answer_seconds=10)
    caller_spoke(talk, 0.0)
    talk.handle(events.SpeechStarted("u2", 2000), 2.0)
    assert talk.expire(100.0) == []
    talk.handle(events.SpeechStopped("u2", 100_000), 100.0)
    talk.handle(events.ResponseCreated("r1", ""), 100.1)
    talk.handle(call("c1"), 100.2)
    talk.handle(events.ResponseDone("r1", "completed"), 100.3)
    assert talk.expire(200.0) == []
    talk.tool_finished("c1", "42", 200.0)
    speaking(talk, "r2", "i2", 201.0)
    assert sent(talk.expire(211.0)) == []  # the model has stopped, but the caller hears it
    talk.playout_drained(215.0)
    assert sent(talk.expire(221.0)) == [events.CancelResponse("e3", "r2")]
    assert len(requests(talk.expire(221.0 + CANCEL_SECONDS))) == 1  # its end never came


def test_a_response_whose_end_alone_was_lost_is_over() -> None:
    talk = conversation(answer_seconds=10)
    speaking(talk)
    talk.handle(events.AudioDone("r1", "i1"), 0.0)
    talk.playout_drained(0.1)
    talk.say("Say: your taxi is here.", 1.0)
    (request,) = requests(talk.expire(10.0))
    assert request.instructions == "Say: your taxi is here."


def test_a_response_that_failed_twice_leaves_no_silence() -> None:
    talk = conversation(answer_seconds=10)
    talk.handle(events.ResponseCreated("r1", ""), 0.0)
    talk.handle(events.ResponseDone("r1", "failed", error_code="server_error"), 0.1)
    (request,) = requests(talk.expire(1.1))
    talk.handle(events.ResponseCreated("r2", request.event_id), 1.2)
    talk.handle(events.ResponseDone("r2", "failed", error_code="server_error"), 1.3)
    assert len(requests(talk.expire(talk.deadline))) == 1


# The caller is silent


def local(**settings: Any) -> Conversation:
    """The beta dialect has no idle time-out."""
    return conversation(dialect="beta", idle_timeout_ms=5000, idle_prompts=2, **settings)


def prompted(talk: Conversation, now: float) -> events.CreateResponse:
    """The caller is asked, and hears it out."""
    (request,) = requests(talk.expire(now))
    answered(talk, now + 0.5, f"r{now}")
    talk.playout_drained(now + 1.0)
    return request


def test_a_caller_who_says_nothing_is_asked_twice_and_then_the_call_ends_with_a_goodbye() -> None:
    talk = local(instructions="Be kind.")
    talk.begin(0.0)
    assert talk.deadline == 5.0
    asked = prompted(talk, 5.0)
    assert asked.instructions == f"Be kind.\n\n{talk.settings.idle_message}"
    assert asked.tool_choice == "none"
    assert talk.deadline == 11.0
    prompted(talk, 11.0)
    (goodbye,) = requests(talk.expire(17.0))
    assert goodbye.instructions == f"Be kind.\n\n{talk.settings.farewell_message}"
    speaking(talk, "r9", "i9", 17.5)
    assert hang_ups(talk.handle(events.ResponseDone("r9", "completed"), 18.0)) == [HangUp("idle")]
    assert talk.deadline == float("inf")


def test_the_silence_is_counted_from_the_last_sound_and_not_while_a_tool_runs() -> None:
    talk = local()
    talk.begin(0.0)
    answered(talk, 1.0)
    assert talk.deadline == float("inf")
    talk.playout_drained(4.0)
    assert talk.deadline == 9.0
    talk.handle(events.ResponseCreated("r2"), 5.0)
    talk.handle(call("c1", "r2"), 5.0)
    talk.handle(events.ResponseDone("r2", "completed"), 5.1)
    assert talk.deadline == float("inf")


def test_a_word_or_a_key_makes_the_count_begin_anew() -> None:
    talk = local()
    talk.begin(0.0)
    prompted(talk, 5.0)
    caller_spoke(talk, 7.0)
    answered(talk, 9.0, "a1")
    talk.playout_drained(10.0)
    prompted(talk, 15.0)
    talk.digits_entered("1", 17.0)
    answered(talk, 18.0, "a2")
    talk.playout_drained(20.0)
    prompted(talk, 25.0)
    prompted(talk, 31.0)
    assert requests(talk.expire(37.0))
    assert hang_ups(talk.expire(37.0 + talk.settings.farewell_seconds)) == [HangUp("idle")]


def test_on_hold_no_silence_counts() -> None:
    talk = local()
    talk.begin(0.0)
    talk.caller_holds(True, 1.0)
    assert talk.deadline == float("inf")
    talk.caller_holds(False, 60.0)
    assert talk.deadline == 65.0


def test_where_the_server_counts_it_is_stopped_at_the_last_time_and_we_end_the_call() -> None:
    talk = conversation(idle_timeout_ms=5000, idle_prompts=2)
    talk.begin(0.0)
    assert talk.deadline == float("inf")
    for number in range(2):
        wanted = talk.handle(events.IdleTimeout(), 5.0 + 6.0 * number)
        speaking(talk, f"r{number}", f"i{number}", 5.5 + 6.0 * number)
        talk.handle(events.ResponseDone(f"r{number}", "completed"), 5.6 + 6.0 * number)
        talk.playout_drained(6.0 + 6.0 * number)
    assert sent(wanted) == [events.UpdateTurnDetection("e1", talk.settings, idle_timeout=False)]
    assert talk.deadline == 17.0
    assert len(requests(talk.expire(17.0))) == 1
    speaking(talk, "r9", "i9", 17.5)
    wanted = talk.handle(events.SpeechStarted("u1", 0), 18.0)
    assert sent(wanted) == [events.UpdateTurnDetection("e3", talk.settings, idle_timeout=True)]
    assert hang_ups(talk.handle(events.ResponseDone("r9", "cancelled"), 18.1)) == []
    assert talk.deadline == 18.1 + LONGEST_TURN  # nothing but the end of what the caller says


# Goodbye


@pytest.mark.parametrize("status", ["completed", "failed", "incomplete", "cancelled"])
def test_after_the_goodbye_whatever_became_of_it_the_call_ends(status: str) -> None:
    talk = conversation()
    (request,) = requests(talk.farewell("expired", 0.0))
    talk.handle(events.ResponseCreated("r1", request.event_id), 0.1)
    done = events.ResponseDone("r1", status, error_code="server_error" if status == "failed" else None)
    assert hang_ups(talk.handle(done, 0.5)) == [HangUp("expired")]
    assert requests(talk.expire(60.0)) == []


def test_a_goodbye_that_is_refused_or_not_answered_ends_the_call_too() -> None:
    talk = conversation()
    (request,) = requests(talk.farewell("idle", 0.0))
    refusal = events.ErrorEvent("invalid_value", "no", event_id=request.event_id)
    assert hang_ups(talk.handle(refusal, 0.1)) == [HangUp("idle")]
    talk = conversation()
    talk.farewell("idle", 0.0)
    assert hang_ups(talk.expire(ANSWER_SECONDS)) == [HangUp("idle")]


def test_a_goodbye_waits_for_the_answer_that_is_being_given_but_not_for_ever() -> None:
    talk = conversation(farewell_seconds=8)
    speaking(talk)
    assert requests(talk.farewell("expired", 1.0)) == []
    assert hang_ups(talk.expire(8.9)) == []
    assert hang_ups(talk.expire(9.0)) == [HangUp("expired")]


def test_a_goodbye_that_takes_too_long_is_not_waited_for_any_more() -> None:
    talk = conversation(farewell_seconds=3)
    talk.farewell("idle", 0.0)
    assert hang_ups(talk.expire(3.0)) == [HangUp("idle")]
    assert talk.responses.idle


def test_the_caller_can_call_off_a_goodbye_for_silence_but_not_the_end_of_a_session() -> None:
    talk = conversation()
    talk.farewell("idle", 0.0)
    talk.handle(events.SpeechStarted("u1", 0), 0.1)
    assert hang_ups(talk.expire(100.0)) == []
    talk = conversation()
    talk.farewell("expired", 0.0)
    talk.handle(events.SpeechStarted("u1", 0), 0.1)
    assert hang_ups(talk.expire(talk.settings.farewell_seconds)) == [HangUp("expired")]


def test_without_time_or_words_for_a_goodbye_the_call_ends_at_once() -> None:
    assert conversation(farewell_seconds=0).farewell("idle", 0.0) == [HangUp("idle")]
    assert conversation(farewell_message="").farewell("idle", 0.0) == [HangUp("idle")]


def test_two_reasons_for_a_goodbye_make_one() -> None:
    talk = conversation()
    assert len(requests(talk.farewell("idle", 0.0))) == 1
    assert talk.farewell("expired", 0.1) == []
    answered_ = talk.handle(events.ResponseDone("r1", "completed"), 0.2)
    assert hang_ups(answered_) == []  # of a response that was never announced: it may be any
    assert hang_ups(talk.expire(talk.settings.farewell_seconds)) == [HangUp("expired")]


# Ends that never come


@pytest.mark.parametrize("octets", [1600, 1601])
def test_a_model_that_stops_in_the_middle_of_its_words_is_given_up_whatever_is_left_of_a_frame(octets: int) -> None:
    talk, playing = conversation(answer_seconds=5), Playout(0xFF)
    wanted = talk.handle(events.ResponseCreated("r1"), 0.0)
    wanted += talk.handle(events.AudioDelta("r1", "i1", b"\x10" * octets), 0.0)
    given_up = False
    for number in range(50 * 60):
        for effect in wanted:
            match effect:
                case effects.Play(response_id, item_id, audio):
                    playing.push(response_id, item_id, audio)
                case effects.ItemAudioDone(item_id):
                    playing.end_item(item_id)
                case _:
                    given_up = given_up or isinstance(effect, GiveUp)
        now = 0.02 * number
        wanted = talk.expire(now)
        if playing.pop_frame(now) is not None and playing.drained:
            wanted += talk.playout_drained(now)
    assert given_up


@pytest.mark.parametrize("interruption", ["cut", "confirm"])
def test_a_turn_whose_end_is_lost_ends_some_time(interruption: Any) -> None:
    talk = conversation(interruption=interruption, answer_seconds=10)
    talk.handle(events.SpeechStarted("u1", 0), 1.0)
    assert talk.caller_speaks
    talk.handle(events.Unknown("rate_limits.updated"), 2.0)  # the server is there, and may still tell
    assert talk.deadline == 2.0 + LONGEST_TURN
    assert talk.expire(1.9 + LONGEST_TURN) == []
    assert requests(talk.expire(2.0 + LONGEST_TURN)) == []
    wait = COMMIT_SECONDS if interruption == "confirm" else 10.0
    assert len(requests(talk.expire(2.0 + LONGEST_TURN + wait))) == 1


def test_who_speaks_and_holds_the_call_is_not_answered_before_the_server_knows_the_end() -> None:
    talk = conversation(interruption="confirm")
    talk.handle(events.SpeechStarted("u1", 0), 0.0)
    talk.caller_holds(True, 1.0)
    for _ in range(5):
        now = talk.deadline
        assert talk.expire(now) == []
        assert talk.deadline > now
    assert talk.caller_speaks
