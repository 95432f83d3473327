"""A conversation goes on in another session."""

from __future__ import annotations

import attrs
from realtime_talk import FRAME, Cut, Ours, answered, call, caller_spoke, conversation, requests, sent, speaking

from aivc.realtime import effects, events
from aivc.realtime.conversation import Conversation
from aivc.realtime.dialects import GA
from aivc.realtime.replay import MOST_ITEMS, MOST_OCTETS


def told(talk: Conversation) -> list[Ours]:
    return sent(talk.restart(50.0))


def test_what_was_said_and_heard_is_told_in_order() -> None:
    talk = conversation()
    caller_spoke(talk, 0.0)
    talk.handle(events.CallerTranscript("u1", "When do you open?"), 1.3)
    for _ in range(10):
        speaking(talk, now=1.4)
    talk.handle(events.TranscriptDone("r1", "i1", "We are open from nine to five"), 1.4)
    talk.handle(events.SpeechStarted("u2", 2000), 2.0)
    talk.playout_cut([Cut("i1", 100, 200)], 2.0)
    talk.handle(events.ResponseDone("r1", "cancelled"), 2.1)
    talk.handle(events.SpeechStopped("u2", 3000), 3.0)
    talk.handle(events.CallerTranscript("u2", "And on Sundays?"), 3.1)
    talk.digits_entered("42", 3.2)
    *replayed, request = told(talk)
    assert [(event.role, event.text) for event in replayed if isinstance(event, events.SendText)] == [
        ("user", "When do you open?"),
        ("assistant", "We are open"),
        ("user", "And on Sundays?"),
        ("user", "[The caller pressed the keys 42 on the telephone's keypad.]"),
    ]
    assert request == events.CreateResponse(request.event_id)


def test_half_a_surrogate_pair_in_a_text_or_in_arguments_does_not_keep_a_conversation_from_going_on() -> None:
    talk = conversation()
    speaking(talk)
    for half in ("\\ud83d", "\\ude00 \\ud83d"):  # the second delta has the other half of the first one's
        place = '"response_id":"r1","item_id":"i1"'
        talk.handle(GA.decode(f'{{"type":"response.output_audio_transcript.delta",{place},"delta":"{half}"}}'), 0.0)
    talk.handle(attrs.evolve(call("c1"), arguments='"\ud83d"'), 0.1)
    talk.tool_finished("c1", "\ude00", 0.2)
    talk.handle(events.ResponseDone("r1", "completed"), 0.3)
    text, asked, answer, _request = told(talk)
    assert isinstance(text, events.SendText)
    assert isinstance(asked, events.SendFunctionCall)
    assert isinstance(answer, events.SendToolOutput)
    assert (text.text, asked.arguments, answer.output) == ("\ud83d\ude00 \ud83d", '"\ud83d"', "\ude00")
    assert "\\ud83d\\ude00 \\ud83d" in GA.encode(text)


def test_after_a_finished_answer_nobody_is_asked_to_speak() -> None:
    talk = conversation()
    answered(talk)
    talk.handle(events.TranscriptDone("r1", "item-r1", "Good day."), 0.0)
    (text,) = told(talk)
    assert isinstance(text, events.SendText)


def test_an_answer_that_was_cut_off_by_the_loss_is_continued_and_its_audio_is_left_alone() -> None:
    talk = conversation()
    speaking(talk)
    talk.handle(events.TranscriptDelta("r1", "i1", "We are"), 0.0)
    wanted = talk.restart(1.0)
    assert effects.ItemAudioDone("i1") in wanted
    assert len(requests(wanted)) == 1
    talk.handle(events.SpeechStarted("u1", 0), 1.1)
    assert sent(talk.playout_cut([Cut("i1", 10, 20)], 1.1)) == []
    assert talk.history.utterances[0].heard_ms == 10


def test_a_turn_without_an_answer_is_answered() -> None:
    talk = conversation(answer_seconds=0)
    caller_spoke(talk, 0.0)
    talk.handle(events.CallerTranscript("u1", "Hello?"), 1.3)
    assert [type(event) for event in told(talk)] == [events.SendText, events.CreateResponse]


def test_the_greeting_is_repeated_if_nothing_was_said() -> None:
    talk = conversation("Hello.", welcome_interruptible=False)
    (greeting,) = requests(talk.begin(0.0))
    talk.handle(events.ResponseCreated("r1", greeting.event_id), 0.1)
    (again,) = told(talk)
    assert isinstance(again, events.CreateResponse)
    assert again.instructions == greeting.instructions
    assert talk.holds_back_caller


def test_a_greeting_that_was_half_said_holds_back_the_caller_no_longer_than_it_plays() -> None:
    talk = conversation("Hello.", welcome_interruptible=False)
    talk.begin(0.0)
    speaking(talk, now=0.1)
    talk.handle(events.TranscriptDelta("r1", "i1", "Hel"), 0.1)
    talk.restart(0.2)
    assert talk.holds_back_caller
    talk.playout_drained(0.3)
    assert not talk.holds_back_caller


