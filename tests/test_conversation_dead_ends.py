"""Where a caller would be left in silence: requests refused for a moment, calls told too late, failures for ever."""

from __future__ import annotations

import pytest
from realtime_talk import call, conversation, sent

from aivc.realtime import effects, events
from aivc.realtime.errors import ErrorKind, classify
from aivc.realtime.setbacks import ERROR_STORM, RETRY_SECONDS


@pytest.mark.parametrize("code", ["server_error", "rate_limit_exceeded"])
def test_a_request_refused_for_the_moment_is_sent_again_once(code: str) -> None:
    talk = conversation("Hello", answer_seconds=0)
    (greeting,) = sent(talk.begin(0.0))
    assert sent(talk.handle(events.ErrorEvent(code, "busy", event_id=greeting.event_id), 1.0)) == []
    (again,) = sent(talk.expire(1.0 + RETRY_SECONDS))
    assert isinstance(again, events.CreateResponse)
    assert isinstance(greeting, events.CreateResponse)
    assert again.instructions == greeting.instructions
    talk.handle(events.ErrorEvent(code, "busy", event_id=again.event_id), 3.0)
    assert sent(talk.expire(100.0)) == []


def test_a_call_told_after_the_end_of_its_response_is_answered_when_its_tool_is_done() -> None:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    talk.handle(events.ResponseDone("r1", "completed"), 1.0)
    talk.handle(call("c1"), 1.1)
    output, request = sent(talk.tool_finished("c1", "42", 2.0))
    assert isinstance(output, events.SendToolOutput)
    assert isinstance(request, events.CreateResponse)


def test_a_model_whose_responses_all_fail_is_given_up() -> None:
    talk = conversation()
    wanted: list[effects.Effect] = []
    for number in range(ERROR_STORM):
        wanted += talk.handle(events.ResponseDone(f"r{number}", "failed", error_code="server_error"), float(number))
    assert [effect for effect in wanted if isinstance(effect, effects.GiveUp)] == [effects.GiveUp("server_error", "")]


def test_an_unknown_code_leaves_the_word_to_the_type() -> None:
    assert classify("no_such_code", "authentication_error") is ErrorKind.FATAL


def test_a_tool_that_finishes_while_the_caller_speaks_is_answered_after_the_turn() -> None:
    talk = conversation()
    talk.handle(events.ResponseCreated("r1"), 0.0)
    talk.handle(call("c1"), 0.1)
    talk.handle(events.ResponseDone("r1", "completed"), 0.2)
    talk.handle(events.SpeechStarted(), 1.0)
    (output,) = sent(talk.tool_finished("c1", "42", 2.0))
    assert isinstance(output, events.SendToolOutput)
    assert sent(talk.expire(60.0)) == []
    talk.handle(events.SpeechStopped(), 61.0)
    (request,) = sent(talk.expire(61.0 + RETRY_SECONDS))
    assert isinstance(request, events.CreateResponse)
