"""Latencies, interruptions and errors, gathered from notices in the order of time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivc.media.playout import ItemPlayout
from aivc.nursery.gap import TurnEnd
from aivc.nursery.record import Cut, DigitEntry, ToolRun, TransferRun
from aivc.nursery.turns import MOST_CODES, MOST_LINES, OTHER_CODES, Turns
from aivc.realtime.effects import (
    CallerSaid,
    CallerStartedSpeaking,
    Interrupted,
    ModelStartedResponse,
    RealtimeError,
    ResponseFinished,
)
from aivc.realtime.errors import ErrorKind

STARTED = ModelStartedResponse("resp_1")


def item(began_at: float | None, response_id: str = "resp_1") -> ItemPlayout:
    return ItemPlayout("item_2", response_id, began_at=began_at)


def ended(voiced_at: float) -> TurnEnd:
    return TurnEnd(came_at=voiced_at, heard_at=voiced_at, appended_at=voiced_at, silence=0.2)


def stopped(voiced_at: float, now: float) -> Turns:
    """The caller has spoken and stopped."""
    turns = Turns()
    turns.notice(CallerStartedSpeaking("item_1", 0), 0.0)
    turns.turn_ended(ended(voiced_at), now)
    return turns


def one_turn(silent: float, noticed: float, response: float, delta: float, began: float) -> Turns:
    turns = stopped(silent, noticed)
    turns.notice(STARTED, response)
    turns.audio_came("resp_1", 0.0, delta)
    turns.began(item(began))
    return turns


def test_an_answers_way_is_told_in_four_times() -> None:
    (latency,) = one_turn(10.0, 10.25, 10.27, 10.6, 10.615).latencies
    assert latency.item_id == "item_2"
    assert latency.began_at == 10.0
    assert latency.endpointing_ms == pytest.approx(250)
    assert latency.response_ms == pytest.approx(20)
    assert latency.first_audio_ms == pytest.approx(330)
    assert latency.playout_ms == pytest.approx(15)


@given(st.lists(st.floats(0, 1000), min_size=5, max_size=5).map(sorted))
def test_the_times_add_up_to_what_the_caller_waited(moments: list[float]) -> None:
    (latency,) = one_turn(*moments).latencies
    assert latency.total_ms == pytest.approx(1000 * (moments[-1] - moments[0]), abs=1e-6)
    assert min(latency.endpointing_ms, latency.response_ms, latency.first_audio_ms, latency.playout_ms) >= 0


def test_a_turn_is_measured_once_however_many_items_answer_it() -> None:
    turns = one_turn(1.0, 1.2, 1.3, 1.4, 1.5)
    turns.began(item(2.0))
    assert len(turns.latencies) == 1


def test_only_the_first_response_and_the_first_audio_of_a_turn_count() -> None:
    turns = stopped(1.0, 1.2)
    for at in (1.3, 1.6):
        turns.notice(STARTED, at)
        turns.audio_came("resp_1", 0.0, at + 0.1)
    turns.began(item(1.8))
    (latency,) = turns.latencies
    assert latency.response_ms == pytest.approx(100)
    assert latency.first_audio_ms == pytest.approx(100)
    assert latency.total_ms == pytest.approx(800)


def test_a_greeting_is_no_answer_but_has_a_time_of_its_own() -> None:
    turns = Turns()
    turns.notice(STARTED, 0.1)
    turns.audio_came("resp_1", 0.0, 0.4)
    turns.began(item(0.5))
    turns.began(item(0.9))
    assert turns.latencies == []
    assert turns.greeted_at == 0.5


def test_who_speaks_first_is_not_greeted() -> None:
    assert one_turn(1.0, 1.2, 1.3, 1.4, 1.5).greeted_at is None


def test_a_greeting_that_the_caller_talks_over_is_no_answer_to_them() -> None:
    turns = Turns()
    turns.notice(STARTED, 0.1)
    turns.turn_ended(ended(1.0), 1.2)
    turns.audio_came("resp_1", 0.0, 1.25)
    turns.began(item(1.3))
    assert turns.latencies == []


def test_an_answer_that_was_overtaken_by_the_caller_is_not_measured() -> None:
    turns = stopped(1.0, 1.2)
    turns.notice(STARTED, 1.3)
    turns.audio_came("resp_1", 0.0, 1.4)
    turns.notice(CallerStartedSpeaking("item_3", 1500), 1.5)
    turns.began(item(1.5))
    assert turns.latencies == []


def test_audio_without_a_response_is_not_measured() -> None:
    turns = stopped(1.0, 1.2)
    turns.audio_came("resp_0", 0.0, 1.25)  # of the answer before
    turns.began(item(1.3))
    turns.began(item(None))
    assert turns.latencies == []


def test_the_end_of_a_turn_that_is_told_twice_is_one_turn() -> None:
    turns = stopped(1.0, 1.2)
    turns.notice(STARTED, 1.25)
    turns.turn_ended(ended(1.0), 1.3)
    turns.audio_came("resp_1", 0.0, 1.6)
    turns.began(item(1.62))
    turns.turn_ended(ended(1.0), 1.8)
    turns.notice(ModelStartedResponse("resp_2"), 8.0)
    turns.audio_came("resp_2", 0.0, 9.0)
    turns.began(item(9.0, "resp_2"))
    assert [latency.total_ms for latency in turns.latencies] == [pytest.approx(620)]


def test_a_turn_whose_beginning_was_never_told_is_measured_when_the_caller_was_heard_again() -> None:
    turns = one_turn(1.0, 1.2, 1.25, 1.6, 1.62)
    turns.turn_ended(ended(5.0), 5.2)
    turns.notice(ModelStartedResponse("resp_2"), 5.3)
    turns.audio_came("resp_2", 0.0, 5.4)
    turns.began(item(5.5, "resp_2"))
    assert [latency.total_ms for latency in turns.latencies] == [pytest.approx(620), pytest.approx(500)]


def test_who_presses_a_key_or_holds_the_call_awaits_no_answer_to_what_they_said() -> None:
    turns = stopped(1.0, 1.2)
    turns.notice(STARTED, 1.3)
    turns.not_awaited()
    turns.requested(1.4, 1.4, again=False)
    turns.audio_came("resp_1", 0.0, 1.4)
    turns.tool_called("call_1")
    turns.tool_started("call_1", 1.4)
    turns.audio_cut(1.4)
    turns.began(item(1.5))
    assert turns.latencies == []


def test_a_turn_that_comes_to_nothing_is_not_answered_by_what_is_said_much_later() -> None:
    turns = stopped(1.0, 1.2)
    turns.notice(STARTED, 1.3)
    turns.notice(ResponseFinished("resp_1", "completed", None, None, None), 1.4)
    turns.notice(ModelStartedResponse("resp_2"), 20.0)
    turns.audio_came("resp_2", 0.0, 20.3)
    turns.began(item(20.3, "resp_2"))
    assert turns.latencies == []


@pytest.mark.parametrize(("last_audible", "is_measured"), [(8.5, True), (7.5, False)])
def test_a_caller_too_soft_for_the_energy_gate_is_not_measured(last_audible: float, is_measured: bool) -> None:
    turns = Turns()
    turns.notice(CallerStartedSpeaking("item_1", 0), 10.0)
    turns.turn_ended(ended(last_audible), 11.0)
    turns.notice(STARTED, 11.1)
    turns.audio_came("resp_1", 0.0, 11.2)
    turns.began(item(11.3))
    assert len(turns.latencies) == is_measured


def test_interruptions_and_errors_are_kept() -> None:
    turns = Turns()
    turns.notice(Interrupted("item_2", 1240, 5000), 3.0)
    for code, kind in (("server_error", ErrorKind.OTHER), ("server_error", ErrorKind.FATAL), ("", ErrorKind.OTHER)):
        turns.notice(RealtimeError(code, "text", kind), 3.0)
    turns.notice(CallerSaid("item_1", "Hello"), 3.0)
    assert turns.cuts == [Cut("item_2", 3.0, 1240, 5000)]
    assert turns.errors == {"server_error": 2, "none": 1}
    assert turns.errors_by_kind == {"other": 2, "fatal": 1}


def test_a_server_that_invents_codes_fills_no_memory() -> None:
    turns = Turns()
    for number in range(MOST_CODES + 5):
        turns.notice(RealtimeError(f"code_{number}", "text", ErrorKind.OTHER), 3.0)
    turns.notice(RealtimeError("code_0", "text", ErrorKind.OTHER), 3.0)
    assert len(turns.errors) == MOST_CODES + 1
    assert (turns.errors["code_0"], turns.errors[OTHER_CODES]) == (2, 5)
    assert turns.errors_by_kind == {"other": MOST_CODES + 6}


def test_digits_transfers_and_lost_sessions_are_kept() -> None:
    turns = Turns()
    turns.entered(DigitEntry("42", 3.0, "rtp"))
    turns.transferred(TransferRun("sip:support@example.com", 4.0, 5.0, 486, "Busy Here"))
    turns.session_began()
    turns.lost("realtime_lost", 6.0)
    turns.session_began()
    assert turns.digits == [DigitEntry("42", 3.0, "rtp")]
    assert [run.text for run in turns.transfers] == ["Busy Here"]
    assert turns.errors_by_kind == {"realtime_lost": 1}
    assert turns.sessions == 2


def test_a_history_has_an_end() -> None:
    turns = Turns()
    for number in range(MOST_LINES + 5):
        turns.tool_ran(ToolRun(str(number), "clock", "{}", "12:00", 0.0, 1.0))
    assert len(turns.tools) == MOST_LINES