def test_tools_are_told_with_their_output_and_running_ones_without() -> None:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    talk.handle(call("c1"), 0.0)
    talk.handle(events.ResponseDone("r1", "completed"), 0.1)
    talk.tool_finished("c1", "42", 0.2)
    talk.handle(events.ResponseCreated("r2"), 0.3)
    talk.handle(call("c2", "r2"), 0.4)
    first, output, second, _request = told(talk)
    assert first == events.SendFunctionCall(first.event_id, "c1", "book", "{}")
    assert output == events.SendToolOutput(output.event_id, "c1", "42")
    assert second == events.SendFunctionCall(second.event_id, "c2", "book", "{}")
    (late, *_) = sent(talk.tool_finished("c2", "43", 51.0))
    assert isinstance(late, events.SendToolOutput)
    assert (late.call_id, late.output) == ("c2", "43")


def test_a_tool_that_finished_before_the_loss_is_answered_by_the_new_session() -> None:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    talk.handle(call("c1"), 0.0)
    talk.tool_finished("c1", "42", 0.1)  # waits for the end of r1
    assert [type(event) for event in told(talk)] == [
        events.SendFunctionCall,
        events.SendToolOutput,
        events.CreateResponse,
    ]
    assert talk.tool_finished("c1", "42", 51.0) == []


def test_the_newest_part_is_told_if_all_is_too_much() -> None:
    talk = conversation()
    for number in range(MOST_ITEMS + 20):
        talk.handle(events.CallerTranscript(f"u{number}", str(number)), 0.0)
    texts = [event.text for event in told(talk) if isinstance(event, events.SendText)]
    assert texts == [str(number) for number in range(20, MOST_ITEMS + 20)]
    talk = conversation()
    talk.handle(events.ResponseCreated("r0"), 0.0)
    talk.handle(call("c1", "r0"), 0.0)
    for number in range(10):
        talk.handle(events.CallerTranscript(f"u{number}", str(number) * (MOST_OCTETS // 4)), 0.0)
    running, *rest = told(talk)
    assert isinstance(running, events.SendFunctionCall)  # or its output would be refused
    assert [event.text[0] for event in rest if isinstance(event, events.SendText)] == ["6", "7", "8", "9"]


def test_what_belonged_to_the_old_session_is_forgotten() -> None:
    talk = conversation(interruption="confirm")
    speaking(talk)
    talk.handle(events.SpeechStarted("u1", 1000), 1.0)
    wanted = talk.restart(1.1)
    assert wanted[0] == effects.ResumePlayout()
    assert talk.handle(events.SpeechStopped("u1", 2000), 1.2) == [effects.CallerStoppedSpeaking("u1", 2000)]
    talk.handle(events.ResponseCreated("r2"), 1.3)
    assert talk.handle(events.AudioDelta("r2", "i2", FRAME), 1.4) == [effects.Play("r2", "i2", FRAME)]


def test_a_caller_who_was_speaking_gets_an_answer_even_if_the_rest_was_lost() -> None:
    talk = conversation(answer_seconds=10)
    answered(talk)
    talk.handle(events.SpeechStarted("u1", 1000), 1.0)
    talk.playout_cut([], 1.0)
    assert requests(talk.restart(2.0)) == []
    assert len(requests(talk.expire(12.0))) == 1


def test_a_goodbye_is_said_in_the_new_session() -> None:
    talk = conversation()
    answered(talk)
    talk.farewell("expired", 1.0)
    (request,) = requests(talk.restart(2.0))
    assert request.instructions == talk.settings.farewell_message


def test_a_server_that_was_told_not_to_ask_is_told_again() -> None:
    talk = conversation(idle_timeout_ms=5000, idle_prompts=1)
    talk.handle(events.IdleTimeout(), 5.0)
    answered(talk, 5.5)
    assert any(isinstance(event, events.UpdateTurnDetection) and not event.idle_timeout for event in told(talk))


# Servers that count their ids from the beginning in each session


def test_a_response_of_the_new_session_may_have_the_id_of_an_old_one() -> None:
    talk = conversation()
    answered(talk)
    talk.restart(1.0)
    talk.handle(events.ResponseCreated("r1", ""), 2.0)
    assert effects.Play("r1", "i1", FRAME) in talk.handle(events.AudioDelta("r1", "i1", FRAME), 2.0)
    assert talk.dropped_deltas == 0


def test_a_call_of_the_new_session_may_have_the_id_of_an_old_one() -> None:
    talk = conversation()
    for now in (0.0, 5.0):
        talk.handle(events.ResponseCreated("r1", ""), now)
        wanted = talk.handle(call("c1"), now)
        assert wanted == [effects.RunTool(effects.ToolCall("c1", "book", "{}", "r1"))]
        wanted = talk.handle(events.ResponseDone("r1", "completed"), now) + talk.tool_finished("c1", "ok", now)
        assert [event.output for event in sent(wanted) if isinstance(event, events.SendToolOutput)] == ["ok"]
        talk.restart(now + 1)


def test_an_item_of_the_new_session_may_have_the_id_of_an_old_one() -> None:
    talk = conversation()
    for number, text in enumerate(("My name is Bob.", "What time is it?")):
        caller_spoke(talk, 10.0 * number)
        talk.handle(events.CallerTranscript("u1", text), 10.0 * number + 2)
        talk.restart(10.0 * number + 3)
    assert [said.text for said in talk.history.utterances] == ["My name is Bob.", "What time is it?"]


def test_what_still_plays_when_the_session_is_replaced_is_measured_to_its_end() -> None:
    talk = conversation()
    speaking(talk)
    talk.handle(events.TranscriptDone("r1", "i1", "Good day."), 0.0)
    talk.restart(0.1)
    talk.playout_drained(0.2)
    (said,) = talk.history.utterances
    assert (said.text, said.heard_ms) == ("Good day.", 20)
