"""Whose turn it is to act in the silence before an answer."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivc.nursery.gap import CALLS, RESPONSES, Gap, TurnEnd
from aivc.nursery.latency import OWNERS, PARTS, Parts, TurnLatency, in_tenths, summary

END = TurnEnd(came_at=10.0, heard_at=10.0, appended_at=10.0, silence=0.2)
STOPPED = 10.25


def parts_of(gap: Gap, began_at: float, response_id: str = "resp_1") -> dict[str, float]:
    """The parts that took time, in whole milliseconds; they add up to the whole silence."""
    latency = gap.ended_by("item_1", response_id, began_at)
    assert latency is not None
    assert latency.parts.total_ms == pytest.approx(latency.total_ms, abs=1e-6)
    return {name: round(part) for name, part in attrs.asdict(latency.parts).items() if round(part)}


def answered(gap: Gap, created: float, delta: float, response_id: str = "resp_1") -> Gap:
    gap.created(response_id, created)
    gap.audio_came(response_id, 0.0, delta)
    return gap


# Up to speech_stopped


def test_what_we_add_on_the_way_to_the_model_is_ours() -> None:
    end = attrs.evolve(END, came_at=9.94, heard_at=9.97, appended_at=10.01)
    found = parts_of(answered(Gap(end, STOPPED), 10.25, 10.25), 10.25)
    assert found == {"reorder_ms": 30, "append_ms": 40, "vad_ms": 200, "detection_ms": 40}


def test_of_what_is_beyond_the_silence_one_round_trip_is_the_networks() -> None:
    end = attrs.evolve(END, round_trip=0.03)
    found = parts_of(answered(Gap(end, STOPPED), 10.25, 10.25), 10.25)
    assert found == {"vad_ms": 200, "network_ms": 30, "detection_ms": 20}


def test_a_detection_that_was_faster_than_its_setting_leaves_nothing_negative() -> None:
    end = attrs.evolve(END, round_trip=0.03)
    assert parts_of(answered(Gap(end, 10.1), 10.1, 10.1), 10.1) == {"vad_ms": 100}


def test_a_detection_by_meaning_is_its_settings_but_for_the_network() -> None:
    end = attrs.evolve(END, silence=None, round_trip=0.03)
    found = parts_of(answered(Gap(end, 10.75), 10.75, 10.75), 10.75)
    assert found == {"vad_ms": 720, "network_ms": 30}


def test_audio_that_still_waits_when_the_turn_has_ended_was_not_sent_before() -> None:
    end = attrs.evolve(END, appended_at=float("inf"))
    assert parts_of(answered(Gap(end, STOPPED), 10.25, 10.25), 10.25) == {"append_ms": 250}


def test_a_voiced_packet_after_the_notice_does_not_make_time_run_backwards() -> None:
    end = attrs.evolve(END, came_at=10.4, heard_at=10.5, appended_at=10.6)
    assert parts_of(answered(Gap(end, STOPPED), 10.3, 10.4), 10.5) == {
        "creation_ms": 50,
        "generation_ms": 100,
        "playout_ms": 100,
    }


# Up to the first audio


def test_a_server_that_answers_by_itself_is_waited_for_without_another_way_over_the_network() -> None:
    gap = answered(Gap(attrs.evolve(END, round_trip=0.03), STOPPED), 10.3, 10.7)
    assert parts_of(gap, 10.71) == {
        "vad_ms": 200,
        "network_ms": 30,
        "detection_ms": 20,
        "creation_ms": 50,
        "generation_ms": 400,
        "playout_ms": 10,
    }


def test_a_request_of_ours_costs_our_hesitation_and_another_way() -> None:
    gap = Gap(attrs.evolve(END, silence=0.25, round_trip=0.03), STOPPED)
    gap.requested(10.3, 10.4)  # committed after 50 ms, and held back for 100
    assert parts_of(answered(gap, 10.5, 10.5), 10.5) == {
        "vad_ms": 250,
        "creation_ms": 50 + 70,
        "request_ms": 100,
        "network_ms": 30,
    }


def test_where_nobody_is_to_answer_the_time_is_ours_until_somebody_asks() -> None:
    gap = Gap(attrs.evolve(END, is_answered=False), STOPPED)
    gap.requested(10.95, 10.95)
    assert parts_of(answered(gap, 11.0, 11.0), 11.0)["request_ms"] == 700


def test_a_request_that_is_repeated_was_the_models_to_answer() -> None:
    gap = Gap(END, STOPPED)
    gap.requested(10.25, 10.25)
    gap.requested(10.25, 15.25, again=True)
    assert parts_of(answered(gap, 15.3, 15.3), 15.3) == {"vad_ms": 200, "detection_ms": 50, "creation_ms": 5050}


def test_the_pause_before_a_failed_response_is_tried_again_is_ours() -> None:
    gap = Gap(END, STOPPED)
    gap.created("resp_1", 10.3)
    assert not gap.finished("resp_1", "failed", 10.4)
    gap.requested(10.9, 10.9)
    assert parts_of(answered(gap, 11.0, 11.2, "resp_2"), 11.2, "resp_2") == {
        "vad_ms": 200,
        "detection_ms": 50,
        "creation_ms": 50,
        "generation_ms": 100 + 100 + 200,
        "request_ms": 500,
    }


def test_tools_that_run_side_by_side_are_one_wait_and_the_rounds_add_up() -> None:
    gap = Gap(END, STOPPED)
    gap.created("resp_1", 10.3)
    for call_id in ("a", "b"):
        gap.tool_called(call_id)
    gap.tool_started("a", 10.4)
    gap.tool_started("b", 10.5)
    gap.finished("resp_1", "completed", 10.45)
    gap.tool_ended("a", 10.8)
    gap.tool_ended("b", 11.0)
    gap.requested(11.0, 11.0)
    gap.created("resp_2", 11.1)
    gap.tool_called("c")
    gap.finished("resp_2", "completed", 11.2)
    gap.tool_started("c", 11.25)
    gap.tool_ended("c", 11.45)
    gap.requested(11.45, 11.45)
    assert parts_of(answered(gap, 11.5, 11.8, "resp_3"), 11.8, "resp_3") == {
        "vad_ms": 200,
        "detection_ms": 50,
        "creation_ms": 50,
        "generation_ms": 100 + 100 + 100 + 50 + 300,
        "tool_ms": 600 + 200,
        "request_ms": 50,
    }


def test_a_tool_of_an_earlier_turn_is_not_waited_for() -> None:
    gap = Gap(END, STOPPED)
    gap.tool_started("earlier", 10.26)
    gap.tool_ended("earlier", 10.4)
    assert "tool_ms" not in parts_of(answered(gap, 10.3, 10.6), 10.6)


def test_a_session_that_breaks_costs_the_models_time_until_we_ask_the_next_one() -> None:
    gap = Gap(END, STOPPED)
    gap.created("resp_1", 10.3)
    gap.lost(10.4)
    gap.requested(11.0, 11.0)
    found = parts_of(answered(gap, 11.1, 11.3, "resp_2"), 11.3, "resp_2")
    assert found["generation_ms"] == 1000 - found.get("request_ms", 0)


# Up to the first packet


def test_earlier_words_in_the_playout_are_told_apart_from_its_cushion() -> None:
    gap = Gap(END, STOPPED)
    gap.created("resp_1", 10.25)
    gap.audio_came("resp_1", 0.5, 10.3)
    assert parts_of(gap, 10.82) == {
        "vad_ms": 200,
        "detection_ms": 50,
        "generation_ms": 50,
        "queue_ms": 500,
        "playout_ms": 20,
    }


def test_an_answer_that_was_cut_unheard_is_followed_by_another() -> None:
    gap = answered(Gap(END, STOPPED), 10.25, 10.3)
    gap.cut(10.31)
    assert gap.ended_by("item_1", "resp_1", 10.31) is None
    gap.requested(10.31, 10.31)
    assert parts_of(answered(gap, 10.4, 10.5, "resp_2"), 10.5, "resp_2") == {
        "vad_ms": 200,
        "detection_ms": 50,
        "generation_ms": 50 + 190,
        "playout_ms": 10,
    }


def test_the_network_to_the_caller_stands_beside_the_sum() -> None:
    latency = answered(Gap(attrs.evolve(END, caller_round_trip=0.08), STOPPED), 10.3, 10.4).ended_by(
        "item_1", "resp_1", 10.4
    )
    assert latency is not None
    assert latency.caller_network_ms == pytest.approx(80)
    assert latency.total_ms == pytest.approx(400)


def test_only_what_ends_without_a_word_or_a_tool_is_no_answer() -> None:
    gap = Gap(END, STOPPED)
    gap.created("resp_1", 10.3)
    assert not gap.finished("resp_0", "completed", 10.4)
    assert gap.finished("resp_1", "completed", 10.4)
    spoken = answered(Gap(END, STOPPED), 10.3, 10.4)
    assert not spoken.finished("resp_1", "completed", 10.5)


# Whatever happens


ids = st.sampled_from(["a", "b", "c"])
times = st.floats(0, 100, allow_nan=False)
steps = st.one_of(
    st.tuples(st.just("created"), ids, times),
    st.tuples(st.just("finished"), ids, st.sampled_from(["completed", "failed", "cancelled"]), times),
    st.tuples(st.just("requested"), st.one_of(times, st.just(float("-inf"))), times),
    st.tuples(st.just("lost"), times),
    st.tuples(st.just("tool_called"), ids),
    st.tuples(st.just("tool_started"), ids, times),
    st.tuples(st.just("tool_ended"), ids, times),
    st.tuples(st.just("audio_came"), ids, st.floats(0, 10), times),
    st.tuples(st.just("cut"), times),
)
ends = st.builds(
    TurnEnd,
    came_at=times,
    heard_at=times,
    appended_at=st.one_of(times, st.just(float("inf"))),
    silence=st.one_of(st.none(), st.floats(0, 2)),
    round_trip=st.one_of(st.none(), st.floats(0, 2)),
    is_answered=st.booleans(),
)


@given(ends, times, st.lists(steps, max_size=30), times)
def test_the_parts_are_never_negative_and_add_up_whatever_happens_in_whatever_order(
    end: TurnEnd, stopped_at: float, happened: list[tuple[object, ...]], began_at: float
) -> None:
    gap = Gap(end, stopped_at)
    for name, *arguments in happened:
        getattr(gap, str(name))(*arguments)
    gap.created("a", began_at)
    gap.audio_came("a", 0.01, began_at)
    found = [gap.ended_by("item_1", response_id, began_at) for response_id in "abc"]
    latency = next(latency for latency in found if latency is not None)
    assert min(attrs.astuple(latency.parts)) >= 0
    assert min(latency.endpointing_ms, latency.response_ms, latency.first_audio_ms, latency.playout_ms) >= -1e-6
    assert latency.parts.total_ms == pytest.approx(latency.total_ms, abs=1e-6)
    assert sum(latency.parts.by_owner().values()) == pytest.approx(latency.total_ms, abs=1e-6)


def test_a_server_that_never_ends_fills_no_memory() -> None:
    gap = Gap(END, STOPPED)
    for number in range(2 * CALLS):
        gap.tool_called(f"call_{number}")
        gap.created(f"resp_{number}", 11.0)
    assert len(gap._calls) == CALLS
    assert len(gap._responses) == RESPONSES


# Many together


@given(st.lists(st.floats(0, 10_000), min_size=1, max_size=12))
def test_tenths_add_up_to_the_rounded_sum(values: list[float]) -> None:
    rounded = in_tenths(values)
    assert sum(rounded) == pytest.approx(round(sum(values), 1), abs=1e-6)
    assert all(abs(there - here) <= 0.1001 for here, there in zip(values, rounded, strict=True))


def test_a_call_is_summed_up_by_its_median_its_longest_silence_and_whose_it_was() -> None:
    def turn(vad_ms: float, tool_ms: float) -> TurnLatency:
        return TurnLatency("item_1", 0.0, vad_ms, tool_ms, 0.0, 0.0, Parts(vad_ms=vad_ms, tool_ms=tool_ms))

    assert summary([turn(200.0, 0.0), turn(200.0, 400.0), turn(200.0, 2000.0)]) == {
        "turns": 3,
        "gap_p50_ms": 600,
        "gap_max_ms": 2200,
        "of_it": {"network": 0, "vad": 200, "model": 0, "tool": 800, "us": 0},
        "most": "tool",
    }
    assert summary([]) == {}


def test_every_part_has_an_owner() -> None:
    assert set(PARTS.values()) == set(OWNERS)
