"""Who has the floor: crossings of requests and speech, own cancellations, coughs, the greeting that is not cut."""

from __future__ import annotations

from typing import Any

import pytest
from realtime_talk import FRAME, Cut, answered, call, caller_spoke, conversation, requests, sent, speaking

from aivc.realtime import effects, events
from aivc.realtime.caller_side import TURN_SECONDS
from aivc.realtime.conversation import Conversation
from aivc.realtime.courtesies import GREETING_SECONDS
from aivc.realtime.effects import CutPlayout, PausePlayout, ResumePlayout, Send
from aivc.realtime.interruption import COMMIT_SECONDS
from aivc.realtime.sequencer import ANSWER_SECONDS, CANCEL_SECONDS

# Requests of ours and words of the caller cross


@pytest.mark.parametrize("echo", [True, False])
def test_a_response_of_ours_that_begins_while_the_caller_speaks_is_cancelled_and_not_repeated(echo: bool) -> None:
    talk = conversation("Hello.")
    (greeting,) = requests(talk.begin(0.0))
    talk.handle(events.SpeechStarted("u1", 0), 0.1)
    wanted = talk.handle(events.ResponseCreated("r1", greeting.event_id if echo else None), 0.2)
    assert sent(wanted) == [events.CancelResponse("e2", "r1")]
    assert sent(talk.handle(events.AudioDelta("r1", "i1", FRAME), 0.3)) == [events.DeleteItem("e3", "i1")]
    talk.handle(events.ResponseDone("r1", "cancelled", "client_cancelled"), 0.4)
    talk.handle(events.SpeechStopped("u1", 900), 1.0)
    talk.handle(events.ResponseCreated("r2", "" if echo else None), 1.1)
    assert talk.handle(events.AudioDelta("r2", "i2", FRAME), 1.2) == [effects.Play("r2", "i2", FRAME)]
    assert requests(talk.handle(events.ResponseDone("r2", "completed"), 1.3)) == []


def test_the_answer_to_a_tool_that_crossed_the_callers_words_is_asked_for_if_no_turn_is_answered() -> None:
    talk = conversation(turn_detection_create_response=False)
    talk.handle(events.ResponseCreated("r1"), 0.0)
    talk.handle(call("c1"), 0.0)
    talk.handle(events.ResponseDone("r1", "completed"), 0.1)
    _output, request = sent(talk.tool_finished("c1", "42", 0.2))
    talk.handle(events.SpeechStarted("u1", 0), 0.3)
    talk.handle(events.ResponseCreated("r2", request.event_id), 0.4)
    talk.handle(events.ResponseDone("r2", "cancelled"), 0.5)
    assert len(requests(talk.handle(events.SpeechStopped("u1", 900), 1.0))) == 1


def test_the_answer_to_a_tool_that_crossed_a_word_too_short_for_an_answer_is_asked_for_soon() -> None:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    talk.handle(call("c1"), 0.0)
    talk.handle(events.ResponseDone("r1", "completed"), 0.1)
    _output, request = sent(talk.tool_finished("c1", "42", 0.2))
    talk.handle(events.SpeechStarted("u1", 0), 0.3)
    talk.handle(events.ResponseCreated("r2", request.event_id), 0.4)
    talk.handle(events.SpeechStopped("u1", 900), 0.6)  # the server, which was busy with r2, will not answer this
    talk.handle(events.ResponseDone("r2", "cancelled"), 0.7)
    assert len(requests(talk.expire(0.6 + TURN_SECONDS))) == 1


def test_a_queued_request_waits_for_the_end_of_the_answer_to_the_caller() -> None:
    talk = conversation()
    talk.handle(events.SpeechStarted("u1", 0), 0.0)
    assert sent(talk.say("Say: your taxi is here.", 0.1)) == []
    talk.handle(events.SpeechStopped("u1", 900), 1.0)
    talk.handle(events.ResponseCreated("r1", ""), 1.2)
    assert requests(talk.expire(1.0 + TURN_SECONDS)) == []
    (request,) = requests(talk.handle(events.ResponseDone("r1", "completed"), 4.0))
    assert request.instructions == "Say: your taxi is here."
    assert request.tool_choice == "none"


