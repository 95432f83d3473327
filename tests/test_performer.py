"""What the conversation decides, performed on the channels of its call."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from call_parts import JOBS, OUTBOX, Parts, parts
from trio.testing import MockClock

from aivc.config.settings import OpenAISettings
from aivc.nursery.ending import CallOver, Ending
from aivc.nursery.leaving import GOES_ON
from aivc.nursery.performer import HANG_UPS, PAUSE, TOO_BUSY
from aivc.nursery.record import DigitEntry, DigitsEntered
from aivc.realtime.effects import CutPlayout, GiveUp, HangUp, Play, RealtimeError
from aivc.realtime.effects import Send as SendEvent
from aivc.realtime.errors import ErrorKind
from aivc.realtime.events import (
    AudioDelta,
    CancelResponse,
    FunctionCall,
    ResponseCreated,
    ResponseDone,
    SendRaw,
    SendText,
    SendToolOutput,
    SpeechStarted,
    SpeechStopped,
)
from aivc.realtime.replay import keys_pressed


async def test_a_model_that_takes_no_more_messages_ends_the_call() -> None:
    given = parts()
    events = [SendEvent(CancelResponse(f"e{number}")) for number in range(OUTBOX + 1)]
    with pytest.raises(CallOver, match="realtime_stuck"):
        given.performer.perform(events)
    assert len(given.sent) == OUTBOX


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("session_expired", Ending.REALTIME_EXPIRED),
        ("model_silent", Ending.REALTIME_SILENT),
        ("insufficient_quota", Ending.REALTIME_FATAL),
    ],
)
async def test_a_fatal_error_ends_the_call(code: str, ending: Ending) -> None:
    with pytest.raises(CallOver, match=f"{ending.value}: {code}: over"):
        parts().performer.perform([GiveUp(code, "over")])


async def test_more_audio_than_fits_is_refused_and_its_response_cancelled() -> None:
    given = parts()
    two_minutes = b"x" * 8000 * 120
    given.performer.perform([Play("r1", "i1", two_minutes), Play("r1", "i1", b"x" * 160)])
    (event,) = given.sent
    assert isinstance(event, CancelResponse)
    assert event.response_id == "r1"
    assert given.performer.playout.refused_octets == 160


async def test_an_error_is_counted_and_told() -> None:
    given = parts()
    error = RealtimeError("server_error", "text", ErrorKind.OTHER)
    given.performer.perform([error])
    assert given.performer.turns.errors == {"server_error": 1}
    assert [event.what for event in given.told] == [error]


async def test_a_cut_with_nothing_to_cut_tells_the_model_nothing() -> None:
    given = parts()
    given.performer.perform([CutPlayout()])
    assert given.sent == []


async def test_a_tool_call_beyond_those_that_can_wait_is_answered_at_once() -> None:
    given = parts()
    calls = [FunctionCall("r1", f"i{number}", f"fc{number}", "clock", "{}") for number in range(JOBS + 1)]
    given.performer.handle(ResponseCreated("r1"))
    for call in calls:
        given.performer.handle(call)
    given.performer.handle(ResponseDone("r1", "completed", function_calls=tuple(calls)))
    assert len(given.jobs.waiting) == JOBS
    for number in range(JOBS):
        given.performer.tool_finished(f"fc{number}", "noon")
    outputs = {event.call_id: event.output for event in given.sent if isinstance(event, SendToolOutput)}
    assert outputs == {"fc0": "noon", "fc1": "noon", f"fc{JOBS}": TOO_BUSY}


async def test_what_is_to_be_sent_while_there_is_no_session_is_void() -> None:
    given = parts()
    given.performer.connected = False
    given.performer.perform([SendEvent(CancelResponse(f"e{number}")) for number in range(OUTBOX + 1)])
    given.performer.connected = True
    given.performer.send_raw({"type": "input_audio_buffer.clear"})
    assert given.sent == [SendRaw({"type": "input_audio_buffer.clear"})]


async def test_an_event_of_a_tools_that_finds_no_session_is_counted() -> None:
    given = parts()
    given.performer.send_raw({"type": "input_audio_buffer.clear"})
    given.performer.connected = False
    given.performer.send_raw({"type": "input_audio_buffer.clear"})
    assert (len(given.sent), given.performer.turns.dropped_events) == (1, 1)


async def test_a_pause_keeps_what_is_being_said_and_is_counted_when_it_was_for_nothing() -> None:
    given = parts(OpenAISettings(interruption="confirm"))
    playout, paused = given.performer.playout, []
    speak(given)
    # 300 ms before it, 20 ms of sound, 200 ms of silence after it
    for event in (SpeechStarted("u1", 0), SpeechStopped("u1", 520)):
        given.performer.handle(event)
        paused.append(playout.paused)
    assert paused == [True, False]
    assert playout.waiting_octets == 1600
    assert given.performer.conversation.false_interruptions == 1


async def test_who_wants_to_hang_up_is_asked_by_its_cause() -> None:
    for cause, ending in HANG_UPS.items():
        given = parts()
        given.performer.perform([HangUp(cause)])  # type: ignore[arg-type]  # a key of HANG_UPS is one of the two
        assert given.performer.leaving.ending is ending


async def test_a_caller_who_speaks_again_takes_a_hang_up_back_and_the_model_learns_of_it() -> None:
    given = parts()
    speak(given)
    call = FunctionCall("r1", "i2", "fc1", "terminate_call", "{}")
    given.performer.handle(call)
    given.performer.hang_up(Ending.MODEL_HUNG_UP)
    assert given.performer.leaving.keeps("fc1", GOES_ON)
    given.performer.handle(ResponseDone("r1", "completed", function_calls=(call,)))
    given.performer.handle(SpeechStarted("u1", 0))
    assert given.performer.leaving.ending is None
    assert [event.output for event in given.sent if isinstance(event, SendToolOutput)] == [GOES_ON]


async def test_nobody_hangs_up_on_a_caller_who_is_speaking() -> None:
    given = parts()
    given.performer.handle(SpeechStarted("u1", 0))
    given.performer.hang_up(Ending.MODEL_HUNG_UP)
    assert given.performer.leaving.ending is None
    given.performer.hang_up(Ending.REALTIME_EXPIRED)
    assert given.performer.leaving.ending is Ending.REALTIME_EXPIRED


async def test_keys_are_told_to_everybody_but_the_log(caplog: pytest.LogCaptureFixture) -> None:
    given = parts()
    entry = DigitEntry("4711", 0.0, "rtp")
    with caplog.at_level("DEBUG", logger="aivc"):
        given.performer.digits_entered(entry)
    assert [event.text for event in given.sent if isinstance(event, SendText)] == [keys_pressed("4711")]
    assert DigitsEntered(entry) in [event.what for event in given.told]
    assert given.performer.turns.digits == [entry]
    (line,) = caplog.records
    assert line.getMessage() == "caller.pressed_keys"
    assert "4711" not in str(vars(line))


async def test_the_model_speaks_while_it_generates_and_while_its_words_wait() -> None:
    given = parts()
    performer = given.performer
    steps: tuple[Callable[[], object], ...] = (
        lambda: performer.handle(ResponseCreated("r1")),
        lambda: performer.handle(AudioDelta("r1", "i1", b"x" * 160)),
        lambda: performer.handle(ResponseDone("r1", "completed")),
        lambda: performer.playout.pop_frame(0.0),
    )
    speaking = [performer.is_speaking]
    for step in steps:
        step()
        speaking.append(performer.is_speaking)
    assert speaking == [False, True, True, True, False]


@pytest.mark.parametrize("speaker", ["nobody", "caller", "model"])
async def test_a_pause_in_the_talk_is_a_second_without_a_word_of_either(
    autojump_clock: MockClock, speaker: str
) -> None:
    given, began = parts(), trio.current_time()
    given.performer.stream.last_voiced = began + (0.5 if speaker == "caller" else -5.0)
    if speaker == "model":
        speak(given)
    with trio.move_on_after(10):
        await given.performer.wait_pause()
    expected = {"nobody": PAUSE, "caller": 0.5 + PAUSE, "model": 10.0}[speaker]
    assert trio.current_time() - began == pytest.approx(expected, abs=0.11)


def speak(given: Parts) -> None:
    """The model begins an answer: 200 ms of it wait in the playout."""
    given.performer.handle(ResponseCreated("r1"))
    given.performer.handle(AudioDelta("r1", "i1", b"x" * 1600))
