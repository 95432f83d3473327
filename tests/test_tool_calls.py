"""Tool calls in a conversation: run once, answered together, after the end of their response."""

from __future__ import annotations

import json

import pytest
from realtime_talk import answered, call, conversation, requests, sent

from aivc.realtime import effects, events
from aivc.realtime.arguments import parse_untrusted
from aivc.realtime.caller_side import TURN_SECONDS
from aivc.realtime.decoding import LONGEST_ARGUMENTS
from aivc.realtime.dialects import GA
from aivc.realtime.toolcalls import CALLS_OF_RESPONSE, TOOL_ROUNDS
from aivc.realtime.toolerrors import ToolArgumentsError

# Tool calls


def test_a_tool_runs_once_however_often_its_call_is_announced() -> None:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    wanted = talk.handle(call("c1"), 0.0)
    assert wanted == [effects.RunTool(effects.ToolCall("c1", "book", "{}", "r1"))]
    assert talk.handle(call("c1"), 0.0) == []
    done = talk.handle(events.ResponseDone("r1", "completed", function_calls=(call("c1"),)), 0.0)
    done += talk.handle(events.ResponseDone("r1", "completed", function_calls=(call("c1"),)), 0.0)
    assert not [effect for effect in done if isinstance(effect, effects.RunTool)]
    assert len(done) == 1  # a repeated end is no second end


def test_a_call_that_only_the_end_of_the_response_names_runs_too() -> None:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    wanted = talk.handle(events.ResponseDone("r1", "completed", function_calls=(call("c1"),)), 0.0)
    assert effects.RunTool(effects.ToolCall("c1", "book", "{}", "r1")) in wanted
    assert sent(talk.tool_finished("c1", "ok", 0.1)) == [
        events.SendToolOutput("e1", "c1", "ok"),
        events.CreateResponse("e2"),
    ]


@pytest.mark.parametrize("status", ["incomplete", "in_progress"])
def test_a_call_without_all_its_arguments_never_runs(status: str) -> None:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    assert talk.handle(call("c1", status=status), 0.0) == []
    wanted = talk.handle(events.ResponseDone("r1", "cancelled", function_calls=(call("c1", status=status),)), 0.0)
    assert not [effect for effect in wanted if isinstance(effect, effects.RunTool)]


def test_an_output_waits_for_the_end_of_its_response() -> None:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    talk.handle(call("c1"), 0.0)
    assert talk.tool_finished("c1", "42", 0.1) == []
    wanted = sent(talk.handle(events.ResponseDone("r1", "completed"), 0.2))
    assert wanted == [events.SendToolOutput("e1", "c1", "42"), events.CreateResponse("e2")]


def test_parallel_calls_are_answered_together_with_one_new_response() -> None:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    talk.handle(call("c1"), 0.0)
    talk.handle(call("c2"), 0.0)
    assert sent(talk.handle(events.ResponseDone("r1", "completed"), 0.2)) == []
    assert talk.tool_finished("c2", "two", 0.3) == []
    assert sent(talk.tool_finished("c1", "one", 0.4)) == [
        events.SendToolOutput("e1", "c1", "one"),
        events.SendToolOutput("e2", "c2", "two"),
        events.CreateResponse("e3"),
    ]
    assert talk.tool_finished("c1", "again", 0.5) == []
    assert talk.tool_finished("never asked", "x", 0.5) == []


def test_an_output_during_another_response_is_sent_and_the_answer_to_it_waits() -> None:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    talk.handle(call("c1"), 0.0)
    talk.handle(events.ResponseDone("r1", "completed"), 0.1)
    talk.handle(events.ResponseCreated("r2"), 1.0)  # the caller spoke while the tool ran
    assert sent(talk.tool_finished("c1", "ok", 1.5)) == [events.SendToolOutput("e1", "c1", "ok")]
    assert sent(talk.handle(events.ResponseDone("r2", "completed"), 2.0)) == [events.CreateResponse("e2")]


def test_a_lost_end_of_response_does_not_keep_outputs_for_ever() -> None:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    talk.handle(call("c1"), 0.0)
    talk.tool_finished("c1", "ok", 0.1)
    wanted = sent(talk.handle(events.ResponseCreated("r2"), 5.0))
    assert wanted == [events.SendToolOutput("e1", "c1", "ok")]