def test_a_queued_request_goes_when_nobody_answers_the_caller() -> None:
    talk = conversation()
    talk.handle(events.SpeechStarted("u1", 0), 0.0)
    talk.say("Say: your taxi is here.", 0.1)
    talk.handle(events.SpeechStopped("u1", 900), 1.0)
    assert talk.deadline == 1.0 + TURN_SECONDS
    assert len(requests(talk.expire(talk.deadline))) == 1


def test_an_answer_that_began_well_after_a_tools_output_covers_it() -> None:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    talk.handle(call("c1"), 0.0)
    talk.handle(events.ResponseDone("r1", "completed"), 0.1)
    talk.handle(events.SpeechStarted("u1", 0), 0.2)
    assert [type(event) for event in sent(talk.tool_finished("c1", "42", 0.3))] == [events.SendToolOutput]
    talk.handle(events.SpeechStopped("u1", 900), 1.0)
    talk.handle(events.ResponseCreated("r2", ""), 1.1)
    assert requests(talk.handle(events.ResponseDone("r2", "completed"), 2.0)) == []


def test_an_answer_that_began_together_with_a_tools_output_may_not_know_it() -> None:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    talk.handle(call("c1"), 0.0)
    talk.handle(events.ResponseDone("r1", "completed"), 0.1)
    talk.handle(events.SpeechStarted("u1", 0), 0.2)
    talk.handle(events.SpeechStopped("u1", 900), 1.0)
    talk.tool_finished("c1", "42", 1.05)
    talk.handle(events.ResponseCreated("r2", ""), 1.1)
    assert len(requests(talk.handle(events.ResponseDone("r2", "completed"), 2.0))) == 1


# Cancelling ourselves


def test_a_server_that_does_not_interrupt_is_told_to_cancel() -> None:
    talk = conversation(turn_detection_interrupt_response=False)
    speaking(talk)
    wanted = talk.handle(events.SpeechStarted("u1", 700), 1.0)
    assert wanted[0] == CutPlayout()
    assert sent(wanted) == [events.CancelResponse("e1", "r1")]
    not_active = events.ErrorEvent("odd_code", "no", event_id="e1")
    (notice,) = talk.handle(not_active, 1.1)
    assert isinstance(notice, effects.RealtimeError)
    assert notice.kind.value == "benign"


def test_a_response_that_is_done_is_not_cancelled() -> None:
    talk = conversation(turn_detection_interrupt_response=False)
    answered(talk)
    assert sent(talk.handle(events.SpeechStarted("u1", 700), 1.0)) == []


def test_interrupting_cuts_and_cancels_what_is_active() -> None:
    talk = conversation()
    speaking(talk)
    assert talk.interrupt(1.0) == [CutPlayout(by_caller=False), Send(events.CancelResponse("e1", "r1"))]
    assert talk.handle(events.AudioDelta("r1", "i1", FRAME), 1.1) == []


def test_a_response_that_was_asked_for_before_an_interruption_is_cancelled_when_it_begins() -> None:
    talk = conversation("Hello.")
    (greeting,) = requests(talk.begin(0.0))
    assert talk.key_pressed(0.1) == [CutPlayout()]
    (told,) = sent(talk.digits_entered("42#", 0.2))
    assert told == events.SendText("e2", "user", "[The caller pressed the keys 42# on the telephone's keypad.]")
    wanted = talk.handle(events.ResponseCreated("r1", greeting.event_id), 0.3)
    assert sent(wanted) == [events.CancelResponse("e3", "r1")]
    (request,) = requests(talk.handle(events.ResponseDone("r1", "cancelled"), 0.4))
    assert request.instructions is None


def test_a_cancellation_that_is_never_answered_does_not_block_the_next_response() -> None:
    talk = conversation(answer_seconds=0)
    speaking(talk)
    talk.key_pressed(1.0)
    assert requests(talk.digits_entered("1", 1.1)) == []
    assert talk.deadline == 1.0 + CANCEL_SECONDS
    assert len(requests(talk.expire(talk.deadline))) == 1
    talk.handle(events.ResponseDone("r1", "cancelled"), 5.0)  # at last; it is not the end of the new request
    assert talk.deadline == 1.0 + CANCEL_SECONDS + ANSWER_SECONDS


# Confirmed interruptions


