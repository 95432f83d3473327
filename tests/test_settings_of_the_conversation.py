"""Every setting about the conversation itself changes what the program does."""

from __future__ import annotations

from realtime_talk import answered, caller_spoke, conversation, requests, speaking
from settings_shown import shows

from aivc.realtime import events
from aivc.realtime.effects import CutPlayout, GiveUp, HangUp, PausePlayout
from aivc.realtime.sequencer import ANSWER_SECONDS


@shows("openai.interruption")
def test_interruption_decides_whether_speech_cuts_or_pauses() -> None:
    for interruption, effect in (("cut", CutPlayout()), ("confirm", PausePlayout())):
        talk = conversation(interruption=interruption)
        speaking(talk)
        assert talk.handle(events.SpeechStarted("u1", 0), 1.0)[0] == effect


@shows("openai.confirm_ms")
def test_confirm_ms_is_how_long_a_sound_must_last_to_interrupt() -> None:
    for confirm_ms, interrupts in ((400, True), (500, False)):
        talk = conversation(interruption="confirm", confirm_ms=confirm_ms)
        speaking(talk)
        talk.handle(events.SpeechStarted("u1", 1000), 1.0)
        stopped = events.SpeechStopped("u1", 1000 + 300 + 450 + 200)
        assert (CutPlayout() in talk.handle(stopped, 1.6)) is interrupts


@shows("openai.welcome_interruptible")
def test_a_welcome_that_is_not_interruptible_holds_the_caller_back() -> None:
    for interruptible in (True, False):
        talk = conversation("Hello.", welcome_interruptible=interruptible)
        talk.begin(0.0)
        assert talk.holds_back_caller is not interruptible


@shows("openai.answer_seconds")
def test_answer_seconds_is_how_long_the_model_may_be_silent() -> None:
    talk = conversation(answer_seconds=3)
    caller_spoke(talk, 0.0, seconds=0.8)  # until 1.0
    assert requests(talk.expire(3.9)) == []
    assert len(requests(talk.expire(4.0))) == 1
    assert any(isinstance(effect, GiveUp) for effect in talk.expire(7.0))
    for_ever = conversation(answer_seconds=0)
    caller_spoke(for_ever, 0.0)
    assert for_ever.expire(1000.0) == []


@shows("openai.idle_prompts")
def test_idle_prompts_is_how_often_a_silent_caller_is_asked() -> None:
    for prompts in (1, 3):
        talk = conversation(dialect="beta", idle_timeout_ms=1000, idle_prompts=prompts)
        talk.begin(0.0)
        said = []
        for number in range(prompts + 1):
            (request,) = requests(talk.expire(talk.deadline))
            said.append(request.instructions)
            answered(talk, 2.0 * number + 1.5, f"r{number}")
            talk.playout_drained(2.0 * number + 2)
        assert said == [talk.settings.idle_message] * prompts + [talk.settings.farewell_message]


@shows("openai.idle_message")
def test_the_idle_message_is_what_a_silent_caller_is_asked() -> None:
    talk = conversation(dialect="beta", idle_timeout_ms=1000, idle_message="Ask: still there?")
    talk.begin(0.0)
    (request,) = requests(talk.expire(1.0))
    assert request.instructions == "Ask: still there?"


@shows("openai.farewell_message")
def test_the_farewell_message_is_said_before_we_hang_up() -> None:
    talk = conversation(farewell_message="Say: farewell.")
    (request,) = requests(talk.farewell("idle", 0.0))
    assert request.instructions == "Say: farewell."
    assert HangUp("idle") in talk.expire(ANSWER_SECONDS)
