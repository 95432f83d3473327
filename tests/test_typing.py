"""From the first key that the caller presses to the end of the entry nobody answers."""

from __future__ import annotations

import pytest
from call_parts import parts
from realtime_talk import FRAME, answered, call, caller_spoke, conversation, requests, sent, speaking

from aivc.nursery.ending import Ending
from aivc.realtime import effects, events
from aivc.realtime.conversation import Conversation
from aivc.realtime.effects import CutPlayout, HangUp
from aivc.realtime.sequencer import ANSWER_SECONDS


def entered(talk: Conversation, now: float) -> list[events.CreateResponse]:
    """The entry is complete: what is asked for now."""
    told, *asked = sent(talk.digits_entered("4711", now))
    assert isinstance(told, events.SendText)
    assert all(isinstance(event, events.CreateResponse) for event in asked)
    return [event for event in asked if isinstance(event, events.CreateResponse)]


def test_the_first_key_silences_the_model_and_the_entry_is_answered_once() -> None:
    talk = conversation()
    speaking(talk)
    assert talk.key_pressed(1.0) == [CutPlayout(), effects.Send(events.CancelResponse("e1", "r1"))]
    assert sent(talk.handle(events.ResponseDone("r1", "cancelled"), 1.1)) == []
    assert len(entered(talk, 3.0)) == 1
    assert len(talk.responses.waiting) == 1


def test_a_tool_that_finishes_in_the_middle_of_an_entry_is_answered_with_it() -> None:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    talk.handle(call("c1"), 0.0)
    talk.handle(events.ResponseDone("r1", "completed"), 0.1)
    talk.key_pressed(1.0)
    (output,) = sent(talk.tool_finished("c1", "42", 2.0))
    assert isinstance(output, events.SendToolOutput)
    assert talk.expire(60.0) == []
    assert len(entered(talk, 61.0)) == 1
    assert len(talk.responses.waiting) == 1


def test_words_of_ours_wait_for_the_entry_too() -> None:
    talk = conversation()
    talk.key_pressed(0.0)
    assert talk.say("Say: one moment.", 1.0) == []
    (first,) = entered(talk, 2.0)
    assert first.instructions is not None
    (second,) = requests(answered(talk, 3.0))
    assert second.instructions is None


def test_what_was_asked_for_before_the_key_is_turned_away() -> None:
    talk = conversation("Hello.")
    (greeting,) = requests(talk.begin(0.0))
    talk.key_pressed(0.1)
    wanted = talk.handle(events.ResponseCreated("r1", greeting.event_id), 0.2)
    assert [type(event) for event in sent(wanted)] == [events.CancelResponse]
    assert talk.handle(events.AudioDelta("r1", "i1", FRAME), 0.3)[0] != effects.Play("r1", "i1", FRAME)


def test_the_servers_own_answer_in_the_middle_of_an_entry_is_turned_away_and_covered_by_ours() -> None:
    talk = conversation()
    talk.key_pressed(0.0)
    caller_spoke(talk, 0.1)
    wanted = talk.handle(events.ResponseCreated("r1", ""), 1.5)
    assert [type(event) for event in sent(wanted)] == [events.CancelResponse]
    assert requests(talk.handle(events.ResponseDone("r1", "cancelled"), 1.6)) == []
    assert len(entered(talk, 3.0)) == 1


def test_a_turn_that_is_ours_to_answer_waits_for_the_entry() -> None:
    talk = conversation(interruption="confirm")
    talk.key_pressed(0.0)
    assert requests(caller_spoke(talk, 0.1)) == []
    assert len(entered(talk, 3.0)) == 1
    assert len(talk.responses.waiting) == 1


def test_who_still_speaks_when_the_entry_is_complete_is_answered_after_that() -> None:
    talk = conversation(interruption="confirm")
    talk.key_pressed(0.0)
    talk.handle(events.SpeechStarted("u1", 0), 0.5)
    assert entered(talk, 2.0) == []
    talk.handle(events.SpeechStopped("u1", 3000), 3.0)
    assert len(requests(talk.handle(events.InputCommitted("u1"), 3.1))) == 1