def confirming(**settings: Any) -> Conversation:
    talk = conversation(interruption="confirm", confirm_ms=250, **settings)
    speaking(talk)
    return talk


def test_a_sound_pauses_the_model_and_a_cough_lets_it_go_on_and_is_deleted() -> None:
    talk = confirming()
    wanted = talk.handle(events.SpeechStarted("u1", 1000), 1.0)
    assert wanted == [PausePlayout(), effects.CallerStartedSpeaking("u1", 1000)]
    assert talk.handle(events.AudioDelta("r1", "i1", FRAME), 1.1) == [effects.Play("r1", "i1", FRAME)]
    stopped = events.SpeechStopped("u1", 1000 + 300 + 200 + 240)  # prefix, silence, 240 ms of sound
    assert talk.handle(stopped, 1.4) == [effects.CallerStoppedSpeaking("u1", 1740), ResumePlayout()]
    assert talk.handle(events.InputCommitted("u1"), 1.4) == [Send(events.DeleteItem("e1", "u1"))]
    assert talk.handle(events.CallerTranscript("u1", "Hm."), 1.5) == []
    assert talk.false_interruptions == 1
    assert [said.speaker for said in talk.history.utterances] == ["model"]
    assert requests(talk.expire(1.4 + COMMIT_SECONDS)) == []


def test_speech_that_lasts_is_an_interruption_even_before_it_stops() -> None:
    talk = confirming()
    talk.handle(events.SpeechStarted("u1", 1000), 1.0)
    assert talk.deadline == pytest.approx(1.0 + 0.25 + 0.2)
    wanted = talk.expire(talk.deadline)
    assert wanted == [CutPlayout(), Send(events.CancelResponse("e1", "r1"))]
    assert sent(talk.playout_cut([Cut("i1", 10, 20)], 1.45)) == [events.TruncateItem("e2", "i1", 10)]
    assert talk.false_interruptions == 0


def test_speech_whose_offsets_show_that_it_was_long_enough_is_an_interruption() -> None:
    talk = confirming()
    talk.handle(events.SpeechStarted("u1", 1000), 1.0)
    wanted = talk.handle(events.SpeechStopped("u1", 1000 + 300 + 200 + 250), 1.4)
    assert CutPlayout() in wanted
    assert ResumePlayout() not in wanted
    talk.handle(events.ResponseDone("r1", "cancelled"), 1.5)
    assert len(requests(talk.handle(events.InputCommitted("u1"), 1.5))) == 1


def test_without_offsets_the_clock_tells_a_cough() -> None:
    talk = confirming()
    talk.handle(events.SpeechStarted("u1"), 1.0)
    assert ResumePlayout() in talk.handle(events.SpeechStopped("u1"), 1.3)
    talk.handle(events.SpeechStarted("u2"), 2.0)
    assert ResumePlayout() in talk.handle(events.InputCommitted("u2"), 2.3)  # the end itself was lost


def test_with_semantic_turn_detection_there_is_no_silence_to_allow_for() -> None:
    talk = confirming(turn_detection_type="semantic_vad")
    talk.handle(events.SpeechStarted("u1", 1000), 1.0)
    assert talk.deadline == pytest.approx(1.25)
    stopped = events.SpeechStopped("u1", 1000 + 300 + 240 + 500)  # with a prefix and a silence that nobody told us
    assert ResumePlayout() in talk.handle(stopped, 1.24)


def test_when_nothing_plays_any_sound_is_a_turn_and_we_ask_for_the_answer() -> None:
    talk = conversation(interruption="confirm")
    wanted = talk.handle(events.SpeechStarted("u1", 1000), 1.0)
    assert PausePlayout() not in wanted
    talk.handle(events.SpeechStopped("u1", 1510), 1.3)
    assert len(requests(talk.handle(events.InputCommitted("u1"), 1.3))) == 1
    assert requests(talk.handle(events.InputCommitted("u1"), 1.4)) == []


def test_a_turn_that_is_never_committed_is_answered_all_the_same() -> None:
    talk = conversation(interruption="confirm", answer_seconds=0)
    talk.handle(events.SpeechStarted("u1", 1000), 1.0)
    talk.handle(events.SpeechStopped("u1", 2000), 2.0)
    assert talk.deadline == 2.0 + COMMIT_SECONDS
    assert len(requests(talk.expire(talk.deadline))) == 1