def test_an_output_that_came_too_early_for_the_server_is_sent_once_more() -> None:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    talk.handle(call("c1"), 0.0)
    talk.handle(events.ResponseDone("r1", "completed"), 0.1)
    output, _request = sent(talk.tool_finished("c1", "ok", 0.2))
    talk.handle(events.ErrorEvent("invalid_tool_call_id", "unknown", event_id=output.event_id), 0.3)
    talk.handle(events.ResponseCreated("r2"), 0.4)
    again, request = sent(talk.handle(events.ResponseDone("r2", "completed"), 0.5))
    assert again == events.SendToolOutput(again.event_id, "c1", "ok")
    assert isinstance(request, events.CreateResponse)
    talk.handle(events.ErrorEvent("invalid_tool_call_id", "unknown", event_id=again.event_id), 0.6)
    talk.handle(events.ResponseCreated("r3"), 0.7)
    assert sent(talk.handle(events.ResponseDone("r3", "completed"), 0.8)) == []


def test_after_many_rounds_of_tools_without_the_caller_the_model_must_talk() -> None:
    talk = conversation()
    choices = []
    for n in range(TOOL_ROUNDS + 1):
        talk.handle(events.ResponseCreated(f"r{n}"), 0.0)
        talk.handle(call(f"c{n}", f"r{n}"), 0.0)
        talk.tool_finished(f"c{n}", "ok", 0.0)
        if n == TOOL_ROUNDS:
            talk.handle(events.SpeechStarted("u1", 0), 0.0)
            talk.handle(events.SpeechStopped("u1", 100), 0.0)
        wanted = talk.handle(events.ResponseDone(f"r{n}", "completed"), 0.0)
        (request,) = requests(wanted + talk.expire(TURN_SECONDS))
        choices.append(request.tool_choice)
    assert choices == [None] * (TOOL_ROUNDS - 1) + ["none", None]


def test_an_output_that_joins_a_request_is_answered_although_an_earlier_output_is_already() -> None:
    talk = conversation()
    for number, (response_id, call_id) in enumerate((("r1", "c1"), ("r2", "c2"))):
        talk.handle(events.ResponseCreated(response_id, ""), float(number))
        talk.handle(call(call_id, response_id), float(number))
        talk.handle(events.ResponseDone(response_id, "completed"), number + 0.1)
    talk.handle(events.SpeechStarted("u1", 0), 4.0)
    talk.tool_finished("c1", "first", 5.0)
    talk.handle(events.SpeechStopped("u1", 900), 9.95)
    talk.tool_finished("c2", "second", 10.0)
    talk.handle(events.ResponseCreated("r3", ""), 10.05)  # knows the first output, and not the second
    assert len(requests(talk.handle(events.ResponseDone("r3", "completed"), 10.5))) == 1


def test_one_response_cannot_run_any_number_of_tools() -> None:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    wanted = [effect for n in range(CALLS_OF_RESPONSE + 1) for effect in talk.handle(call(f"c{n}"), 0.0)]
    assert len([effect for effect in wanted if isinstance(effect, effects.RunTool)]) == CALLS_OF_RESPONSE


def test_endless_arguments_are_cut_off_and_then_no_json() -> None:
    arguments = json.dumps({"title": "x" * LONGEST_ARGUMENTS})
    item = {"type": "function_call", "id": "i1", "call_id": "c1", "name": "book", "arguments": arguments}
    event = GA.decode(json.dumps({"type": "response.output_item.done", "response_id": "r1", "item": item}))
    assert isinstance(event, events.FunctionCall)
    assert len(event.arguments) == LONGEST_ARGUMENTS
    with pytest.raises(ToolArgumentsError):
        parse_untrusted("book", event.arguments)


@pytest.mark.parametrize(("by_caller", "choice"), [(False, "none"), (True, None)])
def test_only_the_caller_gives_a_model_that_calls_tools_upon_tools_more_time(
    by_caller: bool, choice: str | None
) -> None:
    talk = conversation()
    for number in range(TOOL_ROUNDS):
        now = float(number)
        talk.handle(events.ResponseCreated(f"r{number}"), now)
        talk.handle(call(f"c{number}", f"r{number}"), now)
        talk.handle(events.ResponseDone(f"r{number}", "completed"), now)
        if by_caller:
            talk.key_pressed(now)
            talk.digits_entered("1", now)
            talk.handle(events.ResponseCreated(f"k{number}"), now)
            talk.handle(events.ResponseDone(f"k{number}", "completed"), now)
        else:
            talk.interrupt(now)
        (request,) = requests(talk.tool_finished(f"c{number}", "ok", now))
    assert request.tool_choice == choice


def test_a_tool_that_interrupts_does_not_count_as_the_callers_word() -> None:
    talk = conversation(idle_timeout_ms=5000, idle_prompts=1, dialect="beta")
    answered(talk)
    talk.playout_drained(0.0)
    assert len(requests(talk.expire(5.0))) == 1
    answered(talk, 5.1, "r2")
    talk.playout_drained(5.2)
    talk.interrupt(6.0)
    (farewell,) = requests(talk.expire(11.0))
    assert talk.settings.farewell_message in (farewell.instructions or "")