def test_an_entry_goes_on_in_another_session() -> None:
    talk = conversation()
    speaking(talk)
    talk.key_pressed(1.0)
    assert requests(talk.restart(2.0)) == []
    assert requests(talk.expire(3.0)) == []
    assert len(entered(talk, 4.0)) == 1


def test_a_long_entry_is_not_the_models_silence_nor_the_callers() -> None:
    talk = conversation(answer_seconds=1, idle_timeout_ms=2000, dialect="beta")
    talk.key_pressed(0.0)
    caller_spoke(talk, 0.1)
    for second in range(2, 100):
        wanted = talk.expire(float(second))
        assert [effect for effect in wanted if not isinstance(effect, effects.ItemAudioDone)] == []
    assert len(entered(talk, 100.0)) == 1


def test_in_the_middle_of_an_entry_no_silence_counts() -> None:
    talk = conversation(idle_timeout_ms=2000, idle_prompts=0, dialect="beta")
    answered(talk)
    talk.playout_drained(0.0)
    talk.key_pressed(1.0)
    assert talk.expire(60.0) + talk.expire(90.0) == []
    entered(talk, 91.0)
    answered(talk, 91.0, "r2")
    talk.playout_drained(91.0)
    (farewell,) = requests(talk.expire(93.0))
    assert talk.settings.farewell_message in (farewell.instructions or "")


def test_a_request_that_nobody_answers_is_repeated_only_after_the_entry() -> None:
    talk = conversation(answer_seconds=0)
    talk.handle(events.ResponseCreated("r1"), 0.0)
    talk.handle(call("c1"), 0.0)
    talk.handle(events.ResponseDone("r1", "completed"), 0.0)
    assert len(requests(talk.tool_finished("c1", "ok", 0.0))) == 1
    talk.key_pressed(1.0)
    assert requests(talk.expire(ANSWER_SECONDS)) == []
    assert len(entered(talk, 6.0)) == 1


def test_keys_call_off_a_goodbye_and_not_that_of_a_session_that_ends() -> None:
    talk = conversation()
    talk.farewell("idle", 0.0)
    talk.key_pressed(1.0)
    assert [effect for effect in talk.expire(60.0) if isinstance(effect, HangUp)] == []
    talk = conversation()
    talk.key_pressed(0.0)
    talk.farewell("expired", 1.0)
    assert HangUp("expired") in talk.expire(1.0 + talk.settings.farewell_seconds)


def test_a_greeting_that_holds_the_caller_back_is_heard_all_the_same() -> None:
    talk = conversation("Hello.", welcome_interruptible=False)
    (greeting,) = requests(talk.begin(0.0))
    assert talk.key_pressed(0.1) == []
    talk.handle(events.ResponseCreated("r1", greeting.event_id), 0.2)
    assert effects.Play("r1", "i1", FRAME) in talk.handle(events.AudioDelta("r1", "i1", FRAME), 0.3)


# The hands


async def test_a_hang_up_that_the_first_key_calls_off_is_answered_with_the_entry() -> None:
    some = parts()
    performer = some.performer
    performer.handle(events.ResponseCreated("r1", ""))
    performer.handle(call("c1"))
    performer.handle(events.ResponseDone("r1", "completed"))
    performer.hang_up(Ending.MODEL_HUNG_UP)
    assert performer.leaving.keeps("c1", "The call goes on.")
    performer.press("1", "rtp")
    assert performer.leaving.ending is None
    assert [type(event) for event in some.sent] == [events.SendToolOutput]


@pytest.mark.parametrize(("ending", "leaves"), [(Ending.MODEL_HUNG_UP, False), (Ending.REALTIME_EXPIRED, True)])
async def test_nobody_hangs_up_on_who_is_in_the_middle_of_an_entry(ending: Ending, leaves: bool) -> None:
    performer = parts().performer
    performer.press("1", "rtp")
    performer.hang_up(ending)
    assert (performer.leaving.ending is ending) == leaves