def test_nobody_answers_the_caller_if_that_is_switched_off() -> None:
    talk = conversation(interruption="confirm", turn_detection_create_response=False, answer_seconds=0)
    assert requests(caller_spoke(talk, 1.0)) == []
    assert requests(talk.expire(60.0)) == []


def test_what_was_held_during_a_cough_is_sent_after_it() -> None:
    talk = confirming()
    talk.handle(events.SpeechStarted("u1", 1000), 1.0)
    talk.say("Say: your taxi is here.", 1.1)
    assert requests(talk.handle(events.ResponseDone("r1", "completed"), 1.2)) == []
    assert len(requests(talk.handle(events.SpeechStopped("u1", 1510), 1.3))) == 1


def test_after_the_playout_ran_empty_there_is_nothing_to_pause() -> None:
    talk = conversation(interruption="confirm")
    answered(talk)
    talk.playout_drained(0.5)
    assert PausePlayout() not in talk.handle(events.SpeechStarted("u1", 1000), 1.0)


# The greeting that is not cut


def greeted(**settings: Any) -> tuple[Conversation, events.CreateResponse]:
    talk = conversation("Hello.", welcome_interruptible=False, **settings)
    (greeting,) = requests(talk.begin(0.0))
    assert talk.holds_back_caller
    return talk, greeting


def test_the_caller_is_held_back_until_the_greeting_was_played() -> None:
    talk, greeting = greeted()
    talk.handle(events.ResponseCreated("r1", greeting.event_id), 0.1)
    talk.handle(events.AudioDelta("r1", "i1", FRAME), 0.2)
    talk.playout_drained(0.3)  # for a moment
    assert talk.holds_back_caller
    talk.handle(events.AudioDelta("r1", "i1", FRAME), 0.4)
    talk.handle(events.ResponseDone("r1", "completed"), 0.5)
    assert talk.holds_back_caller
    talk.playout_drained(0.6)
    assert not talk.holds_back_caller


def test_nothing_cuts_a_greeting_that_holds_the_caller_back() -> None:
    talk, greeting = greeted()
    talk.handle(events.ResponseCreated("r1", greeting.event_id), 0.1)
    talk.handle(events.AudioDelta("r1", "i1", FRAME), 0.2)
    assert talk.handle(events.SpeechStarted("u1", 0), 0.3) == [effects.CallerStartedSpeaking("u1", 0)]
    assert talk.interrupt(0.3) == talk.key_pressed(0.3) == []
    assert talk.handle(events.AudioDelta("r1", "i1", FRAME), 0.4) == [effects.Play("r1", "i1", FRAME)]


def test_a_greeting_that_fails_twice_holds_nobody_back() -> None:
    talk, _ = greeted(answer_seconds=0)
    talk.handle(events.ResponseCreated("r1"), 0.1)
    talk.handle(events.ResponseDone("r1", "failed", error_code="server_error"), 0.2)
    assert talk.holds_back_caller
    assert requests(talk.expire(talk.deadline))
    talk.handle(events.ResponseCreated("r2"), 1.3)
    talk.handle(events.ResponseDone("r2", "failed", error_code="server_error"), 1.4)
    assert not talk.holds_back_caller


def test_a_greeting_that_is_refused_or_never_answered_holds_nobody_back() -> None:
    talk, greeting = greeted()
    talk.handle(events.ErrorEvent("invalid_value", "no", event_id=greeting.event_id), 0.1)
    assert not talk.holds_back_caller
    talk, _ = greeted(answer_seconds=0)
    talk.expire(ANSWER_SECONDS)
    assert talk.holds_back_caller
    talk.expire(2 * ANSWER_SECONDS)
    assert not talk.holds_back_caller


def test_a_greeting_holds_nobody_back_for_ever() -> None:
    talk, greeting = greeted(answer_seconds=0)
    talk.handle(events.ResponseCreated("r1", greeting.event_id), 0.1)
    assert talk.deadline == GREETING_SECONDS
    talk.expire(GREETING_SECONDS)
    assert not talk.holds_back_caller
    assert talk.deadline == float("inf")
